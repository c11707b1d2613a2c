//! Client of a node's operations port: health and version.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;

use super::error::LedgerError;
use super::http::{send, success};
use super::net::{Dialer, Network, Target};

const READ: Duration = Duration::from_secs(5);

/// A client of one node's operations port.
pub struct Client {
    transport: Transport,
}

enum Transport {
    Plain { network: Arc<dyn Network>, host: String, port: u16, node: String },
    Tls(Dialer),
}

/// A node's own opinion of its health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// `OK`, or not.
    pub status: String,
    /// What is wrong; empty if nothing is.
    #[serde(default)]
    pub failed_checks: Vec<FailedCheck>,
}

/// One thing wrong with a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FailedCheck {
    /// Part of the node.
    pub component: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.failed_checks.is_empty() && self.status == "OK"
    }
}

impl Client {
    /// A client over TLS.
    pub fn new(network: Arc<dyn Network>, target: &Target) -> Result<Self, LedgerError> {
        Ok(Self { transport: Transport::Tls(Dialer::new(network, target, b"http/1.1")?) })
    }

    /// A client without TLS: health and version are no secret, and probes read them so.
    pub fn plain(network: Arc<dyn Network>, host: &str, port: u16) -> Self {
        Self { transport: Transport::Plain { network, host: host.into(), port, node: format!("{host}:{port}") } }
    }

    /// The node's health. A node that answers that it is unhealthy has answered: that is no error.
    pub async fn healthz(&self) -> Result<Health, LedgerError> {
        let response = self.get("/healthz").await?;
        let body = match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => response.into_body(),
            _ => success(self.node(), response)?,
        };
        self.json(&body)
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
            match &self.transport {
                Transport::Plain { network, host, port, node } => {
                    let io = network.dial(host, *port).await.map_err(|e| LedgerError::unreachable(node, e))?;
                    send(io, node, request).await
                }
                Transport::Tls(dialer) => {
                    let io = dialer.connect().await.map_err(|e| LedgerError::unreachable(&dialer.node, e))?;
                    send(io, &dialer.node, request).await
                }
            }
        };
        match tokio::time::timeout(READ, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LedgerError::unreachable(self.node(), format!("no answer within {READ:?}"))),
        }
    }

    fn node(&self) -> &str {
        match &self.transport {
            Transport::Plain { node, .. } => node,
            Transport::Tls(dialer) => &dialer.node,
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, LedgerError> {
        serde_json::from_slice(body)
            .map_err(|e| LedgerError::Invalid(format!("answer of {} is not readable: {e}", self.node())))
    }
}
