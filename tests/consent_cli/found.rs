//! Consents as they are found (`tests/vectors/consents/found.json`), on the command line: what is refused ends with 2 and
//! names an element.

use super::*;

const FOUND: &str = include_str!("../vectors/consents/found.json");

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

fn run(all: &Value, case: &Value) -> Output {
    let consent = changed(&all["consent"], &case["consent"]).to_string();
    let run = Run::new()
        .file("--consent", case["text"].as_str().unwrap_or(&consent))
        .request(&changed(&all["request"], &case["request"]))
        .option("--now", case["now"].as_str().unwrap_or("2026-06-01T12:00:00Z"));
    if case["policy"].is_null() { run.output() } else { run.policy(&case["policy"]).output() }
}

/// What is wrong with the answer to a case.
fn wrong(all: &Value, case: &Value) -> Option<String> {
    let output = run(all, case);
    let said = String::from_utf8_lossy(&output.stderr);
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let answer = match output.status.code() {
        Some(0) => decision["decision"].as_str().unwrap_or("no decision"),
        Some(2) if said.contains("Consent") || said.contains("spec.") || said.contains("request.") => "refused",
        _ => "no element named",
    };
    let right = case["answers"].as_array().expect("answers").iter().any(|right| right == answer);
    let time = |value: &Value| value.as_str().map(|text| text.parse::<jiff::Timestamp>().expect("a time"));
    let held = time(&case["until"]).is_some_and(|until| time(&decision["expiresAt"]).is_none_or(|ends| ends > until));
    (!right || held).then(|| format!("{} ({}): {answer}; {said}", case["name"], case["rule"]))
}

#[test]
fn each_case_has_one_of_its_right_answers() {
    let systems = "http://terminology.hl7.org/CodeSystem/";
    let text = FOUND.replace("\"hl7:", &format!("\"{systems}")).replace("\\\"hl7:", &format!("\\\"{systems}"));
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let cases = all["cases"].as_array().expect("cases");
    let wrong: Vec<String> = cases.iter().filter_map(|case| wrong(&all, case)).collect();
    assert!(cases.len() >= 50 && wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
