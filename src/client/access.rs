//! Access: requested, tried out and explained.

use serde_json::Value;

use super::audit_csv::word;
use super::contract::salt;
use super::explain::{Asked, provision_at, sentence};
use super::{ClientError, Contract, consents};
use ehrnet_messages::{
    AccessSecret, AuditEntry, DecideAccess, DecisionDetail, DryRun, GetDecision, HeldDecision, RequestAccess,
};

/// Requests access. The answer is committed when this returns.
///
/// # Errors
/// The ledger refuses to answer or cannot be reached. A DENY is an answer.
pub async fn request(
    contract: &Contract,
    asked: &RequestAccess,
    justification: Option<String>,
) -> Result<AuditEntry, ClientError> {
    contract.call(asked, Some(&AccessSecret { salt: salt(), justification })).await
}

/// What would be answered now. Nothing is recorded, so nothing may be released on it.
///
/// # Errors
/// The ledger refuses to answer or cannot be reached.
pub async fn try_out(
    contract: &Contract,
    asked: &RequestAccess,
    justification: Option<String>,
) -> Result<DryRun, ClientError> {
    contract.call(&DecideAccess(asked.clone()), Some(&AccessSecret { salt: salt(), justification })).await
}

/// A committed decision with what is private of it.
///
/// # Errors
/// The ledger refuses to answer or cannot be reached.
pub async fn held(contract: &Contract, tx_id: &str) -> Result<HeldDecision, ClientError> {
    contract.call(&GetDecision { tx_id: tx_id.to_owned() }, None).await
}

/// The committed decision in one sentence.
///
/// # Errors
/// The ledger cannot be reached.
pub async fn explain(contract: &Contract, entry: &AuditEntry) -> Result<String, ClientError> {
    let Some(private) = entry.detail.as_deref() else { return Ok(in_public(entry)) };
    let Some(detail) = &private.decision else { return Ok(in_public(entry)) };
    let purpose = entry.purpose.as_ref().map_or("no purpose", |purpose| purpose.code.as_str());
    let asked = Asked { who: &private.actor.id, record: entry.record.as_deref(), purpose };
    explain_detail(contract, &entry.patient, asked, detail).await
}

/// A decision in one sentence, with the provision where the caller may read the consent.
///
/// # Errors
/// The ledger cannot be reached.
pub async fn explain_detail(
    contract: &Contract,
    patient: &str,
    asked: Asked<'_>,
    detail: &DecisionDetail,
) -> Result<String, ClientError> {
    let provision = provision(contract, patient, detail).await?;
    Ok(sentence(asked, detail, provision.as_ref()))
}

/// The provision that decided; none where there is none or the caller may not know it.
async fn provision(contract: &Contract, patient: &str, detail: &DecisionDetail) -> Result<Option<Value>, ClientError> {
    let (Some(consent), Some(path)) = (&detail.consent, &detail.matched_path) else { return Ok(None) };
    let known = match consents::list(contract, patient).await {
        Err(error) if error.is_refusal() => return Ok(None),
        known => known?,
    };
    // A newer version may say something else at that place.
    let same = known
        .into_iter()
        .find(|version| version.consent == *consent && detail.consent_digest.as_ref() == Some(&version.digest));
    let resource = same.and_then(|version| version.detail).and_then(|detail| detail.resource);
    Ok(resource.and_then(|resource| provision_at(&resource, path).cloned()))
}

/// What the ledger says of a decision in public.
fn in_public(entry: &AuditEntry) -> String {
    let decision = entry.decision.map(|decision| word(&decision)).unwrap_or_default();
    let basis = entry.basis.map(|basis| word(&basis)).unwrap_or_default();
    let reason = entry.reason.as_deref().unwrap_or_default();
    format!(
        "{decision} for {} (basis {basis}, reason {reason}); who asked and why is for the patient and privacy officers.",
        entry.actor_msp
    )
}
