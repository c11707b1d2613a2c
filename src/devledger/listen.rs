//! Listeners: TCP on exactly the configured address, with TLS as Fabric's servers do it.
//!
//! Handshakes run beside each other, so that a client that says nothing blocks nobody. Certificates are read at start
//! only, as in Fabric: a renewed one counts after a restart.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::faults::{Faults, Operation};
use super::settings::{Endpoint, TlsFiles};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not ours or is taken.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// `host:port`.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate or key file is not usable.
    #[error("TLS file {path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ListenError {
    fn tls(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Tls { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// How a client certificate is treated where none is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionalCertificate {
    /// gRPC: taken as they are; the service compares keys itself.
    Unchecked,
    /// REST: must chain to the client roots.
    Verified,
}

/// Who is on the other side of a connection.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate chain, leaf first; empty without TLS or without a client certificate.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// An accepted connection, after its handshake.
pub struct Connection {
    io: Io,
    caller: Caller,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Open the listener; connections arrive on the receiver. Dropping the receiver ends listening.
///
/// # Errors
/// See [`ListenError`].
pub async fn listen(
    endpoint: &Endpoint,
    optional: OptionalCertificate,
    faults: &Faults,
) -> Result<(SocketAddr, mpsc::Receiver<Connection>), ListenError> {
    let tls = endpoint.tls.as_ref().map(|files| server_config(files, optional, faults)).transpose()?;
    let bind = |source| ListenError::Bind { address: endpoint.address.clone(), source };
    let listener = TcpListener::bind(&endpoint.address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let (tx, rx) = mpsc::channel(16);
    tokio::spawn(accept(listener, tls.map(|config| TlsAcceptor::from(Arc::new(config))), tx));
    Ok((address, rx))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, tx: mpsc::Sender<Connection>) {
    loop {
        let accepted = tokio::select! {
            () = tx.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                tokio::spawn(greet(stream, address, tls.clone(), tx.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: leave the others time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, tx: mpsc::Sender<Connection>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "connection ended before it began");
        return;
    }
    let connection = match tls {
        None => Connection { io: Io::Plain(stream), caller: Caller { address, certificates: Arc::new([]) } },
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
                Connection { io: Io::Tls(Box::new(stream)), caller: Caller { address, certificates } }
            }
            Ok(Err(error)) => {
                tracing::warn!(%address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::warn!(%address, "TLS handshake took too long");
                return;
            }
        },
    };
    if tx.send(connection).await.is_err() {
        tracing::debug!(%address, "connection arrived after the listener closed");
    }
}

fn server_config(
    files: &TlsFiles,
    optional: OptionalCertificate,
    faults: &Faults,
) -> Result<ServerConfig, ListenError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| ListenError::tls(&files.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match (files.client_auth_required, optional) {
        (false, OptionalCertificate::Unchecked) => Arc::new(AnyClient(provider.clone())),
        (false, _) if files.client_roots.is_empty() => WebPkiClientVerifier::no_client_auth(),
        (required, _) => {
            let mut roots = RootCertStore::empty();
            for path in &files.client_roots {
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|e| ListenError::tls(path, e))?;
                }
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let builder = if required { builder } else { builder.allow_unauthenticated() };
            builder.build().map_err(|e| ListenError::tls(&files.certificate, e))?
        }
    };
    let right = CertifiedKey::from_der(chain, key, &provider).map_err(|e| ListenError::tls(&files.certificate, e))?;
    let resolver = Presented { right: Arc::new(right), faults: faults.clone(), provider: provider.clone() };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ListenError::tls(&files.certificate, e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    // As Fabric's: gRPC needs HTTP/2, the REST listeners speak HTTP/1.1 only.
    config.alpn_protocols = match optional {
        OptionalCertificate::Unchecked => vec![b"h2".to_vec()],
        OptionalCertificate::Verified => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// All certificates of a PEM file.
///
/// # Errors
/// `Tls` if the file cannot be read or has none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|e| ListenError::tls(path, e))?;
    if certificates.is_empty() { Err(ListenError::tls(path, "has no certificate")) } else { Ok(certificates) }
}

/// Presents the configured certificate, or on request one that nobody's CA issued.
#[derive(Debug)]
struct Presented {
    right: Arc<CertifiedKey>,
    faults: Faults,
    provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !self.faults.decide(Operation::Connect, "").0.wrong_certificate {
            return Some(self.right.clone());
        }
        let names = hello.server_name().map(str::to_owned).into_iter().collect::<Vec<_>>();
        let wrong = rcgen::generate_simple_self_signed(names).ok()?;
        let key = PrivateKeyDer::try_from(wrong.signing_key.serialize_der()).ok()?;
        CertifiedKey::from_der(vec![wrong.cert.into()], key, &self.provider).ok().map(Arc::new)
    }
}

/// Asks for a client certificate and only proves that the client holds its key (Go's `RequestClientCert`).
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Connection {
    /// Who is calling.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
