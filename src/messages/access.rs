//! Access: requested and decided, tried out, held, and reviewed after break-glass.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AuditEntry;
use ehrnet_consent::decision::{Effect, Obligation, Residual};
use ehrnet_consent::rules::Basis;

/// Requests access. The answer is PERMIT or DENY, and either is committed with an audit entry: release nothing before
/// the commit. What the answer may not say in public (residual rules, obligations, the provision that decided) is read
/// with [`GetDecision`] after the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestAccess {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the record; without it the decision is about all the patient's records and has residual rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// What is to be done: a consentaction code (`access`, `use`, `collect`, `disclose`, `correct`), or `{system, code}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Value>,
    /// Why: one v3-ActReason code (`TREAT`, `HRESCH`, `BTG`), or `{system, code}`.
    pub purpose: Value,
    /// Role that the caller says to have. It counts for nothing: a role that the certificate does not have is a DENY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Code of the research project, for the audit: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Transient entry `access`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessSecret {
    /// 32 random bytes, in hexadecimal: they keep what is written privately from being guessed by its hash.
    pub salt: String,
    /// Why the glass is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
}

/// What [`RequestAccess`] with the same members would be answered now, by the consents of now. Leaves no trace, so
/// nothing may be released on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecideAccess(pub RequestAccess);

/// Answer to [`DecideAccess`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Always false: nobody will know that this was asked.
    pub audited: bool,
    /// The decision.
    #[serde(flatten)]
    pub detail: DecisionDetail,
}

/// A decision with everything that follows from it. Private.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionDetail {
    /// Permit or deny.
    pub decision: Effect,
    /// Layer that decided; `implicit` if the contract denies by itself.
    pub basis: Basis,
    /// Why: a [`ehrnet_consent::rules::Reason`] or a [`Refusal`].
    pub reason: String,
    /// Consent that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// Digest of that consent: [`super::ConsentVersion::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_digest: Option<String>,
    /// Path of the provision that decided, in the consent or the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_path: Option<String>,
    /// What has still to be compared with each record, in order: the last entry that matches wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residual: Vec<Residual>,
    /// What whoever enforces the decision has to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// When the decision must be asked for again, at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Digest of the policy; none where none is on the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
}

/// Why the contract denies whatever the consents say. Stable: audits and scripts match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No such record.
    UnknownRecord,
    /// The record was erased.
    ErasedRecord,
    /// The record is of another patient.
    OtherPatientsRecord,
    /// The certificate does not have the role that the caller says to have.
    RoleNotCertified,
    /// A device writes and does not read.
    DeviceMayNotRead,
}

/// Reads a decision that was committed. For the caller of that [`RequestAccess`], the patient and privacy officers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetDecision {
    /// Transaction of the request.
    pub tx_id: String,
}

/// A committed decision, and whether it still holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDecision {
    /// Whether the patient's consents, the policy and the record are those that it was made from, and it has not
    /// expired. Ask before every release of a key.
    pub current: bool,
    /// The entry, with what is private.
    pub entry: AuditEntry,
}

/// Reviews a use of break-glass. For privacy officers, but not of their own use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BreakGlassReview {
    /// Transaction of the request that broke the glass.
    pub tx_id: String,
    /// What the officer found. The member's name is older than the word.
    #[serde(rename = "verdict")]
    pub outcome: ReviewOutcome,
}

/// What a review found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewOutcome {
    /// It was an emergency.
    Justified,
    /// It was none.
    Unjustified,
}

/// Transient entry `review`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReviewSecret {
    /// 32 random bytes, in hexadecimal.
    pub salt: String,
    /// What the officer found, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// Lists the reviews that are due, the most urgent first. For privacy officers and administrators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListReviews {
    /// Which part.
    #[serde(default)]
    pub page: super::Page,
}

/// A part of a list of reviews.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewPage {
    /// Reviews, by when they are due.
    pub reviews: Vec<Review>,
    /// Where the next part begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}

/// A use of break-glass that was or will be reviewed. Public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Transaction of the request that broke the glass.
    pub tx_id: String,
    /// Pseudonym of the patient.
    pub patient: String,
    /// MSP of who broke it.
    pub actor_msp: String,
    /// Who broke it: [`crate::hash::actor`].
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// When it must have been reviewed.
    pub due_by: Timestamp,
    /// Where the review stands. `overdue` is a matter of the time of asking and never written.
    pub status: ReviewStatus,
    /// MSP of the officer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer_msp: Option<String>,
    /// The officer: [`crate::hash::actor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<String>,
    /// When it was reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed_at: Option<Timestamp>,
}

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewStatus {
    /// To be done.
    Open,
    /// To be done, and late.
    Overdue,
    /// Done: it was an emergency.
    Justified,
    /// Done: it was none.
    Unjustified,
}
