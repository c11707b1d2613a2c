//! Records: registered under a salted hash, verified, read and erased. The body never comes here.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::audit::{self, entry};
use super::call::{check_digest, check_id, check_patient, check_salt};
use super::error::ContractError;
use super::transaction::Transaction;
use super::{access, keys};
use ehrnet_consent::decision::Effect;
use ehrnet_consent::policy::known_code;
use ehrnet_consent::time::TimeRange;
use ehrnet_consent::vocabulary::Coding;
use ehrnet_consent::vocabulary::code_systems::{CONFIDENTIALITY_CODES, CodedElement};
use ehrnet_messages::hash;
use ehrnet_messages::{
    AuditKind, EraseRecord, Erasure, Event, GetRecord, Record, RecordSecret, RecordView, RegisterRecord, Verification,
    VerifyRecord, collection, event, role,
};

/// Who may register records.
const WRITERS: &[&str] = &[role::REGISTRAR, role::PHYSICIAN, role::NURSE, role::DEVICE];
/// Codes that a record may have.
const MAX_CODES: usize = 64;
/// Longest reference to a body.
const MAX_STORAGE: usize = 2_048;

/// What is private of a record, as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    salt: String,
    storage: String,
    pub codes: Option<Vec<Coding>>,
}

/// Registers a record, a new version of it, or its move to another storage.
pub async fn register(tx: &mut Transaction<'_>) -> Result<Record, ContractError> {
    let (argument, secret) = tx.call.private_input::<RegisterRecord>()?;
    let caller = tx.caller();
    caller.must_be(WRITERS)?;
    check_id("record", &argument.record)?;
    check_patient(&argument.patient)?;
    if caller.is(role::DEVICE) && !caller.is_bound_to(&argument.patient) {
        return Err(ContractError::forbidden("a device registers records of the patient that it is bound to only"));
    }
    let before: Option<Record> = tx.read(&keys::record(&argument.record)).await?;
    check_succession(&argument, before.as_ref(), &caller.person.msp_id)?;
    let record = describe(tx, argument, &secret)?;
    let kept = Kept { salt: secret.salt, storage: secret.storage, codes: secret.codes };
    tx.put(keys::record(&record.record), &record)?;
    tx.put_private(collection::RECORDS, keys::record(&record.record), &kept)?;
    let mut entry = entry(tx, AuditKind::Registration, &record.patient);
    entry.record = Some(record.record.clone());
    // Without the record's salt: that must be gone when the record is erased.
    let secret = audit::Secret::of(tx, &entry);
    audit::write(tx, &entry, secret)?;
    announce(tx, event::RECORD_REGISTERED, &record)?;
    Ok(record)
}

/// Refuses a version that does not follow the registered one.
fn check_succession(argument: &RegisterRecord, before: Option<&Record>, msp_id: &str) -> Result<(), ContractError> {
    let id = &argument.record;
    let next = before.map_or(1, |before| before.version + 1);
    match before {
        Some(before) if before.erased.is_some() => {
            Err(ContractError::conflict(format_args!("record {id} was erased: its id is not used again")))
        }
        Some(before) if before.patient != argument.patient => {
            Err(ContractError::conflict(format_args!("record {id} is of another patient")))
        }
        Some(before) if before.author != msp_id => {
            let author = &before.author;
            Err(ContractError::forbidden(format_args!(
                "record {id} was registered by {author}, which alone changes it"
            )))
        }
        _ if argument.version != next => {
            let given = argument.version;
            Err(ContractError::conflict(format_args!("the next version of record {id} is {next}, not {given}")))
        }
        _ => Ok(()),
    }
}

/// The public entry.
fn describe(tx: &Transaction<'_>, argument: RegisterRecord, secret: &RecordSecret) -> Result<Record, ContractError> {
    let salt = check_salt(&secret.salt)?;
    let digest = check_digest("digest", &secret.digest)?;
    let root = secret.manifest_root.as_deref().map(|root| check_digest("manifestRoot", root)).transpose()?;
    if argument.manifest.is_some() != root.is_some() {
        return Err(ContractError::malformed("manifest (argument) and manifestRoot (transient) go together"));
    }
    if argument.manifest.is_some_and(|manifest| manifest.chunks == 0 || manifest.chunk_size == 0) {
        return Err(ContractError::malformed("manifest.chunks and manifest.chunkSize must not be 0"));
    }
    if !(1..=MAX_STORAGE).contains(&secret.storage.len()) || !secret.storage.contains(':') {
        return Err(ContractError::malformed(format_args!("storage must be a URI of at most {MAX_STORAGE} bytes")));
    }
    if secret.codes.as_ref().is_some_and(|codes| codes.len() > MAX_CODES) || argument.sensitivity.len() > MAX_CODES {
        return Err(ContractError::malformed(format_args!("at most {MAX_CODES} codes and sensitivities are allowed")));
    }
    if !CONFIDENTIALITY_CODES.contains(&argument.confidentiality.as_str()) {
        let codes = CONFIDENTIALITY_CODES.join(", ");
        return Err(ContractError::malformed(format_args!("confidentiality must be one of {codes}")));
    }
    if let Some(on) = &argument.authored_on {
        TimeRange::parse(on, &TimeZone::UTC)
            .map_err(|why| ContractError::malformed(format_args!("authoredOn: {why}")))?;
    }
    let sensitivity =
        argument.sensitivity.into_iter().map(|code| known(code, "sensitivity", CodedElement::SecurityLabel));
    Ok(Record {
        hash: hash::salted(&salt, &digest),
        root_hash: root.map(|root| hash::salted(&salt, &root)),
        class: known(argument.class, "class", CodedElement::Class)?,
        sensitivity: sensitivity.collect::<Result<_, _>>()?,
        record: argument.record,
        patient: argument.patient,
        version: argument.version,
        author: tx.caller().person.msp_id.clone(),
        confidentiality: argument.confidentiality,
        authored_on: argument.authored_on,
        manifest: argument.manifest,
        at: tx.now(),
        tx_id: tx.call.tx_id.clone(),
        erased: None,
    })
}

/// The code with its system. A code that nobody knows is one that no consent can be about.
fn known(code: Coding, field: &str, element: CodedElement) -> Result<Coding, ContractError> {
    known_code(code, element).map_err(|why| ContractError::malformed(format_args!("{field}: {why}")))
}

fn announce(tx: &mut Transaction<'_>, name: &'static str, record: &Record) -> Result<(), ContractError> {
    let (patient, subject) = (Some(record.patient.clone()), Some(record.record.clone()));
    tx.emit(name, Event { patient, subject, ..Event::default() })
}

/// Purges what is private of a record and leaves a tombstone.
pub async fn erase(tx: &mut Transaction<'_>) -> Result<Record, ContractError> {
    let (argument, _) = tx.call.input::<EraseRecord>()?;
    let caller = tx.caller();
    caller.must_be(&[role::REGISTRAR, role::PRIVACY_OFFICER])?;
    check_id("request", &argument.request)?;
    let mut record = existing(tx, &argument.record).await?;
    if record.author != caller.person.msp_id {
        let (id, author) = (&record.record, &record.author);
        return Err(ContractError::forbidden(format_args!(
            "record {id} was registered by {author}, which alone erases it"
        )));
    }
    if record.erased.is_some() {
        return Err(ContractError::conflict(format_args!("record {} is erased already", record.record)));
    }
    record.erased = Some(Erasure { reason: argument.reason, request: argument.request, at: tx.now() });
    record.tx_id.clone_from(&tx.call.tx_id);
    tx.purge(collection::RECORDS, keys::record(&record.record));
    tx.put(keys::record(&record.record), &record)?;
    let mut entry = entry(tx, AuditKind::Erasure, &record.patient);
    entry.record = Some(record.record.clone());
    let secret = audit::Secret::of(tx, &entry);
    audit::write(tx, &entry, secret)?;
    announce(tx, event::RECORD_ERASED, &record)?;
    Ok(record)
}

/// Compares digests with the registered, salted ones.
pub async fn verify(tx: &mut Transaction<'_>) -> Result<Verification, ContractError> {
    let (argument, _) = tx.call.input::<VerifyRecord>()?;
    let record = existing(tx, &argument.record).await?;
    let caller = tx.caller();
    // Whoever may ask can try likely bodies: not for everybody.
    if !caller.acts_for(&record.patient) {
        caller.must_be(&[role::REGISTRAR, role::PHYSICIAN, role::NURSE, role::PRIVACY_OFFICER, role::RESEARCHER])?;
    }
    if argument.digest.is_none() && argument.manifest_root.is_none() {
        return Err(ContractError::malformed("digest or manifestRoot is needed"));
    }
    if record.erased.is_some() {
        return Ok(Verification { matches: false, version: record.version, erased: true });
    }
    let salt = check_salt(&kept(tx, &record.record).await?.salt)?;
    let same = |field: &str, given: &Option<String>, registered: Option<&String>| match given {
        None => Ok(true),
        Some(given) => check_digest(field, given).map(|given| registered == Some(&hash::salted(&salt, &given))),
    };
    let body = same("digest", &argument.digest, Some(&record.hash))?;
    let manifest = same("manifestRoot", &argument.manifest_root, record.root_hash.as_ref())?;
    Ok(Verification { matches: body && manifest, version: record.version, erased: false })
}

/// Reads a record; where its body is, for who may know.
pub async fn get(tx: &mut Transaction<'_>) -> Result<RecordView, ContractError> {
    let (argument, _) = tx.call.input::<GetRecord>()?;
    if tx.caller().is(role::DEVICE) {
        return Err(ContractError::forbidden("a device writes and does not read"));
    }
    let record = existing(tx, &argument.record).await?;
    let withheld = withhold(tx, &record, argument.decision.as_deref()).await?;
    let storage = match withheld {
        Some(_) => None,
        None => Some(kept(tx, &record.record).await?.storage),
    };
    Ok(RecordView { record, storage, withheld })
}

/// Why the caller may not know where the body is.
async fn withhold(
    tx: &mut Transaction<'_>,
    record: &Record,
    decision: Option<&str>,
) -> Result<Option<String>, ContractError> {
    let caller = tx.caller();
    let custodian = caller.is(role::REGISTRAR) && caller.person.msp_id == record.author;
    let because = |why: &str| Ok(Some(why.to_owned()));
    if record.erased.is_some() {
        return because("the record was erased");
    }
    if custodian || caller.acts_for(&record.patient) {
        return Ok(None);
    }
    let Some(decision) = decision else {
        return because("needs a decision that permits access: RequestAccess, then its transaction id");
    };
    let held = access::held(tx, decision).await?;
    let actor = held.entry.detail.map(|detail| detail.actor);
    let of_record = held.entry.patient == record.patient
        && held.entry.record.as_ref().map_or(!held.entry.residual, |id| *id == record.record);
    match held.entry.decision {
        _ if actor.as_ref() != Some(&caller.person) => because("the decision is somebody else's"),
        _ if !of_record => because("the decision is not about this record"),
        Some(Effect::Permit) if held.current => Ok(None),
        Some(Effect::Permit) => because("the decision does not hold any more: ask again"),
        Some(Effect::Deny) | None => because("the decision denies access"),
    }
}

async fn existing(tx: &mut Transaction<'_>, id: &str) -> Result<Record, ContractError> {
    check_id("record", id)?;
    tx.read(&keys::record(id)).await?.ok_or_else(|| ContractError::not_found(format_args!("no record {id}")))
}

/// What is private of a record that is not erased.
async fn kept(tx: &mut Transaction<'_>, id: &str) -> Result<Kept, ContractError> {
    let kept = tx.read_private(collection::RECORDS, &[keys::record(id)]).await?.into_iter().next().flatten();
    kept.ok_or_else(|| ContractError::failed("this peer does not have what is private of the record yet: try again"))
}
