//! Tests of giving and revoking consents.

use serde_json::{Value, json};

use super::world::*;
use ehrnet_messages::*;

fn put(seq: u64) -> PutConsent {
    PutConsent { patient: patient(1), consent: "c1".into(), seq }
}

/// C11.
#[test]
fn only_the_patient_and_registered_delegates_give_and_revoke() {
    let mut world = World::new();
    let delegate =
        [(attribute::ROLE, role::DELEGATE), (attribute::PATIENT, &*format!("{}, {}", patient(2), patient(1)))];
    let delegate = world.person(MERCY, "daughter", &delegate);
    let posing = [(attribute::ROLE, role::PHYSICIAN), (attribute::PATIENT, &*patient(1))];
    let posing = world.person(MERCY, "dr-x", &posing);
    let strangers = [world.staff(MERCY, "dr-y", role::PHYSICIAN), world.admin(MERCY), world.patient(2), posing];
    let secret = consent_secret(1, permits("TREAT"));
    let revoke = RevokeConsent { patient: patient(1), consent: "c1".into(), seq: 2 };
    for stranger in &strangers {
        let error = world.submit(stranger, &put(1), Some(&secret)).expect_err("may not");
        assert_eq!(error.status, 403);
        assert!(error.message.contains("is for the patient and registered delegates"), "{error}");
    }
    world.submit(&delegate, &put(1), Some(&secret)).expect("the delegate may");
    for stranger in &strangers {
        assert_eq!(world.submit(stranger, &revoke, None).expect_err("may not").status, 403);
    }
    assert_eq!(world.submit(&delegate, &revoke, None).expect("may").status, ConsentStatus::Inactive);
}

#[test]
fn a_replayed_or_reordered_change_is_refused_with_the_cause() {
    let mut world = World::new();
    let caller = world.patient(1);
    let secret = consent_secret(1, permits("TREAT"));
    assert_eq!(world.submit(&caller, &put(0), Some(&secret)).expect_err("0").status, 409);
    world.submit(&caller, &put(5), Some(&secret)).expect("the first, numbered as the client likes");
    for seq in [5, 4] {
        let error = world.submit(&caller, &put(seq), Some(&secret)).expect_err("old");
        assert_eq!(error.status, 409);
        assert!(error.message.contains("is at change 5") && error.message.contains("too late"), "{error}");
    }
    let revoke = |seq| RevokeConsent { patient: patient(1), consent: "c1".into(), seq };
    assert_eq!(world.submit(&caller, &revoke(5), None).expect_err("replayed").status, 409);
    world.submit(&caller, &revoke(6), None).expect("revoked");
    let again = world.submit(&caller, &revoke(7), None).expect_err("twice");
    assert!(again.message.contains("revoked already, as change 6"), "{again}");
    assert_eq!(world.submit(&caller, &put(6), Some(&secret)).expect_err("would undo the revocation").status, 409);
    world.submit(&caller, &put(7), Some(&secret)).expect("given again");
    let unknown = RevokeConsent { patient: patient(1), consent: "c2".into(), seq: 1 };
    assert_eq!(world.submit(&caller, &unknown, None).expect_err("no such consent").status, 404);
}

/// C17.
#[test]
fn the_history_has_every_version_with_its_signer() {
    let mut world = World::new();
    let caller = world.patient(1);
    let mut secret = consent_secret(1, permits("TREAT"));
    secret.performer = Some("Mother".into());
    secret.source_hash = Some(hex::encode([3; 32]));
    world.submit(&caller, &put(1), Some(&secret)).expect("put");
    world.consent(1, "c1", 2, permits("HPAYMT"));
    world.revoke(1, "c1", 3);
    let history =
        ConsentHistory { patient: patient(1), consent: "c1".into(), page: Page { size: Some(2), bookmark: None } };
    let first = world.evaluate(&caller, &history).expect("a page");
    let page = Page { size: Some(2), bookmark: first.bookmark.clone() };
    let second = world.evaluate(&caller, &ConsentHistory { page, ..history.clone() }).expect("a page");
    let versions: Vec<ConsentVersion> = first.consents.into_iter().chain(second.consents).collect();
    assert_eq!(second.bookmark, None);
    assert_eq!(versions.iter().map(|version| version.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let detail = |n: usize| versions[n].detail.as_ref().expect("detail");
    assert_eq!(detail(0).performer.as_deref(), Some("Mother"));
    assert_eq!(detail(0).source_hash, secret.source_hash);
    assert!((0..3).all(|n| detail(n).signer == caller.person), "each with its signer");
    assert_eq!(detail(2).resource, None, "a revocation says nothing new");
    let stranger = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(world.evaluate(&stranger, &history).expect_err("may not").status, 403);
    let officer = world.staff(ELSEWHERE, "po", role::PRIVACY_OFFICER);
    let list = GetConsents { patient: patient(1), page: Page::default() };
    let current = world.evaluate(&officer, &list).expect("consents").consents;
    assert_eq!(
        current.iter().map(|version| (version.seq, version.status)).collect::<Vec<_>>(),
        [(3, ConsentStatus::Inactive)]
    );
}

/// Data minimisation: names, narrative and attachments of the form are not the network's business.
#[test]
fn only_what_decides_is_kept_under_the_pseudonym() {
    let mut world = World::new();
    let mut resource = permits("TREAT");
    resource["text"] = json!({"div": "<div>Jane Roe, HIV clinic</div>"});
    resource["identifier"] = json!([{"value": "SSN 1"}]);
    resource["performer"] = json!([{"display": "Jane Roe"}]);
    world.consent(1, "c1", 1, resource);
    let kept: Vec<String> =
        world.state.private.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    assert!(kept.iter().all(|kept| !kept.contains("Jane") && !kept.contains("SSN") && !kept.contains("4711")));
    assert!(kept[0].contains(&format!("Patient/{}", patient(1))));
}

#[test]
fn the_public_ledger_has_status_period_and_a_salted_digest_only() {
    let mut world = World::new();
    let provision = json!({"type": "permit", "period": {"end": "2027"}, "purpose": [{"code": "TREAT"}]});
    let one = world.consent(1, "c1", 1, fhir(provision.clone()));
    let other = world.consent(2, "c1", 1, fhir(provision));
    assert_eq!(one.period.as_ref().and_then(|period| period.end.as_deref()), Some("2027"));
    assert_ne!(one.digest, other.digest);
    let public: String = world.state.public.values().map(|value| String::from_utf8_lossy(value)).collect();
    assert!(!public.contains("TREAT") && !public.contains("permit"), "{public}");
}

#[test]
fn a_consent_that_makes_no_sense_is_refused_with_the_field_and_not_repeated() {
    let mut world = World::new();
    let caller = world.patient(1);
    let with = |name: &str, value: Value| {
        let mut resource = permits("TREAT");
        resource[name] = value;
        resource
    };
    for (resource, field) in [
        (json!("secret"), "Consent"),
        (with("status", json!("inactive")), "Consent.status"),
        (with("status", json!("secret")), "Consent.status"),
        (with("modifierExtension", json!([{"url": "secret"}])), "Consent.modifierExtension"),
        (with("dateTime", json!("secret")), "Consent.dateTime"),
        (with("provision", json!({})), "Consent.provision: must not be empty"),
        (
            with("provision", json!({"type": "permit", "provision": [{"period": {"end": "2027"}}]})),
            "Consent.provision.provision[0].type",
        ),
        (
            with("provision", json!({"type": "permit", "period": {"start": "2027", "end": "2026"}})),
            "Consent.provision.period",
        ),
        (with("patient", json!({"reference": format!("Patient/{}", patient(2))})), "Consent.patient"),
    ] {
        let error = world.submit(&caller, &put(1), Some(&consent_secret(1, resource))).expect_err(field);
        assert_eq!(error.status, 400, "{field}");
        assert!(error.message.contains(field), "{field}: {error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
    assert!(world.committed.is_empty());
}

#[test]
fn both_dialects_keep_their_paths() {
    let mut world = World::governed();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let mut r5 = fhir(json!([{"purpose": [{"code": "TREAT"}]}]));
    r5.as_object_mut().expect("object").remove("scope");
    r5["decision"] = json!("deny");
    world.consent(1, "r5", 1, r5);
    world.consent(
        2,
        "r4",
        1,
        fhir(json!({"type": "deny", "provision": [{"type": "permit", "purpose": [{"code": "TREAT"}]}]})),
    );
    for (n, path) in [(1, "provision[0]"), (2, "provision.provision[0]")] {
        let entry = world.request(&physician, &access(n, None, "TREAT"));
        let detail = world.decision(&physician, &entry.tx_id).entry.detail.expect("detail");
        assert_eq!(detail.decision.expect("a decision").matched_path.as_deref(), Some(path));
    }
}

/// What stands twice is the first to one reader and the last to another.
#[test]
fn a_name_given_twice_in_private_input_is_refused() {
    let mut world = World::new();
    let caller = world.patient(1);
    let mut call = world.call(&caller, &put(1), Some(&consent_secret(1, permits("TREAT"))));
    for input in call.transient.values_mut() {
        let text = String::from_utf8_lossy(input)
            .replace("\"type\":\"permit\"", "\"type\":\"deny\",\"t\\u0079pe\":\"permit\"");
        *input = text.into_bytes();
    }
    let refused = world.run(&call).expect_err("twice");
    assert!(refused.status == 400 && refused.message.contains("resource.provision.type: is given twice"), "{refused}");
}
