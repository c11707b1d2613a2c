//! What a document says as a whole: what it is about, what its root means, which policy it cites, what its modules stand for.

use serde_json::{Value, json};

use super::generate::{codings, consent};
use super::policy;
use crate::vocabulary::code_systems::{ACT_CODE, CONSENT_CATEGORY, CONSENT_SCOPE, LOINC};
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

const NATION: &str = "urn:oid:1.2.3.4";

fn nation() -> Policy {
    policy(json!({"codeSystems": [{"url": NATION}], "modules": [
        {"code": {"system": NATION, "code": "care"}, "class": [{"code": "Observation"}], "purpose": [{"code": "TREAT"}]},
        {"code": {"system": NATION, "code": "study"}, "purpose": [{"code": "HRESCH"}]},
    ]}))
}

fn module(code: &str) -> Value {
    json!([{"coding": codings(NATION, &[code])}])
}

#[test]
fn nothing_nested_in_a_module_says_again_what_the_module_stands_for() {
    let nested = |code: &str, effect: &str, name: &str, value: Value| {
        let below = json!({"type": effect, name: value});
        consent(
            json!({"provision": {"type": "deny", "provision": [{"type": "permit", "code": module(code), "provision": [below]}]}}),
        )
    };
    let request = asks("TREAT", "MedicationRequest");
    let below = "Consent.provision.provision[0].provision[0]";
    for effect in ["permit", "deny"] {
        for (code, name, value, refused) in [
            ("care", "class", json!([{"code": "MedicationRequest"}]), true),
            ("care", "purpose", json!([{"code": "HMARKT"}]), true),
            ("care", "code", module("study"), true),
            ("study", "code", json!([{"coding": codings(LOINC, &["1-8"])}]), true),
            ("study", "class", json!([{"code": "MedicationRequest"}]), false),
            ("care", "period", json!({"end": "2030"}), false),
        ] {
            let expected = if refused { format!("{below}.{name}") } else { "DENY".to_owned() };
            let document = nested(code, effect, name, value);
            assert_eq!(answer(&document, &nation(), &request), expected, "{code} {effect} {document}");
        }
    }
    // Two levels below, and beside another module, it is the same.
    let deeper = json!({"type": "permit", "provision": [{"type": "permit", "class": [{"code": "Media"}]}]});
    let both = json!([{"coding": codings(NATION, &["study"])}, {"coding": codings(NATION, &["care"])}]);
    let document = consent(
        json!({"provision": {"type": "deny", "provision": [{"type": "permit", "code": both, "provision": [deeper]}]}}),
    );
    assert_eq!(answer(&document, &nation(), &request), format!("{below}.provision[0].class"));
}

#[test]
fn a_denied_module_is_lost_by_no_spelling() {
    let of_module = |effect: &str, base: &str, system: Option<&str>, code: &str| {
        let nested = json!({"type": effect, "code": [concept(system, code)]});
        consent(json!({"provision": {"type": base, "provision": [nested]}}))
    };
    for system in [Some(NATION), Some("urn:oid:9.9.9"), Some("https://national.example/modules"), None] {
        for code in ["care", "CARE"] {
            let denial = of_module("deny", "permit", system, code);
            assert_eq!(answer(&denial, &nation(), &asks("TREAT", "Observation")), "DENY", "{system:?} {code}");
            assert_eq!(answer(&denial, &nation(), &asks("HRESCH", "Media")), "PERMIT", "{system:?} {code}");
            let permit = of_module("permit", "deny", system, code);
            let permitted = if (system, code) == (Some(NATION), "care") { "PERMIT" } else { "DENY" };
            assert_eq!(answer(&permit, &nation(), &asks("TREAT", "Observation")), permitted, "{system:?} {code}");
        }
    }
    // It may be a code of content as well.
    let content = json!({"class": "Media", "codes": [{"system": "urn:oid:9.9.9", "code": "care"}]});
    let request = json!({"actor": {"id": "Practitioner/a"}, "purpose": "HRESCH", "resource": content});
    assert_eq!(answer(&of_module("deny", "permit", Some("urn:oid:9.9.9"), "care"), &nation(), &request), "DENY");
    // What is nested in it and permits would permit in what only may be the module.
    for (system, expected) in [(NATION, "PERMIT"), ("urn:oid:9.9.9", "Consent.provision.provision[0].code[0]")] {
        let mut below = of_module("deny", "permit", Some(system), "care");
        below["provision"]["provision"][0]["provision"] = json!([{"type": "permit", "period": {"end": "2030"}}]);
        assert_eq!(answer(&below, &nation(), &asks("TREAT", "Observation")), expected, "{system}");
    }
    // A code that is known to be of another system is none of the nation's.
    let loinc = of_module("deny", "permit", Some(LOINC), "1-8");
    assert_eq!(answer(&loinc, &nation(), &asks("TREAT", "Observation")), "PERMIT");
}

/// A document that states no rule but what it cites.
fn cites(rule: Value, uris: &[&str]) -> Value {
    let mut document = consent(json!({}));
    if !rule.is_null() {
        document["policyRule"] = rule;
    }
    if !uris.is_empty() {
        document["policy"] = uris.iter().map(|uri| json!({"uri": uri})).collect();
    }
    document
}

#[test]
fn an_opt_out_is_one_under_any_spelling_and_never_an_opt_in() {
    let base = "Consent.policyRule";
    let rule = |codes: &[&str]| {
        let codings: Vec<Value> = codes.iter().map(|code| json!({"code": code})).collect();
        cites(json!({"coding": codings}), &[])
    };
    let written = |system: &str, code: &str| cites(concept(Some(system), code), &[]);
    let everything = policy(json!({"basePolicy": "all-normal"}));
    let request = json!({"actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": {"securityLabels": ["N"]}});
    for (document, expected) in [
        (rule(&["OPTIN"]), "PERMIT"),
        (rule(&["OPTOUT"]), "DENY"),
        (rule(&["optout"]), "DENY"),
        (rule(&["OPTOUTE"]), "DENY"),
        (written("urn:unknown", "OPTOUT"), "DENY"),
        (rule(&["OPTIN", "OPTOUTE"]), "Consent.policyRule"),
        (rule(&["OPTIN", "optout"]), "Consent.policyRule"),
        (written("urn:unknown", "OPTIN"), base),
        (rule(&["optin"]), base),
    ] {
        assert_eq!(answer(&document, &everything, &request), expected, "{document}");
    }
}

#[test]
fn what_only_may_be_an_opt_out_makes_no_permit_of_its_exception() {
    let site = policy(json!({"untypedRoot": "exception", "citedPolicies": [
        {"code": {"system": "urn:oid:1.2.3.5", "code": "none"}, "decision": "deny"},
    ]}));
    for (system, code, expected) in [
        (None, "OPTOUT", "PERMIT"),
        (Some(ACT_CODE), "OPTOUTE", "PERMIT"),
        (Some("urn:oid:1.2.3.5"), "none", "PERMIT"),
        (None, "optout", "Consent.policyRule.coding[0]"),
        (Some("urn:unknown"), "OPTOUT", "Consent.policyRule.coding[0]"),
        (Some("urn:unknown"), "none", "Consent.policyRule.coding[0]"),
    ] {
        let mut document = cites(concept(system, code), &[]);
        document["provision"] = json!({"purpose": [{"code": "TREAT"}]});
        assert_eq!(answer(&document, &site, &asks("TREAT", "Observation")), expected, "{system:?} {code}");
    }
}

#[test]
fn a_cited_policy_permits_only_where_all_that_is_cited_is_known() {
    let site = policy(json!({"citedPolicies": [
        {"uri": "https://law.example/opt-in", "decision": "permit"}, {"uri": "urn:oid:1.2.3", "decision": "deny"},
    ]}));
    let request = json!({"actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": {"securityLabels": ["N"]}});
    for (uris, expected) in [
        (&["https://law.example/opt-in"][..], "PERMIT"),
        (&["http://law.example/opt-in/"], "PERMIT"),
        (&["urn:oid:1.2.3"], "DENY"),
        (&["1.2.3"], "DENY"),
        (&["https://law.example/opt-in", "https://law.example/exceptions"], "Consent.policy[1].uri"),
        (&["https://law.example/exceptions", "https://law.example/opt-in"], "Consent.policy[0].uri"),
        (&["https://law.example/opt-in", "urn:oid:1.2.3"], "Consent.policy[1]"),
        (&["urn:oid:1.2.3", "https://law.example/exceptions"], "DENY"),
        (&["https://law.example/exceptions"], "Consent.policy"),
    ] {
        assert_eq!(answer(&cites(Value::Null, uris), &site, &request), expected, "{uris:?}");
    }
    let by_code = policy(json!({"citedPolicies": [
        {"code": {"system": "urn:oid:1.2.3.5", "code": "yes"}, "decision": "permit"},
        {"code": {"system": "urn:oid:1.2.3.5", "code": "no"}, "decision": "deny"},
    ]}));
    let coded = |system: &str, codes: &[&str]| cites(json!({"coding": codings(system, codes)}), &[]);
    for (document, expected) in [
        (coded("urn:oid:1.2.3.5", &["yes"]), "PERMIT"),
        (coded("1.2.3.5", &["yes"]), "PERMIT"),
        (coded("urn:oid:1.2.3.5", &["no"]), "DENY"),
        (coded("urn:unknown", &["NO"]), "DENY"),
        (coded("urn:unknown", &["yes"]), "Consent.policyRule"),
        (coded("urn:oid:1.2.3.5", &["yes", "no"]), "Consent.policyRule"),
        (coded("urn:oid:1.2.3.5", &["yes", "perhaps"]), "Consent.policyRule.coding[1]"),
        (coded("urn:oid:1.2.3.5", &["perhaps"]), "Consent.policyRule"),
        (cites(coded("urn:oid:1.2.3.5", &["yes"])["policyRule"].clone(), &["urn:x"]), "Consent.policy[0].uri"),
    ] {
        assert_eq!(answer(&document, &by_code, &request), expected, "{document}");
    }
    // A document that states its own rules may cite what it likes.
    let mut typed = cites(Value::Null, &["https://law.example/opt-in", "https://law.example/exceptions"]);
    typed["provision"] = json!({"type": "permit"});
    assert_eq!(answer(&typed, &site, &request), "PERMIT");
}

#[test]
fn an_opt_in_permits_only_where_nothing_unknown_is_cited_beside_it() {
    let site = policy(json!({"citedPolicies": [{"uri": "urn:law", "decision": "permit"}]}));
    let beside = |system: Option<&str>, code: &str| json!({"coding": [{"code": "OPTIN"}, concept(system, code)["coding"][0].clone()]});
    let opt_in = || json!({"coding": [{"code": "OPTIN"}]});
    let within = json!({"period": {"end": "2030"}});
    for provision in [Value::Null, within] {
        for (rule, uris, expected) in [
            (opt_in(), &[][..], "PERMIT"),
            (opt_in(), &["urn:law"], "PERMIT"),
            (opt_in(), &["urn:exceptions"], "Consent.policy[0].uri"),
            (opt_in(), &["urn:law", "urn:exceptions"], "Consent.policy[1].uri"),
            (beside(None, "OPTIN"), &[], "PERMIT"),
            (beside(Some(ACT_CODE), "OPTINR"), &[], "Consent.policyRule.coding[1]"),
            (beside(None, "OPTINR"), &[], "Consent.policyRule.coding[1]"),
            (beside(Some(ACT_CODE), "EMRGONLY"), &[], "Consent.policyRule.coding[1]"),
            (beside(Some("urn:unknown"), "hospital-only"), &[], "Consent.policyRule.coding[1]"),
            (beside(Some("urn:unknown"), "OPTOUT"), &[], "Consent.policyRule"),
            (beside(None, "optout"), &[], "Consent.policyRule"),
        ] {
            let mut document = cites(rule, uris);
            if !provision.is_null() {
                document["provision"] = provision.clone();
            }
            assert_eq!(answer(&document, &site, &asks("TREAT", "Media")), expected, "{document}");
        }
    }
}

#[test]
fn what_has_no_base_is_refused_by_the_element_that_says_none() {
    let site = policy(json!({}));
    for (document, expected) in [
        (cites(json!({"coding": [{"code": "optin"}]}), &[]), "Consent.policyRule"),
        (cites(json!({"text": "as we agreed"}), &["urn:x"]), "Consent.policyRule"),
        (cites(Value::Null, &["urn:x"]), "Consent.policy"),
        (cites(Value::Null, &[]), "Consent.provision.type"),
    ] {
        assert_eq!(answer(&document, &site, &asks("TREAT", "Media")), expected, "{document}");
    }
}

#[test]
fn modules_stand_in_the_element_that_the_policy_names() {
    let situations = "urn:oid:1.2.3.6";
    let site = policy(json!({"codeSystems": [{"url": NATION}, {"url": situations}], "modules": [
        {"code": {"system": NATION, "code": "care"}, "class": [{"code": "Observation"}]},
        {"element": "purpose", "code": {"system": situations, "code": "NORM"}, "purpose": [{"code": "TREAT"}]},
        {"element": "purpose", "code": {"system": situations, "code": "EMER"}, "purpose": [{"code": "ETREAT"}]},
    ]}));
    let nested = |effect: &str, situation: &[&str], code: Value| {
        let base = if effect == "deny" { "permit" } else { "deny" };
        let mut rule = json!({"type": effect, "purpose": codings(situations, situation)});
        if !code.is_null() {
            rule["code"] = code;
        }
        consent(json!({"provision": {"type": base, "provision": [rule]}}))
    };
    for (purpose, class, one, both) in [
        ("TREAT", "Observation", "PERMIT", "PERMIT"),
        ("ETREAT", "Observation", "DENY", "PERMIT"),
        ("TREAT", "Media", "DENY", "DENY"),
        ("HRESCH", "Observation", "DENY", "DENY"),
    ] {
        let request = asks(purpose, class);
        assert_eq!(answer(&nested("permit", &["NORM"], module("care")), &site, &request), one, "{purpose} {class}");
        assert_eq!(
            answer(&nested("permit", &["NORM", "EMER"], module("care")), &site, &request),
            both,
            "{purpose} {class}"
        );
        let denied = if one == "PERMIT" { "DENY" } else { "PERMIT" };
        assert_eq!(answer(&nested("deny", &["NORM"], module("care")), &site, &request), denied, "{purpose} {class}");
    }
    let request = asks("TREAT", "Observation");
    let field = "Consent.provision.provision[0].purpose[1]";
    assert_eq!(answer(&nested("deny", &["NORM", "AUTO"], Value::Null), &site, &request), field);
    assert_eq!(answer(&nested("permit", &["NORM", "AUTO"], Value::Null), &site, &request), "PERMIT");
    assert_eq!(answer(&nested("permit", &["AUTO"], Value::Null), &site, &request), "DENY");
    // A code of another element is none of its modules.
    let elsewhere =
        consent(json!({"provision": {"type": "permit", "code": [{"coding": codings(situations, &["NORM"])}]}}));
    assert_eq!(answer(&elsewhere, &site, &request), "DENY");
}
