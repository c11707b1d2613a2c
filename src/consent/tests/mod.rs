//! Tests of the evaluator as a whole: published examples, and laws that hold for every consent.

mod additions;
mod bounds;
mod cases;
mod denials;
mod differences;
mod documents;
mod found;
mod generate;
mod kinds;
mod members;
mod modules;
mod oracle;
mod policies;
mod properties;
mod published;
mod requests;
mod residuals;
mod restrictions;
mod subjects;
mod templates;

use serde_json::Value;

use super::{Policy, Request, fhir, validate};

/// The decision as JSON, at noon of 2026-11-23, UTC.
fn decide(consents: &[Value], policy: &Policy, request: &Value) -> Value {
    let context = policy.context();
    let consents: Vec<_> = consents.iter().map(|json| fhir::read(json, None, context).expect("a consent")).collect();
    let request = Request::parse(request, context).expect("a request");
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    serde_json::to_value(super::decide(&consents, policy, &request, now)).expect("JSON")
}

fn policy(spec: Value) -> Policy {
    validate(&serde_json::from_value(spec).expect("a spec")).expect("a policy")
}
