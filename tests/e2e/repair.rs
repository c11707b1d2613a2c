//! Killed nodes, lost orderers and recreated peers come back with their ledgers.

use ehrnet_messages::{attribute, role};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::declared::{clinic, identity, ordered_by, orderer, peer};
use crate::scene::{Scene, condition, status};
use crate::wire::Wire;

/// Nodes whose pods are killed have the very same blocks afterwards, more than the genesis block.
pub async fn killed_nodes_come_back_with_their_ledgers(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let height = updated_height(&scene).await;
    scene.admit(&[identity("clerk", "mercy", json!({attribute::ROLE: role::REGISTRAR}))]).await;
    let before = newest_block(&scene).await;
    // Both at once: a peer that lost its blocks could have them from the orderer.
    let nodes = ["mercy-peer-0", "mercy-orderer-0"];
    let killed = [scene.kill(nodes[0]).await, scene.kill(nodes[1]).await];
    for (name, old) in nodes.into_iter().zip(killed) {
        let again = move |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != old && pod_is_ready(pod));
        scene.until(&scene.api::<Pod>(), name, "made anew", again).await;
    }
    scene.ready(&network).await;
    // Blocks that were made again would have other times in them.
    assert_eq!(newest_block(&scene).await, before);
    assert_eq!(height_on(&scene.get("Orderer", "mercy-orderer").await, "care"), Some(height));
}

/// Height of the peer's chain and the hash of its last block.
async fn newest_block(scene: &Scene) -> (u64, Vec<u8>) {
    let peer = Wire::new(scene).peer(scene.bundle("clerk").await);
    let chain = peer.chain_info("care").await.expect("an answer");
    (chain.height, chain.current_block_hash)
}

/// Of three Raft orderers any one may be away, the leader too: the channel still takes an update, and the orderer has it
/// when it is back.
pub async fn a_channel_is_updated_while_any_one_orderer_is_away(scene: Scene) {
    let names = ["raft-1", "raft-2", "raft-3"];
    let network = ordered_by("Raft", &names);
    scene.apply(&network).await;
    scene.ready(&network).await;
    for (sequence, name) in (1..).zip(names) {
        scene.no_new_pods().await;
        scene.kill(&format!("{name}-0")).await;
        let timeout = format!("{}ms", 500 + 100 * sequence);
        scene.change("Channel", "care", json!({"spec": {"batch": {"timeout": timeout}}})).await;
        let updated =
            move |channel: Option<&DynamicObject>| channel.is_some_and(|c| *status(c, "/configSequence") == sequence);
        scene.until(&scene.of_kind("Channel"), "care", &format!("updated without {name}"), updated).await;
        let pods = scene.pods().await;
        assert!(!pods.contains_key(&format!("{name}-0")), "it is still away: {pods:?}");
        scene.new_pods_again().await;
        scene.ready(&network).await;
    }
}

/// Of two Raft orderers that are deleted at once one goes. The other stays until the channel does without it.
pub async fn two_raft_orderers_deleted_at_once_leave_a_quorum(scene: Scene) {
    two_deleted_at_once(&scene, "Raft", &["raft-1", "raft-2", "raft-3"], &[]).await;
}

/// The same of four BFT orderers, whose place two others take.
pub async fn two_bft_orderers_deleted_at_once_leave_a_quorum(scene: Scene) {
    two_deleted_at_once(&scene, "BFT", &["bft-1", "bft-2", "bft-3", "bft-4"], &["bft-5", "bft-6"]).await;
}

async fn two_deleted_at_once(scene: &Scene, consensus: &str, names: &[&str], newcomers: &[&str]) {
    let network = ordered_by(consensus, names);
    scene.apply(&network).await;
    scene.ready(&network).await;
    let orderers = scene.of_kind("Orderer");
    let (kept, [one, other]) = names.split_last_chunk::<2>().expect("two to delete");
    let background = DeleteParams::default();
    let (first, second) = tokio::join!(orderers.delete(one, &background), orderers.delete(other, &background));
    first.and(second).expect("delete both");
    let mut stays = Vec::new();
    scene
        .follow(|resources| {
            let there = |name: &&str| resources.get(&("Orderer".to_owned(), (*name).to_owned()));
            let left = [*one, *other].into_iter().filter(|name| there(name).is_some());
            stays = left.map(str::to_owned).collect();
            let held = |orderer: &DynamicObject| {
                condition(orderer, "Accepted").is_some_and(|accepted| accepted["reason"] == "DeletionBlocked")
            };
            stays.len() == 1 && there(&&*stays[0]).is_some_and(held)
        })
        .await;
    // The channel takes out the lost one, lets newcomers in, and then takes out the one that waits.
    let newcomers_declared: Vec<Value> = newcomers.iter().map(|name| orderer(name, "mercy")).collect();
    scene.apply(&newcomers_declared).await;
    let wanted = [kept, newcomers].concat();
    let change = json!({"spec": {"consensus": {"orderers": wanted}, "batch": {"timeout": "700ms"}}});
    scene.change("Channel", "care", change).await;
    scene.until_gone(&orderers, &stays[0]).await;
    let channel = scene.one_ready("Channel", "care").await;
    let mut consenters: Vec<_> = status(&channel, "/consenters").as_array().expect("names").clone();
    consenters.sort_by_key(ToString::to_string);
    assert_eq!(consenters, wanted);
}

/// A Raft orderer whose volume is lost comes back without the promises that it gave: it copies the blocks before it has a
/// vote again.
pub async fn a_raft_orderer_that_lost_its_volume_comes_back(scene: Scene) {
    comes_back_without_its_volume(&scene, "Raft", &["wiped-1", "wiped-2", "wiped-3"]).await;
}

/// A BFT orderer does so, too.
pub async fn a_bft_orderer_that_lost_its_volume_comes_back(scene: Scene) {
    comes_back_without_its_volume(&scene, "BFT", &["wiped-1", "wiped-2", "wiped-3", "wiped-4"]).await;
}

async fn comes_back_without_its_volume(scene: &Scene, consensus: &str, names: &[&str]) {
    let network = ordered_by(consensus, names);
    scene.apply(&network).await;
    scene.ready(&network).await;
    updated_height(scene).await;
    let claims = scene.api::<PersistentVolumeClaim>();
    let lost = claims.get("wiped-2-ledger").await.expect("the claim").uid();
    scene.no_new_pods().await;
    scene.kill("wiped-2-0").await;
    claims.delete("wiped-2-ledger", &DeleteParams::default()).await.expect("delete");
    let again = move |claim: Option<&PersistentVolumeClaim>| claim.is_some_and(|claim| claim.uid() != lost);
    scene.until(&claims, "wiped-2-ledger", "made anew", again).await;
    scene.new_pods_again().await;
    scene.ready(&network).await;
    let all = move |channel: Option<&DynamicObject>| {
        channel.is_some_and(|channel| {
            status(channel, "/consenters").as_array().is_some_and(|all| all.len() == names.len())
        })
    };
    let channel = scene.until(&scene.of_kind("Channel"), "care", "with all its consenters", all).await;
    scene.change("Channel", "care", json!({"spec": {"batch": {"timeout": "800ms"}}})).await;
    let after = scene.one_ready("Channel", "care").await;
    assert!(status(&after, "/configSequence").as_u64() > status(&channel, "/configSequence").as_u64());
    let pods = scene.pods().await;
    assert_eq!(pods["wiped-2-0"].1, 0, "it stopped again: {pods:?}");
}

/// A peer that is deleted leaves its volume; one of the same name takes it back, with the blocks on it.
pub async fn a_recreated_peer_takes_its_volume_back(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let height = updated_height(&scene).await;
    let claims = scene.api::<PersistentVolumeClaim>();
    let before = claims.get("mercy-peer-ledger").await.expect("the claim").uid();

    scene.of_kind("Peer").delete("mercy-peer", &DeleteParams::default()).await.expect("delete");
    scene.until_gone(&scene.api::<Pod>(), "mercy-peer-0").await;
    let left = claims.get("mercy-peer-ledger").await.expect("the claim outlives its peer");
    assert_eq!((left.uid(), left.metadata.deletion_timestamp), (before.clone(), None));

    scene.apply(&[peer("mercy-peer", "mercy", &["care"])]).await;
    let peer = scene.one_ready("Peer", "mercy-peer").await;
    assert_eq!(claims.get("mercy-peer-ledger").await.expect("the claim").uid(), before);
    // Its anchor entry went and came: there may be more blocks by now.
    assert!(height_on(&peer, "care") >= Some(height), "{:?}", status(&peer, "/channels"));
}

/// Orders a block, so that there is more than a genesis block, and returns the height once the peer has it.
async fn updated_height(scene: &Scene) -> u64 {
    scene.change("Channel", "care", json!({"spec": {"batch": {"timeout": "700ms"}}})).await;
    scene.one_ready("Channel", "care").await;
    let two = |peer: Option<&DynamicObject>| peer.is_some_and(|peer| height_on(peer, "care") >= Some(2));
    let peer = scene.until(&scene.of_kind("Peer"), "mercy-peer", "at height 2", two).await;
    height_on(&peer, "care").expect("a height")
}

fn height_on(peer: &DynamicObject, channel: &str) -> Option<u64> {
    let channels = status(peer, "/channels").as_array().cloned().unwrap_or_default();
    channels.iter().find(|known| known["name"] == channel).and_then(|known| known["height"].as_u64())
}

fn pod_is_ready(pod: &Pod) -> bool {
    let status = serde_json::to_value(&pod.status).expect("JSON");
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c: &Value| c["type"] == "Ready" && c["status"] == "True")
}
