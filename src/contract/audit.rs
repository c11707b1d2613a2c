//! The audit: written under the transaction's own key, so that no two calls touch the same, and read page by page.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::{check_id, check_patient, check_salt};
use super::error::ContractError;
use super::keys;
use super::transaction::Transaction;
use ehrnet_consent::code::Code;
use ehrnet_consent::policy::known_code;
use ehrnet_consent::vocabulary::Coding;
use ehrnet_consent::vocabulary::code_systems::{ACT_REASON, CodedElement};
use ehrnet_messages::hash;
use ehrnet_messages::{
    AuditDetail, AuditEntry, AuditKind, AuditPage, AuditSubject, Event, Person, QueryAudit, RecordDisclosure, Review,
    collection, event, role,
};

/// Longest text about the recipient of a disclosure.
const MAX_TEXT: usize = 4_096;

/// What is private of an entry, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Secret {
    /// Keeps the rest from being guessed by its hash; empty where the rest stands in the transaction anyway.
    pub salt: String,
    /// Where the public entry is.
    pub patient: String,
    /// Where the public entry is.
    pub at: Timestamp,
    /// What answers show.
    pub detail: AuditDetail,
    /// Digest of everything on the ledger that a decision was made from.
    #[serde(rename = "ground", default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
}

impl Secret {
    /// What is private of an entry about which nothing is but who acted.
    pub fn of(tx: &Transaction<'_>, entry: &AuditEntry) -> Self {
        let actor = tx.caller().person.clone();
        Self {
            salt: String::new(),
            patient: entry.patient.clone(),
            at: entry.at,
            detail: AuditDetail {
                actor,
                decision: None,
                justification: None,
                recipient: None,
                reviewer: None,
                review_notes: None,
            },
            inputs: None,
        }
    }
}

/// What is private of a review, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct ReviewKept {
    pub salt: String,
    pub reviewer: Person,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// An entry of this transaction about a patient, with nothing else in it.
pub(super) fn entry(tx: &Transaction<'_>, kind: AuditKind, patient: &str) -> AuditEntry {
    let caller = tx.caller();
    AuditEntry {
        kind,
        tx_id: tx.call.tx_id.clone(),
        at: tx.now(),
        patient: patient.to_owned(),
        actor_msp: caller.person.msp_id.clone(),
        actor: caller.hash(),
        record: None,
        action: None,
        purpose: None,
        project: None,
        decision: None,
        basis: None,
        reason: None,
        residual: false,
        expires_at: None,
        policy_digest: None,
        consent_digest: None,
        justification_hash: None,
        review_by: None,
        detail: None,
        review: None,
    }
}

/// Writes an entry, and where it is by actor.
pub(super) fn write(tx: &mut Transaction<'_>, entry: &AuditEntry, secret: Secret) -> Result<(), ContractError> {
    let key = keys::audit(&entry.patient, entry.at, &entry.tx_id);
    tx.put(keys::audit_by_actor(&entry.actor, entry.at, &entry.tx_id), &key)?;
    tx.put(key, entry)?;
    tx.put_private(collection::AUDIT, keys::audit_secret(&entry.tx_id), &secret)
}

/// The entry of a transaction, with what is private of it and the digest of what it was decided from.
pub(super) async fn find(
    tx: &mut Transaction<'_>,
    tx_id: &str,
) -> Result<Option<(AuditEntry, Option<String>)>, ContractError> {
    let secret = tx.read_private::<Secret>(collection::AUDIT, &[keys::audit_secret(tx_id)]).await?;
    let Some(secret) = secret.into_iter().next().flatten() else { return Ok(None) };
    let Some(mut entry) = tx.read::<AuditEntry>(&keys::audit(&secret.patient, secret.at, tx_id)).await? else {
        return Ok(None);
    };
    entry.detail = Some(Box::new(secret.detail));
    Ok(Some((entry, secret.inputs)))
}

/// Reads a page of the audit.
pub async fn query(tx: &mut Transaction<'_>) -> Result<AuditPage, ContractError> {
    let (QueryAudit { of, from, until, page }, _) = tx.call.input::<QueryAudit>()?;
    let caller = tx.caller();
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        return Err(ContractError::malformed("from must be before until"));
    }
    let (entries, bookmark) = match of {
        AuditSubject::Patient(patient) => {
            check_patient(&patient)?;
            caller.must_oversee(&patient)?;
            tx.page::<AuditEntry>(&keys::audit_of_patient(&patient, from, until), &page).await?
        }
        AuditSubject::Actor { msp_id, id } => {
            caller.must_be(&[role::PRIVACY_OFFICER])?;
            let range = keys::audit_of_actor(&hash::actor(&msp_id, &id), from, until);
            let (places, bookmark) = tx.page::<String>(&range, &page).await?;
            (tx.read_all(&places).await?.into_iter().flatten().collect(), bookmark)
        }
    };
    Ok(AuditPage { entries: complete(tx, entries).await?, bookmark })
}

/// Adds what is private, and the reviews.
async fn complete(tx: &mut Transaction<'_>, mut entries: Vec<AuditEntry>) -> Result<Vec<AuditEntry>, ContractError> {
    let reviewed: Vec<String> =
        entries.iter().filter(|entry| entry.review_by.is_some()).map(|entry| entry.tx_id.clone()).collect();
    let reviews: Vec<Option<Review>> =
        tx.read_all(&reviewed.iter().map(|tx_id| keys::review(tx_id)).collect::<Vec<_>>()).await?;
    let mut private: Vec<String> = entries.iter().map(|entry| keys::audit_secret(&entry.tx_id)).collect();
    let secrets: Vec<Option<Secret>> = tx.read_private(collection::AUDIT, &private).await?;
    private = reviewed.iter().map(|tx_id| keys::review_secret(tx_id)).collect();
    let notes: Vec<Option<ReviewKept>> = tx.read_private(collection::AUDIT, &private).await?;
    let now = tx.now();
    let mut reviews = reviews.into_iter().zip(notes);
    for (entry, secret) in entries.iter_mut().zip(secrets) {
        entry.detail = secret.map(|secret| Box::new(secret.detail));
        let Some((review, kept)) = entry.review_by.and_then(|_| reviews.next()) else { continue };
        entry.review = review.map(|review| Box::new(super::reviews::as_of(review, now)));
        if let (Some(detail), Some(kept)) = (&mut entry.detail, kept) {
            detail.reviewer = Some(kept.reviewer);
            detail.review_notes = kept.notes;
        }
    }
    Ok(entries)
}

/// Records a disclosure.
pub async fn disclose(tx: &mut Transaction<'_>) -> Result<AuditEntry, ContractError> {
    let (argument, secret) = tx.call.private_input::<RecordDisclosure>()?;
    tx.caller().must_be(&[role::REGISTRAR, role::PHYSICIAN, role::NURSE, role::PRIVACY_OFFICER])?;
    check_patient(&argument.patient)?;
    argument.record.as_deref().map(|record| check_id("record", record)).transpose()?;
    check_salt(&secret.salt)?;
    let recipient = secret.recipient;
    let texts = [Some(&recipient.name), recipient.address.as_ref(), recipient.description.as_ref()];
    if recipient.name.is_empty() || texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
        let message = format!("recipient needs a name, and no text of it may have more than {MAX_TEXT} bytes");
        return Err(ContractError::malformed(message));
    }
    let mut entry = entry(tx, AuditKind::Disclosure, &argument.patient);
    entry.record = argument.record;
    entry.purpose = Some(purpose(argument.purpose)?);
    let mut kept = Secret { salt: secret.salt, ..Secret::of(tx, &entry) };
    kept.detail.recipient = Some(recipient);
    write(tx, &entry, kept)?;
    let (patient, subject) = (Some(entry.patient.clone()), entry.record.clone());
    tx.emit(event::DISCLOSURE_RECORDED, Event { patient, subject, ..Event::default() })?;
    Ok(entry)
}

fn purpose(purpose: Code) -> Result<Code, ContractError> {
    let coding = Coding { system: purpose.system, code: purpose.code, display: None };
    let known = known_code(coding, CodedElement::Purpose);
    known
        .map(|coding| Code::from(&coding))
        .map_err(|why| ContractError::malformed(format_args!("purpose: {why}; purposes are those of {ACT_REASON}")))
}
