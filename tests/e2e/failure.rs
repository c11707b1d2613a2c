//! A failure is named in the status, and the status recovers when its cause is removed.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::json;

use crate::declared::{clinic, two_hospitals};
use crate::sample::row;
use crate::scene::{Scene, condition};

/// Nothing answers there.
const NO_IMAGE: &str = "localhost:1/no-such-image:1";

/// An image that cannot be pulled is named, in the columns too; the right one heals the node.
pub async fn a_wrong_image_is_named_and_healed_by_the_right_one(scene: Scene) {
    let mut network = clinic();
    for object in network.iter_mut().filter(|object| object["kind"] == "Peer") {
        object["spec"]["image"] = json!({"reference": NO_IMAGE});
    }
    scene.apply(&network).await;
    let failing = |peer: Option<&DynamicObject>| {
        peer.and_then(|peer| condition(peer, "NodeReady")).is_some_and(|found| found["reason"] == "PodFailing")
    };
    let peer = scene.until(&scene.of_kind("Peer"), "mercy-peer", "failing", failing).await;
    let message = condition(&peer, "Ready").expect("a condition")["message"].clone();
    assert!(message.as_str().is_some_and(|text| text.contains(NO_IMAGE)), "{message}");
    let columns = row(&scene, "Peer", "mercy-peer").await;
    assert_eq!((&columns["Ready"], &columns["Reason"]), (&json!("False"), &json!("PodFailing")));

    scene.change("Peer", "mercy-peer", json!({"spec": {"image": {"reference": null}}})).await;
    scene.ready(&network).await;
}

/// A namespace goes while its network runs: no finalizer holds it.
pub async fn a_namespace_goes_with_its_network(scene: Scene) {
    let network = two_hospitals();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.expect("delete");
    let gone =
        kube::runtime::wait::await_condition(namespaces.clone(), &scene.namespace, |found: Option<&Namespace>| {
            found.is_none()
        });
    if tokio::time::timeout(crate::scene::LIMIT, gone).await.is_err() {
        let namespace = namespaces.get(&scene.namespace).await.expect("the namespace");
        panic!("the namespace stays: {:?}\n{}", namespace.status, scene.situation().await);
    }
    // The chart names it, and could not be installed again without it.
    let again = serde_json::from_value(json!({"metadata": {"name": scene.namespace}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &again).await.expect("create");
}
