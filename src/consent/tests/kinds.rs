//! The kinds behind the cases of [`super::found`], as laws over random consents: denials are read wide, permits narrow, and
//! what cannot be read is refused with the element named.

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::additions;
use super::generate::{LabelsIn, r4, r5_of, request};
use super::policy;
use super::properties::pointers;
use crate::context::ProvisionContext;
use crate::vocabulary::code_systems::{ACT_REASON, CONFIDENTIALITY, CONSENT_ACTION};
use crate::{Policy, Request, fhir};

const NOON: &str = "2026-11-23T12:00:00Z";

/// `PERMIT` or `DENY`; none if the consent is refused.
fn answer(consents: &[Value], policy: &Policy, request: &Value) -> Option<String> {
    decision(consents, policy, request, NOON.parse().expect("a time"))
        .map(|decision| decision["decision"].as_str().expect("a text").to_owned())
}

fn decision(consents: &[Value], policy: &Policy, request: &Value, now: Timestamp) -> Option<Value> {
    let read = |json| fhir::read(json, None, policy.context());
    let consents = consents.iter().map(read).collect::<Result<Vec<_>, _>>().ok()?;
    let request = Request::parse(request, policy.context()).expect("a request");
    Some(json!(crate::decide(&consents, policy, &request, now)))
}

fn lenient() -> Policy {
    policy(json!({"basePolicy": "all-normal", "breakGlass": {"mode": "forbid"}}))
}

/// All provisions of this type.
fn of_type(consent: &Value, effect: &str) -> Vec<String> {
    let mut found = Vec::new();
    pointers(&consent["provision"], "/provision", &mut found);
    found.retain(|pointer| consent.pointer(pointer).is_some_and(|provision| provision["type"] == effect));
    found
}

/// Changes every coding of the provisions that deny.
fn spell_denials(consent: &mut Value, spell: &impl Fn(&mut Value)) {
    fn codings(value: &mut Value, spell: &impl Fn(&mut Value)) {
        match value {
            Value::Object(members) if members.contains_key("code") && members.contains_key("system") => spell(value),
            Value::Object(members) => members.values_mut().for_each(|member| codings(member, spell)),
            Value::Array(entries) => entries.iter_mut().for_each(|entry| codings(entry, spell)),
            _ => {}
        }
    }
    for pointer in of_type(consent, "deny") {
        let provision = consent.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("a provision");
        for (name, element) in provision {
            // A role says how an actor takes part; the provisions below have a type of their own.
            if !matches!(name.as_str(), "provision" | "actor") {
                codings(element, spell);
            }
        }
    }
}

/// Other names of the systems that the generated consents use, as HL7 Terminology and FHIR STU3 publish them. They are written
/// out here: names taken from the evaluator's table would be right whatever stands there.
const NAMES: &[(&str, &[&str])] = &[
    ("v3-ActCode", &["urn:oid:2.16.840.1.113883.5.4", "http://hl7.org/fhir/v3/ActCode", "2.16.840.1.113883.5.4"]),
    ("v3-ActReason", &["urn:oid:2.16.840.1.113883.5.8", "http://hl7.org/fhir/v3/ActReason", "2.16.840.1.113883.5.8"]),
    ("v3-Confidentiality", &["urn:oid:2.16.840.1.113883.5.25", "http://hl7.org/fhir/v3/Confidentiality"]),
    ("consentaction", &["http://hl7.org/fhir/consentaction", "http://hl7.org/fhir/ValueSet/consent-action"]),
];

/// The `n`th way of writing a system, of those that mean the same or less.
fn spelling(n: usize) -> impl Fn(&mut Value) {
    move |coding: &mut Value| {
        let system = coding["system"].as_str().expect("a system").to_owned();
        let name = system.strip_prefix("http://terminology.hl7.org/CodeSystem/");
        let names = NAMES.iter().find(|(known, _)| Some(*known) == name).map_or(&[][..], |(_, names)| names);
        match n {
            0 => {
                coding.as_object_mut().expect("an object").remove("system");
            }
            1 => coding["system"] = json!(format!("{system}/")),
            2 => coding["system"] = json!(system.replace("http://", "https://www.")),
            3 => coding["system"] = json!(format!("{system}|2.1.0")),
            n if !names.is_empty() => coding["system"] = json!(names[n % names.len()]),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_global_rejects: 65_536, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_denial_is_lost_by_no_spelling_of_its_systems(
        mut consents in prop::collection::vec(r4(LabelsIn::Any, 2), 1..3), n in 0_usize..10, request in request(),
    ) {
        let before = answer(&consents, &lenient(), &request);
        consents.iter_mut().for_each(|consent| spell_denials(consent, &spelling(n)));
        let after = answer(&consents, &lenient(), &request);
        prop_assert!(before.as_deref() != Some("DENY") || after.as_deref() != Some("PERMIT"), "{:?}", consents);
    }

    /// What changes the meaning of a document or takes part in it, wherever it stands: none of it permits more.
    #[test]
    fn no_addition_to_a_document_permits_more(
        mut consents in prop::collection::vec(r4(LabelsIn::Any, 2), 1..3), newer in any::<bool>(),
        strict in any::<bool>(), request in request(),
    ) {
        let narrowed = strict && consents.len() == 1 && consents[0]["provision"]["provision"].is_null();
        if newer {
            consents[0] = r5_of(&consents[0]);
        }
        let mut request = request;
        request["actor"]["identifiers"] = json!([{"system": "urn:a", "value": "1"}]);
        let policy = if strict { policy(json!({"breakGlass": {"mode": "forbid"}})) } else { lenient() };
        let before = answer(&consents, &policy, &request);
        prop_assume!(before.as_deref() == Some("DENY"));
        for (pointer, value) in additions::to(&consents[0], narrowed) {
            let mut more = consents.clone();
            additions::add(&mut more[0], &pointer, &value);
            prop_assert!(answer(&more, &policy, &request).as_deref() != Some("PERMIT"), "{pointer} {value}: {:?}", more);
        }
    }

    #[test]
    fn a_reference_that_cannot_be_compared_is_refused_in_a_denial_and_names_nobody_in_a_permit(
        consent in r4(LabelsIn::Any, 2), at in any::<Index>(), request in request(),
        reference in select(&["Practitioner?identifier=a|1", "#nobody", "urn:uuid:7b0c1c5e", "Practioner/a", "Dr A"][..]),
        element in select(&["actor", "data"][..]),
    ) {
        let value = match element {
            "actor" => json!([{"reference": {"reference": reference}}]),
            _ => json!([{"meaning": "instance", "reference": {"reference": reference}}]),
        };
        for effect in ["permit", "deny"] {
            let found = of_type(&consent, effect);
            if found.is_empty() {
                continue;
            }
            let mut changed = consent.clone();
            let pointer = at.get(&found[..]);
            changed.pointer_mut(pointer).expect("a provision")[element] = value.clone();
            let read = fhir::read(&changed, None, &ProvisionContext::default());
            if effect == "deny" {
                let errors = read.expect_err("refused");
                prop_assert!(errors.iter().any(|error| error.field.ends_with(&format!("{element}[0].reference"))), "{:?}", errors);
            } else if read.is_ok() {
                let mut closed = consent.clone();
                closed.pointer_mut(pointer).expect("a provision")[element] = match element {
                    "actor" => json!([{"reference": {"reference": "Practitioner/nobody"}}]),
                    _ => json!([{"meaning": "instance", "reference": {"reference": "Observation/none"}}]),
                };
                prop_assert_eq!(answer(&[changed], &lenient(), &request), answer(&[closed], &lenient(), &request));
            }
        }
    }

    #[test]
    fn roles_that_receive_nothing_open_nothing_and_unknown_ones_are_refused(
        consent in r4(LabelsIn::Any, 2), at in any::<Index>(), request in request(),
        role in select(&["WIT", "DEL", "LA", "GRANTOR", "XYZ", "VRF"][..]), effect in select(&["permit", "deny"][..]),
    ) {
        let found = of_type(&consent, effect);
        prop_assume!(!found.is_empty());
        let mut changed = consent.clone();
        let who = request["actor"]["id"].clone();
        changed.pointer_mut(at.get(&found[..]).as_str()).expect("a provision")["actor"] =
            json!([{"role": {"coding": [{"code": role}]}, "reference": {"reference": who}}]);
        let read = fhir::read(&changed, None, &ProvisionContext::default());
        if effect == "deny" || role == "XYZ" {
            let errors = read.expect_err("refused");
            prop_assert!(errors.iter().any(|error| error.field.ends_with("actor[0].role")), "{:?}", errors);
        } else if read.is_ok() {
            let nobody = json!([{"reference": {"reference": "Practitioner/nobody"}}]);
            let mut closed = changed.clone();
            closed.pointer_mut(at.get(&found[..]).as_str()).expect("a provision")["actor"] = nobody;
            prop_assert_eq!(answer(&[changed], &lenient(), &request), answer(&[closed], &lenient(), &request));
        }
    }

    #[test]
    fn null_and_empty_lists_are_refused_wherever_they_stand(
        consent in r4(LabelsIn::Any, 2), at in any::<Index>(), blank in select(vec![json!(null), json!([])]),
        name in select(&["purpose", "actor", "action", "period", "securityLabel", "class", "code", "dataPeriod", "data", "provision"][..]),
    ) {
        let mut found = Vec::new();
        pointers(&consent["provision"], "/provision", &mut found);
        let mut changed = consent;
        changed.pointer_mut(at.get(&found[..]).as_str()).expect("a provision")[name] = blank;
        let errors = fhir::read(&changed, None, &ProvisionContext::default()).expect_err("refused");
        prop_assert!(errors[0].field.ends_with(name), "{:?}", errors);
    }

    /// The law of held decisions: until it expires, an answer is what a new one would be.
    #[test]
    fn an_answer_holds_until_it_expires(
        consents in prop::collection::vec(r4(LabelsIn::Any, 2), 1..4), request in request(), known in any::<bool>(), days in 0_i64..3_000,
        newest in any::<bool>(),
    ) {
        let combining = if newest { "newest-wins" } else { "deny-overrides" };
        let overriding = json!([{"type": "deny", "purpose": [{"code": "HRESCH"}], "period": {"start": "2026-12-24", "end": "2027-01"}}]);
        let policy = policy(json!({"combining": combining, "breakGlass": {"mode": "forbid"}, "overriding": overriding}));
        let mut request = request;
        if !known {
            request.as_object_mut().expect("an object").remove("resource");
        }
        let now: Timestamp = "2019-06-01T12:00:00Z".parse().expect("a time");
        let first = decision(&consents, &policy, &request, now).expect("read");
        let later = now + jiff::SignedDuration::from_hours(24 * days);
        let ends: Option<Timestamp> = first["expiresAt"].as_str().map(|ends| ends.parse().expect("a time"));
        let mut second = decision(&consents, &policy, &request, later).expect("read");
        if ends.is_none_or(|ends| later < ends) {
            second["expiresAt"] = first["expiresAt"].clone();
            prop_assert_eq!(&first, &second, "at {}", later);
        }
        let mut swapped = consents;
        swapped.reverse();
        prop_assert_eq!(decision(&swapped, &policy, &request, now), Some(first));
    }

    #[test]
    fn no_spelling_of_a_request_decides(
        consents in prop::collection::vec(r4(LabelsIn::Any, 2), 1..3), request in request(), n in 1_usize..10,
    ) {
        let mut spelled = request.clone();
        for (name, system) in [("purpose", ACT_REASON), ("action", CONSENT_ACTION)] {
            let mut coding = json!({"system": system, "code": request[name]});
            spelling(n)(&mut coding);
            spelled[name] = coding;
        }
        let label = json!({"system": CONFIDENTIALITY, "code": request["resource"]["securityLabels"][0]});
        spelled["resource"]["securityLabels"][0] = label;
        let (one, other) = (answer(&consents, &lenient(), &request), answer(&consents, &lenient(), &spelled));
        prop_assert_eq!(one, other);
    }

    /// An untyped root is read only where all readings of it permit no more than what is read.
    #[test]
    fn an_untyped_root_is_never_read_wider_than_any_meaning_of_it(
        consent in r4(LabelsIn::Any, 1), rule in select(&["OPTIN", "OPTOUT"][..]), request in request(),
    ) {
        let mut untyped = consent;
        untyped["provision"].as_object_mut().expect("an object").remove("type");
        untyped["policyRule"] = json!({"coding": [{"code": rule}]});
        let strict = policy(json!({"breakGlass": {"mode": "forbid"}}));
        let read = answer(std::slice::from_ref(&untyped), &strict, &request);
        for meaning in ["frame", "exception"] {
            let policy = policy(json!({"breakGlass": {"mode": "forbid"}, "untypedRoot": meaning}));
            let meant = answer(std::slice::from_ref(&untyped), &policy, &request);
            let permits_only = of_type(&untyped, "deny").is_empty();
            // The exception to an opt-in permits all else, which a frame does not.
            prop_assert!(read.as_deref() != Some("PERMIT") || meaning == "exception" && permits_only || meant == read, "{meaning}");
        }
    }
}

#[test]
fn dates_that_overlap_or_are_missing_leave_the_denial() {
    let newest = policy(json!({"combining": "newest-wins"}));
    let dated = |effect: &str, date: Option<&str>| {
        let mut consent = super::generate::consent(json!({"provision": {"type": effect}}));
        consent["dateTime"] = json!(date.unwrap_or("2024"));
        if date.is_none() {
            consent.as_object_mut().expect("an object").remove("dateTime");
        }
        consent
    };
    let ask = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": "TREAT"});
    for (permit, deny, expected) in [
        (Some("2025-02-01"), Some("2024"), "PERMIT"),
        (Some("2024-02-01"), Some("2024"), "DENY"),
        (Some("2024-02-01T10:00:00Z"), Some("2024-02-01"), "DENY"),
        (Some("2025"), None, "DENY"),
        (None, Some("2020"), "DENY"),
    ] {
        let consents = [dated("permit", permit), dated("deny", deny)];
        assert_eq!(answer(&consents, &newest, &ask).as_deref(), Some(expected), "{permit:?} {deny:?}");
    }
}

#[test]
fn base_policies_serve_somebody_for_a_purpose_up_to_normal_and_no_device() {
    let full = json!({"actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": {"securityLabels": ["N"]}});
    let with = |pointer: &str, value: Value| {
        let mut request = full.clone();
        match pointer.rsplit_once('/').expect("a pointer") {
            (above, name) if value.is_null() => {
                request.pointer_mut(above).and_then(Value::as_object_mut).expect("there").remove(name);
            }
            (above, name) => request.pointer_mut(above).expect("there")[name] = value,
        }
        request
    };
    for base in ["basic-normal", "all-normal"] {
        let policy = policy(json!({"basePolicy": base}));
        let ask = |request: Value| answer(&[], &policy, &request).expect("an answer");
        assert_eq!(ask(full.clone()), "PERMIT", "{base}");
        for request in [
            with("/actor", Value::Null),
            with("/purpose", Value::Null),
            with("/resource/securityLabels", json!(["R"])),
            with("/resource/securityLabels", json!(["PSY"])),
            with("/resource/securityLabels", json!(["normal"])),
            with("/actor/role", json!("device")),
            with("/actor/id", json!("Device/pump")),
        ] {
            assert_eq!(ask(request.clone()), "DENY", "{base} {request}");
        }
    }
}

/// FHIR says by an extension alone why a value is absent. Where the value decides, nothing can be decided without it.
#[test]
fn a_value_that_is_absent_for_a_reason_is_refused_where_it_decides_and_nowhere_else() {
    let reason = json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]});
    let permit =
        json!({"type": "permit", "data": [{"meaning": "instance", "reference": {"reference": "Observation/1"}}]});
    let base = super::generate::consent(json!({
        "provision": permit, "policy": [{"authority": "https://law.example"}], "performer": [{"display": "A"}],
        "contained": [{"resourceType": "Practitioner", "id": "x", "name": [{"given": ["A"]}]}],
    }));
    for (above, name, refused) in [
        ("/provision", "_period", true),
        ("/provision/data/0/reference", "_type", true),
        ("/policy/0", "_uri", true),
        ("/patient", "_type", true),
        ("", "_dateTimeOf", true),
        ("/performer/0", "_type", false),
        ("/contained/0/name/0", "_family", false),
    ] {
        let mut changed = base.clone();
        changed.pointer_mut(above).expect("there")[name] = reason.clone();
        let read = fhir::read(&changed, None, &ProvisionContext::default());
        assert_eq!(read.is_err(), refused, "{above} {name}");
        if let Err(errors) = read {
            assert!(errors[0].message.starts_with("says why there is no value"), "{errors:?}");
        }
    }
    let mut identified = base;
    identified["provision"]["actor"] =
        json!([{"reference": {"identifier": {"system": "urn:a", "value": "1", "_use": reason}}}]);
    let errors = fhir::read(&identified, None, &ProvisionContext::default()).expect_err("refused");
    assert_eq!(errors[0].field, "Consent.provision.actor[0].reference.identifier._use");
}

/// A name of MAX_LEVELS levels and lists without end are refused before they cost anything; circles are never walked.
#[test]
fn hostile_documents_are_refused_with_the_element() {
    let mut circle = super::generate::consent(json!({"provision": {"type": "permit", "provision": [
        {"type": "deny", "actor": [{"reference": {"reference": "#a"}}]}]}}));
    circle["contained"] = json!([
        {"resourceType": "PractitionerRole", "id": "a", "practitioner": {"reference": "#b"}},
        {"resourceType": "Practitioner", "id": "b", "qualification": [{"issuer": {"reference": "#a"}}]},
    ]);
    let refused =
        |consent: &Value| fhir::read(consent, None, &ProvisionContext::default()).expect_err("refused")[0].to_string();
    assert!(refused(&circle).starts_with("Consent.provision.provision[0].actor[0].reference:"), "{}", refused(&circle));
    for (element, value, field) in [
        ("purpose", json!([{"code": "TREAT\u{200b}"}]), "Consent.provision.purpose[0].code"),
        ("purpose", json!([{"code": "\u{202e}TAERT"}]), "Consent.provision.purpose[0].code"),
        ("period", json!({"end": "2026-06-30T23:59:60Z"}), "Consent.provision.period.end"),
        ("period", json!({"start": "2016-12-31T23:59:60.5+00:00"}), "Consent.provision.period.start"),
        ("period", json!({"end": "2026-06-31"}), "Consent.provision.period.end"),
        ("period", json!({"end": "2026-06-30T10:00:00+25:00"}), "Consent.provision.period.end"),
        ("period", json!({"end": "2026-06-30T10:00:00[Mars/Base]"}), "Consent.provision.period.end"),
    ] {
        let consent = super::generate::consent(json!({"provision": {"type": "permit", element: value}}));
        let said = refused(&consent);
        assert!(said.starts_with(&format!("{field}: ")), "{element} {value}: {said}");
    }
}

/// A permit of some time is for records that are known to be of it; a denial for all that may be.
#[test]
fn a_record_whose_date_is_vague_is_in_a_time_that_is_denied_and_in_none_that_is_permitted() {
    let of = |effect: &str, other: &str| {
        let nested = json!([{"type": effect, "dataPeriod": {"start": "2020-12-31", "end": "2020-12-31"}}]);
        [super::generate::consent(json!({"provision": {"type": other, "provision": nested}}))]
    };
    for (written, permitted, denied) in [
        ("2020-12-31", "PERMIT", "DENY"),
        ("2020-12-31T10:00:00Z", "PERMIT", "DENY"),
        ("2020-12", "DENY", "DENY"),
        ("2020", "DENY", "DENY"),
        ("2021", "DENY", "PERMIT"),
    ] {
        let request = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "resource": {"authoredOn": written}});
        let strict = policy(json!({}));
        assert_eq!(answer(&of("permit", "deny"), &strict, &request).as_deref(), Some(permitted), "{written}");
        assert_eq!(answer(&of("deny", "permit"), &strict, &request).as_deref(), Some(denied), "{written}");
    }
}
