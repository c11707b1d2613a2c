//! Certificates as nodes compare them.

use prost::Message;
use x509_parser::prelude::{FromDer, X509Certificate};

use ehrnet_fabric::proto::msp::SerializedIdentity;

/// DER of the first certificate in a PEM text.
pub fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    parse(&block.contents).is_ok().then_some(block.contents)
}

/// Read a certificate.
///
/// # Errors
/// It is none.
pub fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| format!("parseCertificate failed: {e}"))
}

/// Whether `ca` signed `below`.
pub fn issued(ca: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
    ca.subject() == below.issuer() && below.verify_signature(Some(ca.public_key())).is_ok()
}

/// When the creator of a message (`msp.SerializedIdentity`) expires, in seconds since 1970; `None` for what is no X.509
/// identity. The trap: an expired identity is still a valid one to policies; nodes refuse its *messages*.
pub fn expires_at(creator: &[u8]) -> Option<i64> {
    let identity = SerializedIdentity::decode(creator).ok()?;
    let der = der(&identity.id_bytes)?;
    parse(&der).ok().map(|certificate| certificate.validity().not_after.timestamp())
}
