//! The data types of FHIR that a document is made of: a member that is not known may be a misspelled one that restricts, and a
//! value that is not there must not be read as one that restricts nothing.

use serde_json::{Value, json};

use super::denials::answer;
use super::generate::consent;
use super::policy;
use crate::vocabulary::code_systems::{ACT_REASON, CONFIDENTIALITY, CONSENT_ACTION, LOINC, RESOURCE_TYPES};
use crate::{Policy, fhir};

fn asks() -> Value {
    json!({
        "patient": "Patient/ex-patient", "purpose": "TREAT", "action": "access",
        "resource": {"id": "Observation/1", "authoredOn": "2026-01-01"},
        "actor": {"id": "Practitioner/a", "identifiers": [{"system": "urn:n", "value": "42"}]},
    })
}

/// A consent with one of each data type in elements that decide, all of which match.
fn whole(effect: &str) -> Value {
    let action = json!([{"coding": [{"system": CONSENT_ACTION, "code": "access"}]}]);
    let by_reference = json!({"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": "Practitioner/a"}});
    let by_identifier = json!({"reference": {"identifier": {"system": "urn:n", "value": "42"}}});
    let period = json!({"start": "2020", "end": "2030"});
    let base = if effect == "permit" { "deny" } else { "permit" };
    consent(json!({"policy": [{"uri": "urn:policy"}], "provision": {"type": base, "provision": [{
        "type": effect, "period": period, "dataPeriod": period, "purpose": [{"system": ACT_REASON, "code": "TREAT"}],
        "action": action, "actor": [by_reference, by_identifier],
        "data": [{"meaning": "instance", "reference": {"reference": "Observation/1"}}],
    }]}}))
}

const RULE: &str = "/provision/provision/0";

/// Every object of a data type in [`whole`], below the rule or at the top.
const TYPES: &[&str] = &[
    "/scope",
    "/scope/coding/0",
    "/category/0",
    "/category/0/coding/0",
    "/patient",
    "/policy/0",
    "/provision/provision/0/period",
    "/provision/provision/0/dataPeriod",
    "/provision/provision/0/purpose/0",
    "/provision/provision/0/action/0",
    "/provision/provision/0/action/0/coding/0",
    "/provision/provision/0/actor/0/role",
    "/provision/provision/0/actor/0/role/coding/0",
    "/provision/provision/0/actor/0/reference",
    "/provision/provision/0/actor/1/reference",
    "/provision/provision/0/actor/1/reference/identifier",
    "/provision/provision/0/data/0/reference",
];

/// A pointer as the path of an error.
fn path(pointer: &str) -> String {
    pointer.split('/').skip(1).fold("Consent".to_owned(), |path, step| match step.parse::<usize>() {
        Ok(i) => format!("{path}[{i}]"),
        Err(_) => format!("{path}.{step}"),
    })
}

#[test]
fn a_member_that_a_data_type_does_not_have_is_refused_wherever_it_stands() {
    for effect in ["permit", "deny"] {
        let expected = if effect == "permit" { "PERMIT" } else { "DENY" };
        assert_eq!(answer(&whole(effect), &Policy::default(), &asks()), expected);
        for pointer in TYPES {
            for name in ["End", "System", "Coding", "not", "uses"] {
                let mut document = whole(effect);
                document.pointer_mut(pointer).expect(pointer)[name] = json!("2021");
                let refused = format!("{}.{name}", path(pointer));
                assert_eq!(answer(&document, &Policy::default(), &asks()), refused, "{pointer} {name}");
            }
        }
    }
}

#[test]
fn members_that_say_nothing_about_who_may_do_what_are_read() {
    let mut document = whole("permit");
    let mut put = |pointer: &str, name: &str, value: Value| document.pointer_mut(pointer).expect(pointer)[name] = value;
    put("/provision/provision/0/purpose/0", "version", json!("2024"));
    put("/provision/provision/0/purpose/0", "display", json!("treatment"));
    put("/provision/provision/0/purpose/0", "userSelected", json!(true));
    put("/provision/provision/0/action/0", "text", json!("to see it"));
    put("/provision/provision/0/actor/0/reference", "display", json!("Dr A"));
    put("/provision/provision/0/actor/0/reference", "type", json!("Practitioner"));
    put("/provision/provision/0/actor/1/reference/identifier", "use", json!("official"));
    put("/provision/provision/0/actor/1/reference/identifier", "type", json!({"text": "number"}));
    put("/provision/provision/0/actor/1/reference/identifier", "assigner", json!({"display": "the state"}));
    put("/provision/provision/0/period", "extension", json!([{"url": "urn:note", "valueString": "agreed"}]));
    assert_eq!(answer(&document, &Policy::default(), &asks()), "PERMIT");
}

#[test]
fn a_reason_for_an_absent_value_is_refused_in_every_form() {
    let absent = json!([{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]);
    for effect in ["permit", "deny"] {
        for (pointer, name, value) in [
            ("period", "extension", absent.clone()),
            ("period", "_end", json!({"extension": absent})),
            ("purpose/0", "extension", absent.clone()),
            ("action/0", "extension", absent.clone()),
            ("actor/0/reference", "extension", absent.clone()),
        ] {
            let mut document = whole(effect);
            document.pointer_mut(&format!("{RULE}/{pointer}")).expect(pointer)[name] = value;
            let answer = answer(&document, &Policy::default(), &asks());
            assert!(answer.starts_with(&path(&format!("{RULE}/{pointer}"))), "{pointer} {name}: {answer}");
        }
    }
}

#[test]
fn a_reference_that_says_another_type_than_it_has_is_refused() {
    for effect in ["permit", "deny"] {
        for (pointer, other) in [
            ("/patient", "Practitioner"),
            ("/provision/provision/0/actor/0/reference", "Organization"),
            ("/provision/provision/0/data/0/reference", "Condition"),
        ] {
            let mut document = whole(effect);
            document.pointer_mut(pointer).expect(pointer)["type"] = json!(other);
            assert_eq!(answer(&document, &Policy::default(), &asks()), format!("{}.type", path(pointer)));
        }
    }
}

#[test]
fn an_identifier_that_is_over_names_nobody_for_sure() {
    let pointer = "/provision/provision/0/actor/1/reference/identifier";
    for effect in ["permit", "deny"] {
        for (name, value) in [("use", json!("old")), ("period", json!({"end": "2020"}))] {
            let mut document = whole(effect);
            document.pointer_mut(pointer).expect(pointer)[name] = value;
            assert_eq!(answer(&document, &Policy::default(), &asks()), format!("{}.{name}", path(pointer)));
        }
    }
}

/// A document of which a contained resource is the only actor.
fn of_contained(effect: &str, contained: Value) -> Value {
    let base = if effect == "permit" { "deny" } else { "permit" };
    let rule = json!({"type": effect, "actor": [{"reference": {"reference": "#x"}}]});
    consent(json!({"contained": [contained], "provision": {"type": base, "provision": [rule]}}))
}

#[test]
fn a_contained_actor_is_named_by_identifiers_that_are_whole_and_in_use() {
    let sure = json!({"system": "urn:n", "value": "42"});
    let with = |name: &str, value: Value| {
        let mut identifier = sure.clone();
        identifier[name] = value;
        json!({"resourceType": "Practitioner", "id": "x", "identifier": [identifier]})
    };
    let is = |name: &str, value: Value| {
        let mut resource = json!({"resourceType": "Practitioner", "id": "x", "identifier": [sure]});
        resource[name] = value;
        resource
    };
    let actor = "Consent.provision.provision[0].actor[0].reference";
    for (contained, permit, deny) in [
        (is("active", json!(true)), "PERMIT", "DENY"),
        (with("use", json!("official")), "PERMIT", "DENY"),
        (is("active", json!(false)), "DENY", actor),
        (is("resourceType", json!("Observation")), "DENY", actor),
        (with("use", json!("old")), "DENY", actor),
        (with("period", json!({"end": "2020"})), "DENY", actor),
        (with("Value", json!("7")), "DENY", actor),
        (with("value", json!(42)), "DENY", actor),
        (
            with("value", json!("42 ")),
            "Consent.contained[0].identifier[0].value",
            "Consent.contained[0].identifier[0].value",
        ),
        (
            with("value", json!("4\u{200b}2")),
            "Consent.contained[0].identifier[0].value",
            "Consent.contained[0].identifier[0].value",
        ),
        (
            with("system", json!(" urn:n")),
            "Consent.contained[0].identifier[0].system",
            "Consent.contained[0].identifier[0].system",
        ),
    ] {
        for (effect, expected) in [("permit", permit), ("deny", deny)] {
            let document = of_contained(effect, contained.clone());
            assert_eq!(answer(&document, &Policy::default(), &asks()), expected, "{effect} {contained}");
            // What the ledger keeps of it says the same.
            if expected == "PERMIT" || expected == "DENY" {
                let kept = fhir::essential(&document, "Patient/ex-patient");
                assert_eq!(answer(&kept, &Policy::default(), &asks()), expected, "{effect} {kept}");
            }
        }
    }
}

#[test]
fn a_contained_actor_who_may_be_over_names_nobody() {
    let absent = json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]});
    let sure = json!({"system": "urn:n", "value": "42"});
    let of = |kind: &str, name: &str, value: Value| {
        let mut resource = json!({"resourceType": kind, "id": "x", "identifier": [sure]});
        resource[name] = value;
        resource
    };
    let identified = |name: &str, value: Value| {
        let mut resource = of("Practitioner", "active", json!(true));
        resource["identifier"][0][name] = value;
        resource
    };
    let mut over = vec![
        of("PractitionerRole", "period", json!({"end": "2020"})),
        of("RelatedPerson", "period", json!({"end": "2020"})),
        of("CareTeam", "period", json!({"start": "2020"})),
        of("Practitioner", "_active", absent.clone()),
        of("Device", "_status", absent.clone()),
        identified("_use", absent.clone()),
        identified("_period", absent),
    ];
    for kind in ["Device", "CareTeam", "Endpoint"] {
        for status in ["inactive", "entered-in-error", "unknown", "suspended", "off", "Active", ""] {
            over.push(of(kind, "status", json!(status)));
        }
    }
    over.extend(["false", "true", "False", "no"].map(|active| of("Practitioner", "active", json!(active))));
    over.extend([json!(0), json!([false])].map(|active| of("Practitioner", "active", active)));
    over.extend(["Old", "OLD", "old ", "former"].map(|used| identified("use", json!(used))));
    for contained in over {
        let permit = of_contained("permit", contained.clone());
        assert_eq!(answer(&permit, &Policy::default(), &asks()), "DENY", "{contained}");
        let actor = "Consent.provision.provision[0].actor[0].reference";
        let denial = of_contained("deny", contained.clone());
        assert_eq!(answer(&denial, &Policy::default(), &asks()), actor, "{contained}");
    }
    for contained in [
        of("Device", "status", json!("active")),
        of("PractitionerRole", "active", json!(true)),
        identified("use", json!("usual")),
        identified("use", json!("secondary")),
    ] {
        let permit = of_contained("permit", contained.clone());
        assert_eq!(answer(&permit, &Policy::default(), &asks()), "PERMIT", "{contained}");
    }
    // Outside a contained resource it is refused.
    for used in ["Old", "former"] {
        let mut document = whole("permit");
        document.pointer_mut("/provision/provision/0/actor/1/reference/identifier").expect("an identifier")["use"] =
            json!(used);
        let field = "Consent.provision.provision[0].actor[1].reference.identifier.use";
        assert_eq!(answer(&document, &Policy::default(), &asks()), field, "{used}");
    }
}

#[test]
fn a_reason_for_an_absent_value_is_one_under_every_spelling_of_its_url() {
    for url in [
        "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
        "http://hl7.org/fhir/StructureDefinition/data-absent-reason|4.0.1",
        "http://hl7.org/fhir/StructureDefinition/data-absent-reason/",
        "https://www.hl7.org/fhir/StructureDefinition/Data-Absent-Reason",
        "http://hl7.org/fhir/data-absent-reason#x",
        "data-absent-reason",
        "urn:x:data-absent-reason",
        "http://hl7.org/fhir/StructureDefinition/iso21090-nullFlavor",
        "http://hl7.org/fhir/StructureDefinition/iso21090-nullFlavor|5.2.0",
        "http://hl7.org/fhir/StructureDefinition/NullFlavor/",
    ] {
        for pointer in ["period", "purpose/0", "action/0/coding/0", "actor/0/reference", "data/0/reference"] {
            let mut document = whole("permit");
            let element = document.pointer_mut(&format!("{RULE}/{pointer}")).expect(pointer);
            element["extension"] = json!([{"url": url, "valueCode": "unknown"}]);
            let refused = path(&format!("{RULE}/{pointer}"));
            assert_eq!(answer(&document, &Policy::default(), &asks()), refused, "{url} {pointer}");
        }
    }
    let mut document = whole("permit");
    document.pointer_mut(&format!("{RULE}/period")).expect("a period")["extension"] =
        json!([{"url": "urn:about-data-absent-reasons", "valueCode": "unknown"}]);
    assert_eq!(answer(&document, &Policy::default(), &asks()), "PERMIT");
}

#[test]
fn an_object_without_members_is_refused_wherever_it_stands() {
    let opt_in = |provision: Value| {
        let mut document = consent(json!({"provision": provision}));
        document["policyRule"] = json!({"coding": [{"code": "OPTIN"}]});
        document
    };
    for (document, expected) in [
        (opt_in(json!({})), "Consent.provision"),
        (opt_in(json!({"id": "x"})), "Consent.provision"),
        (opt_in(json!({"period": {}})), "Consent.provision.period"),
        (opt_in(json!({"period": {"end": "2030"}})), "PERMIT"),
        (consent(json!({"verification": [{}], "provision": {"type": "permit"}})), "Consent.verification[0]"),
        (consent(json!({"decision": "permit", "grantee": [{}]})), "Consent.grantee[0]"),
        (consent(json!({"decision": "deny", "provision": [{}]})), "Consent.provision[0]"),
        (consent(json!({"decision": "deny", "provision": [{"id": "x"}]})), "Consent.provision[0]"),
        // An exception that is nothing but the exceptions to it would be all there is.
        (
            consent(json!({"decision": "deny", "provision": [{"provision": [{"purpose": [{"code": "HRESCH"}]}]}]})),
            "Consent.provision[0]",
        ),
    ] {
        assert_eq!(answer(&document, &Policy::default(), &asks()), expected, "{document}");
    }
}

#[test]
fn one_provision_states_kinds_of_records_once() {
    let both = json!({"class": [{"code": "Observation"}], "resourceType": [{"code": "Condition"}]});
    let with = |mut rule: Value, effect: &str| {
        for (name, codings) in both.as_object().expect("members") {
            rule[name] = codings.clone();
        }
        rule["type"] = json!(effect);
        rule
    };
    for effect in ["permit", "deny"] {
        let document = consent(json!({"provision": with(json!({}), effect)}));
        assert_eq!(answer(&document, &Policy::default(), &asks()), "Consent.provision.resourceType", "{effect}");
    }
    let r5 = consent(json!({"decision": "deny", "provision": [both]}));
    assert_eq!(answer(&r5, &Policy::default(), &asks()), "Consent.provision[0].resourceType");
}

#[test]
fn a_denied_code_that_is_none_is_refused() {
    let site = policy(json!({"codeSystems": [{"url": "urn:site", "codes": ["ward"]}]}));
    let nothing = "refused";
    for (element, system, code, expected) in [
        ("purpose", ACT_REASON, "TREAT", "DENY"),
        ("purpose", ACT_REASON, "treat", "DENY"),
        ("purpose", ACT_REASON, "TREATMENT", nothing),
        ("purpose", "urn:oid:2.16.840.1.113883.5.8", "TREATMENT", nothing),
        ("purpose", ACT_REASON, "\u{ff34}REAT", nothing),
        ("purpose", "", "TR\u{415}AT", nothing),
        ("purpose", "", "ward", "PERMIT"),
        ("purpose", "urn:unknown", "anything", "PERMIT"),
        ("action", CONSENT_ACTION, "read", nothing),
        ("action", "", "read", nothing),
        ("action", "", "Access", "DENY"),
        ("securityLabel", CONFIDENTIALITY, "restricted", nothing),
        ("securityLabel", "", "\u{ff32}", nothing),
        ("securityLabel", "urn:unknown", "restricted", "PERMIT"),
        ("class", RESOURCE_TYPES, "Observatoin", nothing),
        ("class", RESOURCE_TYPES, "Questionnaire", "PERMIT"),
        ("class", LOINC, "Observation", "DENY"),
        ("class", LOINC, "34133-9", "PERMIT"),
        ("class", "", "34133-9", "PERMIT"),
    ] {
        let coding = if system.is_empty() { json!({"code": code}) } else { json!({"system": system, "code": code}) };
        let entry = if element == "action" { json!({"coding": [coding]}) } else { coding };
        let mut request = asks();
        request["resource"]["class"] = json!("Observation");
        request["resource"]["securityLabels"] = json!(["N"]);
        let rule = json!({"type": "deny", element: [entry]});
        let denial = consent(json!({"provision": {"type": "permit", "provision": [rule]}}));
        let answered = answer(&denial, &site, &request);
        let refused = answered.starts_with(&format!("Consent.provision.provision[0].{element}"));
        assert_eq!(if refused { nothing } else { answered.as_str() }, expected, "{element} {system}|{code}");
        // A permit of it permits nothing, and a denial that is nested in it would deny nothing.
        let permit = consent(json!({"provision": {"type": "permit", element: [entry]}}));
        let inherits = json!({"type": "deny", "dataPeriod": {"start": "2020"}});
        let nested = consent(json!({"provision": {"type": "permit", element: [entry], "provision": [inherits]}}));
        if expected == nothing {
            assert_eq!(answer(&permit, &site, &request), "DENY", "{element} {system}|{code}");
            let answered = answer(&nested, &site, &request);
            assert!(
                answered.starts_with(&format!("Consent.provision.{element}")),
                "{element} {system}|{code} {answered}"
            );
        }
    }
}
