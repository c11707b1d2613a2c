//! A consent as the template of a policy, and back: neither permits what the other does not.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{LabelsIn, consent, r4, request};
use crate::vocabulary::code_systems::{ACT_CODE, CONSENT_CATEGORY, LOINC};
use crate::vocabulary::{FhirVersion, Period, PolicySpec};
use crate::{FieldError, Policy, Request, export, fhir, validate};

fn template(document: &Value) -> Result<PolicySpec, FieldError> {
    imported(document, &PolicySpec::default())
}

/// The policy that is made of a document under another one.
fn imported(document: &Value, under: &PolicySpec) -> Result<PolicySpec, FieldError> {
    let policy = validate(under).expect("a policy");
    let consent = fhir::read(document, None, policy.context()).map_err(|mut errors| errors.remove(0))?;
    let period = document.get("period").map(|period| Period {
        start: period["start"].as_str().map(str::to_owned),
        end: period["end"].as_str().map(str::to_owned),
    });
    export::policy(&consent, under, &policy, period).map_err(|mut errors| errors.remove(0))
}

fn decision(document: &Value, request: &Value, now: &str) -> Value {
    decision_under(&Policy::default(), document, request, now)
}

fn decision_under(policy: &Policy, document: &Value, request: &Value, now: &str) -> Value {
    let consent = fhir::read(document, None, policy.context()).expect("a consent");
    let request = Request::parse(request, policy.context()).expect("a request");
    let decision = crate::decide(&[consent], policy, &request, now.parse().expect("a time"));
    json!([decision.decision, decision.residual])
}

const SITE: &str = "urn:oid:1.2.3.4";

/// What a policy may say that decides which documents permit, and what.
fn policies() -> impl Strategy<Value = PolicySpec> {
    let site = |code: &str| json!({"system": SITE, "code": code});
    let category =
        select(vec![json!(null), json!([site("a")]), json!([site("a"), site("b")]), json!([{"code": "INFA"}])]);
    let scope = select(vec![json!(null), json!("patient-privacy"), json!("research")]);
    let break_glass = select(vec![
        json!(null),
        json!({"mode": "forbid"}),
        json!({"mode": "allow"}),
        json!({"purposes": ["BTG", "TREAT"], "mode": "forbid"}),
    ]);
    let overriding = select(vec![json!(null), json!({"deny": {"purpose": [{"code": "HRESCH"}]}})]);
    let base = select(vec![json!(null), json!("all-normal"), json!("break-glass-only")]);
    let version = select(vec!["R4", "R5"]);
    (category, scope, break_glass, overriding, base, version).prop_map(
        |(category, scope, glass, overriding, base, version)| {
            let mut spec = json!({"codeSystems": [{"url": SITE}], "fhirVersion": version});
            let type_ = if version == "R4" { "type" } else { "decision" };
            let overriding = match overriding.is_null() {
                true => json!(null),
                false => json!([{type_: "deny", "purpose": overriding["deny"]["purpose"]}]),
            };
            let members = [
                ("category", category),
                ("scope", scope),
                ("breakGlass", glass),
                ("overriding", overriding),
                ("basePolicy", base),
            ];
            for (name, value) in members.into_iter().filter(|(_, value)| !value.is_null()) {
                spec[name] = value;
            }
            serde_json::from_value(spec).expect("a spec")
        },
    )
}

/// A document with these scopes and categories.
fn documents() -> impl Strategy<Value = Value> {
    let one = |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}]});
    let categories = vec![
        one(SITE, "a"),
        one(SITE, "b"),
        one(SITE, "c"),
        one("urn:other", "x"),
        one(LOINC, "59284-0"),
        one(ACT_CODE, "INFA"),
        one(CONSENT_CATEGORY, "npp"),
    ];
    let category = prop::collection::vec(select(categories), 1..3);
    let scope = select(&["patient-privacy", "research"][..]);
    (r4(LabelsIn::Any, 2), category, scope).prop_map(|(mut document, category, scope)| {
        document["category"] = json!(category);
        document["scope"]["coding"][0]["code"] = json!(scope);
        document
    })
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, max_global_rejects: 65_536, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_that_is_made_of_a_document_permits_by_no_more_documents(
        under in policies(), of in documents(), other in documents(), request in request(), purpose in select(&["TREAT", "BTG", "HRESCH"][..]),
    ) {
        let Ok(made) = imported(&of, &under) else { return Ok(()) };
        let mut request = request;
        request["purpose"] = json!(purpose);
        request["actor"]["attributes"] = json!({"ehr.breakglass": "true"});
        let made = validate(&made).expect("a policy");
        let now = "2026-06-15T12:00:00Z";
        for document in [&of, &other] {
            let source = decision_under(&validate(&under).expect("a policy"), document, &request, now);
            let made = decision_under(&made, document, &request, now);
            prop_assert!(made[0] != "PERMIT" || source[0] == "PERMIT", "{} {}", document, request);
        }
    }
}

#[test]
fn a_policy_takes_of_a_document_the_categories_by_which_it_was_taken() {
    let one = |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}]});
    let document = |category: Value| consent(json!({"provision": {"type": "permit"}, "category": category}));
    let taken = |document: &Value, under: Value| -> Vec<String> {
        let under = serde_json::from_value(under).expect("a spec");
        imported(document, &under).expect("a policy").category.into_iter().map(|coding| coding.code).collect()
    };
    let found = document(json!([one(LOINC, "59284-0"), one("https://national.example/categories", "broad")]));
    assert_eq!(taken(&found, json!({})), ["59284-0"]);
    let listed = document(json!([one(SITE, "a"), one(LOINC, "59284-0"), one("urn:other", "x")]));
    let under = json!({"codeSystems": [{"url": SITE}], "category": [{"system": SITE, "code": "a"}]});
    assert_eq!(taken(&listed, under.clone()), ["a"]);
    let mut denies = document(json!([one(LOINC, "59284-0")]));
    denies["provision"]["type"] = json!("deny");
    assert_eq!(taken(&denies, under), ["a"], "what takes no category of the document is what it was");
}

/// A policy may say less than a document, and what it cannot say is named where the document says it.
#[test]
fn what_a_template_cannot_say_is_named_where_the_document_says_it() {
    let unknown = json!([{"system": "urn:other", "code": "x"}]);
    let below = json!({"type": "permit", "provision": [{"type": "deny", "class": unknown}]});
    let under: PolicySpec = serde_json::from_value(json!({"codeSystems": [{"url": SITE}], "modules": [
        {"code": {"system": SITE, "code": "a"}, "purpose": [{"code": "TREAT"}]},
        {"code": {"system": SITE, "code": "b"}, "purpose": [{"code": "HRESCH"}]},
    ]}))
    .expect("a spec");
    let modules = json!([{"coding": [{"system": SITE, "code": "a"}, {"system": SITE, "code": "b"}]}]);
    let document =
        consent(json!({"provision": {"type": "deny", "provision": [{"type": "permit", "code": modules}, below]}}));
    let refused = imported(&document, &under).expect_err("refused");
    assert_eq!(refused.field, "Consent.provision.provision[1].provision[0].class[0]");
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
