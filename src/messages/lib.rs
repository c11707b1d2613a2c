//! What callers and the contract say to each other: functions, arguments, private input, results.
//!
//! A call has one argument, a JSON object, and for some functions one entry of the transient map, also a JSON object.
//! The trap: arguments **and the results of what is submitted** stand in the block for everybody to read. Whatever is
//! private goes through the transient map on the way in, and on the way out through a function that is only evaluated.
//!
//! ```text
//! submit    RegisterRecord EraseRecord PutConsent RevokeConsent RequestAccess BreakGlassReview RecordDisclosure
//!           ApprovePolicy PutPolicy WithdrawPolicy
//! evaluate  GetRecord VerifyRecord GetConsents ConsentHistory DecideAccess GetDecision QueryAudit ListReviews GetPolicy
//! ```
//!
//! Who calls is read from the certificate alone ([`attribute`]); nothing in an argument can change it. A refusal of
//! access is a result, so that it is committed and audited; an error is for calls that cannot be answered.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use ehrnet_consent::decision::Effect;

mod access;
mod audit;
mod code;
mod consents;
pub mod hash;
mod members;
mod policies;
mod records;

pub use access::{
    AccessSecret, BreakGlassReview, DecideAccess, DecisionDetail, DryRun, GetDecision, HeldDecision, ListReviews,
    Refusal, RequestAccess, Review, ReviewOutcome, ReviewPage, ReviewSecret, ReviewStatus,
};
pub use audit::{
    AuditDetail, AuditEntry, AuditKind, AuditPage, AuditSubject, DisclosureSecret, QueryAudit, Recipient,
    RecordDisclosure,
};
pub use code::Code;
pub use consents::{
    ConsentDetail, ConsentHistory, ConsentPage, ConsentSecret, ConsentStatus, ConsentVersion, GetConsents, PolicyRef,
    PutConsent, RevokeConsent,
};
pub use members::Members;
pub use policies::{ApprovePolicy, GetPolicy, PolicyApproval, PolicyVersion, PutPolicy, WithdrawPolicy};
pub use records::{
    EraseRecord, Erasure, ErasureReason, GetRecord, Manifest, Record, RecordSecret, RecordView, RegisterRecord,
    Verification, VerifyRecord,
};

/// Name that the contract is deployed under unless it is given another.
pub const CHAINCODE_NAME: &str = "ehr";
/// Bytes that the transient map of a call may have in all.
pub const MAX_TRANSIENT: usize = 256 * 1024;

/// Private data collections. All members of the channel belong to each; none forgets by itself (blockToLive 0).
pub mod collection {
    /// What consents say.
    pub const CONSENTS: &str = "consents";
    /// What is private of records: salt, storage, clinical codes.
    pub const RECORDS: &str = "records";
    /// What is private of audit entries: actor, justification, the whole decision, notes.
    pub const AUDIT: &str = "audit";
    /// All of them, for who declares the contract in code, as tests do.
    pub const ALL: [&str; 3] = [CONSENTS, RECORDS, AUDIT];
}

/// Attributes of certificates (X.509 extension 1.2.3.4.5.6.7.8.1, as Fabric CA writes it).
pub mod attribute {
    /// Role, one of [`super::role`] or any other lower-case code.
    pub const ROLE: &str = "ehr.role";
    /// Pseudonyms of the patients that a patient, delegate or device is bound to, separated by commas.
    pub const PATIENT: &str = "ehr.patient";
    /// `true` for who may break the glass.
    pub const BREAK_GLASS: &str = ehrnet_consent::evaluate::BREAK_GLASS_ATTRIBUTE;
    /// Groups as FHIR references (`Group/er`), separated by commas.
    pub const GROUPS: &str = "ehr.groups";
}

/// Roles that the contract knows. Any other role can be named in consents.
pub mod role {
    /// The patient: gives and revokes consents, reads their own audit.
    pub const PATIENT: &str = "patient";
    /// Acts for a patient.
    pub const DELEGATE: &str = "delegate";
    /// Physician.
    pub const PHYSICIAN: &str = "physician";
    /// Nurse.
    pub const NURSE: &str = "nurse";
    /// A hospital's record system, or who keeps it: registers, moves and erases records.
    pub const REGISTRAR: &str = "registrar";
    /// Reviews break-glass and reads audits.
    pub const PRIVACY_OFFICER: &str = "privacy-officer";
    /// Researcher.
    pub const RESEARCHER: &str = "researcher";
    /// A device: writes for its patient, reads nothing.
    pub const DEVICE: &str = "device";
}

/// Names of chaincode events; the payload is an [`Event`].
pub mod event {
    /// A record was registered or moved.
    pub const RECORD_REGISTERED: &str = "RecordRegistered";
    /// A record was erased.
    pub const RECORD_ERASED: &str = "RecordErased";
    /// A consent was given or changed.
    pub const CONSENT_PUT: &str = "ConsentPut";
    /// A consent was revoked: decisions held in memory must be asked for again.
    pub const CONSENT_REVOKED: &str = "ConsentRevoked";
    /// Access was decided.
    pub const ACCESS_DECIDED: &str = "AccessDecided";
    /// Access was granted by breaking the glass; a review is due.
    pub const GLASS_BROKEN: &str = "GlassBroken";
    /// A use of break-glass was reviewed.
    pub const BREAK_GLASS_REVIEWED: &str = "BreakGlassReviewed";
    /// A disclosure was recorded.
    pub const DISCLOSURE_RECORDED: &str = "DisclosureRecorded";
    /// A policy changed.
    pub const POLICY_CHANGED: &str = "PolicyChanged";
}

/// A function of the contract: the type is its argument.
pub trait Function: Serialize + DeserializeOwned + Send {
    /// Name, as it stands in argument 0.
    const NAME: &'static str;
    /// Name of the transient entry that the function takes, if it takes one.
    const TRANSIENT: Option<&'static str>;
    /// Whether it changes the ledger. What does not is evaluated, never submitted: its result may be private.
    const SUBMIT: bool;
    /// Type of that entry; `()` for none.
    type Transient: Serialize + DeserializeOwned + Send;
    /// What it answers with.
    type Output: Serialize + DeserializeOwned + Send;

    /// The arguments of a call: name and JSON.
    ///
    /// # Errors
    /// A number that JSON cannot carry.
    fn arguments(&self) -> Result<Vec<Vec<u8>>, serde_json::Error> {
        Ok(vec![Self::NAME.as_bytes().to_vec(), serde_json::to_vec(self)?])
    }
}

macro_rules! functions {
    ($($kind:ident $name:ident $(($entry:literal, $transient:ty))? -> $output:ty;)*) => {
        $(impl Function for $name {
            const NAME: &'static str = stringify!($name);
            const TRANSIENT: Option<&'static str> = functions!(@entry $($entry)?);
            const SUBMIT: bool = functions!(@$kind);
            type Transient = functions!(@type $($transient)?);
            type Output = $output;
        })*
    };
    (@entry) => { None };
    (@entry $entry:literal) => { Some($entry) };
    (@type) => { () };
    (@type $transient:ty) => { $transient };
    (@submit) => { true };
    (@evaluate) => { false };
}

functions! {
    submit RegisterRecord("record", RecordSecret) -> Record;
    submit EraseRecord -> Record;
    submit PutConsent("consent", ConsentSecret) -> ConsentVersion;
    submit RevokeConsent -> ConsentVersion;
    submit RequestAccess("access", AccessSecret) -> AuditEntry;
    submit BreakGlassReview("review", ReviewSecret) -> Review;
    submit RecordDisclosure("disclosure", DisclosureSecret) -> AuditEntry;
    submit ApprovePolicy -> PolicyApproval;
    submit PutPolicy -> PolicyVersion;
    submit WithdrawPolicy -> PolicyVersion;
    evaluate GetRecord -> RecordView;
    evaluate VerifyRecord -> Verification;
    evaluate GetConsents -> ConsentPage;
    evaluate ConsentHistory -> ConsentPage;
    evaluate DecideAccess("access", AccessSecret) -> DryRun;
    evaluate GetDecision -> HeldDecision;
    evaluate QueryAudit -> AuditPage;
    evaluate ListReviews -> ReviewPage;
    evaluate GetPolicy -> PolicyVersion;
}

/// What an event says: public, like everything on the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Transaction.
    pub tx_id: String,
    /// Pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// Id of the record, consent or policy that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The decision, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Effect>,
}

/// Which part of a long list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Page {
    /// Entries, 1 to 100; 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u16>,
    /// Where the page before ended; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<String>,
}

/// Somebody as their certificate says. Private: it goes into collection [`collection::AUDIT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// MSP that vouches for them.
    pub msp_id: String,
    /// What consents name them by: the certificate's common name, after `Patient/`, `RelatedPerson/`, `Device/` or
    /// `Practitioner/` (by role) unless it is a reference already.
    pub id: String,
    /// Role in the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}
