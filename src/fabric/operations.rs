//! Client of a node's operations port: its version.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use serde::Deserialize;

use super::error::LedgerError;
use super::http::{send, success};
use super::net::{Dialer, Network, Target};

const READ: Duration = Duration::from_secs(5);

/// A client of one node's operations port.
pub struct Client {
    dialer: Dialer,
}

impl Client {
    /// A client over TLS.
    pub fn new(network: Arc<dyn Network>, target: &Target) -> Result<Self, LedgerError> {
        Ok(Self { dialer: Dialer::new(network, target, b"http/1.1")? })
    }

    /// The node's version, such as `v3.1.5`.
    pub async fn version(&self) -> Result<String, LedgerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Version {
            version: String,
        }
        let body = success(self.node(), self.get("/version").await?)?;
        self.json::<Version>(&body).map(|v| v.version)
    }

    async fn get(&self, path: &str) -> Result<Response<Bytes>, LedgerError> {
        let request = Request::get(path)
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|e| LedgerError::Invalid(format!("request to {}: {e}", self.node())))?;
        let exchange = async {
            let io = self.dialer.connect().await.map_err(|e| LedgerError::unreachable(self.node(), e))?;
            send(io, self.node(), request).await
        };
        match tokio::time::timeout(READ, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LedgerError::unreachable(self.node(), format!("no answer within {READ:?}"))),
        }
    }

    fn node(&self) -> &str {
        &self.dialer.node
    }

    fn json<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, LedgerError> {
        serde_json::from_slice(body)
            .map_err(|e| LedgerError::Invalid(format!("answer of {} is not readable: {e}", self.node())))
    }
}
