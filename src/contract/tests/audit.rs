//! Tests of the audit.

use jiff::SignedDuration;
use serde_json::json;

use super::world::*;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::*;

fn of(n: u8) -> QueryAudit {
    QueryAudit { of: AuditSubject::Patient(patient(n)), from: None, until: None, page: Page::default() }
}

fn all(world: &mut World, caller: &crate::caller::Caller, query: &QueryAudit) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    let mut query = query.clone();
    query.page.size = Some(3);
    loop {
        let page = world.evaluate(caller, &query).expect("a page");
        assert!(page.entries.len() <= 3);
        entries.extend(page.entries);
        query.page.bookmark = page.bookmark;
        if query.page.bookmark.is_none() {
            return entries;
        }
    }
}

/// C8, C16: every decision once, in order, with its reason.
#[test]
fn ten_requests_are_ten_entries_over_pages_by_patient_and_by_actor() {
    let mut world = World::governed();
    world.consent(1, "c1", 1, permits("TREAT"));
    world.consent(2, "c1", 1, permits("TREAT"));
    let physician = world.staff(ELSEWHERE, "dr-y", role::PHYSICIAN);
    let nurse = world.staff(ELSEWHERE, "n", role::NURSE);
    let mut made = Vec::new();
    for n in 0..10 {
        let purpose = if n % 3 == 0 { "HPAYMT" } else { "TREAT" };
        made.push(world.request(&physician, &access(1, None, purpose)));
        world.request(&nurse, &access(2, None, purpose));
    }
    let officer = world.staff(MERCY, "po", role::PRIVACY_OFFICER);
    let found = all(&mut world, &officer, &of(1));
    let public = |entry: &AuditEntry| AuditEntry { detail: None, ..entry.clone() };
    assert_eq!(found.iter().map(public).collect::<Vec<_>>(), made);
    assert!(found.iter().all(|entry| entry.detail.as_ref().is_some_and(|detail| detail.actor == physician.person)));
    let denied = found.iter().filter(|entry| entry.decision == Some(Effect::Deny));
    assert_eq!(denied.map(|entry| entry.reason.as_deref()).collect::<Vec<_>>(), [Some("no-consent"); 4]);
    let Person { msp_id, id, .. } = physician.person.clone();
    let by_actor = QueryAudit { of: AuditSubject::Actor { msp_id, id }, ..of(1) };
    assert_eq!(all(&mut world, &officer, &by_actor), found);
}

#[test]
fn the_patient_and_privacy_officers_read_it_and_nobody_else() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    world.request(&physician, &access(1, None, "TREAT"));
    let caller = world.patient(1);
    assert_eq!(world.evaluate(&caller, &of(1)).expect("their own").entries.len(), 1);
    let Person { msp_id, id, .. } = physician.person.clone();
    let by_actor = QueryAudit { of: AuditSubject::Actor { msp_id, id }, ..of(1) };
    let strangers = [world.patient(2), world.admin(MERCY), world.staff(MERCY, "x", role::REGISTRAR), physician];
    for stranger in &strangers {
        assert_eq!(world.evaluate(stranger, &of(1)).expect_err("may not").status, 403);
        assert_eq!(world.evaluate(stranger, &by_actor).expect_err("may not").status, 403);
    }
    assert_eq!(world.evaluate(&caller, &by_actor).expect_err("may not").status, 403);
}

/// A bookmark is a key: one of another patient would show that patient's entries.
#[test]
fn a_bookmark_from_elsewhere_is_refused() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    for n in [1, 1, 2] {
        world.request(&physician, &access(n, None, "TREAT"));
    }
    let (one, two) = (world.patient(1), world.patient(2));
    let page = Page { size: Some(1), bookmark: None };
    let bookmark = world.evaluate(&one, &QueryAudit { page, ..of(1) }).expect("a page").bookmark;
    assert!(bookmark.is_some());
    for bookmark in [bookmark, Some("00".into()), Some("zz".into()), Some(String::new())] {
        let page = Page { size: None, bookmark };
        let error = world.evaluate(&two, &QueryAudit { page, ..of(2) }).expect_err("not theirs");
        assert_eq!(error.status, 400, "{error}");
    }
    for size in [0, 101] {
        let page = Page { size: Some(size), bookmark: None };
        assert_eq!(world.evaluate(&two, &QueryAudit { page, ..of(2) }).expect_err("size").status, 400);
    }
}

/// 45 CFR 164.316(b)(2)(i): six years.
#[test]
fn a_period_selects_and_nothing_is_forgotten_in_six_years() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let first = world.request(&physician, &access(1, None, "TREAT"));
    world.wait((5 * 365 + 364) * 24);
    let last = world.request(&physician, &access(1, None, "TREAT"));
    let caller = world.patient(1);
    let mut ids = |from, until| -> Vec<String> {
        let query = QueryAudit { from, until, ..of(1) };
        all(&mut world, &caller, &query).into_iter().map(|entry| entry.tx_id).collect()
    };
    let (one, other) = (first.tx_id.clone(), last.tx_id.clone());
    assert_eq!(ids(None, None), [one.clone(), other.clone()]);
    assert_eq!(ids(Some(first.at), Some(last.at)), [one]);
    let after = first.at.checked_add(SignedDuration::from_nanos(1)).ok();
    assert_eq!(ids(after, None), [other]);
    let reversed = QueryAudit { from: Some(last.at), until: Some(first.at), ..of(1) };
    assert_eq!(world.evaluate(&caller, &reversed).expect_err("reversed").status, 400);
}

#[test]
fn a_disclosure_stands_in_the_audit_with_its_recipient_in_private() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let purpose = serde_json::from_value(json!({"code": "HPAYMT"})).expect("a code");
    let argument = RecordDisclosure { patient: patient(1), record: None, purpose };
    let recipient = Recipient { name: "Insurer Ltd".into(), address: None, description: Some("bill".into()) };
    let secret = DisclosureSecret { salt: salt(1), recipient: recipient.clone() };
    let entry = world.submit(&physician, &argument, Some(&secret)).expect("recorded");
    assert_eq!((entry.kind, entry.decision), (AuditKind::Disclosure, None));
    let public: String = world.state.public.values().map(|value| String::from_utf8_lossy(value)).collect();
    assert!(!public.contains("Insurer"));
    let caller = world.patient(1);
    let entries = all(&mut world, &caller, &of(1));
    assert_eq!(entries[0].detail.as_ref().expect("detail").recipient.as_ref(), Some(&recipient));
    assert_eq!(world.submit(&caller, &argument, Some(&secret)).expect_err("may not").status, 403);
    let purpose = serde_json::from_value(json!({"code": "GOSSIP"})).expect("a code");
    let error =
        world.submit(&physician, &RecordDisclosure { purpose, ..argument }, Some(&secret)).expect_err("purpose");
    assert!(error.message.contains("GOSSIP"), "{error}");
}
