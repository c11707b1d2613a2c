//! Declarations that contradict each other, and keys that cannot be used: each is named with where it stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ehrnet_desired::names;
use ehrnet_pki::{Authority, AuthorityName, PrivateKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::support::sample;
use crate::support::scene::{LIMIT, Scene, condition_of, is_ready};
use crate::support::server::TestCluster;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Two members with one MSP; two Channels of one name; a set of orderers that buys nothing.
pub async fn name_what_contradicts_in_a_channel(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "contradicts").await;
    let _operator = scene.operator();
    scene.apply(&sample::all(DOUBLES)).await;
    let message = scene.condition("Channel", "care", "Accepted", "False", "Conflict").await;
    assert!(message.contains("Hospitals lakeside and mercy both have mspId OneMSP"), "{message}");
    let refused = |o: &DynamicObject| condition_of(o, "Accepted").is_some_and(|c| c["reason"] == "Conflict");
    let hospital = |kind: &str| kind == "Hospital";
    scene
        .until(LIMIT, "a Hospital to be refused", |resources| {
            resources.iter().any(|((kind, _), o)| hospital(kind) && refused(o))
        })
        .await;
    scene.delete("Hospital", "lakeside").await;

    scene.edit("Channel", "care", json!({"spec": {"members": ["mercy"]}})).await;
    let message = scene.condition("Channel", "care", "Accepted", "True", "Degraded").await;
    assert!(message.contains("2 Raft orderers tolerate no more crashes than 1: declare an odd number"), "{message}");
    scene.condition("Channel", "care", "Ready", "True", "Degraded").await;

    scene.apply(&sample::all(COPY)).await;
    let message = scene.condition("Channel", "copy", "Accepted", "False", "Conflict").await;
    assert!(message.contains("Channel care already has channelName care"), "{message}");
    assert!(is_ready(&scene.get("Channel", "care")), "the first one has no part in it");
    assert_eq!(scene.get("Channel", "copy").data["status"]["genesisHash"], Value::Null);
}

const DOUBLES: &str = "
{apiVersion: ehrnet.dev/v1alpha1, kind: Hospital, metadata: {name: mercy}, spec: {mspId: OneMSP}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Hospital, metadata: {name: lakeside}, spec: {mspId: OneMSP}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Orderer, metadata: {name: mercy-1}, spec: {hospitalRef: {name: mercy}}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Orderer, metadata: {name: mercy-2}, spec: {hospitalRef: {name: mercy}}}
---
{apiVersion: ehrnet.dev/v1alpha1, kind: Channel, metadata: {name: care}, spec: {channelName: care, consensus: {type: Raft, orderers: [mercy-1, mercy-2]}, members: [mercy, lakeside]}}
";

const COPY: &str = "{apiVersion: ehrnet.dev/v1alpha1, kind: Channel, metadata: {name: copy}, \
    spec: {channelName: care, consensus: {type: Raft, orderers: [mercy-1]}, members: [mercy]}}";

/// A CA of the hospital's own is taken as it is or refused by the name of its Secret, and works when it is mended.
pub async fn name_what_is_wrong_with_a_ca(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "own-ca").await;
    let mut operator = scene.operator();
    scene.apply(&sample::all(OWN_CA)).await;
    let message = scene.condition("Hospital", "mercy", "IdentityReady", "False", "WaitingForReference").await;
    assert!(message.contains("Secret own of type kubernetes.io/tls does not exist yet"), "{message}");

    let (good, now) = (ca(jiff::Timestamp::now()), jiff::Timestamp::now());
    let long_ago = ca(now.checked_sub(jiff::SignedDuration::from_hours(24 * 800)).expect("a time"));
    let leaf_key = PrivateKey::generate().to_pem().to_string();
    let key = good.key().to_pem().to_string();
    for (certificate, key, cause) in [
        (good.certificate().pem(), leaf_key.as_str(), "the private key does not belong to the certificate"),
        (long_ago.certificate().pem(), long_ago.key().to_pem().as_str(), "the certificate expired at"),
        (include_str!("../../src/pki/testdata/rsa-ca.pem"), key.as_str(), "RSA"),
        ("no certificate", key.as_str(), "certificate"),
    ] {
        put(&scene, certificate, key).await;
        let reported = |c: &Value| {
            let message = c["message"].as_str().unwrap_or_default();
            c["type"] == "IdentityReady" && c["reason"] == "InvalidKeyPair" && message.contains(cause)
        };
        let message = scene.until_condition("Hospital", "mercy", reported).await;
        assert!(message.starts_with("Secret own cannot be used as a CA: "), "{message}");
        let ready = condition_of(&scene.get("Hospital", "mercy"), "Ready").expect("a condition");
        assert_eq!(ready["status"], "False");
    }
    put(&scene, good.certificate().pem(), &key).await;
    scene.settle(&mut operator).await;
}

/// Another key of a CA that a channel knows is refused, by whatever hand it came, and nothing is issued by it.
pub async fn keep_to_the_ca_key_that_a_channel_knows(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "pinned").await;
    let mut operator = scene.operator();
    let (first, second) = (ca(jiff::Timestamp::now()), ca(jiff::Timestamp::now()));
    put(&scene, first.certificate().pem(), &first.key().to_pem()).await;
    let mut network = sample::two_hospitals();
    let mercy =
        network.iter_mut().find(|resource| resource["kind"] == "Hospital" && resource["metadata"]["name"] == "mercy");
    mercy.expect("a hospital")["spec"]["signingCa"] = json!({"secretRef": {"name": "own"}});
    scene.apply(&network).await;
    scene.settle(&mut operator).await;
    assert_eq!(scene.get("Hospital", "mercy").data["status"]["signingCa"]["keyId"], first.certificate().key_id());
    let issued = leaves(&scene).await;

    put(&scene, second.certificate().pem(), &second.key().to_pem()).await;
    let message = scene.condition("Hospital", "mercy", "IdentityReady", "False", "TrustAnchorChanged").await;
    assert!(message.contains("put the old key back"), "{message}");
    scene.condition("Peer", "mercy-peer", "Accepted", "False", "TrustAnchorChanged").await;
    assert_eq!(leaves(&scene).await, issued, "nothing is issued by another key");
    assert_eq!(scene.get("Hospital", "mercy").data["status"]["signingCa"]["keyId"], first.certificate().key_id());

    // Renewed with its key, it is the same CA.
    let renewed = first.reissue(YEAR, jiff::Timestamp::now()).expect("a renewed CA");
    put(&scene, renewed.certificate().pem(), &renewed.key().to_pem()).await;
    scene.settle(&mut operator).await;

    // A CA that the operator made comes back from memory.
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let made = secrets.get("lakeside-ca").await.expect("a Secret").data;
    let edit =
        json!({"stringData": {"tls.crt": second.certificate().pem(), "tls.key": second.key().to_pem().as_str()}});
    secrets.patch("lakeside-ca", &PatchParams::default(), &Patch::Merge(edit)).await.expect("edit");
    let back = |now: Option<&Secret>| now.is_some_and(|now| now.data == made);
    let seen = tokio::time::timeout(LIMIT, await_condition(secrets.clone(), "lakeside-ca", back)).await;
    seen.expect("the CA is put back").expect("a watch");
    scene.settle(&mut operator).await;
}

/// What the enrolment certificates of the nodes and the admin of the hospital are.
async fn leaves(scene: &Scene) -> Vec<Option<BTreeMap<String, ByteString>>> {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut leaves = Vec::new();
    for name in [names::admin("mercy"), names::node_identity("mercy-peer"), names::node_identity("orderer-1")] {
        leaves.push(secrets.get(&name).await.unwrap_or_else(|error| panic!("Secret {name}: {error}")).data);
    }
    leaves
}

fn ca(now: jiff::Timestamp) -> Authority {
    let name = AuthorityName { common_name: "mercy's own CA".into(), organization: None };
    Authority::generate(&name, YEAR, now).expect("a CA")
}

const OWN_CA: &str = "{apiVersion: ehrnet.dev/v1alpha1, kind: Hospital, metadata: {name: mercy}, \
    spec: {mspId: MercyMSP, signingCa: {secretRef: {name: own}}}}";

async fn put(scene: &Scene, certificate: &str, key: &str) {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    let parameters = PatchParams::apply("its-owner").force();
    secrets.patch("own", &parameters, &Patch::Apply(secret)).await.expect("apply");
}
