//! `ehrnet consent check`: what a policy makes of documents, before it goes live; without a network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ehrnet_consent::context::ProvisionContext;
use ehrnet_consent::words::{Sentence, sentences};
use ehrnet_consent::{Consent, FieldError, Policy, fhir, said};
use ehrnet_messages::MAX_TRANSIENT;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::client::OutputArgs;
use super::decide::read_policy;
use super::documents::{Skipped, visit};
use super::{BadInput, CommandError, NO};
use ehrnet_consent::subject::Standing;
use ehrnet_consent::vocabulary::{FhirVersion, ProvisionType};

/// Arguments of `ehrnet consent check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// FHIR Consent resources or Bundles of them, in JSON, or folders with such files (.json), at any depth.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// ConsentPolicy manifest, in YAML or JSON, under which they are read.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Whether they are judged as the ledger takes them (who asks is known by a certificate alone), or as `decide` reads files.
    #[arg(long = "as", value_enum, default_value_t)]
    reader: Reader,
    /// When they are read; now if not given.
    #[arg(long, value_name = "RFC3339", default_value_t = Timestamp::now())]
    now: Timestamp,
    /// End with 3 if a document is refused.
    #[arg(long)]
    fail_on_refused: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Who reads the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub(super) enum Reader {
    /// The contract, as PutConsent takes them.
    #[default]
    Ledger,
    /// `ehrnet consent decide`.
    Files,
}

/// How documents are judged.
struct Judge {
    policy: Policy,
    context: ProvisionContext,
    reader: Reader,
    now: Timestamp,
}

/// Everything that is said.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    documents: Vec<Document>,
    read: usize,
    refused: usize,
    /// Of those that were read, the ones that can permit something.
    permitting: usize,
    /// What was not looked at.
    skipped: Vec<Skipped>,
    /// Why documents are refused, the most frequent cause first.
    causes: Vec<Cause>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// The file, and the entry of a Bundle.
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_as: Option<FhirVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Sentence>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Refusal>,
}

#[derive(Serialize)]
struct Refusal {
    field: String,
    message: String,
}

#[derive(Serialize)]
struct Cause {
    cause: String,
    documents: usize,
}

/// Prints what the policy makes of the documents.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let policy = args.policy.as_deref().map(read_policy).transpose()?.unwrap_or_default();
    let context = match args.reader {
        Reader::Ledger => policy.context().certified(),
        Reader::Files => policy.context().clone(),
    };
    let judge = Judge { context, policy, reader: args.reader, now: args.now };
    let mut documents = Vec::new();
    let skipped = visit(&args.files, &mut |file, document| documents.push(judge.document(file, document)))?;
    if documents.is_empty() {
        let none = args.files.iter().map(|path| said(&format!("{}: there is no Consent", path.display())));
        return Err(BadInput(skipped.iter().map(line).chain(none).collect()).into());
    }
    let report = report(documents, skipped);
    args.output.print(&report, lines(&report))?;
    Ok(if args.fail_on_refused && report.refused > 0 { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

impl Judge {
    fn document(&self, file: String, document: Result<Value, FieldError>) -> Document {
        let document = match document {
            Ok(document) => document,
            Err(error) => return refused(file, None, vec![error]),
        };
        match self.consent(&document) {
            Ok(consent) => {
                let standing = self.standing(&consent);
                let rules = sentences(&consent, standing, self.now);
                let counts_for = Some(counts_for(&consent, standing, self.reader));
                Document { file, read_as: Some(consent.version), counts_for, rules, refused: Vec::new() }
            }
            Err(errors) => {
                let version = (document["resourceType"] == "Consent").then(|| fhir::shape(&document));
                refused(file, version, errors)
            }
        }
    }

    /// What a consent counts for. The ledger knows whose it is; of a file that names nobody by Patient/id no request can tell.
    fn standing(&self, consent: &Consent) -> Standing {
        let unnamed = self.reader == Reader::Files && consent.patient.is_none();
        let at_most = if unnamed { Standing::Withholds } else { Standing::Permits };
        self.policy.standing(consent).min(at_most)
    }

    fn consent(&self, document: &Value) -> Result<Consent, Vec<FieldError>> {
        let consent = fhir::read(document, None, &self.context)?;
        let allowed = match self.reader {
            Reader::Ledger => consent.may_be_put(self.now).and_then(|()| fits_a_call(document)),
            Reader::Files => consent.dated_by(self.now),
        };
        allowed.map(|()| consent).map_err(|error| vec![error])
    }
}

/// Refuses a document that is too large to be put, with what goes with it.
fn fits_a_call(document: &Value) -> Result<(), FieldError> {
    let size = document.to_string().len();
    let most = MAX_TRANSIENT - ROOM_FOR_THE_REST;
    let message = format_args!(
        "is larger than can be put: has {size} bytes, at most {most}; leave out narrative and attachments"
    );
    if size > most { Err(FieldError::new("Consent", message)) } else { Ok(()) }
}

/// Bytes of a call that salt, hash of the source and performer may take.
const ROOM_FOR_THE_REST: usize = 8 * 1024;

fn refused(file: String, read_as: Option<FhirVersion>, errors: Vec<FieldError>) -> Document {
    let refusal = |error: FieldError| Refusal { field: said(&error.field), message: said(&error.message) };
    let refused = errors.into_iter().map(refusal).collect();
    Document { file, read_as, counts_for: None, rules: Vec::new(), refused }
}

fn counts_for(consent: &Consent, standing: Standing, reader: Reader) -> &'static str {
    match standing {
        _ if !consent.active => "nothing: its status is not active",
        Standing::Permits => "what it permits and what it denies",
        Standing::Withholds if !consent.verified => "what it denies only: it is not verified",
        Standing::Withholds if reader == Reader::Files && consent.patient.is_none() => {
            "what it denies only where a request names a patient: it names none by Patient/id"
        }
        Standing::Withholds => {
            "what it denies only: scope or category are not those of a consent to the disclosure of records"
        }
        Standing::Elsewhere => "what it denies only: it is about something else than the policy takes",
    }
}

fn report(documents: Vec<Document>, skipped: Vec<Skipped>) -> Report {
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for refusal in documents.iter().filter_map(|document| document.refused.first()) {
        *causes.entry(cause(refusal)).or_default() += 1;
    }
    let mut causes: Vec<Cause> = causes.into_iter().map(|(cause, documents)| Cause { cause, documents }).collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.documents));
    let refused = documents.iter().filter(|document| !document.refused.is_empty()).count();
    let permits = |rule: &Sentence| rule.counts() && rule.effect == ProvisionType::Permit;
    let permitting = documents.iter().filter(|document| document.rules.iter().any(permits)).count();
    Report { read: documents.len() - refused, refused, permitting, skipped, causes, documents }
}

/// The refusal without what is different in each document: the element without its place, and no text of the document.
fn cause(refusal: &Refusal) -> String {
    let element = refusal.field.rsplit('.').next().unwrap_or_default();
    let element = element.split('[').next().unwrap_or_default();
    let message = refusal.message.split(':').next().unwrap_or_default();
    let words: Vec<&str> = message.split('"').step_by(2).map(str::trim).collect();
    format!("{element} {}", words.join(" … "))
}

fn line(skipped: &Skipped) -> String {
    format!("{}: skipped: {}", skipped.file, skipped.why)
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for document in &report.documents {
        let read_as = document.read_as.map_or_else(String::new, |version| format!(" (read as {version:?})"));
        let outcome = if document.refused.is_empty() { "read" } else { "refused" };
        lines.push(format!("{}: {outcome}{read_as}", document.file));
        lines.extend(document.counts_for.map(|counts| format!("  counts for {counts}")));
        let rule = |rule: &Sentence| {
            let counts = rule.why.as_ref().map_or_else(String::new, |why| format!(" (does not count: {why})"));
            format!("  {}: {}{counts}", rule.path, rule.text)
        };
        lines.extend(document.rules.iter().map(rule));
        lines.extend(document.refused.iter().map(|refusal| format!("  {}: {}", refusal.field, refusal.message)));
    }
    let Report { read, refused, permitting, skipped, .. } = report;
    lines.extend(skipped.iter().map(line));
    let also = if skipped.is_empty() { String::new() } else { format!("; {} skipped", skipped.len()) };
    lines.push(format!("{read} read, of which {permitting} can permit something; {refused} refused{also}"));
    lines.extend(report.causes.iter().map(|cause| format!("  {} × {}", cause.documents, cause.cause)));
    lines
}
