//! A network grows while it runs.

use serde_json::json;

use crate::declared::{clinic, hospital, peer};
use crate::scene::{Scene, status};

/// A hospital and its peer join a channel that runs; those who were there before go on undisturbed.
pub async fn a_hospital_joins_a_live_channel_without_a_restart(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let before = scene.pods().await;

    let newcomers = [hospital("lakeside"), peer("lakeside-peer", "lakeside", &["care"])];
    scene.apply(&newcomers).await;
    scene.change("Channel", "care", json!({"spec": {"members": ["mercy", "lakeside"]}})).await;
    scene.ready(&newcomers).await;
    let channel = scene.one_ready("Channel", "care").await;

    assert!(status(&channel, "/configSequence").as_u64() >= Some(1), "the configuration did not change");
    let mut after = scene.pods().await;
    assert!(after.remove("lakeside-peer-0").is_some());
    assert_eq!(after, before, "a pod was restarted or replaced");
    let nodes = status(&channel, "/nodes").as_array().expect("nodes").clone();
    let newcomer = nodes.iter().find(|node| node["name"] == "lakeside-peer").expect("the new peer");
    assert_eq!(newcomer["relation"], "member");
}
