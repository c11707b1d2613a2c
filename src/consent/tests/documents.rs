//! What a document says as a whole: what it is about, what its root means, which policy it cites, what its modules stand for.

use serde_json::{Value, json};

use super::generate::{codings, consent};
use super::policy;
use crate::vocabulary::code_systems::{CONSENT_CATEGORY, CONSENT_SCOPE, LOINC};
use crate::{Policy, Request, fhir};

const NOON: &str = "2026-11-23T12:00:00Z";

/// `PERMIT`, `DENY`, or the field for which the document is refused.
fn answer_at(consent: &Value, policy: &Policy, request: &Value, now: &str) -> String {
    let consent = match fhir::read(consent, None, policy.context()) {
        Ok(consent) => consent,
        Err(errors) => return errors[0].field.clone(),
    };
    let request = Request::parse(request, policy.context()).expect("a request");
    let decision = crate::decide(&[consent], policy, &request, now.parse().expect("a time"));
    json!(decision.decision).as_str().expect("a text").to_owned()
}

fn answer(consent: &Value, policy: &Policy, request: &Value) -> String {
    answer_at(consent, policy, request, NOON)
}

fn asks(purpose: &str, class: &str) -> Value {
    let resource = json!({"class": class, "codes": []});
    json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": purpose, "resource": resource})
}

fn concept(system: Option<&str>, code: &str) -> Value {
    match system {
        Some(system) => json!({"coding": codings(system, &[code])}),
        None => json!({"coding": [{"code": code}]}),
    }
}

#[test]
fn what_never_permits_does_not_under_any_spelling() {
    let everything = json!({"provision": {"type": "permit"}});
    let disclosure = concept(Some(LOINC), "59284-0");
    for (system, codes) in [
        (CONSENT_CATEGORY, &["dnr", "DNR", "acd", "Polst", "HCD"][..]),
        (LOINC, &["64298-3", "81334-5"]),
        (CONSENT_SCOPE, &["treatment", "ADR"]),
    ] {
        for code in codes {
            for written in [Some(system), Some("urn:unknown"), Some("https://example.org/categories"), None] {
                let mut beside = consent(everything.clone());
                beside["category"] = json!([disclosure, concept(written, code)]);
                assert_eq!(answer(&beside, &policy(json!({})), &asks("TREAT", "Media")), "DENY", "{written:?} {code}");
            }
        }
    }
    for scope in ["treatment", "Treatment", "TREATMENT", "adr"] {
        for system in [Some(CONSENT_SCOPE), Some("urn:unknown"), None] {
            let mut beside = consent(everything.clone());
            let codings = [
                concept(system, scope)["coding"][0].clone(),
                concept(Some(CONSENT_SCOPE), "patient-privacy")["coding"][0].clone(),
            ];
            beside["scope"] = json!({"coding": codings});
            assert_eq!(answer(&beside, &policy(json!({})), &asks("TREAT", "Media")), "DENY", "{system:?} {scope}");
        }
    }
    let mut other = consent(everything);
    other["category"] = json!([disclosure, concept(Some("urn:unknown"), "wards")]);
    assert_eq!(
        answer(&other, &policy(json!({})), &asks("TREAT", "Media")),
        "PERMIT",
        "an unknown category does no harm"
    );
}

#[test]
fn an_opt_out_does_not_end_with_the_period_of_its_exception() {
    let opt_out = |rule: &str| {
        consent(json!({
            "policyRule": {"coding": [{"code": rule}]},
            "provision": {"period": {"end": "2025"}, "purpose": [{"code": "TREAT"}]},
        }))
    };
    let site = policy(json!({"basePolicy": "all-normal", "untypedRoot": "exception"}));
    let in_2025 = "2025-06-01T12:00:00Z";
    let request = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": {"securityLabels": ["N"]}});
    let other = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": "HOPERAT", "resource": {"securityLabels": ["N"]}});
    assert_eq!(answer_at(&opt_out("OPTOUT"), &site, &request, in_2025), "PERMIT");
    assert_eq!(answer_at(&opt_out("OPTOUT"), &site, &other, in_2025), "DENY");
    assert_eq!(answer_at(&opt_out("OPTOUT"), &site, &request, NOON), "DENY");
    assert_eq!(answer_at(&opt_out("OPTOUT"), &site, &other, NOON), "DENY");
    // An opt-in permits no longer than its period, and neither does its exception deny.
    let strict = policy(json!({"untypedRoot": "exception"}));
    assert_eq!(answer_at(&opt_out("OPTIN"), &strict, &other, in_2025), "PERMIT");
    assert_eq!(answer_at(&opt_out("OPTIN"), &strict, &request, in_2025), "DENY");
    assert_eq!(answer_at(&opt_out("OPTIN"), &strict, &other, NOON), "DENY");
}
