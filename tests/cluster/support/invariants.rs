//! What must hold of every run, whatever happened in it: the safety invariants S1 to S3 and S5 to S8 of
//! `docs/invariants.md`.
//!
//! S4 is held by the tests that restart nodes, S9 by those of the lease: what a write does not show.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ehrnet_desired::names;
use ehrnet_fabric::proto::common::{Config, Orderers};
use ehrnet_fabric::proto::etcdraft::ConfigMetadata;
use ehrnet_fabric::proto::orderer::ConsensusType;
use ehrnet_messages::GetPolicy;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::gate::Write;
use super::scene::{Scene, is_ready};
use super::{ledger_client, logs, snapshot};
use crate::resources::Id;

/// Checks all of them over the writes of every operator that ran in the scene.
pub async fn hold(scene: &Scene, writes: &[Write]) {
    let mut broken = Vec::new();
    keeps_ledgers_and_keys(writes, &mut broken);
    has_one_genesis(writes, &mut broken);
    says_ready_only_after_asking_the_ledger(writes, &mut broken);
    stays_in_its_namespace(scene, writes, &mut broken);
    changes_consenters_one_at_a_time(scene, &mut broken).await;
    puts_declared_policies_in_force_and_no_others(scene, writes, &mut broken).await;
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

/// S3: from one configuration to the next at most one consenter comes, goes or is another one.
async fn changes_consenters_one_at_a_time(scene: &Scene, broken: &mut Vec<String>) {
    let resources = scene.resources();
    let channels =
        resources.iter().filter(|((kind, _), o)| kind == "Channel" && o.data["status"]["genesisHash"].is_string());
    for ((_, name), channel) in channels {
        let spec = &channel.data["spec"];
        let [orderer, channel] =
            [&spec["consensus"]["orderers"][0], &spec["channelName"]].map(|text| text.as_str().expect("a name"));
        let history: Vec<_> = ledger_client::configs(scene, orderer, channel).await.iter().map(consenters).collect();
        for (at, pair) in history.windows(2).enumerate() {
            let (went, came) = (pair[0].difference(&pair[1]).count(), pair[1].difference(&pair[0]).count());
            if went.max(came) > 1 {
                broken.push(format!("S3: after configuration {at} of {name}, {went} consenters went and {came} came"));
            }
        }
    }
}

/// Address and certificate of each consenter, of Raft or of BFT.
pub fn consenters(config: &Config) -> BTreeSet<(String, Vec<u8>)> {
    let orderer = &config.channel_group.as_ref().expect("a root").groups["Orderer"];
    let consensus = ConsensusType::decode(orderer.values["ConsensusType"].value.as_slice()).expect("a type");
    let member = |host: String, port: u32, certificate: Vec<u8>| (format!("{host}:{port}"), certificate);
    if consensus.r#type == "BFT" {
        let all = Orderers::decode(orderer.values["Orderers"].value.as_slice()).expect("consenters").consenter_mapping;
        return all.into_iter().map(|c| member(c.host, c.port, c.server_tls_cert)).collect();
    }
    let all = ConfigMetadata::decode(consensus.metadata.as_slice()).expect("consenters").consenters;
    all.into_iter().map(|c| member(c.host, c.port, c.server_tls_cert)).collect()
}

/// S5: whatever policy was ever in force is one that was declared, so none was weaker than both the old and the new one.
async fn puts_declared_policies_in_force_and_no_others(scene: &Scene, writes: &[Write], broken: &mut Vec<String>) {
    let resources = scene.resources();
    for ((_, name), policy) in resources.iter().filter(|((kind, _), _)| kind == "ConsentPolicy") {
        let (Some(newest), Some((peer, channel, chaincode))) =
            (policy.data["status"]["ledgerVersion"].as_u64(), keeper(&resources, policy))
        else {
            continue;
        };
        let declared = projected(writes, name);
        for version in 1..=newest {
            let ask = GetPolicy { name: name.clone(), version: Some(version) };
            let found = ledger_client::evaluate(scene, &peer, &channel, &chaincode, &ask).await;
            if !declared.contains(&found.digest) {
                broken.push(format!("S5: version {version} of {name} on the ledger was never declared: {found:?}"));
            }
        }
    }
}

/// A peer that can be asked about a policy, with channel and contract.
fn keeper(resources: &BTreeMap<Id, DynamicObject>, policy: &DynamicObject) -> Option<(String, String, String)> {
    let name = &policy.data["spec"]["channelRef"]["name"];
    let channel = resources.get(&("Channel".to_owned(), name.as_str()?.to_owned()))?;
    let first = |kind: &str, fits: &dyn Fn(&DynamicObject) -> bool| {
        resources.iter().find(|((of, _), o)| of == kind && fits(o)).map(|((_, name), _)| name.clone())
    };
    let contract = first("Chaincode", &|o| o.data["spec"]["channelRef"]["name"] == *name)?;
    let joined = |o: &DynamicObject| o.data["spec"]["channels"].as_array().is_some_and(|all| all.contains(name));
    let peer = first("Peer", &|o| is_ready(o) && joined(o))?;
    Some((peer, channel.data["spec"]["channelName"].as_str()?.to_owned(), contract))
}

/// Digests of what was declared of a policy over time, from the ConfigMaps that were written for it.
fn projected(writes: &[Write], policy: &str) -> BTreeSet<String> {
    let name = json!(names::consent_policy(policy));
    let of_policy = writes.iter().map(body).filter(|content| content["metadata"]["name"] == name);
    let texts = of_policy.filter_map(|content| Some(content["data"][names::POLICY_JSON].as_str()?.to_owned()));
    texts.map(|text| hex::encode(Sha256::digest(text))).collect()
}

/// What a Ready resource was made of: kind in a path, and the port that its ledger is asked at.
const ASKED: [(&str, u16); 3] =
    [("/channels/", names::ORDERER_PORT), ("/chaincodes/", names::PEER_PORT), ("/consentpolicies/", names::PEER_PORT)];

/// S7: a channel, a contract or a policy on the ledger is said to be Ready only after the ledger was asked since the
/// status before: nothing is concluded from pods that run.
fn says_ready_only_after_asking_the_ledger(writes: &[Write], broken: &mut Vec<String>) {
    let mut ever: BTreeSet<&str> = BTreeSet::new();
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for write in writes {
        let new = || write.asked.iter().map(String::as_str);
        ever.extend(new());
        asked.values_mut().for_each(|since| since.extend(new()));
        let Some((_, port)) = ASKED.iter().find(|(kind, _)| write.target.contains(kind)) else { continue };
        let status = &body(write)["status"];
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let since = asked.entry(&write.target).or_insert_with(|| ever.clone());
        let on_ledger = !write.target.contains("/consentpolicies/") || status["ledgerVersion"].is_u64();
        if ready && on_ledger && !since.iter().any(|node| node.ends_with(&format!(":{port}"))) {
            broken.push(format!("S7: {} says Ready, and no node was asked at port {port} before", write.target));
        }
        if write.status.is_some_and(|status| status < 300) {
            since.clear();
        }
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
