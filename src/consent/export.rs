//! Typed provisions back into FHIR JSON, and consents as templates of policies.
//!
//! A template and a patient's consent say the same, so each can be made of the other: what a hospital has as a FHIR
//! Consent becomes the template of a ConsentPolicy, and a patient signs the Consent that a policy offers.

use serde_json::{Map, Value, json};

use super::actors::role_of;
use super::code::Code;
use super::error::FieldError;
use super::fhir::Consent;
use super::policy::{Policy, validate};
use super::reference::Subject;
use super::subject::{Standing, is_scope};
use super::tree::{below, give_types};
use crate::vocabulary::code_systems::{CONSENT_SCOPE, LOINC};
use crate::vocabulary::{
    Actor, BasePolicy, Coding, ConsentScope, FhirVersion, Period, PolicySpec, Provision, ProvisionType, RetentionSpec,
};

/// Category of a consent whose policy names none (LOINC: Patient Consent).
const PATIENT_CONSENT: &str = "59284-0";
const SCOPES: [ConsentScope; 2] = [ConsentScope::PatientPrivacy, ConsentScope::Research];

/// The policy `under`, of which `policy` was made, with this consent as what patients are offered: no document is permitted by the new
/// one that is denied by the old one. It takes the categories by which the consent was taken, and permits nothing without a consent:
/// it may take fewer documents, and what one of them denies by leaving it out must not be left to a base policy. The template is in
/// R4's words, which can say every tree. `period` is that of the resource as a whole (R5). Channel, contract and retention are not
/// the new policy's.
///
/// # Errors
/// What stands in the document and a template cannot say.
pub fn policy(
    consent: &Consent,
    under: &PolicySpec,
    policy: &Policy,
    period: Option<Period>,
) -> Result<PolicySpec, Vec<FieldError>> {
    let template = template(consent, policy.standing(consent), period).map_err(|error| vec![error])?;
    let taken = consent.category.iter().filter(|code| policy.takes(code));
    let taken = taken.filter(|code| !SCOPES.iter().any(|scope| is_scope(code, *scope)));
    let coding =
        |code: &Code| Coding { system: code.system.clone(), code: code.code.clone(), display: code.display.clone() };
    let taken: Vec<Coding> = taken.map(coding).collect();
    let spec = PolicySpec {
        fhir_version: FhirVersion::R4,
        channel_ref: None,
        contract_ref: None,
        scope: under.scope.or_else(|| SCOPES.into_iter().find(|scope| consent.is_about(*scope))),
        base_policy: BasePolicy::default(),
        category: if taken.is_empty() { under.category.clone() } else { taken },
        overriding: under.overriding.iter().map(|rule| typed(rule, under.fhir_version)).collect::<Result<_, _>>()?,
        template: Some(template),
        retention: RetentionSpec::default(),
        ..under.clone()
    };
    let errors = match validate(&spec) {
        Ok(_) => return Ok(spec),
        Err(errors) => errors,
    };
    Err(errors.into_iter().map(|error| in_document(error, consent)).collect())
}

/// A rule of a valid policy in R4's words.
fn typed(rule: &Provision, version: FhirVersion) -> Result<Provision, Vec<FieldError>> {
    let mut typed = rule.clone();
    let effect = rule.type_.or(rule.decision).unwrap_or(ProvisionType::Deny);
    give_types(&mut typed, effect, version, "spec.overriding").map_err(|error| vec![error])?;
    Ok(typed)
}

/// An error about the template that a consent became, at the element of the document that it came from.
fn in_document(error: FieldError, consent: &Consent) -> FieldError {
    let Some(mut rest) = error.field.strip_prefix("spec.template") else { return error };
    let mut node = &consent.root;
    while let Some((i, below)) = rest.strip_prefix(".provision[").and_then(|rest| rest.split_once(']')) {
        let Some(child) = i.parse().ok().and_then(|i: usize| node.children.get(i)) else { break };
        (node, rest) = (child, below);
    }
    FieldError { field: format!("Consent.{}{rest}", node.path), ..error }
}

/// What patients are offered who are to say what this consent does.
fn template(consent: &Consent, standing: Standing, period: Option<Period>) -> Result<Provision, FieldError> {
    if !consent.active {
        return Err(FieldError::new("Consent.status", "must be active: what nobody agrees to is nothing to offer"));
    }
    if period.is_some() && anywhere(&consent.provision, &|provision| provision.period.is_some()) {
        let message =
            "bounds the periods of provisions, and a template has none for all of it: bound them where they stand";
        return Err(FieldError::new("Consent.period", message));
    }
    if consent.grantee.is_some() {
        let message = "is of one patient's consent: name in each provision that permits whom it permits";
        return Err(FieldError::new("Consent.grantee", message));
    }
    let permits = |provision: &Provision| provision.type_ == Some(ProvisionType::Permit);
    if standing != Standing::Permits && anywhere(&consent.provision, &permits) {
        let message = "is not one of consents to the disclosure of records: what it permits does not count, and a template permits";
        return Err(FieldError::new("Consent.category", message));
    }
    let mut template = consent.provision.clone();
    write_roles(&mut template);
    if period.is_some() {
        template.period = period;
    }
    Ok(template)
}

/// A template says by the role what was read of it.
fn write_roles(provision: &mut Provision) {
    for actor in &mut provision.actor {
        actor.role = role_of(actor);
    }
    provision.provision.iter_mut().for_each(write_roles);
}

/// Whether a reference is one of a patient, as the consent of somebody needs.
pub fn names_a_patient(reference: &str) -> bool {
    Subject::parse(reference).is_some_and(|subject| subject.is_patient())
}

/// The active Consent of a patient (`Patient/id`) who takes a policy's template as it is.
///
/// # Errors
/// The policy has no template, or one that `version` cannot say.
pub fn consent(spec: &PolicySpec, patient: &str, version: FhirVersion) -> Result<Value, FieldError> {
    let missing = || FieldError::new("spec.template", "is required: there is nothing that a patient could agree to");
    let mut template = spec.template.clone().ok_or_else(missing)?;
    let base = || FieldError::new("spec.template", "needs type under R4, decision under R5");
    let effect = template.type_.or(template.decision).ok_or_else(base)?;
    give_types(&mut template, effect, spec.fhir_version, "")
        .map_err(|error| FieldError { field: format!("spec.template.{}", error.field), ..error })?;
    let mut members =
        Map::from_iter([("resourceType".to_owned(), json!("Consent")), ("status".to_owned(), json!("active"))]);
    let mut category: Vec<Value> = spec.category.iter().map(|coding| json!({"coding": [coding]})).collect();
    if category.is_empty() {
        category.push(json!({"coding": [{"system": LOINC, "code": PATIENT_CONSENT}]}));
    }
    // R5 says by the category what R4 says by the scope.
    let scope = spec.scope.or((version == FhirVersion::R4).then_some(ConsentScope::PatientPrivacy));
    let scope = scope.map(|scope| json!({"coding": [{"system": CONSENT_SCOPE, "code": scope.code()}]}));
    match version {
        FhirVersion::R4 => members.extend(scope.map(|scope| ("scope".to_owned(), scope))),
        FhirVersion::R5 => category.extend(scope),
    }
    put(&mut members, "category", category);
    let subject = if version == FhirVersion::R4 { "patient" } else { "subject" };
    members.insert(subject.into(), json!({"reference": patient}));
    if version == FhirVersion::R5 && template.period.is_some() {
        if template.provision.iter().any(|child| anywhere(child, &|provision| provision.period.is_some())) {
            let message = "of the whole would bound those of exceptions in R5: this consent can be written as R4 only";
            return Err(FieldError::new("provision.period", message));
        }
        members.extend(template.period.take().map(|period| ("period".to_owned(), json!(period))));
    }
    members.extend(write(&template, version)?);
    Ok(Value::Object(members))
}

/// The members of a Consent resource that say what `provision`, whose types are given, says: `provision` for R4, `decision`
/// and `provision` for R5. R4 can say every tree; R5 only one whose root has no elements and whose levels alternate.
pub fn write(provision: &Provision, version: FhirVersion) -> Result<Map<String, Value>, FieldError> {
    let mut members = Map::new();
    if version == FhirVersion::R4 {
        let any = |has: fn(&Provision) -> bool| anywhere(provision, &has);
        if any(|provision| !provision.class.is_empty()) && any(|provision| !provision.document_type.is_empty()) {
            let message =
                "R4 has one list for kinds of records and of documents: this consent can be written as R5 only";
            return Err(FieldError::new("provision.documentType", message));
        }
        members.insert("provision".into(), write_provision(provision, version));
        return Ok(members);
    }
    let own = Provision { type_: None, provision: Vec::new(), ..provision.clone() };
    if own != Provision::default() {
        return Err(FieldError::new(
            "provision",
            "R5 has no elements at the root: this consent can be written as R4 only",
        ));
    }
    check_alternation(provision, "")?;
    members.insert("decision".into(), json!(provision.type_));
    let children: Vec<Value> = provision.provision.iter().map(|child| write_provision(child, version)).collect();
    put(&mut members, "provision", children);
    Ok(members)
}

fn anywhere(provision: &Provision, has: &impl Fn(&Provision) -> bool) -> bool {
    has(provision) || provision.provision.iter().any(|child| anywhere(child, has))
}

fn check_alternation(provision: &Provision, prefix: &str) -> Result<(), FieldError> {
    for (i, child) in provision.provision.iter().enumerate() {
        let path = below(prefix, i);
        if child.type_ == provision.type_ {
            return Err(FieldError::new(path, "has the type of the level above: R5 cannot say that"));
        }
        check_alternation(child, &path)?;
    }
    Ok(())
}

fn put(members: &mut Map<String, Value>, name: &str, values: Vec<Value>) {
    if !values.is_empty() {
        members.insert(name.into(), values.into());
    }
}

fn write_provision(provision: &Provision, version: FhirVersion) -> Value {
    let mut members = Map::new();
    if let (FhirVersion::R4, Some(effect)) = (version, provision.type_) {
        members.insert("type".into(), json!(effect));
    }
    for (name, period) in [("period", &provision.period), ("dataPeriod", &provision.data_period)] {
        members.extend(period.as_ref().map(|period| (name.to_owned(), json!(period))));
    }
    let codings = |codings: &[Coding]| codings.iter().map(|coding| json!(coding)).collect::<Vec<_>>();
    let concepts = |codings: &[Coding]| codings.iter().map(|coding| json!({"coding": [coding]})).collect::<Vec<_>>();
    put(&mut members, "actor", provision.actor.iter().map(write_actor).collect());
    put(&mut members, "action", concepts(&provision.action));
    put(&mut members, "securityLabel", codings(&provision.security_label));
    put(&mut members, "purpose", codings(&provision.purpose));
    let class = if version == FhirVersion::R4 { "class" } else { "resourceType" };
    put(&mut members, class, codings(&provision.class));
    let document_type = if version == FhirVersion::R4 { "class" } else { "documentType" };
    put(&mut members, document_type, codings(&provision.document_type));
    put(&mut members, "code", concepts(&provision.code));
    let data = provision.data.iter();
    let data = data.map(|data| json!({"meaning": data.meaning, "reference": {"reference": data.reference}}));
    put(&mut members, "data", data.collect());
    put(&mut members, "provision", provision.provision.iter().map(|child| write_provision(child, version)).collect());
    members.into()
}

/// The actor of a patient's consent: mspId and attr exist in a ConsentPolicy only.
fn write_actor(actor: &Actor) -> Value {
    let mut members = Map::new();
    members.extend(role_of(actor).map(|role| ("role".to_owned(), json!({"coding": [role]}))));
    let mut reference = Map::new();
    reference.extend(actor.reference.as_ref().map(|text| ("reference".to_owned(), json!(text))));
    reference.extend(actor.identifier.as_ref().map(|identifier| ("identifier".to_owned(), json!(identifier))));
    if !reference.is_empty() {
        members.insert("reference".into(), reference.into());
    }
    members.into()
}
