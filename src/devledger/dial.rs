//! gRPC connections to other nodes: own name resolution, own TLS roots, and the option to insist on one certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hosts::Hosts;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// This node's own TLS certificate and key, for mutual TLS.
pub struct TlsIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Whom to call, and how to know it is them.
pub struct Callee {
    /// Name that the certificate must bear.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// CAs of the TLS certificate (DER).
    pub roots: Vec<CertificateDer<'static>>,
    /// If given, the certificate must have this one's public key.
    pub expected: Option<CertificateDer<'static>>,
}

/// Connect.
///
/// # Errors
/// The name, the connection, TLS, or the certificate's key is not as it should be.
pub async fn connect(hosts: &Hosts, callee: Callee, identity: Option<&TlsIdentity>) -> io::Result<Channel> {
    let config = Arc::new(client_config(callee.roots, identity)?);
    let hosts = hosts.clone();
    let (host, port, expected) = (Arc::<str>::from(callee.host), callee.port, callee.expected.map(Arc::new));
    let connector = tower::service_fn(move |_: http::Uri| {
        let (hosts, host, config, expected) = (hosts.clone(), host.clone(), config.clone(), expected.clone());
        async move { open(&hosts, &host, port, config, expected.as_deref()).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| io::Error::other(with_causes(&error)))
}

/// Connect without TLS, for chaincodes whose package says so.
///
/// # Errors
/// The name or the connection is not as it should be.
pub async fn connect_plain(hosts: &Hosts, host: &str, port: u16) -> io::Result<Channel> {
    let (hosts, host) = (hosts.clone(), Arc::<str>::from(host));
    let connector = tower::service_fn(move |_: http::Uri| {
        let (hosts, host) = (hosts.clone(), host.clone());
        async move { hosts.dial(&host, port).await.map(TokioIo::new) }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| io::Error::other(with_causes(&error)))
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://node")
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(Duration::from_secs(60))
}

async fn open(
    hosts: &Hosts,
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    expected: Option<&CertificateDer<'static>>,
) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let attempt = async { TlsConnector::from(config).connect(name, hosts.dial(host, port).await?).await };
    let stream = tokio::time::timeout(CONNECT_LIMIT, attempt).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if let Some(expected) = expected {
        let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if !presented.is_some_and(|presented| same_key(presented, expected)) {
            return Err(io::Error::other(format!(
                "{host}:{port} is not the node that the channel's configuration names"
            )));
        }
    }
    Ok(stream)
}

fn client_config(roots: Vec<CertificateDer<'static>>, identity: Option<&TlsIdentity>) -> io::Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_root_certificates(store);
    let mut config = match identity {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).map_err(io::Error::other)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Whether two certificates are for one key: Fabric knows nodes by it, so that renewal needs no config update.
pub fn same_key(one: &[u8], other: &[u8]) -> bool {
    match (X509Certificate::from_der(one), X509Certificate::from_der(other)) {
        (Ok((_, one)), Ok((_, other))) => one.public_key().raw == other.public_key().raw,
        _ => false,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
