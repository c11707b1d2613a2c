//! Command line of the one binary: it parses, installs the TLS provider and hands over; no logic.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Decide requests by consents, without a network.
    Consent(ehrnet::cli::consent::ConsentArgs),
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ehrnet: {error}");
            if error.is::<ehrnet::cli::BadInput>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Crds => {
            for crd in ehrnet::api::crds() {
                print!("---\n{}", serde_yaml::to_string(&crd)?);
            }
        }
        Command::Operator(settings) => tokio::runtime::Runtime::new()?.block_on(ehrnet::operator::main(*settings))?,
        Command::Consent(args) => ehrnet::cli::consent::run(&args)?,
        Command::Contract(args) => {
            // One thread is plenty for its work, and keeps the pod small.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ehrnet::contract::shim::run(args))?;
        }
        Command::Devledger(role) => tokio::runtime::Runtime::new()?.block_on(ehrnet::devledger::run(role))?,
        Command::Demo(args) => tokio::runtime::Runtime::new()?.block_on(ehrnet::demo::run(args))?,
    }
    Ok(())
}
