//! Tests of registering, verifying and erasing records.

use serde_json::json;

use super::world::*;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::hash::{document_digest, salted};
use ehrnet_messages::*;

fn digest(document: serde_json::Value) -> String {
    document_digest(&document).expect("canonical")
}

/// C6.
#[test]
fn a_flipped_byte_is_found_and_reordered_members_are_not_one() {
    let mut world = World::new();
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    let (argument, mut secret) = record(1, "r1", "N");
    secret.digest = digest(json!({"resourceType": "Observation", "value": "6.1"}));
    let registered = world.submit(&registrar, &argument, Some(&secret)).expect("registered");
    assert_ne!(registered.hash, secret.digest, "the hash is salted");
    let mut verify = |document| {
        let argument = VerifyRecord { record: "r1".into(), digest: Some(digest(document)), manifest_root: None };
        world.evaluate(&registrar, &argument).expect("an answer").matches
    };
    assert!(verify(json!({"value": "6.1", "resourceType": "Observation"})));
    assert!(!verify(json!({"resourceType": "Observation", "value": "6.2"})));
}

#[test]
fn versions_follow_each_other_and_only_the_author_writes_them() {
    let mut world = World::new();
    world.register(1, "r1", "N");
    let (mut argument, secret) = record(1, "r1", "R");
    let mercy = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let elsewhere = world.staff(ELSEWHERE, "dr-x", role::PHYSICIAN);
    assert_eq!(world.submit(&mercy, &argument, Some(&secret)).expect_err("version 1 again").status, 409);
    argument.version = 3;
    assert_eq!(world.submit(&mercy, &argument, Some(&secret)).expect_err("version 2 is next").status, 409);
    argument.version = 2;
    assert_eq!(world.submit(&elsewhere, &argument, Some(&secret)).expect_err("another's").status, 403);
    assert_eq!(world.submit(&mercy, &argument, Some(&secret)).expect("registered").confidentiality, "R");
    argument.version = 3;
    argument.patient = patient(2);
    assert_eq!(world.submit(&mercy, &argument, Some(&secret)).expect_err("another patient").status, 409);
}

#[test]
fn a_record_that_makes_no_sense_is_refused_with_the_field() {
    let mut world = World::new();
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    type Edit = fn(&mut RegisterRecord, &mut RecordSecret);
    let cases: [(Edit, &str); 12] = [
        (|record, _| record.record = "R 1".into(), "record"),
        (|record, _| record.patient = "Patient/4711".into(), "patient"),
        (|record, _| record.confidentiality = "secret".into(), "confidentiality"),
        (|record, _| record.confidentiality = "N, R".into(), "confidentiality"),
        (|record, _| record.class = code("Observatoin"), "class"),
        (|record, _| record.sensitivity = vec![code("nonsense")], "sensitivity"),
        (|record, _| record.authored_on = Some("yesterday".into()), "authoredOn"),
        (|record, _| record.manifest = Some(Manifest { chunks: 1, chunk_size: 1 }), "manifestRoot"),
        (|_, secret| secret.salt = "00".into(), "salt"),
        (|_, secret| secret.digest = "XX".into(), "digest"),
        (|_, secret| secret.storage = String::new(), "storage"),
        (|_, secret| secret.codes = Some(vec![code("1"); 65]), "codes"),
    ];
    for (edit, field) in cases {
        let (mut argument, mut secret) = record(1, "r1", "N");
        edit(&mut argument, &mut secret);
        let error = world.submit(&registrar, &argument, Some(&secret)).expect_err(field);
        assert_eq!(error.status, 400);
        assert!(error.message.contains(field), "{field}: {error}");
    }
    let researcher = world.staff(MERCY, "r", role::RESEARCHER);
    let (argument, secret) = record(1, "r1", "N");
    assert_eq!(world.submit(&researcher, &argument, Some(&secret)).expect_err("may not").status, 403);
    assert!(world.committed.is_empty());
}

/// C23.
#[test]
fn a_device_writes_for_its_patient_and_reads_nothing() {
    let mut world = World::new();
    let attributes = [(attribute::ROLE, role::DEVICE), (attribute::PATIENT, &*patient(1))];
    let device = world.person(MERCY, "pump-7", &attributes);
    let (argument, secret) = record(1, "r1", "N");
    world.submit(&device, &argument, Some(&secret)).expect("its patient's");
    let (argument, secret) = record(2, "r2", "N");
    assert_eq!(world.submit(&device, &argument, Some(&secret)).expect_err("another patient's").status, 403);
    world.policy("law", 0, json!({"basePolicy": "all-normal"})).expect("a policy");
    let entry = world.request(&device, &access(1, Some("r1"), "TREAT"));
    assert_eq!((entry.decision, entry.reason.as_deref()), (Some(Effect::Deny), Some("device-may-not-read")));
    assert_eq!(
        world.evaluate(&device, &GetRecord { record: "r1".into(), decision: None }).expect_err("no").status,
        403
    );
    let verify = VerifyRecord { record: "r1".into(), digest: Some(hex::encode([1; 32])), manifest_root: None };
    assert_eq!(world.evaluate(&device, &verify).expect_err("no").status, 403);
}

/// C25: 1 GiB in chunks of 1 MiB.
#[test]
fn a_large_object_costs_little_and_its_manifest_is_verified() {
    let mut world = World::new();
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    let mut chunks: Vec<String> = (0_u32..1024).map(|n| hex::encode([n.to_le_bytes(); 8].concat())).collect();
    let (mut argument, mut secret) = record(1, "ct-1", "N");
    argument.manifest = Some(Manifest { chunks: 1024, chunk_size: 1 << 20 });
    secret.manifest_root = Some(digest(json!(chunks)));
    world.submit(&registrar, &argument, Some(&secret)).expect("registered");
    let size = |write: &crate::stub::Write| match write {
        crate::stub::Write::Put { key, value } => key.len() + value.len(),
        crate::stub::Write::PutPrivate { key, value, .. } => key.len() + value.len(),
        crate::stub::Write::Delete { .. } | crate::stub::Write::Purge { .. } => 0,
    };
    let grown: usize = world.committed[0].effects.writes.iter().map(size).sum();
    assert!(grown < 4096, "{grown} bytes");
    let mut verify = |chunks: &[String]| {
        let root = Some(digest(json!(chunks)));
        let argument = VerifyRecord { record: "ct-1".into(), digest: None, manifest_root: root };
        world.evaluate(&registrar, &argument).expect("an answer").matches
    };
    assert!(verify(&chunks));
    chunks[17] = hex::encode([0xff; 32]);
    assert!(!verify(&chunks));
}

/// C26.
#[test]
fn a_move_keeps_id_and_hash_and_stands_in_the_audit() {
    let mut world = World::new();
    let first = world.register(1, "r1", "N");
    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    let (mut argument, mut secret) = record(1, "r1", "N");
    argument.version = 2;
    secret.storage = "gs://elsewhere/r1".into();
    let moved = world.submit(&registrar, &argument, Some(&secret)).expect("moved");
    assert_eq!((moved.record, moved.hash), (first.record, first.hash));
    let view = world.evaluate(&registrar, &GetRecord { record: "r1".into(), decision: None }).expect("a record");
    assert_eq!(view.storage.as_deref(), Some("gs://elsewhere/r1"));
    let query = QueryAudit { of: AuditSubject::Patient(patient(1)), from: None, until: None, page: Page::default() };
    let caller = world.patient(1);
    let kinds: Vec<AuditKind> =
        world.evaluate(&caller, &query).expect("entries").entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [AuditKind::Registration, AuditKind::Registration]);
}

/// C5: what is left cannot be found by trying.
#[test]
fn an_erased_record_leaves_a_tombstone_and_no_way_back() {
    let mut world = World::new();
    world.register(1, "r1", "N");
    let erase = EraseRecord { record: "r1".into(), reason: ErasureReason::ConsentWithdrawn, request: "q-1".into() };
    let elsewhere = world.staff(ELSEWHERE, "records", role::REGISTRAR);
    assert_eq!(world.submit(&elsewhere, &erase, None).expect_err("not the controller").status, 403);
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    assert_eq!(world.submit(&physician, &erase, None).expect_err("not the role").status, 403);
    let officer = world.staff(MERCY, "po", role::PRIVACY_OFFICER);
    let erased = world.submit(&officer, &erase, None).expect("erased");
    assert_eq!(erased.erased.as_ref().map(|erasure| erasure.reason), Some(ErasureReason::ConsentWithdrawn));
    assert!(!world.state.private.keys().any(|(collection, _)| collection == collection::RECORDS));
    let keeps_salt = |kept: &Vec<u8>| String::from_utf8_lossy(kept).contains(&salt(1));
    assert!(!world.state.private.values().any(keeps_salt), "the salt is gone from every collection");

    let registrar = world.staff(MERCY, "records", role::REGISTRAR);
    let verify = VerifyRecord { record: "r1".into(), digest: Some(hex::encode([1; 32])), manifest_root: None };
    let verified = world.evaluate(&registrar, &verify).expect("an answer");
    assert!(verified.erased && !verified.matches);
    let guesses =
        (0..=255_u8).filter(|n| salted(&[*n; 32], &[1; 32]) == erased.hash && salt(1) != hex::encode([*n; 32]));
    assert_eq!(guesses.count(), 0);

    let view = world.evaluate(&registrar, &GetRecord { record: "r1".into(), decision: None }).expect("the tombstone");
    assert_eq!((view.storage, view.withheld.as_deref()), (None, Some("the record was erased")));
    let entry = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    assert_eq!((entry.decision, entry.reason.as_deref()), (Some(Effect::Deny), Some("erased-record")));
    assert_eq!(world.submit(&officer, &erase, None).expect_err("twice").status, 409);
    let (argument, secret) = record(1, "r1", "N");
    assert_eq!(world.submit(&registrar, &argument, Some(&secret)).expect_err("its id again").status, 409);
}

/// C7: the key of a body is released on a decision that permits and still holds, and to nobody else.
#[test]
fn where_a_body_is_needs_a_decision_that_still_holds() {
    let mut world = World::governed();
    world.register(1, "r1", "N");
    world.register(1, "r2", "N");
    world.consent(1, "c1", 1, permits("TREAT"));
    let physician = world.staff(ELSEWHERE, "dr-y", role::PHYSICIAN);
    let other = world.staff(ELSEWHERE, "dr-z", role::PHYSICIAN);
    let permitted = world.request(&physician, &access(1, Some("r1"), "TREAT"));
    let denied = world.request(&physician, &access(1, Some("r1"), "HPAYMT"));
    let storage = |world: &mut World, caller, record: &str, decision: Option<&AuditEntry>| {
        let decision = decision.map(|entry| entry.tx_id.clone());
        let view = world.evaluate(caller, &GetRecord { record: record.into(), decision }).expect("a record");
        view.storage.ok_or_else(|| view.withheld.expect("why"))
    };
    assert_eq!(storage(&mut world, &physician, "r1", Some(&permitted)).as_deref(), Ok("s3://mercy/r1"));
    for (caller, record, decision, why) in [
        (&physician, "r1", None, "needs a decision"),
        (&physician, "r1", Some(&denied), "denies"),
        (&physician, "r2", Some(&permitted), "not about this record"),
        (&other, "r1", Some(&permitted), "somebody else's"),
    ] {
        let withheld = storage(&mut world, caller, record, decision).expect_err(why);
        assert!(withheld.contains(why), "{withheld}");
    }
    let patient = world.patient(1);
    assert!(storage(&mut world, &patient, "r1", None).is_ok());
    world.revoke(1, "c1", 2);
    assert!(storage(&mut world, &physician, "r1", Some(&permitted)).expect_err("revoked").contains("does not hold"));
}
