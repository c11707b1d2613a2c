//! What a new version of a policy changes, as a hospital asks for it.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::NOW;

/// Compares two policies, with these consents and options.
fn diff(old: &Value, new: &Value, consents: &[Value], options: &[&str]) -> Output {
    let folder = TempDir::new().expect("a folder");
    let write = |name: String, json: Value| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, json.to_string()).expect("written");
        path
    };
    let policy = |name: &str, spec: &Value| {
        let manifest = json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "p"}, "spec": spec});
        write(format!("{name}.json"), manifest)
    };
    let mut files = vec![policy("old", old), policy("new", new)];
    files.extend(consents.iter().enumerate().map(|(i, consent)| write(format!("consent-{i}.json"), consent.clone())));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ehrnet"));
    command.args(["consent", "diff", "--now", NOW]).args(options).args(files);
    command.output().expect("started")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn answer(old: &Value, new: &Value, consents: &[Value]) -> (Value, Option<i32>) {
    let output = diff(old, new, consents, &["--output", "json"]);
    (serde_json::from_slice(&output.stdout).expect("JSON"), output.status.code())
}

fn rules(rules: Value) -> Value {
    json!({"overriding": rules})
}

fn consent(provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "status": "active", "patient": {"reference": "Patient/1"}, "dateTime": "2026-01-01",
        "scope": {"coding": [{"code": "patient-privacy"}]}, "category": [{"coding": [{"code": "59284-0"}]}], "provision": provision,
    })
}

#[test]
fn a_rule_that_permits_more_is_shown_by_a_request() {
    let rule = |classes: Value| rules(json!([{"type": "permit", "purpose": [{"code": "PUBHLTH"}], "class": classes}]));
    let (old, new) = (rule(json!([{"code": "Media"}])), rule(json!([{"code": "Media"}, {"code": "Condition"}])));
    let (difference, code) = answer(&old, &new, &[]);
    assert_eq!((&difference["widened"], &difference["narrowed"], code), (&json!("found"), &json!("none"), Some(0)));
    let change = &difference["newlyPermitted"][0];
    assert_eq!(change["request"]["purpose"]["code"], "PUBHLTH");
    assert_eq!(change["request"]["resource"]["class"][0]["code"], "Condition");
    assert_eq!((&change["old"]["decision"], &change["new"]["decision"]), (&json!("DENY"), &json!("PERMIT")));
    assert_eq!(change["new"]["path"], "spec.overriding[0]");
    let (back, _) = answer(&new, &old, &[]);
    assert_eq!((&back["widened"], &back["narrowed"]), (&json!("none"), &json!("found")));
    assert_eq!(diff(&old, &new, &[], &["--fail-on-widened"]).status.code(), Some(3));
    assert_eq!(diff(&new, &old, &[], &["--fail-on-widened"]).status.code(), Some(0));
}

#[test]
fn that_nothing_is_widened_is_said_where_every_request_was_looked_at() {
    let one = rules(
        json!([{"type": "deny", "securityLabel": [{"code": "R"}]}, {"type": "permit", "purpose": [{"code": "PUBHLTH"}]}]),
    );
    // The same in other words, and a rule that another one covers.
    let other = rules(json!([
        {"type": "permit", "purpose": [{"code": "PUBHLTH"}]}, {"type": "deny", "securityLabel": [{"code": "R"}, {"code": "V"}]},
        {"type": "permit", "purpose": [{"code": "PUBHLTH"}], "class": [{"code": "Media"}]},
    ]));
    let output = diff(&one, &other, &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output).starts_with("nothing is widened, whatever patients consented to: every request was looked at\n")
    );
}

#[test]
fn a_removed_denial_is_shown_with_the_consent_that_then_permits() {
    let old = rules(json!([{"type": "deny", "securityLabel": [{"code": "PSY"}]}]));
    let (difference, _) = answer(&old, &json!({}), &[]);
    let change = &difference["newlyPermitted"][0];
    assert_eq!(change["with"], "a consent that permits everything");
    assert_eq!(change["old"]["path"], "spec.overriding[0]");
    let given = [consent(json!({"type": "permit", "purpose": [{"code": "TREAT"}]}))];
    let (difference, _) = answer(&old, &json!({}), &given);
    assert_eq!(difference["newlyPermitted"].as_array().map(Vec::len), Some(1));
    assert_eq!(difference["newlyPermitted"][0]["request"]["patient"], "Patient/1");
    let denying = [consent(json!({"type": "deny"}))];
    assert_eq!(answer(&old, &json!({}), &denying).0["widened"], "none");
}

#[test]
fn a_setting_that_changes_how_documents_are_read_is_not_proven_without_them() {
    let new = json!({"untypedRoot": "frame"});
    let output = diff(&json!({}), &new, &[], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("spec.untypedRoot: MAY WIDEN, not proven"), "{}", text(&output));
    assert!(!text(&output).contains("nothing is widened"));
    let untyped = consent(json!({"class": [{"code": "Media"}], "provision": [
        {"type": "permit", "purpose": [{"code": "TREAT"}]}, {"type": "deny", "purpose": [{"code": "HMARKT"}]},
    ]}));
    let (difference, _) = answer(&json!({}), &new, &[untyped]);
    assert_eq!(difference["widened"], "found");
    assert_eq!(difference["refused"][0]["by"], "old");
    let typed = consent(json!({"type": "permit", "purpose": [{"code": "TREAT"}]}));
    assert_eq!(answer(&json!({}), &new, &[typed]).0["widened"], "none");
}

#[test]
fn a_search_that_is_not_finished_proves_nothing() {
    let output = diff(&rules(json!([{"type": "permit"}])), &json!({}), &[], &["--steps", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output).contains("nothing is widened"), "{}", text(&output));
}

#[test]
fn a_longer_grant_of_break_glass_is_said() {
    let spec = |ttl: &str| json!({"breakGlass": {"maxTTL": ttl}});
    assert_eq!(answer(&spec("4h"), &spec("8h"), &[]).0["widened"], "not-proven");
    assert_eq!(answer(&spec("8h"), &spec("4h"), &[]).0["widened"], "none");
}

#[test]
fn what_cannot_be_read_is_bad_input() {
    assert_eq!(diff(&json!({"combining": "any"}), &json!({}), &[], &[]).status.code(), Some(2));
    assert_eq!(diff(&json!({}), &json!({}), &[json!({"resourceType": "Bundle"})], &[]).status.code(), Some(2));
}
