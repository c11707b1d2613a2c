//! Private data collections: who is a member, and what may be defined (Fabric: `lifecycle/scc.go`).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use ehrnet_fabric::membership::Membership;
use ehrnet_fabric::policy::{n_out_of, role_principal};
use ehrnet_fabric::proto::common::msp_principal::Classification;
use ehrnet_fabric::proto::common::msp_role::MspRoleType;
use ehrnet_fabric::proto::common::signature_policy::Type;
use ehrnet_fabric::proto::common::{MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope};
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_fabric::proto::protos::collection_policy_config::Payload as PolicyPayload;
use ehrnet_fabric::proto::protos::{
    CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig, collection_config::Payload,
};

/// The collections of a package.
pub fn configs(package: &CollectionConfigPackage) -> impl Iterator<Item = &StaticCollectionConfig> {
    package.config.iter().filter_map(|config| {
        let Payload::StaticCollectionConfig(config) = config.payload.as_ref()?;
        Some(config)
    })
}

/// An organisation's implicit collection.
pub fn implicit(msp_id: &str) -> StaticCollectionConfig {
    let members = n_out_of(1, vec![role_principal(msp_id, MspRoleType::Member)]);
    StaticCollectionConfig {
        name: super::implicit_collection(msp_id),
        member_orgs_policy: Some(CollectionPolicyConfig { payload: Some(PolicyPayload::SignaturePolicy(members)) }),
        ..Default::default()
    }
}

/// The policy that says who is a member.
pub fn members(config: &StaticCollectionConfig) -> Option<&SignaturePolicyEnvelope> {
    match config.member_orgs_policy.as_ref()?.payload.as_ref()? {
        PolicyPayload::SignaturePolicy(policy) => Some(policy),
    }
}

/// MSP ids of the member organisations.
pub fn member_orgs(config: &StaticCollectionConfig) -> BTreeSet<String> {
    members(config).map(|policy| policy.identities.iter().filter_map(org_of).collect()).unwrap_or_default()
}

fn org_of(principal: &MspPrincipal) -> Option<String> {
    let bytes = principal.principal.as_slice();
    match principal.principal_classification() {
        Classification::Role => MspRole::decode(bytes).ok().map(|role| role.msp_identifier),
        Classification::OrganizationUnit => OrganizationUnit::decode(bytes).ok().map(|unit| unit.msp_identifier),
        Classification::Identity => SerializedIdentity::decode(bytes).ok().map(|identity| identity.mspid),
        Classification::Anonymity | Classification::Combined => None,
    }
}

/// Whether collections may be defined so on a channel with these organisations, after `committed`.
///
/// # Errors
/// Fabric's words.
pub fn check(
    proposed: &CollectionConfigPackage,
    committed: Option<&CollectionConfigPackage>,
    organisations: &Membership,
) -> Result<(), String> {
    if proposed.config.iter().any(|config| config.payload.is_none()) {
        return Err("collection config contains unexpected payload type: <nil>".into());
    }
    let mut seen = BTreeMap::new();
    for config in configs(proposed) {
        check_one(config, organisations)?;
        if seen.insert(config.name.as_str(), config).is_some() {
            return Err(format!("collection-name: {} -- found duplicate in collection configuration", config.name));
        }
    }
    let Some(committed) = committed.filter(|package| !package.config.is_empty()) else { return Ok(()) };
    if seen.is_empty() {
        return Err("the proposed collection config does not contain previously defined collections".into());
    }
    for old in configs(committed) {
        let new = seen.get(old.name.as_str()).ok_or_else(|| {
            format!("existing collection [{}] missing in the proposed collection configuration", old.name)
        })?;
        if new.block_to_live != old.block_to_live {
            return Err(format!(
                "the BlockToLive in an existing collection [{}] modified. Existing value [{}]",
                old.name, old.block_to_live
            ));
        }
    }
    Ok(())
}

fn check_one(config: &StaticCollectionConfig, organisations: &Membership) -> Result<(), String> {
    let name = &config.name;
    if !name_is_valid(name) {
        return Err(format!(
            "invalid collection name '{name}'. Names can only consist of alphanumerics, '_', and '-' and cannot begin \
             with '_'"
        ));
    }
    let (required, maximum) = (config.required_peer_count, config.maximum_peer_count);
    if maximum < required {
        return Err(format!(
            "collection-name: {name} -- maximum peer count ({maximum}) cannot be less than the required peer count \
             ({required})"
        ));
    }
    if required < 0 {
        return Err(format!("collection-name: {name} -- requiredPeerCount ({required}) cannot be less than zero"));
    }
    if config.member_orgs_policy.is_none() {
        return Err(format!("collection member policy is not set for collection '{name}'"));
    }
    let policy = members(config);
    let policy = policy.ok_or_else(|| format!("collection member org policy is empty for collection '{name}'"))?;
    let rule = policy.rule.as_ref().ok_or_else(|| format!("invalid member org policy for collection '{name}'"))?;
    check_indexes(rule, policy.identities.len())
        .map_err(|e| format!("invalid member org policy for collection '{name}': {e}"))?;
    check_or(rule).map_err(|e| format!("collection-name: {name} -- error in member org policy: {e}"))?;
    policy.identities.iter().try_for_each(|principal| check_principal(name, principal, organisations))
}

fn check_principal(name: &str, principal: &MspPrincipal, organisations: &Membership) -> Result<(), String> {
    let kind = principal.principal_classification();
    match kind {
        Classification::Role | Classification::OrganizationUnit => {
            let org = org_of(principal).ok_or_else(|| {
                format!("collection-name: {name} -- cannot unmarshal identity bytes into {}", kind.as_str_name())
            })?;
            match organisations.knows(&org) {
                true => Ok(()),
                false => {
                    Err(format!("collection-name: {name} -- collection member '{org}' is not part of the channel"))
                }
            }
        }
        Classification::Identity => organisations
            .identity(&principal.principal)
            .map(drop)
            .map_err(|_| format!("collection-name: {name} -- contains an identity that is not part of the channel")),
        Classification::Anonymity | Classification::Combined => {
            Err(format!("collection-name: {name} -- principal type {} is not supported", kind.as_str_name()))
        }
    }
}

fn check_indexes(rule: &SignaturePolicy, identities: usize) -> Result<(), String> {
    match &rule.r#type {
        Some(Type::SignedBy(n)) if usize::try_from(*n).is_ok_and(|n| n < identities) => Ok(()),
        Some(Type::SignedBy(n)) => {
            Err(format!("identity index out of range, requested {n}, but identities length is {identities}"))
        }
        Some(Type::NOutOf(gate)) => gate.rules.iter().try_for_each(|rule| check_indexes(rule, identities)),
        None => Err("Empty policy element".into()),
    }
}

/// Members are alternatives: whoever fits one principal is one.
fn check_or(rule: &SignaturePolicy) -> Result<(), String> {
    match &rule.r#type {
        Some(Type::NOutOf(gate)) if gate.n != 1 => {
            Err(format!("signature policy is not an OR concatenation, NOutOf {}", gate.n))
        }
        Some(Type::NOutOf(gate)) => gate.rules.iter().try_for_each(check_or),
        _ => Ok(()),
    }
}

fn name_is_valid(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.starts_with(starts) && name.chars().all(|c| starts(c) || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::msp::MspDefinition;
    use ehrnet_fabric::proto::protos::CollectionConfig;
    use ehrnet_fabric::testing::Ca;

    fn organisations() -> Membership {
        let mut members = Membership::default();
        for org in ["A", "B"] {
            let msp = MspDefinition { id: org.into(), root_certs: vec![Ca::new(org).pem()], ..Default::default() };
            members.add(&msp.fabric_config()).expect("MSP");
        }
        members
    }

    fn collection(name: &str, orgs: &[&str]) -> StaticCollectionConfig {
        let principals = orgs.iter().map(|org| role_principal(org, MspRoleType::Member)).collect();
        let policy = PolicyPayload::SignaturePolicy(n_out_of(1, principals));
        StaticCollectionConfig {
            name: name.into(),
            member_orgs_policy: Some(CollectionPolicyConfig { payload: Some(policy) }),
            maximum_peer_count: 1,
            ..Default::default()
        }
    }

    fn package(configs: &[StaticCollectionConfig]) -> CollectionConfigPackage {
        let config =
            |c: &StaticCollectionConfig| CollectionConfig { payload: Some(Payload::StaticCollectionConfig(c.clone())) };
        CollectionConfigPackage { config: configs.iter().map(config).collect() }
    }

    fn refusal(configs: &[StaticCollectionConfig], committed: Option<&[StaticCollectionConfig]>) -> String {
        let committed = committed.map(package);
        check(&package(configs), committed.as_ref(), &organisations()).expect_err("refused")
    }

    #[test]
    fn collections_of_the_channels_organisations_are_taken() {
        let proposed = package(&[collection("a", &["A"]), collection("b-1_c", &["A", "B"])]);
        assert_eq!(check(&proposed, Some(&package(&[collection("a", &["A"])])), &organisations()), Ok(()));
        assert_eq!(member_orgs(&collection("x", &["A", "B"])), ["A".to_owned(), "B".to_owned()].into());
    }

    #[test]
    fn what_fabric_refuses_is_refused_in_its_words() {
        let mut counts = collection("a", &["A"]);
        counts.required_peer_count = 2;
        let mut all = collection("a", &["A", "B"]);
        all.member_orgs_policy = Some(CollectionPolicyConfig {
            payload: Some(PolicyPayload::SignaturePolicy(n_out_of(
                2,
                vec![role_principal("A", MspRoleType::Member), role_principal("B", MspRoleType::Member)],
            ))),
        });
        for (config, words) in [
            (collection("_a", &["A"]), "cannot begin with '_'"),
            (collection("a", &["C"]), "collection member 'C' is not part of the channel"),
            (counts, "maximum peer count (1) cannot be less than the required peer count (2)"),
            (all, "signature policy is not an OR concatenation, NOutOf 2"),
        ] {
            let refusal = refusal(&[config], None);
            assert!(refusal.contains(words), "{refusal}");
        }
        let twice = [collection("a", &["A"]), collection("a", &["B"])];
        assert!(refusal(&twice, None).contains("found duplicate"));
    }

    #[test]
    fn a_committed_collection_stays_with_its_lifetime() {
        let mut changed = collection("a", &["A"]);
        changed.block_to_live = 5;
        let committed = [collection("a", &["A"])];
        assert!(refusal(&[changed], Some(&committed)).contains("BlockToLive in an existing collection [a] modified"));
        assert!(refusal(&[collection("b", &["A"])], Some(&committed)).contains("existing collection [a] missing"));
        assert!(refusal(&[], Some(&committed)).contains("does not contain previously defined collections"));
    }
}
