//! Events on the resources: what changed, for `kubectl describe` and `kubectl get events`.
//!
//! Invariant: an Event is published on a transition only, never for a state that lasts. The trap: Events are merged for
//! six minutes by type, action and reason; a changed note is lost in that time. So what matters stands in the reason.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Instance};
use kube::{Client, Resource};

use ehrnet_api::conditions::READY;

/// The `reportingController` of the Events.
const CONTROLLER: &str = "ehrnet.dev/operator";
/// Longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// Publishes Events. Clones share what was published, which merging needs: make one for the process.
#[derive(Clone)]
pub struct Reporter {
    recorder: Recorder,
}

impl Reporter {
    /// `instance` is the identity of this process, usually the pod's name.
    pub fn new(client: Client, instance: &str) -> Self {
        let instance = Instance { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, instance) }
    }

    /// Tells about a `Ready` whose status or reason changed; nothing if it did not, or if a new resource only waits. A lost
    /// Event is logged, not an error.
    pub async fn transition<K>(&self, resource: &K, before: &[Condition], after: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        if let Some(event) = event(before, after) {
            self.tell(&resource.object_ref(&()), &event).await;
        }
    }

    /// Tells something about a resource, which may be gone already. A lost Event is logged, not an error.
    pub async fn tell(&self, about: &ObjectReference, event: &Event) {
        if let Err(error) = self.recorder.publish(event, about).await {
            tracing::warn!(kind = about.kind, name = about.name, reason = event.reason, %error, "cannot publish an Event");
        }
    }
}

fn event(before: &[Condition], after: &[Condition]) -> Option<Event> {
    let ready = |conditions: &[Condition]| conditions.iter().find(|condition| condition.type_ == READY).cloned();
    let (before, after) = (ready(before), ready(after)?);
    if before.as_ref().is_some_and(|before| before.status == after.status && before.reason == after.reason) {
        return None;
    }
    let was_ready = before.as_ref().is_some_and(|before| before.status == "True");
    let is_trouble = is_trouble(was_ready, &after);
    if before.is_none() && after.status != "True" && !is_trouble {
        // Everything that was just declared waits for something; its conditions say for what.
        return None;
    }
    Some(Event {
        type_: if is_trouble { EventType::Warning } else { EventType::Normal },
        reason: after.reason,
        note: Some(shortened(after.message)).filter(|note| !note.is_empty()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

/// Waiting on the way to ready is normal; losing it, or being unable to get there, is not.
fn is_trouble(was_ready: bool, after: &Condition) -> bool {
    let waits = after.reason.starts_with("Waiting") || after.reason == "Progressing";
    after.status != "True" && (was_ready || !waits)
}

fn shortened(mut note: String) -> String {
    if note.len() > NOTE_LIMIT {
        let end = note.floor_char_boundary(NOTE_LIMIT - '…'.len_utf8());
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready(status: &str, reason: &str) -> Vec<Condition> {
        let condition = |type_: &str| json!({"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!([condition("Accepted"), condition("Ready")])).expect("conditions")
    }

    #[test]
    fn only_a_change_of_status_or_reason_is_told() {
        assert!(event(&ready("True", "AsDeclared"), &ready("True", "AsDeclared")).is_none());
        assert!(event(&ready("True", "AsDeclared"), &[]).is_none());
        assert!(event(&[], &ready("False", "WaitingForPod")).is_none(), "it was declared a moment ago");
        let next = event(&ready("False", "WaitingForReference"), &ready("False", "WaitingForPod")).expect("told");
        assert_eq!((next.type_, next.reason.as_str()), (EventType::Normal, "WaitingForPod"));
        let done = event(&ready("False", "WaitingForPod"), &ready("True", "AsDeclared")).expect("told");
        assert_eq!((done.type_, done.reason.as_str()), (EventType::Normal, "AsDeclared"));
    }

    #[test]
    fn trouble_is_a_warning() {
        for (before, after) in [
            (vec![], ready("False", "InvalidSpec")),
            (ready("True", "AsDeclared"), ready("False", "WaitingForPod")),
            (ready("False", "WaitingForPod"), ready("False", "PodFailing")),
        ] {
            assert_eq!(event(&before, &after).expect("told").type_, EventType::Warning);
        }
    }

    #[test]
    fn a_long_note_is_cut_where_a_character_ends() {
        assert_eq!(shortened("short".into()), "short");
        let cut = shortened("ä".repeat(NOTE_LIMIT));
        assert!(cut.len() <= NOTE_LIMIT && cut.ends_with("ä…"), "{}", cut.len());
    }
}
