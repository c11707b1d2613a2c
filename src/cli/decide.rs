//! `ehrnet consent decide`: the evaluator on the command line, without a network.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use kube_core::CustomResourceExt;
use serde_json::Value;

use super::BadInput;
use super::files::{read, read_document, shown};
use ehrnet_api::ConsentPolicy;
use ehrnet_consent::json::Unread;
use ehrnet_consent::vocabulary::{FhirVersion, PolicySpec};
use ehrnet_consent::{self as consent, Decision, FieldError, Policy, Request, json};

/// Arguments of `ehrnet consent decide`.
#[derive(Debug, Args)]
pub struct DecideArgs {
    /// FHIR Consent resources of the patient, in JSON. Without any, the base policy decides.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    consent: Vec<PathBuf>,
    /// ConsentPolicy manifest, in YAML or JSON. Without it: deny what no consent permits.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The request, in JSON: patient, actor, action, purpose, breakGlass, resource. docs/consents.md ("The request") says what each
    /// is and what is unknown without it; `{}` says nothing.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Moment of the decision.
    #[arg(long, value_name = "RFC3339")]
    now: Timestamp,
    /// How the consents nest provisions; what each one's shape shows if not given.
    #[arg(long, value_name = "R4|R5", value_parser = dialect)]
    dialect: Option<FhirVersion>,
}

pub(super) fn dialect(text: &str) -> Result<FhirVersion, &'static str> {
    match text {
        "R4" => Ok(FhirVersion::R4),
        "R5" => Ok(FhirVersion::R5),
        _ => Err("must be R4 or R5"),
    }
}

/// Runs the subcommand.
pub fn run(args: &DecideArgs) -> Result<(), BadInput> {
    let decision = decide(args)?;
    let text = serde_json::to_string_pretty(&decision).map_err(BadInput::one)?;
    writeln!(std::io::stdout(), "{text}").map_err(|error| BadInput::one(format_args!("standard output: {error}")))
}

fn decide(args: &DecideArgs) -> Result<Decision, BadInput> {
    let policy = args.policy.as_deref().map(read_policy).transpose()?.unwrap_or_default();
    let context = policy.context();
    let mut consents = Vec::new();
    let mut wrong = Vec::new();
    for path in &args.consent {
        let document = read_document(path, "Consent")?;
        let read = consent::fhir::read(&document, args.dialect, context);
        match read.and_then(|consent| consent.dated_by(args.now).map(|()| consent).map_err(|error| vec![error])) {
            Ok(consent) => consents.push(consent),
            Err(errors) => wrong.extend(in_file(path, read_as(&document, errors))),
        }
    }
    if !wrong.is_empty() {
        return Err(BadInput(wrong));
    }
    let request = Request::parse(&read_document(&args.request, "request")?, context);
    let request = request.map_err(|error| BadInput(in_file(&args.request, [error])))?;
    Ok(consent::decide(&consents, &policy, &request, args.now))
}

/// The errors, the last one with the dialect that the document was read in.
pub(super) fn read_as(document: &Value, mut errors: Vec<FieldError>) -> Vec<FieldError> {
    if let Some(last) = errors.last_mut().filter(|_| document["resourceType"] == "Consent") {
        let shape = consent::fhir::shape(document);
        last.message = format!("{} (read as {shape:?})", consent::said(&last.message));
    }
    errors
}

pub(super) fn in_file(path: &Path, errors: impl IntoIterator<Item = FieldError>) -> Vec<String> {
    errors.into_iter().map(|error| format!("{}: {error}", shown(path))).collect()
}

pub(super) fn read_policy(path: &Path) -> Result<Policy, BadInput> {
    consent::validate(&read_spec(path)?).map_err(|errors| BadInput(in_file(path, errors)))
}

/// The one ConsentPolicy in a file, which may hold other resources beside it.
pub(super) fn read_spec(path: &Path) -> Result<PolicySpec, BadInput> {
    let wrong = |message: &dyn std::fmt::Display| BadInput::one(format_args!("{}: {message}", shown(path)));
    let bytes = read(path)?;
    let text = json::text(&bytes).map_err(|message| wrong(&message))?;
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| json::strictly(document, "manifest"));
    let documents = documents.collect::<Result<Vec<_>, _>>().map_err(|error| match error {
        Unread::Field(error) => wrong(&error),
        Unread::Format(error) => wrong(&format_args!("is not YAML: {}", consent::said(&error.to_string()))),
    })?;
    let mut policies = documents
        .iter()
        .filter(|document| document["kind"] == "ConsentPolicy" && document["apiVersion"] == "ehrnet.dev/v1alpha1");
    let (Some(policy), None) = (policies.next(), policies.next()) else {
        return Err(wrong(&"kind: needs exactly one ConsentPolicy of apiVersion ehrnet.dev/v1alpha1"));
    };
    let spec = policy.get("spec").ok_or_else(|| wrong(&FieldError::new("spec", "is required")))?;
    if let Some(field) = unknown_field(spec, &schema()?, "spec") {
        return Err(wrong(&FieldError::new(field, "is not a field of ConsentPolicy")));
    }
    consent::policy::read(spec).map_err(|error| wrong(&error))
}

/// The schema of `spec`, as the API server has it.
fn schema() -> Result<Value, BadInput> {
    let crd = serde_json::to_value(ConsentPolicy::crd()).map_err(BadInput::one)?;
    Ok(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
}

/// The first field that the schema does not have; the API server refuses it as well. Below the levels that the schema
/// writes out, "too deep" is the better answer.
fn unknown_field(value: &Value, schema: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match schema["properties"].get(name) {
                Some(schema) => unknown_field(value, schema, &path),
                None if schema.get("properties").is_none() => None,
                None => Some(path),
            }
        }),
        Value::Array(entries) => {
            let mut entries = entries.iter().enumerate();
            entries.find_map(|(i, value)| unknown_field(value, &schema["items"], &format!("{path}[{i}]")))
        }
        _ => None,
    }
}
