//! The `ehrnet-devledger` program: a node of the embedded ledger, a stand-in for Hyperledger Fabric in tests and demos.

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

/// A node of the embedded ledger, a stand-in for Hyperledger Fabric in tests and demos. Never for real records.
#[derive(Parser)]
#[command(name = "ehrnet-devledger", version, about)]
struct Program {
    #[command(subcommand)]
    role: ehrnet_devledger::Role,
}

fn main() -> ExitCode {
    match run(Program::parse().role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ehrnet-devledger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: ehrnet_devledger::Role) -> Result<(), Box<dyn std::error::Error>> {
    Ok(Runtime::new()?.block_on(ehrnet_devledger::run(role))?)
}
