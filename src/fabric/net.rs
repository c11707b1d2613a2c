//! How the protocol reaches nodes, and how it asks for leave to change them.
//!
//! Every connection is dialled by the [`Network`] and is TLS, checked against the target's own roots and host. Every
//! write goes through [`Network::before_write`], at the last moment before it is sent: that is where a lost lease stops
//! it. The write's outcome is not told, since a lost reply may still be a write.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::endpoint::Endpoint;
use super::error::LedgerError;
pub use super::error::NotAllowed;

/// Reaches nodes, and is asked before each change of the ledger.
#[async_trait]
pub trait Network: Send + Sync {
    /// A TCP connection to `host` (a name or an IP address).
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream>;
    /// Leave for a change that is about to be sent.
    async fn before_write(&self, act: &LedgerAct) -> Result<(), NotAllowed>;
    /// The change was sent; whether it took effect is not known here.
    async fn after_write(&self, act: &LedgerAct);
}

/// A change of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAct {
    /// What is done.
    pub kind: ActKind,
    /// To which channel; empty if to none.
    pub channel: String,
    /// At which node (`host:port`).
    pub node: String,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActKind {
    /// An orderer joins a channel.
    OrdererJoin,
    /// An orderer forgets a channel.
    OrdererRemove,
    /// A peer joins a channel.
    PeerJoin,
    /// A configuration update is sent to be ordered.
    ConfigUpdate,
    /// A transaction is sent to be ordered.
    Transaction,
    /// A chaincode package is installed on a peer.
    ChaincodeInstall,
}

impl ActKind {
    /// Name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrdererJoin => "orderer-join",
            Self::OrdererRemove => "orderer-remove",
            Self::PeerJoin => "peer-join",
            Self::ConfigUpdate => "config-update",
            Self::Transaction => "transaction",
            Self::ChaincodeInstall => "chaincode-install",
        }
    }
}

/// A node's port, and how to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or IP address; the node's certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// CA certificates (PEM) that may have issued the node's certificate.
    pub tls_roots: Vec<String>,
    /// What to show if the node asks for a client certificate.
    pub client_identity: Option<TlsIdentity>,
}

/// A TLS client certificate (PEM, with its chain) and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Certificate and chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

impl Target {
    /// `host:port`, as it stands in errors.
    pub fn node(&self) -> String {
        Endpoint::new(self.host.as_str(), self.port).to_string()
    }
}

/// A target with its TLS set-up ready.
pub(super) struct Dialer {
    pub network: Arc<dyn Network>,
    pub node: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<rustls::ClientConfig>,
}

impl Dialer {
    /// Checks the target's certificates and key. `alpn` is the protocol to speak.
    pub fn new(network: Arc<dyn Network>, target: &Target, alpn: &[u8]) -> Result<Self, LedgerError> {
        let invalid = |what: String| LedgerError::Invalid(format!("TLS for {}: {what}", target.node()));
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| invalid("the host is neither a DNS name nor an IP address".into()))?;
        let tls = Arc::new(tls_config(target, alpn).map_err(invalid)?);
        Ok(Self { network, node: target.node(), host: target.host.clone(), port: target.port, name, tls })
    }

    /// TCP, then TLS.
    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.network.dial(&self.host, self.port).await?;
        tcp.set_nodelay(true)?;
        tokio_rustls::TlsConnector::from(self.tls.clone()).connect(self.name.clone(), tcp).await
    }

    /// Asks for leave, acts, and tells that it was done, whatever the outcome.
    pub async fn write<T>(
        &self,
        kind: ActKind,
        channel: &str,
        act: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let what = LedgerAct { kind, channel: channel.into(), node: self.node.clone() };
        self.network.before_write(&what).await?;
        let outcome = act.await;
        self.network.after_write(&what).await;
        outcome
    }

    /// Fails as unreachable if `call` takes longer than `deadline`.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LedgerError::unreachable(&self.node, format!("no answer within {deadline:?}"))),
        }
    }
}

fn tls_config(target: &Target, alpn: &[u8]) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    for pem in &target.tls_roots {
        for certificate in certificates(pem)? {
            roots.add(certificate).map_err(|e| format!("CA certificate: {e}"))?;
        }
    }
    if roots.is_empty() {
        return Err("there is no CA certificate to check the node's certificate with".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let mut config = match &target.client_identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
                .map_err(|_| "the client key is not a private key in PEM".to_owned())?;
            builder
                .with_client_auth_cert(certificates(&identity.certificate)?, key)
                .map_err(|e| format!("client certificate: {e}"))?
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("there is no certificate in the PEM text".into()),
        Err(e) => Err(format!("certificate is not PEM: {e}")),
    }
}
