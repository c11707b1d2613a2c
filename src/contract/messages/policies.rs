//! Policies: what the hospitals agreed on, versioned, the only source of decisions beside the consents.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Puts a policy, or a new version of it. It takes effect in the block that carries it. For administrators; how many
/// hospitals have to agree is the endorsement policy of the chaincode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutPolicy {
    /// Name, that of the ConsentPolicy resource.
    pub name: String,
    /// [`crate::consent::Policy::canonical_json`], as JSON. Another spelling of it is refused: the digest on the ledger
    /// is that of these very bytes.
    pub policy: Value,
    /// Version that this one replaces: 0 for none. Another one on the ledger is an error, so that nobody overwrites
    /// what they have not seen.
    pub replaces: u64,
}

/// Takes a policy out of force and frees its scope. For administrators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WithdrawPolicy {
    /// Name.
    pub name: String,
    /// Version that is withdrawn.
    pub replaces: u64,
}

/// Reads a policy. For everybody of the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetPolicy {
    /// Name.
    pub name: String,
    /// Version; the newest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A version of a policy on the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    /// Name.
    pub name: String,
    /// Version, from 1; 0 if there is no such policy (then everything else is empty).
    pub version: u64,
    /// SHA-256 of the canonical JSON, lower-case hexadecimal; empty if withdrawn.
    pub digest: String,
    /// The policy; none if withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
    /// Time of the transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The transaction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tx_id: String,
    /// MSP of the administrator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
}
