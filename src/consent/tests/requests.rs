//! What a request says of who asks and of the record: one spelling of each, and what is not said evades no denial.

use serde_json::{Value, json};

use super::denials::{answer, asks, but_to, named, plain, written_by};
use super::generate::consent;
use super::policy;

/// What is unknown of who asks, permits nothing and evades no denial; what is known to be none is none.
#[test]
fn what_is_unknown_of_who_asks_matches_a_denial_and_no_permit() {
    let identified = json!({"reference": {"identifier": {"system": "urn:a", "value": "1"}}});
    for (fact, known_otherwise, actor) in [
        ("id", json!("Practitioner/b"), named("Practitioner/a")),
        ("id", json!("Practitioner/b"), named("a")),
        ("mspId", json!("SomeMSP"), named("Organization/mercy")),
        ("mspId", json!("SomeMSP"), named("MercyMSP")),
        ("role", json!("porter"), json!({"role": {"coding": [{"code": "physician"}]}})),
        ("groups", json!([]), named("Group/er")),
        ("groups", json!(["Group/icu"]), named("CareTeam/er")),
        ("groups", json!([]), named("PractitionerRole/er")),
        ("mspId", json!("SomeMSP"), named("Organization/unmapped")),
        ("identifiers", json!([{"system": "urn:a", "value": "2"}]), identified),
    ] {
        let denial = but_to(actor.clone(), Value::Null);
        let permit = consent(json!({"provision": {"type": "permit", "actor": [actor]}}));
        let mut known = asks("Practitioner/b");
        known["actor"][fact] = known_otherwise;
        if actor == named("Organization/unmapped") {
            known["actor"].as_object_mut().expect("an object").remove("groups");
        }
        assert_eq!(answer(&denial, &plain(), &known), "PERMIT", "{fact} {denial}");
        known["actor"].as_object_mut().expect("an object").remove(fact);
        assert_eq!(answer(&denial, &plain(), &known), "DENY", "{fact} {denial}");
        assert_eq!(answer(&permit, &policy(json!({})), &known), "DENY", "{fact} {permit}");
    }
}

#[test]
fn an_overriding_denial_holds_for_who_does_not_say_what_it_asks() {
    let denial = |actor: Value| policy(json!({"overriding": [{"type": "deny", "actor": [actor]}]}));
    let permit = consent(json!({"provision": {"type": "permit"}}));
    for (fact, actor) in [
        ("attributes", json!({"attr": {"name": "a", "value": "b"}})),
        ("mspId", json!({"mspId": "MercyMSP"})),
        ("role", json!({"role": {"code": "physician"}})),
    ] {
        let mut request = asks("Practitioner/b");
        assert_eq!(answer(&permit, &denial(actor.clone()), &request), "PERMIT", "{fact}");
        request["actor"].as_object_mut().expect("an object").remove(fact);
        assert_eq!(answer(&permit, &denial(actor), &request), "DENY", "{fact}");
    }
}

#[test]
fn the_case_of_an_msp_or_a_namespace_evades_no_denial_and_earns_no_permit() {
    let identifier = |system: &str| json!({"reference": {"identifier": {"system": system, "value": "1"}}});
    let of_value = |value: &str| json!({"reference": {"identifier": {"system": "urn:a", "value": value}}});
    for (meant, spelled) in [
        (named("MercyMSP"), named("mercymsp")),
        (identifier("urn:ehrnet:msp:MercyMSP"), identifier("urn:ehrnet:msp:mercymsp")),
        (of_value("Dr-A"), of_value("dr-a")),
    ] {
        let mut request = asks("Practitioner/b");
        request["actor"]["mspId"] = json!("MercyMSP");
        request["actor"]["identifiers"] =
            json!([{"system": "URN:EHRNET:msp:MercyMSP", "value": "1"}, {"system": "urn:a", "value": "Dr-A"}]);
        for (actor, permitted) in [(meant, "PERMIT"), (spelled, "DENY")] {
            assert_eq!(answer(&but_to(actor.clone(), Value::Null), &plain(), &request), "DENY", "{actor}");
            let permit = consent(json!({"provision": {"type": "permit", "actor": [actor]}}));
            assert_eq!(answer(&permit, &policy(json!({})), &request), permitted, "{permit}");
        }
    }
}

#[test]
fn a_server_is_one_by_its_usual_port_and_a_denial_of_its_patient_in_any_case() {
    for (server, denied, permitted) in [
        ("https://a.example/fhir", "DENY", "PERMIT"),
        ("http://A.example:80/fhir", "DENY", "PERMIT"),
        ("https://a.example:443//fhir", "DENY", "PERMIT"),
        ("https://a.example/FHIR", "DENY", "DENY"),
        ("https://a.example:8443/fhir", "PERMIT", "DENY"),
    ] {
        let of = |effect: &str| {
            let mut consent = consent(json!({"provision": {"type": effect}}));
            consent["patient"] = json!({"reference": "https://a.example/fhir/Patient/ex-patient"});
            consent
        };
        let mut request = asks("Practitioner/a");
        request["resource"]["securityLabels"] = json!(["N"]);
        request["patient"] = json!(format!("{server}/Patient/ex-patient"));
        assert_eq!(answer(&of("deny"), &plain(), &request), denied, "{server}");
        assert_eq!(answer(&of("permit"), &policy(json!({})), &request), permitted, "{server}");
        let record = but_to_record("https://a.example/fhir/Observation/1");
        request["patient"] = json!("Patient/ex-patient");
        request["resource"]["id"] = json!(format!("{server}/Observation/1"));
        assert_eq!(answer(&record, &plain(), &request), denied, "{server}");
    }
}

fn but_to_record(reference: &str) -> Value {
    let data = json!([{"meaning": "instance", "reference": {"reference": reference}}]);
    consent(json!({"provision": {"type": "permit", "provision": [{"type": "deny", "data": data}]}}))
}

#[test]
fn an_id_that_fhir_does_not_have_names_nothing() {
    for id in ["o%31", "o(1)", "\u{43e}1", "a@b", "x".repeat(65).as_str()] {
        let field = "Consent.provision.provision[0].data[0].reference";
        let request = asks("Practitioner/a");
        assert_eq!(answer(&but_to_record(&format!("Observation/{id}")), &plain(), &request), field, "{id}");
        let mut of_it = request;
        of_it["resource"]["id"] = json!(format!("Observation/{id}"));
        let nothing = consent(json!({"provision": {"type": "permit"}}));
        assert_eq!(answer(&nothing, &plain(), &of_it), "request.resource.id", "{id}");
    }
}

#[test]
fn who_asks_is_known_by_an_msp_and_an_author_by_one_or_by_type_and_id() {
    let nothing = consent(json!({"provision": {"type": "permit"}}));
    for (field, value, expected) in [
        ("mspId", "Mercy MSP", "request.actor.mspId"),
        ("mspId", "Organization/mercy", "request.actor.mspId"),
        ("mspId", "Mercy_MSP.1", "PERMIT"),
        ("role", "physician,nurse", "request.actor.role"),
        ("role", "Physician", "request.actor.role"),
    ] {
        let mut request = asks("Practitioner/a");
        request["actor"][field] = json!(value);
        assert_eq!(answer(&nothing, &plain(), &request), expected, "{field} {value}");
    }
    for (author, expected) in [
        ("MercyMSP", "PERMIT"),
        ("Practitioner/7", "PERMIT"),
        ("Mercy MSP", "request.resource.author"),
        ("Practitioner/w w", "request.resource.author"),
    ] {
        assert_eq!(answer(&nothing, &plain(), &written_by(author)), expected, "{author}");
    }
    let many: Vec<String> = (0..65).map(|i| format!("Practitioner/{i}")).collect();
    let mut request = asks("Practitioner/a");
    request["resource"]["author"] = json!(many);
    assert_eq!(answer(&nothing, &plain(), &request), "request.resource.author");
}
