//! Consents: given and revoked by the patient. The public ledger has a salted hash, period and status of each version;
//! what a consent says is private.
//!
//! Replayed and re-ordered changes are refused by their `seq`, which only grows. A patient's consents are found by the
//! public index and read from the collection by key: Fabric refuses to write after a query of private data.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{check_digest, check_id, check_patient, check_salt};
use super::error::ContractError;
use super::keys;
use super::policies::{self, InForce, Reading};
use super::transaction::Transaction;
use ehrnet_consent::context::ProvisionContext;
use ehrnet_consent::fhir::{self, Consent};
use ehrnet_consent::subject::Standing;
use ehrnet_consent::time::TimeRange;
use ehrnet_consent::vocabulary::{ConsentScope, Period};
use ehrnet_consent::{FieldError, said as said_of};
use ehrnet_messages::hash;
use ehrnet_messages::{
    ConsentDetail, ConsentHistory, ConsentPage, ConsentSecret, ConsentStatus, ConsentVersion, Event, GetConsents, Page,
    Person, PolicyRef, PutConsent, RevokeConsent, collection, event,
};

/// Longest description of who gave a consent.
const MAX_PERFORMER: usize = 1_024;

/// What is private of a version of a consent, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// Keeps the rest from being guessed by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    signer: Person,
    /// None of a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    performer: Option<String>,
}

/// Puts a consent, or a new version of it.
pub async fn put(tx: &mut Transaction<'_>) -> Result<ConsentVersion, ContractError> {
    let (argument, secret) = tx.call.private_input::<PutConsent>()?;
    let PutConsent { patient, consent: id, seq } = argument;
    check(tx, &patient, &id)?;
    let salt = check_salt(&secret.salt)?;
    secret.source_hash.as_deref().map(|hash| check_digest("sourceHash", hash)).transpose()?;
    if secret.performer.as_ref().is_some_and(|performer| performer.len() > MAX_PERFORMER) {
        return Err(ContractError::malformed(format_args!("performer may have {MAX_PERFORMER} bytes")));
    }
    let before: Option<ConsentVersion> = tx.read(&keys::consent(&patient, &id)).await?;
    check_order(&id, seq, before.as_ref())?;
    let in_force = InForce::read(tx).await?;
    let (context, read_with) = in_force.reading(fhir::scope(&secret.resource));
    let (resource, period) = understand(&secret, &patient, context, tx.now())?;
    let canonical = serde_json_canonicalizer::to_vec(&resource)
        .map_err(|_| ContractError::malformed("the consent has a number that JSON cannot carry"))?;
    let digest = hash::salted(&salt, &canonical);
    let version = ConsentVersion {
        read_with: read_with.clone(),
        ..version(tx, (patient, id, seq), ConsentStatus::Active, digest, period)
    };
    let signer = tx.caller().person.clone();
    let ConsentSecret { salt, source_hash, performer, .. } = secret;
    let kept = Kept { salt: Some(salt), signer, resource: Some(resource), source_hash, performer };
    write(tx, version, &kept, event::CONSENT_PUT)
}

/// Revokes a consent.
pub async fn revoke(tx: &mut Transaction<'_>) -> Result<ConsentVersion, ContractError> {
    let (RevokeConsent { patient, consent: id, seq }, _) = tx.call.input::<RevokeConsent>()?;
    check(tx, &patient, &id)?;
    let before: Option<ConsentVersion> = tx.read(&keys::consent(&patient, &id)).await?;
    let missing = || ContractError::not_found(format_args!("the patient has no consent {id}"));
    let before = before.ok_or_else(missing)?;
    check_order(&id, seq, Some(&before))?;
    if before.status == ConsentStatus::Inactive {
        let message = format!("consent {id} was revoked already, as change {}", before.seq);
        return Err(ContractError::conflict(message));
    }
    let version = version(tx, (patient, id, seq), ConsentStatus::Inactive, before.digest, before.period);
    let signer = tx.caller().person.clone();
    let kept = Kept { salt: None, signer, resource: None, source_hash: None, performer: None };
    write(tx, version, &kept, event::CONSENT_REVOKED)
}

fn check(tx: &Transaction<'_>, patient: &str, id: &str) -> Result<(), ContractError> {
    check_patient(patient)?;
    check_id("consent", id)?;
    tx.caller().must_act_for(patient)
}

/// Refuses a change that is older than what is on the ledger, or the same again.
fn check_order(id: &str, seq: u64, before: Option<&ConsentVersion>) -> Result<(), ContractError> {
    let last = before.map_or(0, |before| before.seq);
    let message = || {
        format!(
            "consent {id} is at change {last}: the next one needs a greater seq than {last}; {seq} was seen before or came \
             too late"
        )
    };
    (seq > last).then_some(()).ok_or_else(|| ContractError::conflict(message()))
}

/// What of the resource decides, about the patient's pseudonym, and its period.
fn understand(
    secret: &ConsentSecret,
    patient: &str,
    context: &ProvisionContext,
    now: Timestamp,
) -> Result<(Value, Option<Period>), ContractError> {
    // All of it is read first: an element that changes the meaning must be refused, not left out.
    let consent = fhir::read(&secret.resource, None, context).map_err(|errors| unusable(&errors))?;
    consent.may_be_put(now).map_err(ContractError::malformed)?;
    let resource = fhir::essential(&secret.resource, &format!("Patient/{patient}"));
    let named = consent.patient.as_ref().and_then(|patient| patient.key.strip_prefix("Patient/"));
    if named.is_some_and(|named| named != patient && check_patient(named).is_ok()) {
        return Err(ContractError::malformed("Consent.patient is the pseudonym of another patient"));
    }
    let period = consent.period.as_ref().or(consent.root.elements.period.as_deref());
    Ok((resource, period.map(|period| period.text.clone())))
}

/// The fields that are wrong. What stands in them is the patient's and is not repeated.
fn unusable(errors: &[FieldError]) -> ContractError {
    let said = |error: &FieldError| match error.message.contains('"') {
        true => format!("{}: is not what FHIR wants there", said_of(&error.field)),
        false => error.to_string(),
    };
    let errors: Vec<String> = errors.iter().map(said).collect();
    ContractError::malformed(format_args!("the consent cannot be used: {}", errors.join("; ")))
}

fn version(
    tx: &Transaction<'_>,
    (patient, consent, seq): (String, String, u64),
    status: ConsentStatus,
    digest: String,
    period: Option<Period>,
) -> ConsentVersion {
    let caller = tx.caller();
    ConsentVersion {
        patient,
        consent,
        seq,
        status,
        digest,
        reading: fhir::READING,
        read_with: None,
        period,
        at: tx.now(),
        tx_id: tx.call.tx_id.clone(),
        signer_msp: caller.person.msp_id.clone(),
        signer: caller.hash(),
        detail: None,
    }
}

fn write(
    tx: &mut Transaction<'_>,
    version: ConsentVersion,
    kept: &Kept,
    name: &'static str,
) -> Result<ConsentVersion, ContractError> {
    let ConsentVersion { patient, consent, seq, .. } = &version;
    let key = keys::consent_version(patient, consent, *seq);
    tx.put(keys::consent(patient, consent), &version)?;
    tx.put(key.clone(), &version)?;
    tx.put_private(collection::CONSENTS, key, kept)?;
    let (patient, subject) = (Some(patient.clone()), Some(consent.clone()));
    tx.emit(name, Event { patient, subject, ..Event::default() })?;
    Ok(version)
}

/// The newest version of every consent of a patient.
pub(super) async fn index(tx: &mut Transaction<'_>, patient: &str) -> Result<Vec<ConsentVersion>, ContractError> {
    tx.range(&keys::consents(patient)).await
}

/// What active consents say, each read with the policy in force for what it is about. One that cannot be read denies
/// everything; it stops nothing that stands above consents. When a consent was given is when the ledger took it. What was put
/// under another reading of documents permits nothing; what was put under another policy is read with that one as well.
pub(super) async fn read<'v>(
    tx: &mut Transaction<'_>,
    versions: &[&'v ConsentVersion],
    in_force: &InForce,
) -> Result<Vec<(Consent, &'v ConsentVersion)>, ContractError> {
    let kept = kept(tx, versions).await?;
    let resources = kept.into_iter().map(|kept| kept.and_then(|kept| kept.resource));
    let stored: Vec<Stored<'v, '_>> = versions
        .iter()
        .zip(resources)
        .map(|(version, resource)| {
            let about = resource.as_ref().map_or(ConsentScope::PatientPrivacy, fhir::scope);
            Stored { version, resource, today: in_force.reading(about) }
        })
        .collect();
    let others: BTreeSet<&PolicyRef> = stored.iter().filter_map(Stored::put_under_another_policy).flatten().collect();
    let earlier = policies::readings(tx, others).await?;
    let none_in_force = ProvisionContext::default().certified();
    let mut consents = Vec::new();
    for one in &stored {
        consents.push((one.read(Some(&one.today.0)), one.version));
        if let Some(policy) = one.put_under_another_policy() {
            let context = policy.map_or(Some(&none_in_force), |policy| earlier.get(policy)?.as_ref());
            if context != Some(&one.today.0) {
                consents.push((Consent { earlier: true, ..one.read(context) }, one.version));
            }
        }
    }
    Ok(consents)
}

/// A version of a consent with what is kept of it, and what it is read with today.
struct Stored<'v, 'p> {
    version: &'v ConsentVersion,
    resource: Option<Value>,
    today: &'p Reading,
}

impl Stored<'_, '_> {
    /// The policy that it was put under, which may be none, if that is not today's.
    fn put_under_another_policy(&self) -> Option<Option<&PolicyRef>> {
        let ConsentVersion { reading, read_with, .. } = self.version;
        (*reading == fhir::READING && *read_with != self.today.1).then_some(read_with.as_ref())
    }

    fn read(&self, context: Option<&ProvisionContext>) -> Consent {
        let read =
            self.resource.as_ref().zip(context).and_then(|(resource, with)| fhir::read(resource, None, with).ok());
        let consent = read.unwrap_or_else(|| Consent::unreadable(self.version.digest.clone()));
        let of_today = self.version.reading == fhir::READING;
        let at_most = if of_today { consent.at_most } else { consent.at_most.min(Standing::Withholds) };
        Consent { date: Some(TimeRange::moment(self.version.at)), at_most, ..consent }
    }
}

async fn kept(tx: &mut Transaction<'_>, versions: &[&ConsentVersion]) -> Result<Vec<Option<Kept>>, ContractError> {
    let key = |version: &&ConsentVersion| keys::consent_version(&version.patient, &version.consent, version.seq);
    tx.read_private(collection::CONSENTS, &versions.iter().map(key).collect::<Vec<_>>()).await
}

/// The newest versions, with what is private.
pub async fn list(tx: &mut Transaction<'_>) -> Result<ConsentPage, ContractError> {
    let (GetConsents { patient, page }, _) = tx.call.input::<GetConsents>()?;
    check_patient(&patient)?;
    tx.caller().must_oversee(&patient)?;
    answer(tx, &keys::consents(&patient), &page).await
}

/// All versions of one consent, with what is private.
pub async fn history(tx: &mut Transaction<'_>) -> Result<ConsentPage, ContractError> {
    let (ConsentHistory { patient, consent, page }, _) = tx.call.input::<ConsentHistory>()?;
    check_patient(&patient)?;
    check_id("consent", &consent)?;
    tx.caller().must_oversee(&patient)?;
    answer(tx, &keys::consent_versions(&patient, &consent), &page).await
}

async fn answer(tx: &mut Transaction<'_>, range: &keys::Range, page: &Page) -> Result<ConsentPage, ContractError> {
    let (mut consents, bookmark) = tx.page::<ConsentVersion>(range, page).await?;
    let kept = kept(tx, &consents.iter().collect::<Vec<_>>()).await?;
    for (version, kept) in consents.iter_mut().zip(kept) {
        version.detail = kept.map(|Kept { signer, resource, source_hash, performer, .. }| {
            Box::new(ConsentDetail { resource, source_hash, performer, signer })
        });
    }
    Ok(ConsentPage { consents, bookmark })
}
