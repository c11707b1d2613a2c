//! Certificate authorities: made here, brought by the user, or made again with the same key.

use std::time::Duration;

use jiff::Timestamp;
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use super::certificate::Certificate;
use super::key::PrivateKey;
use super::{KeyPairError, PkiError};

/// How far a new CA starts before now: further than any leaf (see `leaf::BACKDATE`), because Fabric judges a chain at the leaf's start.
pub const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// Longest text of a common or organisation name (RFC 5280, ub-common-name and ub-organization-name).
const MAX_NAME: usize = 64;

/// Subject of a new CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityName {
    /// Common name, at most 64 characters.
    pub common_name: String,
    /// Organisation name, at most 64 characters.
    pub organization: Option<String>,
}

/// A CA: its certificate and the key that signs.
#[derive(Clone, Debug)]
pub struct Authority {
    certificate: Certificate,
    key: PrivateKey,
}

impl Authority {
    /// A new self-signed CA for leaves (path length 0), valid from `BACKDATE` before `now` until `validity` after it.
    pub fn generate(name: &AuthorityName, validity: Duration, now: Timestamp) -> Result<Self, PkiError> {
        let key = PrivateKey::generate();
        let start = now.checked_sub(BACKDATE).map_err(|_| PkiError::Validity(BACKDATE))?;
        let subject = subject(&name.common_name, None, name.organization.as_deref())?;
        let params = ca_params(subject, start, end(now, validity)?)?;
        Ok(Self { certificate: own(params.self_signed(&key)?.pem())?, key })
    }

    /// Reads a stored CA and checks everything but its dates.
    ///
    /// # Errors
    /// The first thing that is wrong with the pair, in words for its owner.
    pub fn parse(certificate_pem: &str, key_pem: &str) -> Result<Self, KeyPairError> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        let key = PrivateKey::from_pem(key_pem)?;
        if !certificate.is_ca() {
            return Err(KeyPairError::NotACa);
        }
        if !certificate.may_sign_certificates() {
            return Err(KeyPairError::MayNotSign);
        }
        if certificate.subject_key_id().is_none() {
            return Err(KeyPairError::NoSubjectKeyId);
        }
        let authority = Self { certificate, key };
        if !authority.can_be_an_issuer() {
            return Err(KeyPairError::UnsupportedSubject);
        }
        if authority.certificate.public_point() != authority.key.public_point() {
            return Err(KeyPairError::KeyMismatch);
        }
        Ok(authority)
    }

    /// Reads a stored CA that is to issue now.
    ///
    /// # Errors
    /// As [`Authority::parse`], and `NotYetValid` or `Expired`.
    pub fn load(certificate_pem: &str, key_pem: &str, now: Timestamp) -> Result<Self, KeyPairError> {
        let authority = Self::parse(certificate_pem, key_pem)?;
        authority.check_dates(now)?;
        Ok(authority)
    }

    /// Whether `now` lies within the CA's validity.
    pub fn check_dates(&self, now: Timestamp) -> Result<(), KeyPairError> {
        let (not_before, not_after) = (self.certificate.not_before(), self.certificate.not_after());
        if now < not_before {
            return Err(KeyPairError::NotYetValid { not_before });
        }
        if now >= not_after {
            return Err(KeyPairError::Expired { not_after });
        }
        Ok(())
    }

    /// The same CA (key, subject, key identifier, start of validity) with a new end: everything it issued stays valid.
    ///
    /// # Errors
    /// `UnsupportedSubject` for a CA that was not made by [`Authority::generate`]: that one is its owner's to renew.
    pub fn reissue(&self, validity: Duration, now: Timestamp) -> Result<Self, PkiError> {
        let (old, foreign) = (&self.certificate, PkiError::Authority(KeyPairError::UnsupportedSubject));
        let Some(common_name) = old.common_name() else {
            return Err(foreign);
        };
        let subject = subject(common_name, None, old.organization())?;
        let mut params = ca_params(subject, old.not_before(), end(now, validity)?)?;
        if let Some(id) = old.subject_key_id() {
            params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(id.to_vec());
        }
        let certificate = own(params.self_signed(&self.key)?.pem())?;
        if certificate.subject() != old.subject() || old.issuer() != old.subject() {
            return Err(foreign);
        }
        Ok(Self { certificate, key: self.key.clone() })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's private key, to be stored and nothing else.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, &PrivateKey>, PkiError> {
        Ok(Issuer::from_ca_cert_der(&CertificateDer::from(self.certificate.der()), &self.key)?)
    }

    /// Whether the subject survives the way into the issuer field of a certificate: Go compares the two byte by byte.
    fn can_be_an_issuer(&self) -> bool {
        if !self.certificate.has_plain_subject() {
            return false;
        }
        let trial = self.issuer().and_then(|issuer| Ok(CertificateParams::default().signed_by(&self.key, &issuer)?));
        trial.and_then(|trial| own(trial.pem())).is_ok_and(|trial| trial.issuer() == self.certificate.subject())
    }
}

fn ca_params(subject: DistinguishedName, start: Timestamp, end: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, start, end)?;
    Ok(params)
}

/// Reads back what was just made, so that nobody relies on a certificate that does not parse.
pub(super) fn own(pem: String) -> Result<Certificate, PkiError> {
    Certificate::from_pem(&pem).map_err(|error| PkiError::Encoding(error.to_string()))
}

/// Subject of a certificate: CN, the role (OU) where there is one, O.
pub(super) fn subject(
    common_name: &str,
    unit: Option<&str>,
    organization: Option<&str>,
) -> Result<DistinguishedName, PkiError> {
    let mut subject = DistinguishedName::new();
    let attributes = [
        (DnType::CommonName, Some(common_name)),
        (DnType::OrganizationalUnitName, unit),
        (DnType::OrganizationName, organization),
    ];
    for (kind, text) in attributes {
        let Some(text) = text else { continue };
        if text.is_empty() || text.chars().count() > MAX_NAME {
            let cause = format!("it must have 1 to {MAX_NAME} characters");
            return Err(PkiError::Name { name: text.to_owned(), cause });
        }
        subject.push(kind, text);
    }
    Ok(subject)
}

/// Sets validity and a random serial number: rcgen's default serial is made from the key, and renewal keeps the key.
pub(super) fn set_validity(params: &mut CertificateParams, start: Timestamp, end: Timestamp) -> Result<(), PkiError> {
    let calendar = |time: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(time.as_second())
            .map_err(|error| PkiError::Encoding(error.to_string()))
    };
    params.not_before = calendar(start)?;
    params.not_after = calendar(end)?;
    let mut serial = [0u8; 16];
    rand::rng().fill_bytes(&mut serial);
    // Positive, and of the same length every time.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

/// `now` + `validity`.
pub(super) fn end(now: Timestamp, validity: Duration) -> Result<Timestamp, PkiError> {
    let seconds = i64::try_from(validity.as_secs()).map_err(|_| PkiError::Validity(validity))?;
    if seconds == 0 {
        return Err(PkiError::Validity(validity));
    }
    now.checked_add(jiff::SignedDuration::from_secs(seconds)).map_err(|_| PkiError::Validity(validity))
}
