//! Evaluation of a channel's policies over a set of signatures.

use std::collections::BTreeMap;

use prost::Message;

use super::msp::{Identity, Msp};
use crate::fabric::proto::common::implicit_meta_policy::Rule;
use crate::fabric::proto::common::policy::PolicyType;
use crate::fabric::proto::common::signature_policy::Type;
use crate::fabric::proto::common::{
    ConfigGroup, Envelope, ImplicitMetaPolicy, Policy, SignaturePolicy, SignaturePolicyEnvelope,
};

/// A signature and what it is said to be over.
#[derive(Debug, Clone)]
pub struct SignedData {
    /// The bytes signed.
    pub data: Vec<u8>,
    /// Who is said to have signed.
    pub identity: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignedData {
    /// An envelope's signature.
    ///
    /// # Errors
    /// The envelope is malformed.
    pub fn of_envelope(envelope: &Envelope) -> Result<Self, String> {
        let opened = super::open(envelope)?;
        Ok(Self {
            data: envelope.payload.clone(),
            identity: opened.signature.creator,
            signature: envelope.signature.clone(),
        })
    }
}

/// The organisations of a channel, by MSP id.
pub type Msps = BTreeMap<String, Msp>;

/// A group's policies, and those of the groups in it.
#[derive(Debug, Clone, Default)]
pub struct PolicyTree {
    policies: BTreeMap<String, Rules>,
    groups: BTreeMap<String, PolicyTree>,
}

#[derive(Debug, Clone)]
enum Rules {
    Signatures(SignaturePolicyEnvelope),
    SubPolicies { rule: Rule, name: String },
}

impl PolicyTree {
    /// Read the policies of a group and all below it.
    ///
    /// # Errors
    /// A policy is malformed; the text says which.
    pub fn new(group: &ConfigGroup) -> Result<Self, String> {
        let mut tree = Self::default();
        for (name, policy) in &group.policies {
            let Some(policy) = &policy.policy else { return Err(format!("policy {name} at path is nil")) };
            let rules = read(policy).map_err(|e| format!("policy {name} was nil or malformed: {e}"))?;
            tree.policies.insert(name.clone(), rules);
        }
        for (name, group) in &group.groups {
            tree.groups.insert(name.clone(), Self::new(group)?);
        }
        Ok(tree)
    }

    /// The group at a path of names.
    pub fn group(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, name| tree.groups.get(*name))
    }

    /// Whether there is a policy of that (relative) path.
    pub fn has(&self, policy: &str) -> bool {
        self.find(policy).is_some()
    }

    fn find(&self, policy: &str) -> Option<(&Self, &Rules)> {
        let (path, name) = policy.rsplit_once('/').unwrap_or(("", policy));
        let path: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let group = self.group(&path)?;
        Some((group, group.policies.get(name)?))
    }

    /// Whether the signatures satisfy the policy of that relative path, for example `Application/Writers`.
    ///
    /// # Errors
    /// Fabric's words for what is missing.
    pub fn evaluate(&self, policy: &str, msps: &Msps, signatures: &[SignedData]) -> Result<(), String> {
        self.evaluate_identities(policy, msps, &valid_identities(msps, signatures))
    }

    fn evaluate_identities(&self, policy: &str, msps: &Msps, identities: &[Identity]) -> Result<(), String> {
        let (group, rules) = self.find(policy).ok_or_else(|| format!("could not find policy {policy}"))?;
        match rules {
            Rules::Signatures(rules) => satisfied(rules, msps, identities),
            Rules::SubPolicies { rule, name } => {
                let needed = match (rule, group.groups.len()) {
                    (_, 0) => 0,
                    (Rule::Any, _) => 1,
                    (Rule::All, n) => n,
                    (Rule::Majority, n) => n / 2 + 1,
                };
                let given =
                    group.groups.values().filter(|g| g.evaluate_identities(name, msps, identities).is_ok()).count();
                if given >= needed {
                    return Ok(());
                }
                Err(format!(
                    "implicit policy evaluation failed - {given} sub-policies were satisfied, but this policy requires \
                     {needed} of the '{name}' sub-policies to be satisfied"
                ))
            }
        }
    }
}

fn read(policy: &Policy) -> Result<Rules, String> {
    match PolicyType::try_from(policy.r#type) {
        Ok(PolicyType::Signature) => {
            let rules = SignaturePolicyEnvelope::decode(policy.value.as_slice()).map_err(|e| e.to_string())?;
            let root = rules.rule.as_ref().ok_or("Empty policy element")?;
            check(root, rules.identities.len())?;
            Ok(Rules::Signatures(rules))
        }
        Ok(PolicyType::ImplicitMeta) => {
            let meta = ImplicitMetaPolicy::decode(policy.value.as_slice()).map_err(|e| e.to_string())?;
            let rule = Rule::try_from(meta.rule).map_err(|_| format!("unknown rule {}", meta.rule))?;
            Ok(Rules::SubPolicies { rule, name: meta.sub_policy })
        }
        _ => Err(format!("policy type {} is unknown", policy.r#type)),
    }
}

fn check(rule: &SignaturePolicy, identities: usize) -> Result<(), String> {
    match &rule.r#type {
        Some(Type::SignedBy(n)) if usize::try_from(*n).is_ok_and(|n| n < identities) => Ok(()),
        Some(Type::SignedBy(n)) => {
            Err(format!("identity index out of range, requested {n}, but identities length is {identities}"))
        }
        Some(Type::NOutOf(gate)) => gate.rules.iter().try_for_each(|rule| check(rule, identities)),
        None => Err("Empty policy element".into()),
    }
}

/// Whether the identities satisfy a signature policy.
fn satisfied(rules: &SignaturePolicyEnvelope, msps: &Msps, identities: &[Identity]) -> Result<(), String> {
    let mut used = vec![false; identities.len()];
    match &rules.rule {
        Some(rule) if holds(rule, rules, msps, identities, &mut used) => Ok(()),
        _ => Err("signature set did not satisfy policy".into()),
    }
}

/// One identity counts once; a gate that fails gives back what it took.
fn holds(
    rule: &SignaturePolicy,
    rules: &SignaturePolicyEnvelope,
    msps: &Msps,
    identities: &[Identity],
    used: &mut Vec<bool>,
) -> bool {
    match &rule.r#type {
        None => false,
        Some(Type::SignedBy(n)) => {
            let Some(principal) = usize::try_from(*n).ok().and_then(|n| rules.identities.get(n)) else { return false };
            let taken = identities.iter().enumerate().find(|(at, identity)| {
                !used[*at] && msps.get(&identity.msp_id).is_some_and(|msp| msp.satisfies(identity, principal).is_ok())
            });
            taken.inspect(|(at, _)| used[*at] = true).is_some()
        }
        Some(Type::NOutOf(gate)) => {
            let mut count = 0;
            for rule in &gate.rules {
                let mut tried = used.clone();
                if holds(rule, rules, msps, identities, &mut tried) {
                    count += 1;
                    *used = tried;
                }
            }
            count >= gate.n
        }
    }
}

/// The identities whose signature is right, each once.
fn valid_identities(msps: &Msps, signatures: &[SignedData]) -> Vec<Identity> {
    let mut identities: Vec<Identity> = Vec::new();
    for signed in signatures {
        let checked = Identity::parse(&signed.identity).and_then(|identity| {
            let known = msps.contains_key(&identity.msp_id);
            known.then_some(()).ok_or_else(|| format!("MSP {} is unknown", identity.msp_id))?;
            identity.verify(&signed.data, &signed.signature)?;
            Ok(identity)
        });
        match checked {
            Ok(identity) if !identities.iter().any(|known| known.der == identity.der) => identities.push(identity),
            Ok(_) => tracing::debug!("a second signature of one identity does not count"),
            Err(reason) => tracing::debug!(reason, "a signature does not count"),
        }
    }
    identities
}
