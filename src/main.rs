//! Command line of the one binary: it parses, installs the TLS provider and hands over; no logic.

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
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Crds => {
            for crd in ehrnet::api::crds() {
                print!("---\n{}", serde_yaml::to_string(&crd)?);
            }
        }
    }
    Ok(())
}
