//! What every pass works with: what is known, who writes, how the ledger is reached, what is remembered.

use std::sync::Arc;

use jiff::Timestamp;

use super::authorities::GivenSecrets;
use super::memory::Memories;
use super::writer::Writers;
use ehrnet_apply::Applier;
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
    /// Hands out the leave to write objects.
    pub writers: Writers,
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
    pub(crate) applier: Applier,
    pub(crate) reporter: Reporter,
}

impl Statuses {
    /// Statuses through the applier, Events through the reporter.
    pub fn new(applier: Applier, reporter: Reporter) -> Self {
        Self { applier, reporter }
    }
}
