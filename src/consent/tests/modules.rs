//! Codes of a system of modules that stand for nothing: a denial of one is refused, a permit of one permits nobody anything.

use serde_json::{Value, json};

use super::generate::consent;
use super::{decide, policy};
use crate::vocabulary::code_systems::LOINC;
use crate::{FieldError, Policy, fhir};

const NATION: &str = "urn:oid:1.2.3.4";
const ALIAS: &str = "https://national.example/modules/";
const UNKNOWN: &str = "urn:oid:9.9.9";

/// A policy that knows two modules in each element, with `rest`.
fn nation(rest: Value) -> Policy {
    let module = |element: &str| {
        let code = json!({"system": NATION, "code": "care"});
        json!({"element": element, "code": code, "purpose": [{"code": "TREAT"}], "class": [{"code": "Observation"}]})
    };
    let mut spec = json!({
        "breakGlass": {"mode": "forbid"},
        "codeSystems": [{"url": NATION, "aliases": ["https://national.example/modules"]}],
        "modules": [module("code"), module("purpose"), module("class")],
    });
    for (name, value) in rest.as_object().expect("members") {
        spec[name] = value.clone();
    }
    policy(spec)
}

/// A provision of this type whose `element` has these codes.
fn provision(effect: &str, element: &str, codes: &[Value]) -> Value {
    let concept = |code: &Value| if element == "code" { json!({"coding": [code]}) } else { code.clone() };
    json!({"type": effect, element: codes.iter().map(concept).collect::<Value>()})
}

fn below(base: &str, rule: Value) -> Value {
    consent(json!({"provision": {"type": base, "provision": [rule]}}))
}

fn code(system: Option<&str>, code: &str) -> Value {
    system.map_or_else(|| json!({"code": code}), |system| json!({"system": system, "code": code}))
}

/// What may be a code of the modules' system and is no module.
fn undeclared() -> Vec<Value> {
    let spelled = [Some(NATION), Some(ALIAS), Some("URN:OID:1.2.3.4"), Some(UNKNOWN), None];
    let unknown = spelled.map(|system| code(system, "bills"));
    let module = [code(Some(NATION), "CARE"), code(Some(UNKNOWN), "care"), code(None, "care")];
    unknown.into_iter().chain(module).collect()
}

/// Requests for records that have the code, for those that have none, and for records of which nothing is said.
fn requests(element: &str, code: &Value) -> Vec<Value> {
    let with = |purpose: &Value, resource: Value| json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": purpose, "resource": resource});
    let resources = [
        json!({}),
        json!({"class": "Observation", "codes": []}),
        json!({"class": "Observation", "codes": [code]}),
        json!({"class": [code], "codes": [code]}),
    ];
    let asked: Vec<Value> =
        [json!("HMARKT"), json!("TREAT")].into_iter().chain((element == "purpose").then(|| code.clone())).collect();
    resources
        .into_iter()
        .flat_map(|resource| asked.iter().map(move |purpose| with(purpose, resource.clone())))
        .collect()
}

fn permits(consents: &[Value], policy: &Policy, request: &Value) -> bool {
    decide(consents, policy, request)["decision"] != "DENY"
}

#[test]
fn a_permit_of_a_code_that_is_no_module_permits_nothing() {
    for element in ["code", "purpose", "class"] {
        for code in undeclared() {
            let rule = provision("permit", element, std::slice::from_ref(&code));
            let root = consent(json!({"provision": rule}));
            let mut above = rule.clone();
            above["provision"] = json!([{"type": "permit", "period": {"end": "2030"}}]);
            for request in requests(element, &code) {
                for document in [below("deny", rule.clone()), root.clone(), below("deny", above.clone())] {
                    assert!(
                        !permits(std::slice::from_ref(&document), &nation(json!({})), &request),
                        "{document} {request}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_policy_permits_by_no_code_that_is_no_module() {
    for element in ["code", "purpose", "class"] {
        let code = code(Some(NATION), "bills");
        let rule = json!({"type": "permit", element: [code]});
        let overriding = nation(json!({"overriding": [rule], "template": rule}));
        for request in requests(element, &code) {
            assert!(!permits(&[], &overriding, &request), "{element} {request}");
        }
    }
}

#[test]
fn what_stands_beside_a_code_that_is_no_module_is_permitted_as_ever() {
    let rule = provision(
        "permit",
        "code",
        &[code(Some(NATION), "bills"), code(Some(NATION), "care"), code(Some(LOINC), "1-8")],
    );
    let document = below("deny", rule);
    let ask = |purpose: &str, codes: Value| {
        let resource = json!({"class": "Observation", "codes": codes});
        let request = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": purpose, "resource": resource});
        decide(std::slice::from_ref(&document), &nation(json!({})), &request)["decision"].clone()
    };
    assert_eq!(ask("TREAT", json!([])), "PERMIT");
    assert_eq!(ask("HMARKT", json!([])), "DENY");
    assert_eq!(ask("HMARKT", json!([code(Some(NATION), "bills")])), "DENY");
    assert_eq!(ask("HMARKT", json!([code(Some(LOINC), "1-8")])), "PERMIT");
}

/// Outside of nothing is everything: a root that permits no record denies them all, whatever the base policy is.
#[test]
fn a_root_that_permits_by_no_module_leaves_everything_out() {
    let lenient = nation(json!({"basePolicy": "all-normal"}));
    let document = consent(json!({"provision": provision("permit", "code", &[code(Some(NATION), "bills")])}));
    let resource = json!({"securityLabels": ["N"], "codes": []});
    let request = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": resource});
    assert_eq!(decide(&[document], &lenient, &request)["decision"], "DENY");
    assert_eq!(decide(&[], &lenient, &request)["decision"], "PERMIT");
}

#[test]
fn what_is_nested_in_a_code_that_is_no_module_cannot_leave_it() {
    let mut rule = provision("permit", "code", &[code(Some(NATION), "bills")]);
    rule["provision"] = json!([provision("permit", "code", &[code(Some(LOINC), "1-8")])]);
    let refused = fhir::read(&below("deny", rule), None, nation(json!({})).context()).expect_err("refused");
    assert_eq!(refused[0].field, "Consent.provision.provision[0].provision[0].code");
}

#[test]
fn a_denial_below_a_code_that_is_no_module_is_refused() {
    let mut rule = provision("permit", "code", &[code(Some(NATION), "bills")]);
    rule["provision"] = json!([{"type": "permit", "provision": [{"type": "deny", "class": [{"code": "Media"}]}]}]);
    let refused: Vec<FieldError> =
        fhir::read(&below("deny", rule), None, nation(json!({})).context()).expect_err("refused");
    assert_eq!(refused[0].field, "Consent.provision.provision[0].code[0]");
    assert!(refused[0].message.starts_with("is not one of the policy's modules"), "{refused:?}");
}
