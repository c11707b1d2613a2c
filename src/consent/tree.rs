//! The tree that is evaluated: every node has a type, and every element of its ancestors that it does not state itself.
//!
//! Both a patient's Consent and a ConsentPolicy come as [`Placed`] provisions; [`build`] is the only way to a [`Node`]. The
//! trap is inheritance: `securityLabel` is one element, so a child that states labels replaces all of them, and labels
//! keep the polarity (ceiling or floor) of the provision that stated them. `actor` is two: who receives, and whose data it is.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::code::{Code, Labels};
use super::context::ProvisionContext;
use super::denials;
use super::error::FieldError;
use super::placed::Placed;
use super::reference::{self, Subject, names_an_actor, reference_key};
use super::time::Period;
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{
    self as api, Actor, Coding, FhirVersion, Identifier, MAX_DEPTH, Part, Provision, ProvisionType,
};

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

/// What must match; an element that is absent matches everything, and an empty list matches nothing.
#[derive(Clone, Debug, Default)]
pub struct Elements {
    /// When the rule holds.
    pub period: Option<Arc<Period>>,
    /// Why.
    pub purpose: Option<Arc<[Code]>>,
    /// Who asks.
    pub actor: Option<Arc<[ActorRule]>>,
    /// Who is permitted at all by the document; of no account to a denial.
    pub grantee: Option<Arc<[ActorRule]>>,
    /// What is done.
    pub action: Option<Arc<[Code]>>,
    /// Labels of the record.
    pub labels: Option<Arc<Labels>>,
    /// Kind of record.
    pub class: Option<Arc<[Code]>>,
    /// Kind of document.
    pub document_type: Option<Arc<[Code]>>,
    /// Content of the record.
    pub code: Option<Arc<[Code]>>,
    /// When the record was written.
    pub data_period: Option<Arc<Period>>,
    /// Named records.
    pub data: Option<Arc<[DataRule]>>,
    /// Whose data it is: custodians and authors among the actors.
    pub author: Option<Arc<[DataRule]>>,
    /// Why a permit is for no record, whatever the other elements are; of no account to a denial.
    pub nothing: Option<Arc<FieldError>>,
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
    /// In a way that cannot be compared, or as somebody who receives nothing.
    Nobody(Box<FieldError>),
}

/// A named record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRule {
    /// How it is meant.
    pub meaning: api::DataMeaning,
    /// The record, or who wrote it; why not where it cannot be compared.
    pub target: Result<Subject, Box<FieldError>>,
    /// MSP that the referenced organisation is.
    pub msp_id: Option<String>,
    /// Whether it is who keeps the record, of which an author who is a person says nothing.
    pub keeps: bool,
    /// As the consent wrote it.
    pub reference: String,
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
        if version == FhirVersion::R5 && says_nothing(child) {
            return Err(FieldError::new(path, "must not be empty: an exception says what it is about"));
        }
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

/// Whether a provision has no element of its own: as an exception it would be all that there is.
fn says_nothing(provision: &Provision) -> bool {
    let Provision {
        period, purpose, actor, action, security_label, class, document_type, code, data_period, data, ..
    } = provision;
    let codings = [purpose, action, security_label, class, document_type, code];
    let named = actor.is_empty() && data.is_empty();
    period.is_none() && data_period.is_none() && named && codings.iter().all(|codings| codings.is_empty())
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

/// The node of a provision whose types are given, with all below it. Only a grantee, if there are any, is permitted at all.
pub fn build(
    placed: &Placed,
    grantee: Option<&[Actor]>,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) -> Node {
    let builder = Builder { context, effect: ProvisionType::Permit, placed };
    let grantee =
        grantee.map(|actors| actors.iter().enumerate().flat_map(|(i, actor)| builder.actor(i, actor)).collect());
    let elements = Elements { grantee, ..Elements::default() };
    build_below(placed, &Inherited { narrow: elements.clone(), wide: elements }, context, errors)
}

/// What nested provisions inherit. A denial with actors of its own inherits none of either kind, and neither do denials below
/// it; a permit inherits the kind that nothing on the way to it states.
struct Inherited {
    narrow: Elements,
    wide: Elements,
}

impl Inherited {
    fn with(&self, own: &Elements) -> Self {
        let mut wide = own.clone().or(&self.wide);
        if own.actor.is_some() || own.author.is_some() {
            (wide.actor, wide.author) = (own.actor.clone(), own.author.clone());
        }
        Self { narrow: own.clone().or(&self.narrow), wide }
    }
}

fn build_below(placed: &Placed, above: &Inherited, context: &ProvisionContext, errors: &mut Vec<FieldError>) -> Node {
    let effect = placed.own.type_.unwrap_or(ProvisionType::Deny);
    let own = Builder { context, effect, placed }.elements(errors);
    denials::refuse(placed, &own, context, errors);
    let inherited = above.with(&own);
    let children: Vec<Node> =
        placed.children.iter().map(|child| build_below(child, &inherited, context, errors)).collect();
    let elements = if effect == ProvisionType::Deny { inherited.wide } else { inherited.narrow };
    Node { effect, path: placed.path.clone(), elements, key: key(&placed.own, &children), children }
}

/// An element that is a list.
pub type List<T> = Option<Arc<[T]>>;

/// Makes the elements of one provision.
struct Builder<'b> {
    context: &'b ProvisionContext,
    effect: ProvisionType,
    placed: &'b Placed,
}

impl Builder<'_> {
    fn elements(&self, errors: &mut Vec<FieldError>) -> Elements {
        let own = &self.placed.own;
        let (actor, author) = self.actors(&own.actor);
        Elements {
            period: self.period(&own.period, "period", errors),
            data_period: self.period(&own.data_period, "dataPeriod", errors),
            purpose: self.codes(&own.purpose, CodedElement::Purpose),
            actor,
            grantee: None,
            action: self.codes(&own.action, CodedElement::Action),
            labels: self.labels(&own.security_label),
            class: self.codes(&own.class, CodedElement::Class),
            document_type: self.codes(&own.document_type, CodedElement::Class),
            code: self.codes(&own.code, CodedElement::Code),
            data: list(own.data.iter().enumerate().map(|(i, data)| self.data(i, data)).collect()),
            author,
            nothing: self.placed.nothing.clone().map(Arc::new),
        }
    }

    fn period(&self, text: &Option<api::Period>, name: &str, errors: &mut Vec<FieldError>) -> Option<Arc<Period>> {
        let field = self.placed.error(name, "").field;
        let parsed = text.as_ref().map(|text| Period::parse(text, &field, &self.context.zone)).transpose();
        parsed.map_err(|error| errors.push(error)).ok().flatten().map(Arc::new)
    }

    fn codes(&self, codings: &[Coding], element: CodedElement) -> Option<Arc<[Code]>> {
        list(codings.iter().map(|coding| self.context.systems.code(coding, element)).collect())
    }

    fn labels(&self, codings: &[Coding]) -> Option<Arc<Labels>> {
        let label = |coding| self.context.systems.code(coding, CodedElement::SecurityLabel);
        let codes: Vec<Code> = codings.iter().map(label).collect();
        (!codes.is_empty()).then(|| Arc::new(Labels::new(codes, self.effect)))
    }

    /// Who receives, and whose data it is.
    fn actors(&self, actors: &[Actor]) -> (List<ActorRule>, List<DataRule>) {
        let (mut who, mut whose) = (Vec::new(), Vec::new());
        for (i, actor) in actors.iter().enumerate() {
            match actor.part {
                Part::Custodian | Part::Author => whose.extend(self.author(i, actor)),
                Part::Recipient => who.extend(self.actor(i, actor)),
                Part::Bystander => {
                    let message = "takes part in the document only, so nothing can be given to it or withheld from it";
                    who.push(self.no_actor(i, "role", message));
                }
            }
            who.extend(actor.doubt.map(|doubt| self.no_actor(i, doubt.element, doubt.why)));
            who.extend(self.nobody_with_a_certificate(i, actor));
        }
        (list(who), list(whose))
    }

    /// Where an actor is named in more than one way, any of them is enough.
    fn actor(&self, i: usize, actor: &Actor) -> Vec<ActorRule> {
        let required = |who| ActorRule { who, role: actor.role.as_ref().map(Code::from) };
        // A role of certificates beside a name narrows a permit, and would narrow a denial.
        let narrows = |role: &&Coding| self.effect == ProvisionType::Permit && super::actors::is_of_certificates(role);
        let described = |who| ActorRule { who, role: actor.role.as_ref().filter(narrows).map(Code::from) };
        let mut rules = Vec::new();
        rules.extend(actor.reference.as_ref().map(|reference| described(self.by_reference(i, reference))));
        rules.extend(actor.identifier.as_ref().map(|identifier| described(self.by_identifier(i, identifier))));
        rules.extend(actor.msp_id.clone().map(|msp_id| required(Who::Msp(msp_id))));
        rules.extend(actor.attr.clone().map(|attribute| required(Who::Attribute(attribute))));
        if rules.is_empty() {
            rules.push(required(Who::AnyoneInRole));
        }
        rules
    }

    fn by_reference(&self, i: usize, reference: &str) -> Who {
        let key = reference_key(reference).to_owned();
        let msp_id = self.context.organizations.get(&key).cloned();
        let field = || format!("actor[{i}].reference");
        if !names_an_actor(reference) {
            Who::Nobody(self.nobody(&field(), CANNOT_BE_COMPARED))
        } else if self.context.is_elsewhere(reference) {
            Who::Nobody(self.nobody(&field(), IS_ELSEWHERE))
        } else if msp_id.is_none() && key.starts_with("Organization/") && self.context.certified_identifiers.is_some() {
            let message = "is an organisation of which nobody's certificate tells: let the ConsentPolicy say in organizations \
                           which MSP it is";
            Who::Nobody(self.nobody(&field(), message))
        } else {
            Who::Reference { key, msp_id }
        }
    }

    /// Why an actor is nobody to a denial whom a permit may name as a group: certificates know people, and few their teams.
    fn nobody_with_a_certificate(&self, i: usize, actor: &Actor) -> Option<ActorRule> {
        let kind = actor.reference.as_deref().and_then(|reference| reference_key(reference).split('/').next());
        let unknown = self.context.certified_identifiers.is_some() && actor.part == Part::Recipient;
        let message =
            "is of a type of which nobody's certificate tells: name the people, their group, hospital or role";
        (unknown && kind.is_some_and(reference::has_no_certificate)).then(|| self.no_actor(i, "reference", message))
    }

    fn by_identifier(&self, i: usize, identifier: &Identifier) -> Who {
        match self.context.certified_identifiers {
            Some(certified) if !identifier.system.starts_with(certified) => {
                let message = "is of a system of which nobody's certificate tells, so it names nobody who asks";
                Who::Nobody(self.nobody(&format!("actor[{i}].reference.identifier"), message))
            }
            _ => Who::Identifier(self.context.systems.identifier(identifier)),
        }
    }

    /// The data of an actor. A record says who wrote it by reference or MSP, never by identifier.
    fn author(&self, i: usize, actor: &Actor) -> Vec<DataRule> {
        let field = format!("actor[{i}].reference");
        let rule = |reference: &String, target| DataRule {
            meaning: api::DataMeaning::Authoredby,
            target,
            msp_id: self.context.organizations.get(reference_key(reference)).cloned(),
            keeps: actor.part == Part::Custodian,
            reference: reference.clone(),
        };
        let by_reference = actor.reference.iter().map(|reference| rule(reference, self.target(reference, &field)));
        let by_msp = actor
            .msp_id
            .iter()
            .map(|msp_id| DataRule { msp_id: Some(msp_id.clone()), ..rule(msp_id, Ok(Subject::untyped(msp_id))) });
        let named: Vec<DataRule> = by_reference.chain(by_msp).collect();
        if named.is_empty() { vec![rule(&String::new(), Err(self.nobody(&field, CANNOT_BE_COMPARED)))] } else { named }
    }

    fn data(&self, i: usize, data: &api::DataReference) -> DataRule {
        let key = reference_key(&data.reference);
        DataRule {
            meaning: data.meaning,
            target: self.target(&data.reference, &format!("data[{i}].reference")),
            msp_id: self.context.organizations.get(key).cloned(),
            keeps: false,
            reference: data.reference.clone(),
        }
    }

    fn target(&self, reference: &str, field: &str) -> Result<Subject, Box<FieldError>> {
        let elsewhere = self.context.is_elsewhere(reference);
        let message = if elsewhere { IS_ELSEWHERE } else { CANNOT_BE_COMPARED };
        reference::record(reference).filter(|_| !elsewhere).ok_or_else(|| self.nobody(field, message))
    }

    fn no_actor(&self, i: usize, element: &str, message: &str) -> ActorRule {
        ActorRule { who: Who::Nobody(self.nobody(&format!("actor[{i}].{element}"), message)), role: None }
    }

    fn nobody(&self, element: &str, message: &str) -> Box<FieldError> {
        Box::new(self.placed.error(element, message))
    }
}

/// Why a reference names nobody.
const CANNOT_BE_COMPARED: &str = "cannot be compared with who asks or with a record: a denial needs Type/id of a type that FHIR has, \
                                  or an identifier of an actor";

/// Why an organisation is not the one whose MSP is known.
const IS_ELSEWHERE: &str = "is on another server than the organisation of this id that the ConsentPolicy maps to an MSP: map this one in \
                            organizations as well";

fn key(provision: &Provision, children: &[Node]) -> [u8; 32] {
    let Provision {
        type_,
        period,
        purpose,
        actor,
        action,
        security_label,
        class,
        document_type,
        code,
        data_period,
        data,
        ..
    } = provision;
    let actor: Vec<Value> = actor.iter().map(|actor| json!([actor, actor.part])).collect();
    let own =
        json!([type_, period, purpose, actor, action, security_label, class, document_type, code, data_period, data]);
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
            grantee: self.grantee.or_else(|| inherited.grantee.clone()),
            action: self.action.or_else(|| inherited.action.clone()),
            labels: self.labels.or_else(|| inherited.labels.clone()),
            class: self.class.or_else(|| inherited.class.clone()),
            document_type: self.document_type.or_else(|| inherited.document_type.clone()),
            code: self.code.or_else(|| inherited.code.clone()),
            data_period: self.data_period.or_else(|| inherited.data_period.clone()),
            data: self.data.or_else(|| inherited.data.clone()),
            author: self.author.or_else(|| inherited.author.clone()),
            nothing: self.nothing.or_else(|| inherited.nothing.clone()),
        }
    }

    /// What names nobody and no record, also where it was inherited.
    pub fn incomparable(&self) -> impl Iterator<Item = &FieldError> {
        denials::nobody(&self.actor).chain(denials::no_record(&self.data)).chain(denials::no_record(&self.author))
    }
}

fn list<T>(entries: Vec<T>) -> List<T> {
    (!entries.is_empty()).then(|| entries.into())
}
