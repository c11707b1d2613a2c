//! From the ConsentPolicy resource to the policy that decides, and to the bytes that ConfigMap and ledger share.
//!
//! The canonical form names the system of every code and leaves out what only Kubernetes cares about (references to
//! other resources, words for people), so that two spellings of one policy have one digest. Validation of the canonical
//! form gives the same policy again.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::FieldError;
use super::fhir::Consent;
use super::time;
use super::tree::{Node, ProvisionContext, build, check_size, give_types};
use crate::vocabulary::PolicySpec;
use crate::vocabulary::code_systems::{CodedElement, OPEN_SYSTEMS};
use crate::vocabulary::{
    Actor, BasePolicy, BreakGlassMode, BreakGlassSpec, Coding, Combining, ConsentScope, FhirVersion, Provision,
    ProvisionType,
};

/// A policy that is known to make sense.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What holds where no consent decides.
    pub(super) base: BasePolicy,
    /// How several consents are combined.
    pub(super) combining: Combining,
    /// Emergency access.
    pub(super) break_glass: BreakGlassRules,
    /// Provisions above the patient's consent.
    pub(super) overriding: Vec<Node>,
    /// What reading a consent under this policy needs.
    context: ProvisionContext,
    scope: Option<ConsentScope>,
    category: Vec<Coding>,
    canonical: String,
}

/// Emergency access.
#[derive(Clone, Debug)]
pub(super) struct BreakGlassRules {
    pub mode: BreakGlassMode,
    pub purposes: Vec<String>,
    /// `Type/id` of the group whose members may break the glass.
    pub group: Option<String>,
    /// Whether the attribute or group, and a justification, are asked for.
    pub conditions: bool,
    pub max_ttl: Duration,
    pub review_within: Duration,
}

impl BreakGlassRules {
    fn new(spec: &BreakGlassSpec, conditions: bool) -> Self {
        Self {
            mode: spec.mode,
            purposes: spec.purposes.clone(),
            group: spec.group.as_deref().map(|group| super::code::reference_key(group).to_owned()),
            conditions,
            max_ttl: spec.max_ttl.0,
            review_within: spec.review_within.0,
        }
    }
}

impl Default for Policy {
    /// What holds without a policy: deny, denial outweighs, and break-glass only where a consent names it.
    fn default() -> Self {
        Self {
            base: BasePolicy::default(),
            combining: Combining::default(),
            break_glass: BreakGlassRules::new(&BreakGlassSpec::default(), false),
            overriding: Vec::new(),
            context: ProvisionContext::default(),
            scope: None,
            category: Vec::new(),
            canonical: "{}".into(),
        }
    }
}

impl Policy {
    /// The policy in canonical JSON (RFC 8785): what the ConfigMap and the ledger hold.
    pub fn canonical_json(&self) -> &str {
        &self.canonical
    }

    /// SHA-256 of [`Self::canonical_json`], lower-case hexadecimal.
    pub fn digest(&self) -> String {
        digest(self.canonical.as_bytes())
    }

    /// What reading a consent or a request under this policy needs: time zone and organisations.
    pub fn context(&self) -> &ProvisionContext {
        &self.context
    }

    /// The rules of law or organisation that stand above the patient's consent: for the test that decides the same by Cedar.
    pub fn overriding(&self) -> &[Node] {
        &self.overriding
    }

    /// Whether the policy is about consents of this scope and category.
    pub(super) fn selects(&self, consent: &Consent) -> bool {
        let in_scope = self.scope.is_none_or(|scope| consent.is_about(scope));
        let of_category = |wanted: &Coding| {
            consent.category.iter().any(|coding| coding.code == wanted.code && coding.system == wanted.system)
        };
        in_scope && (self.category.is_empty() || self.category.iter().any(of_category))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The policy of a resource, or everything that is wrong with it.
pub fn validate(spec: &PolicySpec) -> Result<Policy, Vec<FieldError>> {
    let mut spec = spec.clone();
    let mut errors = Vec::new();
    spec.channel_ref = None;
    spec.contract_ref = None;
    check_lists(&spec, &mut errors);
    complete_codes(&mut spec.category, "spec.category", CodedElement::Category, &mut errors);
    let zone = time::zone(&spec.time_zone).map_err(|message| errors.push(FieldError::new("spec.timeZone", message)));
    let context = ProvisionContext {
        zone: zone.unwrap_or(jiff::tz::TimeZone::UTC),
        organizations: organizations(&spec, &mut errors),
    };
    let version = spec.fhir_version;
    if let Some(template) = &mut spec.template {
        provision(template, "spec.template", version, &context, &mut errors);
    }
    let overriding = spec.overriding.iter_mut().enumerate();
    let overriding = overriding
        .filter_map(|(i, root)| provision(root, &format!("spec.overriding[{i}]"), version, &context, &mut errors))
        .collect();
    let canonical = match serde_json_canonicalizer::to_string(&spec) {
        Ok(canonical) => canonical,
        Err(error) => {
            errors.push(FieldError::new("spec", format_args!("has no canonical JSON: {error}")));
            String::new()
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Policy {
        base: spec.base_policy,
        combining: spec.combining,
        break_glass: BreakGlassRules::new(&spec.break_glass, true),
        overriding,
        context,
        scope: spec.scope,
        category: spec.category,
        canonical,
    })
}

/// Completes the codes of a root provision and all below it and grows its tree.
fn provision(
    root: &mut Provision,
    path: &str,
    version: FhirVersion,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) -> Option<Node> {
    if let Err(error) = check_size(root, path) {
        errors.push(error);
        return None;
    }
    let before = errors.len();
    complete(root, path, errors);
    let effect = root_effect(root, path, version).map_err(|error| errors.push(error)).ok();
    no_types_below(root, path, version, errors);
    let mut typed = root.clone();
    if let Some(effect) = effect
        && let Err(error) = give_types(&mut typed, effect, version, path)
    {
        errors.push(error);
    }
    let node = build(&typed, path, path, context, errors);
    (errors.len() == before).then_some(node)
}

fn root_effect(root: &Provision, path: &str, version: FhirVersion) -> Result<ProvisionType, FieldError> {
    let (wanted, given, other_name, other) = match version {
        FhirVersion::R4 => ("type", root.type_, "decision", root.decision),
        FhirVersion::R5 => ("decision", root.decision, "type", root.type_),
    };
    match (given, other) {
        (_, Some(_)) => Err(FieldError::new(
            format!("{path}.{other_name}"),
            format_args!("is not for fhirVersion {version:?}: write {wanted}"),
        )),
        (None, None) => Err(FieldError::new(format!("{path}.{wanted}"), "is required: permit or deny")),
        (Some(effect), None) => Ok(effect),
    }
}

fn no_types_below(root: &Provision, path: &str, version: FhirVersion, errors: &mut Vec<FieldError>) {
    for (i, child) in root.provision.iter().enumerate() {
        let path = super::tree::below(path, i);
        if version == FhirVersion::R5 && child.type_.is_some() {
            let message = "is not for fhirVersion R5: each level is the opposite of the one above";
            errors.push(FieldError::new(format!("{path}.type"), message));
        }
        if child.decision.is_some() {
            errors.push(FieldError::new(format!("{path}.decision"), "stands at the root only"));
        }
        no_types_below(child, &path, version, errors);
    }
}

fn complete(provision: &mut Provision, path: &str, errors: &mut Vec<FieldError>) {
    for (codings, name, element) in [
        (&mut provision.purpose, "purpose", CodedElement::Purpose),
        (&mut provision.action, "action", CodedElement::Action),
        (&mut provision.security_label, "securityLabel", CodedElement::SecurityLabel),
        (&mut provision.class, "class", CodedElement::Class),
        (&mut provision.code, "code", CodedElement::Code),
    ] {
        complete_codes(codings, &format!("{path}.{name}"), element, errors);
    }
    for (i, actor) in provision.actor.iter_mut().enumerate() {
        let path = format!("{path}.actor[{i}]");
        let named =
            [actor.reference.is_some(), actor.identifier.is_some(), actor.msp_id.is_some(), actor.attr.is_some()];
        let ways = named.iter().filter(|named| **named).count();
        if ways > 1 {
            errors.push(FieldError::new(
                &path,
                "is named in more than one way: keep one of reference, identifier, mspId and attr",
            ));
        }
        match actor.role.take() {
            None if ways == 0 => {
                errors.push(FieldError::new(&path, "needs a role, reference, identifier, mspId or attr"))
            }
            None => {}
            Some(role) => actor.role = complete_role(role, actor, &format!("{path}.role"), errors),
        }
    }
    for (i, child) in provision.provision.iter_mut().enumerate() {
        complete(child, &super::tree::below(path, i), errors);
    }
}

/// A role is either one of certificates, which hospitals choose freely, or a code of how somebody takes part, which says
/// nothing about who it is.
fn complete_role(mut role: Coding, actor: &Actor, path: &str, errors: &mut Vec<FieldError>) -> Option<Coding> {
    role.display = None;
    let referenced = actor.reference.is_some() || actor.identifier.is_some();
    let required = actor.msp_id.is_some() || actor.attr.is_some();
    match system_of(&role, CodedElement::Role) {
        Ok(_) if !referenced && !required => {
            errors.push(FieldError::new(path, "says how, not who: add a reference, identifier, mspId or attr"));
        }
        Ok(system) if referenced => role.system = Some(system),
        Ok(_) => return None,
        Err(message) if role.system.is_some() => errors.push(FieldError::new(path, message)),
        Err(_) if referenced => {
            errors.push(FieldError::new(path, "of a certificate goes with mspId or attr, not with a reference"))
        }
        Err(_) => {}
    }
    Some(role)
}

/// Gives every code its system; refuses a system or a code that the element does not know.
fn complete_codes(codings: &mut [Coding], path: &str, element: CodedElement, errors: &mut Vec<FieldError>) {
    for (i, coding) in codings.iter_mut().enumerate() {
        let path = format!("{path}[{i}]");
        coding.display = None;
        match system_of(coding, element) {
            Ok(system) => coding.system = Some(system),
            Err(message) => errors.push(FieldError::new(path, message)),
        }
    }
}

/// The code with its system and without words.
///
/// # Errors
/// The element does not know the code, or its system.
pub fn known_code(coding: Coding, element: CodedElement) -> Result<Coding, String> {
    let system = Some(system_of(&coding, element)?);
    Ok(Coding { system, code: coding.code, display: None })
}

fn system_of(coding: &Coding, element: CodedElement) -> Result<String, String> {
    let Coding { system, code, .. } = coding;
    let closed =
        element.closed_systems().iter().filter(|(name, _)| system.as_deref().is_none_or(|system| system == *name));
    if let Some((name, _)) = closed.clone().find(|(_, codes)| codes.contains(&code.as_str())) {
        return Ok((*name).to_owned());
    }
    let open = OPEN_SYSTEMS.iter().find(|(name, _)| element.open() && Some(*name) == system.as_deref());
    match (system, open) {
        (Some(system), Some((_, shape))) if shape.fits(code) => Ok(system.clone()),
        (Some(system), Some(_)) => Err(format!("code {code:?} does not look like a code of {system}")),
        (Some(system), None) if closed.count() == 0 => {
            Err(format!("code system {system:?} is not one that this element may use"))
        }
        (Some(system), None) => Err(format!("code {code:?} is unknown in {system}")),
        (None, _) if element.closed_systems().is_empty() => Err(format!("code {code:?} needs a system")),
        (None, _) => Err(format!("code {code:?} is unknown in {}", names(element))),
    }
}

fn names(element: CodedElement) -> String {
    element.closed_systems().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
}

fn organizations(spec: &PolicySpec, errors: &mut Vec<FieldError>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (i, mapping) in spec.organizations.iter().enumerate() {
        let key = super::code::reference_key(&mapping.reference).to_owned();
        if map.insert(key, mapping.msp_id.clone()).is_some_and(|other| other != mapping.msp_id) {
            errors
                .push(FieldError::new(format!("spec.organizations[{i}].reference"), "is mapped to another MSP above"));
        }
    }
    map
}

/// What the schema checks as well, for policies that did not come through an API server.
fn check_lists(spec: &PolicySpec, errors: &mut Vec<FieldError>) {
    let break_glass = &spec.break_glass;
    if break_glass.purposes.is_empty() {
        errors.push(FieldError::new("spec.breakGlass.purposes", "needs at least one purpose"));
    }
    for (i, purpose) in break_glass.purposes.iter().enumerate() {
        let coding = Coding { code: purpose.clone(), ..Coding::default() };
        if let Err(message) = system_of(&coding, CodedElement::Purpose) {
            errors.push(FieldError::new(format!("spec.breakGlass.purposes[{i}]"), message));
        }
    }
    let retention = &spec.retention;
    if retention.audit_years < 6 {
        errors.push(FieldError::new("spec.retention.auditYears", "must be at least 6 (45 CFR 164.316(b)(2)(i))"));
    }
    if retention.block_to_live.is_some_and(|blocks| blocks < 0) {
        errors.push(FieldError::new("spec.retention.blockToLive", "must not be negative"));
    }
    if retention.block_to_live.is_some() && retention.private_collection.is_none() {
        errors.push(FieldError::new(
            "spec.retention.blockToLive",
            "belongs to a collection: set privateCollection as well",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(json: Value) -> PolicySpec {
        serde_json::from_value(json).expect("a spec")
    }

    fn policy(json: Value) -> Policy {
        validate(&spec(json)).expect("a policy")
    }

    /// The bytes that the ledger shares: a change here is a change of every anchored digest.
    #[test]
    fn the_canonical_form_is_stable() {
        let canonical = concat!(
            r#"{"basePolicy":"deny","breakGlass":{"maxTTL":"4h","mode":"consent-only","purposes":["BTG"],"reviewWithin":"72h"},"#,
            r#""combining":"deny-overrides","fhirVersion":"R4","labels":{"requireConfidentiality":true},"#,
            r#""overriding":[{"purpose":[{"code":"PUBHLTH","system":"http://terminology.hl7.org/CodeSystem/v3-ActReason"}],"#,
            r#""type":"permit"}],"retention":{"auditYears":6},"timeZone":"UTC"}"#,
        );
        let policy = policy(json!({"overriding": [{"type": "permit", "purpose": [{"code": "PUBHLTH"}]}]}));
        assert_eq!(policy.canonical_json(), canonical);
        assert_eq!(policy.digest(), digest(policy.canonical_json().as_bytes()));
    }

    #[test]
    fn two_spellings_of_a_policy_have_one_digest() {
        let label = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R", "display": "restricted"});
        let long = json!({
            "channelRef": {"name": "records"}, "contractRef": {"name": "ehr"}, "fhirVersion": "R4", "basePolicy": "deny",
            "template": {"securityLabel": [label], "type": "permit"}, "timeZone": "UTC",
        });
        let short = policy(json!({"template": {"type": "permit", "securityLabel": [{"code": "R"}]}}));
        assert_eq!(policy(long).digest(), short.digest());
        assert_ne!(
            short.digest(),
            policy(json!({"template": {"type": "permit", "securityLabel": [{"code": "N"}]}})).digest()
        );
    }

    #[test]
    fn the_canonical_form_is_a_policy_with_the_same_digest() {
        let first = policy(json!({
            "fhirVersion": "R5", "scope": "research", "category": [{"code": "57016-8"}], "breakGlass": {"group": "Group/er"},
            "overriding": [{"decision": "deny", "actor": [{"role": {"code": "IRCP"}, "mspId": "AMSP"}, {"role": {"code": "device"}}]}],
            "template": {"decision": "permit", "provision": [{"code": [{"system": "http://loinc.org", "code": "1-8"}], "provision": [{"period": {"end": "2027"}}]}]},
        }));
        let again = policy(serde_json::from_str(first.canonical_json()).expect("JSON"));
        assert_eq!(again.canonical_json(), first.canonical_json());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let errors = validate(&spec(json!({
            "category": [{"code": "nonsense"}],
            "timeZone": "Nowhere",
            "organizations": [{"reference": "Organization/a", "mspId": "A"}, {"reference": "x/Organization/a", "mspId": "B"}],
            "overriding": [
                {"type": "permit", "class": [{"code": "Observatoin"}], "code": [{"code": "1-8"}, {"system": "http://loinc.org", "code": "18"}]},
                {"type": "deny", "actor": [{"role": {"code": "IRCP"}}, {"role": {"code": "nurse"}, "reference": "Group/1"}]},
            ],
            "template": {"type": "permit", "decision": "permit", "provision": [{"type": "deny", "period": {"start": "2027", "end": "2026"}}]},
        })));
        let fields: Vec<String> = errors.expect_err("errors").into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.category[0]",
                "spec.timeZone",
                "spec.organizations[1].reference",
                "spec.template.decision",
                "spec.template.provision[0].period",
                "spec.overriding[0].class[0]",
                "spec.overriding[0].code[0]",
                "spec.overriding[0].code[1]",
                "spec.overriding[1].actor[0].role",
                "spec.overriding[1].actor[1].role",
            ]
        );
    }

    #[test]
    fn a_code_is_known_in_its_own_system_only() {
        let system_of = |system: Option<&str>, code: &str, element| {
            super::system_of(&Coding { system: system.map(str::to_owned), code: code.into(), display: None }, element)
        };
        let sensitivity = system_of(None, "PSY", CodedElement::SecurityLabel);
        assert_eq!(sensitivity.as_deref(), Ok("http://terminology.hl7.org/CodeSystem/v3-ActCode"));
        let wrong = system_of(
            Some("http://terminology.hl7.org/CodeSystem/v3-Confidentiality"),
            "PSY",
            CodedElement::SecurityLabel,
        );
        assert!(
            wrong
                .expect_err("refused")
                .contains("is unknown in http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
        );
        assert!(system_of(Some("http://loinc.org"), "59284-0", CodedElement::Purpose).is_err());
    }
}
