//! Policies put to work: whether signers satisfy one, and who could (Fabric: packages `policies` and `cauthdsl`).
//!
//! The trap: one signature counts once. Two principals that the same identity fits need two identities.

use prost::Message;

use super::membership::{Identity, Membership};
use super::proto::common::implicit_meta_policy::Rule;
use super::proto::common::msp_principal::Classification;
use super::proto::common::msp_role::MspRoleType;
use super::proto::common::policy::PolicyType;
use super::proto::common::signature_policy::Type;
use super::proto::common::{
    ConfigGroup, ConfigSignature, ImplicitMetaPolicy, MspPrincipal, MspRole, OrganizationUnit, Policy, SignatureHeader,
    SignaturePolicy, SignaturePolicyEnvelope,
};
use super::proto::msp::SerializedIdentity;

/// Somebody whose signature may count.
pub trait Signer {
    /// Whether the signer is of the kind that `principal` asks for.
    fn satisfies(&self, principal: &MspPrincipal) -> bool;
}

impl Signer for Identity {
    fn satisfies(&self, principal: &MspPrincipal) -> bool {
        Self::satisfies(self, principal)
    }
}

/// A peer of the organization with this MSP, of which nothing else is known yet: to find out whose peers to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOf<'a>(pub &'a str);

impl Signer for PeerOf<'_> {
    fn satisfies(&self, principal: &MspPrincipal) -> bool {
        let bytes = principal.principal.as_slice();
        match principal.principal_classification() {
            Classification::Role => MspRole::decode(bytes).is_ok_and(|wanted| {
                wanted.msp_identifier == self.0 && matches!(wanted.role(), MspRoleType::Member | MspRoleType::Peer)
            }),
            Classification::OrganizationUnit => {
                OrganizationUnit::decode(bytes).is_ok_and(|wanted| wanted.msp_identifier == self.0)
            }
            Classification::Identity => SerializedIdentity::decode(bytes).is_ok_and(|wanted| wanted.mspid == self.0),
            Classification::Combined | Classification::Anonymity => false,
        }
    }
}

/// Whether `identities` satisfy the policy at `path`, such as `/Channel/Application/Admins`.
///
/// # Errors
/// Why not, in Fabric's words where it has some.
pub fn evaluate(channel_group: &ConfigGroup, path: &str, identities: &[impl Signer]) -> Result<(), String> {
    let (group, name) = locate(channel_group, path)?;
    let policy = group.policies.get(name).and_then(|p| p.policy.as_ref()).ok_or_else(|| missing(path))?;
    evaluate_policy(group, policy, identities)
}

/// Whether `identities` satisfy a signature policy that stands by itself.
pub fn evaluate_signature_policy(policy: &SignaturePolicyEnvelope, identities: &[impl Signer]) -> Result<(), String> {
    let rule = policy.rule.as_ref().ok_or("empty policy element")?;
    let mut used = vec![false; identities.len()];
    if satisfied(rule, policy, identities, &mut used)? {
        return Ok(());
    }
    Err(format!(
        "signature set did not satisfy policy: {} valid signers, but the policy needs others or more",
        identities.len()
    ))
}

fn evaluate_policy(group: &ConfigGroup, policy: &Policy, identities: &[impl Signer]) -> Result<(), String> {
    match PolicyType::try_from(policy.r#type) {
        Ok(PolicyType::Signature) => evaluate_signature_policy(&decode(policy)?, identities),
        Ok(PolicyType::ImplicitMeta) => {
            let meta: ImplicitMetaPolicy = decode(policy)?;
            let needed = threshold(meta.rule(), group.groups.len());
            let sub_policy = |g: &ConfigGroup| {
                let policy = g.policies.get(&meta.sub_policy).and_then(|p| p.policy.as_ref());
                policy.is_some_and(|p| evaluate_policy(g, p, identities).is_ok())
            };
            let satisfied = group.groups.values().filter(|g| sub_policy(g)).count();
            if satisfied >= needed {
                return Ok(());
            }
            Err(format!(
                "implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this policy requires {needed} of the '{}' sub-policies to be satisfied",
                meta.sub_policy
            ))
        }
        _ => Err(format!("unknown policy type: {}", policy.r#type)),
    }
}

/// How many of `groups` sub-groups; none of none.
fn threshold(rule: Rule, groups: usize) -> usize {
    match rule {
        _ if groups == 0 => 0,
        Rule::Any => 1,
        Rule::All => groups,
        Rule::Majority => groups / 2 + 1,
    }
}

fn satisfied(
    rule: &SignaturePolicy,
    policy: &SignaturePolicyEnvelope,
    identities: &[impl Signer],
    used: &mut [bool],
) -> Result<bool, String> {
    match rule.r#type.as_ref().ok_or("unknown type of signature policy")? {
        Type::SignedBy(index) => {
            let principal = usize::try_from(*index).ok().and_then(|i| policy.identities.get(i)).ok_or_else(|| {
                format!(
                    "identity index out of range, requested {index}, but identities length is {}",
                    policy.identities.len()
                )
            })?;
            let signer = identities.iter().zip(used.iter()).position(|(i, used)| !used && i.satisfies(principal));
            if let Some(at) = signer {
                used[at] = true;
            }
            Ok(signer.is_some())
        }
        Type::NOutOf(n_out_of) => {
            let mut count = 0;
            for rule in &n_out_of.rules {
                let mut tried = used.to_vec();
                if satisfied(rule, policy, identities, &mut tried)? {
                    count += 1;
                    used.copy_from_slice(&tried);
                }
            }
            Ok(count >= n_out_of.n)
        }
    }
}

/// The group and the name that an absolute policy path means.
fn locate<'a, 'p>(channel_group: &'a ConfigGroup, path: &'p str) -> Result<(&'a ConfigGroup, &'p str), String> {
    let rest = path.strip_prefix("/Channel/").ok_or_else(|| missing(path))?;
    let (groups, name) = rest.rsplit_once('/').unwrap_or(("", rest));
    let mut group = channel_group;
    for key in groups.split('/').filter(|k| !k.is_empty()) {
        group = group.groups.get(key).ok_or_else(|| missing(path))?;
    }
    Ok((group, name))
}

fn missing(path: &str) -> String {
    format!("there is no policy {path}")
}

fn decode<T: Message + Default>(policy: &Policy) -> Result<T, String> {
    T::decode(policy.value.as_slice()).map_err(|e| format!("policy is not readable: {e}"))
}

/// The valid signers of `message`, each once. Signatures that do not count are left out, as Fabric does.
pub fn valid_signers(members: &Membership, signatures: &[ConfigSignature], message: &[u8]) -> Vec<Identity> {
    let mut signers: Vec<Identity> = Vec::new();
    for signature in signatures {
        let Ok(header) = SignatureHeader::decode(signature.signature_header.as_slice()) else { continue };
        let Ok(identity) = members.identity(&header.creator) else { continue };
        let signed = [signature.signature_header.as_slice(), message].concat();
        if !signers.iter().any(|s| s.is(&identity)) && identity.verify(&signed, &signature.signature).is_ok() {
            signers.push(identity);
        }
    }
    signers
}

/// What a policy asks for: `needed` of the policies below it, or (with none below it) signers of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Path of the policy.
    pub policy: String,
    /// How many of `of`; for a policy of its own signers, 1.
    pub needed: usize,
    /// The policies below.
    pub of: Vec<Need>,
}

impl Need {
    /// What the policy at `path` asks for.
    pub fn of_policy(channel_group: &ConfigGroup, path: &str) -> Result<Self, String> {
        let (group, name) = locate(channel_group, path)?;
        let policy = group.policies.get(name).and_then(|p| p.policy.as_ref()).ok_or_else(|| missing(path))?;
        if policy.r#type != i32::from(PolicyType::ImplicitMeta) {
            return Ok(Self { policy: path.into(), needed: 1, of: vec![] });
        }
        let meta: ImplicitMetaPolicy = decode(policy)?;
        let parent = path.strip_suffix(name).unwrap_or_default();
        let below =
            group.groups.keys().map(|g| Self::of_policy(channel_group, &format!("{parent}{g}/{}", meta.sub_policy)));
        let of: Vec<_> = below.filter_map(Result::ok).collect();
        Ok(Self { policy: path.into(), needed: threshold(meta.rule(), group.groups.len()), of })
    }

    /// The policies of signers at the bottom that `identities` do not satisfy, while this policy is short of them.
    pub fn short_of(&self, channel_group: &ConfigGroup, identities: &[Identity]) -> Vec<String> {
        if evaluate(channel_group, &self.policy, identities).is_ok() {
            return vec![];
        }
        if self.of.is_empty() {
            return vec![self.policy.clone()];
        }
        self.of.iter().flat_map(|n| n.short_of(channel_group, identities)).collect()
    }

    /// Whether a signature of `identity` counts for this policy.
    pub fn is_helped_by(&self, channel_group: &ConfigGroup, identity: &Identity) -> bool {
        if self.of.is_empty() {
            return evaluate(channel_group, &self.policy, std::slice::from_ref(identity)).is_ok();
        }
        self.of.iter().any(|n| n.is_helped_by(channel_group, identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_tree::{ADMINS, put_policy};
    use crate::msp::MspDefinition;
    use crate::policy::{any_role, implicit_meta, n_out_of, role_principal};
    use crate::proto::common::msp_role::MspRoleType::{Admin, Member, Peer};
    use crate::testing::Ca;

    struct World {
        group: ConfigGroup,
        admins: Vec<Identity>,
        peers: Vec<Identity>,
    }

    /// A group with three organizations and a policy over their admins.
    fn world(rule: Rule) -> World {
        let (mut group, mut members) = (ConfigGroup::default(), Membership::default());
        let (mut admins, mut peers) = (vec![], vec![]);
        for org in ["A", "B", "C"] {
            let ca = Ca::new(org);
            let msp = MspDefinition { id: org.into(), root_certs: vec![ca.pem()], ..Default::default() };
            members.add(&msp.fabric_config()).expect("MSP");
            let child = group.groups.entry(org.into()).or_default();
            put_policy(child, ADMINS, any_role(org, &[Admin]));
            admins.push(members.identity(ca.identity(org, "admin").serialized()).expect("admin"));
            peers.push(members.identity(ca.identity(org, "peer").serialized()).expect("peer"));
        }
        put_policy(&mut group, ADMINS, implicit_meta(rule, ADMINS));
        World { group, admins, peers }
    }

    #[test]
    fn implicit_meta_counts_organizations() {
        for (rule, needed) in [(Rule::Any, 1), (Rule::Majority, 2), (Rule::All, 3)] {
            let w = world(rule);
            for n in 0..=3 {
                let outcome = evaluate(&w.group, "/Channel/Admins", &w.admins[..n]);
                assert_eq!(outcome.is_ok(), n >= needed, "{rule:?} with {n}: {outcome:?}");
            }
            assert!(evaluate(&w.group, "/Channel/Admins", &w.peers).is_err(), "peers are no admins");
        }
    }

    #[test]
    fn failures_have_fabrics_words() {
        let w = world(Rule::Majority);
        assert_eq!(
            evaluate(&w.group, "/Channel/Admins", &w.admins[..1]),
            Err("implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy requires 2 of the 'Admins' sub-policies to be satisfied".into())
        );
    }

    #[test]
    fn one_signature_counts_once() {
        let w = world(Rule::Any);
        let both = n_out_of(2, vec![role_principal("A", Member), role_principal("A", Admin)]);
        let policy = [&w.admins[0], &w.peers[0]].map(Clone::clone);
        assert!(evaluate_signature_policy(&both, &w.admins[..1]).is_err());
        // As Fabric does, the first rule takes the first signer that fits, even if the second rule needs that one.
        assert!(evaluate_signature_policy(&both, &policy).is_err());
        let [admin, peer] = policy;
        assert!(evaluate_signature_policy(&both, &[peer, admin]).is_ok());
    }

    #[test]
    fn peers_to_ask_are_found_by_their_organizations() {
        let w = world(Rule::Any);
        let both = n_out_of(2, vec![role_principal("A", Peer), role_principal("B", Member)]);
        assert!(evaluate_signature_policy(&both, &[PeerOf("B"), PeerOf("A")]).is_ok());
        assert!(evaluate_signature_policy(&both, &[PeerOf("A"), PeerOf("A")]).is_err(), "both of A");
        assert!(evaluate(&w.group, "/Channel/Admins", &[PeerOf("A")]).is_err(), "no peer is an admin");
    }

    #[test]
    fn a_need_names_who_is_missing_and_who_helps() {
        let w = world(Rule::Majority);
        let need = Need::of_policy(&w.group, "/Channel/Admins").expect("need");
        assert_eq!((need.needed, need.of.len()), (2, 3));
        assert_eq!(need.short_of(&w.group, &w.admins[..1]), ["/Channel/B/Admins", "/Channel/C/Admins"]);
        assert!(need.short_of(&w.group, &w.admins[..2]).is_empty());
        assert!(need.is_helped_by(&w.group, &w.admins[2]));
        assert!(!need.is_helped_by(&w.group, &w.peers[2]));
    }
}
