//! `ehrnet consent import` and `export`: FHIR Consents as templates of policies, and back; without a network.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::decide::{dialect, in_file, read_as, read_spec};
use super::files::read_document;
use super::{BadInput, CommandError};
use ehrnet_consent::vocabulary::{FhirVersion, Period, PolicySpec};
use ehrnet_consent::{self as consent, export, fhir};

/// Arguments of `ehrnet consent import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// FHIR Consent resource, R4 or R5, in JSON.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the ConsentPolicy.
    #[arg(long, value_parser = name)]
    name: String,
    /// ConsentPolicy manifest under which the consent is read. The new policy is this one with the consent as its template, with the
    /// categories by which it took the consent, and without base policy, channel, contract and retention.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Arguments of `ehrnet consent export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// ConsentPolicy manifest, in YAML or JSON.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who takes it, as a FHIR reference.
    #[arg(long, value_name = "Patient/ID", value_parser = patient)]
    patient: String,
    /// Release of FHIR to write.
    #[arg(long, value_name = "R4|R5", value_parser = dialect, default_value = "R4")]
    dialect: FhirVersion,
}

/// A name that Kubernetes takes (RFC 1123 subdomain).
fn name(text: &str) -> Result<String, &'static str> {
    let within = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|b| within(b) || b == b'-')
            && label.bytes().next().is_some_and(within)
            && !label.ends_with('-')
    };
    let fits = text.len() <= 253 && text.split('.').all(label);
    fits.then(|| text.to_owned())
        .ok_or("must be a name of Kubernetes: a-z, 0-9, - and ., at most 253 characters, such as epd-full")
}

fn patient(text: &str) -> Result<String, &'static str> {
    let named = export::names_a_patient(text);
    named.then(|| text.to_owned()).ok_or("must be of a patient: write Patient/id")
}

/// Prints the policy.
pub fn import(args: &ImportArgs) -> Result<(), CommandError> {
    let json = read_document(&args.file, "Consent")?;
    let wrong = |errors| BadInput(in_file(&args.file, errors));
    let under = args.policy.as_deref().map(read_spec).transpose()?.unwrap_or_default();
    let policy = consent::validate(&under).map_err(|errors| {
        let path = args.policy.as_deref().unwrap_or(&args.file);
        BadInput(in_file(path, errors))
    })?;
    let read = fhir::read(&json, None, policy.context());
    let read = read.map_err(|errors| wrong(read_as(&json, errors)))?;
    let period: Option<Period> =
        json.get("period").cloned().map(serde_json::from_value).transpose().map_err(bad_input)?;
    let spec = export::policy(&read, &under, &policy, period).map_err(wrong)?;
    let manifest = json!({
        "apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": args.name},
        "spec": stated(&spec)?,
    });
    print(&serde_yaml::to_string(&manifest).map_err(bad_input)?)
}

/// What the consent says; the rest keeps its defaults, which a manifest need not repeat.
fn stated(spec: &PolicySpec) -> Result<serde_json::Value, CommandError> {
    let (all, defaults) = (json(spec)?, json(&PolicySpec::default())?);
    let members = all.as_object().into_iter().flatten();
    Ok(members
        .filter(|(name, value)| defaults[name.as_str()] != **value)
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect())
}

fn json(spec: &PolicySpec) -> Result<serde_json::Value, CommandError> {
    serde_json::to_value(spec).map_err(bad_input)
}

/// Prints the consent.
pub fn export(args: &ExportArgs) -> Result<(), CommandError> {
    let spec = read_spec(&args.file)?;
    consent::validate(&spec).map_err(|errors| BadInput(in_file(&args.file, errors)))?;
    let consent = export::consent(&spec, &args.patient, args.dialect);
    let consent = consent.map_err(|error| BadInput(in_file(&args.file, [error])))?;
    print(&format!("{}\n", serde_json::to_string_pretty(&consent).map_err(bad_input)?))
}

fn bad_input(error: impl Display) -> CommandError {
    BadInput::one(error).into()
}

fn print(text: &str) -> Result<(), CommandError> {
    Ok(write!(std::io::stdout(), "{text}")?)
}
