//! How the operator reaches the ledger's nodes: cluster DNS and TCP; it writes only while it holds the lease.

use std::io;

use async_trait::async_trait;
use tokio::net::TcpStream;

use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed};
use ehrnet_runtime::lease::Fence;
use ehrnet_runtime::metrics::Metrics;

/// Dials by name; writes only while the lease is held.
pub struct ClusterNetwork {
    /// The leave to write.
    pub fence: Fence,
    /// Counts writes.
    pub metrics: Metrics,
}

#[async_trait]
impl Network for ClusterNetwork {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect((host, port)).await
    }

    async fn before_write(&self, _: &LedgerAct) -> Result<(), NotAllowed> {
        self.fence.check().map_err(|lost| NotAllowed(lost.to_string()))
    }

    async fn after_write(&self, act: &LedgerAct) {
        self.metrics.ledger_write(act.kind.as_str());
    }
}
