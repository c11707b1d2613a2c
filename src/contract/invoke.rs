//! Dispatch: calls the function that a transaction names.

use super::call::Call;
use super::error::ContractError;
use super::stub::{ChaincodeStub, Effects};
use super::transaction::Transaction;
use super::{access, audit, consents, policies, records, reviews};
use ehrnet_messages::Members;
use ehrnet_messages::{
    ApprovePolicy, BreakGlassReview, ConsentHistory, DecideAccess, EraseRecord, Function, GetConsents, GetDecision,
    GetPolicy, GetRecord, ListReviews, PutConsent, PutPolicy, QueryAudit, RecordDisclosure, RegisterRecord,
    RequestAccess, RevokeConsent, VerifyRecord, WithdrawPolicy,
};

/// Runs a call: the answer as JSON, and what it leaves behind.
///
/// # Errors
/// The call cannot be answered; it leaves nothing behind.
pub async fn invoke(
    call: &Call,
    members: &Members,
    ledger: &mut dyn ChaincodeStub,
) -> Result<(Vec<u8>, Effects), ContractError> {
    let mut tx = Transaction::new(call, members, ledger);
    let payload = match call.function()? {
        RegisterRecord::NAME => answer::<RegisterRecord>(records::register(&mut tx).await),
        EraseRecord::NAME => answer::<EraseRecord>(records::erase(&mut tx).await),
        GetRecord::NAME => answer::<GetRecord>(records::get(&mut tx).await),
        VerifyRecord::NAME => answer::<VerifyRecord>(records::verify(&mut tx).await),
        PutConsent::NAME => answer::<PutConsent>(consents::put(&mut tx).await),
        RevokeConsent::NAME => answer::<RevokeConsent>(consents::revoke(&mut tx).await),
        GetConsents::NAME => answer::<GetConsents>(consents::list(&mut tx).await),
        ConsentHistory::NAME => answer::<ConsentHistory>(consents::history(&mut tx).await),
        RequestAccess::NAME => answer::<RequestAccess>(access::request(&mut tx).await),
        DecideAccess::NAME => answer::<DecideAccess>(access::dry_run(&mut tx).await),
        GetDecision::NAME => answer::<GetDecision>(access::get(&mut tx).await),
        BreakGlassReview::NAME => answer::<BreakGlassReview>(reviews::review(&mut tx).await),
        ListReviews::NAME => answer::<ListReviews>(reviews::list(&mut tx).await),
        RecordDisclosure::NAME => answer::<RecordDisclosure>(audit::disclose(&mut tx).await),
        QueryAudit::NAME => answer::<QueryAudit>(audit::query(&mut tx).await),
        ApprovePolicy::NAME => answer::<ApprovePolicy>(policies::approve(&mut tx).await),
        PutPolicy::NAME => answer::<PutPolicy>(policies::put(&mut tx).await),
        WithdrawPolicy::NAME => answer::<WithdrawPolicy>(policies::withdraw(&mut tx).await),
        GetPolicy::NAME => answer::<GetPolicy>(policies::get(&mut tx).await),
        _ => Err(ContractError::not_found("the contract has no function of this name")),
    }?;
    Ok((payload, tx.into_effects()))
}

fn answer<F: Function>(output: Result<F::Output, ContractError>) -> Result<Vec<u8>, ContractError> {
    serde_json::to_vec(&output?).map_err(|_| ContractError::failed("the answer cannot be written as JSON"))
}
