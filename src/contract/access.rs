//! Access: decided by the evaluator from what stands on the ledger, and committed whatever the answer is.
//!
//! ```text
//! record, policy, consents (public) ─> DecisionInputs ─┐
//! what consents say, codes (private) ──────────┼─> consent::decide ─> entry (public) + detail (private)
//! certificate, purpose, transaction time ──────┘
//! ```
//!
//! A request writes keys of its own transaction only and reads none that another request writes: requests for one
//! patient never conflict. They do conflict with a change of that patient's consents in the same block, as they must.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::audit::{self, entry};
use super::call::{check_id, check_patient, check_salt};
use super::error::ContractError;
use super::policies::{self, InForce};
use super::records::Kept;
use super::transaction::Transaction;
use super::{consents, keys, reviews};
use ehrnet_consent::code::Code;
use ehrnet_consent::context::ProvisionContext;
use ehrnet_consent::decision::Effect;
use ehrnet_consent::evaluate::review_due;
use ehrnet_consent::request::is_research;
use ehrnet_consent::rules::{Basis, Reason};
use ehrnet_consent::subject::Standing;
use ehrnet_consent::vocabulary::ConsentScope;
use ehrnet_consent::{self as consent, Consent, Decision, Request};
use ehrnet_messages::hash;
use ehrnet_messages::{
    AccessSecret, AuditEntry, AuditKind, ConsentStatus, ConsentVersion, DecideAccess, DecisionDetail, DryRun, Event,
    GetDecision, HeldDecision, PolicyVersion, Record, Refusal, RequestAccess, collection, event, role,
};

/// Longest justification.
const MAX_JUSTIFICATION: usize = 4_096;

/// Everything public on the ledger that a decision is made from.
struct DecisionInputs {
    record: Option<Record>,
    scope: ConsentScope,
    in_force: InForce,
    consents: Vec<ConsentVersion>,
}

impl DecisionInputs {
    async fn read(
        tx: &mut Transaction<'_>,
        patient: &str,
        record: Option<&str>,
        scope: ConsentScope,
    ) -> Result<Self, ContractError> {
        let record = record.map(keys::record);
        let (record, policies) = tx.read_with(record.as_deref(), &InForce::keys()).await?;
        let consents = consents::index(tx, patient).await?;
        Ok(Self { record, scope, in_force: InForce::new(policies), consents })
    }

    /// Changes whenever anything does that could change the decision.
    fn digest(&self) -> String {
        let record = self.record.as_ref().map(|record| (record.version, record.erased.is_some()));
        let policies = self.in_force.digests();
        let consents: Vec<_> = self.consents.iter().map(|consent| (&consent.consent, consent.seq)).collect();
        hex::encode(Sha256::digest(json!([record, policies, consents]).to_string()))
    }

    /// The policy that decides.
    fn policy(&self) -> Option<&PolicyVersion> {
        self.in_force.of(self.scope)
    }

    fn policy_digest(&self) -> Option<String> {
        self.policy().map(|policy| policy.digest.clone())
    }
}

/// A decision and what the audit needs besides.
struct Decided {
    detail: DecisionDetail,
    inputs: DecisionInputs,
    action: Option<Code>,
    purpose: Option<Code>,
    review_by: Option<jiff::Timestamp>,
}

/// Decides, and commits the decision.
pub async fn request(tx: &mut Transaction<'_>) -> Result<AuditEntry, ContractError> {
    let (argument, secret) = tx.call.private_input::<RequestAccess>()?;
    let salt = check_salt(&secret.salt)?;
    let decided = decide(tx, &argument, secret.justification.as_deref()).await?;
    let detail = decided.detail;
    let entry = AuditEntry {
        record: argument.record,
        action: decided.action,
        purpose: decided.purpose,
        project: argument.project,
        decision: Some(detail.decision),
        basis: Some(detail.basis),
        reason: Some(detail.reason.clone()),
        residual: !detail.residual.is_empty(),
        expires_at: detail.expires_at,
        policy_digest: detail.policy_digest.clone(),
        consent_digest: detail.consent_digest.clone(),
        justification_hash: secret.justification.as_ref().map(|text| hash::salted(&salt, text.as_bytes())),
        review_by: decided.review_by,
        ..entry(tx, AuditKind::Access, &argument.patient)
    };
    let mut kept = audit::Secret { salt: secret.salt, ..audit::Secret::of(tx, &entry) };
    kept.detail.decision = Some(detail);
    kept.detail.justification = secret.justification;
    kept.inputs = Some(decided.inputs.digest());
    audit::write(tx, &entry, kept)?;
    if let Some(due_by) = entry.review_by {
        reviews::open(tx, &entry, due_by)?;
    }
    let name = if entry.review_by.is_some() { event::GLASS_BROKEN } else { event::ACCESS_DECIDED };
    let (patient, subject) = (Some(entry.patient.clone()), entry.record.clone());
    tx.emit(name, Event { patient, subject, decision: entry.decision, ..Event::default() })?;
    Ok(entry)
}

/// Decides, and leaves no trace.
pub async fn dry_run(tx: &mut Transaction<'_>) -> Result<DryRun, ContractError> {
    let (DecideAccess(argument), secret) = tx.call.input::<DecideAccess>()?;
    let justification = secret.and_then(|AccessSecret { justification, .. }| justification);
    let decided = decide(tx, &argument, justification.as_deref()).await?;
    Ok(DryRun { audited: false, detail: decided.detail })
}

/// Reads a decision that was committed.
pub async fn get(tx: &mut Transaction<'_>) -> Result<HeldDecision, ContractError> {
    let (argument, _) = tx.call.input::<GetDecision>()?;
    let held = held(tx, &argument.tx_id).await?;
    let caller = tx.caller();
    if held.entry.detail.as_ref().is_none_or(|detail| detail.actor != caller.person) {
        caller.must_oversee(&held.entry.patient)?;
    }
    Ok(held)
}

/// The decision of a transaction, and whether it still holds. Whose it is the caller of this checks.
pub(super) async fn held(tx: &mut Transaction<'_>, tx_id: &str) -> Result<HeldDecision, ContractError> {
    check_id("txId", tx_id)?;
    let found = audit::find(tx, tx_id).await?.filter(|(entry, _)| entry.kind == AuditKind::Access);
    let (entry, made_from) = found.ok_or_else(|| ContractError::not_found("no decision has this transaction id"))?;
    let scope = scope(entry.purpose.as_ref());
    let inputs = DecisionInputs::read(tx, &entry.patient, entry.record.as_deref(), scope).await?;
    let current = entry.decision == Some(Effect::Permit)
        && made_from == Some(inputs.digest())
        && entry.expires_at.is_none_or(|end| tx.now() < end);
    Ok(HeldDecision { current, entry })
}

/// Research has policies and consents of its own: a consent to treatment never permits it, nor the other way round.
fn scope(purpose: Option<&Code>) -> ConsentScope {
    if purpose.is_some_and(is_research) { ConsentScope::Research } else { ConsentScope::PatientPrivacy }
}

async fn decide(
    tx: &mut Transaction<'_>,
    argument: &RequestAccess,
    justification: Option<&str>,
) -> Result<Decided, ContractError> {
    check_patient(&argument.patient)?;
    argument.record.as_deref().map(|record| check_id("record", record)).transpose()?;
    check_project(argument.project.as_deref())?;
    if justification.is_some_and(|text| text.len() > MAX_JUSTIFICATION) {
        return Err(ContractError::malformed(format_args!("justification may have {MAX_JUSTIFICATION} bytes")));
    }
    let mut json = json!({
        "patient": format!("Patient/{}", argument.patient),
        "actor": tx.caller().as_actor(),
        "action": argument.action,
        "purpose": argument.purpose,
        "breakGlass": {"justification": justification},
    });
    let asked = Request::parse(&json, &ProvisionContext::default()).map_err(ContractError::malformed)?;
    if asked.purpose.is_none() {
        return Err(ContractError::malformed("request.purpose is required: one v3-ActReason code"));
    }
    let scope = scope(asked.purpose.as_ref());
    let inputs = DecisionInputs::read(tx, &argument.patient, argument.record.as_deref(), scope).await?;
    let (action, purpose) = (asked.action, asked.purpose);
    if let Some(refusal) = refuse(tx, argument, inputs.record.as_ref()) {
        let detail =
            DecisionDetail { policy_digest: inputs.policy_digest(), ..detail(Decision::error(), word(refusal), None) };
        return Ok(Decided { detail, inputs, action, purpose, review_by: None });
    }
    if let Some(record) = &inputs.record {
        json["resource"] = resource(tx, record).await?;
    }
    let (decision, consent, review_by) = evaluate(tx, &inputs, &json).await?;
    let reason = word(decision.reason);
    let detail = DecisionDetail { policy_digest: inputs.policy_digest(), ..detail(decision, reason, consent) };
    Ok(Decided { detail, inputs, action, purpose, review_by })
}

/// Why access is denied whatever the consents say.
fn refuse(tx: &Transaction<'_>, argument: &RequestAccess, record: Option<&Record>) -> Option<Refusal> {
    let caller = tx.caller();
    match (record, &argument.record) {
        _ if argument.role.as_ref().is_some_and(|role| !caller.is(role)) => Some(Refusal::RoleNotCertified),
        _ if caller.is(role::DEVICE) => Some(Refusal::DeviceMayNotRead),
        (None, Some(_)) => Some(Refusal::UnknownRecord),
        (Some(record), _) if record.patient != argument.patient => Some(Refusal::OtherPatientsRecord),
        (Some(record), _) if record.erased.is_some() => Some(Refusal::ErasedRecord),
        _ => None,
    }
}

/// The record in the evaluator's words. Class and labels go without their systems, which makes them match a consent that
/// left the system out as well: their codes are unambiguous, and a denial must not miss for want of a URI. Clinical codes
/// are private, and unknown where the hospital gave none.
async fn resource(tx: &mut Transaction<'_>, record: &Record) -> Result<Value, ContractError> {
    let kept = tx.read_private::<Kept>(collection::RECORDS, &[keys::record(&record.record)]).await?;
    let codes = kept.into_iter().next().flatten().and_then(|kept| kept.codes);
    let sensitivity = record.sensitivity.iter().map(|coding| &coding.code);
    Ok(json!({
        "id": format!("{}/{}", record.class.code, record.record),
        "class": [record.class.code],
        "codes": codes,
        "securityLabels": std::iter::once(&record.confidentiality).chain(sensitivity).collect::<Vec<_>>(),
        "author": [record.author],
        "authoredOn": record.authored_on,
    }))
}

/// Asks the evaluator: the decision, the consent that decided, and when a use of break-glass must be reviewed. What
/// cannot be read is a denial.
async fn evaluate(
    tx: &mut Transaction<'_>,
    inputs: &DecisionInputs,
    request: &Value,
) -> Result<(Decision, Option<ConsentVersion>, Option<jiff::Timestamp>), ContractError> {
    let failed = || Ok((Decision::error(), None, None));
    let Some(version) = inputs.policy() else { return Ok((Decision::refusal(Reason::NoPolicy), None, None)) };
    let Some(policy) = policies::decided_by(version, inputs.scope) else { return failed() };
    let active: Vec<&ConsentVersion> =
        inputs.consents.iter().filter(|consent| consent.status == ConsentStatus::Active).collect();
    let (mut consents, versions): (Vec<Consent>, Vec<&ConsentVersion>) =
        consents::read(tx, &active, &inputs.in_force).await?.into_iter().unzip();
    let Ok(request) = Request::parse(request, policy.context()) else { return failed() };
    for consent in &mut consents {
        // A consent to research permits no care, nor the other way round; what it denies it denies.
        let permits = match inputs.scope {
            ConsentScope::PatientPrivacy => !consent.perhaps_research,
            ConsentScope::Research => consent.is_about(ConsentScope::Research),
        };
        if !permits {
            consent.at_most = Standing::Elsewhere;
        }
    }
    let decision = consent::decide(&consents, &policy, &request, tx.now());
    let decided = decision.consent_digest.as_ref();
    let at = decided.and_then(|digest| consents.iter().position(|consent| consent.digest == *digest));
    let broken = decision.decision == Effect::Permit && decision.basis == Basis::Breakglass;
    let review_by = broken.then(|| review_due(&policy, tx.now()));
    Ok((decision, at.map(|at| versions[at].clone()), review_by))
}

fn detail(decision: Decision, reason: String, consent: Option<ConsentVersion>) -> DecisionDetail {
    let (consent, consent_digest) = consent.map(|version| (version.consent, version.digest)).unzip();
    DecisionDetail {
        decision: decision.decision,
        basis: decision.basis,
        reason,
        consent,
        consent_digest,
        matched_path: decision.matched_path,
        residual: decision.residual,
        obligations: decision.obligations,
        expires_at: decision.expires_at,
        policy_digest: None,
    }
}

/// The word that an enum is written as.
fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

fn check_project(project: Option<&str>) -> Result<(), ContractError> {
    let fits = project.is_none_or(|project| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        (1..=64).contains(&project.len()) && project.bytes().all(known)
    });
    let message = "project must be 1 to 64 of letters, digits, `.`, `_` and `-`";
    fits.then_some(()).ok_or_else(|| ContractError::malformed(message))
}
