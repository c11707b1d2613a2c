//! Laws that hold for every consent, tried on random ones.
//!
//! Where all of the record is known, the decision is compared with [`oracle`]: the algorithm in two values, written down
//! as the text says it, without lists of rules. What a decision leaves to compare is applied to records by
//! [`permitted_by`], which knows nothing but the JSON that a user gets.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use super::generate::{LabelsIn, codings, consent, elements, r4, request};
use super::oracle::{normally_permitted, oracle, permitted_by};
use super::{decide, policy};
use crate::vocabulary::FhirVersion;
use crate::vocabulary::code_systems::{ACT_REASON, CONFIDENTIALITY_CODES};
use crate::{Policy, export, fhir};

fn without_record(request: &Value) -> Value {
    let mut request = request.clone();
    request.as_object_mut().expect("an object").remove("resource");
    request
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let base = select(&["deny", "basic-normal", "all-normal", "break-glass-only"][..]);
    let combining = select(&["deny-overrides", "newest-wins"][..]);
    let mode = select(&["allow", "consent-only", "forbid"][..]);
    (base, combining, mode).prop_map(|(base, combining, mode)| {
        policy(json!({"basePolicy": base, "combining": combining, "breakGlass": {"mode": mode}}))
    })
}

fn plain(base: &str) -> Policy {
    policy(json!({"basePolicy": base, "breakGlass": {"mode": "forbid"}}))
}

/// All provisions of a consent, as pointers.
pub fn pointers(node: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    for (i, child) in node["provision"].as_array().into_iter().flatten().enumerate() {
        pointers(child, &format!("{at}/provision/{i}"), found);
    }
}

fn reverse_lists(value: &mut Value) {
    match value {
        Value::Array(entries) => {
            entries.reverse();
            entries.iter_mut().for_each(reverse_lists);
        }
        Value::Object(members) => members.values_mut().for_each(reverse_lists),
        _ => {}
    }
}

/// Whether a provision inherits labels from one of the other type. They keep their polarity, so it then permits from a
/// floor upwards, or denies up to a ceiling: where a consent says that, more confidentiality does permit more.
fn labels_cross(node: &Value, declared_by: &Value) -> bool {
    let declared_by = if node["securityLabel"].is_null() { declared_by } else { &node["type"] };
    let mut children = node["provision"].as_array().into_iter().flatten();
    let crosses = !declared_by.is_null() && *declared_by != node["type"];
    crosses || children.any(|child| labels_cross(child, declared_by))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_global_rejects: 65_536, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn a_known_record_is_decided_as_the_text_says(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), request in request(), base in select(&["deny", "all-normal"][..]),
    ) {
        let result = decide(&consents, &plain(base), &request);
        // Break-glass has laws of its own below.
        prop_assume!(request["purpose"] != "BTG");
        let expected = oracle(&consents, &request).unwrap_or(base == "all-normal" && normally_permitted(&request));
        prop_assert_eq!(result["decision"] == "PERMIT", expected, "{}", result);
        prop_assert_eq!(&result["residual"], &json!([]));
    }

    #[test]
    fn residual_rules_say_the_same_as_the_full_request(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), request in request(), policy in any_policy(),
    ) {
        let open = decide(&consents, &policy, &without_record(&request));
        let full = decide(&consents, &policy, &request);
        prop_assert_ne!(&open["reason"], "error");
        prop_assert_eq!(permitted_by(&open, &request["resource"]), full["decision"] == "PERMIT", "{} {}", open, full);
    }

    #[test]
    fn one_more_denial_never_permits(
        mut consents in prop::collection::vec(r4(LabelsIn::Any, 3), 1..4), denial in elements(LabelsIn::Any), at in any::<Index>(),
        request in request(), base in select(&["deny", "all-normal"][..]),
    ) {
        let before = decide(&consents, &plain(base), &request);
        let mut found = Vec::new();
        pointers(&consents[0]["provision"], "/provision", &mut found);
        let node = consents[0].pointer_mut(at.get(&found[..]).as_str()).expect("a provision");
        let mut denial = Value::from(denial);
        denial["type"] = json!("deny");
        match node.get_mut("provision") {
            Some(children) => children.as_array_mut().expect("a list").push(denial),
            None => node["provision"] = json!([denial]),
        }
        if before["decision"] == "DENY" {
            prop_assert_eq!(&decide(&consents, &plain(base), &request)["decision"], "DENY");
            let open = decide(&consents, &plain(base), &without_record(&request));
            prop_assert!(!permitted_by(&open, &request["resource"]), "{}", open);
        }
    }

    #[test]
    fn without_consents_the_base_policy_decides(request in request()) {
        for (base, permitted) in [("deny", false), ("all-normal", request["purpose"] != "BTG"), ("basic-normal", request["purpose"] == "TREAT")] {
            let result = decide(&[], &plain(base), &request);
            prop_assert_eq!(result["decision"] == "PERMIT", permitted && normally_permitted(&request));
            prop_assert_eq!(&result["basis"], "implicit");
        }
    }

    #[test]
    fn order_has_no_influence(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), request in request(), known in any::<bool>(),
    ) {
        let request = if known { request } else { without_record(&request) };
        let before = decide(&consents, &plain("deny"), &request);
        let mut other = Value::from(consents.clone());
        reverse_lists(&mut other);
        let other = decide(other.as_array().expect("a list"), &plain("deny"), &request);
        prop_assert_eq!(&before["decision"], &other["decision"]);
        let mut swapped = consents;
        swapped.reverse();
        prop_assert_eq!(before, decide(&swapped, &plain("deny"), &request));
    }

    #[test]
    fn outside_every_period_is_as_without_consent(
        mut consents in prop::collection::vec(r4(LabelsIn::Any, 2), 1..3), request in request(), policy in any_policy(),
    ) {
        for consent in &mut consents {
            consent["provision"]["period"] = json!({"end": "2026-11-22"});
        }
        prop_assert_eq!(decide(&consents, &policy, &request), decide(&[], &policy, &request));
    }

    #[test]
    fn a_higher_confidentiality_never_permits(
        consents in prop::collection::vec(prop_oneof![r4(LabelsIn::All, 3), r4(LabelsIn::None, 3), r4(LabelsIn::Any, 1)], 0..3),
        mut request in request(), policy in any_policy(),
    ) {
        prop_assume!(!consents.iter().any(|consent| labels_cross(&consent["provision"], &Value::Null)));
        let mut permitted_lower = true;
        for code in CONFIDENTIALITY_CODES {
            request["resource"]["securityLabels"][0] = json!(code);
            let permitted = decide(&consents, &policy, &request)["decision"] == "PERMIT";
            prop_assert!(permitted_lower || !permitted, "{}", code);
            permitted_lower = permitted;
        }
    }

    #[test]
    fn a_purpose_outside_all_lists_is_permitted_by_no_consent(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 1..3), mut request in request(), policy in any_policy(),
    ) {
        request["purpose"] = json!("MARKETING");
        let listed: Vec<Value> = consents.into_iter().map(|mut consent| {
            let mut found = Vec::new();
            pointers(&consent["provision"], "/provision", &mut found);
            for pointer in found {
                consent.pointer_mut(&pointer).expect("a provision")["purpose"] = codings(ACT_REASON, &["TREAT"]);
            }
            consent
        }).collect();
        let result = decide(&listed, &policy, &request);
        prop_assert!(result["decision"] == "DENY" || result["basis"] == "implicit", "{}", result);
    }

    #[test]
    fn r5_means_the_same_written_as_r4(consent in r4(LabelsIn::Any, 3), base in select(&["permit", "deny"][..]), request in request()) {
        let mut exceptions = consent;
        let mut found = Vec::new();
        pointers(&exceptions["provision"], "/provision", &mut found);
        for pointer in found {
            let provision = exceptions.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("a provision");
            provision.remove("type");
            // An exception without an element of its own is refused.
            if provision.keys().all(|name| name == "provision") {
                provision.insert("purpose".into(), codings(ACT_REASON, &["TREAT"]));
            }
        }
        exceptions["decision"] = json!(base);
        exceptions["provision"] = json!([exceptions["provision"]]);
        let policy = plain("deny");
        let read = fhir::read(&exceptions, None, policy.context()).expect("a consent");
        let mut typed = exceptions.clone();
        typed.as_object_mut().expect("an object").remove("decision");
        typed["provision"] = export::write(&read.provision, FhirVersion::R4).expect("R4")["provision"].clone();
        let (one, other) = (decide(&[exceptions.clone()], &policy, &request), decide(&[typed], &policy, &request));
        prop_assert_eq!((&one["decision"], &one["residual"]), (&other["decision"], &other["residual"]));
        let back = export::write(&read.provision, FhirVersion::R5).expect("R5");
        prop_assert_eq!(&back["decision"], &exceptions["decision"]);
        exceptions["provision"] = back["provision"].clone();
        prop_assert_eq!(&decide(&[exceptions], &policy, &request)["decision"], &one["decision"]);
    }

    #[test]
    fn the_glass_breaks_only_for_who_may_and_never_where_it_is_forbidden(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..3), request in request(), policy in any_policy(),
    ) {
        let result = decide(&consents, &policy, &request);
        if result["basis"] == "breakglass" {
            prop_assert_eq!(&result["decision"], "PERMIT");
            prop_assert_eq!(&request["purpose"], "BTG");
            prop_assert_eq!(&request["actor"]["attributes"]["ehr.breakglass"], "true");
            prop_assert!(!result["expiresAt"].is_null());
            prop_assert_ne!(policy.break_glass.mode, crate::vocabulary::BreakGlassMode::Forbid);
        }
    }
}

/// Found by the property above: beside a plain denial, one that names break-glass was lost where a record was unknown.
#[test]
fn a_denial_that_names_break_glass_is_not_lost_beside_a_plain_one() {
    let exception = json!({"type": "permit", "dataPeriod": {"start": "2022-06", "end": "2022"}});
    let names_it = json!({
        "type": "permit", "purpose": codings(ACT_REASON, &["BTG"]),
        "provision": [{"type": "deny", "provision": [exception]}],
    });
    let consent = consent(json!({"provision": {"type": "permit", "provision": [{"type": "deny"}, names_it]}}));
    let allow = policy(json!({"breakGlass": {"mode": "allow"}}));
    let request = json!({
        "actor": {"attributes": {"ehr.breakglass": "true"}}, "purpose": "BTG", "breakGlass": {"justification": "unconscious"},
        "resource": {"authoredOn": "2021-07-01"},
    });
    let open = decide(std::slice::from_ref(&consent), &allow, &without_record(&request));
    assert!(!permitted_by(&open, &request["resource"]), "{open}");
    assert_eq!(decide(&[consent], &allow, &request)["decision"], "DENY");
}

fn asks_for_break_glass(breaks: &str, written: &str) -> Value {
    json!({
        "actor": {"attributes": {"ehr.breakglass": breaks}}, "purpose": "BTG",
        "breakGlass": {"justification": "unconscious"}, "resource": {"authoredOn": written},
    })
}

/// Found by the properties above, on a root that permits break-glass for some data only.
#[test]
fn a_root_that_permits_break_glass_denies_other_data_as_a_consent() {
    let names_it = |mut root: Value| {
        root["type"] = json!("permit");
        root["purpose"] = codings(ACT_REASON, &["BTG"]);
        consent(json!({"provision": root}))
    };
    let (some_data, everything) = (names_it(json!({"dataPeriod": {"end": "2022"}})), names_it(json!({})));
    let policy = policy(json!({}));
    let outside = decide(std::slice::from_ref(&some_data), &policy, &asks_for_break_glass("true", "2023-07-01"));
    assert_eq!((&outside["decision"], &outside["basis"]), (&json!("DENY"), &json!("consent")));
    let both = [some_data, everything];
    for (breaks, written, decision) in
        [("true", "2023-07-01", "DENY"), ("true", "2021-07-01", "PERMIT"), ("false", "2021-07-01", "DENY")]
    {
        let request = asks_for_break_glass(breaks, written);
        let open = decide(&both, &policy, &without_record(&request));
        assert_eq!(decide(&both, &policy, &request)["decision"], decision, "{breaks} {written}");
        assert_eq!(permitted_by(&open, &request["resource"]), decision == "PERMIT", "{breaks} {written}");
    }
}

#[test]
fn a_permit_that_names_no_purpose_breaks_no_glass() {
    for mode in ["consent-only", "forbid", "allow"] {
        let policy = policy(json!({"breakGlass": {"mode": mode}}));
        for breaks in ["true", "false"] {
            let request = asks_for_break_glass(breaks, "2021-07-01");
            let mut permits = [consent(json!({"provision": {"type": "permit"}}))];
            let result = decide(&permits, &policy, &request);
            let allowed = mode == "allow" && breaks == "true";
            assert_eq!(result["decision"] == "PERMIT", allowed, "{mode} {breaks} {result}");
            permits[0]["provision"]["purpose"] = codings(ACT_REASON, &["BTG"]);
            let named = decide(&permits, &policy, &request);
            assert_eq!(named["decision"] == "PERMIT", mode != "forbid" && breaks == "true", "{mode} {breaks} {named}");
        }
    }
}

/// Found by the property above: what a consent that may not permit leaves open, the base policy decides.
#[test]
fn a_consent_that_is_not_verified_leaves_what_it_would_permit_to_the_base_policy() {
    let data = json!([{"meaning": "instance", "reference": {"reference": "Observation/1"}}]);
    let unverified = consent(json!({
        "verification": [{"verified": false}], "provision": {"type": "permit", "data": data},
    }));
    let ask = |resource: Value| json!({"actor": {"id": "Practitioner/a"}, "purpose": "TREAT", "resource": resource});
    let policy = policy(json!({"basePolicy": "basic-normal"}));
    let open = decide(std::slice::from_ref(&unverified), &policy, &ask(json!({})));
    for (id, decision) in [("Observation/1", "PERMIT"), ("Observation/2", "DENY")] {
        let record = json!({"id": id, "securityLabels": ["N"]});
        assert_eq!(decide(std::slice::from_ref(&unverified), &policy, &ask(record.clone()))["decision"], decision);
        assert_eq!(permitted_by(&open, &record), decision == "PERMIT", "{open}");
    }
}

#[test]
fn consents_of_which_nothing_is_left_permitted_are_a_denial() {
    let class = |code: &str| json!([{"system": "urn:classes", "code": code}]);
    let permits = consent(json!({"provision": {"type": "permit", "class": class("A")}}));
    let nested = json!([{"type": "deny", "class": class("A"), "provision": [{"type": "permit", "class": class("B")}]}]);
    for (other, decision) in [
        (json!({"type": "deny", "class": class("A")}), "DENY"),
        (json!({"type": "deny", "class": class("B")}), "PERMIT"),
        (json!({"type": "permit", "provision": nested}), "PERMIT"),
    ] {
        let both = [permits.clone(), consent(json!({"provision": other}))];
        assert_eq!(decide(&both, &Policy::default(), &json!({}))["decision"], decision, "{other}");
    }
}

#[test]
fn more_consents_than_a_decision_may_have_are_a_denial_with_reason_error() {
    let many = vec![consent(json!({"provision": {"type": "permit"}})); crate::evaluate::MAX_CONSENTS + 1];
    assert_eq!(decide(&many, &Policy::default(), &json!({}))["reason"], "error");
    assert_eq!(decide(&many[1..], &Policy::default(), &json!({}))["decision"], "PERMIT");
}
