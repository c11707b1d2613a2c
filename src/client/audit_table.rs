//! The audit for people.

use super::audit_csv::word;
use super::table;
use ehrnet_messages::AuditEntry;

/// One line per entry, below a heading.
pub fn lines(entries: &[AuditEntry]) -> Vec<String> {
    let heading = ["AT", "WHAT", "DECISION", "REASON", "PURPOSE", "BY", "RECORD", "REVIEW", "TRANSACTION"];
    table::lines(heading, entries.iter().map(row))
}

fn row(entry: &AuditEntry) -> [String; 9] {
    let by = match entry.detail.as_deref() {
        Some(detail) => format!("{} ({})", detail.actor.id, detail.actor.msp_id),
        None => entry.actor_msp.clone(),
    };
    [
        entry.at.to_string(),
        word(&entry.kind),
        entry.decision.map(|decision| word(&decision)).unwrap_or_default(),
        entry.reason.clone().unwrap_or_default(),
        entry.purpose.as_ref().map(|purpose| purpose.code.clone()).unwrap_or_default(),
        by,
        entry.record.clone().unwrap_or_else(|| "all".into()),
        entry.review.as_deref().map(|review| word(&review.status)).unwrap_or_default(),
        entry.tx_id.chars().take(12).collect(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::entry;
    use serde_json::json;

    #[test]
    fn who_is_shown_where_it_may_be_known() {
        let known = json!({"detail": {"actor": {"mspId": "AMSP", "id": "Practitioner/7"}}});
        let lines = lines(&[entry(json!({})), entry(known)]);
        assert!(lines[1].contains("TREAT    AMSP "), "{}", lines[1]);
        assert!(lines[2].contains("Practitioner/7 (AMSP)"), "{}", lines[2]);
    }
}
