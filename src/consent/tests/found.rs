//! Consents as they are found, with the answers that are right (`tests/vectors/consents/found.json`): each case stands for a
//! kind. The command line is asked about the same cases in `tests/consent_cli`, the contract in its own tests.

use serde_json::Value;

use crate::{Policy, Request, decide, fhir, json, policy};

const FOUND: &str = include_str!("../../../tests/vectors/consents/found.json");
const NOON: &str = "2026-06-01T12:00:00Z";

/// `standard` with the members of `changes`; one that is null goes.
fn changed(standard: &Value, changes: &Value) -> Value {
    let mut result = standard.clone();
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            result.as_object_mut().expect("an object").remove(name);
        } else {
            result[name] = value.clone();
        }
    }
    result
}

/// The answer to a case, and until when it holds.
fn answer(all: &Value, case: &Value) -> (&'static str, Option<jiff::Timestamp>) {
    let refused = ("refused", None);
    let text = match case["text"].as_str() {
        Some(text) => text.to_owned(),
        None => changed(&all["consent"], &case["consent"]).to_string(),
    };
    let policy = match &case["policy"] {
        Value::Null => Policy::default(),
        spec => match policy::read(spec).map_err(|error| vec![error]).and_then(|spec| policy::validate(&spec)) {
            Ok(policy) => policy,
            Err(_) => return refused,
        },
    };
    let Ok(document) = json::parse(text.as_bytes(), "Consent") else { return refused };
    let Ok(consent) = fhir::read(&document, None, policy.context()) else { return refused };
    let request = changed(&all["request"], &case["request"]);
    let Ok(request) = Request::parse(&request, policy.context()) else { return refused };
    let now = case["now"].as_str().unwrap_or(NOON).parse().expect("a time");
    let decision = decide(&[consent], &policy, &request, now);
    let permits = decision.decision == crate::decision::Effect::Permit;
    (if permits { "PERMIT" } else { "DENY" }, decision.expires_at)
}

#[test]
fn each_case_has_one_of_its_right_answers() {
    let all: Value = serde_json::from_str(
        &FOUND
            .replace("\"hl7:", "\"http://terminology.hl7.org/CodeSystem/")
            .replace("\\\"hl7:", "\\\"http://terminology.hl7.org/CodeSystem/"),
    )
    .expect("JSON");
    let mut wrong = Vec::new();
    let cases = all["cases"].as_array().expect("cases");
    for case in cases {
        let (answer, expires) = answer(&all, case);
        let right = case["answers"].as_array().expect("answers").iter().any(|right| right == answer);
        let until = case["until"].as_str().map(|until| until.parse::<jiff::Timestamp>().expect("a time"));
        if !right || until.is_some_and(|until| expires.is_none_or(|expires| expires > until)) {
            wrong.push(format!("{} ({}): {answer} until {expires:?}", case["name"], case["rule"]));
        }
    }
    assert!(cases.len() >= 50 && wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
