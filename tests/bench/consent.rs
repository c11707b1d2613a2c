//! How long one decision takes, and how that grows with the consent: `cargo bench --bench consent`.
//!
//! Reading the FHIR JSON is measured apart from deciding: a contract reads a consent once and decides many times.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ehrnet_consent::{Consent, Policy, Request, decide, fhir};
use serde_json::{Value, json};

const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const LABEL: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

/// A consent with `n` provisions: permits and denials for many practitioners, labels, purposes and classes, and every
/// tenth one with an exception of its own.
fn consent(n: usize) -> Value {
    let coding = |system: &str, code: &str| json!([{"system": system, "code": code}]);
    let provision = |i: usize| {
        json!({
            "type": if i.is_multiple_of(3) { "deny" } else { "permit" },
            "actor": [{"reference": {"reference": format!("Practitioner/{}", i / 2)}}],
            "purpose": coding(PURPOSE, ["TREAT", "HRESCH", "HPAYMT"][i % 3]),
            "securityLabel": coding(LABEL, ["N", "R"][i % 2]),
            "class": coding("http://hl7.org/fhir/resource-types", ["Observation", "Condition", "Media"][i % 3]),
        })
    };
    let mut nested: Vec<Value> = Vec::new();
    for i in 1..n {
        match nested.last_mut() {
            Some(last) if i % 10 == 0 => last["provision"] = json!([provision(i)]),
            _ => nested.push(provision(i)),
        }
    }
    let mut root = json!({"type": "permit", "purpose": coding(PURPOSE, "TREAT"), "securityLabel": coding(LABEL, "N")});
    if !nested.is_empty() {
        root["provision"] = nested.into();
    }
    json!({
        "resourceType": "Consent", "status": "active",
        "scope": {"coding": coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")},
        "category": [{"coding": coding("http://loinc.org", "59284-0")}], "patient": {"reference": "Patient/1"}, "dateTime": "2026-01-01",
        "provision": root,
    })
}

/// The median over many runs, each long enough for the clock.
fn median(mut run: impl FnMut()) -> Duration {
    let started = Instant::now();
    run();
    let once = started.elapsed().max(Duration::from_nanos(50));
    let repeat = u32::try_from(Duration::from_millis(2).as_nanos() / once.as_nanos()).unwrap_or(1).max(1);
    let mut times: Vec<Duration> = (0..51)
        .map(|_| {
            let started = Instant::now();
            (0..repeat).for_each(|_| run());
            started.elapsed() / repeat
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn request(json: &Value, policy: &Policy) -> Request {
    Request::parse(json, policy.context()).expect("a request")
}

fn main() {
    let policy = Policy::default();
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    let resource = json!({"id": "Observation/1", "class": "Observation", "securityLabels": ["N"]});
    let full =
        json!({"patient": "Patient/1", "actor": {"id": "Practitioner/5"}, "purpose": "TREAT", "resource": resource});
    let mut open = full.clone();
    open.as_object_mut().expect("an object").remove("resource");
    let mut anyone = open.clone();
    anyone.as_object_mut().expect("an object").remove("actor");
    let (full, open, anyone) = (request(&full, &policy), request(&open, &policy), request(&anyone, &policy));
    println!(
        "| provisions | read | decide, record known | decide, record unknown | decide, record and actor unknown |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for n in [1, 20, 200, 2_000] {
        let json = consent(n);
        let read = || fhir::read(&json, None, policy.context()).expect("a consent");
        let consents: Vec<Consent> = vec![read()];
        let deciding = |request: &Request| {
            median(|| {
                black_box(decide(black_box(&consents), &policy, black_box(request), now));
            })
        };
        let reading = median(|| {
            black_box(read());
        });
        println!(
            "| {n} | {reading:.1?} | {:.1?} | {:.1?} | {:.1?} |",
            deciding(&full),
            deciding(&open),
            deciding(&anyone)
        );
    }
}
