//! What is asked: who wants to do what with which record, and why.
//!
//! Anything may be absent, and absent is never "any": for the record's data an absent field is unknown (an empty list is
//! known to be none), for actor, action and purpose an absent field satisfies no permit. Codes, labels and references are put
//! in order here, at the border, so that no spelling of a requester decides.

use std::collections::BTreeMap;

use serde_json::Value;

use super::code::{Code, RecordLabels};
use super::context::ProvisionContext;
use super::error::FieldError;
use super::json::At;
use super::reference::{Subject, may_name_somebody, reference_key};
use super::time::TimeRange;
use crate::vocabulary::code_systems::{ACT_REASON, CodedElement, RESEARCH_CODES};
use crate::vocabulary::{Identifier, ProvisionType};

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

/// Who asks, as the certificate says.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// Everything that a reference can name: id, MSP, role and groups.
    names: Vec<String>,
    /// MSP identifier.
    pub msp_id: Option<String>,
    /// Role.
    pub role: Option<Code>,
    /// Business identifiers.
    pub identifiers: Vec<Identifier>,
    /// Attributes of the certificate.
    pub attributes: BTreeMap<String, String>,
    /// Groups, as `Type/id`.
    groups: Vec<String>,
}

impl Requester {
    /// Whether the reference with this key names the requester. For a denial, a name without a type may be of any.
    pub fn is_named(&self, key: &str, effect: ProvisionType) -> bool {
        let id = |name: &str| name.rfind('/').map_or(0, |slash| slash + 1);
        let untyped = |name: &str| id(name) == 0 || id(key) == 0;
        let same_id = |name: &str| name[id(name)..] == key[id(key)..];
        let may_be = |name: &str| effect == ProvisionType::Deny && untyped(name) && same_id(name);
        self.names.iter().any(|name| name == key || may_be(name))
    }

    /// Whether the requester is a device.
    pub fn is_device(&self) -> bool {
        let in_role = self.role.as_ref().is_some_and(|role| role.code.eq_ignore_ascii_case("device"));
        in_role || self.names.iter().any(|name| name.starts_with("Device/"))
    }

    /// Whether the requester belongs to the group with this key.
    pub fn in_group(&self, key: &str) -> bool {
        self.groups.iter().any(|group| group == key)
    }
}

/// What is known of the record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The record itself.
    pub id: Option<Subject>,
    /// Kinds.
    pub class: Option<Vec<Code>>,
    /// Clinical codes.
    pub codes: Option<Vec<Code>>,
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

/// A reference to somebody. One that is written otherwise than FHIR has it would evade the denials of who is meant.
fn somebody<'a>(at: &At<'a>) -> Result<&'a str, FieldError> {
    let text = at.token()?;
    let message = "names nobody: write Type/id, of a type that FHIR has for those who act, or a name";
    if may_name_somebody(text) { Ok(text) } else { Err(at.error(message)) }
}

fn key(at: &At) -> Result<String, FieldError> {
    somebody(at).map(|text| reference_key(text).to_owned())
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
    let msp_id = text(at, "mspId")?;
    let role = at.get("role").map(|at| context.systems.parse(&at, CodedElement::Code)).transpose()?;
    let groups = each(at, "groups", key)?.unwrap_or_default();
    let mut names: Vec<String> = at.get("id").map(|at| key(&at)).transpose()?.into_iter().collect();
    names.extend(msp_id.iter().map(|msp_id| reference_key(msp_id).to_owned()));
    names.extend(role.iter().map(|role| reference_key(&role.code).to_owned()));
    names.extend(groups.iter().cloned());
    let identifiers = at.get("identifiers").map(|at| at.list()).transpose()?.unwrap_or_default();
    let identifiers = identifiers.iter().map(|at| identifier(at, context)).collect::<Result<_, _>>()?;
    let mut attributes = BTreeMap::new();
    if let Some(at) = at.get("attributes") {
        for name in at.object()?.keys() {
            if let Some(value) = text(&at, name)? {
                attributes.insert(name.clone(), value);
            }
        }
    }
    Ok(Some(Requester { names, msp_id, role, identifiers, attributes, groups }))
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
        class: codes(at, "class", CodedElement::Class, context)?,
        codes: codes(at, "codes", CodedElement::Code, context)?,
        labels: labels.map(|codes| RecordLabels::new(codes, &context.systems, context.confidentiality_required)),
        author: each(at, "author", |at| Ok(Author::new(somebody(at)?, context)))?,
        authored_on: written.transpose()?,
    })
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
        assert_eq!(request.resource.class, Some(vec![]));
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
