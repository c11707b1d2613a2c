//! The peer: joins channels, follows their orderers, endorses, validates and answers what administrators ask.
//!
//! ```text
//!  proposal ──> endorser ──> simulate ──> state (a snapshot)         blocks of orderers
//!                  │            ^                                          │
//!                  │        chaincode (over gRPC, as a service)            v
//!                  ├──> lifecycle, system (its own chaincodes)          joined ──> validate ──> state
//!                  └──> private (to members' peers)  ────────────────────^  private data of members
//! ```

pub mod access;
pub mod chaincode;
pub mod channels;
pub mod commit;
pub mod endorser;
pub mod events;
pub mod execute;
pub mod gateway;
pub mod joined;
pub mod lifecycle;
pub mod private;
pub mod proposal;
pub mod rwset;
pub mod service;
pub mod simulate;
pub mod state;
pub mod system;
pub mod validate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connections::Connections;
use super::pull::Puller;
use ehrnet_fabric::identity::SigningIdentity;
use private::contacts::Directory;
use private::exchange::Exchange;

/// What all channels of this peer share.
pub struct Node {
    /// This peer's identity.
    pub signer: Arc<SigningIdentity>,
    /// Fetches blocks.
    pub puller: Puller,
    /// Ways to other nodes.
    pub connections: Arc<Connections>,
    /// Fetches and gives private data.
    pub exchange: Exchange,
    /// Knows other peers.
    pub directory: Directory,
    /// Ledgers.
    pub ledger_dir: PathBuf,
    /// Private data whose transactions have not come yet.
    pub transient_dir: PathBuf,
    /// Times for private data.
    pub limits: Limits,
}

/// How long private data is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Before a block is committed without it.
    pub pull: Duration,
    /// Pause between two searches after that.
    pub reconcile: Duration,
}
