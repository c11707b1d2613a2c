//! The audit as CSV (RFC 4180), one entry a line.

use ehrnet_messages::AuditEntry;

const HEADING: [&str; 24] = [
    "at",
    "kind",
    "decision",
    "basis",
    "reason",
    "patient",
    "record",
    "actorMsp",
    "actor",
    "actorId",
    "role",
    "purpose",
    "action",
    "project",
    "residual",
    "expiresAt",
    "policyDigest",
    "consentDigest",
    "reviewBy",
    "reviewStatus",
    "justification",
    "recipient",
    "reviewNotes",
    "txId",
];

/// The entries with a heading.
///
/// # Errors
/// Never for memory; the type is the writer's.
pub fn write(entries: &[AuditEntry]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADING)?;
    for entry in entries {
        writer.write_record(row(entry).map(harmless))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// A spreadsheet would run a text that begins like a formula: an apostrophe makes it a text.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

fn row(entry: &AuditEntry) -> [String; 24] {
    let detail = entry.detail.as_deref();
    let review = entry.review.as_deref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let code =
        |code: &Option<ehrnet_consent::code::Code>| code.as_ref().map(|code| code.code.clone()).unwrap_or_default();
    [
        entry.at.to_string(),
        word(&entry.kind),
        entry.decision.map(|decision| word(&decision)).unwrap_or_default(),
        entry.basis.map(|basis| word(&basis)).unwrap_or_default(),
        text(entry.reason.as_ref()),
        entry.patient.clone(),
        text(entry.record.as_ref()),
        entry.actor_msp.clone(),
        entry.actor.clone(),
        text(detail.map(|detail| &detail.actor.id)),
        text(detail.and_then(|detail| detail.actor.role.as_ref())),
        code(&entry.purpose),
        code(&entry.action),
        text(entry.project.as_ref()),
        entry.residual.to_string(),
        entry.expires_at.map(|end| end.to_string()).unwrap_or_default(),
        text(entry.policy_digest.as_ref()),
        text(entry.consent_digest.as_ref()),
        entry.review_by.map(|due| due.to_string()).unwrap_or_default(),
        review.map(|review| word(&review.status)).unwrap_or_default(),
        text(detail.and_then(|detail| detail.justification.as_ref())),
        text(detail.and_then(|detail| detail.recipient.as_ref()).map(|recipient| &recipient.name)),
        text(detail.and_then(|detail| detail.review_notes.as_ref())),
        entry.tx_id.clone(),
    ]
}

/// How a value that is one word is written in JSON.
pub fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::entry;
    use serde_json::json;

    #[test]
    fn each_entry_is_a_line_with_its_own_columns() {
        let entry = entry(json!({
            "decision": "DENY", "reason": "provision-denies",
            "detail": {"actor": {"mspId": "AMSP", "id": "Practitioner/7"}, "justification": "found \"down\", alone"},
        }));
        let text = String::from_utf8(write(&[entry]).expect("CSV")).expect("UTF-8");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(HEADING.join(",").as_str()));
        let line = lines.next().expect("a line");
        assert!(line.starts_with("2026-11-23T12:00:00Z,access,DENY,consent,provision-denies,"), "{line}");
        assert!(line.contains(r#""found ""down"", alone""#), "{line}");
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_run_is_made_harmless() {
        let detail = json!({"actor": {"mspId": "AMSP", "id": "=1+1"}});
        let text = String::from_utf8(write(&[entry(json!({"detail": detail}))]).expect("CSV")).expect("UTF-8");
        assert!(text.contains(",'=1+1,"), "{text}");
    }
}
