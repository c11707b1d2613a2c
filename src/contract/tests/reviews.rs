//! Tests of break-glass and its review.

use serde_json::json;

use super::world::*;
use crate::caller::Caller;
use ehrnet_consent::decision::Effect;
use ehrnet_consent::rules::Basis;
use ehrnet_messages::*;

const WHY: &str = "unconscious after a fall";

fn allow() -> serde_json::Value {
    json!({"breakGlass": {"mode": "allow", "group": "Group/er", "maxTTL": "4h", "reviewWithin": "72h"}})
}

fn emergency(world: &World) -> Caller {
    world.person(MERCY, "dr-x", &[(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")])
}

fn broken(world: &mut World, caller: &Caller, justification: Option<&str>) -> AuditEntry {
    let secret = AccessSecret { salt: salt(9), justification: justification.map(str::to_owned) };
    world.submit(caller, &access(1, Some("r1"), "BTG"), Some(&secret)).expect("an answer")
}

fn scene() -> World {
    let mut world = World::new();
    world.register(1, "r1", "V");
    world.consent(1, "c1", 1, fhir(json!({"type": "deny"})));
    world.policy("base", 0, allow()).expect("a policy");
    world
}

#[test]
fn the_glass_needs_an_attribute_or_group_and_a_justification() {
    let mut world = scene();
    let (doctor, other) = (emergency(&world), world.staff(MERCY, "dr-y", role::PHYSICIAN));
    let group =
        world.person(MERCY, "dr-z", &[(attribute::ROLE, role::PHYSICIAN), (attribute::GROUPS, "Group/er,Group/a")]);
    for (caller, justification, reason) in [
        (&doctor, Some(WHY), "break-glass-allowed"),
        (&group, Some(WHY), "break-glass-allowed"),
        (&other, Some(WHY), "break-glass-not-authorized"),
        (&doctor, None, "break-glass-not-justified"),
        (&doctor, Some("  "), "break-glass-not-justified"),
    ] {
        let entry = broken(&mut world, caller, justification);
        assert_eq!(entry.reason.as_deref(), Some(reason));
        let granted = reason == "break-glass-allowed";
        assert_eq!(entry.decision, Some(if granted { Effect::Permit } else { Effect::Deny }));
        assert_eq!(entry.review_by.is_some(), granted);
    }
}

#[test]
fn a_use_is_announced_ends_by_itself_and_is_listed_until_it_is_reviewed() {
    let mut world = scene();
    let doctor = emergency(&world);
    let entry = broken(&mut world, &doctor, Some(WHY));
    assert_eq!(entry.basis, Some(Basis::Breakglass));
    let (name, _) = world.committed.last().and_then(|ran| ran.effects.event.clone()).expect("an event");
    assert_eq!(name, event::GLASS_BROKEN);
    let span = |end: jiff::Timestamp| end.duration_since(entry.at).as_hours();
    assert_eq!((entry.expires_at.map(span), entry.review_by.map(span)), (Some(4), Some(72)));
    assert!(world.decision(&doctor, &entry.tx_id).current);
    world.wait(5);
    assert!(!world.decision(&doctor, &entry.tx_id).current);

    let officer = world.staff(ELSEWHERE, "po", role::PRIVACY_OFFICER);
    let admin = world.admin(MERCY);
    let open = world.evaluate(&admin, &ListReviews::default()).expect("reviews").reviews;
    assert_eq!(open.iter().map(|review| review.status).collect::<Vec<_>>(), [ReviewStatus::Open]);
    world.wait(72);
    let late = world.evaluate(&officer, &ListReviews::default()).expect("reviews").reviews;
    assert_eq!(late.iter().map(|review| review.status).collect::<Vec<_>>(), [ReviewStatus::Overdue]);
    assert_eq!(world.evaluate(&doctor, &ListReviews::default()).expect_err("may not").status, 403);

    let review = BreakGlassReview { tx_id: entry.tx_id.clone(), outcome: ReviewOutcome::Unjustified };
    let notes = ReviewSecret { salt: salt(3), notes: Some("no fall in the file".into()) };
    let reviewed = world.submit(&officer, &review, Some(&notes)).expect("reviewed");
    assert_eq!(reviewed.status, ReviewStatus::Unjustified);
    assert!(world.evaluate(&officer, &ListReviews::default()).expect("reviews").reviews.is_empty());
    assert_eq!(world.submit(&officer, &review, Some(&notes)).expect_err("twice").status, 409);

    let query = QueryAudit { of: AuditSubject::Patient(patient(1)), from: None, until: None, page: Page::default() };
    let entries = world.evaluate(&officer, &query).expect("entries").entries;
    let used = entries.iter().find(|found| found.tx_id == entry.tx_id).expect("the use");
    assert_eq!(used.review.as_ref().map(|review| review.status), Some(ReviewStatus::Unjustified));
    let detail = used.detail.as_ref().expect("detail");
    assert_eq!(detail.justification.as_deref(), Some(WHY));
    assert_eq!(detail.review_notes.as_deref(), Some("no fall in the file"));
    assert_eq!(detail.reviewer.as_ref(), Some(&officer.person));
}

#[test]
fn only_a_privacy_officer_reviews_and_never_their_own_use() {
    let mut world = scene();
    let officer =
        world.person(MERCY, "po", &[(attribute::ROLE, role::PRIVACY_OFFICER), (attribute::BREAK_GLASS, "true")]);
    let entry = broken(&mut world, &officer, Some(WHY));
    let review = BreakGlassReview { tx_id: entry.tx_id, outcome: ReviewOutcome::Justified };
    let notes = ReviewSecret { salt: salt(3), notes: None };
    assert_eq!(world.submit(&officer, &review, Some(&notes)).expect_err("their own").status, 403);
    let doctor = emergency(&world);
    assert_eq!(world.submit(&doctor, &review, Some(&notes)).expect_err("no officer").status, 403);
    let unknown = BreakGlassReview { tx_id: "ab".into(), ..review.clone() };
    let other = world.staff(MERCY, "po-2", role::PRIVACY_OFFICER);
    assert_eq!(world.submit(&other, &unknown, Some(&notes)).expect_err("no such use").status, 404);
    world.submit(&other, &review, Some(&notes)).expect("reviewed");
}

#[test]
fn the_justification_is_on_the_ledger_as_a_salted_hash_only() {
    let mut world = scene();
    let doctor = emergency(&world);
    let entry = broken(&mut world, &doctor, Some(WHY));
    let expected = ehrnet_messages::hash::salted(&[0xa0 ^ 9; 32], WHY.as_bytes());
    assert_eq!(entry.justification_hash, Some(expected));
    let public: String = world.state.public.values().map(|value| String::from_utf8_lossy(value)).collect();
    assert!(!public.contains(WHY));
}
