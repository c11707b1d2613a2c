//! What every step of a pass works with: what is known, how people are told, how the ledger is reached, what is remembered.
//!
//! Invariant: nothing here writes objects. That takes a [`Writer`](super::writer::Writer), which only the passes and
//! repairs themselves can ask for, and which they hand to the steps that write.

use std::sync::Arc;

use jiff::Timestamp;

use super::authorities::GivenSecrets;
use super::memory::Memories;
use ehrnet_apply::StatusWriter;
use ehrnet_desired::Site;
use ehrnet_fabric::net::Network;
use ehrnet_observe::World;
use ehrnet_runtime::events::Reporter;
use ehrnet_runtime::metrics::Metrics;

/// The present, injected so that tests can move it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Shared by all passes.
pub struct Context {
    /// What the operator knows of the cluster.
    pub world: Arc<World>,
    /// Reads CA Secrets of users, which no watch holds.
    pub given: GivenSecrets,
    /// Writes statuses and Events.
    pub statuses: Statuses,
    /// The way to the ledger's nodes.
    pub network: Arc<dyn Network>,
    /// What is remembered of resources.
    pub memories: Memories,
    /// Counts.
    pub metrics: Metrics,
    /// What is the same for every resource.
    pub site: Site,
    /// The present.
    pub clock: Clock,
}

/// Writes what people are told.
pub struct Statuses {
    pub(crate) writer: StatusWriter,
    pub(crate) reporter: Reporter,
}

impl Statuses {
    /// Statuses through the writer, Events through the reporter.
    pub fn new(writer: StatusWriter, reporter: Reporter) -> Self {
        Self { writer, reporter }
    }
}
