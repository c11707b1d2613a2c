//! Consents as they are found, decided by the evaluator.

use super::cases::{self, Case};
use crate::{Policy, Request, decide, fhir, json, policy};

/// The answer to a case, and until when it holds.
fn answer(case: &Case) -> (String, Option<jiff::Timestamp>) {
    let refused = || ("refused".to_owned(), None);
    let policy = match &case.policy {
        None => Policy::default(),
        Some(spec) => match policy::read(spec).map_err(|error| vec![error]).and_then(|spec| policy::validate(&spec)) {
            Ok(policy) => policy,
            Err(_) => return refused(),
        },
    };
    let Ok(document) = json::parse(case.text.as_bytes(), "Consent") else { return refused() };
    let Ok(consent) = fhir::read(&document, None, policy.context()) else { return refused() };
    let Ok(request) = Request::parse(&case.request, policy.context()) else { return refused() };
    let decision = decide(&[consent], &policy, &request, case.now);
    let permits = decision.decision == crate::decision::Effect::Permit;
    (if permits { "PERMIT" } else { "DENY" }.to_owned(), decision.expires_at)
}

#[test]
fn each_case_has_one_of_its_right_answers() {
    let cases = cases::all();
    assert!(cases.len() >= 50);
    cases::check(&cases, cases::REFUSED, answer);
}
