//! What is new waits for a while for those it begins with: together they need fewer rounds on the ledger.

use jiff::{SignedDuration, Timestamp};
use kube::Resource;

/// How long from its creation a resource waits for the others. One that does not come keeps them no longer.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// Whether a resource is so new that it waits. Pure.
pub fn waits(resource: &impl Resource, now: Timestamp) -> bool {
    let created = resource.meta().creation_timestamp.as_ref();
    created.is_some_and(|created| now.duration_since(created.0) < PATIENCE)
}

#[cfg(test)]
mod tests {
    use ehrnet_api::Channel;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn only_what_is_new_waits() {
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let object = serde_json::json!({"metadata": {"name": "care"}, "spec": {
            "channelName": "care", "consensus": {"type": "Raft", "orderers": ["o"]}, "members": ["mercy"],
        }});
        let mut channel: Channel = serde_json::from_value(object).expect("a channel");
        assert!(!waits(&channel, created), "not from an API server");
        channel.metadata.creation_timestamp = Some(Time(created));
        assert!(waits(&channel, created));
        assert!(!waits(&channel, created + PATIENCE));
    }
}
