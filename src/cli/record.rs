//! `ehrnet record`: register, verify and erase records. The body stays where it is; the ledger gets a salted hash.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::client::{ClientArgs, PatientArgs, coding, short, word};
use super::files::{read_json, shown};
use super::{BadInput, CommandError, NO};
use ehrnet_client::object::{CHUNK_SIZE, ObjectHashes};
use ehrnet_client::records::{self, Body};
use ehrnet_consent::vocabulary::Coding;
use ehrnet_consent::vocabulary::code_systems::{ACT_CODE, RESOURCE_TYPES};
use ehrnet_messages::{EraseRecord, ErasureReason, RegisterRecord, Verification};

/// Arguments of `ehrnet record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(subcommand)]
    command: RecordCommand,
}

#[derive(Debug, Subcommand)]
enum RecordCommand {
    /// Register a record, or a new version of it.
    Register(Box<RegisterArgs>),
    /// Compare a body with what was registered.
    Verify(VerifyArgs),
    /// Erase a record: purge what is private of it on every peer and leave a tombstone.
    Erase(EraseArgs),
}

/// The content of a record.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct BodyArgs {
    /// The body as JSON, for example a FHIR resource; the order of members makes no difference.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The body as bytes of any kind and size, for example an image series; read in chunks.
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

/// How an object is cut.
#[derive(Debug, Args)]
struct ChunkArgs {
    /// Bytes of a chunk of --object.
    #[arg(long, value_name = "BYTES", default_value_t = CHUNK_SIZE, value_parser = clap::value_parser!(u64).range(1024..))]
    chunk_size: u64,
    /// The list of the chunks' hashes, which stays with the object: written by register, read by verify to name the
    /// chunks that are damaged.
    #[arg(long, value_name = "FILE", requires = "object")]
    manifest: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Id of the record, which must not tell anything: a-z, 0-9 and -.
    #[arg(long, value_name = "ID")]
    record: String,
    #[command(flatten)]
    patient: PatientArgs,
    #[command(flatten)]
    body: BodyArgs,
    #[command(flatten)]
    chunks: ChunkArgs,
    /// Where the body is: a URI that the hospital can resolve. Private.
    #[arg(long, value_name = "URI")]
    storage: String,
    /// Kind of record; a FHIR resource says it itself.
    #[arg(long, value_name = "CODE", value_parser = coding)]
    class: Option<Coding>,
    /// Confidentiality: U, L, M, N, R or V; a FHIR resource may say it itself (meta.security).
    #[arg(long, value_name = "CODE")]
    confidentiality: Option<String>,
    /// Sensitivity, for example PSY. Public: leave it out and raise the confidentiality where it must not show.
    #[arg(long, value_name = "CODE", value_parser = coding)]
    sensitivity: Vec<Coding>,
    /// Code of the content (system|code), for consents that name it; a FHIR resource says it itself. Private.
    #[arg(long, value_name = "SYSTEM|CODE", value_parser = coding)]
    code: Vec<Coding>,
    /// When the content is from: a FHIR date or time.
    #[arg(long, value_name = "DATE")]
    authored_on: Option<String>,
    /// 1 for a new record, one more than the registered version for a change.
    #[arg(long, default_value_t = 1)]
    version: u64,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Id of the record.
    #[arg(long, value_name = "ID")]
    record: String,
    #[command(flatten)]
    body: BodyArgs,
    #[command(flatten)]
    chunks: ChunkArgs,
    /// End with code 3 if the body is not the registered one.
    #[arg(long)]
    fail_on_mismatch: bool,
}

#[derive(Debug, Args)]
struct EraseArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Id of the record.
    #[arg(long, value_name = "ID")]
    record: String,
    /// consent-withdrawn, objection, no-longer-necessary, unlawful or legal-obligation (GDPR Article 17(1)).
    #[arg(long, value_parser = word::<ErasureReason>)]
    reason: ErasureReason,
    /// The patient's request, by a reference that tells nothing.
    #[arg(long, value_name = "REFERENCE")]
    request: String,
}

/// Runs the subcommand.
pub async fn run(args: &RecordArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        RecordCommand::Register(args) => register(args).await,
        RecordCommand::Verify(args) => verify(args).await,
        RecordCommand::Erase(args) => erase(args).await,
    }
}

async fn register(args: &RegisterArgs) -> Result<ExitCode, CommandError> {
    let bundle = args.client.bundle()?;
    let body = args.body.read(args.chunks.chunk_size)?;
    let described = body.described();
    let missing = |what: &str| BadInput::one(format_args!("--{what} is needed: the body does not say it"));
    let in_system = |mut coding: Coding, system: &str| {
        coding.system.get_or_insert_with(|| system.to_owned());
        coding
    };
    let class = args.class.clone().map(|class| in_system(class, RESOURCE_TYPES)).or(described.class);
    let sensitivity = match args.sensitivity.is_empty() {
        true => described.sensitivity,
        false => args.sensitivity.iter().map(|code| in_system(code.clone(), ACT_CODE)).collect(),
    };
    let record = RegisterRecord {
        record: args.record.clone(),
        patient: args.patient.resolve(&bundle)?,
        version: args.version,
        class: class.ok_or_else(|| missing("class"))?,
        confidentiality: args
            .confidentiality
            .clone()
            .or(described.confidentiality)
            .ok_or_else(|| missing("confidentiality"))?,
        sensitivity,
        authored_on: args.authored_on.clone(),
        manifest: None,
    };
    let codes = if args.code.is_empty() { described.codes } else { Some(args.code.clone()) };
    if let (Some(path), Body::Object(object)) = (&args.chunks.manifest, &body) {
        write_manifest(path, object)?;
    }
    let contract = args.client.open(bundle)?;
    let record = records::register(&contract, record, &body, args.storage.clone(), codes).await?;
    let chunks = record.manifest.map(|manifest| format!(" in {} chunks", manifest.chunks)).unwrap_or_default();
    let line = format!(
        "record {} version {} registered{chunks}: {} {}, salted hash {}, transaction {}",
        record.record,
        record.version,
        record.class.code,
        record.confidentiality,
        short(&record.hash),
        record.tx_id
    );
    args.client.output.print(&record, [line])?;
    Ok(ExitCode::SUCCESS)
}

/// What a comparison found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    #[serde(flatten)]
    verification: Verification,
    /// Whether the manifest is the registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_match: Option<bool>,
    /// Chunks, counted from 0, that are not what the manifest says.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged_chunks: Option<Vec<usize>>,
}

impl Compared {
    fn lines(&self, record: &str) -> Vec<String> {
        let version = self.verification.version;
        let mut lines = vec![match (self.verification.matches, self.verification.erased) {
            (true, _) => format!("match: the body is version {version} of record {record}"),
            (false, true) => format!("no match: record {record} was erased"),
            (false, false) => format!("no match: the body is not version {version} of record {record}"),
        }];
        match (self.manifest_match, self.damaged_chunks.as_deref()) {
            (Some(false), _) => {
                lines.push("the manifest is not the registered one: it cannot say which chunk is damaged".into())
            }
            (Some(true), Some(damaged)) if !damaged.is_empty() => {
                let damaged: Vec<String> = damaged.iter().map(ToString::to_string).collect();
                lines.push(format!("damaged chunks, counted from 0: {}", damaged.join(", ")));
            }
            _ => {}
        }
        lines
    }
}

async fn verify(args: &VerifyArgs) -> Result<ExitCode, CommandError> {
    let body = args.body.read(args.chunks.chunk_size)?;
    let manifest = args.chunks.manifest.as_deref().map(read_manifest).transpose()?;
    let contract = args.client.open(args.client.bundle()?)?;
    let mut compared = Compared {
        verification: records::verify(&contract, args.record.clone(), &body).await?,
        manifest_match: None,
        damaged_chunks: None,
    };
    if let (Some(manifest), Body::Object(object)) = (&manifest, &body) {
        let registered = records::verify_manifest(&contract, args.record.clone(), manifest).await?.matches;
        compared.manifest_match = Some(registered);
        compared.damaged_chunks = registered.then(|| object.damaged(manifest));
    }
    args.client.output.print(&compared, compared.lines(&args.record))?;
    let failed = args.fail_on_mismatch && !compared.verification.matches;
    Ok(if failed { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

async fn erase(args: &EraseArgs) -> Result<ExitCode, CommandError> {
    let contract = args.client.open(args.client.bundle()?)?;
    let erase = EraseRecord { record: args.record.clone(), reason: args.reason, request: args.request.clone() };
    let record = contract.call(&erase, None).await?;
    let line = format!(
        "record {} erased in transaction {}: salt, storage and codes are purged from every peer; delete the body and its key where they are",
        record.record, record.tx_id
    );
    args.client.output.print(&record, [line])?;
    Ok(ExitCode::SUCCESS)
}

impl BodyArgs {
    fn read(&self, chunk_size: u64) -> Result<Body, BadInput> {
        if let Some(path) = &self.body {
            return read_json(path).map(Body::Document);
        }
        let Some(path) = &self.object else {
            return Err(BadInput::one("give --body or --object"));
        };
        let object = File::open(path).and_then(|file| ObjectHashes::read(file, chunk_size));
        object.map(Body::Object).map_err(|error| BadInput::one(format_args!("{}: {error}", shown(path))))
    }
}

fn write_manifest(path: &Path, object: &ObjectHashes) -> Result<(), BadInput> {
    let text = Value::from(object.chunks.clone()).to_string();
    std::fs::write(path, text).map_err(|error| BadInput::one(format_args!("{}: {error}", shown(path))))
}

fn read_manifest(path: &Path) -> Result<Vec<String>, BadInput> {
    let wrong = || BadInput::one(format_args!("{}: must be a list of the chunks' hashes", shown(path)));
    serde_json::from_value(read_json(path)?).map_err(|_| wrong())
}
