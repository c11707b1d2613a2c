//! The `ehrnet` program: the operator, and the commands of hospitals. It parses and hands over; no logic.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

/// Kubernetes operator that runs Hyperledger Fabric networks for electronic health records.
#[derive(Parser)]
#[command(version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Watch the declared resources of a cluster and keep it in the declared state.
    Operator(Box<ehrnet_runtime::Settings>),
    /// Register, verify and erase records.
    Record(ehrnet_cli::record::RecordArgs),
    /// Give, revoke and list consents; decide requests by consents without a network.
    Consent(ehrnet_cli::consent::ConsentArgs),
    /// Request access, and explain decisions.
    Access(ehrnet_cli::access::AccessArgs),
    /// Review uses of break-glass.
    Review(ehrnet_cli::review::ReviewArgs),
    /// Query and export the audit.
    Audit(ehrnet_cli::audit::AuditArgs),
    /// Print a patient's name on the ledger.
    Pseudonym(ehrnet_cli::pseudonym::PseudonymArgs),
}

fn main() -> ExitCode {
    match run(Program::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ehrnet: {error}");
            let of_command = error.downcast_ref::<ehrnet_cli::CommandError>();
            of_command.map_or(ExitCode::FAILURE, ehrnet_cli::CommandError::exit_code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::Crds => {
            for crd in ehrnet_api::crds() {
                print!("---\n{}", serde_yaml::to_string(&crd)?);
            }
        }
        Command::Operator(settings) => Runtime::new()?.block_on(ehrnet_operator::main(*settings))?,
        Command::Record(args) => return Ok(Runtime::new()?.block_on(ehrnet_cli::record::run(&args))?),
        Command::Consent(args) => return Ok(Runtime::new()?.block_on(ehrnet_cli::consent::run(&args))?),
        Command::Access(args) => return Ok(Runtime::new()?.block_on(ehrnet_cli::access::run(&args))?),
        Command::Review(args) => return Ok(Runtime::new()?.block_on(ehrnet_cli::review::run(&args))?),
        Command::Audit(args) => return Ok(Runtime::new()?.block_on(ehrnet_cli::audit::run(&args))?),
        Command::Pseudonym(args) => return Ok(ehrnet_cli::pseudonym::run(&args)?),
    }
    Ok(ExitCode::SUCCESS)
}
