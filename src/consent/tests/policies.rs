//! What a ConsentPolicy says must take effect, or be refused with the field: a rule that matches nobody withholds nothing.

use serde_json::{Value, json};

use super::generate::consent;
use super::{decide, policy};
use crate::vocabulary::code_systems::PARTICIPATION_TYPE;
use crate::{Policy, validate};

/// The fields for which a policy is refused.
fn refused(spec: Value) -> Vec<String> {
    let errors = validate(&serde_json::from_value(spec).expect("a spec")).err().unwrap_or_default();
    errors.into_iter().map(|error| error.field).collect()
}

fn request(purpose: &str, class: &str) -> Value {
    let actor = json!({"id": "Practitioner/a", "mspId": "SomeMSP", "role": "porter", "groups": [], "identifiers": []});
    json!({"patient": "Patient/ex-patient", "actor": actor, "purpose": purpose, "resource": {"class": class}})
}

fn decision(policy: &Policy, request: &Value) -> Value {
    decide(&[consent(json!({"provision": {"type": "permit"}}))], policy, request)["decision"].clone()
}

const MODULES: &str = "urn:oid:1.2.3.4";

fn with_modules(rest: Value) -> Value {
    let mut spec = json!({
        "codeSystems": [{"url": MODULES, "aliases": ["https://national.example/modules"]}],
        "modules": [
            {"code": {"system": MODULES, "code": "care"}, "class": [{"code": "Observation"}], "purpose": [{"code": "TREAT"}]},
            {"code": {"system": MODULES, "code": "study"}, "purpose": [{"code": "HRESCH"}]},
        ],
    });
    for (name, value) in rest.as_object().expect("members") {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn modules_in_overriding_rules_stand_for_what_they_stand_for_in_documents() {
    let code =
        |codes: &[&str]| -> Value { codes.iter().map(|code| json!({"system": MODULES, "code": code})).collect() };
    for (codes, care, study) in [(&["care"][..], "DENY", "PERMIT"), (&["care", "study"][..], "DENY", "DENY")] {
        let policy = policy(with_modules(json!({"overriding": [{"type": "deny", "code": code(codes)}]})));
        for (asked, expected) in [
            (request("TREAT", "Observation"), care),
            (request("HRESCH", "Media"), study),
            (request("TREAT", "Media"), "PERMIT"),
        ] {
            assert_eq!(decision(&policy, &asked), expected, "{codes:?} {asked}");
        }
    }
    for (place, rule) in [
        ("overriding", json!([{"type": "deny", "code": code(&["unknown"])}])),
        ("overriding", json!([{"type": "deny", "code": code(&["care"]), "class": [{"code": "Media"}]}])),
        ("template", json!({"type": "permit", "provision": [{"type": "deny", "code": code(&["unknown"])}]})),
    ] {
        let fields = refused(with_modules(json!({place: rule})));
        assert!(fields[0].starts_with(&format!("spec.{place}")), "{fields:?}");
    }
}

#[test]
fn an_overriding_rule_that_nobody_could_meet_is_refused() {
    let actor = |actor: Value| json!({"overriding": [{"type": "deny", "actor": [actor]}]});
    let role = |system: Value, code: &str| json!({"system": system, "code": code});
    for (rule, field) in [
        (json!({"reference": "Organization/unmapped"}), "reference"),
        (json!({"reference": "PractitionerRole/x"}), "reference"),
        (json!({"reference": "CareTeam/x"}), "reference"),
        (json!({"identifier": {"system": "urn:x", "value": "1"}}), "reference.identifier"),
        (json!({"role": {"code": "Physician"}}), "role"),
        (json!({"role": {"code": "Physician"}, "mspId": "MercyMSP"}), "role"),
        (json!({"role": {"code": "head physician"}}), "role"),
        (json!({"role": role(json!(PARTICIPATION_TYPE), "WIT"), "reference": "Practitioner/x"}), "role"),
    ] {
        assert_eq!(refused(actor(rule.clone())), [format!("spec.overriding[0].actor[0].{field}")], "{rule}");
    }
    for rule in [
        json!({"reference": "Group/x"}),
        json!({"reference": "Practitioner/x"}),
        json!({"identifier": {"system": "urn:ehrnet:msp:MercyMSP", "value": "dr-a"}}),
        json!({"role": {"code": "head-physician"}}),
        json!({"role": {"code": "CST"}, "reference": "Organization/unmapped"}),
    ] {
        assert_eq!(refused(actor(rule.clone())), [""; 0], "{rule}");
    }
    let mut mapped = actor(json!({"reference": "Organization/mercy"}));
    mapped["organizations"] = json!([{"reference": "Organization/mercy", "mspId": "SomeMSP"}]);
    assert_eq!(decision(&policy(mapped), &request("TREAT", "Media")), "DENY");
}

#[test]
fn a_role_is_mapped_once_and_what_is_known_means_the_same_everywhere() {
    let map = |roles: &[(Value, &str)]| -> Value {
        let roles: Vec<Value> = roles.iter().map(|(role, part)| json!({"role": role, "as": part})).collect();
        json!({"actorRoles": roles})
    };
    let of = |code: &str| json!({"system": PARTICIPATION_TYPE, "code": code});
    let own = |system: &str| json!({"system": system, "code": "doc"});
    for (roles, field) in [
        (map(&[(json!({"code": "PRCP"}), "bystander")]), "spec.actorRoles[0].role"),
        (map(&[(of("PRCP"), "custodian")]), "spec.actorRoles[0].role"),
        (map(&[(of("WIT"), "recipient")]), "spec.actorRoles[0].role"),
        (
            map(&[(own("http://a.example"), "custodian"), (own("https://www.a.example/"), "recipient")]),
            "spec.actorRoles[1].role",
        ),
        (
            map(&[(own("http://a.example"), "recipient"), (own("http://a.example"), "recipient")]),
            "spec.actorRoles[1].role",
        ),
    ] {
        assert_eq!(refused(roles.clone()), [field], "{roles}");
    }
    assert_eq!(refused(map(&[(of("WIT"), "bystander"), (own("http://a.example"), "recipient")])), [""; 0]);
}

/// What is not labelled is as protected as can be, unless the policy says otherwise; no policy says the same as one that says nothing.
#[test]
fn a_record_without_confidentiality_is_denied_with_the_restricted_ones_where_a_label_is_required() {
    let denies = json!([{"type": "deny", "securityLabel": [{"code": "R"}]}]);
    let but_restricted = consent(json!({"provision": {"type": "permit", "provision": denies}}));
    let required = |required: bool| policy(json!({"labels": {"requireConfidentiality": required}}));
    for (labels, strict, lenient) in [
        (json!([]), "DENY", "PERMIT"),
        (json!(["PSY"]), "DENY", "PERMIT"),
        (json!(["N"]), "PERMIT", "PERMIT"),
        (json!(["R"]), "DENY", "DENY"),
    ] {
        let mut request = request("TREAT", "Media");
        request["resource"]["securityLabels"] = labels.clone();
        let of = |policy: &Policy| decide(std::slice::from_ref(&but_restricted), policy, &request)["decision"].clone();
        assert_eq!(of(&required(false)), lenient, "{labels}");
        for policy in [required(true), policy(json!({})), Policy::default()] {
            assert_eq!(of(&policy), strict, "{labels}");
        }
    }
}

/// A module means something in the element that it is declared for. Elsewhere a denial of it would be lost.
#[test]
fn a_denied_module_is_refused_in_every_other_element_than_its_own() {
    const ELEMENTS: [&str; 6] = ["code", "purpose", "class", "documentType", "securityLabel", "action"];
    let by_codings = |name: &str, coding: &Value| match name {
        "code" | "action" => json!([{"coding": [coding]}]),
        _ => json!([coding]),
    };
    for own in ["code", "purpose", "class"] {
        let states = if own == "class" { "purpose" } else { "class" };
        let module = json!({
            "element": own, "code": {"system": "urn:oid:1.2.3.4", "code": "care"},
            states: [{"code": if own == "class" { "TREAT" } else { "Observation" }}],
        });
        let spec = json!({"codeSystems": [{"url": "urn:oid:1.2.3.4"}], "modules": [module]});
        let site = policy(spec.clone());
        for coding in [
            json!({"system": "urn:oid:1.2.3.4", "code": "care"}),
            json!({"system": "urn:unknown", "code": "Care"}),
            json!({"code": "care"}),
        ] {
            for element in ELEMENTS.into_iter().filter(|element| *element != own) {
                let rule = |effect: &str| json!({"type": effect, element: by_codings(element, &coding)});
                let mut above = rule("permit");
                above["provision"] = json!([{"type": "deny", "dataPeriod": {"end": "2020"}}]);
                for (rule, reads) in [(rule("deny"), false), (above, false), (rule("permit"), true)] {
                    let consent = consent(json!({"provision": {"type": "deny", "provision": [rule]}}));
                    let read = crate::fhir::read(&consent, None, site.context());
                    let fields = read.map_or_else(|errors| vec![errors[0].field.clone()], |_| Vec::new());
                    let refused = format!("Consent.provision.provision[0].{element}[0]");
                    assert_eq!(fields.first(), (!reads).then_some(&refused), "{own} {consent}");
                }
                let mut overriding = spec.clone();
                overriding["overriding"] = json!([{"type": "deny", element: [coding]}]);
                let fields = refused(overriding);
                assert_eq!(fields.first(), Some(&format!("spec.overriding[0].{element}[0]")), "{own} {coding}");
            }
        }
    }
}
