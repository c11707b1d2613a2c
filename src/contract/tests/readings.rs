//! With which policy a consent is read: the one in force for what it is about, and what it denied when it was put it denies
//! still.

use serde_json::{Value, json};

use super::world::*;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::*;

const NATION: &str = "urn:oid:1.2.3.4";

/// A policy by which `code` of a nation's system stands for care with these kinds of records.
fn of_modules(scope: Option<&str>, code: &str, classes: &[&str]) -> Value {
    let class: Vec<Value> = classes.iter().map(|class| json!({"code": class})).collect();
    let module = json!({"code": {"system": NATION, "code": code}, "class": class});
    let mut spec = json!({"basePolicy": "all-normal", "codeSystems": [{"url": NATION}], "modules": [module]});
    if let Some(scope) = scope {
        spec["scope"] = json!(scope);
    }
    spec
}

/// Permits everything, or nothing, but for a module.
fn but_for(effect: &str, code: &str) -> Value {
    let base = if effect == "deny" { "permit" } else { "deny" };
    let code = json!([{"coding": [{"system": NATION, "code": code}]}]);
    fhir(json!({"type": base, "provision": [{"type": effect, "code": code}]}))
}

fn ask(world: &mut World, purpose: &str) -> Effect {
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    world.request(&physician, &access(1, Some("o1"), purpose)).decision.expect("a decision")
}

#[test]
fn a_policy_that_drops_a_module_loses_no_denial_of_it() {
    let mut world = World::new();
    world.policy("law", 0, of_modules(None, "care", &["Observation"])).expect("a policy");
    world.register(1, "o1", "N");
    world.consent(1, "c1", 1, but_for("deny", "care"));
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny);
    world.policy("law", 1, json!({"basePolicy": "all-normal"})).expect("a policy");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny, "the module that it denied is still denied");
    world.policy("law", 2, of_modules(None, "care", &["Media"])).expect("a policy");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny, "also where it has come to mean something else");
    world.consent(1, "c1", 2, but_for("deny", "care"));
    assert_eq!(ask(&mut world, "TREAT"), Effect::Permit, "put again it says what it says today");
}

#[test]
fn a_policy_that_widens_a_module_permits_no_more_by_consents_that_were_put_before() {
    let mut world = World::new();
    world.policy("law", 0, of_modules(None, "care", &["Media"])).expect("a policy");
    world.register(1, "o1", "N");
    world.consent(1, "c1", 1, but_for("permit", "care"));
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny);
    world.policy("law", 1, of_modules(None, "care", &["Media", "Observation"])).expect("a policy");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny, "the patient did not agree to that");
    world.consent(1, "c1", 2, but_for("permit", "care"));
    assert_eq!(ask(&mut world, "TREAT"), Effect::Permit);
    world.policy("law", 2, of_modules(None, "care", &["Media"])).expect("a policy");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny, "nor does the policy of then permit what today's does not");
}

#[test]
fn a_policy_that_changes_nothing_of_how_documents_are_read_changes_no_answer() {
    let mut world = World::new();
    let mut spec = of_modules(None, "care", &["Observation"]);
    world.policy("law", 0, spec.clone()).expect("a policy");
    world.register(1, "o1", "N");
    world.consent(1, "c1", 1, but_for("permit", "care"));
    spec["breakGlass"] = json!({"mode": "forbid"});
    world.policy("law", 1, spec).expect("a policy");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Permit);
}

#[test]
fn a_consent_is_read_with_the_policy_of_what_it_is_about_whatever_is_asked_for() {
    let mut world = World::new();
    world.policy("care", 0, of_modules(Some("patient-privacy"), "care", &["Observation"])).expect("a policy");
    world.policy("study", 0, json!({"scope": "research"})).expect("a policy");
    world.register(1, "o1", "N");
    let mut study = permits("HRESCH");
    study["scope"] = json!({"coding": [{"code": "research"}]});
    world.consent(1, "c1", 1, study);
    assert_eq!(ask(&mut world, "HRESCH"), Effect::Permit);
    world.consent(1, "c2", 1, but_for("deny", "care"));
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny);
    assert_eq!(
        ask(&mut world, "HRESCH"),
        Effect::Deny,
        "to the policy of research the code of the module says nothing"
    );
}

#[test]
fn what_may_be_about_research_permits_no_care_and_only_what_is_permits_research() {
    for (coding, care, research) in [
        (json!({"code": "research"}), Effect::Deny, Effect::Permit),
        (json!({"system": "urn:unknown", "code": "research"}), Effect::Deny, Effect::Deny),
        (json!({"code": "Research"}), Effect::Deny, Effect::Deny),
        (json!({"code": "patient-privacy"}), Effect::Permit, Effect::Deny),
    ] {
        let mut world = World::new();
        world.policy("law", 0, json!({})).expect("a policy");
        world.register(1, "o1", "N");
        let mut consent = fhir(json!({"type": "permit", "purpose": [{"code": "TREAT"}, {"code": "HRESCH"}]}));
        consent["scope"] = json!({"coding": [coding.clone(), {"code": "patient-privacy"}]});
        world.consent(1, "c1", 1, consent);
        assert_eq!((ask(&mut world, "TREAT"), ask(&mut world, "HRESCH")), (care, research), "{coding}");
    }
}

#[test]
fn a_version_says_which_policy_it_was_read_with() {
    let mut world = World::new();
    assert_eq!(world.consent(1, "c1", 1, permits("TREAT")).read_with, None);
    world.policy("law", 0, json!({})).expect("a policy");
    let read_with = world.consent(1, "c1", 2, permits("TREAT")).read_with;
    assert_eq!(read_with, Some(PolicyRef { name: "law".into(), version: 1 }));
    // What is no longer there cannot be read, and denies.
    world.policy("law", 1, of_modules(None, "care", &["Media"])).expect("a policy");
    world.register(1, "o1", "N");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Permit);
    let first = crate::keys::policy_version("law", 1);
    world.state.public.remove(&first).expect("there");
    assert_eq!(ask(&mut world, "TREAT"), Effect::Deny);
}
