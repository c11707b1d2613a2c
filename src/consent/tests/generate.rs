//! Random consents and requests, as the JSON that users write. The comparison with Cedar (`tests/consent_cedar`) uses
//! them as well.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::vocabulary::code_systems::{
    ACT_CODE, ACT_REASON, CONFIDENTIALITY, CONFIDENTIALITY_CODES, CONSENT_ACTION, PARTICIPATION_TYPE,
};

/// An active consent of `Patient/ex-patient` with these members besides.
pub fn consent(members: Value) -> Value {
    let mut consent = json!({
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": codings("http://terminology.hl7.org/CodeSystem/consentscope", &["patient-privacy"])},
        "category": [{"coding": codings("http://loinc.org", &["59284-0"])}],
        "patient": {"reference": "Patient/ex-patient"},
        "dateTime": "2022-06-13",
    });
    for (name, value) in members.as_object().expect("members") {
        consent[name] = value.clone();
    }
    consent
}

/// Codes of one system.
pub fn codings(system: &str, codes: &[&str]) -> Value {
    codes.iter().map(|code| json!({"system": system, "code": code})).collect()
}

/// Whether security labels stand in every provision, in none, or anywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LabelsIn {
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

fn recipient() -> impl Strategy<Value = Value> {
    select(&["Practitioner/a", "Practitioner/b", "Group/g"][..])
        .prop_map(|reference| json!({"reference": {"reference": reference}}))
}

/// Whose data it is.
fn author() -> impl Strategy<Value = Value> {
    (select(&["CST", "AUT"][..]), select(&["Practitioner/a", "Practitioner/b"][..])).prop_map(|(role, reference)| {
        let role = json!({"coding": codings(PARTICIPATION_TYPE, &[role])});
        json!({"role": role, "reference": {"reference": reference}})
    })
}

/// The elements of a provision.
pub fn elements(labels: LabelsIn) -> impl Strategy<Value = Map<String, Value>> {
    let actor = prop_oneof![3 => recipient().prop_map(|one| json!([one])), 1 => author().prop_map(|one| json!([one])),
        1 => (recipient(), author()).prop_map(|(one, other)| json!([one, other]))];
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

/// What makes the permits of a consent count for nothing, sometimes.
fn kind() -> impl Strategy<Value = Value> {
    let elsewhere = json!({
        "scope": {"coding": codings("http://terminology.hl7.org/CodeSystem/consentscope", &["treatment"])},
        "category": [{"text": "operation"}],
    });
    prop_oneof![
        8 => Just(json!({})),
        1 => Just(json!({"verification": [{"verified": false}]})),
        1 => Just(elsewhere),
    ]
}

/// An R4 consent with provisions down to `depth`.
pub fn r4(labels: LabelsIn, depth: u32) -> impl Strategy<Value = Value> {
    let date = select(&["2022-06-13", "2023-01-01", "2024", "2024-05"][..]);
    (provision(labels, depth), date, kind()).prop_map(|(provision, date, mut members)| {
        members["provision"] = provision;
        members["dateTime"] = json!(date);
        consent(members)
    })
}

/// The consent in the shape of R5, where the base is a decision and each level is the opposite of the one above.
pub fn r5_of(consent: &Value) -> Value {
    fn of_r5(mut provision: Value) -> Value {
        let members = provision.as_object_mut().expect("a provision");
        members.remove("type");
        if let Some(class) = members.remove("class") {
            members.insert("resourceType".into(), class);
        }
        if let Some(Value::Array(nested)) = members.remove("provision") {
            members.insert("provision".into(), nested.into_iter().map(of_r5).collect());
        }
        provision
    }
    let mut consent = consent.clone();
    let members = consent.as_object_mut().expect("a consent");
    members.remove("scope");
    for (r4, r5) in [("patient", "subject"), ("dateTime", "date")] {
        let value = members.remove(r4).expect("stated");
        members.insert(r5.into(), value);
    }
    let root = members.remove("provision").expect("a provision");
    let base = if root["type"] == "permit" { "deny" } else { "permit" };
    members.insert("decision".into(), json!(base));
    members.insert("provision".into(), json!([of_r5(root)]));
    consent
}

/// A request that says everything.
pub fn request() -> impl Strategy<Value = Value> {
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
