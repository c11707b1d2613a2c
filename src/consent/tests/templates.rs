//! A consent as the template of a policy, and back: neither permits what the other does not.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{LabelsIn, consent, r4, request};
use crate::vocabulary::{FhirVersion, Period, PolicySpec};
use crate::{FieldError, Policy, Request, export, fhir};

fn read(document: &Value) -> fhir::Consent {
    fhir::read(document, None, Policy::default().context()).expect("a consent")
}

fn template(document: &Value) -> Result<PolicySpec, FieldError> {
    let consent = read(document);
    let period = document.get("period").map(|period| Period {
        start: period["start"].as_str().map(str::to_owned),
        end: period["end"].as_str().map(str::to_owned),
    });
    export::policy(&consent, Policy::default().standing(&consent), period)
}

fn decision(document: &Value, request: &Value, now: &str) -> Value {
    let policy = Policy::default();
    let request = Request::parse(request, policy.context()).expect("a request");
    let decision = crate::decide(&[read(document)], &policy, &request, now.parse().expect("a time"));
    json!([decision.decision, decision.residual])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 65_536, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_imported_and_exported_decides_as_before(
        mut document in r4(LabelsIn::Any, 2), whole in prop::option::of(select(&["2023", "2024"][..])), request in request(),
        version in select(&[FhirVersion::R4, FhirVersion::R5][..]), year in 2019..2030,
    ) {
        if let Some(end) = whole {
            document["period"] = json!({"end": end});
        }
        // What cannot be said is refused.
        if let Ok(Ok(back)) = template(&document).map(|spec| export::consent(&spec, "Patient/ex-patient", version)) {
            let now = format!("{year}-06-15T12:00:00Z");
            prop_assert_eq!(decision(&back, &request, &now), decision(&document, &request, &now), "{} as {}", document, back);
        }
    }
}

#[test]
fn a_period_of_the_whole_consent_is_that_of_the_template_or_refused() {
    let with = |provision: Value| consent(json!({"period": {"end": "2021"}, "provision": provision}));
    let spec = template(&with(json!({"type": "permit"}))).expect("a policy");
    assert_eq!(spec.template.expect("a template").period.expect("a period").end.as_deref(), Some("2021"));
    let period = json!({"start": "2020"});
    for provision in [
        json!({"type": "permit", "period": period}),
        json!({"type": "deny", "provision": [{"type": "permit", "period": period}]}),
        json!({"type": "permit", "provision": [{"type": "deny", "provision": [{"type": "permit", "period": period}]}]}),
    ] {
        assert_eq!(template(&with(provision.clone())).expect_err("refused").field, "Consent.period", "{provision}");
    }
}

#[test]
fn what_is_not_active_is_no_template() {
    for status in ["draft", "inactive", "rejected", "entered-in-error", "unknown"] {
        let document = consent(json!({"status": status, "provision": {"type": "permit"}}));
        assert_eq!(template(&document).expect_err("refused").field, "Consent.status", "{status}");
    }
}

#[test]
fn r5_says_no_period_of_the_whole_beside_one_of_an_exception() {
    let nested = json!({"type": "deny", "period": {"end": "2030"}, "purpose": [{"code": "HRESCH"}]});
    let document = consent(json!({"provision": {"type": "permit", "period": {"end": "2025"}, "provision": [nested]}}));
    let spec = template(&document).expect("a policy");
    let refused = export::consent(&spec, "Patient/1", FhirVersion::R5).expect_err("refused");
    assert_eq!(refused.field, "provision.period");
    assert!(export::consent(&spec, "Patient/1", FhirVersion::R4).is_ok());
}
