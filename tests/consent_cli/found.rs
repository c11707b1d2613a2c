//! Consents as they are found (`tests/vectors/consents/found.json`), on the command line: what is refused ends with 2 and
//! names an element.

#[path = "../../src/consent/tests/cases.rs"]
mod cases;

use jiff::Timestamp;

use super::*;
use cases::Case;

fn run(case: &Case) -> Output {
    let run = Run::new().file("--consent", &case.text).request(&case.request).option("--now", &case.now.to_string());
    case.policy.iter().fold(run, Run::policy).output()
}

/// The answer to a case, and until when it holds.
fn answer(case: &Case) -> (String, Option<Timestamp>) {
    let output = run(case);
    let said = String::from_utf8_lossy(&output.stderr);
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let answer = match output.status.code() {
        Some(0) => decision["decision"].as_str().unwrap_or("no decision").to_owned(),
        Some(2) if said.contains("Consent") || said.contains("spec.") || said.contains("request.") => {
            "refused".to_owned()
        }
        _ => format!("no element named; {said}"),
    };
    (answer, decision["expiresAt"].as_str().map(|text| text.parse().expect("a time")))
}

#[test]
fn each_case_has_one_of_its_right_answers() {
    let all = cases::all();
    assert!(all.len() >= 50, "{} cases", all.len());
    cases::check(&all, answer);
}
