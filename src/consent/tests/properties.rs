//! Laws that hold for every consent, tried on random ones.
//!
//! Where all of the record is known, the decision is compared with [`oracle`]: the algorithm in two values, written down
//! as the text says it, without lists of rules. What a decision leaves to compare is applied to records by
//! [`permitted_by`], which knows nothing but the JSON that a user gets.

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Map, Value, json};

use super::oracle::{oracle, permitted_by};
use super::{codings, consent, decide, policy};
use crate::api::consent_codes::{ACT_CODE, ACT_REASON, CONFIDENTIALITY, CONFIDENTIALITY_CODES, CONSENT_ACTION};
use crate::api::consent_policy::FhirVersion;
use crate::consent::{Policy, export, fhir};

/// Whether security labels stand in every provision, in none, or anywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LabelsIn {
    All,
    None,
    Any,
}

fn sometimes(strategy: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![2 => Just(None), 1 => strategy.prop_map(Some)]
}

fn some_of(system: &'static str, codes: &'static [&'static str]) -> impl Strategy<Value = Value> {
    subsequence(codes, 1..=codes.len().min(2)).prop_map(move |codes| codings(system, &codes))
}

fn label() -> impl Strategy<Value = Value> {
    let confidentiality = select(CONFIDENTIALITY_CODES).prop_map(|code| codings(CONFIDENTIALITY, &[code]));
    let sensitivity = select(&["PSY", "HIV"][..]).prop_map(|code| codings(ACT_CODE, &[code]));
    let both = (confidentiality.clone(), sensitivity.clone()).prop_map(|(one, other)| json!([one[0], other[0]]));
    prop_oneof![3 => confidentiality, 1 => sensitivity, 1 => both]
}

fn data() -> impl Strategy<Value = Value> {
    let one = |meaning: &'static str, reference: &'static str| {
        Just(json!([{"meaning": meaning, "reference": {"reference": reference}}]))
    };
    prop_oneof![one("instance", "Observation/1"), one("related", "Observation/1"), one("authoredby", "Practitioner/a")]
}

fn period() -> impl Strategy<Value = Value> {
    const TEXTS: &[(&str, &str)] =
        &[("2020", "2022"), ("2026-01-01", "2026-12-31"), ("2026-11-23", "2026-11-23"), ("2027", "2030-05")];
    select(TEXTS).prop_map(|(start, end)| json!({"start": start, "end": end}))
}

fn elements(labels: LabelsIn) -> impl Strategy<Value = Map<String, Value>> {
    let actor = select(&["Practitioner/a", "Practitioner/b", "Group/g"][..])
        .prop_map(|reference| json!([{"reference": {"reference": reference}}]));
    let action = select(&["access", "use"][..]).prop_map(|code| json!([{"coding": codings(CONSENT_ACTION, &[code])}]));
    let code = select(&["1", "2"][..]).prop_map(|code| json!([{"coding": codings("urn:codes", &[code])}]));
    let label = match labels {
        LabelsIn::All => label().prop_map(Some).boxed(),
        LabelsIn::None => Just(None).boxed(),
        LabelsIn::Any => sometimes(label()).boxed(),
    };
    let asked = (
        sometimes(some_of(ACT_REASON, &["TREAT", "HRESCH", "BTG"])),
        sometimes(actor),
        sometimes(action),
        sometimes(period()),
    );
    let record = (
        label,
        sometimes(some_of("urn:classes", &["A", "B"])),
        sometimes(code),
        sometimes(select(&["2021", "2022-06"][..]).prop_map(|start| json!({"start": start, "end": "2022"}))),
        sometimes(data()),
    );
    (asked, record).prop_map(|((purpose, actor, action, period), (label, class, code, data_period, data))| {
        let members = [
            ("purpose", purpose),
            ("actor", actor),
            ("action", action),
            ("period", period),
            ("securityLabel", label),
            ("class", class),
            ("code", code),
            ("dataPeriod", data_period),
            ("data", data),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn provision(labels: LabelsIn, depth: u32) -> BoxedStrategy<Value> {
    let node = (select(&["permit", "deny"][..]), elements(labels)).prop_map(|(effect, mut members)| {
        members.insert("type".into(), json!(effect));
        Value::from(members)
    });
    if depth == 0 {
        return node.boxed();
    }
    (node, prop::collection::vec(provision(labels, depth - 1), 0..4))
        .prop_map(|(mut node, children)| {
            if !children.is_empty() {
                node["provision"] = children.into();
            }
            node
        })
        .boxed()
}

fn r4(labels: LabelsIn, depth: u32) -> impl Strategy<Value = Value> {
    let date = select(&["2022-06-13", "2023-01-01", "2024"][..]);
    (provision(labels, depth), date)
        .prop_map(|(provision, date)| consent(json!({"provision": provision, "dateTime": date})))
}

/// A request that says everything.
fn request() -> impl Strategy<Value = Value> {
    let actor = (select(&["Practitioner/a", "Practitioner/b"][..]), any::<bool>(), any::<bool>()).prop_map(
        |(id, group, breaks)| {
            let groups = if group { json!(["Group/g"]) } else { json!([]) };
            json!({"id": id, "groups": groups, "attributes": {"ehr.breakglass": breaks.to_string()}})
        },
    );
    let purpose = select(&["TREAT", "HRESCH", "HPAYMT", "BTG"][..]);
    (actor, purpose, select(&["access", "use"][..]), record()).prop_map(|(actor, purpose, action, resource)| {
        json!({
            "patient": "Patient/ex-patient", "actor": actor, "purpose": purpose, "action": action,
            "breakGlass": {"justification": "unconscious"}, "resource": resource,
        })
    })
}

fn record() -> impl Strategy<Value = Value> {
    (
        (select(CONFIDENTIALITY_CODES), prop::option::of(select(&["PSY", "HIV"][..]))),
        select(&["A", "B"][..]),
        subsequence(&["1", "2"][..], 0..=2),
        select(&["2021-07-01", "2022-07-01", "2023-07-01"][..]),
        select(&["Practitioner/a", "Practitioner/b"][..]),
    )
        .prop_map(|((confidentiality, sensitivity), class, codes, on, author)| {
            let labels: Vec<_> = std::iter::once(confidentiality).chain(sensitivity).collect();
            json!({
                "id": "Observation/1", "class": class, "codes": codes, "securityLabels": labels, "authoredOn": on, "author": author,
            })
        })
}

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
fn pointers(node: &Value, at: &str, found: &mut Vec<String>) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_known_record_is_decided_as_the_text_says(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), request in request(), base in select(&["deny", "all-normal"][..]),
    ) {
        let result = decide(&consents, &plain(base), &request);
        // Break-glass has laws of its own below.
        prop_assume!(request["purpose"] != "BTG");
        let expected = oracle(&consents, &request).unwrap_or(base == "all-normal");
        prop_assert_eq!(result["decision"] == "PERMIT", expected, "{}", result);
        prop_assert_eq!(&result["residual"], &json!([]));
    }

    #[test]
    fn residual_rules_never_permit_more_than_the_full_request(
        consents in prop::collection::vec(r4(LabelsIn::Any, 3), 0..4), request in request(), policy in any_policy(),
    ) {
        let open = decide(&consents, &policy, &without_record(&request));
        prop_assert_ne!(&open["reason"], "error");
        if permitted_by(&open, &request["resource"]) {
            prop_assert_eq!(&decide(&consents, &policy, &request)["decision"], "PERMIT", "{}", open);
        }
    }

    #[test]
    fn residual_rules_of_a_flat_consent_say_the_same_as_the_full_request(
        labels in select(&[LabelsIn::All, LabelsIn::None][..]).prop_flat_map(|labels| r4(labels, 1)),
        request in request(), policy in any_policy(),
    ) {
        let consents = [labels];
        let open = decide(&consents, &policy, &without_record(&request));
        let full = decide(&consents, &policy, &request);
        prop_assert_eq!(permitted_by(&open, &request["resource"]), full["decision"] == "PERMIT", "{} {}", open, full);
    }

    #[test]
    fn one_more_denial_never_permits(
        mut consents in prop::collection::vec(r4(LabelsIn::Any, 3), 1..4), denial in elements(LabelsIn::Any), at in any::<Index>(),
        request in request(), base in select(&["deny", "all-normal"][..]), known in any::<bool>(),
    ) {
        let request = if known { request } else { without_record(&request) };
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
        }
    }

    #[test]
    fn without_consents_the_base_policy_decides(request in request()) {
        for (base, permitted) in [("deny", false), ("all-normal", request["purpose"] != "BTG"), ("basic-normal", request["purpose"] == "TREAT")] {
            let result = decide(&[], &plain(base), &request);
            prop_assert_eq!(result["decision"] == "PERMIT", permitted);
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
        consents in prop::collection::vec(prop_oneof![r4(LabelsIn::All, 3), r4(LabelsIn::None, 3)], 0..3),
        mut request in request(), policy in any_policy(),
    ) {
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
            exceptions.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("a provision").remove("type");
        }
        exceptions["decision"] = json!(base);
        exceptions["provision"] = json!([exceptions["provision"]]);
        let policy = plain("deny");
        let read = fhir::read(&exceptions, None, policy.soil()).expect("a consent");
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
            prop_assert_eq!(&request["purpose"], "BTG");
            prop_assert_eq!(&request["actor"]["attributes"]["ehr.breakglass"], "true");
            prop_assert!(!result["expiresAt"].is_null());
            prop_assert_ne!(policy.break_glass.mode, crate::api::consent_policy::BreakGlassMode::Forbid);
        }
    }
}

#[test]
fn what_takes_too_much_work_is_a_denial_with_reason_error() {
    let many = |element: &str| {
        let one = |i: usize| json!({"type": "permit", element: [{"coding": [{"code": i.to_string()}], "code": i.to_string()}]});
        let nested: Vec<Value> = (0..300).map(one).collect();
        consent(
            json!({"provision": {"type": "permit", "securityLabel": codings(CONFIDENTIALITY, &["N"]), "provision": nested}}),
        )
    };
    let entangled = decide(&[many("class"), many("code")], &Policy::default(), &json!({}));
    assert_eq!((&entangled["decision"], &entangled["reason"]), (&json!("DENY"), &json!("error")));
    assert_eq!(decide(&[many("class")], &Policy::default(), &json!({}))["decision"], "PERMIT");
    let many = vec![consent(json!({"provision": {"type": "permit"}})); crate::consent::evaluate::MAX_CONSENTS + 1];
    assert_eq!(decide(&many, &Policy::default(), &json!({}))["reason"], "error");
    assert_eq!(decide(&many[1..], &Policy::default(), &json!({}))["decision"], "PERMIT");
}
