//! Whose endorsements a transaction needs, decided without asking anybody (Fabric: `discovery/endorsement`).
//!
//! Fabric lists every combination of organisations that meets the policies; here one is found by leaving out, from the
//! least wanted on, every peer that is not needed. Both end with a set none of which can be spared.

use prost::Message;

use crate::peer::lifecycle::collections;
use crate::peer::lifecycle::definition::Definition;
use ehrnet_fabric::authorization::{PeerOf, evaluate, evaluate_signature_policy};
use ehrnet_fabric::chaincode::{EndorsementPolicy, Rule};
use ehrnet_fabric::proto::common::ConfigGroup;
use ehrnet_fabric::proto::common::msp_role::MspRoleType;
use ehrnet_fabric::proto::protos::application_policy::Type;
use ehrnet_fabric::proto::protos::{ApplicationPolicy, ChaincodeCall, ChaincodeInterest};

/// Policies all of which a transaction has to meet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs(Vec<ApplicationPolicy>);

impl Needs {
    /// One endorsement of each of these organisations, whatever policies say.
    pub fn of_organisations(msp_ids: &[String]) -> Self {
        let member = |msp_id: &String| Rule::Signed { msp_id: msp_id.clone(), role: MspRoleType::Member };
        Self(vec![EndorsementPolicy::Signature(Rule::all(msp_ids.iter().map(member).collect())).message()])
    }

    /// What an endorser says that its result has touched. `definition` finds a chaincode's definition.
    ///
    /// # Errors
    /// A chaincode that is not defined; its name.
    pub fn of_interest(
        interest: &ChaincodeInterest,
        definition: impl Fn(&str) -> Option<Definition>,
    ) -> Result<Self, String> {
        let mut policies = Vec::new();
        for call in &interest.chaincodes {
            let definition = definition(&call.name).ok_or_else(|| call.name.clone())?;
            for policy in of_call(call, &definition) {
                if !policies.contains(&policy) {
                    policies.push(policy);
                }
            }
        }
        Ok(Self(policies))
    }

    fn met_by(&self, root: &ConfigGroup, peers: &[PeerOf<'_>]) -> bool {
        self.0.iter().all(|policy| match &policy.r#type {
            Some(Type::SignaturePolicy(policy)) => evaluate_signature_policy(policy, peers).is_ok(),
            Some(Type::ChannelConfigPolicyReference(path)) => evaluate(root, path, peers).is_ok(),
            None => false,
        })
    }

    /// Which of some peers, given by their organisations in order of preference, are enough and all needed. `None` if
    /// all of them together are not enough.
    pub fn choose(&self, root: &ConfigGroup, msp_ids: &[&str]) -> Option<Vec<usize>> {
        let mut chosen: Vec<usize> = (0..msp_ids.len()).collect();
        let met = |chosen: &[usize]| {
            let peers: Vec<_> = chosen.iter().map(|at| PeerOf(msp_ids[*at])).collect();
            self.met_by(root, &peers)
        };
        if !met(&chosen) {
            return None;
        }
        for least_wanted in (0..msp_ids.len()).rev() {
            let without: Vec<_> = chosen.iter().copied().filter(|at| *at != least_wanted).collect();
            if met(&without) {
                chosen = without;
            }
        }
        Some(chosen)
    }
}

/// The policies of one touched chaincode: of its collections where it names some, of the whole otherwise, and of keys.
fn of_call(call: &ChaincodeCall, definition: &Definition) -> Vec<ApplicationPolicy> {
    let whole = || ApplicationPolicy::decode(definition.validation.validation_parameter.as_slice()).unwrap_or_default();
    let of_collection =
        |name: &String| definition.collection(name).and_then(|c| c.endorsement_policy).unwrap_or_else(whole);
    let mut policies: Vec<_> = call.collection_names.iter().map(of_collection).collect();
    if policies.is_empty() && !call.disregard_namespace_policy {
        policies.push(whole());
    }
    let of_key = |policy: &_| ApplicationPolicy { r#type: Some(Type::SignaturePolicy(Clone::clone(policy))) };
    policies.extend(call.key_policies.iter().map(of_key));
    policies
}

/// Whether peers of an organisation may see what the transaction reads from collections.
pub fn may_see(msp_id: &str, interest: &ChaincodeInterest, definition: impl Fn(&str) -> Option<Definition>) -> bool {
    let is_member = |call: &ChaincodeCall, collection: &String| {
        let config = definition(&call.name).and_then(|definition| definition.collection(collection));
        let members = config.as_ref().and_then(collections::members);
        members.is_some_and(|members| evaluate_signature_policy(members, &[PeerOf(msp_id)]).is_ok())
    };
    let reading = interest.chaincodes.iter().filter(|call| !call.no_private_reads);
    reading
        .flat_map(|call| call.collection_names.iter().map(move |name| (call, name)))
        .all(|(c, name)| is_member(c, name))
}

/// The interest of a transaction with transient data: only those who may have the data of a collection may see what
/// becomes part of it. With it, the collections that are protected so.
pub fn protected(interest: &ChaincodeInterest) -> (ChaincodeInterest, Vec<String>) {
    let mut interest = interest.clone();
    let mut names = Vec::new();
    for call in interest.chaincodes.iter_mut().filter(|call| call.no_private_reads) {
        call.no_private_reads = false;
        names.extend(call.collection_names.iter().cloned());
    }
    (interest, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection};

    fn definition() -> Definition {
        let collection = |name: &str, members: &[&str], endorsement: Option<Rule>| Collection {
            name: name.into(),
            members: members.iter().map(ToString::to_string).collect(),
            required_peers: 0,
            max_peers: 1,
            block_to_live: 0,
            member_only_read: true,
            member_only_write: true,
            endorsement: endorsement.map(EndorsementPolicy::Signature),
        };
        let declared = ChaincodeDefinition {
            name: "ehr".into(),
            version: "1".into(),
            endorsement: EndorsementPolicy::Signature(Rule::all(vec![Rule::peer("A"), Rule::peer("B")])),
            collections: vec![
                collection("all", &["A", "B", "C"], None),
                collection("own-c", &["C"], Some(Rule::peer("C"))),
            ],
            init_required: false,
        };
        let mut definition = Definition::default();
        definition.validation.validation_parameter = declared.validation_parameter();
        definition.collections = declared.collection_package().expect("collections");
        definition
    }

    fn find(name: &str) -> Option<Definition> {
        (name == "ehr").then(definition)
    }

    fn touching(collections: &[&str], no_private_reads: bool) -> ChaincodeInterest {
        let call = |name: &&str| ChaincodeCall {
            name: "ehr".into(),
            collection_names: vec![name.to_string()],
            no_private_reads,
            ..Default::default()
        };
        let whole = ChaincodeCall { name: "ehr".into(), ..Default::default() };
        let calls = if collections.is_empty() { vec![whole] } else { collections.iter().map(call).collect() };
        ChaincodeInterest { chaincodes: calls }
    }

    fn choose(interest: &ChaincodeInterest, msp_ids: &[&str]) -> Option<Vec<usize>> {
        Needs::of_interest(interest, find).expect("needs").choose(&ConfigGroup::default(), msp_ids)
    }

    #[test]
    fn nobody_is_asked_who_is_not_needed() {
        assert_eq!(choose(&touching(&[], true), &["A", "A", "C", "B", "B"]), Some(vec![0, 3]));
        assert_eq!(choose(&touching(&[], true), &["A", "C"]), None);
        let two = Needs::of_organisations(&["C".into(), "B".into()]);
        assert_eq!(two.choose(&ConfigGroup::default(), &["A", "B", "C", "C"]), Some(vec![1, 2]));
    }

    #[test]
    fn a_collections_own_policy_stands_for_the_chaincodes() {
        assert_eq!(choose(&touching(&["own-c"], true), &["A", "B", "C"]), Some(vec![2]));
        assert_eq!(choose(&touching(&["all"], true), &["A", "B", "C"]), Some(vec![0, 1]));
        assert_eq!(choose(&touching(&["all", "own-c"], true), &["A", "B", "C"]), Some(vec![0, 1, 2]));
    }

    #[test]
    fn a_keys_own_policy_is_met_besides_or_instead() {
        let mut interest = touching(&[], true);
        interest.chaincodes[0].key_policies = vec![Rule::peer("C").envelope()];
        assert_eq!(choose(&interest, &["A", "B", "C"]), Some(vec![0, 1, 2]));
        interest.chaincodes[0].disregard_namespace_policy = true;
        assert_eq!(choose(&interest, &["A", "B", "C"]), Some(vec![2]));
    }

    #[test]
    fn transient_data_goes_to_members_only() {
        let written = touching(&["own-c"], true);
        assert!(may_see("A", &written, find), "nothing private is read");
        let (protected, names) = protected(&written);
        assert_eq!(names, ["own-c"]);
        assert!(!may_see("A", &protected, find) && may_see("C", &protected, find));
        assert_eq!(
            Needs::of_interest(&ChaincodeInterest { chaincodes: vec![ChaincodeCall::default()] }, find),
            Err("".into())
        );
    }
}
