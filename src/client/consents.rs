//! Consents: put, revoked and listed, for the patient or a delegate.

use serde_json::Value;

use super::contract::salt;
use super::{ClientError, Contract};
use ehrnet_consent::context::ProvisionContext;
use ehrnet_consent::fhir;
use ehrnet_messages::{ConsentSecret, ConsentVersion, GetConsents, Page, PutConsent, RevokeConsent};

/// Entries that are asked for at a time.
const PAGE: u16 = 100;

/// The newest version of each consent of a patient.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn list(contract: &Contract, patient: &str) -> Result<Vec<ConsentVersion>, ClientError> {
    let mut consents = Vec::new();
    let mut page = Page { size: Some(PAGE), bookmark: None };
    loop {
        let part = contract.call(&GetConsents { patient: patient.to_owned(), page: page.clone() }, None).await?;
        consents.extend(part.consents);
        match part.bookmark {
            Some(bookmark) => page.bookmark = Some(bookmark),
            None => return Ok(consents),
        }
    }
}

/// The number of the next change of a consent.
async fn next(contract: &Contract, patient: &str, consent: &str) -> Result<u64, ClientError> {
    let consents = list(contract, patient).await?;
    Ok(consents.iter().find(|found| found.consent == consent).map_or(1, |found| found.seq + 1))
}

/// A FHIR Consent resource that a patient gives.
#[derive(Clone, Debug)]
pub struct Given {
    /// Pseudonym of the patient.
    pub patient: String,
    /// Id of the consent on the ledger.
    pub consent: String,
    /// The resource, R4 or R5.
    pub resource: Value,
    /// Number of the change; the next one if absent.
    pub seq: Option<u64>,
    /// SHA-256 of the signed document.
    pub source_hash: Option<String>,
    /// Who gave the consent.
    pub performer: Option<String>,
}

/// Puts a consent, or a new version of it.
///
/// # Errors
/// The resource is refused (with every wrong field) before anything is sent, if no policy could make sense of it; the ledger
/// refuses or cannot be reached.
pub async fn put(contract: &Contract, given: Given) -> Result<ConsentVersion, ClientError> {
    let Given { patient, consent, resource, seq, source_hash, performer } = given;
    let read = fhir::read(&resource, None, &ProvisionContext::default());
    let errors = read.err().unwrap_or_default();
    // What a policy may mend only the ledger can judge.
    if errors.iter().any(|error| !error.by_policy) {
        return Err(ClientError::Input(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nehrnet: ")));
    }
    let seq = match seq {
        Some(seq) => seq,
        None => next(contract, &patient, &consent).await?,
    };
    let secret = ConsentSecret { salt: salt(), resource, source_hash, performer };
    contract.call(&PutConsent { patient, consent, seq }, Some(&secret)).await
}

/// Revokes a consent: it takes effect in the block that carries it.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn revoke(
    contract: &Contract,
    patient: String,
    consent: String,
    seq: Option<u64>,
) -> Result<ConsentVersion, ClientError> {
    let seq = match seq {
        Some(seq) => seq,
        None => next(contract, &patient, &consent).await?,
    };
    contract.call(&RevokeConsent { patient, consent, seq }, None).await
}
