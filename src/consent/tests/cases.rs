//! Consents as they are found, with the answers that are right (`tests/vectors/consents/found.json`): each case stands for a
//! kind. The evaluator, the command line and the contract are asked about the same cases, each in tests of its own.

use jiff::Timestamp;
use serde_json::Value;

const FOUND: &str = include_str!("../../../tests/vectors/consents/found.json");
/// What `hl7:` stands for in the cases.
const HL7: &str = "http://terminology.hl7.org/CodeSystem/";
/// When a case is asked that names no time.
const NOON: &str = "2026-06-01T12:00:00Z";

/// A case: what is put and what is asked.
pub struct Case {
    /// The consent, as text; what is no JSON of one meaning is text only.
    pub text: String,
    pub policy: Option<Value>,
    pub request: Value,
    pub now: Timestamp,
    /// The case as it is written.
    pub written: Value,
}

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

/// All cases.
pub fn all() -> Vec<Case> {
    let text = FOUND.replace("\"hl7:", &format!("\"{HL7}")).replace("\\\"hl7:", &format!("\\\"{HL7}"));
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let cases = all["cases"].as_array().expect("cases").iter().map(|case| Case {
        text: case["text"]
            .as_str()
            .map_or_else(|| changed(&all["consent"], &case["consent"]).to_string(), str::to_owned),
        policy: Some(case["policy"].clone()).filter(|policy| !policy.is_null()),
        request: changed(&all["request"], &case["request"]),
        now: case["now"].as_str().unwrap_or(NOON).parse().expect("a time"),
        written: case.clone(),
    });
    cases.collect()
}

/// Each case has one of its right answers (`PERMIT`, `DENY`, `refused`), and that holds no longer than it may.
pub fn check<'a>(cases: impl IntoIterator<Item = &'a Case>, ask: impl Fn(&Case) -> (String, Option<Timestamp>)) {
    let mut wrong = Vec::new();
    for case in cases {
        let written = &case.written;
        let (answer, expires) = ask(case);
        let right = written["answers"].as_array().expect("answers").iter().any(|right| *right == answer);
        let until = written["until"].as_str().map(|until| until.parse::<Timestamp>().expect("a time"));
        if !right || until.is_some_and(|until| expires.is_none_or(|expires| expires > until)) {
            wrong.push(format!("{} ({}): {answer} until {expires:?}", written["name"], written["rule"]));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
