//! Reviews: every use of break-glass has one, due by a time, done by a privacy officer.

use jiff::Timestamp;

use super::audit::ReviewKept;
use super::call::check_salt;
use super::error::ContractError;
use super::keys;
use super::transaction::Transaction;
use ehrnet_messages::{
    AuditEntry, BreakGlassReview, Event, ListReviews, Review, ReviewOutcome, ReviewPage, ReviewStatus, collection,
    event, role,
};

/// Longest notes of a review.
const MAX_NOTES: usize = 4_096;

/// Opens the review of an access by break-glass.
pub(super) fn open(tx: &mut Transaction<'_>, entry: &AuditEntry, due_by: Timestamp) -> Result<(), ContractError> {
    let review = Review {
        tx_id: entry.tx_id.clone(),
        patient: entry.patient.clone(),
        actor_msp: entry.actor_msp.clone(),
        actor: entry.actor.clone(),
        at: entry.at,
        due_by,
        status: ReviewStatus::Open,
        reviewer_msp: None,
        reviewer: None,
        reviewed_at: None,
    };
    tx.put(keys::open_review(due_by, &review.tx_id), &review)?;
    tx.put(keys::review(&review.tx_id), &review)
}

/// The review as it stands now.
pub(super) fn as_of(mut review: Review, now: Timestamp) -> Review {
    if review.status == ReviewStatus::Open && review.due_by < now {
        review.status = ReviewStatus::Overdue;
    }
    review
}

/// Records what a privacy officer found.
pub async fn review(tx: &mut Transaction<'_>) -> Result<Review, ContractError> {
    let (argument, secret) = tx.call.private_input::<BreakGlassReview>()?;
    let caller = tx.caller();
    caller.must_be(&[role::PRIVACY_OFFICER])?;
    check_salt(&secret.salt)?;
    if secret.notes.as_ref().is_some_and(|notes| notes.len() > MAX_NOTES) {
        return Err(ContractError::malformed(format_args!("notes may have {MAX_NOTES} bytes")));
    }
    super::call::check_id("txId", &argument.tx_id)?;
    let found: Option<Review> = tx.read(&keys::review(&argument.tx_id)).await?;
    let mut review = found.ok_or_else(|| ContractError::not_found("no use of break-glass has this transaction id"))?;
    if review.status != ReviewStatus::Open {
        return Err(ContractError::conflict("this use of break-glass was reviewed already"));
    }
    if review.actor == caller.hash() {
        return Err(ContractError::forbidden("nobody reviews their own use of break-glass"));
    }
    review.status = match argument.outcome {
        ReviewOutcome::Justified => ReviewStatus::Justified,
        ReviewOutcome::Unjustified => ReviewStatus::Unjustified,
    };
    review.reviewer_msp = Some(caller.person.msp_id.clone());
    review.reviewer = Some(caller.hash());
    review.reviewed_at = Some(tx.now());
    let kept = ReviewKept { salt: secret.salt, reviewer: caller.person.clone(), notes: secret.notes };
    tx.delete(keys::open_review(review.due_by, &review.tx_id));
    tx.put(keys::review(&review.tx_id), &review)?;
    tx.put_private(collection::AUDIT, keys::review_secret(&review.tx_id), &kept)?;
    let (patient, subject) = (Some(review.patient.clone()), Some(review.tx_id.clone()));
    tx.emit(event::BREAK_GLASS_REVIEWED, Event { patient, subject, ..Event::default() })?;
    Ok(review)
}

/// Lists the reviews that are to be done.
pub async fn list(tx: &mut Transaction<'_>) -> Result<ReviewPage, ContractError> {
    let (ListReviews { page }, _) = tx.call.input::<ListReviews>()?;
    let caller = tx.caller();
    if !caller.is_admin() {
        caller.must_be(&[role::PRIVACY_OFFICER])?;
    }
    let now = tx.now();
    let (reviews, bookmark) = tx.page::<Review>(&keys::open_reviews(), &page).await?;
    Ok(ReviewPage { reviews: reviews.into_iter().map(|review| as_of(review, now)).collect(), bookmark })
}
