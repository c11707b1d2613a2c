//! Tests of changing policies.

use serde_json::json;

use super::world::*;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::Members;
use ehrnet_messages::*;

/// C10: what the contract keeps is what ConfigMap and status have, to the byte.
#[test]
fn a_policy_is_versioned_under_the_digest_that_everybody_else_computes() {
    let mut world = World::new();
    let spec = json!({"basePolicy": "basic-normal"});
    let none = world.evaluate(&world.admin(MERCY), &GetPolicy { name: "base".into(), version: None }).expect("none");
    assert_eq!((none.version, none.digest.as_str()), (0, ""));
    let first = world.policy("base", 0, spec.clone()).expect("put");
    let expected = ehrnet_consent::validate(&serde_json::from_value(spec).expect("a spec")).expect("a policy");
    assert_eq!((first.version, first.digest.clone()), (1, expected.digest()));
    assert_eq!(first.author, MERCY);
    let second = world.policy("base", 1, json!({"basePolicy": "deny"})).expect("put");
    assert_eq!(second.version, 2);
    let anybody = world.person(ELSEWHERE, "x", &[]);
    let mut get = |version| world.evaluate(&anybody, &GetPolicy { name: "base".into(), version });
    assert_eq!(get(None).expect("newest"), second);
    assert_eq!(get(Some(1)).expect("version 1"), first);
    assert_eq!(get(Some(3)).expect_err("no version 3").status, 404);
}

#[test]
fn only_an_administrator_changes_a_policy_and_only_the_one_they_have_seen() {
    let mut world = World::new();
    let policy = canonical(json!({}));
    let put = |replaces| PutPolicy { name: "base".into(), policy: policy.clone(), replaces };
    let posing = world.staff(MERCY, "admin", "admin");
    assert_eq!(world.submit(&posing, &put(0), None).expect_err("a role is no OU").status, 403);
    let admin = world.admin(ELSEWHERE);
    world.approve(MERCY, "base", 0, &digest(json!({})));
    world.submit(&admin, &put(0), None).expect("put");
    let stale = world.submit(&admin, &put(0), None).expect_err("stale");
    assert!(stale.status == 409 && stale.message.contains("is at version 1"), "{stale}");
    let withdraw = WithdrawPolicy { name: "base".into(), replaces: 1 };
    assert_eq!(world.submit(&posing, &withdraw, None).expect_err("no admin").status, 403);
    let approve = ApprovePolicy { name: "base".into(), digest: String::new(), replaces: 1 };
    assert_eq!(world.submit(&posing, &approve, None).expect_err("no admin").status, 403);
    let stale = ApprovePolicy { replaces: 0, ..approve };
    assert_eq!(world.submit(&admin, &stale, None).expect_err("stale").status, 409);
}

#[test]
fn agreeing_again_writes_nothing() {
    let mut world = World::new();
    let first = world.approve(MERCY, "base", 0, &digest(json!({})));
    let again = world.approve(MERCY, "base", 0, &digest(json!({})));
    assert_eq!(again, PolicyApproval { already: true, ..first.clone() }, "the first one stands");
    let other = world.approve(MERCY, "base", 0, &digest(json!({"basePolicy": "all-normal"})));
    assert!(!other.already && other.tx_id != first.tx_id, "another one takes its place");
}

/// A weaker policy needs the same majority of hospitals as any other, and each hospital's own word for this very change.
#[test]
fn no_hospital_changes_or_withdraws_a_policy_alone() {
    let mut world = World::new();
    let first = world.policy("base", 0, json!({"basePolicy": "deny"})).expect("agreed");
    assert_eq!(first.agreed, [ELSEWHERE, MERCY]);
    let weak = json!({"basePolicy": "all-normal"});
    let put = PutPolicy { name: "base".into(), policy: canonical(weak.clone()), replaces: 1 };
    let withdraw = WithdrawPolicy { name: "base".into(), replaces: 1 };
    let mercy = world.admin(MERCY);
    let refused = |world: &mut World, why: &str| {
        let errors =
            [world.submit(&mercy, &put, None).expect_err(why), world.submit(&mercy, &withdraw, None).expect_err(why)];
        for error in errors {
            assert!(error.status == 409 && Code::find(&error.message) == Some(Code::NotAgreed), "{why}: {error}");
        }
    };
    refused(&mut world, "the agreement to the version before counts no more");
    world.approve(ELSEWHERE, "base", 1, &digest(json!({"basePolicy": "basic-normal"})));
    refused(&mut world, "another policy was agreed to");
    world.approve(ELSEWHERE, "other", 0, &digest(weak.clone()));
    refused(&mut world, "it was agreed to under another name");
    world.approve("StrangerMSP", "base", 1, &digest(weak.clone()));
    refused(&mut world, "a stranger does not count");
    world.approve(ELSEWHERE, "base", 1, &digest(weak));
    world.submit(&world.admin(MERCY), &put, None).expect("agreed");
}

#[test]
fn a_contract_that_was_not_told_the_members_takes_no_policy() {
    let mut world = World::new();
    world.members = Members::default();
    let error = world.policy("base", 0, json!({})).expect_err("nobody could agree");
    assert!(error.message.contains("EHRNET_MEMBERS"), "{error}");
}

#[test]
fn two_policies_cannot_claim_one_scope() {
    let mut world = World::new();
    world.policy("care", 0, json!({"scope": "patient-privacy"})).expect("put");
    let error = world.policy("other", 0, json!({"scope": "patient-privacy"})).expect_err("claimed");
    assert_eq!(error.status, 409);
    assert_eq!(Code::find(&error.message), Some(Code::ScopeClaimed { policy: "care".into() }));
    assert!(error.message.contains("scope patient-privacy is claimed by policy care"), "{error}");
    world.policy("other", 0, json!({"scope": "research"})).expect("a free one");
    world.policy("care", 1, json!({})).expect("moves to any scope");
    world.policy("third", 0, json!({"scope": "patient-privacy"})).expect("free now");
    let admin = world.admin(MERCY);
    world.approve(ELSEWHERE, "third", 1, "");
    world.submit(&admin, &WithdrawPolicy { name: "third".into(), replaces: 1 }, None).expect("withdrawn");
    assert_eq!(
        world.submit(&admin, &WithdrawPolicy { name: "third".into(), replaces: 2 }, None).expect_err("twice").status,
        404
    );
    world.policy("fourth", 0, json!({"scope": "patient-privacy"})).expect("free again");
    world.policy("third", 2, json!({"scope": "patient-privacy"})).expect_err("claimed");
}

#[test]
fn a_policy_in_another_spelling_or_that_is_wrong_is_refused() {
    let mut world = World::new();
    let admin = world.admin(MERCY);
    let mut put = |policy| world.submit(&admin, &PutPolicy { name: "base".into(), policy, replaces: 0 }, None);
    for (policy, message) in [
        (json!({"basePolicy": "deny"}), "not in canonical form"),
        (json!({"basePolicy": "maybe"}), "basePolicy"),
        (json!({"category": [{"code": "nonsense"}]}), "spec.category[0]"),
        (json!({"breakGlass": {"purposes": ["TREAT", "nonsense"]}}), "spec.breakGlass.purposes[1]"),
        (json!(7), "not valid"),
    ] {
        let error = put(policy).expect_err(message);
        assert!(error.status == 400 && error.message.contains(message), "{error}");
    }
    let mut extended = canonical(json!({}));
    extended["basePolicies"] = json!("all-normal");
    assert!(put(extended).is_err(), "an unknown field is not dropped in silence");
}

/// The ledger's policy decides from the block on that carries it; an older decision does not hold any more.
#[test]
fn a_tightened_policy_counts_for_the_next_request() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let first = world.policy("base", 0, json!({"basePolicy": "basic-normal"})).expect("put");
    let permitted = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!((permitted.decision, permitted.policy_digest.as_ref()), (Some(Effect::Permit), Some(&first.digest)));
    let second = world.policy("base", 1, json!({"basePolicy": "deny"})).expect("put");
    let denied = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!((denied.decision, denied.policy_digest), (Some(Effect::Deny), Some(second.digest)));
    assert!(!world.decision(&physician, &permitted.tx_id).current);
}

/// A policy that an earlier contract took and this one does not understand decides nothing, and can be replaced.
#[test]
fn a_policy_that_cannot_be_read_denies_until_it_is_replaced() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    world.policy("base", 0, json!({"basePolicy": "all-normal"})).expect("put");
    for value in world.state.public.values_mut() {
        *value = String::from_utf8_lossy(value).replace("all-normal", "all-of-old").into_bytes();
    }
    let denied = world.request(&physician, &access(1, None, "TREAT"));
    assert_eq!((denied.decision, denied.reason.as_deref()), (Some(Effect::Deny), Some("error")));
    world.policy("base", 1, json!({"scope": "patient-privacy", "basePolicy": "all-normal"})).expect("replaced");
    assert_eq!(world.request(&physician, &access(1, None, "TREAT")).decision, Some(Effect::Permit));
    world.policy("other", 0, json!({})).expect("the old scope is free");
}
