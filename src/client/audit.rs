//! The audit, and the reviews of break-glass.

use super::contract::salt;
use super::{ClientError, Contract};
use ehrnet_messages::{
    AuditEntry, BreakGlassReview, ListReviews, Page, QueryAudit, Review, ReviewOutcome, ReviewSecret,
};

/// Entries that are asked for at a time.
const PAGE: u16 = 100;

/// All entries that `query` is about, page by page, but not more than `most`.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn query(contract: &Contract, mut query: QueryAudit, most: usize) -> Result<Vec<AuditEntry>, ClientError> {
    let mut entries = Vec::new();
    while entries.len() < most {
        let size = u16::try_from(most - entries.len()).map_or(PAGE, |left| left.min(PAGE));
        query.page.size = Some(size);
        let part = contract.call(&query, None).await?;
        entries.extend(part.entries);
        match part.bookmark {
            Some(bookmark) => query.page.bookmark = Some(bookmark),
            None => break,
        }
    }
    Ok(entries)
}

/// The reviews that are due, the most urgent first.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn reviews(contract: &Contract) -> Result<Vec<Review>, ClientError> {
    let mut reviews = Vec::new();
    let mut page = Page { size: Some(PAGE), bookmark: None };
    loop {
        let part = contract.call(&ListReviews { page: page.clone() }, None).await?;
        reviews.extend(part.reviews);
        match part.bookmark {
            Some(bookmark) => page.bookmark = Some(bookmark),
            None => return Ok(reviews),
        }
    }
}

/// Reviews a use of break-glass.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn review(
    contract: &Contract,
    tx_id: String,
    outcome: ReviewOutcome,
    notes: Option<String>,
) -> Result<Review, ClientError> {
    contract.call(&BreakGlassReview { tx_id, outcome }, Some(&ReviewSecret { salt: salt(), notes })).await
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A permitted access with these members besides; null leaves one out.
    pub(crate) fn entry(members: Value) -> AuditEntry {
        let mut entry = json!({
            "kind": "access", "txId": "t1", "at": "2026-11-23T12:00:00Z", "patient": "ab12", "record": "r-1", "actorMsp": "AMSP",
            "actor": "cd34", "purpose": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"},
            "decision": "PERMIT", "basis": "consent", "reason": "provision-permits", "residual": false,
        });
        for (name, value) in members.as_object().expect("members") {
            entry[name] = value.clone();
        }
        serde_json::from_value(entry).expect("an entry")
    }
}
