//! From the declaration to the definition that hospitals approve. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::facts::ChaincodeFacts;
use ehrnet_api::Chaincode;
use ehrnet_api::chaincode::{CollectionSpec, EndorsementSpec};
use ehrnet_api::conditions::Reason;
use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection, EndorsementPolicy, Rule};
use ehrnet_status::Finding;

/// Name of a contract on the ledger.
pub fn name(chaincode: &Chaincode) -> String {
    chaincode.spec.chaincode_name.clone().unwrap_or_else(|| chaincode.name_any())
}

/// The definition as declared, or what is wrong with the declaration. `msps` has the MSP of each member hospital.
pub fn definition(
    chaincode: &Chaincode,
    channel: &str,
    msps: &BTreeMap<String, String>,
) -> Result<ChaincodeDefinition, Finding> {
    let spec = &chaincode.spec;
    let msp = |hospital: &String, field: &str| {
        msps.get(hospital).cloned().ok_or_else(|| {
            let message = format!(
                "{field}: Hospital {hospital} is not a member of Channel {channel}: add it to the Channel's spec.members, or remove it here"
            );
            Finding::not(Reason::InvalidSpec, message)
        })
    };
    let endorsement = match &spec.endorsement {
        None => EndorsementPolicy::default(),
        Some(declared) => EndorsementPolicy::Signature(rule(declared, |hospital| msp(hospital, "spec.endorsement"))?),
    };
    let collections = spec
        .collections
        .iter()
        .map(|declared| {
            let field = format!("spec.collections[{}]", declared.name);
            let members = match declared.members.is_empty() {
                true => msps.values().cloned().collect(),
                false => declared.members.iter().map(|member| msp(member, &field)).collect::<Result<_, _>>()?,
            };
            Ok(collection(declared, members))
        })
        .collect::<Result<_, Finding>>()?;
    let definition = ChaincodeDefinition {
        name: name(chaincode),
        version: spec.version.clone(),
        endorsement,
        collections,
        init_required: spec.init_required,
    };
    definition.check().map_err(|error| Finding::not(Reason::InvalidSpec, error.to_string()))?;
    Ok(definition)
}

/// Names in the order of the alphabet: what they mean does not hang on the order in which they were written.
fn rule(declared: &EndorsementSpec, msp: impl Fn(&String) -> Result<String, Finding>) -> Result<Rule, Finding> {
    let (count, hospitals) = match (&declared.all_of, &declared.any_of, &declared.out_of) {
        (Some(all), _, _) => (all.len(), all),
        (_, Some(any), _) => (1, any),
        (_, _, Some(out_of)) => (out_of.count as usize, &out_of.hospitals),
        (None, None, None) => {
            return Err(Finding::not(Reason::InvalidSpec, "spec.endorsement needs one of allOf, anyOf and outOf"));
        }
    };
    let mut msps: Vec<String> = hospitals.iter().map(msp).collect::<Result<_, _>>()?;
    msps.sort();
    Ok(Rule::OutOf { n: count, of: msps.into_iter().map(Rule::peer).collect() })
}

fn collection(declared: &CollectionSpec, members: Vec<String>) -> Collection {
    // The schema keeps both counts far below the limit.
    let count = |declared: u32| u16::try_from(declared).unwrap_or(u16::MAX);
    Collection {
        name: declared.name.clone(),
        members,
        required_peers: count(declared.required_peer_count),
        max_peers: count(declared.max_peer_count),
        block_to_live: declared.block_to_live,
        member_only_read: declared.member_only_read,
        member_only_write: declared.member_only_write,
        endorsement: None,
    }
}

/// Who must endorse, for people.
pub fn endorsement_in_words(facts: &ChaincodeFacts) -> String {
    match &facts.chaincode.spec.endorsement {
        Some(EndorsementSpec { all_of: Some(all), .. }) => format!("all of {}", all.join(", ")),
        Some(EndorsementSpec { any_of: Some(any), .. }) => format!("any of {}", any.join(", ")),
        Some(EndorsementSpec { out_of: Some(some), .. }) => {
            format!("{} of {}", some.count, some.hospitals.join(", "))
        }
        _ => "as the channel says".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chaincode(spec: Value) -> Chaincode {
        let mut whole = json!({"channelRef": {"name": "care"}});
        if let (Value::Object(whole), Value::Object(spec)) = (&mut whole, spec) {
            whole.extend(spec);
        }
        let object = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Chaincode", "metadata": {"name": "ehr"}, "spec": whole
        });
        serde_json::from_value(object).expect("a chaincode")
    }

    fn defined(spec: Value) -> Result<ChaincodeDefinition, Finding> {
        let msps = [("mercy", "MercyMSP"), ("lakeside", "LakesideMSP")];
        let msps = msps.map(|(hospital, msp)| (hospital.to_owned(), msp.to_owned())).into();
        definition(&chaincode(spec), "care", &msps)
    }

    #[test]
    fn what_is_left_out_is_the_channels_policy_and_the_collections_of_the_contract() {
        let definition = defined(json!({})).expect("a definition");
        assert_eq!((definition.name.as_str(), definition.version.as_str()), ("ehr", "1.0"));
        assert_eq!(definition.endorsement, EndorsementPolicy::default());
        let names: Vec<_> = definition.collections.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["audit", "consents", "records"]);
        assert!(
            definition.collections.iter().all(|c| c.members == ["LakesideMSP", "MercyMSP"] && c.block_to_live == 0)
        );
        assert_eq!(
            defined(json!({"chaincodeName": "records-2", "collections": []})).expect("a definition").name,
            "records-2"
        );
    }

    #[test]
    fn the_order_in_which_hospitals_are_named_makes_no_other_definition() {
        for field in ["allOf", "anyOf"] {
            let one = defined(json!({"endorsement": {field: ["mercy", "lakeside"]}})).expect("a definition");
            let other = defined(json!({"endorsement": {field: ["lakeside", "mercy"]}})).expect("a definition");
            assert_eq!(one, other);
            let peers = vec![Rule::peer("LakesideMSP"), Rule::peer("MercyMSP")];
            let n = if field == "allOf" { 2 } else { 1 };
            assert_eq!(one.endorsement, EndorsementPolicy::Signature(Rule::OutOf { n, of: peers }));
        }
        let some = json!({"endorsement": {"outOf": {"count": 1, "hospitals": ["mercy"]}}});
        let one = EndorsementPolicy::Signature(Rule::OutOf { n: 1, of: vec![Rule::peer("MercyMSP")] });
        assert_eq!(defined(some).expect("a definition").endorsement, one);
    }

    #[test]
    fn a_hospital_that_is_no_member_is_named_with_the_field() {
        for (spec, field) in [
            (json!({"endorsement": {"allOf": ["mercy", "elm"]}}), "spec.endorsement"),
            (json!({"collections": [{"name": "trial", "members": ["elm"]}]}), "spec.collections[trial]"),
        ] {
            let finding = defined(spec).expect_err("refused");
            assert_eq!(finding.reason, Reason::InvalidSpec);
            assert!(
                finding.message.starts_with(field) && finding.message.contains("Hospital elm"),
                "{}",
                finding.message
            );
        }
    }
}
