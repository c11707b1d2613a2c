//! Denials of somebody: whichever way a document names them, and whichever way they ask, the denial holds or the document
//! is refused.

use serde_json::{Value, json};

use super::generate::consent;
use super::policy;
use crate::vocabulary::code_systems::PARTICIPATION_TYPE;
use crate::{Policy, Request, fhir};

const NOON: &str = "2026-11-23T12:00:00Z";

/// `PERMIT`, `DENY`, or the field for which the document or the request is refused.
pub fn answer(consent: &Value, policy: &Policy, request: &Value) -> String {
    let consent = match fhir::read(consent, None, policy.context()) {
        Ok(consent) => consent,
        Err(errors) => return errors[0].field.clone(),
    };
    let request = match Request::parse(request, policy.context()) {
        Ok(request) => request,
        Err(error) => return error.field,
    };
    let decision = crate::decide(&[consent], policy, &request, NOON.parse().expect("a time"));
    json!(decision.decision).as_str().expect("a text").to_owned()
}

/// Everything is permitted but to these actors.
pub fn but_to(actor: Value, contained: Value) -> Value {
    let denial = json!({"type": "deny", "actor": [actor]});
    let mut consent = consent(json!({"provision": {"type": "permit", "provision": [denial]}}));
    if !contained.is_null() {
        consent["contained"] = json!([contained]);
    }
    consent
}

pub fn named(reference: &str) -> Value {
    json!({"reference": {"reference": reference}})
}

pub fn in_role(role: &str, reference: &str) -> Value {
    json!({"role": {"coding": [{"code": role}]}, "reference": {"reference": reference}})
}

/// A request by somebody of whom all is known.
pub fn asks(id: &str) -> Value {
    let actor =
        json!({"id": id, "mspId": "SomeMSP", "role": "porter", "groups": [], "identifiers": [], "attributes": {}});
    json!({"patient": "Patient/ex-patient", "actor": actor, "purpose": "TREAT", "resource": {"id": "Observation/1"}})
}

pub fn written_by(author: &str) -> Value {
    let mut request = asks("Practitioner/a");
    request["resource"]["author"] = json!(author);
    request
}

pub fn plain() -> Policy {
    policy(json!({"basePolicy": "all-normal", "organizations": [
        {"reference": "Organization/mercy", "mspId": "MercyMSP"}, {"reference": "Organization/other", "mspId": "OtherMSP"},
    ]}))
}

#[test]
fn a_name_without_a_type_is_denied_to_everybody_of_that_id() {
    for (denied, asking, expected) in [
        ("dr-a", "Practitioner/dr-a", "DENY"),
        ("dr-a", "https://a.example/fhir/Practitioner/dr-a", "DENY"),
        ("DR-A", "Practitioner/dr-a", "DENY"),
        ("somemsp", "Practitioner/7", "DENY"),
        ("dr-b", "Practitioner/dr-a", "PERMIT"),
        ("Device/dr-a", "Practitioner/dr-a", "PERMIT"),
    ] {
        let answer = answer(&but_to(named(denied), Value::Null), &plain(), &asks(asking));
        assert_eq!(answer, expected, "{denied} {asking}");
    }
}

#[test]
fn no_spelling_of_who_asks_evades_a_denial() {
    let denial = but_to(named("Practitioner/dr-a"), Value::Null);
    for (id, expected) in [
        ("Practitioner/dr-a", "DENY"),
        ("https://a.example/fhir/Practitioner/dr-a/_history/2", "DENY"),
        ("Practitioner/dr-a/", "DENY"),
        ("Practitioner/dr-b", "PERMIT"),
        ("Practitioner/Dr B", "request.actor.id"),
        ("Practitioner/dr\u{2010}a", "request.actor.id"),
        ("dr-a", "request.actor.id"),
        ("practitioner/dr-a", "request.actor.id"),
        ("Practioner/dr-a", "request.actor.id"),
        ("https://a.example/fhir/Practitioner/dr-a|1", "request.actor.id"),
        ("Practitioner//dr-a", "request.actor.id"),
        ("Practitioner/dr-a#1", "request.actor.id"),
        ("Practitioner/dr%2Da", "request.actor.id"),
        ("Practitioner?identifier=a|1", "request.actor.id"),
        ("#dr-a", "request.actor.id"),
    ] {
        assert_eq!(answer(&denial, &plain(), &asks(id)), expected, "{id}");
    }
    let group = but_to(named("Group/er"), Value::Null);
    for (name, expected) in
        [("Group/er", "DENY"), ("er", "request.actor.groups[0]"), ("group/er", "request.actor.groups[0]")]
    {
        let mut request = asks("Practitioner/a");
        request["actor"]["groups"] = json!([name]);
        assert_eq!(answer(&group, &plain(), &request), expected, "{name}");
    }
    let custodian = but_to(in_role("CST", "Organization/mercy"), Value::Null);
    for (author, expected) in
        [("organization/mercy", "request.resource.author"), ("Organisation/mercy", "request.resource.author")]
    {
        assert_eq!(answer(&custodian, &plain(), &written_by(author)), expected, "{author}");
    }
    let mut of_another = asks("Practitioner/a");
    of_another["patient"] = json!("patient/ex-patient");
    assert_eq!(answer(&denial, &plain(), &of_another), "request.patient");
}

#[test]
fn a_role_of_a_request_is_a_word_of_certificates() {
    let denial = but_to(json!({"role": {"coding": [{"code": "physician"}]}}), Value::Null);
    let permit =
        consent(json!({"provision": {"type": "permit", "actor": [{"role": {"coding": [{"code": "physician"}]}}]}}));
    let role = "request.actor.role";
    for (role, denied, permitted) in
        [("physician", "DENY", "PERMIT"), ("Physician", role, role), ("nurse", "PERMIT", "DENY")]
    {
        let mut request = asks("Practitioner/a");
        request["actor"]["role"] = json!(role);
        assert_eq!(answer(&denial, &plain(), &request), denied, "{role}");
        assert_eq!(answer(&permit, &policy(json!({})), &request), permitted, "{role}");
    }
}

#[test]
fn a_permit_of_a_name_without_a_type_is_none_of_somebody_of_that_id() {
    let permit = consent(json!({"provision": {"type": "permit", "actor": [named("dr-a")]}}));
    assert_eq!(answer(&permit, &policy(json!({})), &asks("Practitioner/dr-a")), "DENY");
}

#[test]
fn whose_data_is_denied_is_the_same_by_organisation_by_msp_and_by_name() {
    for role in ["CST", "AUT"] {
        for (denied, author, expected) in [
            ("Organization/mercy", "MercyMSP", "DENY"),
            ("Organization/mercy", "Organization/mercy", "DENY"),
            ("MercyMSP", "Organization/mercy", "DENY"),
            ("MercyMSP", "MercyMSP", "DENY"),
            ("mercy", "Organization/mercy", "DENY"),
            // An organisation that nobody maps may be the MSP, and the MSP may be it.
            ("Organization/unknown", "MercyMSP", "DENY"),
            ("MercyMSP", "Organization/unknown", "DENY"),
            ("Organization/other", "MercyMSP", "PERMIT"),
            ("Organization/other", "Organization/mercy", "PERMIT"),
            // Who wrote a record does not say which hospital keeps it.
            ("Organization/mercy", "Practitioner/7", if role == "CST" { "DENY" } else { "PERMIT" }),
            ("Practitioner/8", "Practitioner/7", "PERMIT"),
            ("mercymsp", "Organization/mercy", "DENY"),
            ("Organization/mercy", "mercymsp", "DENY"),
        ] {
            let answer = answer(&but_to(in_role(role, denied), Value::Null), &plain(), &written_by(author));
            assert_eq!(answer, expected, "{role} {denied} {author}");
        }
    }
}

/// They are one on the ledger, and two where both are named.
#[test]
fn two_organisations_of_one_msp_are_two_authors() {
    let shared = policy(json!({"organizations": [
        {"reference": "Organization/clinic", "mspId": "MercyMSP"}, {"reference": "Organization/ward", "mspId": "MercyMSP"},
    ]}));
    let of =
        |organization: &str| consent(json!({"provision": {"type": "permit", "actor": [in_role("CST", organization)]}}));
    for (named, author, expected) in [
        ("Organization/clinic", "Organization/clinic", "PERMIT"),
        ("Organization/clinic", "Organization/ward", "DENY"),
        ("Organization/clinic", "MercyMSP", "PERMIT"),
    ] {
        assert_eq!(answer(&of(named), &shared, &written_by(author)), expected, "{named} {author}");
    }
}

#[test]
fn an_overriding_denial_of_the_data_of_an_msp_knows_its_organisation() {
    let overriding = |role: &str| {
        policy(json!({
            "basePolicy": "all-normal", "organizations": [{"reference": "Organization/mercy", "mspId": "MercyMSP"}],
            "overriding": [{"type": "deny", "actor": [{"role": {"code": role}, "mspId": "MercyMSP"}]}],
        }))
    };
    let permit = consent(json!({"provision": {"type": "permit"}}));
    for author in ["Organization/mercy", "MercyMSP", "https://a.example/fhir/Organization/mercy"] {
        assert_eq!(answer(&permit, &overriding("CST"), &written_by(author)), "DENY", "{author}");
        assert_eq!(answer(&permit, &overriding("AUT"), &written_by(author)), "DENY", "{author}");
    }
}

#[test]
fn a_consent_of_something_else_than_a_patient_is_refused() {
    for (reference, expected) in [
        ("Patient/ex-patient", "DENY"),
        ("https://a.example/fhir/Patient/ex-patient", "DENY"),
        ("patient/ex-patient", "Consent.patient.reference"),
        ("Pateint/ex-patient", "Consent.patient.reference"),
        ("Person/ex-patient", "Consent.patient.reference"),
        ("Group/all", "Consent.patient.reference"),
        // Nobody who could be compared: its denials are anybody's.
        ("urn:uuid:7b0c1c5e", "DENY"),
        ("ex-patient", "DENY"),
    ] {
        let mut denial = consent(json!({"provision": {"type": "deny"}}));
        denial["patient"] = json!({"reference": reference});
        assert_eq!(answer(&denial, &plain(), &asks("Practitioner/a")), expected, "{reference}");
    }
}

#[test]
fn a_contained_actor_who_is_named_otherwise_too_is_refused_in_a_denial() {
    let whole = json!({"system": "urn:a", "value": "1"});
    let field = "Consent.provision.provision[0].actor[0].reference";
    let asking = json!({"actor": {"id": "Practitioner/dr-a", "identifiers": [{"system": "urn:a", "value": "1"}]}, "purpose": "TREAT"});
    for (contained, expected) in [
        (json!({"resourceType": "Practitioner", "id": "x", "identifier": [whole], "name": [{"family": "A"}]}), "DENY"),
        (json!({"resourceType": "Practitioner", "id": "x", "identifier": [whole, {"value": "2"}]}), field),
        (json!({"resourceType": "Practitioner", "id": "x", "identifier": [{"system": "urn:a"}, whole]}), field),
        (
            json!({"resourceType": "PractitionerRole", "id": "x", "identifier": [whole], "practitioner": {"reference": "Practitioner/dr-a"}}),
            field,
        ),
        (
            json!({"resourceType": "Group", "id": "x", "identifier": [whole], "member": [{"entity": {"reference": "Practitioner/dr-a"}}]}),
            field,
        ),
        (json!({"resourceType": "Practitioner", "id": "x"}), field),
    ] {
        let denial = but_to(named("#x"), contained.clone());
        assert_eq!(answer(&denial, &plain(), &asking), expected, "{contained}");
        let permit = consent(json!({
            "contained": [contained], "provision": {"type": "permit", "actor": [named("#x")]},
        }));
        let permitted = if contained["identifier"].is_null() { "DENY" } else { "PERMIT" };
        assert_eq!(answer(&permit, &policy(json!({})), &asking), permitted, "{contained}");
    }
}

/// Roles as codings of one concept, and whom the reference names.
fn with_roles(effect: &str, codings: Value, reference: Option<&str>) -> Value {
    let mut actor = json!({"role": {"coding": codings}});
    if let Some(reference) = reference {
        actor["reference"] = json!({"reference": reference});
    }
    let nested = json!({"type": effect, "actor": [actor]});
    consent(json!({"provision": {"type": if effect == "deny" { "permit" } else { "deny" }, "provision": [nested]}}))
}

fn asks_as(role: &str) -> Value {
    let mut request = asks("Practitioner/a");
    request["actor"]["mspId"] = json!("MercyMSP");
    request["actor"]["role"] = json!(role);
    request
}

#[test]
fn a_role_of_certificates_narrows_a_permit_beside_how_the_actor_takes_part() {
    let part = |code: &str| json!({"system": PARTICIPATION_TYPE, "code": code});
    for codings in [json!([part("PRCP"), {"code": "physician"}]), json!([{"code": "physician"}, part("IRCP")])] {
        for reference in [Some("Practitioner/a"), Some("Organization/mercy"), None] {
            let permit = with_roles("permit", codings.clone(), reference);
            assert_eq!(answer(&permit, &plain(), &asks_as("nurse")), "DENY", "{codings} {reference:?}");
            assert_eq!(answer(&permit, &plain(), &asks_as("physician")), "PERMIT", "{codings} {reference:?}");
        }
        let denial = with_roles("deny", codings.clone(), Some("Practitioner/a"));
        assert_eq!(answer(&denial, &plain(), &asks_as("nurse")), "DENY", "beside a name it would narrow a denial");
    }
    for whose in ["CST", "AUT"] {
        for effect in ["permit", "deny"] {
            let both = with_roles(effect, json!([part(whose), {"code": "physician"}]), Some("Organization/mercy"));
            let role = "Consent.provision.provision[0].actor[0].role";
            assert_eq!(answer(&both, &plain(), &asks_as("physician")), role, "{whose} {effect}");
        }
    }
}

#[test]
fn a_role_with_a_translation_that_nobody_knows_is_refused() {
    let role = "Consent.provision.provision[0].actor[0].role";
    let recipient = json!({"system": PARTICIPATION_TYPE, "code": "PRCP"});
    let mapped = policy(json!({"actorRoles": [{"role": {"system": "urn:site", "code": "7"}, "as": "recipient"}]}));
    for unknown in [
        json!({"system": "urn:unknown", "code": "CST"}),
        json!({"system": "http://snomed.info/sct", "code": "158965000"}),
        json!({"system": "urn:unknown", "code": "physician"}),
        json!({"code": "X7"}),
    ] {
        for beside in [recipient.clone(), json!({"code": "IRCP"}), json!({"code": "physician"})] {
            for codings in [json!([beside, unknown]), json!([unknown, beside])] {
                for reference in [Some("Practitioner/a"), None] {
                    for effect in ["permit", "deny"] {
                        let document = with_roles(effect, codings.clone(), reference);
                        assert_eq!(answer(&document, &mapped, &asks_as("nurse")), role, "{effect} {codings}");
                    }
                }
            }
        }
    }
    // Of one that the policy maps it is known that it narrows nothing.
    let known = json!([recipient, {"system": "urn:site", "code": "7"}]);
    assert_eq!(answer(&with_roles("permit", known, Some("Practitioner/a")), &mapped, &asks_as("nurse")), "PERMIT");
}

#[test]
fn two_words_of_certificates_in_one_role_are_refused() {
    let role = "Consent.provision.provision[0].actor[0].role";
    for effect in ["permit", "deny"] {
        for reference in [Some("Practitioner/a"), None] {
            let both = with_roles(effect, json!([{"code": "nurse"}, {"code": "physician"}]), reference);
            assert_eq!(answer(&both, &plain(), &asks_as("nurse")), role, "{effect} {reference:?}");
        }
    }
}

#[test]
fn an_organisation_on_another_server_than_the_one_that_is_mapped_is_another() {
    let mapped = |reference: &str| {
        policy(json!({"basePolicy": "all-normal", "organizations": [{"reference": reference, "mspId": "MercyMSP"}]}))
    };
    let on_a = "https://a.example/fhir/Organization/1";
    let member = || {
        let mut request = written_by("MercyMSP");
        request["actor"]["mspId"] = json!("MercyMSP");
        request
    };
    for (policy, named, permit, deny) in [
        (mapped(on_a), on_a, "PERMIT", "DENY"),
        (mapped(on_a), "http://A.example/fhir/Organization/1/_history/2", "PERMIT", "DENY"),
        (mapped(on_a), "Organization/1", "PERMIT", "DENY"),
        (mapped("Organization/1"), on_a, "PERMIT", "DENY"),
        (mapped(on_a), "https://b.example/fhir/Organization/1", "DENY", "refused"),
        (mapped(on_a), "https://a.example/other/Organization/1", "DENY", "refused"),
    ] {
        for actor in [json!({"reference": {"reference": named}}), in_role("CST", named), in_role("AUT", named)] {
            let rule = |effect: &str, base: &str| {
                consent(json!({"provision": {"type": base, "provision": [{"type": effect, "actor": [actor]}]}}))
            };
            assert_eq!(answer(&rule("permit", "deny"), &policy, &member()), permit, "{actor}");
            let denied = answer(&rule("deny", "permit"), &policy, &member());
            let refused = denied == "Consent.provision.provision[0].actor[0].reference";
            assert_eq!(if refused { "refused" } else { denied.as_str() }, deny, "{actor}");
        }
        let data = |effect: &str, base: &str| {
            let data = json!([{"meaning": "authoredby", "reference": {"reference": named}}]);
            consent(json!({"provision": {"type": base, "provision": [{"type": effect, "data": data}]}}))
        };
        assert_eq!(answer(&data("permit", "deny"), &policy, &member()), permit, "{named}");
        let denied = answer(&data("deny", "permit"), &policy, &member());
        let refused = denied == "Consent.provision.provision[0].data[0].reference";
        assert_eq!(if refused { "refused" } else { denied.as_str() }, deny, "{named}");
    }
}

#[test]
fn no_two_spellings_of_a_name_permit_what_one_of_them_denies() {
    let spellings = |name: &str| {
        let (kind, id) = name.split_once('/').expect("a type");
        [
            name.to_owned(),
            id.to_owned(),
            format!("https://a.example/fhir/{name}"),
            format!("{name}/_history/3"),
            format!("{name}/"),
            format!("{kind}//{id}"),
            format!("{name}#1"),
            format!("{name}|1"),
            name.to_ascii_lowercase(),
            name.to_ascii_uppercase(),
        ]
    };
    let mut denied = 0;
    for denial in spellings("Practitioner/dr-a") {
        for asking in spellings("Practitioner/dr-a") {
            let answer = answer(&but_to(named(&denial), Value::Null), &plain(), &asks(&asking));
            assert_ne!(answer, "PERMIT", "{denial} {asking}");
            denied += usize::from(answer == "DENY");
        }
    }
    for role in ["CST", "AUT"] {
        for denial in spellings("Organization/mercy").into_iter().chain(["MercyMSP".into()]) {
            for author in spellings("Organization/mercy").into_iter().chain(["MercyMSP".into()]) {
                let answer = answer(&but_to(in_role(role, &denial), Value::Null), &plain(), &written_by(&author));
                assert_ne!(answer, "PERMIT", "{role} {denial} {author}");
                denied += usize::from(answer == "DENY");
            }
        }
    }
    assert!(denied > 60, "only {denied} are read and denied");
}

/// What a denial restates of actors it restates whole; what a permit leaves open of them stays as it was.
#[test]
fn a_denial_with_an_actor_of_its_own_does_not_hold_for_the_data_of_its_parents_only() {
    let nested = |effect: &str, above: Value, own: Value| {
        let exception = json!({"type": effect, "actor": [own]});
        let within = json!({"type": "permit", "actor": [above], "provision": [exception]});
        let others = if effect == "deny" { json!([within, {"type": "permit"}]) } else { json!([within]) };
        consent(json!({"provision": {"type": "deny", "provision": others}}))
    };
    let request = |id: &str, author: &str| {
        let mut request = written_by(author);
        request["actor"]["id"] = json!(id);
        request
    };
    let of_mercy = || in_role("CST", "Organization/mercy");
    for (effect, above, own, id, author, expected) in [
        ("deny", of_mercy(), named("Practitioner/a"), "Practitioner/a", "Organization/other", "DENY"),
        ("deny", of_mercy(), named("Practitioner/a"), "Practitioner/b", "Organization/other", "PERMIT"),
        ("deny", named("Practitioner/a"), of_mercy(), "Practitioner/b", "Organization/mercy", "DENY"),
        ("deny", named("Practitioner/a"), of_mercy(), "Practitioner/b", "Organization/other", "PERMIT"),
        ("permit", of_mercy(), named("Practitioner/a"), "Practitioner/a", "Organization/other", "DENY"),
        ("permit", of_mercy(), named("Practitioner/a"), "Practitioner/a", "Organization/mercy", "PERMIT"),
    ] {
        let answer = answer(&nested(effect, above.clone(), own.clone()), &policy(json!({})), &request(id, author));
        assert_eq!(answer, expected, "{effect} {above} {own} {id} {author}");
    }
}

/// Certificates tell of people, their groups and their hospital. A denial of anything else would match nobody on the ledger.
#[test]
fn on_the_ledger_a_denial_of_who_has_no_certificate_is_refused() {
    let certified = plain().context().certified();
    for (reference, denied) in [
        ("PractitionerRole/x", false),
        ("CareTeam/x", false),
        ("HealthcareService/x", false),
        ("Endpoint/x", false),
        ("Organization/unmapped", false),
        ("Organization/mercy", true),
        ("Group/x", true),
        ("Practitioner/x", true),
        ("Device/x", true),
    ] {
        let denial = but_to(named(reference), Value::Null);
        let read = fhir::read(&denial, None, &certified);
        let field = "Consent.provision.provision[0].actor[0].reference";
        assert_eq!(
            read.map_err(|errors| errors[0].field.clone()).err(),
            (!denied).then(|| field.to_owned()),
            "{reference}"
        );
        let permit = consent(json!({"provision": {"type": "permit", "actor": [named(reference)]}}));
        assert!(fhir::read(&permit, None, &certified).is_ok(), "{reference}");
    }
}
