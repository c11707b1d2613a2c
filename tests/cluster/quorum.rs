//! Nothing that people do to orderers costs a channel its quorum by the operator's hand.

use std::sync::Arc;

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::resources::Resources;
use crate::support::scene::{LIMIT, Scene, condition_of};
use crate::support::server::TestCluster;
use crate::support::{invariants, ledger_client, objects, sample};

/// Of two that are deleted at once one goes; the other orders on, and goes once the channel does without it.
pub async fn is_left_by_two_orderers_deleted_at_once(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "quorum").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;

    let pair = ["orderer-2", "orderer-3"];
    tokio::join!(delete(&scene, pair[0]), delete(&scene, pair[1]));
    let here = |resources: &Resources, name: &str| resources.contains_key(&("Orderer".to_owned(), name.to_owned()));
    scene.until(LIMIT, "one of the two to go", |resources| pair.iter().any(|name| !here(resources, name))).await;
    let stays = pair.into_iter().find(|name| here(&scene.resources(), name)).expect("one of the two stays");
    let gone = if stays == pair[0] { pair[1] } else { pair[0] };
    let message = scene.condition("Orderer", stays, "Accepted", "False", "DeletionBlocked").await;
    assert!(message.contains("Channel care needs 2 of its 3 consenters and would have 1"), "{message}");
    assert!(message.contains("remove this orderer from spec.consensus.orderers of the Channel first"), "{message}");
    let node = condition_of(&scene.get("Orderer", stays), "NodeReady").expect("a condition");
    assert_eq!(node["status"], "True", "it is kept until it goes: {node}");

    // Two of three: enough to take the lost one out first, and then the other.
    scene.until_gone(&[gone]).await;
    scene.edit("Channel", "care", json!({"spec": {"consensus": {"orderers": ["orderer-1"]}}})).await;
    scene.until(LIMIT, &format!("{stays} to go"), |resources| !here(resources, stays)).await;
    scene.settle(&mut operator).await;
    assert_eq!(ledger_client::consenters(&scene, "orderer-1").await, ledger_client::addresses(&scene, &[1]));
    let status = scene.get("Channel", "care").data["status"].clone();
    assert_eq!(status["consenters"], json!(["orderer-1"]));
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// What a GitOps tool does: the channel's orderers are edited and those left out are deleted in the same second.
pub async fn is_kept_while_removed_orderers_are_deleted(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "pruned").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let alone = json!({"spec": {"consensus": {"orderers": ["orderer-1"]}}});
    tokio::join!(scene.edit("Channel", "care", alone), delete(&scene, "orderer-2"), delete(&scene, "orderer-3"));
    let left = |resources: &Resources| {
        resources.keys().filter(|(kind, _)| kind == "Orderer").map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    scene.until(LIMIT, "both to go", |resources| left(resources) == ["orderer-1"]).await;
    scene.settle(&mut operator).await;
    assert_eq!(ledger_client::consenters(&scene, "orderer-1").await, ledger_client::addresses(&scene, &[1]));
    // The one that is left orders alone.
    scene.edit("Channel", "care", json!({"spec": {"batch": {"maxMessageCount": 23}}})).await;
    scene.settle(&mut operator).await;
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// A channel that is deleted with all its nodes goes.
pub async fn holds_no_channel_that_goes_as_a_whole(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "whole").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let all = ["orderer-1", "orderer-2", "orderer-3"];
    futures::future::join_all(all.map(|name| delete(&scene, name))).await;
    let held = |resources: &Resources| {
        let orderers = resources.values().filter_map(|resource| condition_of(resource, "Accepted"));
        orderers.filter(|accepted| accepted["reason"] == "DeletionBlocked").count() == 2
    };
    scene.until(LIMIT, "two of the three to stay", held).await;
    objects::api(&scene.client, &scene.namespace, "Channel")
        .delete("care", &DeleteParams::default())
        .await
        .expect("delete");
    let gone = |resources: &Resources| !resources.keys().any(|(kind, _)| kind == "Orderer");
    scene.until(LIMIT, "all orderers to go", gone).await;
}

/// An image that cannot be pulled at one hospital holds up nobody at another.
pub async fn is_no_affair_of_a_sick_peer(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "sick").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    scene.edit("Peer", "mercy-peer", json!({"spec": {"image": {"reference": "nowhere.invalid/peer:9"}}})).await;
    scene.condition("Peer", "mercy-peer", "NodeReady", "False", "PodFailing").await;
    let before = scene.kubelet.pid("lakeside-peer");
    scene.edit("Peer", "lakeside-peer", restarting()).await;
    let settled = |condition: &Value| {
        condition["type"] == "NodeReady" && condition["status"] == "True" && condition["observedGeneration"] == 2
    };
    scene.until_condition("Peer", "lakeside-peer", settled).await;
    assert_ne!(scene.kubelet.pid("lakeside-peer"), before, "it was restarted");
}

/// A restart that would cost the quorum waits, and the orderer says so.
pub async fn outweighs_a_restart(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "waiting").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    scene.kubelet.hold("orderer-3");
    scene.condition("Orderer", "orderer-3", "NodeReady", "False", "PodFailing").await;
    let before = scene.kubelet.pid("orderer-1");
    scene.edit("Orderer", "orderer-1", restarting()).await;
    let message = scene.condition("Orderer", "orderer-1", "NodeReady", "False", "RestartWaiting").await;
    assert!(message.contains("Channel care needs 2 of its 3 consenters and would have 1"), "{message}");
    assert!(message.contains("orderer-3 is starting or failing"), "{message}");
    let ready = condition_of(&scene.get("Orderer", "orderer-1"), "Ready").expect("a condition");
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("False"), Some("RestartWaiting")));
    assert_eq!(scene.kubelet.pid("orderer-1"), before, "it runs on");
    scene.kubelet.release("orderer-3");
    scene.settle(&mut operator).await;
    assert_ne!(scene.kubelet.pid("orderer-1"), before, "it was restarted when it could be");
}

/// An edit that takes effect with a restart.
fn restarting() -> Value {
    json!({"spec": {"resources": {"requests": {"memory": "65Mi"}}}})
}

async fn delete(scene: &Scene, orderer: &str) {
    let orderers = objects::api(&scene.client, &scene.namespace, "Orderer");
    orderers.delete(orderer, &DeleteParams::default()).await.expect("delete an orderer");
}
