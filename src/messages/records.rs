//! Records: registered, moved, verified, read and erased.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use ehrnet_consent::vocabulary::Coding;

/// Registers a record; again for a new version, or for the same content at another storage. The hospital that registers
/// is the record's author and custodian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterRecord {
    /// Id of the record, which must not tell anything: 1 to 64 of `a-z 0-9 -`.
    pub record: String,
    /// Pseudonym of the patient.
    pub patient: String,
    /// 1 for a new record, one more than the registered version for a change.
    pub version: u64,
    /// Kind of record, for example `Observation` of FHIR's resource types.
    pub class: Coding,
    /// v3-Confidentiality: `U`, `L`, `M`, `N`, `R` or `V`.
    pub confidentiality: String,
    /// Sensitivity, for example `PSY` (v3-ActCode). Public: hospitals that must not show it leave it out and raise
    /// the confidentiality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Coding>,
    /// When the content is from: a FHIR date or time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored_on: Option<String>,
    /// Of a large object, for example an image series: how it is cut. The list of chunk hashes stays off the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
}

/// How a large object is cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Number of chunks.
    pub chunks: u32,
    /// Bytes of each chunk but the last.
    pub chunk_size: u64,
}

/// Transient entry `record`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordSecret {
    /// 32 random bytes, in hexadecimal. The same again keeps the hash of unchanged content.
    pub salt: String,
    /// [`crate::hash::document_digest`] of the body.
    pub digest: String,
    /// Where the body is: a URI that the hospital can resolve.
    pub storage: String,
    /// Clinical codes of the record: consents may name them. None known if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<Coding>>,
    /// Digest of the manifest (the JSON list of chunk hashes), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_root: Option<String>,
}

/// A record on the public ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Id.
    pub record: String,
    /// Pseudonym.
    pub patient: String,
    /// Version.
    pub version: u64,
    /// MSP that registered it.
    pub author: String,
    /// [`crate::hash::salted`] hash of the body's digest (32 bytes).
    pub hash: String,
    /// Kind.
    pub class: Coding,
    /// Confidentiality code.
    pub confidentiality: String,
    /// Sensitivity codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Coding>,
    /// When the content is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored_on: Option<String>,
    /// How a large object is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Salted hash of the manifest's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// Time of the transaction that wrote this version.
    pub at: Timestamp,
    /// That transaction.
    pub tx_id: String,
    /// Set when it was erased: salt, storage and codes are purged, the hash is one of nothing that can be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erasure>,
}

/// Tombstone of an erased record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    /// Why.
    pub reason: ErasureReason,
    /// The patient's request, by a reference that tells nothing.
    pub request: String,
    /// When.
    pub at: Timestamp,
}

/// Why a record is erased (GDPR Article 17(1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureReason {
    /// The patient withdrew consent.
    ConsentWithdrawn,
    /// The patient objected.
    Objection,
    /// No longer necessary.
    NoLongerNecessary,
    /// Unlawfully processed, or registered in error.
    Unlawful,
    /// The law demands it.
    LegalObligation,
}

/// Erases a record: purges what is private of it on every peer and leaves a tombstone. For the registrar or privacy
/// officer of the hospital that registered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EraseRecord {
    /// Id of the record.
    pub record: String,
    /// Why.
    pub reason: ErasureReason,
    /// The patient's request, by a reference that tells nothing: 1 to 64 of `a-z 0-9 -`.
    pub request: String,
}

/// Compares a body with what was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyRecord {
    /// Id of the record.
    pub record: String,
    /// [`crate::hash::document_digest`] of the body at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Digest of the manifest at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_root: Option<String>,
}

/// Whether a body is the registered one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Whether everything that was given matches.
    #[serde(rename = "match")]
    pub matches: bool,
    /// The registered version that it was compared with.
    pub version: u64,
    /// Whether the record was erased: then nothing matches.
    pub erased: bool,
}

/// Reads a record's entry; its storage as well, for who may have it: the patient, the registrar of the hospital that
/// registered it, and who holds a decision that permits it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetRecord {
    /// Id of the record.
    pub record: String,
    /// Transaction of a [`super::RequestAccess`] by the caller for this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// A record, with what the caller may know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// The public entry.
    pub record: Record,
    /// Where the body is; none for who may not know, and of an erased record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Why there is no storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}
