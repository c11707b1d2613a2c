//! A gRPC connection to one node, made when first needed and made anew after it failed.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::error::LedgerError;
use super::net::{Dialer, Network, Target};

/// Largest message that is sent (Fabric's own limit).
pub(super) const MAX_SENT: usize = 100 * 1024 * 1024;
/// Largest block that is read. A node may not fill the memory of who asks it: what is larger is refused by its length, before
/// it is read.
pub(super) const MAX_BLOCK: usize = 32 * 1024 * 1024;
/// Largest other answer that is read, for the same reason.
pub(super) const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A connection to one node.
pub(super) struct Connection {
    pub dialer: Arc<Dialer>,
    channel: Mutex<Option<Channel>>,
}

impl Connection {
    pub fn new(network: Arc<dyn Network>, target: &Target) -> Result<Self, LedgerError> {
        Ok(Self { dialer: Arc::new(Dialer::new(network, target, b"h2")?), channel: Mutex::default() })
    }

    /// Runs `call` on the connection within `deadline`. An unreachable node costs the connection: it may be a dead one
    /// (the node's pod moved) that TCP would only give up on much later.
    pub async fn call<T, F>(&self, deadline: Duration, call: impl FnOnce(Channel) -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        let outcome = self.dialer.within(deadline, async { call(self.channel().await?).await }).await;
        if matches!(outcome, Err(LedgerError::Unreachable { .. })) {
            self.channel.lock().await.take();
        }
        outcome
    }

    /// The connection as it is kept, or a new one.
    pub async fn channel(&self) -> Result<Channel, LedgerError> {
        let mut kept = self.channel.lock().await;
        if let Some(channel) = &*kept {
            return Ok(channel.clone());
        }
        let node = &self.dialer.node;
        // The scheme only fills the :scheme header: TLS is the connector's.
        let endpoint = Endpoint::from_shared(format!("http://{node}"))
            .map_err(|e| LedgerError::Invalid(format!("address {node}: {e}")))?;
        let dialer = self.dialer.clone();
        let connector = tower::service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.connect().await.map(TokioIo::new) }
        });
        let channel =
            endpoint.connect_with_connector(connector).await.map_err(|e| LedgerError::unreachable(node, e))?;
        Ok(kept.insert(channel).clone())
    }
}
