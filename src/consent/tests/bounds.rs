//! The work and the memory that a small document may ask for.

use serde_json::{Value, json};

use super::generate::{codings, consent};
use super::oracle::permitted_by;
use super::{decide, policy};
use crate::context::ProvisionContext;
use crate::error::MAX_ERRORS;
use crate::vocabulary::code_systems::{ACT_REASON, CONFIDENTIALITY};
use crate::{FieldError, Policy, Request, fhir};

const MODULES: &str = "urn:oid:1.2.3.4";

fn errors(consent: &Value, context: &ProvisionContext) -> Vec<FieldError> {
    fhir::read(consent, None, context).expect_err("refused")
}

fn searches(count: usize) -> Value {
    (0..count).map(|i| json!({"reference": {"reference": format!("Practitioner?identifier=a|{i}")}})).collect()
}

/// A policy whose codes `0` to `31` are modules.
fn modules() -> ProvisionContext {
    let module = |i: usize| json!({"code": {"system": MODULES, "code": i.to_string()}, "purpose": [{"code": "TREAT"}]});
    let modules: Vec<Value> = (0..32).map(module).collect();
    policy(json!({"codeSystems": [{"url": MODULES}], "modules": modules})).context().clone()
}

fn of_modules(codes: impl IntoIterator<Item = usize>) -> Value {
    let concept = |i: usize| json!({"coding": [{"system": MODULES, "code": i.to_string()}]});
    codes.into_iter().map(concept).collect()
}

#[test]
fn what_many_denials_inherit_is_wrong_once_and_where_it_is_stated() {
    for effect in ["permit", "deny"] {
        let nested = vec![json!({"type": "deny", "provision": [{"type": "deny"}]}); 300];
        let provision = json!({"type": effect, "actor": searches(2), "provision": nested});
        let errors = errors(&consent(json!({"provision": provision})), &ProvisionContext::default());
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["Consent.provision.actor[0].reference", "Consent.provision.actor[1].reference"]);
    }
}

#[test]
fn a_denial_that_states_an_element_again_does_not_inherit_what_is_wrong_with_it() {
    let stated = json!({"type": "deny", "actor": [{"reference": {"reference": "Practitioner/1"}}]});
    let provision = json!({"type": "permit", "actor": searches(2), "provision": [stated]});
    assert!(fhir::read(&consent(json!({"provision": provision})), None, &ProvisionContext::default()).is_ok());
}

#[test]
fn no_document_has_more_errors_than_anybody_reads() {
    let denial = |effect: &str, name: &str, value: Value| consent(json!({"provision": {"type": effect, name: value}}));
    let periods = vec![json!({"type": "permit", "period": {"end": "never"}}); 300];
    for consent in [denial("deny", "actor", searches(300)), denial("permit", "provision", periods.into())] {
        assert_eq!(errors(&consent, &ProvisionContext::default()).len(), MAX_ERRORS);
    }
}

#[test]
fn a_module_that_is_named_twice_is_one_rule() {
    let nested = json!({"type": "permit", "code": of_modules(vec![7; 5_000])});
    let consent = consent(json!({"provision": {"type": "deny", "provision": [nested]}}));
    let read = fhir::read(&consent, None, &modules()).expect("a consent");
    assert_eq!(read.root.children.len(), 1);
}

#[test]
fn modules_stop_standing_for_rules_where_there_are_too_many() {
    let below = vec![json!({"type": "permit", "period": {"end": "2030"}}); 200];
    let provision = json!({"type": "permit", "code": of_modules(0..32), "provision": below});
    let errors = errors(&consent(json!({"provision": {"type": "deny", "provision": [provision]}})), &modules());
    assert!(errors[0].message.contains("more than 4096"), "{errors:?}");
    let actors: Vec<Value> =
        (0..9_000).map(|i| json!({"reference": {"reference": format!("Practitioner/{i}")}})).collect();
    let many = json!({"type": "permit", "actor": actors, "code": of_modules(0..32)});
    let errors = self::errors(&consent(json!({"provision": {"type": "deny", "provision": [many]}})), &modules());
    assert_eq!(errors[0].field, "Consent.provision.provision[0].code");
}

#[test]
fn a_frame_gives_its_labels_to_what_is_nested_in_it_within_bounds() {
    let labels: Vec<Value> = (0..9_000).map(|i| json!({"code": i.to_string()})).collect();
    let provision = json!({"securityLabel": labels, "provision": vec![json!({"type": "permit"}); 4_000]});
    let errors = errors(&consent(json!({"provision": provision})), &ProvisionContext::default());
    assert_eq!(errors[0].field, "Consent.provision.securityLabel");
}

#[test]
fn provisions_are_counted_while_they_are_read() {
    let empty = json!({"type": "permit", "provision": vec![json!({"type": "permit"}); 5_000]});
    let exceptions = vec![
        json!({"purpose": [{"code": "TREAT"}], "provision": vec![json!({"class": [{"code": "Media"}]}); 2_500]});
        2
    ];
    for consent in [consent(json!({"provision": empty})), consent(json!({"decision": "deny", "provision": exceptions}))]
    {
        let errors = errors(&consent, &ProvisionContext::default());
        assert!(errors[0].message.contains("more than 4096 provisions"), "{errors:?}");
    }
}

fn of_code(code: &str) -> Value {
    json!([{"coding": [{"system": "urn:codes", "code": code}]}])
}

/// Denials of codes, and in each exceptions, and in each of these a denial again.
fn entangled(denials: usize, exceptions: usize, element: impl Fn(&str) -> Value) -> Value {
    let rule = |effect: &str, code: &str, nested: Vec<Value>| {
        let mut rule = element(code);
        rule["type"] = json!(effect);
        if !nested.is_empty() {
            rule["provision"] = nested.into();
        }
        rule
    };
    let group = |i: usize| {
        let exception = |j: usize| {
            let but = rule("deny", &format!("but-{i}-{j}"), Vec::new());
            rule("permit", &format!("exception-{i}-{j}"), vec![but])
        };
        rule("deny", &format!("denied-{i}"), (0..exceptions).map(exception).collect())
    };
    let nested: Vec<Value> = (0..denials).map(group).collect();
    consent(json!({"provision": {"type": "permit", "provision": nested}}))
}

/// Where a list would have one rule for each choice of an exception from every denial, they took 4 to the power of 8.
#[test]
fn what_is_left_to_compare_grows_with_the_consents_and_not_with_what_they_are_combined_of() {
    let by_code = |denials, exceptions| entangled(denials, exceptions, |code| json!({"code": of_code(code)}));
    let sensitive =
        consent(json!({"provision": {"type": "permit", "securityLabel": codings(CONFIDENTIALITY, &["N"])}}));
    for (consents, denials, exceptions) in [(1, 8, 3), (1, 100, 5), (1, 2, 300), (12, 1, 1), (50, 3, 3)] {
        let mut consents = vec![by_code(denials, exceptions); consents];
        consents.push(sensitive.clone());
        let open = decide(&consents, &Policy::default(), &json!({"patient": "Patient/ex-patient"}));
        assert_eq!(open["decision"], "PERMIT");
        let last = format!("{}-{}", denials - 1, exceptions - 1);
        let (denied, exception, but) = ("denied-0", format!("exception-{last}"), format!("but-{last}"));
        let of_last = format!("denied-{}", denials - 1);
        for (codes, label, permitted) in [
            (vec![], "N", true),
            (vec![], "R", false),
            (vec![denied], "N", false),
            (vec![of_last.as_str()], "N", false),
            (vec![of_last.as_str(), &exception], "N", true),
            (vec![of_last.as_str(), &exception], "R", false),
            (vec![of_last.as_str(), &exception, &but], "N", false),
        ] {
            let record = json!({"codes": codes, "securityLabels": [label]});
            assert_eq!(permitted_by(&open, &record), permitted, "{codes:?} {label}");
            let full =
                decide(&consents, &Policy::default(), &json!({"patient": "Patient/ex-patient", "resource": record}));
            assert_eq!(full["decision"] == "PERMIT", permitted, "{codes:?} {label}");
        }
    }
}

#[test]
fn break_glass_against_entangled_consents_is_bounded_too() {
    let element = |code: &str| match code.starts_with("but") {
        true => json!({"code": of_code(code), "purpose": codings(ACT_REASON, &["BTG"])}),
        false => json!({"code": of_code(code)}),
    };
    let consents = vec![entangled(20, 5, element); 20];
    let allow = policy(json!({"breakGlass": {"mode": "allow"}}));
    let request = json!({
        "patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a", "attributes": {"ehr.breakglass": "true"}}, "purpose": "BTG",
        "breakGlass": {"justification": "unconscious"},
    });
    let open = decide(&consents, &allow, &request);
    for (codes, permitted) in [(vec!["denied-0"], true), (vec!["denied-0", "but-0-0"], false)] {
        assert_eq!(permitted_by(&open, &json!({"codes": codes})), permitted, "{codes:?}");
    }
}

#[test]
fn references_to_one_contained_actor_of_many_identifiers_are_bounded() {
    let identifiers =
        |n: usize| -> Value { (0..n).map(|i| json!({"system": "urn:a", "value": i.to_string()})).collect() };
    let of = |n: usize, actors: usize| {
        consent(json!({
            "contained": [{"resourceType": "Practitioner", "id": "x", "identifier": identifiers(n)}],
            "provision": {"type": "permit", "actor": vec![json!({"reference": {"reference": "#x"}}); actors]},
        }))
    };
    assert!(fhir::read(&of(100, 100), None, &ProvisionContext::default()).is_ok());
    let errors = errors(&of(600, 600), &ProvisionContext::default());
    assert_eq!(errors[0].field, "Consent.provision.actor[166].reference", "{errors:?}");
}

#[test]
fn long_lists_that_many_provisions_inherit_are_refused() {
    let codes: Value = (0..1_000).map(|i| of_code(&i.to_string())[0].clone()).collect();
    let of = |denials: usize| {
        let nested = vec![json!({"type": "deny", "period": {"end": "2030"}}); denials];
        consent(json!({"provision": {"type": "permit", "code": codes, "provision": nested}}))
    };
    assert!(fhir::read(&of(100), None, &ProvisionContext::default()).is_ok());
    let errors = errors(&of(101), &ProvisionContext::default());
    assert_eq!(errors[0].field, "Consent.provision", "{errors:?}");
}

/// Each of them with each took minutes: a thousand times as many codes of a record take no more than a hundred times as long.
#[test]
fn long_lists_of_a_record_and_of_a_consent_are_compared_fast() {
    let codes: Value = (0..5_000).map(|i| of_code(&format!("c{i}"))[0].clone()).collect();
    let nested = vec![json!({"type": "deny", "code": codes}); 2];
    let consent = consent(json!({"provision": {"type": "permit", "provision": nested}}));
    let consents = [fhir::read(&consent, None, &ProvisionContext::default()).expect("a consent")];
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    let fastest = |others: usize| {
        let request = |last: &str| {
            let codes: Vec<String> = (0..others).map(|i| format!("x{i}")).chain([last.to_owned()]).collect();
            let json = json!({"patient": "Patient/ex-patient", "resource": {"codes": codes}});
            Request::parse(&json, &ProvisionContext::default()).expect("a request")
        };
        let (denied, permitted) = (request("C4999"), request("c5000"));
        let run = || {
            let started = std::time::Instant::now();
            let decisions = [&denied, &permitted].map(|request| json!(decide_parsed(&consents, request, now).decision));
            assert_eq!(decisions, ["DENY", "PERMIT"]);
            started.elapsed()
        };
        (0..3).map(|_| run()).min().expect("a time")
    };
    let (few, many) = (fastest(9), fastest(9_999));
    assert!(many < few * 100, "{few:?} {many:?}");
}

/// The same of what is the same but for its system, its type or its case: to look at each of them once more took as long.
#[test]
fn repeated_codes_names_and_identifiers_are_compared_fast() {
    let spelled = |i: usize| (0..14).map(|bit| if i >> bit & 1 == 0 { 'x' } else { 'X' }).collect::<String>();
    let identifier = |i: usize, system: &str| json!({"system": format!("urn:{system}:{i}"), "value": "1"});
    let by_code = |i: usize| json!({"coding": [{"system": format!("urn:rule:{i}"), "code": "x"}]});
    let by_name = |_: usize| json!({"reference": {"reference": format!("Group/{}o", "x".repeat(14))}});
    let by_identifier = |i: usize| json!({"reference": {"identifier": identifier(i, "rule")}});
    let list = |entry: &dyn Fn(usize) -> Value, n: usize| -> Value { (0..n).map(entry).collect() };
    let asks_as = |name: &str, value: Value| {
        let mut actor = json!({"id": "Practitioner/a", "mspId": "AMSP", "groups": [], "identifiers": []});
        actor[name] = value;
        json!({"patient": "Patient/ex-patient", "actor": actor})
    };
    type Ask<'a> = &'a dyn Fn(usize) -> Value;
    let codes = |n: usize| {
        let codes = list(&|i| json!({"system": format!("urn:record:{i}"), "code": "x"}), n);
        json!({"patient": "Patient/ex-patient", "resource": {"codes": codes}})
    };
    let equal = |n: usize| {
        let codes = list(&|_| json!({"system": "urn:record", "code": "x"}), n);
        json!({"patient": "Patient/ex-patient", "resource": {"codes": codes}})
    };
    let names = |n: usize| asks_as("groups", list(&|i| json!(format!("Group/{}O", spelled(i))), n));
    let equal_names = |n: usize| asks_as("groups", list(&|_| json!(format!("Group/{}O", spelled(0))), n));
    let identifiers = |n: usize| asks_as("identifiers", list(&|i| identifier(i, "held"), n));
    let cases: [(&str, Value, Ask); 5] = [
        ("code", list(&by_code, 5_000), &codes),
        ("code", list(&by_code, 5_000), &equal),
        ("actor", list(&by_name, 5_000), &names),
        ("actor", list(&by_name, 5_000), &equal_names),
        ("actor", list(&by_identifier, 5_000), &identifiers),
    ];
    for (i, (element, entries, ask)) in cases.into_iter().enumerate() {
        let consent = consent(json!({"provision": {"type": "permit", element: entries}}));
        let consents = [fhir::read(&consent, None, &ProvisionContext::default()).expect("a consent")];
        let now = "2026-11-23T12:00:00Z".parse().expect("a time");
        let fastest = |n: usize| {
            let request = Request::parse(&ask(n), &ProvisionContext::default()).expect("a request");
            let run = || {
                let started = std::time::Instant::now();
                assert_eq!(json!(decide_parsed(&consents, &request, now).decision), "DENY");
                started.elapsed()
            };
            (0..3).map(|_| run()).min().expect("a time")
        };
        let (few, many) = (fastest(10), fastest(10_000));
        assert!(many < few * 50, "{i} {element}: {few:?} {many:?}");
    }
}

fn decide_parsed(consents: &[fhir::Consent], request: &Request, now: jiff::Timestamp) -> crate::Decision {
    crate::decide(consents, &Policy::default(), request, now)
}
