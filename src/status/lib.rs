//! From findings to conditions: pure, the clock is handed in.
//!
//! Invariant: `Ready` is the sum of the others and says in one sentence what is being waited for or what is wrong;
//! `lastTransitionTime` moves only when the status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use ehrnet_api::Status;
use ehrnet_api::conditions::{ConditionType, READY, Reason};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it holds.
    pub state: State,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people: what is wrong or waited for, where, and what to do.
    pub message: String,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be known now.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Finding {
    /// It holds.
    pub fn good(message: impl Into<String>) -> Self {
        Self { state: State::True, reason: Reason::AsDeclared, message: message.into() }
    }

    /// It holds, but something deserves attention.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self { state: State::True, reason: Reason::Degraded, message: message.into() }
    }

    /// It does not hold.
    pub fn not(reason: Reason, message: impl Into<String>) -> Self {
        Self { state: State::False, reason, message: message.into() }
    }

    /// It cannot be known now.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { state: State::Unknown, reason, message: message.into() }
    }

    /// It cannot be known before an earlier step is done.
    pub fn comes_after(step: &str) -> Self {
        Self::unknown(Reason::Progressing, format!("comes after {step}"))
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.state == State::True
    }
}

/// The conditions of a resource: `Ready`, then the findings in the order in which things happen.
pub fn conditions(
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
    findings: &[(ConditionType, Finding)],
) -> Vec<Condition> {
    let ready = (ConditionType::Ready, ready(findings));
    std::iter::once(&ready)
        .chain(findings)
        .map(|(type_, finding)| condition(previous, generation, now, *type_, finding))
        .collect()
}

/// The first finding that does not hold; else the first that deserves attention; else all is well.
fn ready(findings: &[(ConditionType, Finding)]) -> Finding {
    let open = findings
        .iter()
        .find(|(_, finding)| !finding.holds())
        .map(|(_, finding)| Finding { state: State::False, ..finding.clone() });
    let attention = || findings.iter().map(|(_, f)| f).find(|f| f.reason == Reason::Degraded).cloned();
    open.or_else(attention).unwrap_or_else(|| Finding::good("all is as declared"))
}

/// Longest message that the API server accepts in a condition.
const MESSAGE_LIMIT: usize = 32_768;

fn condition(
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
    type_: ConditionType,
    finding: &Finding,
) -> Condition {
    let status = finding.state.as_str();
    let before = previous.iter().find(|c| c.type_ == type_.as_str() && c.status == status);
    let mut message = finding.message.clone();
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT).rev().find(|n| message.is_char_boundary(*n)).unwrap_or(0);
        message.truncate(end);
    }
    Condition {
        type_: type_.as_str().into(),
        status: status.into(),
        reason: finding.reason.as_str().into(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or_else(|| Time(now), |c| c.last_transition_time.clone()),
    }
}

/// Whether a status differs from the one before in nothing that others wait for: neither in whether the resource is ready
/// nor in a fact.
pub fn is_unhurried<S: Status>(before: Option<&S>, after: &S) -> bool {
    before.is_some_and(|before| {
        before != after && ready_status(before) == ready_status(after) && before.facts() == after.facts()
    })
}

fn ready_status(status: &impl Status) -> Option<&str> {
    status.conditions().iter().find(|condition| condition.type_ == READY).map(|ready| ready.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_api::NodeStatus;
    use ehrnet_api::node::NodeChannel;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a timestamp")
    }

    #[test]
    fn ready_names_the_first_thing_that_is_missing() {
        let findings = [
            (ConditionType::Accepted, Finding::good("fine")),
            (
                ConditionType::IdentityReady,
                Finding::not(Reason::WaitingForReference, "Hospital mercy does not exist yet"),
            ),
            (ConditionType::NodeReady, Finding::unknown(Reason::NodeUnreachable, "no answer")),
        ];
        let conditions = conditions(&[], Some(3), at(10), &findings);
        assert_eq!(conditions.len(), 4);
        assert_eq!((conditions[0].type_.as_str(), conditions[0].status.as_str()), ("Ready", "False"));
        assert_eq!(conditions[0].reason, "WaitingForReference");
        assert_eq!(conditions[0].message, "Hospital mercy does not exist yet");
        assert_eq!(conditions[0].observed_generation, Some(3));
        assert_eq!(conditions[3].status, "Unknown");
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let waiting = [(ConditionType::NodeReady, Finding::not(Reason::WaitingForPod, "soon"))];
        let first = conditions(&[], None, at(10), &waiting);
        let failing = [(ConditionType::NodeReady, Finding::not(Reason::PodFailing, "image cannot be pulled"))];
        let second = conditions(&first, None, at(20), &failing);
        assert_eq!(second[1].last_transition_time, Time(at(10)));
        assert_eq!(second[1].reason, "PodFailing");
        let third = conditions(&second, None, at(30), &[(ConditionType::NodeReady, Finding::good("runs"))]);
        assert_eq!(third[1].last_transition_time, Time(at(30)));
        assert_eq!(third[0].status, "True");
    }

    #[test]
    fn attention_shows_in_ready_without_making_it_false() {
        let findings = [(ConditionType::Accepted, Finding::degraded("an even number of orderers"))];
        let conditions = conditions(&[], None, at(1), &findings);
        assert_eq!((conditions[0].status.as_str(), conditions[0].reason.as_str()), ("True", "Degraded"));
    }

    #[test]
    fn a_status_may_wait_unless_others_wait_for_what_it_says() {
        let status = |ready: &str, reason: &str, height, joined: &[&str]| NodeStatus {
            conditions: vec![Condition {
                type_: READY.into(),
                status: ready.into(),
                reason: reason.into(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time(at(1)),
            }],
            channels: joined.iter().map(|name| NodeChannel { name: (*name).into(), height }).collect(),
            ..NodeStatus::default()
        };
        let before = status("False", "WaitingForPod", 1, &[]);
        assert!(is_unhurried(Some(&before), &status("False", "WaitingForReference", 1, &[])), "why it waits");
        assert!(!is_unhurried(Some(&before), &status("True", "AsDeclared", 1, &[])), "it is ready");
        assert!(!is_unhurried(Some(&before), &status("False", "WaitingForPod", 1, &["care"])), "a fact");
        assert!(!is_unhurried(None, &before), "the first");
        assert!(!is_unhurried(Some(&before), &before), "the same is not written at all");
        let ready = status("True", "AsDeclared", 1, &["care"]);
        assert!(is_unhurried(Some(&ready), &status("True", "AsDeclared", 2, &["care"])), "one block more");
    }
}
