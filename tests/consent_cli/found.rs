//! Consents as they are found, on the command line: what is refused ends with 2 and names an element.

#[path = "../../src/consent/tests/cases.rs"]
mod cases;

use super::*;
use cases::Case;

/// The answer to a case, and until when it holds.
fn answer(case: &Case) -> (String, Option<jiff::Timestamp>) {
    let run = Run::new().file("--consent", &case.text).request(&case.request).option("--now", &case.now.to_string());
    let output = case.policy.iter().fold(run, Run::policy).output();
    let said = String::from_utf8_lossy(&output.stderr);
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let answer = match output.status.code() {
        Some(0) => decision["decision"].as_str().unwrap_or("no decision"),
        Some(2) if said.contains("Consent") || said.contains("spec.") || said.contains("request.") => "refused",
        _ => "no element named",
    };
    let expires = decision["expiresAt"].as_str().map(|text| text.parse().expect("a time"));
    (answer.to_owned(), expires)
}

#[test]
fn each_case_has_one_of_its_right_answers() {
    cases::check(&cases::all(), cases::REFUSED, answer);
}
