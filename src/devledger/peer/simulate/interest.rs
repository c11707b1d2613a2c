//! Whose endorsement a simulation's result needs: the hint in a proposal response by which a gateway chooses endorsers
//! (Fabric: `endorser.buildChaincodeInterest`).

use std::collections::BTreeMap;

use prost::Message;

use super::simulator::Touched;
use crate::peer::lifecycle;
use ehrnet_fabric::proto::common::SignaturePolicyEnvelope;
use ehrnet_fabric::proto::protos::{ChaincodeCall, ChaincodeInterest, MetaDataKeys};

/// The policies of chaincodes, collections and keys that the result has to meet.
///
/// # Errors
/// A key's own policy is not readable.
pub fn interest(touched: &Touched) -> Result<ChaincodeInterest, String> {
    let mut required: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    let mut keys: BTreeMap<&str, Vec<SignaturePolicyEnvelope>> = BTreeMap::new();
    for ((namespace, collection), written) in &touched.written {
        let of_namespace = required.entry(namespace).or_insert_with(|| [("", false)].into());
        for metadata in written.values() {
            match metadata.get(MetaDataKeys::ValidationParameter.as_str_name()) {
                Some(policy) => {
                    let policy = SignaturePolicyEnvelope::decode(policy.as_slice());
                    let policy = policy.map_err(|e| format!("error unmarshalling SignaturePolicyEnvelope: {e}"))?;
                    keys.entry(namespace).or_default().push(policy);
                }
                None => {
                    of_namespace.insert(collection, true);
                }
            }
        }
    }
    for namespace in &touched.namespaces {
        required.entry(namespace).or_insert_with(|| [("", true)].into());
    }
    for (namespace, collection) in &touched.private_reads {
        required.entry(namespace).or_default().insert(collection, true);
    }
    let calls = required.into_iter().filter(|(namespace, _)| *namespace != lifecycle::NAMESPACE);
    let chaincodes = calls.flat_map(|(namespace, collections)| {
        let keys = keys.remove(namespace).unwrap_or_default();
        let whole = collections.get("").copied().unwrap_or(false);
        let call = move |(collection, _): (&str, bool)| call(namespace, collection, &keys, whole, touched);
        collections.into_iter().filter_map(call).collect::<Vec<_>>()
    });
    Ok(ChaincodeInterest { chaincodes: chaincodes.collect() })
}

fn call(
    namespace: &str,
    collection: &str,
    keys: &[SignaturePolicyEnvelope],
    whole: bool,
    touched: &Touched,
) -> Option<ChaincodeCall> {
    let name = namespace.to_owned();
    if !collection.is_empty() {
        let read = touched.private_reads.contains(&(name.clone(), collection.to_owned()));
        let collection_names = vec![collection.to_owned()];
        return Some(ChaincodeCall { name, collection_names, no_private_reads: !read, ..Default::default() });
    }
    if keys.is_empty() && !whole {
        return None;
    }
    Some(ChaincodeCall {
        name,
        key_policies: keys.to_vec(),
        disregard_namespace_policy: !keys.is_empty() && !whole,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(written: &[(&str, &str, bool)]) -> Touched {
        let mut touched = Touched::default();
        for (namespace, collection, own_policy) in written {
            let policy = SignaturePolicyEnvelope::default().encode_to_vec();
            let name = MetaDataKeys::ValidationParameter.as_str_name().to_owned();
            let metadata = if *own_policy { [(name, policy)].into() } else { BTreeMap::new() };
            let place = ((*namespace).to_owned(), (*collection).to_owned());
            touched.written.entry(place).or_default().insert("k".into(), metadata);
            touched.namespaces.insert((*namespace).to_owned());
        }
        touched
    }

    #[test]
    fn collections_are_named_and_say_whether_they_were_read() {
        let mut touched = touched(&[("cc", "secret", false)]);
        touched.namespaces.insert("_lifecycle".into());
        let calls = interest(&touched).expect("interest").chaincodes;
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert!(calls[0].no_private_reads && calls[0].collection_names == ["secret"]);
        touched.private_reads.insert(("cc".into(), "secret".into()));
        assert!(!interest(&touched).expect("interest").chaincodes[0].no_private_reads);
    }

    #[test]
    fn a_key_with_a_policy_of_its_own_stands_for_the_chaincodes() {
        let calls = interest(&touched(&[("cc", "", true)])).expect("interest").chaincodes;
        assert!(calls[0].disregard_namespace_policy && calls[0].key_policies.len() == 1);
        let calls = interest(&touched(&[("cc", "", false)])).expect("interest").chaincodes;
        assert!(!calls[0].disregard_namespace_policy && calls[0].key_policies.is_empty());
    }
}
