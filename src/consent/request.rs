//! What is asked: who wants to do what with which record, and why.
//!
//! Anything may be absent, and absent is never "any": for the record's data an absent field is unknown (an empty list is
//! known to be none), for actor, action and purpose an absent field satisfies no permit. Codes, labels and references are put
//! in order here, at the border, so that no spelling of a requester decides.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::actors::is_of_certificates;
use super::code::{Code, Codes, RecordLabels, in_any_case};
use super::context::ProvisionContext;
use super::error::FieldError;
use super::json::At;
use super::reference::{self, Subject, is_a_name, names_somebody, reference_key};
use super::time::TimeRange;
use crate::vocabulary::code_systems::{ACT_REASON, CodedElement, RESEARCH_CODES};
use crate::vocabulary::{Attribute, Coding, Identifier, ProvisionType};

/// A request for access.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The patient.
    pub patient: Option<Subject>,
    /// Who asks.
    pub actor: Option<Requester>,
    /// What is to be done.
    pub action: Option<Code>,
    /// Why.
    pub purpose: Option<Code>,
    /// Why the glass is broken; none if it is not, or no reason is given.
    pub justification: Option<String>,
    /// The record.
    pub resource: Record,
}

/// Who asks, as the certificate says. What is absent is unknown: no permit is for it, and a denial holds.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// `Type/id`.
    id: Option<String>,
    /// Everything that a reference can name: id, MSP, role and groups, in an order in which one is found fast.
    names: Vec<String>,
    /// MSP identifier.
    pub msp_id: Option<String>,
    /// Role: a word of certificates.
    pub role: Option<String>,
    /// Business identifiers.
    identifiers: Option<Vec<Identifier>>,
    /// Attributes of the certificate.
    attributes: Option<BTreeMap<String, String>>,
    /// Groups, as `Type/id`.
    groups: Option<Vec<String>>,
}

/// The id of a name, with or without a type.
fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The order of names: by id in any case, and of one id those without a type first.
fn by_name(one: &str, other: &str) -> Ordering {
    in_any_case(id_of(one), id_of(other)).then_with(|| (one.contains('/'), one).cmp(&(other.contains('/'), other)))
}

fn in_any_case_by_identifier(one: &Identifier, other: &Identifier) -> Ordering {
    in_any_case(&one.value, &other.value).then_with(|| in_any_case(&one.system, &other.system))
}

/// The order of identifiers, in which those that are the same in any case stand together.
fn by_identifier(one: &Identifier, other: &Identifier) -> Ordering {
    let exactly = || (&one.value, &one.system).cmp(&(&other.value, &other.system));
    in_any_case_by_identifier(one, other).then_with(exactly)
}

impl Requester {
    /// Whether the reference with this key names the requester. A name without a type is an MSP; for a denial it may be
    /// anything that the requester is called.
    pub fn is_named(&self, key: &str, effect: ProvisionType) -> bool {
        if effect == ProvisionType::Permit && !key.contains('/') {
            return self.msp_id.as_deref() == Some(key);
        }
        let id = id_of(key);
        let find = |order: &dyn Fn(&String) -> Ordering| self.names.binary_search_by(order).is_ok();
        let with_id = |name: &String| in_any_case(id_of(name), id);
        let may_be = || match key.contains('/') {
            true => find(&|name| with_id(name).then(name.contains('/').cmp(&false))),
            false => find(&with_id),
        };
        find(&|name| by_name(name, key)) || effect == ProvisionType::Deny && may_be()
    }

    /// Whether what is unknown of the requester may be what this name is of.
    pub fn is_perhaps_named(&self, key: &str) -> bool {
        let is_one = |kind: &str| self.id.as_ref().is_some_and(|id| id.split('/').next() == Some(kind));
        match key.split_once('/') {
            None => self.id.is_none() || self.msp_id.is_none(),
            // Whose certificate it is says the hospital, and no policy says that it is this one.
            Some(("Organization", _)) => self.groups.is_none() && self.msp_id.is_none() && !is_one("Organization"),
            Some((kind, _)) if reference::is_collective(kind) => self.groups.is_none() && !is_one(kind),
            Some(_) => self.id.is_none(),
        }
    }

    /// Whether the requester is of this MSP.
    pub fn is_of_msp(&self, msp_id: &str, effect: ProvisionType) -> bool {
        same(self.msp_id.as_deref(), msp_id, effect)
    }

    /// Whether the requester has this role.
    pub fn is_in_role(&self, role: &str, effect: ProvisionType) -> bool {
        same(self.role.as_deref(), role, effect)
    }

    /// Whether the requester has this identifier. The case of it makes no difference to a denial.
    pub fn has_identifier(&self, wanted: &Identifier, effect: ProvisionType) -> bool {
        let Some(identifiers) = &self.identifiers else { return effect == ProvisionType::Deny };
        let found = identifiers.binary_search_by(|held| match effect {
            ProvisionType::Permit => by_identifier(held, wanted),
            ProvisionType::Deny => in_any_case_by_identifier(held, wanted),
        });
        found.is_ok()
    }

    /// Whether the requester's certificate has this attribute.
    pub fn has_attribute(&self, wanted: &Attribute, effect: ProvisionType) -> bool {
        match &self.attributes {
            None => effect == ProvisionType::Deny,
            Some(attributes) => attributes.get(&wanted.name) == Some(&wanted.value),
        }
    }

    /// Whether the requester is a device.
    pub fn is_device(&self) -> bool {
        let in_role = self.role.as_ref().is_some_and(|role| role == "device");
        in_role || self.names.iter().any(|name| name.starts_with("Device/"))
    }

    /// Whether the requester belongs to the group with this key.
    pub fn in_group(&self, key: &str) -> bool {
        self.groups.iter().flatten().any(|group| group == key)
    }
}

/// Whether a fact is this one. To a denial the case of a name makes no difference, and what is unknown may be it.
fn same(known: Option<&str>, wanted: &str, effect: ProvisionType) -> bool {
    match effect {
        ProvisionType::Permit => known == Some(wanted),
        ProvisionType::Deny => known.is_none_or(|known| known.eq_ignore_ascii_case(wanted)),
    }
}

/// What is known of the record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The record itself.
    pub id: Option<Subject>,
    /// Kinds.
    pub class: Option<Codes>,
    /// Clinical codes.
    pub codes: Option<Codes>,
    /// Confidentiality and sensitivity.
    pub labels: Option<RecordLabels>,
    /// Who wrote it.
    pub author: Option<Vec<Author>>,
    /// When it was written.
    pub authored_on: Option<TimeRange>,
}

/// Who wrote a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// As the record names them: a name without a type is an MSP.
    pub named: Subject,
    /// The MSP, if that is known.
    pub msp_id: Option<String>,
}

impl Author {
    fn new(name: &str, context: &ProvisionContext) -> Self {
        let named = Subject::parse(name).unwrap_or_else(|| Subject::untyped(name));
        let untyped = (!named.has_type()).then(|| name.to_owned());
        let mapped = context.organizations.get(&named.key).filter(|_| !context.is_elsewhere(name)).cloned();
        Self { msp_id: mapped.or(untyped), named }
    }

    /// Whether the author may be an MSP or an organisation that is one.
    pub fn may_be_an_msp(&self) -> bool {
        !self.named.has_type() || self.named.key.starts_with("Organization/")
    }
}

impl Request {
    /// Reads a request as the policy with this context reads documents.
    pub fn parse(json: &Value, context: &ProvisionContext) -> Result<Self, FieldError> {
        let at = At::root(json, "request");
        at.only(&["patient", "actor", "action", "purpose", "breakGlass", "resource"])?;
        Ok(Self {
            patient: patient(&at)?,
            actor: at.get("actor").map(|actor| requester(&actor, context)).transpose()?.flatten(),
            action: one_code(&at, "action", CodedElement::Action, context)?,
            purpose: one_code(&at, "purpose", CodedElement::Purpose, context)?,
            justification: at.get("breakGlass").map(|at| justification(&at)).transpose()?.flatten(),
            resource: at.get("resource").map(|at| record(&at, context)).transpose()?.unwrap_or_default(),
        })
    }
}

/// Whether a purpose is research: `HRESCH` or one of its kinds (v3-ActReason).
pub fn is_research(purpose: &Code) -> bool {
    purpose.is_perhaps(ACT_REASON, RESEARCH_CODES)
}

fn text(at: &At, name: &str) -> Result<Option<String>, FieldError> {
    at.get(name).map(|at| at.token().map(str::to_owned)).transpose()
}

/// `Type/id` of somebody. One that is written otherwise than FHIR has it would evade the denials of who is meant.
fn key(at: &At) -> Result<String, FieldError> {
    let text = at.token()?;
    let message = "names nobody: write Type/id, of a type that FHIR has for those who act and with an id of letters, digits, `-` and `.`";
    if names_somebody(text) { Ok(reference_key(text).to_owned()) } else { Err(at.error(message)) }
}

/// Who wrote a record: `Type/id` of somebody, or an MSP.
fn author(at: &At, context: &ProvisionContext) -> Result<Author, FieldError> {
    let text = at.token()?;
    if is_a_name(text) { Ok(Author::new(text, context)) } else { key(at).map(|_| Author::new(text, context)) }
}

fn msp_id(at: &At) -> Result<String, FieldError> {
    let text = at.token()?;
    let message = "is no MSP identifier: write it as certificates are issued under it";
    if is_a_name(text) { Ok(text.to_owned()) } else { Err(at.error(message)) }
}

/// A role of certificates. Another spelling of it, or one of a code system, would evade its denials.
fn role(at: &At) -> Result<String, FieldError> {
    let message = "is no role of certificates: write a word of a-z, 0-9 and -";
    let role = Coding { code: at.token()?.to_owned(), ..Coding::default() };
    if is_of_certificates(&role) { Ok(role.code) } else { Err(at.error(message)) }
}

fn subject(at: &At, name: &str) -> Result<Option<Subject>, FieldError> {
    let Some(at) = at.get(name) else { return Ok(None) };
    let missing = || at.error("needs its type: write Type/id, for example Patient/17");
    Subject::parse(at.token()?).map(Some).ok_or_else(missing)
}

fn patient(at: &At) -> Result<Option<Subject>, FieldError> {
    match subject(at, "patient")? {
        Some(subject) if !subject.is_patient() => {
            Err(FieldError::new(format!("{}.patient", at.path), "must be of a patient: write Patient/id"))
        }
        subject => Ok(subject),
    }
}

/// One entry or a list of them, each read by `read`.
fn each<T>(at: &At, name: &str, read: impl Fn(&At) -> Result<T, FieldError>) -> Result<Option<Vec<T>>, FieldError> {
    entries(at, name)?.map(|entries| entries.iter().map(read).collect()).transpose()
}

fn codes(
    at: &At,
    name: &str,
    element: CodedElement,
    context: &ProvisionContext,
) -> Result<Option<Vec<Code>>, FieldError> {
    each(at, name, |at| context.systems.parse(at, element))
}

fn entries<'a>(at: &At<'a>, name: &str) -> Result<Option<Vec<At<'a>>>, FieldError> {
    at.get(name).map(|at| if at.value.is_array() { at.list() } else { Ok(vec![at]) }).transpose()
}

/// Exactly one code: a request for two purposes would be permitted by a consent to either.
fn one_code(
    at: &At,
    name: &str,
    element: CodedElement,
    context: &ProvisionContext,
) -> Result<Option<Code>, FieldError> {
    let Some(at) = at.get(name) else { return Ok(None) };
    if !at.value.is_array() {
        return context.systems.parse(&at, element).map(Some);
    }
    match at.list()?.as_slice() {
        [one] => context.systems.parse(one, element).map(Some),
        _ => Err(at.error(format_args!("a request has one {name}: ask once for each"))),
    }
}

fn requester(at: &At, context: &ProvisionContext) -> Result<Option<Requester>, FieldError> {
    at.only(&["id", "mspId", "role", "groups", "identifiers", "attributes"])?;
    if at.object()?.is_empty() {
        return Ok(None);
    }
    let read_identifier = |at: &At| identifier(at, context);
    let (id, msp_id) =
        (at.get("id").map(|at| key(&at)).transpose()?, at.get("mspId").map(|at| msp_id(&at)).transpose()?);
    let role = at.get("role").map(|at| role(&at)).transpose()?;
    let groups = each(at, "groups", key)?;
    let mut names: Vec<String> = [&id, &msp_id, &role].into_iter().flatten().cloned().collect();
    names.extend(groups.iter().flatten().cloned());
    names.sort_by(|one, other| by_name(one, other));
    let mut identifiers = each(at, "identifiers", read_identifier)?;
    identifiers.iter_mut().for_each(|list| list.sort_by(by_identifier));
    let attributes = at.get("attributes").map(|at| attributes(&at)).transpose()?;
    Ok(Some(Requester { id, names, msp_id, role, identifiers, attributes, groups }))
}

fn attributes(at: &At) -> Result<BTreeMap<String, String>, FieldError> {
    let names = at.object()?.keys();
    let stated = names.map(|name| Ok(text(at, name)?.map(|value| (name.clone(), value))));
    Ok(stated.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn identifier(at: &At, context: &ProvisionContext) -> Result<Identifier, FieldError> {
    at.only(&["system", "value"])?;
    let part = |name: &str| text(at, name)?.ok_or_else(|| at.error(format_args!("needs a {name}")));
    Ok(context.systems.identifier(&Identifier { system: part("system")?, value: part("value")? }))
}

fn justification(at: &At) -> Result<Option<String>, FieldError> {
    at.only(&["justification"])?;
    let Some(at) = at.get("justification") else { return Ok(None) };
    let text = at.value.as_str().ok_or_else(|| at.error("must be a text"))?;
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

fn record(at: &At, context: &ProvisionContext) -> Result<Record, FieldError> {
    at.only(&["id", "class", "codes", "securityLabels", "author", "authoredOn"])?;
    let written =
        at.get("authoredOn").map(|at| TimeRange::parse(at.text()?, &context.zone).map_err(|message| at.error(message)));
    let labels = codes(at, "securityLabels", CodedElement::SecurityLabel, context)?;
    Ok(Record {
        id: subject(at, "id")?,
        class: codes(at, "class", CodedElement::Class, context)?.map(Codes::new),
        codes: codes(at, "codes", CodedElement::Code, context)?.map(Codes::new),
        labels: labels.map(|codes| RecordLabels::new(codes, &context.systems, context.confidentiality_required)),
        author: authors(at, context)?,
        authored_on: written.transpose()?,
    })
}

/// Every author is compared with every one that a consent names.
const MAX_AUTHORS: usize = 64;

fn authors(at: &At, context: &ProvisionContext) -> Result<Option<Vec<Author>>, FieldError> {
    let authors = each(at, "author", |at| author(at, context))?;
    let many = authors.as_ref().is_some_and(|authors| authors.len() > MAX_AUTHORS);
    let message = format!("has more than {MAX_AUTHORS} entries");
    if many { Err(FieldError::new(format!("{}.author", at.path), message)) } else { Ok(authors) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: Value) -> Result<Request, FieldError> {
        Request::parse(&json, &ProvisionContext::default())
    }

    #[test]
    fn absent_is_unknown_and_empty_is_none() {
        let request = parse(json!({"resource": {"class": [], "securityLabels": null}})).expect("request");
        assert_eq!(request.resource.class, Some(Codes::default()));
        assert_eq!(request.resource.labels, None);
        assert!(request.actor.is_none() && request.purpose.is_none());
        assert!(parse(json!({"actor": {}})).expect("request").actor.is_none());
    }

    #[test]
    fn names_the_wrong_field() {
        let cases = [
            (json!({"purpose": ["TREAT", "HRESCH"]}), "request.purpose"),
            (json!({"purpose": []}), "request.purpose"),
            (json!({"action": ["use", "access"]}), "request.action"),
            (json!({"purpose": 7}), "request.purpose"),
            (json!({"purpose": {"system": "urn:x"}}), "request.purpose"),
            (json!({"actor": {"attributes": {"ehr.breakglass": true}}}), "request.actor.attributes.ehr.breakglass"),
            (json!({"actor": {"identifiers": [{"system": "urn:x"}]}}), "request.actor.identifiers[0]"),
            (json!({"resource": {"authoredOn": "yesterday"}}), "request.resource.authoredOn"),
            (json!({"resource": {"securityLabels": ["N", 1]}}), "request.resource.securityLabels[1]"),
            (json!({"resource": {"securityLabel": []}}), "request.resource.securityLabel"),
            (json!({"patient": "17"}), "request.patient"),
            (json!({"patient": "urn:uuid:7b0c"}), "request.patient"),
            (json!({"resource": {"id": "17"}}), "request.resource.id"),
            (json!({"purpose": "TREAT\u{200b}"}), "request.purpose"),
            (json!({"resource": {"securityLabels": ["R "]}}), "request.resource.securityLabels[0]"),
            (json!({"breakGlass": {"justification": 1}}), "request.breakGlass.justification"),
            (json!([]), "request"),
        ];
        for (json, field) in cases {
            assert_eq!(parse(json.clone()).expect_err(&json.to_string()).field, field);
        }
    }
}
