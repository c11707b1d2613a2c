//! What must hold of every run, whatever happened in it (the safety invariants S1, S2, S6 and S8).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::gate::Write;
use super::logs;
use super::scene::Scene;
use super::snapshot;

/// Checks all of them over the writes of every operator that ran in the scene.
pub async fn hold(scene: &Scene, writes: &[Write]) {
    let mut broken = Vec::new();
    keeps_ledgers_and_keys(writes, &mut broken);
    has_one_genesis(writes, &mut broken);
    stays_in_its_namespace(scene, writes, &mut broken);
    keeps_keys_in_secrets(scene, writes, &mut broken).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

/// S1: no volume and no Secret with keys is deleted (nothing in these tests asks for it).
fn keeps_ledgers_and_keys(writes: &[Write], broken: &mut Vec<String>) {
    let precious =
        |write: &&Write| write.target.contains("/persistentvolumeclaims/") || write.target.contains("/secrets/");
    let deleted = writes.iter().filter(|write| write.verb == "DELETE").filter(precious);
    broken.extend(deleted.map(|write| format!("S1: deleted {}", write.target)));
}

/// S2: a genesis block is stored once and never changed, and no status ever names another one.
fn has_one_genesis(writes: &[Write], broken: &mut Vec<String>) {
    let stored = |write: &Write| {
        write.status.is_some_and(|status| status < 300) && body(write)["binaryData"]["genesis.block"].is_string()
    };
    let mut blocks: BTreeSet<(String, String)> = BTreeSet::new();
    let mut hashes: BTreeSet<(String, String)> = BTreeSet::new();
    for write in writes {
        let content = body(write);
        if stored(write) {
            let name = content["metadata"]["name"].to_string();
            let stored = content["binaryData"]["genesis.block"].to_string();
            if blocks.iter().any(|(other, block)| *other == name && *block != stored) {
                broken.push(format!("S2: another genesis block in {name}"));
            }
            blocks.insert((name, stored));
        }
        if let Some(hash) = content["status"]["genesisHash"].as_str() {
            hashes.insert((write.target.clone(), hash.to_owned()));
        }
    }
    let resources: BTreeSet<_> = hashes.iter().map(|(target, _)| target).collect();
    if resources.len() != hashes.len() {
        broken.push(format!("S2: the genesis hash changed: {hashes:?}"));
    }
}

/// S8: nothing is written outside the namespace of the declared resources.
fn stays_in_its_namespace(scene: &Scene, writes: &[Write], broken: &mut Vec<String>) {
    let own = format!("/namespaces/{}/", scene.namespace);
    let foreign = writes.iter().filter(|write| write.target.starts_with('/') && !write.target.contains(&own));
    broken.extend(foreign.map(|write| format!("S8: {} {}", write.verb, write.target)));
}

/// S6: no byte of a private key is anywhere but in Secrets.
async fn keeps_keys_in_secrets(scene: &Scene, writes: &[Write], broken: &mut Vec<String>) {
    let secrets = Api::<Secret>::namespaced(scene.client.clone(), &scene.namespace).list(&ListParams::default()).await;
    let needles: Vec<_> = secrets.expect("list").iter().flat_map(needles).collect();
    assert!(!needles.is_empty() || writes.is_empty(), "there is no key at all, so this shows nothing");
    let mut look = |place: String, text: &str| {
        if text.contains("PRIVATE KEY") || needles.iter().any(|needle| text.contains(needle.as_str())) {
            broken.push(format!("S6: a private key in {place}"));
        }
    };
    for write in writes.iter().filter(|write| !write.target.contains("/secrets")) {
        look(format!("{} {}", write.verb, write.target), &String::from_utf8_lossy(&write.body));
    }
    for ((kind, name), object) in snapshot::children(&scene.client, &scene.namespace).await {
        if kind != "Secret" {
            look(format!("{kind} {name}"), &serde_json::to_string(&object).expect("JSON"));
        } else {
            look(format!("metadata of Secret {name}"), &serde_json::to_string(&object.metadata).expect("JSON"));
        }
    }
    for ((kind, name), object) in scene.resources() {
        look(format!("{kind} {name}"), &serde_json::to_string(&object).expect("JSON"));
    }
    let events = Api::<Event>::namespaced(scene.client.clone(), &scene.namespace).list(&ListParams::default()).await;
    for event in events.expect("list") {
        look("an Event".into(), &serde_json::to_string(&event).expect("JSON"));
    }
    look("the operator's log".into(), &logs::text());
}

/// Pieces of each private key in a Secret that can be nothing else, as PEM has them and as the API sends them.
fn needles(secret: &Secret) -> Vec<String> {
    let mut found = Vec::new();
    for value in secret.data.iter().flatten().map(|(_, value)| String::from_utf8_lossy(&value.0).into_owned()) {
        let Some((_, rest)) = value.split_once("PRIVATE KEY-----\n") else { continue };
        // The first line of PKCS#8 is the same for all P-256 keys up to its 48th character.
        let body: String = rest.lines().take_while(|line| !line.starts_with("-----")).collect();
        let unique = &body[48..88];
        found.push(unique.to_owned());
        let bytes = STANDARD.decode(&body).expect("PEM");
        found.push(hex::encode(&bytes[36..60]));
        // In a Secret's JSON, PEM is base64 again; three alignments are possible, one of them is always there.
        let whole = STANDARD.encode(&value);
        let middle = whole.len() / 2;
        found.push(whole[middle - 20..middle + 20].to_owned());
    }
    found
}

fn body(write: &Write) -> Value {
    serde_json::from_slice(&write.body).unwrap_or_default()
}
