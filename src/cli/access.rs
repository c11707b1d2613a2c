//! `ehrnet access`: request access, and explain a decision.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{ClientArgs, PatientArgs, code_value};
use super::{BadInput, CommandError, NO};
use ehrnet_client::access;
use ehrnet_client::explain::Asked;
use ehrnet_client::{Bundle, ClientError, Contract};
use ehrnet_consent::decision::Effect;
use ehrnet_messages::{DecisionDetail, HeldDecision, RequestAccess};

/// Arguments of `ehrnet access`.
#[derive(Debug, Args)]
pub struct AccessArgs {
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Request access. PERMIT or DENY, the decision is committed and audited before it is printed.
    Request(RequestArgs),
    /// Explain a committed decision (--transaction), or try out what a request would be answered, which is not recorded.
    Explain(ExplainArgs),
}

/// What is asked for.
#[derive(Debug, Args)]
struct AskedArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// Id of the record; without it the decision is about all records of the patient.
    #[arg(long, value_name = "ID")]
    record: Option<String>,
    /// Why: one purpose of use, for example TREAT, HRESCH or BTG (break-glass).
    #[arg(long, value_name = "CODE", value_parser = code_value)]
    purpose: Option<Value>,
    /// What is to be done: access, use, collect, disclose or correct.
    #[arg(long, value_name = "CODE", value_parser = code_value, default_value = "access")]
    action: Value,
    /// Why the glass is broken. Private; the ledger keeps a salted hash.
    #[arg(long, value_name = "TEXT")]
    justification: Option<String>,
    /// Role to act in; it must be in the certificate.
    #[arg(long)]
    role: Option<String>,
    /// Code of the research project.
    #[arg(long, value_name = "CODE")]
    project: Option<String>,
}

#[derive(Debug, Args)]
struct RequestArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    asked: AskedArgs,
    /// End with code 3 if the decision is DENY.
    #[arg(long)]
    fail_on_deny: bool,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Transaction of a request for access.
    #[arg(long, value_name = "ID", conflicts_with_all = ["patient", "pseudonym", "record", "purpose", "justification"])]
    transaction: Option<String>,
    #[command(flatten)]
    asked: AskedArgs,
    /// End with code 3 if the decision is DENY.
    #[arg(long)]
    fail_on_deny: bool,
}

/// Runs the subcommand.
pub async fn run(args: &AccessArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        AccessCommand::Request(args) => request(args).await,
        AccessCommand::Explain(args) => match &args.transaction {
            Some(tx_id) => explain(args, tx_id).await,
            None => try_out(args).await,
        },
    }
}

async fn request(args: &RequestArgs) -> Result<ExitCode, CommandError> {
    let bundle = args.client.bundle()?;
    let asked = args.asked.request(&bundle)?;
    let contract = args.client.open(bundle)?;
    let entry = access::request(&contract, &asked, args.asked.justification.clone()).await?;
    let held = access::held(&contract, &entry.tx_id).await?;
    let mut lines = lines(&contract, &held).await?;
    lines.push(format!("recorded in transaction {}", entry.tx_id));
    args.client.output.print(&held, lines)?;
    Ok(ended(held.entry.decision, args.fail_on_deny))
}

async fn explain(args: &ExplainArgs, tx_id: &str) -> Result<ExitCode, CommandError> {
    let contract = args.client.open(args.client.bundle()?)?;
    let held = access::held(&contract, tx_id).await?;
    let mut lines = lines(&contract, &held).await?;
    let holds = if held.current { "it still holds" } else { "it holds no longer: ask again" };
    lines.push(format!("decided at {}; {holds}", held.entry.at));
    args.client.output.print(&held, lines)?;
    Ok(ended(held.entry.decision, args.fail_on_deny))
}

async fn try_out(args: &ExplainArgs) -> Result<ExitCode, CommandError> {
    let bundle = args.client.bundle()?;
    let asked = args.asked.request(&bundle)?;
    let contract = args.client.open(bundle)?;
    let dry_run = access::try_out(&contract, &asked, args.asked.justification.clone()).await?;
    let purpose = asked.purpose["code"].as_str().or(asked.purpose.as_str()).unwrap_or_default();
    let who = Asked { who: "you", record: asked.record.as_deref(), purpose };
    let mut lines = vec![access::explain_detail(&contract, &asked.patient, who, &dry_run.detail).await?];
    lines.extend(residual(&dry_run.detail));
    lines.push("tried out only: nothing was recorded, and nothing may be released on it".into());
    args.client.output.print(&dry_run, lines)?;
    Ok(ended(Some(dry_run.detail.decision), args.fail_on_deny))
}

async fn lines(contract: &Contract, held: &HeldDecision) -> Result<Vec<String>, ClientError> {
    let mut lines = vec![access::explain(contract, &held.entry).await?];
    let detail = held.entry.detail.as_deref().and_then(|detail| detail.decision.as_ref());
    lines.extend(detail.into_iter().flat_map(residual));
    Ok(lines)
}

/// The residual rules, one a line.
fn residual(detail: &DecisionDetail) -> Vec<String> {
    let rules = detail.residual.iter();
    rules.map(|rule| format!("  residual: {}", json!(rule))).collect()
}

fn ended(decision: Option<Effect>, fail_on_deny: bool) -> ExitCode {
    if fail_on_deny && decision != Some(Effect::Permit) { ExitCode::from(NO) } else { ExitCode::SUCCESS }
}

impl AskedArgs {
    fn request(&self, bundle: &Bundle) -> Result<RequestAccess, CommandError> {
        let purpose =
            self.purpose.clone().ok_or_else(|| BadInput::one("--purpose is needed: why is access asked for?"))?;
        Ok(RequestAccess {
            patient: self.patient.resolve(bundle)?,
            record: self.record.clone(),
            action: Some(self.action.clone()),
            purpose,
            role: self.role.clone(),
            project: self.project.clone(),
        })
    }
}
