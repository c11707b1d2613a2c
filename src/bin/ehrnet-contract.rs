//! The `ehrnet-contract` program: serves the health-record contract to the peers of a hospital (chaincode as a service).

use std::process::ExitCode;

use clap::Parser;

/// The health-record contract of ehrnet, served to the peers of a hospital.
#[derive(Parser)]
#[command(name = "ehrnet-contract", version, about)]
struct Program {
    #[command(flatten)]
    args: ehrnet_contract::shim::ContractArgs,
}

fn main() -> ExitCode {
    match run(Program::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ehrnet-contract: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: ehrnet_contract::shim::ContractArgs) -> Result<(), Box<dyn std::error::Error>> {
    // One thread is plenty for its work, and keeps the pod small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(ehrnet_contract::shim::run(args))?)
}
