//! The kubelet's probes: TCP, and HTTP(S) without looking at the certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// Whether the probe succeeds, within its timeout.
pub async fn succeeds(probe: &Probe, container: &Container, address: Ipv4Addr) -> bool {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    let answer = async {
        if let Some(tcp) = &probe.tcp_socket {
            return TcpStream::connect((address, known_port(&tcp.port, container))).await.is_ok();
        }
        let Some(get) = &probe.http_get else { panic!("a probe that is not expected: {probe:?}") };
        http_get(get, SocketAddr::from((address, known_port(&get.port, container))))
            .await
            .is_some_and(|code| (200..400).contains(&code))
    };
    tokio::time::timeout(limit, answer).await.unwrap_or(false)
}

/// How often the probe runs.
pub fn period(probe: &Probe) -> Duration {
    Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1) as u64)
}

/// The number of a port that may be given by the name the container has for it.
pub fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port)
        }
    };
    number.and_then(|number| number.try_into().ok())
}

fn known_port(wanted: &IntOrString, container: &Container) -> u16 {
    port(wanted, container).unwrap_or_else(|| panic!("container {} has no port {wanted:?}", container.name))
}

async fn http_get(get: &HTTPGetAction, address: SocketAddr) -> Option<u16> {
    let stream = TcpStream::connect(address).await.ok()?;
    let path = get.path.as_deref().unwrap_or("/");
    let request = hyper::Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new()).ok()?;
    if get.scheme.as_deref() == Some("HTTPS") {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting()));
        let stream = connector.connect(ServerName::from(address.ip()), stream).await.ok()?;
        status(TokioIo::new(stream), request).await
    } else {
        status(TokioIo::new(stream), request).await
    }
}

async fn status<S>(stream: S, request: hyper::Request<Empty<Bytes>>) -> Option<u16>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
    tokio::select! {
        biased;
        answer = sender.send_request(request) => Some(answer.ok()?.status().as_u16()),
        _ = connection => None,
    }
}

fn trusting() -> ClientConfig {
    ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth()
}

/// The kubelet does not verify the certificate of what it probes.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}
