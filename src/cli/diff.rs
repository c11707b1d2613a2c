//! `ehrnet consent diff`: what a new version of a policy changes, before a hospital agrees to it; without a network.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ehrnet_consent::diff::{self, Answer, Change, Difference, Document, Question, Verdict};
use ehrnet_consent::{Consent, FieldError, Policy, fhir, said};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::check::Reader;
use super::client::OutputArgs;
use super::decide::read_policy;
use super::documents::{Skipped, visit};
use super::{BadInput, CommandError, NO};

/// Arguments of `ehrnet consent diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// ConsentPolicy manifest of before, in YAML or JSON.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// ConsentPolicy manifest to come.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// FHIR Consent resources or Bundles of them, in JSON, or folders with such files: then the question is about these consents.
    /// Without any it is about whatever patients consented to.
    #[arg(value_name = "CONSENT")]
    consents: Vec<PathBuf>,
    /// Whether it is about decisions on the ledger (who asks is known by a certificate, and research has policies of its own), or as
    /// `decide` decides files.
    #[arg(long = "as", value_enum, default_value_t)]
    reader: Reader,
    /// From when on; now if not given.
    #[arg(long, value_name = "RFC3339", default_value_t = Timestamp::now())]
    now: Timestamp,
    /// Steps that the search may take in each direction. If they do not suffice, nothing is proven.
    #[arg(long, value_name = "N", default_value_t = diff::STEPS)]
    steps: u64,
    /// End with 3 if something is permitted that was denied.
    #[arg(long)]
    fail_on_widened: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Everything that is said.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    difference: Difference,
    /// Consents that a policy refuses, which then stand for a denial of everything.
    refused: Vec<Refused>,
    /// What was not looked at.
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct Refused {
    /// The file, and the entry of a Bundle.
    file: String,
    /// The policy: old or new.
    by: &'static str,
    /// Why.
    why: String,
}

/// Prints what the new policy changes. Ends with 1 where that was not found out.
pub fn run(args: &DiffArgs) -> Result<ExitCode, CommandError> {
    let (old, new) = (read_policy(&args.old)?, read_policy(&args.new)?);
    let ledger = args.reader == Reader::Ledger;
    let mut refused = Vec::new();
    let mut documents = Vec::new();
    let mut wrong = Vec::new();
    let skipped = visit(&args.consents, &mut |file, document| match document {
        Ok(document) => {
            let read = [("old", &old), ("new", &new)].map(|(by, policy)| {
                read(&document, policy, ledger, args.now).unwrap_or_else(|error| {
                    refused.push(Refused { file: file.clone(), by, why: error.to_string() });
                    // Nothing but a name is needed of what cannot be read.
                    Consent::unreadable(file.clone())
                })
            });
            documents.push(Document { name: file, read });
        }
        Err(error) => wrong.push(format!("{file}: {error}")),
    })?;
    if documents.is_empty() && !args.consents.is_empty() {
        wrong.push("there is no Consent".to_owned());
    }
    if !wrong.is_empty() {
        return Err(BadInput(wrong).into());
    }
    let documents = (!args.consents.is_empty()).then_some(documents.as_slice());
    let question = Question { old: &old, new: &new, documents, ledger, now: args.now, steps: args.steps };
    let report = Report { difference: diff::compare(&question), refused, skipped };
    args.output.print(&report, lines(&report))?;
    let Difference { widened, narrowed, .. } = report.difference;
    Ok(match widened {
        Verdict::Found if args.fail_on_widened => ExitCode::from(NO),
        Verdict::NotProven => ExitCode::FAILURE,
        Verdict::Found | Verdict::None if narrowed == Verdict::NotProven => ExitCode::FAILURE,
        Verdict::Found | Verdict::None => ExitCode::SUCCESS,
    })
}

fn read(document: &Value, policy: &Policy, ledger: bool, now: Timestamp) -> Result<Consent, FieldError> {
    let context = if ledger { policy.context().certified() } else { policy.context().clone() };
    let read = fhir::read(document, None, &context);
    let unnamed = || FieldError::new("Consent", "cannot be read");
    let consent = read.map_err(|errors| errors.into_iter().next().unwrap_or_else(unnamed))?;
    consent.dated_by(now).map(|()| consent)
}

fn lines(report: &Report) -> Vec<String> {
    let Report { difference, refused, skipped } = report;
    let about = match difference.consents {
        None => "whatever patients consented to".to_owned(),
        Some(1) => "with the consent given".to_owned(),
        Some(consents) => format!("with the {consents} consents given"),
    };
    let mut lines = Vec::new();
    for (verdict, word, changes) in [
        (difference.widened, ("widened", "newly permitted"), &difference.newly_permitted),
        (difference.narrowed, ("narrowed", "newly denied"), &difference.newly_denied),
    ] {
        lines.push(match verdict {
            Verdict::Found => format!("{}, {about}:", word.1),
            Verdict::None => format!("nothing is {}, {about}: every request was looked at", word.0),
            Verdict::NotProven => {
                format!("not proven whether anything is {}, {about}: no request was found that is", word.0)
            }
        });
        lines.extend(changes.iter().flat_map(change));
    }
    if difference.more {
        lines.push("there are more differences than these".to_owned());
    }
    lines.extend(difference.settings.iter().map(|setting| {
        let widens = if setting.may_widen { "MAY WIDEN, not proven: " } else { "" };
        format!("spec.{}: {widens}{}", said(&setting.field), setting.text)
    }));
    lines.extend(refused.iter().map(|one| format!("{}: refused by the {} policy: {}", one.file, one.by, one.why)));
    lines.extend(skipped.iter().map(|one| format!("{}: skipped: {}", one.file, one.why)));
    lines.extend(difference.doubts.iter().map(|doubt| format!("not proven: {doubt}")));
    lines
}

fn change(change: &Change) -> Vec<String> {
    let with = change.with.map_or_else(String::new, |with| format!(", with {with}"));
    let linked: Vec<String> = change.linked_to.iter().map(|link| format!(", linked to {link}")).collect();
    vec![
        format!("  {}", change.request),
        format!("    at {}{with}{}", change.at, linked.concat()),
        format!("    {} before: {}", change.old.decision, because(&change.old)),
        format!("    {} then: {}", change.new.decision, because(&change.new)),
    ]
}

fn because(answer: &Answer) -> String {
    let place = [answer.consent.as_deref(), answer.path.as_deref()].into_iter().flatten();
    let place: Vec<String> = place.map(said).collect();
    let place = if place.is_empty() { String::new() } else { format!(", {}", place.join(" ")) };
    format!("{}, {}{place}", answer.basis, answer.reason)
}
