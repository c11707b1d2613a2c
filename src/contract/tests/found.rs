//! Consents as they are found (`tests/vectors/consents/found.json`), put on the ledger and asked about by certificate.
//!
//! Left out are cases about what the ledger writes itself: patients under their pseudonyms, records under their ids, and
//! labels, which are checked when a record is registered; and texts that are no JSON of one meaning, which no client can
//! send as a value.

#[path = "../../consent/tests/cases.rs"]
mod cases;

use cases::Case;
use serde_json::{Value, json};

use super::world::*;
use crate::caller::Caller;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::*;

fn fits_the_ledger(case: &Case) -> bool {
    let request = &case.written["request"];
    let kept_by_the_ledger =
        request["resource"]["class"][0] == "Observation" && request["resource"]["id"] != "Observation/o1";
    let spelled = request["resource"]["securityLabels"] == json!(["r"]);
    !(case.written["text"].is_string() || request["patient"].is_string() || kept_by_the_ledger || spelled)
}

/// The cases that are left out.
const LEFT_OUT: [&str; 5] = [
    "a type that is given twice",
    "a type that is given twice, once with an escaped letter",
    "a record whose label is no code, under a denial of restricted ones",
    "a record whose id has no type, under a denial of that record",
    "a patient of the same id on another server",
];

/// A record like that of the request; none if the request names none.
fn registered(world: &mut World, request: &Value) -> Option<String> {
    let resource = request.get("resource")?;
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    let labels: Vec<&str> = resource["securityLabels"].as_array()?.iter().filter_map(Value::as_str).collect();
    let (mut argument, secret) = record(1, "o1", labels.first()?);
    argument.class = code(resource["class"][0].as_str()?);
    let sensitive = resource["securityLabels"].as_array()?.iter().filter_map(|label| label["code"].as_str());
    argument.sensitivity = sensitive.map(code).collect();
    world.submit(&registrar, &argument, Some(&secret)).expect("registered");
    Some("o1".into())
}

fn requester(world: &World, actor: &Value) -> Caller {
    let name = actor["id"].as_str().expect("an id").trim_start_matches("Practitioner/");
    let msp_id = if actor["mspId"] == "MercyMSP" { MERCY } else { ELSEWHERE };
    world.staff(msp_id, name, actor["role"].as_str().expect("a role"))
}

/// The answer to a case, and until when it holds.
fn answer(case: &Case) -> (String, Option<jiff::Timestamp>) {
    let mut world = World::new();
    world.clock = case.now;
    let refused = || ("refused".to_owned(), None);
    let Ok(spec) = ehrnet_consent::policy::read(case.policy.as_ref().unwrap_or(&json!({}))) else { return refused() };
    world.policy("law", 0, json!(spec)).expect("a policy");
    let consent: Value = serde_json::from_str(&case.text).expect("JSON");
    let put = PutConsent { patient: patient(1), consent: "c1".into(), seq: 1 };
    let subject = world.patient(1);
    match world.submit(&subject, &put, Some(&consent_secret(1, consent))) {
        Err(error) if error.message.contains("Consent") => return refused(),
        put => put.expect("an element is named"),
    };
    let request = &case.request;
    let record = registered(&mut world, request);
    let caller = requester(&world, &request["actor"]);
    let (action, purpose) = (request.get("action").cloned(), request["purpose"].clone());
    let entry = world.request(&caller, &RequestAccess { action, purpose, ..access(1, record.as_deref(), "TREAT") });
    (if entry.decision == Some(Effect::Permit) { "PERMIT" } else { "DENY" }.to_owned(), entry.expires_at)
}

#[test]
fn each_case_has_one_of_its_right_answers_on_the_ledger() {
    let (cases, left): (Vec<Case>, Vec<Case>) = cases::all().into_iter().partition(fits_the_ledger);
    assert_eq!(left.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), LEFT_OUT);
    // Nobody's certificate tells of an identifier of another system.
    let refused = [cases::REFUSED, &["a denied reader, contained in the consent"]].concat();
    cases::check(&cases, &refused, answer);
}

/// So no request is asked about such a record: the case of it is left out.
#[test]
fn a_record_whose_label_is_no_code_is_not_registered() {
    let mut world = World::new();
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    for (label, registered) in [("r", false), ("R", true)] {
        let (argument, secret) = record(1, "o1", label);
        assert_eq!(world.submit(&registrar, &argument, Some(&secret)).is_ok(), registered, "{label}");
    }
}
