//! Command line of the one binary: it parses, installs the TLS provider and hands over; no logic.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

/// Kubernetes operator that runs Hyperledger Fabric networks for electronic health records.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Watch the declared resources of a cluster and keep it in the declared state.
    Operator(Box<ehrnet::runtime::Settings>),
    /// Register, verify and erase records.
    Record(ehrnet::cli::record::RecordArgs),
    /// Give, revoke and list consents; decide requests by consents without a network.
    Consent(ehrnet::cli::consent::ConsentArgs),
    /// Request access, and explain decisions.
    Access(ehrnet::cli::access::AccessArgs),
    /// Review uses of break-glass.
    Review(ehrnet::cli::review::ReviewArgs),
    /// Query and export the audit.
    Audit(ehrnet::cli::audit::AuditArgs),
    /// Print a patient's name on the ledger.
    Pseudonym(ehrnet::cli::pseudonym::PseudonymArgs),
    /// Serve the health-record contract to the peers of a hospital.
    Contract(ehrnet::contract::shim::ContractArgs),
    /// Bring up a cluster with a sample network and show it become ready.
    Demo(ehrnet::demo::DemoArgs),
    /// Run a node of the embedded ledger, a stand-in for Hyperledger Fabric in tests and demos.
    #[command(subcommand)]
    Devledger(ehrnet::devledger::Role),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ehrnet: {error}");
            let of_command = error.downcast_ref::<ehrnet::cli::CommandError>();
            of_command.map_or(ExitCode::FAILURE, ehrnet::cli::CommandError::exit_code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::Crds => {
            for crd in ehrnet::api::crds() {
                print!("---\n{}", serde_yaml::to_string(&crd)?);
            }
        }
        Command::Operator(settings) => Runtime::new()?.block_on(ehrnet::operator::main(*settings))?,
        Command::Record(args) => return Ok(Runtime::new()?.block_on(ehrnet::cli::record::run(&args))?),
        Command::Consent(args) => return Ok(Runtime::new()?.block_on(ehrnet::cli::consent::run(&args))?),
        Command::Access(args) => return Ok(Runtime::new()?.block_on(ehrnet::cli::access::run(&args))?),
        Command::Review(args) => return Ok(Runtime::new()?.block_on(ehrnet::cli::review::run(&args))?),
        Command::Audit(args) => return Ok(Runtime::new()?.block_on(ehrnet::cli::audit::run(&args))?),
        Command::Pseudonym(args) => return Ok(ehrnet::cli::pseudonym::run(&args)?),
        Command::Contract(args) => {
            // One thread is plenty for its work, and keeps the pod small.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ehrnet::contract::shim::run(args))?;
        }
        Command::Devledger(role) => Runtime::new()?.block_on(ehrnet::devledger::run(role))?,
        Command::Demo(args) => Runtime::new()?.block_on(ehrnet::demo::run(args))?,
    }
    Ok(ExitCode::SUCCESS)
}
