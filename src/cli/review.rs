//! `ehrnet review`: uses of break-glass that privacy officers have to review.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::CommandError;
use super::client::{ClientArgs, short, word};
use ehrnet_client::{audit, audit_csv, table};
use ehrnet_messages::ReviewOutcome;

/// Arguments of `ehrnet review`.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    #[command(subcommand)]
    command: ReviewCommand,
}

#[derive(Debug, Subcommand)]
enum ReviewCommand {
    /// List the reviews that are due, the most urgent first.
    List(ListArgs),
    /// Decide whether a use was an emergency.
    Decide(DecideArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct DecideArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Transaction of the request that broke the glass.
    #[arg(value_name = "TRANSACTION")]
    tx_id: String,
    /// justified or unjustified.
    #[arg(long, alias = "verdict", value_parser = word::<ReviewOutcome>)]
    outcome: ReviewOutcome,
    /// What was found, in words. Private.
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
}

/// Runs the subcommand.
pub async fn run(args: &ReviewArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        ReviewCommand::List(args) => list(args).await?,
        ReviewCommand::Decide(args) => decide(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs) -> Result<(), CommandError> {
    let reviews = audit::reviews(&args.client.open(args.client.bundle()?)?).await?;
    let rows = reviews.iter().map(|review| {
        [
            audit_csv::word(&review.status),
            review.due_by.to_string(),
            review.at.to_string(),
            review.actor_msp.clone(),
            short(&review.actor),
            short(&review.patient),
            review.tx_id.clone(),
        ]
    });
    let heading = ["STATUS", "DUE BY", "AT", "HOSPITAL", "ACTOR", "PATIENT", "TRANSACTION"];
    args.client.output.print(&reviews, table::lines(heading, rows))
}

async fn decide(args: &DecideArgs) -> Result<(), CommandError> {
    let contract = args.client.open(args.client.bundle()?)?;
    let review = audit::review(&contract, args.tx_id.clone(), args.outcome, args.notes.clone()).await?;
    let line = format!("break-glass of {} reviewed: {}", review.at, audit_csv::word(&review.status));
    args.client.output.print(&review, [line])
}
