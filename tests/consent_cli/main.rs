//! `ehrnet consent decide` as users run it: the real binary, files in, JSON out. One test per settled reading of the
//! semantics, and what is refused.

mod check;
mod decisions;
mod diff;
mod formats;
mod found;
mod matching;
mod national;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: &str = "2026-11-23T12:00:00Z";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

/// One run of the command.
struct Run {
    folder: TempDir,
    arguments: Vec<String>,
    files: usize,
}

impl Run {
    fn new() -> Self {
        let arguments = vec!["consent".into(), "decide".into()];
        Self { folder: TempDir::new().expect("a folder"), arguments, files: 0 }
    }

    fn file(mut self, option: &str, text: &str) -> Self {
        self.files += 1;
        let path: PathBuf = self.folder.path().join(format!("{}-{}", self.files, option.trim_start_matches('-')));
        std::fs::write(&path, text).expect("written");
        self.arguments.extend([option.to_owned(), path.display().to_string()]);
        self
    }

    fn consent(self, consent: &Value) -> Self {
        self.file("--consent", &consent.to_string())
    }

    fn policy(self, spec: &Value) -> Self {
        let manifest = json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "p"}, "spec": spec});
        self.file("--policy", &manifest.to_string())
    }

    fn request(self, request: &Value) -> Self {
        self.file("--request", &request.to_string())
    }

    fn option(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    fn output(self) -> Output {
        let at =
            if self.arguments.iter().any(|argument| argument == "--now") { self } else { self.option("--now", NOW) };
        Command::new(env!("CARGO_BIN_EXE_ehrnet")).args(&at.arguments).output().expect("the binary runs")
    }

    /// The decision; the command must succeed.
    fn decision(self) -> Value {
        let output = self.output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What the command says on standard error; it must end with 2 and print nothing else.
    fn refusal(self) -> String {
        let output = self.output();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn codes(system: &str, codes: &[&str]) -> Value {
    codes.iter().map(|code| json!({"system": system, "code": code})).collect()
}

fn labels(list: &[&str]) -> Value {
    codes(CONFIDENTIALITY, list)
}

fn r4(provision: Value) -> Value {
    json!({"resourceType": "Consent", "status": "active", "scope": scope("patient-privacy"), "category": category("59284-0"), "patient": {"reference": "Patient/1"}, "dateTime": "2026-01-01", "provision": provision})
}

fn r5(decision: &str, exceptions: Value) -> Value {
    json!({"resourceType": "Consent", "status": "active", "category": category("59284-0"), "subject": {"reference": "Patient/1"}, "date": "2026-01-01", "decision": decision, "provision": exceptions})
}

fn scope(code: &str) -> Value {
    json!({"coding": codes("http://terminology.hl7.org/CodeSystem/consentscope", &[code])})
}

fn category(document: &str) -> Value {
    json!([{"coding": codes("http://loinc.org", &[document])}])
}

fn permit_all() -> Value {
    r4(json!({"type": "permit"}))
}

fn member(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn decide(consents: &[Value], policy: Option<Value>, request: Value) -> Value {
    let run = consents.iter().fold(Run::new(), Run::consent).request(&request);
    policy.iter().fold(run, Run::policy).decision()
}

fn decision(consents: &[Value], policy: Option<Value>, request: Value) -> String {
    decide(consents, policy, request)["decision"].as_str().expect("a text").to_owned()
}
