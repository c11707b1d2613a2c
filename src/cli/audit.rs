//! `ehrnet audit`: who asked for what, why, and what was decided.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::client::{ClientArgs, PatientArgs};
use super::files::shown;
use super::{BadInput, CommandError};
use ehrnet_client::{Bundle, audit, audit_csv, audit_event, audit_table};
use ehrnet_messages::{AuditEntry, AuditSubject, QueryAudit};

/// Arguments of `ehrnet audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List the entries about a patient (as the patient or a privacy officer), or of an actor (as a privacy officer).
    Query(QueryArgs),
    /// Write the entries as FHIR AuditEvents (IHE BALP) or CSV.
    Export(ExportArgs),
}

/// Which entries.
#[derive(Debug, Args)]
struct WhichArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// What one person did, as MSP:ID, for example StMaryMSP:Practitioner/7.
    #[arg(long, value_name = "MSP:ID", value_parser = actor, conflicts_with_all = ["patient", "pseudonym"])]
    actor: Option<AuditSubject>,
    /// From this moment.
    #[arg(long, value_name = "RFC3339")]
    from: Option<Timestamp>,
    /// Up to, without, this moment.
    #[arg(long, value_name = "RFC3339")]
    until: Option<Timestamp>,
    /// At most so many entries, oldest first.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
}

fn actor(text: &str) -> Result<AuditSubject, &'static str> {
    let (msp_id, id) = text.split_once(':').ok_or("must be MSP:ID, for example StMaryMSP:Practitioner/7")?;
    Ok(AuditSubject::Actor { msp_id: msp_id.to_owned(), id: id.to_owned() })
}

#[derive(Debug, Args)]
struct QueryArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Form of the entries.
    #[arg(long, value_enum)]
    format: Format,
    /// Where to; standard output if absent.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A FHIR R4 Bundle of AuditEvents.
    Bundle,
    /// One FHIR R4 AuditEvent a line.
    Ndjson,
    /// RFC 4180, with a heading.
    Csv,
}

/// Runs the subcommand.
pub async fn run(args: &AuditArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        AuditCommand::Query(args) => {
            let (_, entries) = entries(&args.client, &args.which).await?;
            args.client.output.print(&entries, audit_table::lines(&entries))?;
        }
        AuditCommand::Export(args) => export(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(args: &ExportArgs) -> Result<(), CommandError> {
    let (contract, entries) = entries(&args.client, &args.which).await?;
    let bytes = match args.format {
        Format::Bundle => format!("{:#}\n", audit_event::bundle(&entries, &contract)).into_bytes(),
        Format::Ndjson => entries
            .iter()
            .map(|entry| format!("{}\n", audit_event::resource(entry, &contract)))
            .collect::<String>()
            .into(),
        Format::Csv => audit_csv::write(&entries).map_err(std::io::Error::from)?,
    };
    match &args.file {
        None => std::io::stdout().write_all(&bytes)?,
        Some(path) => {
            std::fs::write(path, bytes).map_err(|error| BadInput::one(format_args!("{}: {error}", shown(path))))?
        }
    }
    Ok(())
}

/// The ledger's name and the entries.
async fn entries(args: &ClientArgs, which: &WhichArgs) -> Result<(String, Vec<AuditEntry>), CommandError> {
    let bundle = args.bundle()?;
    let query = which.query(&bundle)?;
    let contract = args.open(bundle)?;
    Ok((contract.name(), audit::query(&contract, query, which.limit).await?))
}

impl WhichArgs {
    fn query(&self, bundle: &Bundle) -> Result<QueryAudit, CommandError> {
        let of = match &self.actor {
            Some(actor) => actor.clone(),
            None => AuditSubject::Patient(self.patient.resolve(bundle)?),
        };
        Ok(QueryAudit { of, from: self.from, until: self.until, page: Default::default() })
    }
}
