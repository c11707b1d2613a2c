//! The audit: one entry for each decision, disclosure, registration and erasure, found by patient or by actor.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::{DecisionDetail, Review};
use super::{Page, Person};
use ehrnet_consent::code::Code;
use ehrnet_consent::decision::Effect;
use ehrnet_consent::rules::Basis;

/// What an audit entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A decision about access.
    Access,
    /// A disclosure to somebody outside (45 CFR 164.528).
    Disclosure,
    /// A record was registered, changed or moved.
    Registration,
    /// A record was erased.
    Erasure,
}

/// An audit entry. Public, but for `detail`, which only answers carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// What it is about.
    pub kind: AuditKind,
    /// Transaction.
    pub tx_id: String,
    /// Time of the transaction: the client's clock, within the peers' window of 15 minutes.
    pub at: Timestamp,
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// MSP of who acted.
    pub actor_msp: String,
    /// Who acted: [`crate::hash::actor`].
    pub actor: String,
    /// What was to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Code>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Code>,
    /// Research project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Effect>,
    /// Layer that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Why: a [`ehrnet_consent::rules::Reason`] or a [`super::access::Refusal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether records have still to be compared with residual rules.
    #[serde(default)]
    pub residual: bool,
    /// Until when a permission holds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Digest of the policy that it was decided by; none where none is on the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// Digest of the consent that decided: [`super::ConsentVersion::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_digest: Option<String>,
    /// Salted hash of the justification of break-glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification_hash: Option<String>,
    /// When the review of break-glass is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<Timestamp>,
    /// What is private; in answers to who may read it, never on the public ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<AuditDetail>>,
    /// The review of break-glass as it stands; in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Box<Review>>,
}

/// What is private of an audit entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditDetail {
    /// Who acted.
    pub actor: Person,
    /// The whole decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionDetail>,
    /// Why the glass was broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
    /// Who received a disclosure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
    /// Who reviewed break-glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<Person>,
    /// What the reviewer wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_notes: Option<String>,
}

/// Whose audit is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AuditSubject {
    /// Everything about one patient: for the patient, a delegate or a privacy officer.
    Patient(String),
    /// Everything that one person did: for privacy officers.
    Actor {
        /// MSP that vouches for them.
        msp_id: String,
        /// [`Person::id`].
        id: String,
    },
}

/// Reads the audit, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryAudit {
    /// Whose.
    pub of: AuditSubject,
    /// First moment; from the beginning if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// First moment that is not wanted any more; to the end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Which part.
    #[serde(default)]
    pub page: Page,
}

/// A part of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// Entries, oldest first.
    pub entries: Vec<AuditEntry>,
    /// Where the next part begins; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}

/// Records that something was disclosed to somebody outside the network. For staff of hospitals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordDisclosure {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Why: one v3-ActReason code.
    pub purpose: Code,
}

/// Transient entry `disclosure`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisclosureSecret {
    /// 32 random bytes, in hexadecimal.
    pub salt: String,
    /// Who received it.
    pub recipient: Recipient,
}

/// Who received a disclosure (45 CFR 164.528(b)(2): name, address if known, what, why).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recipient {
    /// Name of the person or organisation.
    pub name: String,
    /// Address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What was disclosed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
