//! Keys of the ledger: composite, in Fabric's encoding (U+0000, kind, U+0000, part, U+0000, ...).
//!
//! Everything that is written once has the transaction's id in its key, so that no two transactions write the same key
//! and none reads what another one writes: no counters, no lists in one value. Keys tell nothing: peers log the keys of
//! purged data.

use jiff::Timestamp;

/// Fabric's separator of the parts.
const SEPARATOR: char = '\0';

fn composite(kind: &str, parts: &[&str]) -> String {
    let mut key = String::from(SEPARATOR);
    for part in std::iter::once(&kind).chain(parts) {
        key.push_str(part);
        key.push(SEPARATOR);
    }
    key
}

/// Keys from the first (included) to the second (excluded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First key.
    pub start: String,
    /// First key after.
    pub end: String,
}

impl Range {
    /// All keys of a kind that begin with these parts.
    fn below(kind: &str, parts: &[&str]) -> Self {
        let start = composite(kind, parts);
        let end = format!("{start}{}", char::MAX);
        Self { start, end }
    }

    /// The same from a time on and up to, without, another.
    fn between(kind: &str, part: &str, from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let all = Self::below(kind, &[part]);
        let at = |time: Timestamp| composite(kind, &[part, &moment(time)]);
        Self { start: from.map_or(all.start, at), end: until.map_or(all.end, at) }
    }

    /// Whether the key lies in it.
    pub fn contains(&self, key: &str) -> bool {
        *self.start <= *key && *key < *self.end
    }
}

/// A time as part of a key: the order of texts is the order of times.
fn moment(at: Timestamp) -> String {
    format!("{at:.9}")
}

fn number(number: u64) -> String {
    format!("{number:020}")
}

/// A record; public, and in its collection.
pub fn record(record: &str) -> String {
    composite("record", &[record])
}

/// The newest version of a consent.
pub fn consent(patient: &str, consent: &str) -> String {
    composite("consent", &[patient, consent])
}

/// The newest versions of all consents of a patient.
pub fn consents(patient: &str) -> Range {
    Range::below("consent", &[patient])
}

/// A version of a consent; public, and in its collection.
pub fn consent_version(patient: &str, consent: &str, seq: u64) -> String {
    composite("consent-version", &[patient, consent, &number(seq)])
}

/// All versions of a consent.
pub fn consent_versions(patient: &str, consent: &str) -> Range {
    Range::below("consent-version", &[patient, consent])
}

/// An audit entry, by patient.
pub fn audit(patient: &str, at: Timestamp, tx_id: &str) -> String {
    composite("audit", &[patient, &moment(at), tx_id])
}

/// The audit of a patient.
pub fn audit_of_patient(patient: &str, from: Option<Timestamp>, until: Option<Timestamp>) -> Range {
    Range::between("audit", patient, from, until)
}

/// Where an audit entry is, by actor; the value is the key by patient.
pub fn audit_by_actor(actor: &str, at: Timestamp, tx_id: &str) -> String {
    composite("audit-actor", &[actor, &moment(at), tx_id])
}

/// The audit of an actor.
pub fn audit_of_actor(actor: &str, from: Option<Timestamp>, until: Option<Timestamp>) -> Range {
    Range::between("audit-actor", actor, from, until)
}

/// What is private of an audit entry, in its collection.
pub fn audit_secret(tx_id: &str) -> String {
    composite("audit", &[tx_id])
}

/// What is private of a review, in the collection of the audit.
pub fn review_secret(tx_id: &str) -> String {
    composite("review", &[tx_id])
}

/// A review of break-glass.
pub fn review(tx_id: &str) -> String {
    composite("review", &[tx_id])
}

/// That a review is to be done; the value is the review.
pub fn open_review(due_by: Timestamp, tx_id: &str) -> String {
    composite("review-open", &[&moment(due_by), tx_id])
}

/// All reviews that are to be done, by when they are due.
pub fn open_reviews() -> Range {
    Range::below("review-open", &[])
}

/// The newest version of a policy.
pub fn policy(name: &str) -> String {
    composite("policy", &[name])
}

/// A version of a policy.
pub fn policy_version(name: &str, version: u64) -> String {
    composite("policy-version", &[name, &number(version)])
}

/// That a hospital agrees to a version of a policy.
pub fn policy_approval(name: &str, version: u64, msp_id: &str) -> String {
    composite("policy-approval", &[name, &number(version), msp_id])
}

/// All that agree to a version of a policy.
pub fn policy_approvals(name: &str, version: u64) -> Range {
    Range::below("policy-approval", &[name, &number(version)])
}

/// The policy that claims a scope, with all it says.
pub fn policy_of_scope(scope: &str) -> String {
    composite("policy-scope", &[scope])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_of_fabrics_composite_keys() {
        // fabric-chaincode-go: CreateCompositeKey("record", []string{"r1"}).
        assert_eq!(record("r1"), "\u{0}record\u{0}r1\u{0}");
    }

    #[test]
    fn a_range_has_what_begins_with_all_its_parts_and_nothing_else() {
        let range = consents("aa");
        assert!(range.contains(&consent("aa", "c")));
        assert!(!range.contains(&consent("aab", "c")) && !range.contains(&consent("a", "a")));
        assert!(!range.contains(&consent_version("aa", "c", 1)));
    }

    #[test]
    fn a_period_takes_its_first_moment_and_not_its_last() {
        let at = |second| Timestamp::from_second(second).expect("time");
        let range = audit_of_patient("p", Some(at(10)), Some(at(20)));
        assert!(range.contains(&audit("p", at(10), "t")) && range.contains(&audit("p", at(19), "t")));
        assert!(!range.contains(&audit("p", at(9), "t")) && !range.contains(&audit("p", at(20), "t")));
        assert!(!range.contains(&audit("q", at(15), "t")));
    }

    #[test]
    fn times_are_ordered_as_their_texts() {
        let at = |nanoseconds| moment(Timestamp::from_nanosecond(nanoseconds).expect("time"));
        assert_eq!(at(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
        assert!(at(999_999_999) < at(1_000_000_000) && at(1_000_000_000) < at(1_000_000_001));
    }
}
