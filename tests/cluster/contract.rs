//! Contracts, policies and identities over their life, on the embedded ledger or on Fabric.

use std::sync::Arc;

use ehrnet_desired::names;
use ehrnet_messages::{ApprovePolicy, Code, GetPolicy, PutPolicy};
use ehrnet_pki::Certificate;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{self, watcher};
use serde_json::{Value, json};

use crate::libraries;
use crate::support::gate::Gate;
use crate::support::scene::{LIMIT, Scene};
use crate::support::server::TestCluster;
use crate::support::{invariants, ledger_client, sample};

/// Another version is another definition; another image is not; and both can be taken back.
pub async fn is_upgraded_rolled_out_and_rolled_back(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "upgrade").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let agreed = |scene: &Scene| {
        let status = scene.get("Chaincode", "ehr").data["status"].clone();
        (status["sequence"].clone(), status["version"].clone())
    };
    scene.edit("Chaincode", "ehr", json!({"spec": {"version": "2.0"}})).await;
    scene.settle(&mut operator).await;
    assert_eq!(agreed(&scene), (json!(2), json!("2.0")));
    scene.edit("Chaincode", "ehr", json!({"spec": {"image": {"reference": "nowhere.invalid/contract:9"}}})).await;
    let message = scene.condition("Chaincode", "ehr", "PodsReady", "False", "PodFailing").await;
    assert!(message.contains("nowhere.invalid/contract:9 cannot be pulled"), "{message}");
    scene.edit("Chaincode", "ehr", json!({"spec": {"image": {"reference": null}}})).await;
    scene.settle(&mut operator).await;
    assert_eq!(agreed(&scene), (json!(2), json!("2.0")), "an image is no matter of agreement");
    scene.edit("Chaincode", "ehr", json!({"spec": {"version": "1.0", "endorsement": null}})).await;
    scene.settle(&mut operator).await;
    assert_eq!(agreed(&scene), (json!(3), json!("1.0")));
    invariants::hold(&scene, &operator.gate().writes()).await;
}

/// A pod that runs and registers under another id is no service of the contract, and that is said.
pub async fn is_not_ready_under_another_package_id(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "stranger").await;
    let command = "/usr/bin/env CHAINCODE_ID=other:1 CORE_CHAINCODE_ID=other:1 CORE_CHAINCODE_ID_NAME=other:1 /opt/ehrnet-contract";
    let start = scene.start.clone().with(["--contract-command", command]);
    let _operator = start.run(Gate::open());
    scene.apply(&sample::two_hospitals()).await;
    let message = scene.condition("Chaincode", "ehr", "PodsReady", "False", "PodFailing").await;
    assert!(message.contains("-peer does not reach the contract of Hospital"), "{message}");
    assert!(message.contains("package id"), "{message}");
}

/// The digest in status, ConfigMap and ledger is one; what others change is told and put back; a scope has one policy.
pub async fn keeps_one_policy_everywhere(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "policy").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let digest = scene.get("ConsentPolicy", "treatment").data["status"]["digest"].clone();

    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let by_hand = Patch::Merge(json!({"data": {"policy.json": "{}"}}));
    maps.patch("treatment-consent", &PatchParams::default(), &by_hand).await.expect("an edit");
    let message = scene.condition("ConsentPolicy", "treatment", "InSync", "False", "Drifted").await;
    assert!(message.contains("ConfigMap treatment-consent was edited"), "{message}");
    scene.settle(&mut operator).await;

    scene.edit("ConsentPolicy", "treatment", json!({"spec": {"basePolicy": "all-normal"}})).await;
    scene.settle(&mut operator).await;
    let status = scene.get("ConsentPolicy", "treatment").data["status"].clone();
    assert_eq!(status["ledgerVersion"], 2, "an edit of the declaration is a version");
    scene.edit("ConsentPolicy", "treatment", json!({"spec": {"basePolicy": "deny"}})).await;
    scene.settle(&mut operator).await;
    assert_eq!(scene.get("ConsentPolicy", "treatment").data["status"]["digest"], digest);

    let weak = GetPolicy { name: "treatment".into(), version: Some(2) };
    let weak = ledger_client::evaluate(&scene, "mercy-peer", "care", "ehr", &weak).await;
    let put = PutPolicy { name: "treatment".into(), policy: weak.policy.expect("a policy"), replaces: 3 };
    let alone = ledger_client::try_submit(&scene, "lakeside-peer", "care", "ehr", &put)
        .await
        .expect_err("one of two hospitals");
    assert_eq!(Code::find(&alone.to_string()), Some(Code::NotAgreed), "{alone}");
    let approve = ApprovePolicy { name: "treatment".into(), digest: weak.digest, replaces: 3 };
    ledger_client::submit(&scene, "mercy-peer", "care", "ehr", &approve).await;
    ledger_client::submit(&scene, "lakeside-peer", "care", "ehr", &put).await;
    let message = scene.condition("ConsentPolicy", "treatment", "InSync", "False", "Drifted").await;
    assert!(message.contains("version 4") && message.contains("LakesideMSP"), "{message}");
    scene.settle(&mut operator).await;
    let status = scene.get("ConsentPolicy", "treatment").data["status"].clone();
    assert_eq!((&status["ledgerVersion"], &status["ledgerDigest"]), (&json!(5), &digest));

    scene.apply(&sample::all(SECOND)).await;
    let message = scene.condition("ConsentPolicy", "second", "Anchored", "False", "Conflict").await;
    assert!(message.contains("ConsentPolicy treatment already claims"), "{message}");
    scene.delete("ConsentPolicy", "treatment").await;
    scene.settle(&mut operator).await;
    assert_eq!(scene.get("ConsentPolicy", "second").data["status"]["ledgerVersion"], 1, "it took the scope over");
    invariants::hold(&scene, &operator.gate().writes()).await;
}

const SECOND: &str = "{apiVersion: ehrnet.dev/v1alpha1, kind: ConsentPolicy, metadata: {name: second}, \
    spec: {channelRef: {name: care}, basePolicy: basic-normal}}";

/// C15. Who has the official library and the Secret of an Identity, and nothing else, asks for access and hears of it.
pub async fn serves_an_official_client_from_a_secret_alone(cluster: Arc<TestCluster>) {
    let Some(libraries) = libraries::libraries() else { return };
    let scene = Scene::new(&cluster, "official").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.apply(&sample::all(&CLERK.replace("registrar", "physician"))).await;
    scene.settle(&mut operator).await;
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let folder = tempfile::tempdir().expect("a folder");
    for (key, value) in secrets.get("clerk-id").await.expect("a Secret").data.expect("data") {
        std::fs::write(folder.path().join(key), value.0).expect("a file");
    }
    let host = names::host("mercy-peer", &scene.namespace);
    let address = scene.kubelet.resolver().resolve(&host, names::PEER_PORT).expect("the peer's pod").to_string();
    let (folder, patient) = (folder.path().display().to_string(), "5a".repeat(32));
    let said = libraries::run(&libraries, "from_secret.mjs", &[&folder, "clerk", &patient, &address]).await;
    let output: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&output["answer"]["decision"], &output["answer"]["reason"]), (&json!("DENY"), &json!("no-consent")));
    assert_eq!((&output["event"]["name"], &output["event"]["decision"]), (&json!("AccessDecided"), &json!("DENY")));
    assert_eq!((&output["event"]["patient"], &output["event"]["txId"]), (&json!(patient), &output["answer"]["txId"]));
}

/// An identity is renewed with its key, never lies where another key lies, and says at its end what stays valid.
pub async fn issues_identities(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "identity").await;
    let mut operator = scene.operator();
    scene.apply(&sample::all(HOSPITAL)).await;
    scene.apply(&sample::all(CLERK)).await;
    scene.settle(&mut operator).await;
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let read = async |name: &str| {
        let data = secrets.get(name).await.expect("a Secret").data.expect("data");
        let text = |key: &str| String::from_utf8(data[key].0.clone()).expect("text");
        (Certificate::from_pem(&text("tls.crt")).expect("a certificate"), text("tls.key"), text("pseudonym.key"))
    };
    let (certificate, key, pseudonym) = read("clerk-id").await;
    assert_eq!(certificate.attributes().get("ehr.role"), Some("registrar"));
    assert_eq!(
        (certificate.common_name(), certificate.organizational_units()),
        (Some("clerk"), &["client".to_owned()][..])
    );
    scene.edit("Identity", "clerk", json!({"spec": {"attributes": {"ehr.role": "nurse"}}})).await;
    scene.settle(&mut operator).await;
    let (renewed, same_key, _) = read("clerk-id").await;
    assert_eq!(renewed.attributes().get("ehr.role"), Some("nurse"));
    assert_eq!(same_key, key, "a renewal keeps the key");

    let thief = CLERK.replace("clerk", "thief").replace("type: client", "type: client, secretName: mercy-ca");
    let ca = secrets.get("mercy-ca").await.expect("a CA");
    scene.apply(&sample::all(&thief)).await;
    let message = scene.condition("Identity", "thief", "Ready", "False", "NameTaken").await;
    assert!(message.contains("mercy-ca"), "{message}");
    assert_eq!(secrets.get("mercy-ca").await.expect("a CA").data, ca.data, "the CA's key is still the CA's");
    scene.delete("Identity", "thief").await;

    scene.delete("Identity", "clerk").await;
    let gone = await_condition(secrets.clone(), "clerk-id", |secret: Option<&Secret>| secret.is_none());
    tokio::time::timeout(LIMIT, gone).await.expect("the Secret goes").expect("a watch");
    let note = stays_valid(&scene).await;
    assert!(note.contains(&renewed.serial()) && note.contains(&renewed.not_after().to_string()), "{note}");
    assert!(!note.contains("nurse"), "{note}");
    scene.apply(&sample::all(CLERK)).await;
    scene.settle(&mut operator).await;
    let (_, other_key, same_pseudonym) = read("clerk-id").await;
    assert_ne!(other_key, key, "another identity of the same name has a key of its own");
    assert_eq!(same_pseudonym, pseudonym);
}

/// What is said when an identity goes.
async fn stays_valid(scene: &Scene) -> String {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut seen = watcher(events, watcher::Config::default()).applied_objects().boxed();
    let reported = async {
        loop {
            let event = seen.next().await.expect("a watch does not end").expect("no error");
            if event.reason.as_deref() == Some("StaysValid") {
                return event.note.unwrap_or_default();
            }
        }
    };
    tokio::time::timeout(LIMIT, reported).await.expect("an Event")
}

const HOSPITAL: &str =
    "{apiVersion: ehrnet.dev/v1alpha1, kind: Hospital, metadata: {name: mercy}, spec: {mspId: MercyMSP}}";
const CLERK: &str = "{apiVersion: ehrnet.dev/v1alpha1, kind: Identity, metadata: {name: clerk}, \
    spec: {hospitalRef: {name: mercy}, type: client, attributes: {ehr.role: registrar}}}";
