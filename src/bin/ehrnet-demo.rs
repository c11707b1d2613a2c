//! The `ehrnet-demo` program, which `cargo run` starts: a cluster, the operator and a sample network on this machine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

/// Shows ehrnet on this machine, from nothing.
#[derive(Parser)]
#[command(name = "ehrnet-demo", version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up a cluster with a sample network and show it become ready.
    Demo(ehrnet_demo::DemoArgs),
}

fn main() -> ExitCode {
    let Command::Demo(args) = Program::parse().command;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ehrnet-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: ehrnet_demo::DemoArgs) -> Result<(), Box<dyn std::error::Error>> {
    Ok(Runtime::new()?.block_on(ehrnet_demo::run(args))?)
}
