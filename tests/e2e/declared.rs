//! The resources that scenarios declare, as a user would write them.

use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::resources::api;
use crate::scene::LIMIT;

const MANAGER: &str = "ehrnet-test";

pub fn hospital(name: &str) -> Value {
    let msp = format!("{}{}MSP", name[..1].to_uppercase(), &name[1..]);
    object("Hospital", name, json!({"mspId": msp, "displayName": format!("{name} hospital")}))
}

pub fn orderer(name: &str, hospital: &str) -> Value {
    object("Orderer", name, node(hospital))
}

pub fn peer(name: &str, hospital: &str, channels: &[&str]) -> Value {
    let mut spec = node(hospital);
    spec["channels"] = json!(channels);
    object("Peer", name, spec)
}

/// Somebody of a hospital who signs transactions.
pub fn identity(name: &str, hospital: &str, attributes: Value) -> Value {
    object("Identity", name, json!({"hospitalRef": {"name": hospital}, "type": "client", "attributes": attributes}))
}

/// Small requests: what a node asks for by default fills a small machine with a few networks.
fn node(hospital: &str) -> Value {
    let requests = json!({"cpu": "10m", "memory": "32Mi"});
    json!({"hospitalRef": {"name": hospital}, "storage": {"size": "1Gi"}, "resources": {"requests": requests}})
}

pub fn channel(name: &str, consensus: &str, orderers: &[&str], members: &[&str]) -> Value {
    let consensus = json!({"type": consensus, "orderers": orderers});
    object("Channel", name, json!({"channelName": name, "consensus": consensus, "members": members}))
}

/// The project's own contract, endorsed by all of these.
pub fn contract(name: &str, channel: &str, endorsing: &[&str]) -> Value {
    chaincode(name, channel, json!({"endorsement": {"allOf": endorsing}}))
}

/// A contract on a channel; `spec` is what it has beyond the channel.
pub fn chaincode(name: &str, channel: &str, mut spec: Value) -> Value {
    spec["channelRef"] = json!({"name": channel});
    object("Chaincode", name, spec)
}

/// A consent policy that permits nothing by itself. Without one in force the contract permits nothing at all.
pub fn consent_policy(name: &str, contract: &str) -> Value {
    object("ConsentPolicy", name, json!({"contractRef": {"name": contract}, "basePolicy": "deny"}))
}

/// One hospital with one orderer and one peer on the channel `care`.
pub fn clinic() -> Vec<Value> {
    vec![
        hospital("mercy"),
        orderer("mercy-orderer", "mercy"),
        peer("mercy-peer", "mercy", &["care"]),
        channel("care", "Raft", &["mercy-orderer"], &["mercy"]),
    ]
}

/// One hospital with these orderers and one peer on the channel `care`.
pub fn ordered_by(consensus: &str, orderers: &[&str]) -> Vec<Value> {
    let mut network = vec![hospital("mercy"), peer("mercy-peer", "mercy", &["care"])];
    network.extend(orderers.iter().map(|name| orderer(name, "mercy")));
    network.push(channel("care", consensus, orderers, &["mercy"]));
    network
}

/// The sample that the project ships.
pub fn two_hospitals() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/samples/two-hospitals.yaml");
    let text = std::fs::read_to_string(file).expect("the sample");
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).expect("YAML")).collect()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn kind_of(object: &Value) -> &str {
    object["kind"].as_str().expect("a kind")
}

pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// `kubectl apply --server-side` of one object.
pub async fn apply(client: &Client, namespace: &str, object: &Value) -> DynamicObject {
    let (api, name) = (api(client, namespace, kind_of(object)), name_of(object));
    let until = Instant::now() + LIMIT;
    loop {
        match api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await {
            Ok(applied) => return applied,
            // The server of a busy machine drops connections; `kubectl` would be called again.
            Err(kube::Error::Service(error)) if Instant::now() < until => println!("applying {name} again: {error}"),
            Err(error) => panic!("applying {} {name}: {error}", kind_of(object)),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
