//! Identities: certificate authorities, the certificates they issue, and when to renew them.
//!
//! Everything is ECDSA P-256 with low-S signatures, as Fabric's MSP wants it (Fabric: `docs/source/msp.rst`,
//! `msp/mspimpl.go`). No Kubernetes types, no clock (`now` is an argument) and no I/O but the random numbers of new keys.
//!
//! Traps:
//! - Fabric judges a chain at the leaf's `notBefore` + 1 s, not now. A leaf therefore never starts before its CA, a CA
//!   starts earlier than now, and a CA that is issued again keeps its first `notBefore`, or every older leaf dies.
//! - A leaf never outlives its CA. One that ends with its CA is not "due": a new one would end at the same time, and the
//!   operator would renew for ever.
//! - An enrolment certificate has exactly one NodeOU role and no extended key usage: Go reads the absence as "any use
//!   the MSP asks for", while `clientAuth` alone makes the MSP refuse it.

pub mod attributes;
pub mod authority;
pub mod certificate;
pub mod key;
pub mod leaf;
pub mod renewal;
#[cfg(test)]
mod tests;

pub use attributes::Attributes;
pub use authority::{Authority, AuthorityName};
pub use certificate::{Certificate, CertificateError};
pub use key::{KeyError, PrivateKey};
pub use leaf::{Leaf, Profile, Role, SubjectAltNames};
pub use renewal::{RenewalReason, Wanted, Window};

/// Why a stored key pair cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyPairError {
    /// The certificate is unusable.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The private key is unusable.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Both are fine, but they are not a pair.
    #[error(
        "the private key does not belong to the certificate: put the key that the certificate was made for beside it"
    )]
    KeyMismatch,
    /// A CA certificate was wanted.
    #[error("the certificate is not a CA certificate: basicConstraints must say CA:TRUE")]
    NotACa,
    /// The certificate is of a CA that must not sign.
    #[error("the CA certificate may not sign certificates: its keyUsage lacks keyCertSign")]
    MayNotSign,
    /// Fabric's MSP finds CAs by this extension.
    #[error("the CA certificate has no subjectKeyIdentifier, which Fabric demands of every CA")]
    NoSubjectKeyId,
    /// The subject cannot be copied into the issuer field of new certificates.
    #[error(
        "the CA's subject cannot be used as an issuer: write every attribute type (CN, O, DC, ...) once, in an RDN of its own"
    )]
    UnsupportedSubject,
    /// Validity has not begun.
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid {
        /// Start of validity.
        not_before: jiff::Timestamp,
    },
    /// Validity is over.
    #[error("the certificate expired at {not_after}")]
    Expired {
        /// End of validity.
        not_after: jiff::Timestamp,
    },
}

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PkiError {
    /// The CA cannot sign now.
    #[error("the CA cannot issue: {0}")]
    Authority(#[from] KeyPairError),
    /// A name does not fit into a certificate.
    #[error("{name:?} cannot stand in a certificate: {cause}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The validity is not a usable length of time.
    #[error("a validity of {0:?} cannot be written into a certificate")]
    Validity(std::time::Duration),
    /// The encoder refused.
    #[error("failed to encode the certificate: {0}")]
    Encoding(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}
