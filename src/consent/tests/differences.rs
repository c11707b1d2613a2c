//! What a new version of a policy changes: the search is compared with random requests, and every example with the evaluator.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::generate::{LabelsIn, elements, r4, request};
use super::policy;
use crate::diff::{Change, Difference, Document, Question, Verdict, compare};
use crate::{Consent, Decision, Policy, Request, decide, fhir};

const NOW: &str = "2026-11-23T12:00:00Z";

fn documents(consents: &[Value], policies: [&Policy; 2]) -> Vec<Document> {
    let read = |json: &Value, policy: &Policy| fhir::read(json, None, policy.context()).expect("a consent");
    let document =
        |(i, json)| Document { name: format!("consent {i}"), read: policies.map(|policy| read(json, policy)) };
    consents.iter().enumerate().map(document).collect()
}

fn question<'q>(policies: [&'q Policy; 2], documents: Option<&'q [Document]>) -> Question<'q> {
    let [old, new] = policies;
    Question { old, new, documents, ledger: false, now: NOW.parse().expect("a time"), steps: 5_000 }
}

fn decided(consents: &[Document], side: usize, policy: &Policy, request: &Value, at: &str) -> Decision {
    let consents: Vec<_> = consents.iter().map(|document| document.read[side].clone()).collect();
    let request = Request::parse(request, policy.context()).expect("a request");
    decide(&consents, policy, &request, at.parse().expect("a time"))
}

fn permits(decision: &Decision) -> bool {
    decision.decision == crate::decision::Effect::Permit && decision.residual.is_empty()
}

/// A provision of a consent as a policy writes it.
fn in_policy(mut provision: Value) -> Value {
    let flat = |concepts: &Value| -> Value {
        let codings = |concept: &Value| concept["coding"].as_array().cloned().unwrap_or_else(|| vec![concept.clone()]);
        concepts.as_array().into_iter().flatten().flat_map(codings).collect()
    };
    for name in ["action", "code"] {
        if !provision[name].is_null() {
            provision[name] = flat(&provision[name]);
        }
    }
    for actor in provision["actor"].as_array_mut().into_iter().flatten() {
        let role = actor["role"]["coding"][0].clone();
        *actor = json!({"reference": actor["reference"]["reference"]});
        if !role.is_null() {
            actor["role"] = role;
        }
    }
    for data in provision["data"].as_array_mut().into_iter().flatten() {
        data["reference"] = data["reference"]["reference"].clone();
    }
    for child in provision["provision"].as_array_mut().into_iter().flatten() {
        *child = in_policy(child.take());
    }
    provision.as_object_mut().expect("a provision").retain(|_, value| !value.is_null());
    provision
}

fn overriding() -> impl Strategy<Value = Value> {
    let one = (select(&["permit", "deny"][..]), elements(LabelsIn::Any));
    (one, prop::option::of((select(&["permit", "deny"][..]), elements(LabelsIn::Any)))).prop_map(|(own, nested)| {
        let typed = |(effect, elements): (&str, serde_json::Map<String, Value>)| {
            let mut provision = Value::from(elements);
            provision["type"] = json!(effect);
            provision
        };
        let mut provision = typed(own);
        if let Some(nested) = nested {
            provision["provision"] = json!([typed(nested)]);
        }
        in_policy(provision)
    })
}

fn settings() -> impl Strategy<Value = Value> {
    let base = select(&["deny", "deny", "basic-normal", "all-normal", "break-glass-only"][..]);
    let combining = select(&["deny-overrides", "deny-overrides", "newest-wins"][..]);
    let mode = select(&["allow", "consent-only", "forbid"][..]);
    let group = prop::option::of(Just("Group/g"));
    (base, combining, mode, group, any::<bool>()).prop_map(|(base, combining, mode, group, required)| {
        let mut spec = json!({
            "basePolicy": base, "combining": combining, "breakGlass": {"mode": mode}, "labels": {"requireConfidentiality": required},
            "codeSystems": [{"url": "urn:classes"}, {"url": "urn:codes"}],
        });
        if let Some(group) = group {
            spec["breakGlass"]["group"] = json!(group);
        }
        spec
    })
}

/// Two versions of a policy: the new one has a rule more, a rule less, another rule or other settings.
fn versions() -> impl Strategy<Value = [Value; 2]> {
    let rules = prop::collection::vec(overriding(), 0..4);
    (settings(), settings(), rules, overriding(), 0..8_usize).prop_map(|(old, other, rules, rule, change)| {
        let with = |mut settings: Value, rules: &[Value]| {
            if !rules.is_empty() {
                settings["overriding"] = json!(rules);
            }
            settings
        };
        let mut changed = rules.clone();
        let mut settings = old.clone();
        match change {
            0 | 1 => changed.push(rule),
            2 | 3 => drop(changed.pop()),
            4 => changed.splice(..changed.len().min(1), [rule]).for_each(drop),
            5 => changed.reverse(),
            _ => settings = other,
        }
        [with(old, &rules), with(settings, &changed)]
    })
}

fn example_holds(change: &Change, consents: &[Document], policies: [&Policy; 2], widened: bool) {
    let at = change.at.to_string();
    let [old, new] = [0, 1].map(|side| decided(consents, side, policies[side], &change.request, &at));
    let (before, after) = if widened { (&old, &new) } else { (&new, &old) };
    // What a link would decide stands in the residual rules.
    if old.residual.is_empty() && new.residual.is_empty() {
        assert!(!permits(before) && permits(after), "{change:?}");
    } else {
        assert_ne!(before, after, "{change:?}");
    }
}

/// What random requests find the search finds, unless it says that it was not finished.
fn agree(difference: &Difference, policies: [&Policy; 2], consents: &[Document], requests: &[Value]) {
    let unfinished = |doubt: &&str| doubt.starts_with("the requests are too many");
    assert!(difference.doubts.iter().all(unfinished), "{:?}", difference.doubts);
    let misses = |verdict| verdict == Verdict::None || verdict == Verdict::NotProven && difference.doubts.is_empty();
    for request in requests {
        let [old, new] = [0, 1].map(|side| permits(&decided(consents, side, policies[side], request, NOW)));
        assert!(old || !new || !misses(difference.widened), "widened: {request} {difference:?}");
        assert!(new || !old || !misses(difference.narrowed), "narrowed: {request} {difference:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_random_requests_find_the_search_finds(
        [old, new] in versions(), consents in prop::collection::vec(r4(LabelsIn::Any, 2), 0..3),
        requests in prop::collection::vec(request(), 96), refused in prop::option::weighted(0.2, 0..2_usize),
    ) {
        let (old, new) = (policy(old), policy(new));
        let policies = [&old, &new];
        let mut documents = documents(&consents, policies);
        // One that a policy refuses is of nobody, and denies.
        if let (Some(document), Some(side)) = (documents.first_mut(), refused) {
            document.read[side] = Consent::unreadable("refused".into());
        }
        let difference = compare(&question(policies, Some(&documents)));
        agree(&difference, policies, &documents, &requests);
        difference.newly_permitted.iter().for_each(|change| example_holds(change, &documents, policies, true));
        difference.newly_denied.iter().for_each(|change| example_holds(change, &documents, policies, false));
    }

    /// Without consents the question is about any, as long as both policies read them alike.
    #[test]
    fn what_random_consents_find_the_search_finds_without_any(
        [old, mut new] in versions(), consents in prop::collection::vec(r4(LabelsIn::Any, 2), 0..3),
        requests in prop::collection::vec(request(), 96),
    ) {
        new["labels"] = old["labels"].clone();
        let (old, new) = (policy(old), policy(new));
        let policies = [&old, &new];
        let difference = compare(&question(policies, None));
        agree(&difference, policies, &documents(&consents, policies), &requests);
    }
}
