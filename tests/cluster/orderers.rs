//! The orderers of a live channel come and go as declared, one at a time.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::scene::Scene;
use crate::support::server::TestCluster;
use crate::support::{invariants, ledger_client, sample};

/// Three become five, with one of the three down at first, and three again, of which one stayed.
pub async fn come_and_go_one_at_a_time(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "orderers").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    assert_eq!(ledger_client::consenters(&scene, "orderer-1").await, ledger_client::addresses(&scene, &[1, 2, 3]));

    scene.kubelet.hold("orderer-3");
    scene.condition("Orderer", "orderer-3", "NodeReady", "False", "PodFailing").await;
    scene.apply(&sample::all(MORE)).await;
    scene.edit("Channel", "care", orderers(&[1, 2, 3, 4, 5])).await;
    let held = |c: &Value| c["type"] == "ConfigInSync" && c["reason"] == "WaitingForDependency";
    let message = scene.until_condition("Channel", "care", held).await;
    assert!(message.contains("add consenter orderer-"), "{message}");
    assert!(message.contains("Orderer orderer-3 is not well"), "{message}");
    assert_eq!(
        ledger_client::consenters(&scene, "orderer-1").await,
        ledger_client::addresses(&scene, &[1, 2, 3]),
        "nobody comes while one is down"
    );

    scene.kubelet.release("orderer-3");
    scene.settle(&mut operator).await;
    assert_eq!(
        ledger_client::consenters(&scene, "orderer-5").await,
        ledger_client::addresses(&scene, &[1, 2, 3, 4, 5])
    );
    let status = scene.get("Channel", "care").data["status"].clone();
    let relations = status["nodes"].as_array().expect("nodes").iter().filter(|node| node["kind"] == "Orderer");
    assert!(
        relations.clone().count() == 5 && relations.clone().all(|node| node["relation"] == "consenter"),
        "{status}"
    );

    scene.edit("Channel", "care", orderers(&[1, 4, 5])).await;
    scene.settle(&mut operator).await;
    assert_eq!(ledger_client::consenters(&scene, "orderer-4").await, ledger_client::addresses(&scene, &[1, 4, 5]));
    scene.delete("Orderer", "orderer-2").await;
    scene.until_gone(&["orderer-2"]).await;
    // Those that are left order what comes next.
    scene.edit("Channel", "care", json!({"spec": {"batch": {"maxMessageCount": 23}}})).await;
    scene.settle(&mut operator).await;
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    invariants::hold(&scene, &operator.gate().writes()).await;
}

const MORE: &str = "
{apiVersion: ehrnet.dev/v1alpha1, kind: Orderer, metadata: {name: orderer-4}, spec: {hospitalRef: {name: lakeside}}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Orderer, metadata: {name: orderer-5}, spec: {hospitalRef: {name: mercy}}}
";

fn orderers(numbers: &[u8]) -> Value {
    let names: Vec<_> = numbers.iter().map(|n| format!("orderer-{n}")).collect();
    json!({"spec": {"consensus": {"orderers": names}}})
}
