//! Policies: what the hospitals agreed on, versioned, the only source of decisions beside the consents.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Puts a policy, or a new version of it. It takes effect in the block that carries it. For administrators, once more
/// than half of the member hospitals agree: the caller's does by this call, the others by [`ApprovePolicy`] before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutPolicy {
    /// Name, that of the ConsentPolicy resource.
    pub name: String,
    /// [`ehrnet_consent::Policy::canonical_json`], as JSON. Another spelling of it is refused: the digest on the ledger
    /// is that of these very bytes.
    pub policy: Value,
    /// Version that this one replaces: 0 for none. Another one on the ledger is an error, so that nobody overwrites
    /// what they have not seen.
    pub replaces: u64,
}

/// Agrees, for the caller's hospital, to what is to become the next version of a policy. For administrators. It counts
/// until that version stands on the ledger; another approval of the same hospital takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovePolicy {
    /// Name.
    pub name: String,
    /// Digest of the policy ([`ehrnet_consent::Policy::digest`]); empty for its withdrawal.
    pub digest: String,
    /// Version that is replaced: 0 for none.
    pub replaces: u64,
}

/// That a hospital agrees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyApproval {
    /// Name of the policy.
    pub name: String,
    /// Version that is agreed to.
    pub version: u64,
    /// Its digest; empty for a withdrawal.
    pub digest: String,
    /// MSP of the hospital.
    pub msp_id: String,
    /// Time of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// Whether the hospital had agreed to just this before: then nothing is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// Takes a policy out of force and frees its scope. For administrators; the hospitals agree as to a policy.
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
    /// MSPs of the hospitals that agree, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<String>,
}
