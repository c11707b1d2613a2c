//! From the ConsentPolicy resource to the policy that decides, and to the bytes that ConfigMap and ledger share.
//!
//! The canonical form names the system of every code and leaves out what only Kubernetes cares about (references to
//! other resources, words for people), so that two spellings of one policy have one digest. Validation of the canonical
//! form gives the same policy again.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use super::admission::known_code;
use super::admission::{check_lists, complete, complete_codes, reading};
use super::code::{Code, Labels};
use super::context::ProvisionContext;
use super::error::{FieldError, MAX_ERRORS};
use super::fhir::Consent;
use super::json::{At, refuse_blanks};
use super::modules;
use super::placed::Placed;
use super::reference::{Subject, reference_key};
use super::subject::{self, Standing};
use super::time;
use super::tree::{Node, build, check_size, give_types};
use crate::vocabulary::code_systems::{CONFIDENTIALITY, CodedElement};
use crate::vocabulary::{
    BasePolicy, BreakGlassMode, BreakGlassSpec, Coding, Combining, ConsentScope, FhirVersion, PolicySpec, Provision,
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
    /// What the base policy permits at most.
    pub(super) base_ceiling: Labels,
    /// What reading a consent under this policy needs.
    context: ProvisionContext,
    scope: Option<ConsentScope>,
    category: Vec<Code>,
    canonical: String,
}

/// What is normally protected, and less.
fn normal(context: &ProvisionContext) -> Labels {
    let coding = Coding { system: Some(CONFIDENTIALITY.to_owned()), code: "N".to_owned(), display: None };
    Labels::new(vec![context.systems.code(&coding, CodedElement::SecurityLabel)], ProvisionType::Permit)
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
            group: spec.group.as_deref().map(|group| reference_key(group).to_owned()),
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
            base_ceiling: normal(&ProvisionContext::default()),
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

    /// Whether requests of this scope are decided by the policy on the ledger.
    pub fn decides(&self, scope: ConsentScope) -> bool {
        self.scope.is_none_or(|own| own == scope)
    }

    /// The policy for requests for research. One of any scope is in force for them, but what it permits without a consent is
    /// care: research has policies of its own.
    pub fn for_research(self) -> Self {
        let base = if self.scope == Some(ConsentScope::Research) { self.base } else { BasePolicy::Deny };
        Self { base, ..self }
    }

    /// Whether a consent may permit by this category.
    pub fn takes(&self, category: &Code) -> bool {
        subject::takes(category, &self.category)
    }

    /// What a consent counts for under this policy. Its denials count whatever it is about.
    pub fn standing(&self, consent: &Consent) -> Standing {
        match self.scope {
            Some(scope) if !consent.is_about(scope) => Standing::Elsewhere,
            _ => consent.standing(&self.category),
        }
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The spec of a resource as it is written. `null` and `[]` are refused: neither says what holds.
///
/// # Errors
/// A field is blank, missing or of another kind; its path is named.
pub fn read(spec: &serde_json::Value) -> Result<PolicySpec, FieldError> {
    refuse_blanks(&At::root(spec, "spec"))?;
    serde_path_to_error::deserialize(spec)
        .map_err(|error| FieldError::new(format!("spec.{}", error.path()), error.inner()))
}

/// The policy of a resource, or everything that is wrong with it.
pub fn validate(spec: &PolicySpec) -> Result<Policy, Vec<FieldError>> {
    let mut spec = spec.clone();
    let mut errors = Vec::new();
    spec.channel_ref = None;
    spec.contract_ref = None;
    check_lists(&spec, &mut errors);
    let zone = time::zone(&spec.time_zone).map_err(|message| errors.push(FieldError::new("spec.timeZone", message)));
    let context = ProvisionContext {
        zone: zone.unwrap_or(jiff::tz::TimeZone::UTC),
        organizations: organizations(&spec, &mut errors),
        servers: servers(&spec),
        ..reading(&mut spec, &mut errors)
    };
    complete_codes(&mut spec.category, "spec.category", CodedElement::Category, &context.systems, &mut errors);
    let version = spec.fhir_version;
    if let Some(template) = &mut spec.template {
        provision(template, "spec.template", version, &context, &mut errors);
    }
    let overriding = spec.overriding.iter_mut().enumerate();
    let overriding: Vec<Node> = overriding
        .flat_map(|(i, root)| provision(root, &format!("spec.overriding[{i}]"), version, &context, &mut errors))
        .collect();
    if errors.is_empty() {
        for (i, root) in spec.overriding.iter().enumerate() {
            known_by_certificates(root, &format!("spec.overriding[{i}]"), version, &context, &mut errors);
        }
    }
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
        base_ceiling: normal(&context),
        scope: spec.scope,
        category: spec.category.iter().map(|coding| context.systems.code(coding, CodedElement::Category)).collect(),
        context,
        canonical,
    })
}

/// Completes the codes of a root provision and all below it and grows its trees: with modules it may stand for several.
fn provision(
    root: &mut Provision,
    path: &str,
    version: FhirVersion,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) -> Vec<Node> {
    if let Err(error) = check_size(root, path) {
        errors.push(error);
        return Vec::new();
    }
    let before = errors.len();
    complete(root, path, &context.systems, errors);
    let effect = root_effect(root, path, version).map_err(|error| errors.push(error)).ok();
    no_types_below(root, path, version, errors);
    let mut typed = root.clone();
    if let Some(effect) = effect
        && let Err(error) = give_types(&mut typed, effect, version, path)
    {
        errors.push(error);
    }
    let placed = modules::expand_all(Placed::new(typed, "", path, path), context);
    let trees = placed.map_err(|error| errors.push(error)).unwrap_or_default();
    let mut nodes = Vec::new();
    for placed in &trees {
        let node = build(placed, None, context, errors);
        // A patient's permit may name nobody; in a policy it is a typing error.
        incomparable(&node, errors);
        nodes.push(node);
    }
    if errors.len() == before { nodes } else { Vec::new() }
}

/// What an overriding rule denies must be somebody whom a certificate can name: the ledger knows nobody else.
fn known_by_certificates(
    root: &Provision,
    path: &str,
    version: FhirVersion,
    context: &ProvisionContext,
    errors: &mut Vec<FieldError>,
) {
    let mut typed = root.clone();
    let Ok(effect) = root_effect(root, path, version) else { return };
    if give_types(&mut typed, effect, version, path).is_ok() {
        let mut unknown = Vec::new();
        build(&Placed::new(typed, "", path, path), None, &context.certified(), &mut unknown);
        errors.extend(unknown);
    }
}

fn incomparable(node: &Node, errors: &mut Vec<FieldError>) {
    for error in node.elements.incomparable() {
        if errors.len() < MAX_ERRORS && !errors.contains(error) {
            errors.push(error.clone());
        }
    }
    node.children.iter().for_each(|child| incomparable(child, errors));
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

fn organizations(spec: &PolicySpec, errors: &mut Vec<FieldError>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (i, mapping) in spec.organizations.iter().enumerate() {
        let key = reference_key(&mapping.reference).to_owned();
        if map.insert(key, mapping.msp_id.clone()).is_some_and(|other| other != mapping.msp_id) {
            errors
                .push(FieldError::new(format!("spec.organizations[{i}].reference"), "is mapped to another MSP above"));
        }
    }
    map
}

/// Where the organisations are that are mapped to MSPs.
fn servers(spec: &PolicySpec) -> BTreeMap<String, Vec<Subject>> {
    let mut servers: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
    for subject in spec.organizations.iter().filter_map(|mapping| Subject::parse(&mapping.reference)) {
        servers.entry(subject.key.clone()).or_default().push(subject);
    }
    servers
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
                "spec.timeZone",
                "spec.organizations[1].reference",
                "spec.category[0]",
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
}
