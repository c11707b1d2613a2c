//! The decision, implemented a second time: normalised consents compiled to Cedar policies, and both implementations
//! asked about random requests.
//!
//! What is compared: the decision for requests that say everything, under both ways of combining, with overriding
//! provisions and base policies; and the provision that decided, which must be among those that Cedar says determined
//! its answer. What Cedar has no notion of is not compared: a result NotApplicable (here it is a guard on what stands
//! below), residual rules and with them requests that leave something unsaid, obligations, expiry, and break-glass; and codes
//! under other names than their own, which are put in order before.
//! Reading FHIR, inheritance and the types of provisions are done before ([`ehrnet_consent::tree`]); the oracle beside
//! the evaluator's own tests does those a second time.
//!
//! Cedar skips a policy that fails, so that a failing `forbid` would permit. Two things stand against it: the compiled
//! policies must pass Cedar's strict validation, and any error in an answer makes it a denial.

mod compile;
#[path = "../../src/consent/tests/generate.rs"]
#[allow(dead_code, reason = "this binary uses some of the generators")]
mod generate;
mod question;

use std::collections::BTreeSet;
use std::str::FromStr;

use cedar_policy::{Authorizer, Decision, Policy as CedarPolicy, PolicyId, PolicySet, Request as CedarRequest};
use cedar_policy::{Entities, Schema, ValidationMode, Validator};
use ehrnet_consent::decision::Effect;
use ehrnet_consent::rules::{Basis, Reason};
use ehrnet_consent::vocabulary;
use ehrnet_consent::{self as consent, Consent, Policy, Request, fhir};
use generate::{LabelsIn, codings, r4, request};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("schema.cedarschema");
const NOW: &str = "2026-11-23T12:00:00Z";

/// What Cedar answers: the decision, and the policies that determined it. An error is a denial.
fn answer(request: &CedarRequest, policies: &PolicySet, entities: &Entities) -> (Effect, BTreeSet<String>) {
    let response = Authorizer::new().is_authorized(request, policies, entities);
    let determining = response.diagnostics().reason().map(ToString::to_string).collect();
    let failed = response.diagnostics().errors().next().is_some();
    match response.decision() {
        Decision::Allow if !failed => (Effect::Permit, determining),
        Decision::Allow | Decision::Deny => (Effect::Deny, determining),
    }
}

/// The compiled policies, which must pass strict validation.
fn policy_set(rules: &[compile::Rule], schema: &Schema) -> PolicySet {
    let mut set = PolicySet::new();
    for rule in rules {
        let policy = CedarPolicy::parse(Some(PolicyId::new(&rule.id)), rule.text());
        set.add(policy.unwrap_or_else(|error| panic!("{error}: {}", rule.text()))).expect("ids differ");
    }
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors: Vec<String> = result.validation_errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
    set
}

/// Base policies that need no more than the purpose to decide.
fn spec() -> impl Strategy<Value = Value> {
    let base = select(&["deny", "basic-normal", "all-normal"][..]);
    let combining = select(&["deny-overrides", "newest-wins"][..]);
    let overriding =
        prop::collection::vec((select(&["permit", "deny"][..]), select(&["TREAT", "HRESCH"][..]), any::<bool>()), 0..2);
    (base, combining, overriding).prop_map(|(base, combining, overriding)| {
        let overriding: Vec<Value> = overriding
            .into_iter()
            .map(|(effect, purpose, sensitive)| {
                let mut rule = json!({"type": effect, "purpose": [{"code": purpose}]});
                if sensitive {
                    rule["securityLabel"] = json!([{"code": "HIV"}, {"code": "V"}]);
                }
                rule
            })
            .collect();
        json!({"basePolicy": base, "combining": combining, "breakGlass": {"mode": "forbid"}, "overriding": overriding})
    })
}

/// Both answers: ours, and Cedar's with what determined it.
fn both(consents: &[Value], spec: &Value, request: &Value) -> (consent::Decision, Effect, BTreeSet<String>) {
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    let policy: Policy = consent::validate(&spec).expect("a policy");
    let mut consents: Vec<Consent> =
        consents.iter().map(|json| fhir::read(json, None, policy.context()).expect("a consent")).collect();
    // Twice the same consent says nothing more, and its policies would have the same ids.
    consents.sort_by(|one, other| one.digest.cmp(&other.digest));
    consents.dedup_by(|one, other| one.digest == other.digest);
    let now = NOW.parse().expect("a time");
    let asked = Request::parse(request, policy.context()).expect("a request");
    let ours = consent::decide(&consents, &policy, &asked, now);

    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a schema");
    let policies = policy_set(&compile::rules(&consents, &policy, &spec), &schema);
    let (asked, entities) = question::cedar(request, NOW, &schema);
    let (theirs, determining) = answer(&asked, &policies, &entities);
    (ours, theirs, determining)
}

/// The id that the policy of the deciding provision has.
fn id(decision: &consent::Decision) -> Option<String> {
    let path = decision.matched_path.as_deref()?;
    let outside = if decision.reason == Reason::OutsidePermittedData { compile::OUTSIDE } else { "" };
    let of = decision.consent_digest.as_deref().unwrap_or(compile::OVERRIDING);
    Some(format!("{of}:{path}{outside}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn both_implementations_decide_the_same_by_the_same_provision(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), spec in spec(), request in request(),
    ) {
        prop_assume!(request["purpose"] != "BTG");
        let (ours, theirs, determining) = both(&consents, &spec, &request);
        prop_assert_eq!(ours.decision, theirs, "{:?}; Cedar by {:?}", ours, determining);
        match (ours.basis, ours.decision) {
            (Basis::Implicit, Effect::Permit) => prop_assert_eq!(determining, BTreeSet::from([compile::BASE.to_owned()])),
            (Basis::Implicit, Effect::Deny) => prop_assert!(determining.is_empty(), "{:?}", determining),
            _ => prop_assert!(id(&ours).is_some_and(|id| determining.contains(&id)), "{:?}; Cedar by {:?}", ours, determining),
        }
    }
}

/// A case on which all layers have a say, so that agreement is not agreement about nothing.
#[test]
fn each_layer_is_seen_to_decide_on_both_sides() {
    let reasons = ehrnet_consent::vocabulary::code_systems::ACT_REASON;
    let permit = generate::consent(json!({"provision": {
        "type": "permit", "purpose": codings(reasons, &["TREAT"]), "securityLabel": codings(ehrnet_consent::vocabulary::code_systems::CONFIDENTIALITY, &["N"]),
        "provision": [{"type": "deny", "actor": [{"reference": {"reference": "Practitioner/b"}}]}],
    }}));
    let deny = generate::consent(
        json!({"dateTime": "2020", "provision": {"type": "deny", "purpose": codings(reasons, &["HPAYMT"])}}),
    );
    let ask = |id: &str, purpose: &str, label: &str, spec: Value| {
        let resource = json!({"id": "Observation/1", "class": "A", "codes": [], "securityLabels": [label], "authoredOn": "2022-07-01", "author": "Practitioner/a"});
        let request = json!({"patient": "Patient/ex-patient", "actor": {"id": id, "groups": []}, "purpose": purpose, "action": "access", "resource": resource});
        let (ours, theirs, determining) = both(&[permit.clone(), deny.clone()], &spec, &request);
        assert_eq!(ours.decision, theirs, "{ours:?} {determining:?}");
        (ours.decision, ours.basis, ours.reason)
    };
    let mandate = json!({"overriding": [{"type": "permit", "purpose": [{"code": "TREAT"}]}]});
    let open = json!({"basePolicy": "all-normal"});
    use Effect::{Deny, Permit};
    for (id, purpose, label, spec, expected) in [
        ("Practitioner/a", "TREAT", "N", json!({}), (Permit, Basis::Consent, Reason::ProvisionPermits)),
        ("Practitioner/b", "TREAT", "N", json!({}), (Deny, Basis::Consent, Reason::ProvisionDenies)),
        ("Practitioner/a", "TREAT", "R", json!({}), (Deny, Basis::Consent, Reason::OutsidePermittedData)),
        ("Practitioner/a", "HPAYMT", "N", open.clone(), (Deny, Basis::Consent, Reason::ProvisionDenies)),
        ("Practitioner/a", "HRESCH", "N", open, (Permit, Basis::Implicit, Reason::NoConsent)),
        ("Practitioner/a", "HRESCH", "N", json!({}), (Deny, Basis::Implicit, Reason::NoConsent)),
        ("Practitioner/b", "TREAT", "R", mandate, (Permit, Basis::Overriding, Reason::ProvisionPermits)),
    ] {
        assert_eq!(ask(id, purpose, label, spec), expected, "{id} {purpose} {label}");
    }
}

/// Without it, a `forbid` that fails would be skipped and the `permit` beside it would decide.
#[test]
fn an_error_in_cedar_is_a_denial() {
    let policies = PolicySet::from_str(
        "permit(principal, action, resource);\nforbid(principal, action, resource) when { context.unknown == 1 };",
    );
    let policies = policies.expect("policies");
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a schema");
    let resource = json!({"id": "Observation/1", "securityLabels": ["N"], "authoredOn": "2022"});
    let request =
        json!({"patient": "Patient/1", "actor": {}, "purpose": "TREAT", "action": "use", "resource": resource});
    let (request, entities) = question::cedar(&request, NOW, &schema);
    let cedar_itself = Authorizer::new().is_authorized(&request, &policies, &entities).decision();
    assert_eq!((cedar_itself, answer(&request, &policies, &entities).0), (Decision::Allow, Effect::Deny));
}
