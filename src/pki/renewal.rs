//! Whether a stored certificate must be made again, as a chain of pure checks, and when to look next.
//!
//! Each check answers one question; the first that objects names the reason. Renewal keeps the key wherever the key can
//! be used: a consenter of a channel is known by its TLS key, so a new key costs a configuration update.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::certificate::Certificate;
use super::key::PrivateKey;
use super::leaf::{Leaf, Profile};

/// Validity of a certificate and the window before its end in which it is renewed.
///
/// `renew_before` is shorter than `validity` (the schema of `Lifetime` sees to it), so a fresh certificate is never due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long a certificate is valid.
    pub validity: Duration,
    /// How long before its end it is renewed.
    pub renew_before: Duration,
}

/// Why a certificate is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewalReason {
    /// The stored key cannot be read; holds the cause.
    KeyUnreadable(String),
    /// The stored certificate cannot be read; holds the cause.
    CertificateUnreadable(String),
    /// The stored key is not the certificate's.
    KeyMismatch,
    /// Another CA, or another key of the CA, must sign it.
    IssuerChanged,
    /// Common name or NodeOU role differ.
    SubjectChanged,
    /// What it states of its holder differs; the attributes themselves are not told.
    AttributesChanged,
    /// The names it is reached by differ.
    NamesChanged {
        /// Names that it lacks.
        missing: Vec<String>,
        /// Names that it has and should not have.
        surplus: Vec<String>,
    },
    /// Validity is over.
    Expired,
    /// Validity ends within the renewal window.
    EndsSoon,
}

impl RenewalReason {
    /// Whether the stored pair was damaged, so that a new certificate may stand for another key than before. For a node
    /// that is a consenter that means a new member of the channel: not to be done in passing.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::KeyUnreadable(_) | Self::CertificateUnreadable(_) | Self::KeyMismatch)
    }
}

impl std::fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KeyUnreadable(cause) | Self::CertificateUnreadable(cause) => f.write_str(cause),
            Self::KeyMismatch => f.write_str("the stored key does not belong to the stored certificate"),
            Self::IssuerChanged => f.write_str("it was not issued by the CA that is now in use"),
            Self::SubjectChanged => f.write_str("its common name or role changed"),
            Self::AttributesChanged => f.write_str("its attributes changed"),
            Self::NamesChanged { missing, surplus } => {
                let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                write!(f, "its names changed (missing: {}; no longer wanted: {})", list(missing), list(surplus))
            }
            Self::Expired => f.write_str("it expired"),
            Self::EndsSoon => f.write_str("it expires soon"),
        }
    }
}

/// What a stored leaf is measured by.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Subject, role and names.
    pub leaf: &'a Leaf,
    /// The CA that must have issued it.
    pub issuer: &'a Certificate,
    /// Validity and renewal window.
    pub window: Window,
    /// The present.
    pub now: Timestamp,
}

/// A check of a stored pair that can be read.
type Check = fn(&Certificate, &PrivateKey, &Wanted<'_>) -> Option<RenewalReason>;

/// What makes the pair useless comes first, what merely ages last.
const CHECKS: [Check; 7] =
    [key_mismatch, issuer_changed, subject_changed, attributes_changed, names_changed, expired, ends_soon];

/// Why a pair that can be read must be made again; `None` while it is good.
pub fn leaf(certificate: &Certificate, key: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    CHECKS.iter().find_map(|check| check(certificate, key, wanted))
}

/// When a leaf becomes due; `None` if a new one could not last longer, because it ends with its CA.
pub fn leaf_due(certificate: &Certificate, issuer: &Certificate, window: Window) -> Option<Timestamp> {
    (issuer.not_after() > certificate.not_after()).then(|| due(certificate, window))
}

/// Why a CA that the operator made must be issued again (with the same key); `None` while it is good.
pub fn authority(certificate: &Certificate, window: Window, now: Timestamp) -> Option<RenewalReason> {
    if now >= certificate.not_after() {
        return Some(RenewalReason::Expired);
    }
    (now >= authority_due(certificate, window)).then_some(RenewalReason::EndsSoon)
}

/// When a CA that the operator made becomes due.
pub fn authority_due(certificate: &Certificate, window: Window) -> Timestamp {
    due(certificate, window)
}

/// How long to sleep until the first of `due` comes; zero if it has come, `None` if there is none.
pub fn next_wake_up(due: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Option<Duration> {
    let first = due.into_iter().min()?;
    Some(Duration::try_from(first.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Start of the renewal window.
fn due(certificate: &Certificate, window: Window) -> Timestamp {
    let before = SignedDuration::try_from(window.renew_before).unwrap_or(SignedDuration::MAX);
    certificate.not_after().saturating_sub(before).unwrap_or(Timestamp::MIN)
}

fn key_mismatch(certificate: &Certificate, key: &PrivateKey, _: &Wanted<'_>) -> Option<RenewalReason> {
    (certificate.public_point() != key.public_point()).then_some(RenewalReason::KeyMismatch)
}

/// By signature, not by bytes: a CA that was issued again with its key is the same CA.
fn issuer_changed(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    (!certificate.is_issued_by(wanted.issuer)).then_some(RenewalReason::IssuerChanged)
}

fn subject_changed(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    let role: Vec<&str> = wanted.leaf.role().map(|role| role.as_str()).into_iter().collect();
    let same =
        certificate.common_name() == Some(&wanted.leaf.common_name) && certificate.organizational_units() == role;
    (!same).then_some(RenewalReason::SubjectChanged)
}

fn attributes_changed(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    let Profile::Enrolment { attributes, .. } = &wanted.leaf.profile else {
        return None;
    };
    (certificate.attributes() != attributes).then_some(RenewalReason::AttributesChanged)
}

fn names_changed(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    let Profile::Tls { names } = &wanted.leaf.profile else {
        return None;
    };
    let missing: Vec<String> = names.names().difference(certificate.names()).cloned().collect();
    let surplus: Vec<String> = certificate.names().difference(names.names()).cloned().collect();
    (!missing.is_empty() || !surplus.is_empty()).then_some(RenewalReason::NamesChanged { missing, surplus })
}

fn expired(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    (wanted.now >= certificate.not_after()).then_some(RenewalReason::Expired)
}

fn ends_soon(certificate: &Certificate, _: &PrivateKey, wanted: &Wanted<'_>) -> Option<RenewalReason> {
    let due = leaf_due(certificate, wanted.issuer, wanted.window)?;
    (wanted.now >= due).then_some(RenewalReason::EndsSoon)
}
