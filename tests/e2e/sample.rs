//! Networks become ready, in whatever order they are declared, and say so in columns.

use std::collections::BTreeMap;

use ehrnet_client::access;
use ehrnet_messages::{RequestAccess, attribute, role};
use http::Request;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::declared::{
    self, chaincode, channel, hospital, identity, kind_of, name_of, ordered_by, orderer, peer, two_hospitals,
};
use crate::resources::resource;
use crate::scene::{Scene, condition, status};

/// The sample, all at once: ready, every node once, nothing written twice, in a namespace that admits only `restricted`.
pub async fn applied_at_once_becomes_ready(scene: Scene) {
    let sample = two_hospitals();
    scene.apply(&sample).await;
    scene.ready(&sample).await;

    let namespace = Api::<Namespace>::all(scene.client.clone()).get(&scene.namespace).await.expect("the namespace");
    assert_eq!(namespace.labels()["pod-security.kubernetes.io/enforce"], "restricted");
    let pods = scene.pods().await;
    assert_eq!(pods.len(), 7, "five nodes, and each hospital's contract: {pods:?}");
    assert!(pods.values().all(|(_, restarts)| *restarts == 0), "{pods:?}");
    for set in scene.api::<StatefulSet>().list(&ListParams::default()).await.expect("a list") {
        assert_eq!(set.metadata.generation, Some(1), "{} was declared anew after it was made", set.name_any());
    }
    let channel = scene.get("Channel", "care").await;
    let relations: Vec<_> = nodes(&channel).into_iter().map(|node| node["relation"].clone()).collect();
    assert_eq!(relations, ["consenter", "consenter", "consenter", "member", "member"]);
    assert_eq!(status(&channel, "/configSequence"), 0, "members and anchors are in the genesis block");
}

/// The sample from its end to its beginning, one after the other: each says what it waits for, then all are ready.
pub async fn applied_in_reverse_order_becomes_ready(scene: Scene) {
    let mut sample = two_hospitals();
    sample.reverse();
    for object in &sample {
        declared::apply(&scene.client, &scene.namespace, object).await;
        let (kind, name) = (kind_of(object), name_of(object));
        let seen = |object: Option<&DynamicObject>| object.is_some_and(|object| condition(object, "Ready").is_some());
        let object = scene.until(&scene.of_kind(kind), name, "looked at", seen).await;
        if kind == "Peer" {
            let ready = condition(&object, "Ready").expect("a condition");
            assert_eq!(
                (ready["status"].as_str(), ready["reason"].as_str()),
                (Some("False"), Some("WaitingForReference"))
            );
            assert!(ready["message"].as_str().is_some_and(|text| text.contains("does not exist yet")), "{ready}");
        }
    }
    scene.ready(&sample).await;
}

/// A BFT channel, with as many orderers as one of them may lie, and the contract on it.
pub async fn four_bft_orderers_become_ready(scene: Scene) {
    let names = ["bft-1", "bft-2", "bft-3", "bft-4"];
    let mut network = ordered_by("BFT", &names);
    network.push(chaincode("ehr", "care", json!({})));
    scene.apply(&network).await;
    scene.ready(&network).await;
    let channel = scene.get("Channel", "care").await;
    assert_eq!(
        nodes(&channel).iter().filter(|node| node["relation"] == "consenter").count(),
        4,
        "{:?}",
        nodes(&channel)
    );

    // It orders, too.
    scene.change("Channel", "care", json!({"spec": {"batch": {"timeout": "750ms"}}})).await;
    let channel = scene.one_ready("Channel", "care").await;
    assert_eq!(status(&channel, "/configSequence"), 1);
    scene.admit(&[identity("physician", "mercy", json!({attribute::ROLE: role::PHYSICIAN}))]).await;
    let physician = scene.contract_client("physician").await;
    let ask = RequestAccess { patient: "5a".repeat(32), purpose: "TREAT".into(), ..RequestAccess::default() };
    let answer = access::request(&physician.contract, &ask, None).await.expect("an answer");
    assert_eq!(answer.reason.as_deref(), Some("no-policy"));
}

/// What `kubectl get` shows is what the status says, with every channel of a node.
pub async fn columns_tell_what_the_status_says(scene: Scene) {
    let network = [
        hospital("mercy"),
        orderer("mercy-orderer", "mercy"),
        peer("mercy-peer", "mercy", &["care", "research"]),
        channel("care", "Raft", &["mercy-orderer"], &["mercy"]),
        channel("research", "Raft", &["mercy-orderer"], &["mercy"]),
    ];
    scene.apply(&network).await;
    scene.ready(&network).await;
    for node in ["Orderer", "Peer"] {
        let name = format!("mercy-{}", node.to_lowercase());
        // The channels that a node lists are looked up after it became ready.
        let two = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| {
                status(object, "/channels").as_array().is_some_and(|channels| channels.len() == 2)
            })
        };
        let object = scene.until(&scene.of_kind(node), &name, "on two channels", two).await;
        let row = row(&scene, node, &name).await;
        assert_eq!(row["Hospital"], "mercy");
        assert_eq!((&row["Ready"], &row["Reason"]), (&json!("True"), &json!("AsDeclared")));
        assert_eq!(row["Channels"], "care,research", "{row:?}");
        assert_eq!(&row["Ledger"], status(&object, "/ledger"));
    }
    let object = scene.get("Channel", "care").await;
    let row = row(&scene, "Channel", "care").await;
    assert_eq!((&row["Channel"], &row["Consensus"], &row["Ready"]), (&json!("care"), &json!("Raft"), &json!("True")));
    assert_eq!((&row["Height"], &row["Config"]), (status(&object, "/height"), status(&object, "/configSequence")));
}

fn nodes(channel: &DynamicObject) -> Vec<Value> {
    status(channel, "/nodes").as_array().cloned().unwrap_or_default()
}

/// One line of `kubectl get`, as the server prints it.
pub async fn row(scene: &Scene, kind: &str, name: &str) -> BTreeMap<String, Value> {
    let resource = resource(kind);
    let path = format!("/apis/{}/namespaces/{}/{}/{name}", resource.api_version, scene.namespace, resource.plural);
    let request = Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new());
    let table: Value = scene.client.request(request.expect("a request")).await.expect("a table");
    let headings = table["columnDefinitions"].as_array().expect("columns").iter();
    let headings = headings.map(|column| column["name"].as_str().expect("a name").to_owned());
    headings.zip(table["rows"][0]["cells"].as_array().expect("cells").clone()).collect()
}
