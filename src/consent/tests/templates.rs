//! A consent as the template of a policy, and back: neither permits what the other does not.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{LabelsIn, consent, r4, r5_of, request};
use crate::subject::Standing;
use crate::vocabulary::{FhirVersion, Period, PolicySpec, Provision, ProvisionType};
use crate::{FieldError, Policy, Request, export, fhir, validate};

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

fn decision(document: &Value, policy: &Policy, request: &Value, now: &str) -> Value {
    let consent = fhir::read(document, None, policy.context()).expect("a consent");
    let request = Request::parse(request, policy.context()).expect("a request");
    let decision = crate::decide(&[consent], policy, &request, now.parse().expect("a time"));
    json!([decision.decision, decision.residual])
}

/// The policy with the systems of the documents here.
fn declared(spec: &PolicySpec) -> PolicySpec {
    let systems = json!([{"url": "urn:codes"}, {"url": "urn:classes"}]);
    PolicySpec { code_systems: serde_json::from_value(systems).expect("systems"), ..spec.clone() }
}

fn anywhere(provision: &Provision, has: fn(&Provision) -> bool) -> bool {
    has(provision) || provision.provision.iter().any(|nested| anywhere(nested, has))
}

/// The element for which no template can say what this consent says.
fn unsayable(document: &Value) -> Option<&'static str> {
    let consent = read(document);
    let counts = Policy::default().standing(&consent) == Standing::Permits;
    if document["period"].is_object() && anywhere(&consent.provision, |provision| provision.period.is_some()) {
        return Some("Consent.period");
    }
    let permits = anywhere(&consent.provision, |provision| provision.type_ == Some(ProvisionType::Permit));
    (permits && !counts).then_some("Consent.category")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 65_536, failure_persistence: None, ..ProptestConfig::default() })]

    /// Under the policy that it was imported into, as a patient's consent is read.
    #[test]
    fn what_is_imported_and_exported_decides_as_before(
        mut document in r4(LabelsIn::Any, 2), whole in prop::option::of(select(&["2023", "2024"][..])), request in request(),
        version in select(&[FhirVersion::R4, FhirVersion::R5][..]), year in 2019..2030,
    ) {
        if version == FhirVersion::R5 {
            document = r5_of(&document);
            // An exception without elements is refused.
            prop_assume!(fhir::read(&document, None, Policy::default().context()).is_ok());
        }
        if let Some(end) = whole {
            document["period"] = json!({"end": end});
        }
        match (template(&document), unsayable(&document)) {
            (Err(error), unsayable) => prop_assert_eq!(Some(error.field.as_str()), unsayable, "{}", document),
            (Ok(_), Some(field)) => prop_assert!(false, "{} is imported in spite of {field}", document),
            (Ok(spec), None) => {
                let imported = validate(&declared(&spec)).expect("a policy");
                let back = export::consent(&spec, "Patient/ex-patient", version).expect("a consent");
                let now = format!("{year}-06-15T12:00:00Z");
                let before = decision(&document, &Policy::default(), &request, &now);
                prop_assert_eq!(decision(&back, &imported, &request, &now), before, "{} as {}", document, back);
            }
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
