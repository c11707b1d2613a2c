//! Consents: given and revoked by the patient, kept in every version.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, Person};
use ehrnet_consent::vocabulary::Period;

/// Puts a consent, or a new version of it. For the patient or a delegate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutConsent {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the consent, which must not tell anything: 1 to 64 of `a-z 0-9 -`.
    pub consent: String,
    /// Greater than that of every change of this consent before; starts at 1. A revocation counts as a change.
    pub seq: u64,
}

/// Transient entry `consent`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsentSecret {
    /// 32 random bytes, in hexadecimal.
    pub salt: String,
    /// FHIR Consent resource, R4 or R5, with status `active`. Its patient, if named as `Patient/<pseudonym>`, must be
    /// the one of the argument; any other name is replaced by it. Elements that do not decide are left out.
    pub resource: Value,
    /// SHA-256 of the signed document, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    /// Who gave the consent, in words or as a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performer: Option<String>,
}

/// Revokes a consent in the block that carries this. For the patient or a delegate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeConsent {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the consent.
    pub consent: String,
    /// Greater than that of every change of this consent before.
    pub seq: u64,
}

/// Whether a consent counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsentStatus {
    /// It counts, within its period.
    Active,
    /// It was revoked.
    Inactive,
}

/// One version of a consent, on the public ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsentVersion {
    /// Pseudonym.
    pub patient: String,
    /// Id of the consent.
    pub consent: String,
    /// Which change of the consent this is.
    pub seq: u64,
    /// Whether it counts.
    pub status: ConsentStatus,
    /// Salted hash of the consent in canonical JSON, without what does not decide; a revocation keeps that of what it
    /// revokes.
    pub digest: String,
    /// Version of the reading of documents that it was put under; 0 before these were counted. It is decided by the reading
    /// of the contract that decides; one that was put under another reading permits nothing until it is put again, because
    /// elements may be missing that the reading of today would have kept.
    #[serde(default)]
    pub reading: u32,
    /// The policy that said how documents are read when it was put; none if none was in force. What the consent denied read with
    /// it, it denies as long as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_with: Option<PolicyRef>,
    /// When the consent holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Time of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// MSP of the signer.
    pub signer_msp: String,
    /// The signer: [`crate::hash::actor`].
    pub signer: String,
    /// What is private; in answers to who may read it, never on the public ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<ConsentDetail>>,
}

/// A version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of the ConsentPolicy.
    pub name: String,
    /// Its version on the ledger.
    pub version: u64,
}

/// What is private of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsentDetail {
    /// The resource, as far as it decides; none of a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Value>,
    /// SHA-256 of the signed document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    /// Who gave the consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performer: Option<String>,
    /// Who signed the change.
    pub signer: Person,
}

/// The newest version of each consent of a patient. For the patient, a delegate or a privacy officer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetConsents {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Which part.
    #[serde(default)]
    pub page: Page,
}

/// Every version of one consent, oldest first. For the patient, a delegate or a privacy officer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsentHistory {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the consent.
    pub consent: String,
    /// Which part.
    #[serde(default)]
    pub page: Page,
}

/// A part of a list of consents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsentPage {
    /// Versions, in order.
    pub consents: Vec<ConsentVersion>,
    /// Where the next part begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}
