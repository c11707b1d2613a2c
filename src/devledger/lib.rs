//! The embedded ledger: Fabric's strict stand-in for laptops, CI and fault tests.
//!
//! ```text
//!   REST /participation ─┐                       ┌─> raft (one group per channel) ─> store
//!   Broadcast, Deliver ──┴─> orderer::registrar ─┤
//!                                                └─> follower ── pulls ── Deliver of others
//!   Endorser (cscc, qscc), Deliver ─> peer ─> store <── pulls ── Deliver of orderers
//! ```
//!
//! It has Fabric's ports, environment variables, files, messages and error texts, and enforces what Fabric enforces, so
//! that a client need not know. It is no production ledger and says so at start and in `/version`.
//! The trap: nothing outside this room may know it (`tests/walls/`); what both sides need belongs to `fabric`.

pub mod channel;
pub mod connections;
pub mod deliver;
pub mod dial;
pub mod faults;
pub mod hosts;
pub mod ledger;
pub mod listen;
pub mod logging;
pub mod node;
pub mod operations;
pub mod orderer;
pub mod peer;
pub mod pull;
pub mod raft;
pub mod settings;
pub mod stop;
pub mod store;
pub mod web;

use node::MspFolderError;

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The environment is wrong.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// The log level is wrong.
    #[error(transparent)]
    Logging(#[from] logging::BadSpec),
    /// The node has no usable identity.
    #[error(transparent)]
    Msp(#[from] MspFolderError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// What is on disk cannot be used.
    #[error("{0}")]
    Ledger(String),
    /// A server ended on its own.
    #[error("serving ended: {0}")]
    Serve(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Which node to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Role {
    /// Ordering service node.
    Orderer,
    /// Peer.
    Peer,
}

/// Run a node, as the environment says, until SIGTERM or SIGINT.
///
/// # Errors
/// See [`StartError`].
pub async fn run(role: Role) -> Result<(), StartError> {
    let environment = settings::Environment::of_process();
    let (stopper, stop) = stop::switch();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping");
        stopper.stop();
    });
    match role {
        Role::Orderer => {
            let settings = environment.orderer()?;
            let levels = introduce(&settings.node.log_spec)?;
            orderer::service::run(settings, levels, stop).await
        }
        Role::Peer => {
            let settings = environment.peer()?;
            let levels = introduce(&settings.node.log_spec)?;
            peer::service::run(settings, levels, stop).await
        }
    }
}

fn introduce(spec: &str) -> Result<logging::LogLevels, StartError> {
    let levels = logging::LogLevels::install(spec)?;
    tracing::warn!(
        version = operations::VERSION,
        "this is ehrnet's embedded ledger, a stand-in for Hyperledger Fabric in tests and demos; keep no real records in it"
    );
    Ok(levels)
}
