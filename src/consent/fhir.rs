//! FHIR Consent resources, R4 and R5, as they are found.
//!
//! One principle: denials are read wide, permits narrow, and what cannot be read is refused with the element named. What
//! this project does not evaluate is refused where FHIR does not say that it may be ignored: a restriction that is skipped is
//! a permission. The root is read in [`super::roots`], provisions in [`super::provisions`], actors in [`super::actors`]; what a
//! consent is about is judged in [`super::subject`]. The trap is `[]` and `null`: neither may ever be read as "anything".

use jiff::Timestamp;
use serde_json::{Value, json};

use super::actors::{Contained, grantees, names_of};
use super::code::{Code, Systems};
use super::context::ProvisionContext;
use super::datatypes::{filled_list, known, read_codings, read_period, reference_text};
use super::error::{FieldError, MAX_ERRORS};
use super::json::{At, Found, first_below, refuse_blanks_and_empty_objects};
use super::policy::digest;
use super::reference::Subject;
use super::roots;
use super::subject::{Standing, is_disclosure, is_scope, may_be_opt_out, may_be_research, standing};
use super::time::{Period, TimeRange};
use super::tree::{Node, build};
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{Actor, Coding, ConsentScope, FhirVersion, Provision, ProvisionType};

/// The version of this reading of documents. Whatever changes what a document means raises it: a consent that was put under
/// another one may have lost elements that this one reads.
pub const READING: u32 = 4;

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
    "manager",
    "controller",
    "source",
    "sourceAttachment",
    "sourceReference",
    "policy",
    "regulatoryBasis",
    "policyBasis",
    "policyText",
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
    "grantee",
    "verification",
    "provision",
];
const STATUS: &[&str] =
    &["draft", "proposed", "active", "rejected", "inactive", "not-done", "entered-in-error", "unknown"];

/// A patient's consent.
#[derive(Clone, Debug)]
pub struct Consent {
    /// The dialect that it was read in.
    pub version: FhirVersion,
    /// Whether its status is active.
    pub active: bool,
    /// The patient; none if nothing names one that could be compared.
    pub patient: Option<Subject>,
    /// Codes of its scope.
    pub scope: Vec<Code>,
    /// Codes of its categories.
    pub category: Vec<Code>,
    /// Whether nothing in it says that it was not verified.
    pub verified: bool,
    /// When it was given.
    pub date: Option<TimeRange>,
    /// When the consent as a whole holds (R5).
    pub period: Option<Period>,
    /// Who is permitted at all (R5); everybody if none.
    pub grantee: Option<Vec<Actor>>,
    /// Its provisions, each with a type.
    pub provision: Provision,
    /// Its provisions, ready to be evaluated.
    pub root: Node,
    /// SHA-256 of the resource in canonical JSON (RFC 8785), lower-case hexadecimal.
    pub digest: String,
    /// What it counts for at most, whatever it is about.
    pub at_most: Standing,
    /// Whether it may be about research, and so permits no care.
    pub perhaps_research: bool,
    /// Whether it stands for a document that cannot be read.
    pub unreadable: bool,
    /// Whether it is what a document said under an earlier policy: what it denies counts, and it permits nothing.
    pub earlier: bool,
}

impl Consent {
    /// Whether its scope, or one of its categories, is this one. What may be about research is not about privacy; an R5 consent to
    /// disclosure that names no scope is.
    pub fn is_about(&self, scope: ConsentScope) -> bool {
        let named = self.scope.iter().chain(&self.category).any(|code| is_scope(code, scope));
        let of_r5 = || self.version == FhirVersion::R5 && self.category.iter().any(is_disclosure);
        match scope {
            ConsentScope::Research => named,
            ConsentScope::PatientPrivacy => !self.perhaps_research && (named || of_r5()),
        }
    }

    /// What it counts for where a policy takes the categories `listed`.
    pub fn standing(&self, listed: &[Code]) -> Standing {
        standing(&self.scope, &self.category, self.version, self.verified, listed).min(self.at_most)
    }

    /// Refuses a consent that is dated after `now`: somebody's clock, or the date, is wrong.
    ///
    /// # Errors
    /// It is.
    pub fn dated_by(&self, now: Timestamp) -> Result<(), FieldError> {
        let field = if self.version == FhirVersion::R4 { "Consent.dateTime" } else { "Consent.date" };
        let late = self.date.is_some_and(|date| date.from > now);
        if late { Err(FieldError::new(field, format_args!("is later than {now}"))) } else { Ok(()) }
    }

    /// Refuses what the ledger does not take at `now`, though it can be read.
    ///
    /// # Errors
    /// It is of later, or not in force.
    pub fn may_be_put(&self, now: Timestamp) -> Result<(), FieldError> {
        self.dated_by(now)?;
        let message = "must be active: a consent that is not decides nothing";
        self.active.then_some(()).ok_or_else(|| FieldError::new("Consent.status", message))
    }

    /// What stands for a consent that cannot be read: it denies everything.
    pub fn unreadable(digest: String) -> Self {
        let root = Provision { type_: Some(ProvisionType::Deny), ..Provision::default() };
        let placed = super::placed::Placed::new(root.clone(), super::placed::CONSENT, "Consent", "");
        Self {
            version: FhirVersion::R4,
            active: true,
            patient: None,
            scope: Vec::new(),
            category: Vec::new(),
            verified: false,
            date: None,
            period: None,
            grantee: None,
            provision: root,
            root: build(&placed, None, &ProvisionContext::default(), &mut Vec::new()),
            digest,
            at_most: Standing::Withholds,
            perhaps_research: false,
            unreadable: true,
            earlier: false,
        }
    }
}

/// The dialect that a resource's shape shows.
pub fn shape(json: &Value) -> FhirVersion {
    let exceptions = json.get("decision").is_some() || json.get("provision").is_some_and(Value::is_array);
    if exceptions { FhirVersion::R5 } else { FhirVersion::R4 }
}

/// What a resource is about: research, which has policies of its own, if any code of it may say so. It has to be known before a
/// policy is there to read the resource with.
pub fn scope(json: &Value) -> ConsentScope {
    let categories = json["category"].as_array().into_iter().flatten();
    let concepts = std::iter::once(&json["scope"]).chain(categories);
    let systems = Systems::default();
    let says_so = |coding: &Value| {
        let text = |name: &str| coding[name].as_str().map(str::to_owned);
        let coding = Coding { system: text("system"), code: text("code").unwrap_or_default(), display: None };
        may_be_research(&systems.code(&coding, CodedElement::Code))
    };
    match concepts.filter_map(|concept| concept["coding"].as_array()).flatten().any(says_so) {
        true => ConsentScope::Research,
        false => ConsentScope::PatientPrivacy,
    }
}

/// Reads a Consent resource. A dialect that is given must be the one that the shape shows.
pub fn read(
    json: &Value,
    dialect: Option<FhirVersion>,
    context: &ProvisionContext,
) -> Result<Consent, Vec<FieldError>> {
    let at = At::root(json, super::placed::CONSENT);
    let one = |error: FieldError| vec![error];
    let version = check(&at, dialect).map_err(one)?;
    let contained = Contained::of(&at).map_err(one)?;
    let placed = roots::read(&at, version, &contained, context).map_err(one)?;
    let grantee = grantees(&at, &contained).map_err(one)?;
    let mut errors = Vec::new();
    let root = build(&placed, grantee.as_deref(), context, &mut errors);
    let consent = read_rest(&at, version, context, (placed.provision(), root, grantee));
    let consent = consent.map_err(|error| errors.push(error));
    errors.truncate(MAX_ERRORS);
    consent.ok().filter(|_| errors.is_empty()).ok_or(errors)
}

/// What must hold before anything is read: nothing blank, nothing that changes the meaning, nothing unknown.
fn check(at: &At, dialect: Option<FhirVersion>) -> Result<FhirVersion, FieldError> {
    if at.object()?.get("resourceType").and_then(Value::as_str) != Some("Consent") {
        let bundle = at.value["resourceType"] == "Bundle";
        let message = if bundle { "must be Consent: take each Consent out of the Bundle" } else { "must be Consent" };
        return Err(FieldError::new("resourceType", message));
    }
    refuse_blanks_and_empty_objects(at)?;
    if let Some((path, message)) = change_of_meaning(at.value) {
        return Err(FieldError::new(format!("{}{path}", at.path), message));
    }
    known(at, &[CONSENT, ADMINISTRATIVE])?;
    let version = shape(at.value);
    match dialect {
        Some(given) if given != version => {
            let field = if at.value.get("decision").is_some() { "Consent.decision" } else { "Consent.provision" };
            Err(FieldError::new(field, format_args!("has the shape of {version:?}, and {given:?} was asked for")))
        }
        _ => Ok(version),
    }
}

const CHANGES: &[&str] = &["modifierExtension", "implicitRules"];
const CHANGES_MEANING: &str = "changes the meaning of the resource and is not understood here";

/// Refuses what changes the meaning of an object, called `path`, that stands around consents.
///
/// # Errors
/// An element of it does; which, is said.
pub fn refuse_change_of_meaning(around: &Value, path: &str) -> Result<(), FieldError> {
    match CHANGES.iter().find(|name| around.get(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(FieldError::new(format!("{path}.{name}"), CHANGES_MEANING)),
    }
}

/// An element that changes the meaning of what it stands in, at any depth; or, where it decides, an element of which only an
/// extension is there (FHIR: the reason why a value is absent).
fn change_of_meaning(resource: &Value) -> Found {
    first_below(resource, &|name, below| {
        let administrative = ADMINISTRATIVE.contains(&name) && name != "policy";
        one_change(resource, name, below, true, !administrative)
    })
}

/// The same of a member of `value`. What is of no account at the top of a resource may decide further down.
fn one_change(value: &Value, name: &str, below: &Value, here: bool, decides: bool) -> Found {
    if CHANGES.contains(&name) {
        return Some((String::new(), CHANGES_MEANING));
    }
    if here && (name.strip_prefix('_').is_some_and(|name| value.get(name).is_none()) || is_absent(below)) {
        return Some((String::new(), "says why there is no value: without the value nothing can be decided"));
    }
    let decides = decides && name != "extension" && !name.starts_with('_');
    first_below(below, &|name, deeper| one_change(below, name, deeper, decides, decides))
}

/// Names of the extensions that say why a value is not there.
const ABSENT: &[&str] = &["data-absent-reason", "iso21090-nullflavor", "nullflavor"];

/// Whether an element says of itself that its value is not there, however the URL of the extension that says so is written.
fn is_absent(element: &Value) -> bool {
    let name = |url: &str| -> Option<String> {
        let url = url.split(['|', '#', '?']).next()?.trim_end_matches('/');
        url.rsplit(['/', ':']).next().map(str::to_ascii_lowercase)
    };
    let is_one = |url: &str| name(url).is_some_and(|name| ABSENT.contains(&name.as_str()));
    let says_so = |extension: &Value| extension["url"].as_str().is_some_and(is_one);
    element["extension"].as_array().is_some_and(|extensions| extensions.iter().any(says_so))
}

/// A Consent resource without everything that does not decide, about the patient that `patient` refers to: what others
/// need to decide from it, and no more. [`read`] gives the same rules and paths for it.
pub fn essential(json: &Value, patient: &str) -> Value {
    let members = json.as_object().into_iter().flatten();
    let mut essential: serde_json::Map<String, Value> = members
        .filter(|(name, _)| CONSENT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let name = if essential.contains_key("subject") { "subject" } else { "patient" };
    essential.insert(name.into(), json!({"reference": patient}));
    let entries = |name: &str| json[name].as_array().into_iter().flatten();
    let mut put = |name: &str, entries: Vec<Value>| {
        essential.remove(name);
        if !entries.is_empty() {
            essential.insert(name.into(), entries.into());
        }
    };
    put("verification", entries("verification").map(|entry| json!({"verified": entry["verified"] == true})).collect());
    put("policy", entries("policy").filter_map(|entry| Some(json!({"uri": entry.get("uri")?}))).collect());
    let contained = entries("contained").map(|entry| At::root(entry, "Consent.contained"));
    put("contained", contained.filter_map(|entry| contained_actor(json, entry)).collect());
    Value::Object(essential)
}

/// Of a contained resource that something refers to, what names it.
fn contained_actor(consent: &Value, entry: At) -> Option<Value> {
    let reference = json!(format!("#{}", entry.value["id"].as_str()?));
    let named = mentions(&consent["provision"], &reference) || mentions(&consent["grantee"], &reference);
    // What cannot be read was refused before.
    let (identifiers, _) = names_of(&entry).ok()?;
    let kept = json!({"resourceType": entry.value["resourceType"], "id": entry.value["id"], "identifier": identifiers});
    (named && !identifiers.is_empty()).then_some(kept)
}

fn mentions(value: &Value, text: &Value) -> bool {
    match value {
        Value::Array(entries) => entries.iter().any(|entry| mentions(entry, text)),
        Value::Object(members) => members.values().any(|member| mentions(member, text)),
        other => other == text,
    }
}

/// Everything but the provisions.
fn read_rest(
    at: &At,
    version: FhirVersion,
    context: &ProvisionContext,
    (provision, root, grantee): (Provision, Node, Option<Vec<Actor>>),
) -> Result<Consent, FieldError> {
    let status = at.get("status").ok_or_else(|| FieldError::new("Consent.status", "is required"))?;
    if !STATUS.contains(&status.text()?) {
        return Err(status.error(format_args!("must be one of {}", STATUS.join(", "))));
    }
    let patient = one_of(at, "patient", "subject")?;
    let date = one_of(at, "dateTime", "date")?;
    let date =
        date.map(|at| TimeRange::parse(at.text()?, &context.zone).map_err(|message| at.error(message))).transpose()?;
    let period = at.get("period").map(|at| Period::parse(&read_period(&at)?, &at.path, &context.zone)).transpose()?;
    let codes = |at: &At| -> Result<Vec<Code>, FieldError> {
        let codings = read_codings(at)?;
        Ok(codings.iter().map(|(_, coding)| context.systems.code(coding, CodedElement::Code)).collect())
    };
    let category = filled_list(at, "category")?.iter().map(codes).collect::<Result<Vec<_>, _>>()?;
    // An opt-out permits only as the exception to its denial.
    let opted_out = root.effect == ProvisionType::Permit && category.iter().flatten().any(may_be_opt_out);
    let at_most = if opted_out { Standing::Withholds } else { Standing::Permits };
    let verification = filled_list(at, "verification")?;
    let canonical = serde_json_canonicalizer::to_vec(at.value)
        .map_err(|error| at.error(format_args!("has no canonical JSON: {error}")))?;
    at.get("id").map(|id| id.text()).transpose()?;
    Ok(Consent {
        version,
        active: status.text()? == "active",
        patient: patient.map(|at| patient_key(&at)).transpose()?.flatten(),
        scope: at.get("scope").map(|scope| codes(&scope)).transpose()?.unwrap_or_default(),
        category: category.concat(),
        verified: verification.iter().all(|entry| entry.value["verified"] == true),
        date,
        period,
        grantee,
        provision,
        root,
        digest: digest(&canonical),
        at_most,
        perhaps_research: scope(at.value) == ConsentScope::Research,
        unreadable: false,
        earlier: false,
    })
}

/// The element, which R4 and R5 name differently.
fn one_of<'a>(at: &At<'a>, r4: &str, r5: &str) -> Result<Option<At<'a>>, FieldError> {
    match (at.get(r4), at.get(r5)) {
        (Some(_), Some(second)) => Err(second.error(format_args!("says the same as {r4}: keep one of them"))),
        (first, second) => Ok(first.or(second)),
    }
}

/// A patient known by identifier only is nobody that a request could name. Somebody who is no patient is refused: the consent
/// would be of nobody, and so would its denials.
fn patient_key(at: &At) -> Result<Option<Subject>, FieldError> {
    match reference_text(at)?.as_deref().and_then(Subject::parse) {
        Some(subject) if !subject.is_patient() => {
            Err(FieldError::new(format!("{}.reference", at.path), "must be of a patient: write Patient/id"))
        }
        subject => Ok(subject),
    }
}
