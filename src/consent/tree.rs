//! The tree that is evaluated: every node has a type, and every element of its ancestors that it does not state itself.
//!
//! Both a patient's Consent and a ConsentPolicy come as [`api::Provision`]; [`build`] is the only way to a [`Node`]. The
//! trap is inheritance: `securityLabel` is one element, so a child that states labels replaces all of them, and labels
//! keep the polarity (ceiling or floor) of the provision that stated them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::code::{Code, Labels, reference_key};
use super::error::FieldError;
use super::time::Period;
use crate::vocabulary::{self as api, Coding, FhirVersion, Identifier, MAX_DEPTH, Provision, ProvisionType};

/// Provisions that one tree may have: a bound on the work of a decision.
pub const MAX_PROVISIONS: usize = 4_096;

/// A provision, ready to be matched.
#[derive(Clone, Debug)]
pub struct Node {
    /// Permit or deny.
    pub effect: ProvisionType,
    /// Where it stands, for example `provision.provision[0]`.
    pub path: String,
    /// What must match.
    pub elements: Elements,
    /// Nested provisions.
    pub children: Vec<Node>,
    /// SHA-256 of what it says with all below it, whatever the order of lists: where an order has to be chosen, this one
    /// does not depend on how the consent was written.
    pub key: [u8; 32],
}

/// What must match; an element that is absent matches everything.
#[derive(Clone, Debug, Default)]
pub struct Elements {
    /// When the rule holds.
    pub period: Option<Arc<Period>>,
    /// Why.
    pub purpose: Option<Arc<[Code]>>,
    /// Who.
    pub actor: Option<Arc<[ActorRule]>>,
    /// What is done.
    pub action: Option<Arc<[Code]>>,
    /// Labels of the record.
    pub labels: Option<Arc<Labels>>,
    /// Kind of record.
    pub class: Option<Arc<[Code]>>,
    /// Content of the record.
    pub code: Option<Arc<[Code]>>,
    /// When the record was written.
    pub data_period: Option<Arc<Period>>,
    /// Named records.
    pub data: Option<Arc<[DataRule]>>,
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorRule {
    /// How the actor is named.
    pub who: Who,
    /// A role in the certificate that is asked for besides.
    pub role: Option<Code>,
}

/// How an actor is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By reference; and by the MSP that the policy says it is.
    Reference {
        /// `Type/id`.
        key: String,
        /// MSP identifier.
        msp_id: Option<String>,
    },
    /// By business identifier.
    Identifier(Identifier),
    /// By MSP.
    Msp(String),
    /// By an attribute of the certificate.
    Attribute(api::Attribute),
    /// By role alone.
    AnyoneInRole,
}

/// A named record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRule {
    /// How it is meant.
    pub meaning: api::DataMeaning,
    /// `Type/id`.
    pub key: String,
    /// MSP that the referenced organisation is.
    pub msp_id: Option<String>,
    /// As the consent wrote it.
    pub reference: String,
}

/// What the policy says that provisions are read with.
#[derive(Clone, Debug)]
pub struct ProvisionContext {
    /// Time zone of days.
    pub zone: TimeZone,
    /// MSP identifiers by organisation, as `Type/id`.
    pub organizations: BTreeMap<String, String>,
}

impl Default for ProvisionContext {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, organizations: BTreeMap::new() }
    }
}

/// Gives every nested provision its type: under R4 it must have one, under R5 it is the opposite of the level above.
pub fn give_types(
    root: &mut Provision,
    effect: ProvisionType,
    version: FhirVersion,
    prefix: &str,
) -> Result<(), FieldError> {
    root.type_ = Some(effect);
    root.decision = None;
    for (i, child) in root.provision.iter_mut().enumerate() {
        let path = below(prefix, i);
        let effect = match (version, child.type_, effect) {
            (FhirVersion::R5, _, ProvisionType::Permit) => ProvisionType::Deny,
            (FhirVersion::R5, _, ProvisionType::Deny) => ProvisionType::Permit,
            (FhirVersion::R4, Some(effect), _) => effect,
            (FhirVersion::R4, None, _) => {
                return Err(FieldError::new(
                    format!("{path}.type"),
                    "a nested provision needs a type under R4: permit or deny",
                ));
            }
        };
        give_types(child, effect, version, &path)?;
    }
    Ok(())
}

/// The path of the `i`th provision below `prefix`.
pub fn below(prefix: &str, i: usize) -> String {
    if prefix.is_empty() { format!("provision[{i}]") } else { format!("{prefix}.provision[{i}]") }
}

/// Refuses a tree that is too deep or has too many provisions.
pub fn check_size(root: &Provision, prefix: &str) -> Result<(), FieldError> {
    fn count(provision: &Provision, prefix: &str, depth: usize) -> Result<usize, FieldError> {
        if depth > MAX_DEPTH {
            return Err(FieldError::new(
                prefix,
                format_args!("too deep: at most {MAX_DEPTH} levels of provisions below the root"),
            ));
        }
        let children = provision.provision.iter().enumerate();
        children.map(|(i, child)| count(child, &below(prefix, i), depth + 1)).sum::<Result<usize, _>>().map(|n| n + 1)
    }
    match count(root, prefix, 0)? {
        n if n > MAX_PROVISIONS => {
            Err(FieldError::new(prefix, format_args!("has {n} provisions, at most {MAX_PROVISIONS} are allowed")))
        }
        _ => Ok(()),
    }
}

/// The node of a provision whose types are given, with all below it. `path` names the node itself, `prefix` what the
/// paths of its children start with.
pub fn build(
    provision: &Provision,
    path: &str,
    prefix: &str,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) -> Node {
    build_below(provision, path, prefix, &Elements::default(), context, errors)
}

fn build_below(
    provision: &Provision,
    path: &str,
    prefix: &str,
    inherited: &Elements,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) -> Node {
    let effect = provision.type_.unwrap_or(ProvisionType::Deny);
    let mut period = |text: &Option<api::Period>, name: &str| {
        let parsed =
            text.as_ref().map(|text| Period::parse(text, &format!("{prefix}.{name}"), &context.zone)).transpose();
        parsed.map_err(|error| errors.push(error)).ok().flatten().map(Arc::new)
    };
    let own = Elements {
        period: period(&provision.period, "period"),
        data_period: period(&provision.data_period, "dataPeriod"),
        purpose: codes(&provision.purpose),
        actor: list(provision.actor.iter().flat_map(|actor| actor_rules(actor, context)).collect()),
        action: codes(&provision.action),
        labels: (!provision.security_label.is_empty())
            .then(|| Arc::new(Labels::new(provision.security_label.iter().map(Code::from).collect(), effect))),
        class: codes(&provision.class),
        code: codes(&provision.code),
        data: list(provision.data.iter().map(|data| data_rule(data, context)).collect()),
    };
    let elements = own.or(inherited);
    let children = provision.provision.iter().enumerate();
    let children: Vec<Node> = children
        .map(|(i, child)| {
            let path = below(prefix, i);
            build_below(child, &path, &path, &elements, context, errors)
        })
        .collect();
    Node { effect, path: path.to_owned(), elements, key: key(provision, &children), children }
}

fn key(provision: &Provision, children: &[Node]) -> [u8; 32] {
    let Provision { type_, period, purpose, actor, action, security_label, class, code, data_period, data, .. } =
        provision;
    let own = json!([type_, period, purpose, actor, action, security_label, class, code, data_period, data]);
    let mut digest = Sha256::new();
    for element in own.as_array().into_iter().flatten() {
        let mut entries: Vec<String> = match element {
            Value::Array(entries) => entries.iter().map(Value::to_string).collect(),
            other => vec![other.to_string()],
        };
        entries.sort_unstable();
        digest.update(format!("{entries:?}"));
    }
    let mut below: Vec<&[u8; 32]> = children.iter().map(|child| &child.key).collect();
    below.sort_unstable();
    below.into_iter().for_each(|key| digest.update(key));
    digest.finalize().into()
}

impl Elements {
    /// These elements, and those of `inherited` that are not among them.
    fn or(self, inherited: &Self) -> Self {
        Self {
            period: self.period.or_else(|| inherited.period.clone()),
            purpose: self.purpose.or_else(|| inherited.purpose.clone()),
            actor: self.actor.or_else(|| inherited.actor.clone()),
            action: self.action.or_else(|| inherited.action.clone()),
            labels: self.labels.or_else(|| inherited.labels.clone()),
            class: self.class.or_else(|| inherited.class.clone()),
            code: self.code.or_else(|| inherited.code.clone()),
            data_period: self.data_period.or_else(|| inherited.data_period.clone()),
            data: self.data.or_else(|| inherited.data.clone()),
        }
    }
}

fn list<T>(entries: Vec<T>) -> Option<Arc<[T]>> {
    (!entries.is_empty()).then(|| entries.into())
}

fn codes(codings: &[Coding]) -> Option<Arc<[Code]>> {
    list(codings.iter().map(Code::from).collect())
}

/// Where an actor is named in more than one way, any of them is enough.
fn actor_rules(actor: &api::Actor, context: &ProvisionContext) -> Vec<ActorRule> {
    let described = |who| ActorRule { who, role: None };
    let required = |who| ActorRule { who, role: actor.role.as_ref().map(Code::from) };
    let mut rules = Vec::new();
    if let Some(reference) = &actor.reference {
        let key = reference_key(reference).to_owned();
        let msp_id = context.organizations.get(&key).cloned();
        rules.push(described(Who::Reference { key, msp_id }));
    }
    rules.extend(actor.identifier.clone().map(|identifier| described(Who::Identifier(identifier))));
    rules.extend(actor.msp_id.clone().map(|msp_id| required(Who::Msp(msp_id))));
    rules.extend(actor.attr.clone().map(|attribute| required(Who::Attribute(attribute))));
    if rules.is_empty() {
        rules.push(required(Who::AnyoneInRole));
    }
    rules
}

fn data_rule(data: &api::DataReference, context: &ProvisionContext) -> DataRule {
    let key = reference_key(&data.reference).to_owned();
    let msp_id = context.organizations.get(&key).cloned();
    DataRule { meaning: data.meaning, key, msp_id, reference: data.reference.clone() }
}
