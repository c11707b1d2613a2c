//! A certificate as the operator reads it: parsed once, plain fields, the PEM kept byte for byte.
//!
//! The PEM is kept because Fabric compares identities by their bytes: the same text goes into files, channel
//! configuration and signatures.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::attributes::{self, Attributes};

/// A parsed certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pem: String,
    der: Vec<u8>,
    serial: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    common_name: Option<String>,
    organization: Option<String>,
    organizational_units: Vec<String>,
    plain_subject: bool,
    not_before: Timestamp,
    not_after: Timestamp,
    is_ca: bool,
    may_sign_certificates: bool,
    subject_key_id: Option<Vec<u8>>,
    names: BTreeSet<String>,
    attributes: Attributes,
    public_point: Vec<u8>,
}

/// Why a text is no usable certificate.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// No PEM certificate in it.
    #[error("the certificate is not PEM: it must start with -----BEGIN CERTIFICATE-----")]
    NotPem,
    /// More than one.
    #[error(
        "{0} certificates where exactly one is wanted: keep only the certificate of the key itself, without its chain"
    )]
    MoreThanOne(usize),
    /// PEM with broken content.
    #[error("the certificate cannot be decoded: {0}")]
    Malformed(String),
    /// A key of another algorithm or curve.
    #[error("the certificate's key is not ECDSA P-256 but {found}: only ECDSA P-256 is accepted")]
    UnsupportedAlgorithm {
        /// What it is.
        found: String,
    },
}

impl Certificate {
    /// Reads exactly one PEM certificate with an ECDSA P-256 key.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let blocks: Vec<Pem> = Pem::iter_from_buffer(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let mut certificates = blocks.into_iter().filter(|block| block.label == "CERTIFICATE");
        let first = certificates.next().ok_or(CertificateError::NotPem)?;
        match certificates.count() {
            0 => Self::from_der(text.to_owned(), first.contents),
            more => Err(CertificateError::MoreThanOne(more + 1)),
        }
    }

    fn from_der(pem: String, der: Vec<u8>) -> Result<Self, CertificateError> {
        let malformed = |what: &dyn std::fmt::Display| CertificateError::Malformed(what.to_string());
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes follow the certificate"));
        }
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| malformed(&error))
        };
        let public_point = p256_point(&parsed)?;
        let constraints = parsed.basic_constraints().map_err(|error| malformed(&error))?;
        let usage = parsed.key_usage().map_err(|error| malformed(&error))?;
        let subject = parsed.subject();
        Ok(Self {
            serial: parsed.raw_serial().to_vec(),
            subject: subject.as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            common_name: texts(subject.iter_common_name()).into_iter().next(),
            organization: texts(subject.iter_organization()).into_iter().next(),
            plain_subject: subject.iter().count() > 0 && subject.iter().all(|rdn| rdn.iter().count() == 1),
            organizational_units: texts(subject.iter_organizational_unit()),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            is_ca: constraints.is_some_and(|extension| extension.value.ca),
            may_sign_certificates: usage.is_none_or(|extension| extension.value.key_cert_sign()),
            subject_key_id: subject_key_id(&parsed),
            names: alternative_names(&parsed).map_err(|error| malformed(&error))?,
            attributes: stated(&parsed).map_err(|error| malformed(&error))?,
            public_point,
            pem,
            der,
        })
    }

    /// The text it was read from or written as.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The encoded certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Serial number, lower-case hexadecimal.
    pub fn serial(&self) -> String {
        hex::encode(&self.serial)
    }

    /// First common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// First organisation name of the subject.
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// Whether the subject is not empty and has one attribute in each RDN.
    pub fn has_plain_subject(&self) -> bool {
        self.plain_subject
    }

    /// Organizational units of the subject; Fabric's NodeOUs read the node's role from them.
    pub fn organizational_units(&self) -> &[String] {
        &self.organizational_units
    }

    /// First moment of validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last moment of validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether basicConstraints say that it is a CA.
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Whether keyUsage is absent or has keyCertSign.
    pub fn may_sign_certificates(&self) -> bool {
        self.may_sign_certificates
    }

    /// SHA-256 of the public key, lower-case hexadecimal: what stays the same when the certificate is renewed.
    pub fn key_id(&self) -> String {
        hex::encode(Sha256::digest(self.public_point()))
    }

    /// The subjectKeyIdentifier.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// DNS names and IP addresses (in their usual notation) of subjectAltName.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// What it states of its holder.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The public key as an uncompressed SEC1 point (65 bytes).
    pub fn public_point(&self) -> &[u8] {
        &self.public_point
    }

    /// The subject as it stands in the encoding.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer as it stands in the encoding.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Whether `ca` issued this certificate: its name, and its signature.
    pub fn is_issued_by(&self, ca: &Certificate) -> bool {
        if self.issuer != ca.subject {
            return false;
        }
        match (X509Certificate::from_der(&self.der), X509Certificate::from_der(&ca.der)) {
            (Ok((_, own)), Ok((_, ca))) => own.verify_signature(Some(ca.public_key())).is_ok(),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("common_name", &self.common_name)
            .field("serial", &self.serial())
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn texts<'a>(attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn stated(certificate: &X509Certificate<'_>) -> Result<Attributes, &'static str> {
    let extension = certificate.iter_extensions().find(|e| e.oid.to_id_string() == attributes::EXTENSION_TEXT);
    extension.map_or_else(|| Ok(Attributes::default()), |extension| Attributes::decode(extension.value))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Result<BTreeSet<String>, x509_parser::error::X509Error> {
    let Some(extension) = certificate.subject_alternative_name()? else {
        return Ok(BTreeSet::new());
    };
    let names = extension.value.general_names.iter();
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
                16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect())
}

/// The public point of a P-256 key; says what another key is.
fn p256_point(certificate: &X509Certificate<'_>) -> Result<Vec<u8>, CertificateError> {
    use x509_parser::oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    };
    let spki = certificate.public_key();
    let algorithm = &spki.algorithm.algorithm;
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let found = if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        match curve {
            Some(curve) if curve == OID_EC_P256 => {
                // Fabric and Go write points uncompressed; a compressed one is legal and read as well.
                return p256::PublicKey::from_sec1_bytes(&spki.subject_public_key.data)
                    .map(|key| p256::EncodedPoint::from(key).as_bytes().to_vec())
                    .map_err(|_| CertificateError::Malformed("its public key is not a point of P-256".into()));
            }
            Some(curve) if curve == OID_NIST_EC_P384 => "ECDSA P-384".into(),
            Some(curve) if curve == OID_NIST_EC_P521 => "ECDSA P-521".into(),
            Some(curve) => format!("ECDSA on curve {curve}"),
            None => "ECDSA on an unnamed curve".into(),
        }
    } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
        "RSA".into()
    } else if *algorithm == OID_SIG_ED25519 {
        "Ed25519".into()
    } else {
        format!("of algorithm {algorithm}")
    };
    Err(CertificateError::UnsupportedAlgorithm { found })
}
