//! Consents as they are found, with the answers that are right (`tests/vectors/consents/found.json`): each case stands for a
//! kind. The evaluator, the command line and the contract are asked about the same cases, each in tests of its own.

use jiff::Timestamp;
use serde_json::Value;

const FOUND: &str = include_str!("../../../tests/vectors/consents/found.json");
/// What `hl7:` stands for in the cases.
const HL7: &str = "http://terminology.hl7.org/CodeSystem/";
/// When a case is asked that names no time.
const NOON: &str = "2026-06-01T12:00:00Z";

/// A case: what is put, what is asked, and what is right.
pub struct Case {
    pub name: String,
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
        name: case["name"].as_str().expect("a name").to_owned(),
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

/// Every case has one of its right answers (`PERMIT`, `DENY`, `refused`) that holds no longer than it may. Where refusing is as
/// right as denying, `refused` names the cases that are.
pub fn check(cases: &[Case], refused: &[&str], ask: impl Fn(&Case) -> (String, Option<Timestamp>)) {
    let mut wrong = Vec::new();
    for case in cases {
        let (answer, expires) = ask(case);
        let right: Vec<&str> =
            case.written["answers"].as_array().expect("answers").iter().filter_map(Value::as_str).collect();
        let settled = right.len() == 1 || (answer == "refused") == refused.contains(&case.name.as_str());
        let until = case.written["until"].as_str().map(|until| until.parse::<Timestamp>().expect("a time"));
        let held = until.is_some_and(|until| expires.is_none_or(|expires| expires > until));
        if !settled || held || !right.contains(&answer.as_str()) {
            wrong.push(format!("{} ({}): {answer} until {expires:?}", case.name, case.written["rule"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Cases that are refused where a denial would be right as well.
pub const REFUSED: &[&str] = &[
    "a denied reader, named by a search",
    "a denied reader, named by a UUID of a bundle that is not there",
    "a denied reader of a misspelled type",
    "an exception that says nothing but an extension",
    "a record whose id has no type, under a denial of that record",
];
