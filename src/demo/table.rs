//! The live table (pure): what is known of each resource, when the whole sample is ready, and how that is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use serde::Deserialize;

use ehrnet_client::table;

/// A resource, as `Hospital st-mary`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: String,
    pub(super) name: String,
}

/// What a resource says about itself in one condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) ready: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl State {
    /// The state of `object` by its condition `condition`. A condition about an older generation of the spec is not
    /// one about what was applied.
    pub(super) fn of(object: &DynamicObject, condition: &str) -> Self {
        let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
        let conditions = Vec::<Condition>::deserialize(conditions).unwrap_or_default();
        let Some(found) = conditions.into_iter().find(|found| found.type_ == condition) else {
            return Self {
                reason: "NotYetSeen".into(),
                message: "the operator has not reported yet".into(),
                ready: false,
            };
        };
        let current = found.observed_generation.is_none_or(|seen| Some(seen) >= object.metadata.generation);
        Self { ready: current && found.status == "True", reason: found.reason, message: found.message }
    }
}

/// All resources of the namespace and which of them the demo waits for.
pub(super) struct Table {
    expected: BTreeSet<Key>,
    states: BTreeMap<Key, State>,
}

impl Table {
    /// A table that is ready when all of `expected` are.
    pub(super) fn new(expected: impl IntoIterator<Item = Key>) -> Self {
        Self { expected: expected.into_iter().collect(), states: BTreeMap::new() }
    }

    /// Notes the state of a resource; true if that is news.
    pub(super) fn note(&mut self, key: Key, state: State) -> bool {
        let old = self.states.insert(key.clone(), state);
        old.as_ref() != self.states.get(&key)
    }

    /// Forgets a resource that is gone; true if it was known.
    pub(super) fn forget(&mut self, key: &Key) -> bool {
        self.states.remove(key).is_some()
    }

    /// `Kind name` of what is waited for and not ready.
    pub(super) fn unready(&self) -> Vec<String> {
        let waits = |key: &&Key| !self.states.get(key).is_some_and(|state| state.ready);
        self.expected.iter().filter(waits).map(|key| format!("{} {}", key.kind, key.name)).collect()
    }

    /// One line per resource, below a heading.
    pub(super) fn lines(&self) -> Vec<String> {
        let rows = self.states.iter().map(|(key, state)| {
            [&key.kind, &key.name, ready_word(state), &state.reason, &state.message].map(str::to_owned)
        });
        table::lines(["KIND", "NAME", "READY", "REASON", "MESSAGE"], rows)
    }
}

/// One line about one change, for output that is not a terminal.
pub(super) fn change(since: Duration, key: &Key, state: Option<&State>) -> String {
    let time = elapsed(since);
    match state {
        Some(state) => {
            let message = one_line(&state.message);
            format!("{time:>7} {} {}: ready={} {} {message}", key.kind, key.name, ready_word(state), state.reason)
        }
        None => format!("{time:>7} {} {}: deleted", key.kind, key.name),
    }
}

/// A duration for people: `4.2s`, `3m07s`.
pub(super) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

fn ready_word(state: &State) -> &'static str {
    if state.ready { "yes" } else { "no" }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(kind: &str, name: &str) -> Key {
        Key { kind: kind.into(), name: name.into() }
    }

    fn state(ready: bool, message: &str) -> State {
        State { ready, reason: "Why".into(), message: message.into() }
    }

    fn object(status: &str, observed: i64) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer", "metadata": {"name": "p", "generation": 2},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": "AsDeclared", "message": "m",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    fn ready(object: &DynamicObject) -> bool {
        State::of(object, "Ready").ready
    }

    #[test]
    fn a_condition_about_an_older_spec_is_not_ready() {
        assert!(ready(&object("True", 2)));
        assert!(!ready(&object("True", 1)));
        assert!(!ready(&object("False", 2)));
    }

    #[test]
    fn a_resource_without_status_is_not_ready() {
        let bare: DynamicObject =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}})).unwrap();
        assert_eq!(State::of(&bare, "Ready").reason, "NotYetSeen");
    }

    #[test]
    fn it_waits_for_what_was_applied_and_for_nothing_else() {
        let mut table = Table::new([key("Peer", "a"), key("Hospital", "b")]);
        table.note(key("Peer", "a"), state(true, ""));
        table.note(key("Channel", "not-ours"), state(false, ""));
        assert_eq!(table.unready(), ["Hospital b"]);
        table.note(key("Hospital", "b"), state(true, ""));
        assert!(table.unready().is_empty());
        assert!(table.forget(&key("Peer", "a")));
        assert_eq!(table.unready(), ["Peer a"]);
    }

    #[test]
    fn only_a_different_state_is_news() {
        let mut table = Table::new([]);
        assert!(table.note(key("Peer", "a"), state(false, "waiting")));
        assert!(!table.note(key("Peer", "a"), state(false, "waiting")));
        assert!(table.note(key("Peer", "a"), state(true, "waiting")));
    }

    #[test]
    fn columns_line_up_and_messages_stay_on_their_line() {
        let mut table = Table::new([]);
        table.note(key("Peer", "st-mary-peer"), state(false, "two\nlines"));
        table.note(key("Channel", "c"), state(true, ""));
        let expected = [
            "KIND     NAME          READY  REASON  MESSAGE",
            "Channel  c             yes    Why",
            "Peer     st-mary-peer  no     Why     two lines",
        ];
        assert_eq!(table.lines(), expected);
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(elapsed(Duration::from_millis(4240)), "4.2s");
        assert_eq!(elapsed(Duration::from_secs(187)), "3m07s");
    }
}
