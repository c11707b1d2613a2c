//! A declared network comes up, stays up and changes as declared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ehrnet_desired::names;
use ehrnet_fabric::proto::common::Config;
use ehrnet_fabric::proto::{orderer, protos};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{Api, ResourceExt};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::gate::tally;
use crate::support::outage::Outage;
use crate::support::sample;
use crate::support::scene::{Scene, condition_of};
use crate::support::server::TestCluster;
use crate::support::{invariants, ledger_client};

/// Everything at once, in the order of the file; and what the resources then say is true.
pub async fn becomes_ready_when_applied_at_once(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "at-once").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    let took = scene.settle(&mut operator).await;
    let writes = operator.gate().writes();
    println!(
        "two hospitals are ready {:.1} s after they were applied, with {} writes",
        took.as_secs_f64(),
        writes.len()
    );
    // A slow start shows more states on the way: two a second.
    let bound = 140 + 2 * took.as_secs() as usize;
    assert!(writes.len() <= bound, "{} writes in {took:?}: {:#?}", writes.len(), tally(&writes));
    assert_eq!(scene.kubelet.refusals(), Vec::<String>::new(), "every pod is admitted under `restricted`");
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    let channel = scene.get("Channel", "care").data["status"].clone();
    assert_eq!(channel["configSequence"], 0, "members and anchors known at creation cost no configuration update");
    let height = ledger_client::peer_height(&scene, "mercy-peer", "care").await;
    assert_eq!(channel["height"], height);
    let nodes: BTreeMap<_, _> = nodes(&channel);
    let relations = ["orderer-1", "orderer-2", "orderer-3"].map(|node| nodes[node]["relation"].clone());
    assert_eq!(relations, [json!("consenter"), json!("consenter"), json!("consenter")]);
    for peer in ["mercy-peer", "lakeside-peer"] {
        assert_eq!(nodes[peer]["relation"], "member", "{peer}");
        assert_eq!(
            scene.get("Peer", peer).data["status"]["channels"],
            json!([{"name": "care", "height": height}]),
            "{peer}"
        );
        assert_eq!(ledger_client::peer_height(&scene, peer, "care").await, height);
    }
    let config = ledger_client::config(&scene, "orderer-1", "care").await;
    assert_eq!(anchors(&config, "MercyMSP"), [format!("mercy-peer.{}.svc:7051", scene.namespace)]);
    assert_eq!(height, 5, "genesis, both approvals, the commit, the policy's approval, the policy");
    contract_and_policy_are_in_force(&scene).await;
    invariants::hold(&scene, &writes).await;
}

/// One definition that both hospitals approved, and one digest in status, ConfigMap and ledger.
async fn contract_and_policy_are_in_force(scene: &Scene) {
    let contract = scene.get("Chaincode", "ehr").data["status"].clone();
    assert_eq!((&contract["sequence"], &contract["approvals"]), (&json!(1), &json!("2/2")));
    for hospital in contract["hospitals"].as_array().expect("a list") {
        let peer = format!("{}-peer", hospital["name"].as_str().expect("a name"));
        assert_eq!((&hospital["approved"], &hospital["installed"]), (&json!(true), &json!([peer])));
    }
    let policy = scene.get("ConsentPolicy", "treatment").data["status"].clone();
    assert_eq!(policy["ledgerVersion"], 1);
    assert_eq!(policy["ledgerDigest"], policy["digest"]);
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let text = maps.get("treatment-consent").await.expect("a ConfigMap").data.expect("data")["policy.json"].clone();
    assert_eq!(json!(hex::encode(Sha256::digest(text))), policy["digest"]);
}

/// The last first: nothing depends on the order.
pub async fn becomes_ready_in_reverse_order(cluster: Arc<TestCluster>) {
    let mut resources = sample::two_hospitals();
    resources.reverse();
    becomes_ready(cluster, "reverse", &resources).await;
}

/// Orders that nobody thought of, the same ones each time.
pub async fn becomes_ready_in_any_order(cluster: Arc<TestCluster>) {
    for seed in [3_u64, 11] {
        let mut resources = sample::two_hospitals();
        let mut state = seed;
        for last in (1..resources.len()).rev() {
            // A linear congruential generator is enough to shuffle.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            resources.swap(last, (state >> 33) as usize % (last + 1));
        }
        becomes_ready(cluster.clone(), "shuffled", &resources).await;
    }
}

async fn becomes_ready(cluster: Arc<TestCluster>, prefix: &str, resources: &[Value]) {
    let scene = Scene::new(&cluster, prefix).await;
    let mut operator = scene.operator();
    for resource in resources {
        scene.apply(std::slice::from_ref(resource)).await;
    }
    scene.settle(&mut operator).await;
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// A third hospital with a peer joins a live channel; nobody else is restarted for it.
pub async fn takes_a_new_hospital_into_a_live_channel(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "joins").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let before = pids(&scene);
    scene.apply(&sample::all(THIRD)).await;
    scene.edit("Channel", "care", json!({"spec": {"members": ["mercy", "lakeside", "harbour"]}})).await;
    scene.settle(&mut operator).await;
    assert_eq!(pids(&scene), before, "a node was restarted");
    let config = ledger_client::config(&scene, "orderer-2", "care").await;
    assert_eq!(anchors(&config, "HarbourMSP"), [format!("harbour-peer.{}.svc:7051", scene.namespace)]);
    let status = scene.get("Channel", "care").data["status"].clone();
    assert_eq!(status["configSequence"], json!(config.sequence));
    assert_eq!(nodes(&status)["harbour-peer"]["relation"], "member");
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    let height = ledger_client::peer_height(&scene, "harbour-peer", "care").await;
    assert_eq!(height, ledger_client::peer_height(&scene, "mercy-peer", "care").await, "the new peer has every block");
    let contract = scene.get("Chaincode", "ehr").data["status"].clone();
    assert_eq!(contract["sequence"], 2, "a new member of every collection is another definition");
    assert_eq!(contract["approvals"], "3/3");
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// Every certificate is due at once: the nodes restart one after the other, with the keys they had.
pub async fn renews_certificates_one_node_at_a_time(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "renewal").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let nodes = ["orderer-1", "orderer-2", "orderer-3", "mercy-peer", "lakeside-peer"];
    let before = node_pairs(&scene, &nodes).await;
    let outage = Outage::watch(&scene, &nodes).await;
    // One hour more than what is left of any of them.
    let renewal = json!({"spec": {"pki": {"leaf": {"validity": "9000h", "renewBefore": "8761h"}}}});
    for hospital in ["mercy", "lakeside"] {
        scene.edit("Hospital", hospital, renewal.clone()).await;
    }
    scene.settle(&mut operator).await;
    for (pair, after) in before.iter().zip(node_pairs(&scene, &nodes).await) {
        assert_eq!(pair[names::TLS_KEY], after[names::TLS_KEY], "a renewal keeps the key");
        assert_ne!(pair[names::TLS_CRT], after[names::TLS_CRT], "it was due");
    }
    let (worst, ever) = outage.worst();
    assert_eq!(ever.len(), nodes.len(), "every node has to read its new certificate: {ever:?}");
    assert_eq!(worst.len(), 1, "away at the same time: {worst:?}");
    let config = ledger_client::config(&scene, "orderer-1", "care").await;
    assert_eq!(config.sequence, 0, "the same keys are no change of the channel");
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// Certificates and keys of nodes, identity and TLS.
async fn node_pairs(scene: &Scene, nodes: &[&str]) -> Vec<BTreeMap<String, ByteString>> {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let of_all = nodes.iter().flat_map(|node| [names::node_identity(node), names::node_tls(node)]);
    let mut pairs = Vec::new();
    for name in of_all {
        let secret = secrets.get(&name).await.unwrap_or_else(|error| panic!("Secret {name}: {error}"));
        pairs.push(secret.data.expect("data"));
    }
    pairs
}

/// What is edited while nobody looks is done when the operator is back; and an edit of the batch reaches the ledger.
pub async fn catches_up_with_edits_made_in_its_absence(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "absent").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let mut writes = operator.gate().writes();
    operator.stop(Duration::from_secs(10)).await;
    scene.edit("Channel", "care", json!({"spec": {"batch": {"maxMessageCount": 17, "timeout": "750ms"}}})).await;
    scene.edit("Peer", "mercy-peer", json!({"spec": {"anchor": false}})).await;
    let mut operator = scene.operator();
    scene.settle(&mut operator).await;
    let config = ledger_client::config(&scene, "orderer-3", "care").await;
    let group = &config.channel_group.as_ref().expect("a root").groups["Orderer"];
    let size = orderer::BatchSize::decode(group.values["BatchSize"].value.as_slice()).expect("a batch size");
    let timeout = orderer::BatchTimeout::decode(group.values["BatchTimeout"].value.as_slice()).expect("a timeout");
    assert_eq!((size.max_message_count, timeout.timeout.as_str()), (17, "750ms"));
    assert_eq!(anchors(&config, "MercyMSP"), Vec::<String>::new());
    assert_eq!(scene.get("Channel", "care").data["status"]["configSequence"], json!(config.sequence));
    writes.extend(operator.gate().writes());
    invariants::hold(&scene, &writes).await;
}

/// With one orderer of three down the channel is still edited; the resource says which node is away, and it heals.
pub async fn edits_a_channel_while_an_orderer_is_down(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "down").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    scene.kubelet.hold("orderer-3");
    let message = scene.condition("Orderer", "orderer-3", "NodeReady", "False", "PodFailing").await;
    assert!(message.contains("orderer-3-0"), "{message}");
    let edited = scene.edit("Channel", "care", json!({"spec": {"batch": {"maxMessageCount": 23}}})).await;
    let message =
        scene.until_condition("Channel", "care", |c| c["type"] == "OrderersJoined" && c["status"] != "True").await;
    assert!(message.contains("orderer-3"), "the Channel does not say which orderer is away: {message}");
    let done = |c: &Value| {
        c["type"] == "ConfigInSync"
            && c["status"] == "True"
            && c["observedGeneration"] == json!(edited.metadata.generation)
    };
    scene.until_condition("Channel", "care", done).await;
    let config = ledger_client::config(&scene, "orderer-1", "care").await;
    scene.kubelet.release("orderer-3");
    scene.settle(&mut operator).await;
    let caught_up = ledger_client::config(&scene, "orderer-3", "care").await;
    assert_eq!(caught_up.sequence, config.sequence, "nothing was lost, nothing was done twice");
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// Deleting resources keeps ledgers and CA keys, and the same names take them back.
pub async fn keeps_ledgers_and_keys_for_a_resource_made_again(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "again").await;
    let mut operator = scene.operator();
    let resources = sample::two_hospitals();
    scene.apply(&resources).await;
    scene.settle(&mut operator).await;
    let genesis = scene.get("Channel", "care").data["status"]["genesisHash"].clone();
    let authorities = keys(&scene).await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let before = claim_uids(&claims).await;
    assert_eq!(before.len(), 5, "{before:?}");
    for (kind, name) in ["Channel care", "Peer mercy-peer", "Orderer orderer-1", "Orderer orderer-2", "Hospital mercy"]
        .map(|text| text.split_once(' ').expect("two words"))
    {
        scene.delete(kind, name).await;
    }
    scene.until_gone(&["mercy-peer", "orderer-1", "orderer-2"]).await;
    assert_eq!(claim_uids(&claims).await, before, "ledgers outlive their resources");
    // Another operator does not have the keys in memory.
    let mut writes = operator.gate().writes();
    operator.stop(Duration::from_secs(10)).await;
    let mut operator = scene.operator();
    scene.apply(&resources).await;
    scene.settle(&mut operator).await;
    assert_eq!(scene.get("Channel", "care").data["status"]["genesisHash"], genesis);
    assert_eq!(keys(&scene).await, authorities, "the CA keys are the same");
    assert_eq!(claim_uids(&claims).await, before);
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    writes.extend(operator.gate().writes());
    invariants::hold(&scene, &writes).await;
}

/// References to what does not exist yet wait and say so.
pub async fn says_what_it_waits_for(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "waits").await;
    let _operator = scene.operator();
    let channel = sample::all(
        "{apiVersion: ehrnet.dev/v1alpha1, kind: Channel, metadata: {name: care}, spec: {channelName: care, consensus: {type: Raft, orderers: [nobody]}, members: [nowhere]}}",
    );
    let peer = sample::all(
        "{apiVersion: ehrnet.dev/v1alpha1, kind: Peer, metadata: {name: lost}, spec: {hospitalRef: {name: nowhere}}}",
    );
    scene.apply(&channel).await;
    scene.apply(&peer).await;
    let message = scene.condition("Channel", "care", "Ready", "False", "WaitingForReference").await;
    assert!(message.contains("nowhere") || message.contains("nobody"), "{message}");
    let message = scene.condition("Peer", "lost", "Ready", "False", "WaitingForReference").await;
    assert!(message.contains("Hospital nowhere"), "{message}");
}

/// An image that cannot be pulled is named, and the node comes up when it is mended.
pub async fn names_an_image_that_cannot_be_pulled(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "image").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    scene.edit("Peer", "mercy-peer", json!({"spec": {"image": {"reference": "nowhere.invalid/peer:9"}}})).await;
    let message = scene.condition("Peer", "mercy-peer", "NodeReady", "False", "PodFailing").await;
    assert!(message.contains("image nowhere.invalid/peer:9 cannot be pulled"), "{message}");
    scene.edit("Peer", "mercy-peer", json!({"spec": {"image": {"reference": null}}})).await;
    scene.settle(&mut operator).await;
}

const THIRD: &str = "
{apiVersion: ehrnet.dev/v1alpha1, kind: Hospital, metadata: {name: harbour}, spec: {mspId: HarbourMSP}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Peer, metadata: {name: harbour-peer}, spec: {hospitalRef: {name: harbour}, channels: [care]}}
";

fn nodes(status: &Value) -> BTreeMap<String, Value> {
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().map(|node| (node["name"].as_str().expect("a name").to_owned(), node.clone())).collect()
}

fn pids(scene: &Scene) -> Vec<u32> {
    ["orderer-1", "orderer-2", "orderer-3", "mercy-peer", "lakeside-peer"].map(|node| scene.kubelet.pid(node)).to_vec()
}

fn anchors(config: &Config, msp: &str) -> Vec<String> {
    let application = &config.channel_group.as_ref().expect("a root").groups["Application"];
    let Some(value) = application.groups[msp].values.get("AnchorPeers") else { return Vec::new() };
    let peers = protos::AnchorPeers::decode(value.value.as_slice()).expect("anchor peers").anchor_peers;
    peers.into_iter().map(|peer| format!("{}:{}", peer.host, peer.port)).collect()
}

async fn keys(scene: &Scene) -> Vec<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut found = Vec::new();
    for name in ["mercy-ca", "mercy-tlsca", "lakeside-ca", "lakeside-tlsca"] {
        let secret = secrets.get(name).await.unwrap_or_else(|error| panic!("Secret {name}: {error}"));
        found.push(secret.data.expect("data")["tls.key"].0.clone());
    }
    found
}

async fn claim_uids(claims: &Api<PersistentVolumeClaim>) -> BTreeMap<String, Option<String>> {
    let list = claims.list(&Default::default()).await.expect("list");
    list.into_iter().map(|claim| (claim.name_any(), claim.uid())).collect()
}

/// The columns that `kubectl get` prints are filled, from the server's own table.
pub async fn prints_true_columns(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "columns").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    for (kind, plural, column) in [
        ("Hospital", "hospitals", "MSP"),
        ("Orderer", "orderers", "Channels"),
        ("Peer", "peers", "Channels"),
        ("Channel", "channels", "Height"),
        ("Chaincode", "chaincodes", "Approved"),
        ("ConsentPolicy", "consentpolicies", "Version"),
    ] {
        let path = format!("/apis/ehrnet.dev/v1alpha1/namespaces/{}/{plural}", scene.namespace);
        let request =
            http::Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new());
        let table: Value = scene.client.request(request.expect("a request")).await.expect("a table");
        let position = |name: &str| {
            table["columnDefinitions"].as_array().and_then(|all| all.iter().position(|c| c["name"] == name))
        };
        let (ready, special) = (position("Ready").expect("Ready"), position(column).expect(column));
        for row in table["rows"].as_array().expect("rows") {
            assert_eq!(row["cells"][ready], "True", "{kind}: {row}");
            assert!(!row["cells"][special].is_null() && row["cells"][special] != "", "{kind} {column}: {row}");
        }
    }
    let ready = condition_of(&scene.get("Channel", "care"), "Ready").expect("a condition");
    assert!(ready["message"].as_str().is_some_and(|text| !text.is_empty()));
}
