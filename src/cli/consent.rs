//! `ehrnet consent`: give, revoke and list consents on the ledger, and decide requests without one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use super::check::{self, CheckArgs};
use super::client::{ClientArgs, PatientArgs, short};
use super::convert::{self, ExportArgs, ImportArgs};
use super::decide::{self, DecideArgs};
use super::diff::{self, DiffArgs};
use super::files::{read_document, shown};
use super::{BadInput, CommandError};
use ehrnet_client::consents::{self, Given};
use ehrnet_client::table;
use ehrnet_messages::{ConsentStatus, ConsentVersion};

/// Arguments of `ehrnet consent`.
#[derive(Debug, Args)]
pub struct ConsentArgs {
    #[command(subcommand)]
    command: ConsentCommand,
}

#[derive(Debug, Subcommand)]
enum ConsentCommand {
    /// Decide a request and print the whole decision as JSON. Ends with 0 for PERMIT and DENY, with 2 for bad input.
    Decide(DecideArgs),
    /// Tell what a policy makes of documents: which are read, which are refused and why, and what each permits, in words.
    Check(CheckArgs),
    /// Tell what a new version of a policy changes: newly permitted, newly denied, or proven that nothing is.
    Diff(DiffArgs),
    /// Give a consent, or a new version of it, as the patient or a delegate.
    Put(PutArgs),
    /// Revoke a consent, as the patient or a delegate. It takes effect in the block that carries it.
    Revoke(RevokeArgs),
    /// List the newest version of each consent of a patient.
    List(ListArgs),
    /// Print a ConsentPolicy whose template is a FHIR Consent, as YAML.
    Import(ImportArgs),
    /// Print the FHIR Consent of a patient who takes the template of a ConsentPolicy as it is, as JSON: to be signed and put.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct PutArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    patient: PatientArgs,
    /// FHIR Consent resource, R4 or R5, in JSON.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Id of the consent on the ledger, which must not tell anything; that of the resource if absent.
    #[arg(long, value_name = "ID")]
    consent: Option<String>,
    /// The signed document; the ledger keeps its hash, privately.
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Who gave the consent, in words or as a reference. Private.
    #[arg(long)]
    performer: Option<String>,
    /// Number of the change; the next one if absent.
    #[arg(long)]
    seq: Option<u64>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    patient: PatientArgs,
    /// Id of the consent on the ledger.
    #[arg(value_name = "ID")]
    consent: String,
    /// Number of the change; the next one if absent.
    #[arg(long)]
    seq: Option<u64>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    patient: PatientArgs,
}

/// Runs the subcommand.
pub async fn run(args: &ConsentArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        ConsentCommand::Decide(args) => decide::run(args)?,
        ConsentCommand::Check(args) => return check::run(args),
        ConsentCommand::Diff(args) => return diff::run(args),
        ConsentCommand::Put(args) => put(args).await?,
        ConsentCommand::Revoke(args) => revoke(args).await?,
        ConsentCommand::List(args) => list(args).await?,
        ConsentCommand::Import(args) => convert::import(args)?,
        ConsentCommand::Export(args) => convert::export(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn put(args: &PutArgs) -> Result<(), CommandError> {
    let bundle = args.client.bundle()?;
    let resource = read_document(&args.file, "Consent")?;
    let consent = args.consent.clone().or_else(|| resource["id"].as_str().map(str::to_owned));
    let given = Given {
        patient: args.patient.resolve(&bundle)?,
        consent: consent.ok_or_else(|| BadInput::one("--consent is needed: the resource has no id"))?,
        resource,
        seq: args.seq,
        source_hash: args.source.as_deref().map(hash).transpose()?,
        performer: args.performer.clone(),
    };
    let version = consents::put(&args.client.open(bundle)?, given).await?;
    args.client.output.print(&version, [changed(&version, "given")])
}

async fn revoke(args: &RevokeArgs) -> Result<(), CommandError> {
    let bundle = args.client.bundle()?;
    let patient = args.patient.resolve(&bundle)?;
    let version = consents::revoke(&args.client.open(bundle)?, patient, args.consent.clone(), args.seq).await?;
    args.client.output.print(&version, [changed(&version, "revoked")])
}

async fn list(args: &ListArgs) -> Result<(), CommandError> {
    let bundle = args.client.bundle()?;
    let patient = args.patient.resolve(&bundle)?;
    let versions = consents::list(&args.client.open(bundle)?, &patient).await?;
    let rows = versions.iter().map(|version| {
        let period = version.period.clone().unwrap_or_default();
        let status = match version.status {
            ConsentStatus::Active => "active",
            ConsentStatus::Inactive => "inactive",
        };
        [
            version.consent.clone(),
            version.seq.to_string(),
            status.to_owned(),
            period.start.unwrap_or_default(),
            period.end.unwrap_or_default(),
            version.at.to_string(),
            version.signer_msp.clone(),
            short(&version.digest),
        ]
    });
    let heading = ["CONSENT", "CHANGE", "STATUS", "FROM", "TO", "AT", "SIGNED AT", "DIGEST"];
    args.client.output.print(&versions, table::lines(heading, rows))
}

fn changed(version: &ConsentVersion, how: &str) -> String {
    format!(
        "consent {} {how} (change {}) for patient {}, digest {}, transaction {}",
        version.consent,
        version.seq,
        short(&version.patient),
        short(&version.digest),
        version.tx_id
    )
}

/// SHA-256 of a file.
fn hash(path: &std::path::Path) -> Result<String, BadInput> {
    let wrong = |error: std::io::Error| BadInput::one(format_args!("{}: {error}", shown(path)));
    let mut digest = Sha256::new();
    std::fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut digest)).map_err(wrong)?;
    Ok(hex::encode(digest.finalize()))
}
