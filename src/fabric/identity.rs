//! Identities that sign: a certificate, its MSP and its P-256 key.
//!
//! The trap: Fabric refuses signatures whose S is in the upper half of the curve's order, which ring makes half of the
//! time; p256 is used because it can normalise them. The certificate's bytes are part of what is signed and must be the
//! same everywhere, the last newline included.

use std::fmt;

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::DecodePrivateKey;
use prost::Message;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::proto::msp::SerializedIdentity;

/// An organization's identity with its private key, which never leaves this struct.
pub struct SigningIdentity {
    msp_id: String,
    certificate_pem: String,
    serialized: Vec<u8>,
    key: SigningKey,
}

/// Why a certificate and key cannot sign.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate cannot be read.
    #[error("certificate of {msp_id} is not usable: {reason}")]
    Certificate {
        /// MSP of the identity.
        msp_id: String,
        /// What is wrong.
        reason: String,
    },
    /// The key cannot be read. The reason is left out on purpose: it could quote the key.
    #[error("private key of {msp_id} is not a P-256 key in PKCS#8 PEM (-----BEGIN PRIVATE KEY-----)")]
    Key {
        /// MSP of the identity.
        msp_id: String,
    },
    /// Certificate and key are not a pair.
    #[error("private key of {msp_id} does not belong to its certificate")]
    NotAPair {
        /// MSP of the identity.
        msp_id: String,
    },
}

impl SigningIdentity {
    /// An identity from its certificate (PEM) and its P-256 key (PKCS#8 PEM).
    pub fn new(msp_id: &str, certificate_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let msp_id = msp_id.to_owned();
        let public = public_key(certificate_pem.as_bytes())
            .map_err(|reason| IdentityError::Certificate { msp_id: msp_id.clone(), reason })?;
        let key = SigningKey::from_pkcs8_pem(key_pem).map_err(|_| IdentityError::Key { msp_id: msp_id.clone() })?;
        if *key.verifying_key() != public {
            return Err(IdentityError::NotAPair { msp_id });
        }
        let serialized =
            SerializedIdentity { mspid: msp_id.clone(), id_bytes: certificate_pem.as_bytes().to_vec() }.encode_to_vec();
        Ok(Self { msp_id, certificate_pem: certificate_pem.to_owned(), serialized, key })
    }

    /// Name of the MSP.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate, as given.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// `msp.SerializedIdentity` as bytes: what Fabric calls the creator.
    pub fn serialized(&self) -> &[u8] {
        &self.serialized
    }

    /// ECDSA over SHA-256 of `message`: DER, S in the lower half.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.normalize_s().unwrap_or(signature).to_der().as_bytes().to_vec()
    }
}

impl fmt::Debug for SigningIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningIdentity").field("msp_id", &self.msp_id).finish_non_exhaustive()
    }
}

/// Whether `signature` is what Fabric accepts as the certificate's signature of `message`.
///
/// # Errors
/// The reason in words: no P-256 certificate, not DER, S in the upper half, or not the signature.
pub fn verify(certificate_pem: &[u8], message: &[u8], signature: &[u8]) -> Result<(), String> {
    let key = public_key(certificate_pem)?;
    let signature = Signature::from_der(signature).map_err(|_| "the signature is not DER".to_owned())?;
    if signature.normalize_s().is_some() {
        return Err("invalid S: must be smaller than half the order".into());
    }
    key.verify(message, &signature).map_err(|_| "the signature does not match".into())
}

fn public_key(certificate_pem: &[u8]) -> Result<VerifyingKey, String> {
    let der = pem_to_der(certificate_pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| format!("not an X.509 certificate: {e}"))?;
    VerifyingKey::from_sec1_bytes(&certificate.public_key().subject_public_key.data)
        .map_err(|_| "its public key is not on P-256".into())
}

/// What nodes know a certificate by, so that a renewed one is the same: its public key, and the CA that vouches for it.
pub(super) fn known_by(certificate_pem: &[u8]) -> Result<Vec<u8>, String> {
    let der = pem_to_der(certificate_pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| format!("not an X.509 certificate: {e}"))?;
    let authority = certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
        _ => None,
    });
    let parts = [certificate.public_key().raw, certificate.issuer().as_raw(), authority.unwrap_or_default()];
    Ok(parts.concat())
}

/// DER of the first PEM block, which must be a certificate.
pub(super) fn pem_to_der(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| format!("not PEM: {e}"))?;
    if block.label != "CERTIFICATE" {
        return Err(format!("PEM block is {:?}, not a certificate", block.label));
    }
    Ok(block.contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    #[test]
    fn signatures_verify_and_are_low_s() {
        let identity = Ca::new("ca").identity("OrgMSP", "admin");
        for n in 0..64_u8 {
            let signature = identity.sign(&[n]);
            assert_eq!(verify(identity.certificate_pem().as_bytes(), &[n], &signature), Ok(()));
            assert!(Signature::from_der(&signature).expect("der").normalize_s().is_none());
        }
    }

    #[test]
    fn high_s_is_refused_with_fabrics_words() {
        let identity = Ca::new("ca").identity("OrgMSP", "admin");
        let low = Signature::from_der(&identity.sign(b"m")).expect("der");
        let (r, s) = low.split_scalars();
        let high = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).expect("signature");
        let error = verify(identity.certificate_pem().as_bytes(), b"m", high.to_der().as_bytes());
        assert_eq!(error, Err("invalid S: must be smaller than half the order".into()));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let ca = Ca::new("ca");
        let (certificate, _) = ca.issue("admin");
        let (_, key) = ca.issue("admin");
        let error = SigningIdentity::new("OrgMSP", &certificate, &key).expect_err("not a pair");
        assert_eq!(error, IdentityError::NotAPair { msp_id: "OrgMSP".into() });
    }

    #[test]
    fn debug_and_errors_do_not_show_the_key() {
        let ca = Ca::new("ca");
        let (certificate, key) = ca.issue("admin");
        let identity = SigningIdentity::new("OrgMSP", &certificate, &key).expect("identity");
        assert_eq!(format!("{identity:?}"), r#"SigningIdentity { msp_id: "OrgMSP", .. }"#);
        let broken = key.replace("PRIVATE KEY", "SECRET");
        let error = SigningIdentity::new("OrgMSP", &certificate, &broken).expect_err("bad key").to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }
}
