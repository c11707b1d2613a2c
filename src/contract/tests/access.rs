//! Access: decided from the ledger and the certificate alone, and committed whatever the answer is.

use serde_json::{Value, json};

use super::world::*;
use crate::Call;
use crate::caller::Caller;
use ehrnet_consent::decision::Effect;
use ehrnet_consent::rules::Basis;
use ehrnet_messages::*;

fn answer(entry: &AuditEntry) -> (Effect, &str) {
    (entry.decision.expect("a decision"), entry.reason.as_deref().expect("a reason"))
}

/// C7, C16: a denial is a result with a reason, and is committed with its entry.
#[test]
fn a_denial_is_committed_like_a_permission() {
    let mut world = World::governed();
    world.register(1, "r1", "N");
    let physician = world.staff(ELSEWHERE, "dr-y", role::PHYSICIAN);
    let denied = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    assert_eq!(answer(&denied), (Effect::Deny, "no-consent"));
    assert_eq!(denied.basis, Some(Basis::Implicit));
    let ran = world.committed.last().expect("committed");
    let (name, event) = ran.effects.event.clone().expect("an event");
    let event: Event = serde_json::from_slice(&event).expect("an event");
    assert_eq!((name, event.decision, event.tx_id), (event::ACCESS_DECIDED, Some(Effect::Deny), denied.tx_id));
    assert!(!ran.effects.writes.is_empty());
    world.consent(1, "c1", 1, permits("TREAT"));
    let permitted = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    assert_eq!(answer(&permitted), (Effect::Permit, "provision-permits"));
}

#[test]
fn a_revocation_counts_for_the_next_request() {
    let mut world = World::governed();
    world.register(1, "r1", "N");
    world.consent(1, "c1", 1, permits("TREAT"));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let permitted = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    assert!(world.decision(&physician, &permitted.tx_id).current);
    world.revoke(1, "c1", 2);
    assert!(!world.decision(&physician, &permitted.tx_id).current, "held decisions end with the consent");
    assert_eq!(answer(&world.request(&physician, &access(1, Some("r1"), "TREAT"))), (Effect::Deny, "no-consent"));
}

/// C18.
#[test]
fn the_decision_names_the_provision_that_decided() {
    let mut world = World::governed();
    world.register(1, "r1", "R");
    let provision = json!({"type": "permit", "purpose": [{"code": "TREAT"}], "provision": [
        {"type": "deny", "securityLabel": [{"code": "R"}]},
    ]});
    let consent = world.consent(1, "c1", 1, fhir(provision));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let entry = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    assert_eq!(entry.consent_digest, Some(consent.digest.clone()));
    let detail = world.decision(&physician, &entry.tx_id).entry.detail.expect("detail").decision.expect("a decision");
    assert_eq!(detail.matched_path.as_deref(), Some("provision.provision[0]"));
    assert_eq!((detail.consent.as_deref(), detail.consent_digest), (Some("c1"), Some(consent.digest)));
    let stranger = world.staff(MERCY, "dr-z", role::PHYSICIAN);
    assert_eq!(world.evaluate(&stranger, &GetDecision { tx_id: entry.tx_id }).expect_err("may not").status, 403);
}

/// C19.
#[test]
fn a_role_that_the_certificate_does_not_have_is_a_recorded_denial() {
    let mut world = World::governed();
    world.register(1, "r1", "N");
    let provision = json!({"type": "permit", "actor": [{"role": {"coding": [{"code": "physician"}]}}]});
    world.consent(1, "c1", 1, fhir(provision));
    let nobody = world.person(MERCY, "clerk", &[]);
    let forged = RequestAccess { role: Some("physician".into()), ..access(1, Some("r1"), "TREAT") };
    let entry = world.request(&nobody, &forged);
    assert_eq!(answer(&entry), (Effect::Deny, "role-not-certified"));
    assert_eq!(answer(&world.request(&nobody, &access(1, Some("r1"), "TREAT"))).0, Effect::Deny);
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(answer(&world.request(&physician, &forged)), (Effect::Permit, "provision-permits"));
}

/// C19: what else an argument may claim is not read at all.
#[test]
fn an_argument_that_says_who_calls_is_refused() {
    let mut world = World::new();
    let nobody = world.person(MERCY, "clerk", &[]);
    let secret = AccessSecret { salt: salt(1), justification: None };
    for claim in ["actor", "mspId", "attributes", "now"] {
        let mut call = world.call(&nobody, &access(1, None, "TREAT"), Some(&secret));
        let mut argument: Value = serde_json::from_slice(&call.args[1]).expect("JSON");
        argument[claim] = json!("physician");
        call.args[1] = argument.to_string().into_bytes();
        let error = world.run(&call).expect_err(claim);
        assert!(error.status == 400 && error.message.contains(claim), "{error}");
    }
}

#[test]
fn a_role_or_group_cannot_pass_for_an_msp() {
    let mut world = World::governed();
    world.consent(1, "c1", 1, fhir(json!({"type": "permit", "actor": [{"reference": {"reference": MERCY}}]})));
    let attributes = [(attribute::ROLE, MERCY), (attribute::GROUPS, MERCY)];
    let posing = world.person(ELSEWHERE, "dr-y", &attributes);
    assert_eq!(answer(&world.request(&posing, &access(1, None, "TREAT"))).0, Effect::Deny);
    let own = world.person(MERCY, "dr-x", &[]);
    assert_eq!(answer(&world.request(&own, &access(1, None, "TREAT"))).0, Effect::Permit);
}

/// What FHIR cannot name is unknown of the caller, and matches each denial.
#[test]
fn a_certificate_that_names_its_holder_otherwise_than_fhir_evades_no_denial() {
    let mut world = World::governed();
    world.register(1, "r1", "N");
    let denied = |reference: &str| json!({"type": "deny", "actor": [{"reference": {"reference": reference}}]});
    for (seq, reference, name, groups, expected) in [
        (1, "Practitioner/dr-a", "dr-b", "Group/er", Effect::Permit),
        (2, "Practitioner/dr-a", "Dr A", "Group/er", Effect::Deny),
        (3, "Practitioner/dr-a", "Doctor/dr-a", "Group/er", Effect::Deny),
        (4, "Group/er", "dr-b", "Group/icu", Effect::Permit),
        (5, "Group/er", "dr-b", "Group/icu, group/er", Effect::Deny),
        (6, "Group/er", "dr-b", "er", Effect::Deny),
    ] {
        world.consent(1, "c1", seq, fhir(json!({"type": "permit", "provision": [denied(reference)]})));
        let attributes = [(attribute::ROLE, role::PHYSICIAN), (attribute::GROUPS, groups)];
        let caller = world.person(MERCY, name, &attributes);
        let entry = world.request(&caller, &access(1, Some("r1"), "TREAT"));
        assert_eq!(answer(&entry).0, expected, "{reference} {name} {groups}");
    }
}

#[test]
fn an_identifier_names_somebody_of_one_hospital() {
    let mut world = World::governed();
    let identifier = json!({"system": "urn:ehrnet:msp:MercyMSP", "value": "dr-x"});
    world.consent(1, "c1", 1, fhir(json!({"type": "permit", "actor": [{"reference": {"identifier": identifier}}]})));
    let namesake = world.staff(ELSEWHERE, "dr-x", role::PHYSICIAN);
    let meant = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(answer(&world.request(&namesake, &access(1, None, "TREAT"))).0, Effect::Deny);
    assert_eq!(answer(&world.request(&meant, &access(1, None, "TREAT"))).0, Effect::Permit);
}

/// C22.
#[test]
fn research_and_treatment_never_permit_each_other() {
    let mut world = World::new();
    let researcher = world.staff(MERCY, "r", role::RESEARCHER);
    let mut research = fhir(json!({"type": "permit"}));
    research["scope"]["coding"][0]["code"] = json!("research");
    world.consent(1, "care", 1, fhir(json!({"type": "permit"})));
    world.consent(2, "study", 1, research);
    let policies = [
        ("base", json!({"basePolicy": "deny"})),
        ("care", json!({"scope": "patient-privacy"})),
        ("study", json!({"scope": "research"})),
    ];
    for (round, policy) in std::iter::once(None).chain(policies.map(Some)).enumerate() {
        if let Some((name, spec)) = policy {
            world.policy(name, 0, spec).expect("a policy");
        }
        for (n, purpose, expected) in [
            (1, "TREAT", Effect::Permit),
            (1, "HRESCH", Effect::Deny),
            (1, "CLINTRCH", Effect::Deny),
            (2, "TREAT", Effect::Deny),
            (2, "HRESCH", Effect::Permit),
        ] {
            let argument = RequestAccess { project: Some("NCT-01".into()), ..access(n, None, purpose) };
            let entry = world.request(&researcher, &argument);
            // Without a policy in force nothing is permitted.
            let expected = if round == 0 { Effect::Deny } else { expected };
            assert_eq!(entry.decision, Some(expected), "round {round}, patient {n}, {purpose}");
            assert_eq!(entry.project.as_deref(), Some("NCT-01"));
        }
    }
}

#[test]
fn what_is_asked_must_make_sense() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    type Edit = fn(&mut RequestAccess);
    let cases: [(Edit, &str); 7] = [
        (|request| request.purpose = json!(["TREAT", "HRESCH"]), "a request has one purpose"),
        (|request| request.purpose = Value::Null, "request.purpose is required"),
        (|request| request.purpose = json!(7), "request.purpose"),
        (|request| request.action = Some(json!(["use", "access"])), "a request has one action"),
        (|request| request.patient = "4711".into(), "patient must be a pseudonym"),
        (|request| request.record = Some("R 1".into()), "record must be"),
        (|request| request.project = Some("a b".into()), "project must be"),
    ];
    for (edit, message) in cases {
        let mut argument = access(1, None, "TREAT");
        edit(&mut argument);
        let secret = AccessSecret { salt: salt(1), justification: None };
        let error = world.submit(&physician, &argument, Some(&secret)).expect_err(message);
        assert!(error.status == 400 && error.message.contains(message), "{error}");
    }
    assert!(world.committed.is_empty());
}

#[test]
fn unknown_and_foreign_records_are_recorded_denials() {
    let mut world = World::new();
    world.register(2, "r2", "N");
    world.consent(1, "c1", 1, permits("TREAT"));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(
        answer(&world.request(&physician, &access(1, Some("nowhere"), "TREAT"))),
        (Effect::Deny, "unknown-record")
    );
    assert_eq!(
        answer(&world.request(&physician, &access(1, Some("r2"), "TREAT"))),
        (Effect::Deny, "other-patients-record")
    );
    assert_eq!(world.committed.len(), 4);
}

#[test]
fn residual_rules_are_private_and_their_existence_is_not() {
    let mut world = World::governed();
    let provision = json!({"type": "permit", "purpose": [{"code": "TREAT"}], "provision": [
        {"type": "deny", "securityLabel": [{"code": "PSY"}]},
    ]});
    world.consent(1, "c1", 1, fhir(provision));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let entry = world.request(&physician, &access(1, None, "TREAT"));
    assert!(entry.residual && entry.detail.is_none());
    let ran = world.committed.last().expect("committed");
    assert!(!String::from_utf8_lossy(&ran.payload).contains("PSY"));
    let detail = world.decision(&physician, &entry.tx_id).entry.detail.expect("detail").decision.expect("a decision");
    assert_eq!(detail.residual.len(), 2);
    assert_eq!(detail.obligations.len(), 1);
    world.register(1, "r1", "N");
    let view = world.evaluate(&physician, &GetRecord { record: "r1".into(), decision: Some(entry.tx_id) });
    assert!(view.expect("a record").withheld.expect("why").contains("not about this record"));
}

#[test]
fn time_is_the_transactions() {
    let mut world = World::governed();
    let provision = json!({"type": "permit", "period": {"end": "2026-03-02"}, "purpose": [{"code": "TREAT"}]});
    world.consent(1, "c1", 1, fhir(provision));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let entry = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!(answer(&entry).0, Effect::Permit);
    assert_eq!(entry.expires_at.map(|end| end.to_string()).as_deref(), Some("2026-03-03T00:00:00Z"));
    assert!(world.decision(&physician, &entry.tx_id).current);
    world.wait(48);
    assert!(!world.decision(&physician, &entry.tx_id).current);
    assert_eq!(answer(&world.request(&physician, &access(1, None, "TREAT"))), (Effect::Deny, "no-consent"));
}

#[test]
fn a_dry_run_decides_the_same_and_leaves_nothing() {
    let mut world = World::new();
    world.consent(1, "c1", 1, permits("TREAT"));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    for purpose in ["TREAT", "HPAYMT"] {
        let dry = world.evaluate(&physician, &DecideAccess(access(1, None, purpose))).expect("an answer");
        let entry = world.request(&physician, &access(1, None, purpose));
        let real = world.decision(&physician, &entry.tx_id).entry.detail.expect("detail").decision.expect("a decision");
        assert_eq!(dry, DryRun { audited: false, detail: real });
    }
}

#[test]
fn what_cannot_be_read_on_the_ledger_is_a_recorded_denial() {
    let mut world = World::governed();
    world.consent(1, "c1", 1, permits("TREAT"));
    world.consent(1, "c2", 1, permits("TREAT"));
    let key = world.state.private.keys().next().expect("a consent").clone();
    world.state.private.remove(&key);
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let denied = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!(answer(&denied), (Effect::Deny, "unreadable-consent"));
}

/// It denies for itself, and stops neither the law nor an emergency.
#[test]
fn a_consent_that_cannot_be_read_stops_nothing_that_stands_above_consents() {
    let mut world = World::new();
    let mandate = json!([{"type": "permit", "purpose": [{"code": "PUBHLTH"}]}]);
    world.policy("law", 0, json!({"overriding": mandate, "breakGlass": {"mode": "allow"}})).expect("a policy");
    world.consent(1, "c1", 1, permits("TREAT"));
    world.state.private.clear();
    let attributes = [(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")];
    let physician = world.person(MERCY, "dr-x", &attributes);
    assert_eq!(answer(&world.request(&physician, &access(1, None, "PUBHLTH"))), (Effect::Permit, "provision-permits"));
    assert_eq!(answer(&world.request(&physician, &access(1, None, "TREAT"))), (Effect::Deny, "unreadable-consent"));
    let secret = AccessSecret { salt: salt(7), justification: Some("unconscious".into()) };
    let broken = world.submit(&physician, &access(1, None, "BTG"), Some(&secret)).expect("an answer");
    assert_eq!(answer(&broken), (Effect::Permit, "break-glass-allowed"));
}

#[test]
fn without_a_policy_in_force_everything_is_denied() {
    let mut world = World::new();
    let names_it = json!({"type": "permit", "provision": [{"type": "permit", "purpose": [{"code": "BTG"}]}]});
    world.consent(1, "c1", 1, fhir(names_it));
    let attributes = [(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")];
    let physician = world.person(MERCY, "dr-x", &attributes);
    for purpose in ["TREAT", "BTG", "HRESCH"] {
        let secret = AccessSecret { salt: salt(7), justification: Some("unconscious".into()) };
        let entry = world.submit(&physician, &access(1, None, purpose), Some(&secret)).expect("an answer");
        assert_eq!(answer(&entry), (Effect::Deny, "no-policy"), "{purpose}");
    }
}

/// Elements that today's reading needs may have been left out of what an earlier one stored.
#[test]
fn a_consent_put_under_another_reading_denies_and_permits_nothing_until_it_is_put_again() {
    let mut world = World::governed();
    let secret_notes = json!([{"type": "deny", "securityLabel": [{"code": "PSY"}]}]);
    let given = fhir(json!({"type": "permit", "purpose": [{"code": "TREAT"}], "provision": secret_notes}));
    world.consent(1, "c1", 1, given.clone());
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(answer(&world.request(&physician, &access(1, None, "TREAT"))).0, Effect::Permit);
    for value in world.state.public.values_mut() {
        let text =
            String::from_utf8_lossy(value).replace(&format!("\"reading\":{},", ehrnet_consent::fhir::READING), "");
        *value = text.into_bytes();
    }
    let before = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!(answer(&before), (Effect::Deny, "no-consent"));
    world.consent(1, "c1", 2, given);
    assert_eq!(answer(&world.request(&physician, &access(1, None, "TREAT"))).0, Effect::Permit);
}

/// The document's own date decides nothing on the ledger: a patient cannot be shown an old consent as a new one.
#[test]
fn the_newest_consent_is_the_one_that_the_ledger_took_last() {
    let mut world = World::new();
    world.policy("law", 0, json!({"combining": "newest-wins"})).expect("a policy");
    let dated = |effect: &str, date: &str| {
        let mut consent = fhir(json!({"type": effect, "purpose": [{"code": "TREAT"}]}));
        consent["dateTime"] = json!(date);
        consent
    };
    world.consent(1, "c1", 1, dated("permit", "2025-06-01"));
    world.consent(1, "c2", 1, dated("deny", "2025-01-01"));
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(answer(&world.request(&physician, &access(1, None, "TREAT"))).0, Effect::Deny);
    let caller = world.patient(1);
    let put = PutConsent { patient: patient(1), consent: "c3".into(), seq: 1 };
    let refused = world.submit(&caller, &put, Some(&consent_secret(1, dated("permit", "2999")))).expect_err("late");
    assert!(refused.message.contains("Consent.dateTime: is later than"), "{refused}");
}

/// C27: role, hospital, purpose, label, class and period, each deciding alone.
#[test]
fn the_attribute_matrix_passes() {
    let mut world = World::governed();
    let provision = json!({
        "type": "permit", "purpose": [{"code": "TREAT"}], "securityLabel": [{"code": "N"}],
        "actor": [{"role": {"coding": [{"code": "physician"}]}}], "class": [{"code": "Observation"}],
        "dataPeriod": {"start": "2026"},
    });
    world.consent(1, "c1", 1, fhir(provision));
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    type Edit = fn(&mut RegisterRecord);
    let records: [(&str, Edit, bool); 6] = [
        ("plain", |_| {}, true),
        ("low", |record| record.confidentiality = "L".into(), true),
        ("restricted", |record| record.confidentiality = "R".into(), false),
        ("other-class", |record| record.class = code("Condition"), false),
        ("old", |record| record.authored_on = Some("2025-12".into()), false),
        ("sensitive", |record| record.sensitivity = vec![code("PSY")], true),
    ];
    for (id, edit, _) in records {
        let (mut argument, secret) = record(1, id, "N");
        edit(&mut argument);
        world.submit(&registrar, &argument, Some(&secret)).expect("registered");
    }
    for (id, _, permitted) in records {
        for (held, purpose, matching) in
            [(role::PHYSICIAN, "TREAT", true), (role::NURSE, "TREAT", false), (role::PHYSICIAN, "HPAYMT", false)]
        {
            let caller = world.staff(ELSEWHERE, "x", held);
            let entry = world.request(&caller, &access(1, Some(id), purpose));
            let expected = if permitted && matching { Effect::Permit } else { Effect::Deny };
            assert_eq!(entry.decision, Some(expected), "{id} {held} {purpose}");
        }
    }
}

fn concurrent(world: &mut World, caller: &Caller) -> Call {
    let secret = AccessSecret { salt: salt(1), justification: None };
    world.call(caller, &access(1, Some("r1"), "TREAT"), Some(&secret))
}

/// C21: no request writes what another one reads or writes, so none is invalidated by another.
#[test]
fn two_hundred_requests_for_one_patient_do_not_touch_each_other() {
    let mut world = World::new();
    world.register(1, "r1", "N");
    world.consent(1, "c1", 1, permits("TREAT"));
    let callers = [world.staff(MERCY, "dr-x", role::PHYSICIAN), world.staff(ELSEWHERE, "dr-y", role::PHYSICIAN)];
    let calls: Vec<Call> = (0..200).map(|n| concurrent(&mut world, &callers[n % 2])).collect();
    let ran: Vec<Ran> = calls.iter().map(|call| world.simulate(call).expect("an answer")).collect();
    let mut written = std::collections::BTreeSet::new();
    for ran in &ran {
        for key in ran.writes() {
            assert!(written.insert(key.clone()), "{key:?} is written twice");
        }
    }
    for ran in &ran {
        assert!(ran.reads.keys.is_disjoint(&written));
        assert!(ran.reads.ranges.iter().all(|range| written.iter().all(|key| !range.contains(key))));
    }
    world.consent(1, "c1", 2, permits("HPAYMT"));
    let consent = world.committed.last().expect("committed").writes();
    let read = |ran: &Ran| ran.reads.ranges.iter().any(|range| consent.iter().any(|key| range.contains(key)));
    assert!(ran.iter().all(read), "a change of consent invalidates what was decided without it");
}
