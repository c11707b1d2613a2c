//! FHIR Consent resources, R4 and R5, in and out.
//!
//! R4 has one root provision and gives every nested one a type; R5 has a base decision and nests exceptions. Both become
//! a typed tree. What this project does not evaluate is refused where FHIR does not say that it may be ignored: a
//! restriction that is skipped is a permission. The trap is `[]`: an empty list is no valid FHIR, and must never be read
//! as "anything".

use jiff::Timestamp;
use serde_json::Value;

use super::code::reference_key;
use super::error::FieldError;
use super::json::At;
use super::policy::digest;
use super::time::{Period, TimeRange};
use super::tree::{Node, ProvisionContext, build, check_size, give_types};
use crate::vocabulary::code_systems::{ACT_CODE, PARTICIPATION_TYPE};
use crate::vocabulary::{
    self as api, Actor, Coding, ConsentScope, DataMeaning, DataReference, FhirVersion, Identifier, Provision,
    ProvisionType,
};

/// Levels at which reading stops: far more than are allowed, so that "too deep" is said by [`check_size`].
const READ_DEPTH: usize = 2 * api::MAX_DEPTH;

/// Elements that say nothing about who may do what, or that FHIR allows to be ignored.
const ADMINISTRATIVE: &[&str] = &[
    "id",
    "meta",
    "language",
    "text",
    "contained",
    "extension",
    "identifier",
    "performer",
    "organization",
    "grantor",
    "grantee",
    "manager",
    "controller",
    "source",
    "sourceAttachment",
    "sourceReference",
    "policy",
    "regulatoryBasis",
    "policyBasis",
    "policyText",
    "verification",
];
const CONSENT: &[&str] = &[
    "resourceType",
    "status",
    "scope",
    "category",
    "patient",
    "subject",
    "dateTime",
    "date",
    "period",
    "policyRule",
    "decision",
    "provision",
];
const PROVISION: &[&str] = &[
    "id",
    "extension",
    "type",
    "period",
    "actor",
    "action",
    "securityLabel",
    "purpose",
    "class",
    "documentType",
    "resourceType",
    "code",
    "dataPeriod",
    "data",
    "provision",
];
const STATUS: &[&str] =
    &["draft", "proposed", "active", "rejected", "inactive", "not-done", "entered-in-error", "unknown"];

/// A patient's consent.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Whether its status is active.
    pub active: bool,
    /// `Type/id` of the patient.
    pub patient: Option<String>,
    /// Codes of its scope.
    pub scope: Vec<Coding>,
    /// Codes of its categories.
    pub category: Vec<Coding>,
    /// When it was given.
    pub date: Option<Timestamp>,
    /// When the consent as a whole holds (R5).
    pub period: Option<Period>,
    /// Its provisions, each with a type, as written.
    pub provision: Provision,
    /// Its provisions, ready to be evaluated.
    pub root: Node,
    /// SHA-256 of the resource in canonical JSON (RFC 8785), lower-case hexadecimal.
    pub digest: String,
}

impl Consent {
    /// Whether its scope, or one of its categories, is this one.
    pub fn is_about(&self, scope: ConsentScope) -> bool {
        self.scope.iter().chain(&self.category).any(|coding| coding.code == scope.code())
    }
}

/// Reads a Consent resource; in the dialect that its shape shows unless one is given.
pub fn read(
    json: &Value,
    dialect: Option<FhirVersion>,
    context: &ProvisionContext,
) -> Result<Consent, Vec<FieldError>> {
    let at = At::root(json, "Consent");
    let (provision, frame) = read_tree(&at, dialect).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let root = build(&provision, frame.root, frame.prefix, context, &mut errors);
    errors.iter_mut().for_each(|error| error.field.insert_str(0, "Consent."));
    let consent = read_rest(&at, context, provision, root).map_err(|error| errors.push(error));
    consent.ok().filter(|_| errors.is_empty()).ok_or(errors)
}

/// A Consent resource without everything that does not decide, about the patient that `patient` refers to: what others
/// need to decide from it, and no more. [`read`] gives the same rules and paths for it.
pub fn essential(json: &Value, patient: &str) -> Value {
    let members = json.as_object().into_iter().flatten();
    let mut essential: serde_json::Map<String, Value> = members
        .filter(|(name, value)| CONSENT.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let name = if essential.contains_key("subject") { "subject" } else { "patient" };
    essential.insert(name.into(), serde_json::json!({"reference": patient}));
    Value::Object(essential)
}

/// How the paths of a resource begin.
struct Frame {
    /// The root's own path.
    root: &'static str,
    /// What the paths of its children begin with.
    prefix: &'static str,
}

/// The provisions, each with its type.
fn read_tree(at: &At, dialect: Option<FhirVersion>) -> Result<(Provision, Frame), FieldError> {
    if at.object()?.get("resourceType").and_then(Value::as_str) != Some("Consent") {
        return Err(FieldError::new("resourceType", "must be Consent"));
    }
    known(at, &[CONSENT, ADMINISTRATIVE])?;
    let exceptions =
        at.get("decision").is_some() || at.get("provision").is_some_and(|provision| provision.value.is_array());
    let shape = if exceptions { FhirVersion::R5 } else { FhirVersion::R4 };
    let version = dialect.unwrap_or(shape);
    let (mut provision, effect, frame) = match shape {
        FhirVersion::R4 => read_single(at, version)?,
        FhirVersion::R5 => read_exceptions(at, version)?,
    };
    check_size(&provision, frame.prefix)
        .and_then(|()| give_types(&mut provision, effect, version, frame.prefix))
        .map_err(|error| FieldError {
            field: format!("Consent.{}", error.field).trim_end_matches('.').to_owned(),
            ..error
        })?;
    Ok((provision, frame))
}

/// R4: one root provision with the type of the whole; without type (or provision) the policy rule says it.
fn read_single(at: &At, version: FhirVersion) -> Result<(Provision, ProvisionType, Frame), FieldError> {
    let Some(root) = at.get("provision") else {
        let effect = policy_rule(at)?.ok_or_else(|| no_base(at, "provision.type"))?;
        return Ok((Provision::default(), effect, Frame { root: "policyRule", prefix: "" }));
    };
    let typed = version == FhirVersion::R4;
    let provision = read_provision(&root, typed, 0)?;
    let effect = match root.get("type") {
        Some(effect) => provision_type(&effect)?,
        None => policy_rule(at)?.ok_or_else(|| no_base(at, "provision.type"))?,
    };
    Ok((provision, effect, Frame { root: "provision", prefix: "provision" }))
}

/// R5: a base decision and a list of exceptions to it.
fn read_exceptions(at: &At, version: FhirVersion) -> Result<(Provision, ProvisionType, Frame), FieldError> {
    let (effect, root) = match at.get("decision") {
        Some(decision) => (provision_type(&decision)?, "decision"),
        None if version == FhirVersion::R4 => (policy_rule(at)?.ok_or_else(|| no_base(at, "decision"))?, "policyRule"),
        None => return Err(no_base(at, "decision")),
    };
    let mut provision = Provision::default();
    for child in filled_list(at, "provision")? {
        if version == FhirVersion::R5 {
            refuse_types(&child, 0)?;
        }
        provision.provision.push(read_provision(&child, version == FhirVersion::R4, 1)?);
    }
    Ok((provision, effect, Frame { root, prefix: "" }))
}

fn refuse_types(at: &At, depth: usize) -> Result<(), FieldError> {
    if let Some(effect) = at.get("type") {
        return Err(effect.error("is not for R5: each level of provisions is the opposite of the one above"));
    }
    if depth > READ_DEPTH {
        return Ok(());
    }
    filled_list(at, "provision")?.iter().try_for_each(|child| refuse_types(child, depth + 1))
}

fn no_base(at: &At, field: &str) -> FieldError {
    let message =
        "no computable base: state permit or deny (R4: provision.type, or policyRule OPTIN or OPTOUT; R5: decision)";
    FieldError::new(format!("{}.{field}", at.path), message)
}

/// Permit for OPTIN, deny for OPTOUT.
fn policy_rule(at: &At) -> Result<Option<ProvisionType>, FieldError> {
    let Some(rule) = at.get("policyRule") else { return Ok(None) };
    let mut found = None;
    for coding in rule.get("coding").map(|list| list.list()).transpose()?.unwrap_or_default() {
        let coding = read_coding(&coding)?;
        let effect = match coding.code.as_str() {
            "OPTIN" => ProvisionType::Permit,
            "OPTOUT" => ProvisionType::Deny,
            _ => continue,
        };
        if coding.system.is_some_and(|system| system != ACT_CODE) {
            continue;
        }
        if found.is_some_and(|other| other != effect) {
            return Err(rule.error("says both OPTIN and OPTOUT"));
        }
        found = Some(effect);
    }
    Ok(found)
}

/// Everything but the provisions.
fn read_rest(at: &At, context: &ProvisionContext, provision: Provision, root: Node) -> Result<Consent, FieldError> {
    let status = at.get("status").ok_or_else(|| FieldError::new("Consent.status", "is required"))?;
    if !STATUS.contains(&status.text()?) {
        return Err(status.error(format_args!("must be one of {}", STATUS.join(", "))));
    }
    let patient = one_of(at, "patient", "subject")?;
    let date = one_of(at, "dateTime", "date")?;
    let date =
        date.map(|at| TimeRange::parse(at.text()?, &context.zone).map_err(|message| at.error(message))).transpose()?;
    let period = at.get("period").map(|at| Period::parse(&read_period(&at)?, &at.path, &context.zone)).transpose()?;
    let category = filled_list(at, "category")?.iter().map(read_codings).collect::<Result<Vec<_>, _>>()?;
    let canonical = serde_json_canonicalizer::to_vec(at.value)
        .map_err(|error| at.error(format_args!("has no canonical JSON: {error}")))?;
    at.get("id").map(|id| id.text()).transpose()?;
    Ok(Consent {
        active: status.text()? == "active",
        patient: patient.map(|at| patient_key(&at)).transpose()?.flatten(),
        scope: at.get("scope").map(|scope| read_codings(&scope)).transpose()?.unwrap_or_default(),
        category: category.concat(),
        date: date.map(|date| date.from),
        period,
        provision,
        root,
        digest: digest(&canonical),
    })
}

/// The element, which R4 and R5 name differently.
fn one_of<'a>(at: &At<'a>, r4: &str, r5: &str) -> Result<Option<At<'a>>, FieldError> {
    match (at.get(r4), at.get(r5)) {
        (Some(_), Some(second)) => Err(second.error(format_args!("says the same as {r4}: keep one of them"))),
        (first, second) => Ok(first.or(second)),
    }
}

/// A patient known by identifier only is nobody that a request could name.
fn patient_key(at: &At) -> Result<Option<String>, FieldError> {
    at.object()?;
    at.get("reference").map(|reference| reference.text().map(|text| reference_key(text).to_owned())).transpose()
}

/// Refuses elements that are neither evaluated nor allowed to be ignored. `_x` carries extensions of the primitive `x`.
fn known(at: &At, lists: &[&[&str]]) -> Result<(), FieldError> {
    for key in at.object()?.keys() {
        let field = || format!("{}.{key}", at.path);
        if matches!(key.as_str(), "modifierExtension" | "implicitRules") {
            return Err(FieldError::new(field(), "changes the meaning of the resource and is not understood here"));
        }
        if !key.starts_with('_') && !lists.iter().any(|list| list.contains(&key.as_str())) {
            return Err(FieldError::new(
                field(),
                "is not an element that is evaluated here, and ignoring it could permit too much",
            ));
        }
    }
    Ok(())
}

/// The entries of a list that, if it is there, has some.
fn filled_list<'a>(at: &At<'a>, name: &str) -> Result<Vec<At<'a>>, FieldError> {
    let Some(list) = at.get(name) else { return Ok(Vec::new()) };
    let entries = list.list()?;
    if entries.is_empty() { Err(list.error("must not be empty: leave it out instead")) } else { Ok(entries) }
}

fn read_provision(at: &At, typed: bool, depth: usize) -> Result<Provision, FieldError> {
    known(at, &[PROVISION])?;
    let concepts = |name: &str| -> Result<Vec<Coding>, FieldError> {
        Ok(filled_list(at, name)?.iter().map(read_concept).collect::<Result<Vec<_>, _>>()?.concat())
    };
    let codings = |name: &str| filled_list(at, name)?.iter().map(read_coding).collect::<Result<Vec<_>, _>>();
    let period = |name: &str| at.get(name).map(|at| read_period(&at)).transpose();
    let class = [codings("class")?, codings("documentType")?, codings("resourceType")?].concat();
    let mut children = Vec::new();
    for child in filled_list(at, "provision")? {
        children.push(if depth < READ_DEPTH {
            read_provision(&child, typed, depth + 1)?
        } else {
            Provision::default()
        });
    }
    Ok(Provision {
        type_: at.get("type").filter(|_| typed).map(|effect| provision_type(&effect)).transpose()?,
        decision: None,
        period: period("period")?,
        purpose: codings("purpose")?,
        actor: filled_list(at, "actor")?.iter().map(read_actor).collect::<Result<Vec<_>, _>>()?.concat(),
        action: concepts("action")?,
        security_label: codings("securityLabel")?,
        class,
        code: concepts("code")?,
        data_period: period("dataPeriod")?,
        data: filled_list(at, "data")?.iter().map(read_data).collect::<Result<_, _>>()?,
        provision: children,
    })
}

fn provision_type(at: &At) -> Result<ProvisionType, FieldError> {
    match at.text()? {
        "permit" => Ok(ProvisionType::Permit),
        "deny" => Ok(ProvisionType::Deny),
        _ => Err(at.error("must be permit or deny")),
    }
}

fn read_coding(at: &At) -> Result<Coding, FieldError> {
    at.object()?;
    let text = |name: &str| at.get(name).map(|at| at.text().map(str::to_owned)).transpose();
    let code = text("code")?.ok_or_else(|| {
        FieldError::new(format!("{}.code", at.path), "is required: without it nothing can be compared")
    })?;
    Ok(Coding { system: text("system")?, code, display: text("display")? })
}

/// The codings of a concept, which may be a text only.
fn read_codings(at: &At) -> Result<Vec<Coding>, FieldError> {
    at.object()?;
    filled_list(at, "coding")?.iter().map(read_coding).collect()
}

/// The codings of a concept that decides. They are translations of each other: each stands for it.
fn read_concept(at: &At) -> Result<Vec<Coding>, FieldError> {
    match read_codings(at)? {
        codings if codings.is_empty() => {
            Err(FieldError::new(format!("{}.coding", at.path), "is required: a text cannot be compared"))
        }
        codings => Ok(codings),
    }
}

fn read_period(at: &At) -> Result<api::Period, FieldError> {
    at.object()?;
    let text = |name: &str| at.get(name).map(|at| at.text().map(str::to_owned)).transpose();
    Ok(api::Period { start: text("start")?, end: text("end")? })
}

/// An actor. One that is named by role only is one for each coding of the role, which are translations of each other.
fn read_actor(at: &At) -> Result<Vec<Actor>, FieldError> {
    known(at, &[&["id", "extension", "role", "reference"]])?;
    let roles = at.get("role").map(|role| read_concept(&role)).transpose()?.unwrap_or_default();
    let Some(reference) = at.get("reference") else {
        if roles.is_empty() {
            return Err(at.error("needs a reference or a role"));
        }
        let who = roles.into_iter().filter(|role| role.system.as_deref() != Some(PARTICIPATION_TYPE));
        let who: Vec<Actor> = who.map(|role| Actor { role: Some(role), ..Actor::default() }).collect();
        return match who.is_empty() {
            true => Err(FieldError::new(format!("{}.reference", at.path), "is required: the role says how, not who")),
            false => Ok(who),
        };
    };
    reference.object()?;
    let text = reference.get("reference").map(|at| at.text().map(str::to_owned)).transpose()?;
    let identifier = reference.get("identifier").map(|at| read_identifier(&at)).transpose()?;
    if text.is_none() && identifier.is_none() {
        return Err(reference.error("needs a reference or an identifier: a display text cannot be compared"));
    }
    Ok(vec![Actor { role: roles.into_iter().next(), reference: text, identifier, ..Actor::default() }])
}

fn read_identifier(at: &At) -> Result<Identifier, FieldError> {
    at.object()?;
    let part = |name: &str| {
        let part = at.get(name).ok_or_else(|| FieldError::new(format!("{}.{name}", at.path), "is required"))?;
        part.text().map(str::to_owned)
    };
    Ok(Identifier { system: part("system")?, value: part("value")? })
}

fn read_data(at: &At) -> Result<DataReference, FieldError> {
    known(at, &[&["id", "extension", "meaning", "reference"]])?;
    let required =
        |name: &str| at.get(name).ok_or_else(|| FieldError::new(format!("{}.{name}", at.path), "is required"));
    let meaning = required("meaning")?;
    let meaning = match meaning.text()? {
        "instance" => DataMeaning::Instance,
        "related" => DataMeaning::Related,
        "dependents" => DataMeaning::Dependents,
        "authoredby" => DataMeaning::Authoredby,
        _ => return Err(meaning.error("must be instance, related, dependents or authoredby")),
    };
    let reference = required("reference")?;
    reference.object()?;
    let text =
        reference.get("reference").ok_or_else(|| reference.error("needs a reference: nothing else can be compared"))?;
    Ok(DataReference { meaning, reference: text.text()?.to_owned() })
}
