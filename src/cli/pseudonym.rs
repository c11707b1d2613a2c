//! `ehrnet pseudonym`: a patient's name on the ledger.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::client::OutputArgs;
use ehrnet_client::Bundle;
use ehrnet_messages::hash;

/// Arguments of `ehrnet pseudonym`.
#[derive(Debug, Args)]
pub struct PseudonymArgs {
    /// Folder with the client bundle of a hospital: the keys of its Secret as files.
    #[arg(long, value_name = "DIR", env = "EHRNET_BUNDLE")]
    bundle: std::path::PathBuf,
    /// The patient's id at the hospital.
    #[arg(value_name = "ID")]
    patient: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the subcommand.
pub fn run(args: &PseudonymArgs) -> Result<ExitCode, CommandError> {
    let pseudonym = hash::pseudonym(&*Bundle::read(&args.bundle)?.pseudonym_key()?, &args.patient);
    args.output.print(&json!({"pseudonym": pseudonym}), [pseudonym.clone()])?;
    Ok(ExitCode::SUCCESS)
}
