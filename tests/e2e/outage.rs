//! The ledger goes on while parts of it are away, and loses nothing (C1, C3, C4, C20).
//!
//! Three hospitals, any two of which endorse, with an orderer and a peer each, under requests that never stop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ehrnet_client::consents::{self, Given};
use ehrnet_consent::vocabulary::Coding;
use ehrnet_fabric::blocks::header_hash;
use ehrnet_fabric::net::{Target, TlsIdentity};
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex};
use ehrnet_fabric::{participation, peer};
use ehrnet_messages::*;
use ehrnet_pki::{Authority, AuthorityName, Certificate, Leaf, PrivateKey, Profile};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DynamicObject, EvictParams, ListParams};
use serde_json::{Value, json};

use crate::chain;
use crate::declared::{chaincode, channel, consent_policy, hospital, identity, orderer, peer as declared_peer};
use crate::load::{Done, Load, longest_gap};
use crate::scene::{Scene, eventually, is_ready};
use crate::scrape;
use crate::wire::Wire;

const HOSPITALS: [&str; 3] = ["mercy", "lakeside", "harbor"];
/// The longest that nobody's request may be committed after the leader is gone, on a busy machine.
const ELECTION: Duration = Duration::from_secs(30);

fn three_hospitals() -> Vec<Value> {
    let orderers = HOSPITALS.map(|name| format!("{name}-orderer"));
    let orderers = orderers.each_ref().map(String::as_str);
    let mut care = channel("care", "Raft", &orderers, &HOSPITALS);
    care["spec"]["batch"] = json!({"timeout": "250ms"});
    let collections = collection::ALL.map(|name| json!({"name": name, "requiredPeerCount": 1}));
    let two = json!({"outOf": {"count": 2, "hospitals": HOSPITALS}});
    let contract = chaincode("ehr", "care", json!({"endorsement": two, "collections": collections}));
    let mut network = vec![care, contract, consent_policy("treatment", "ehr")];
    for name in HOSPITALS {
        let peer = declared_peer(&format!("{name}-peer"), name, &["care"]);
        network.extend([hospital(name), orderer(&format!("{name}-orderer"), name), peer]);
    }
    network
}

/// A leader is killed, a peer evicted, every certificate renewed, a hospital taken away: requests go on being committed,
/// each once, and in the end all peers have the same.
pub async fn the_ledger_goes_on_without_any_one_part(scene: Scene) {
    let network = three_hospitals();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let pseudonym = "7c".repeat(32);
    let patient = json!({attribute::ROLE: role::PATIENT, attribute::PATIENT: pseudonym});
    let mut people = vec![identity("patient", "mercy", patient)];
    for name in HOSPITALS {
        people.push(identity(&format!("{name}-staff"), name, json!({attribute::ROLE: role::REGISTRAR})));
        people.push(identity(&format!("{name}-load"), name, json!({attribute::ROLE: role::PHYSICIAN})));
    }
    scene.admit(&people).await;
    strangers_are_refused(&scene).await;

    let mut loads = Vec::new();
    for name in HOSPITALS {
        loads.push(Load::start(&scene, &format!("{name}-load")).await);
    }
    all_go_on(&loads).await;
    let killed = Instant::now();
    let leader = kill_the_leader(&scene).await;
    all_go_on(&loads).await;
    let elected = Instant::now();
    scene.ready(&network).await;
    evict_a_peer(&scene, &pseudonym, &loads).await;
    renew_every_certificate(&scene, &network).await;
    all_go_on(&loads).await;
    take_a_hospital_away(&scene, &pseudonym, &loads).await;
    scene.ready(&network).await;
    all_go_on(&loads).await;

    let mut done = Vec::new();
    for load in loads {
        done.extend(load.end().await);
    }
    done.sort_by_key(|done| done.at);
    let gap = longest_gap(&done, killed, elected);
    println!("the leader {leader} was killed: nothing was committed for {:.1} s", gap.as_secs_f64());
    assert!(gap < ELECTION, "{gap:?}");
    each_is_on_the_ledger_once(&scene, &done).await;
}

async fn all_go_on(loads: &[Load]) {
    futures::future::join_all(loads.iter().map(Load::goes_on)).await;
}

/// C4. Without TLS nobody is served, a client does not take another CA's node for the hospital's, and the orderer's admin
/// port serves the operator's certificate only.
async fn strangers_are_refused(scene: &Scene) {
    let wire = Wire::new(scene);
    let now = jiff::Timestamp::now();
    let year = Duration::from_secs(365 * 24 * 3600);
    let name = AuthorityName { common_name: "stranger".into(), organization: None };
    let stranger = Authority::generate(&name, year, now).expect("a CA");
    for (node, port) in [("mercy-peer", 7051), ("mercy-orderer", 7050), ("ehr-mercy", 9999)] {
        let answer = scrape::metrics(wire.connect(node, port).await.expect("a connection")).await;
        assert!(answer.is_err(), "{node}:{port} speaks without TLS: {answer:?}");
    }
    let mut bundle = scene.bundle("mercy-staff").await;
    let host = bundle.peer.host.clone();
    bundle.tls_roots = stranger.certificate().pem().into();
    let refused = wire.peer(bundle).chain_info("care").await.expect_err("another CA").to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    let key = PrivateKey::generate();
    let leaf = Leaf { common_name: "stranger".into(), organization: None, profile: Profile::TlsClient };
    let certificate = stranger.issue(&leaf, &key, year, now).expect("a certificate").pem().to_owned();
    let roots = vec![scene.bundle("mercy-staff").await.tls_roots];
    for client_identity in [None, Some(TlsIdentity { certificate, key: key.to_pem() })] {
        let host = host.replacen("mercy-peer", "mercy-orderer", 1);
        let target = Target { host, port: 9443, tls_roots: roots.clone(), client_identity };
        let admin = participation::Client::new(wire.clone(), &target).expect("a client");
        let refused = admin.list().await;
        assert!(refused.is_err(), "the admin port served a stranger: {refused:?}");
    }
}

/// C3. Ends the orderer that leads without warning; its name.
async fn kill_the_leader(scene: &Scene) -> String {
    let wire = Wire::new(scene);
    let mut leader = None;
    eventually("there is a leader", async || {
        for name in HOSPITALS.map(|name| format!("{name}-orderer")) {
            if wire.metrics(&name, 8443).await.is_ok_and(|metrics| metrics.contains(&scrape::leads("care"))) {
                leader = Some(name);
            }
        }
        leader.is_some()
    })
    .await;
    let leader = leader.expect("found");
    scene.kill(&format!("{leader}-0")).await;
    leader
}

/// C20. A drain takes a peer away right after a consent was given there: others have the consent and go on, and the
/// peer has it when it is back.
async fn evict_a_peer(scene: &Scene, pseudonym: &str, loads: &[Load]) {
    let [mercy, lakeside, _] = contract_clients(scene).await;
    let patient = scene.contract_client("patient").await;
    let given = Given {
        patient: pseudonym.into(),
        consent: "c-1".into(),
        resource: json!({
            "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
            "category": [{"coding": [{"code": "59284-0"}]}],
            "provision": {"type": "permit", "purpose": [{"code": "TREAT"}]},
        }),
        seq: Some(1),
        source_hash: None,
        performer: None,
    };
    let given = consents::put(&patient.contract, given).await.expect("a consent");
    let before: Vec<_> = loads.iter().map(Load::failed).collect();
    let pods = scene.api::<Pod>();
    let uid = pods.get("mercy-peer-0").await.expect("the pod").uid();
    pods.evict("mercy-peer-0", &EvictParams::default()).await.expect("the budget lets one go");
    let leaves =
        move |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != uid || pod.metadata.deletion_timestamp.is_some());
    scene.until(&pods, "mercy-peer-0", "evicted", leaves).await;

    let ask = DecideAccess(RequestAccess { patient: pseudonym.into(), purpose: "TREAT".into(), ..Default::default() });
    let secret = AccessSecret { salt: ehrnet_client::contract::salt(), justification: None };
    let decided = lakeside.contract.call(&ask, Some(&secret)).await.expect("an answer");
    assert_eq!(decided.detail.consent.as_deref(), Some("c-1"), "Lakeside decides by the consent given at Mercy");
    for load in &loads[1..] {
        load.goes_on().await;
    }
    let after: Vec<_> = loads.iter().map(Load::failed).collect();
    // Fabric's peer may choose the one that is gone to keep the private data, as long as gossip takes it for alive: such
    // a request is tried again, once or twice.
    let failed = before.iter().zip(&after).skip(1).map(|(before, after)| after - before);
    assert!(
        failed.clone().all(|failed| failed <= 2),
        "the others need no peer of Mercy: {:?}",
        failed.collect::<Vec<_>>()
    );
    scene.one_ready("Peer", "mercy-peer").await;
    loads[0].goes_on().await;
    let decided = mercy.contract.call(&ask, Some(&secret)).await.expect("an answer");
    assert_eq!(decided.detail.consent.as_deref(), Some(given.consent.as_str()), "Mercy's peer still has it");
}

/// A client of the contract for somebody of each hospital.
async fn contract_clients(scene: &Scene) -> [ehrnet_demo::people::ContractClient; 3] {
    let [one, two, three] = HOSPITALS.map(|name| {
        let scene = scene.clone();
        async move { scene.contract_client(&format!("{name}-staff")).await }
    });
    [one.await, two.await, three.await]
}

/// C4. Every certificate is due at once: each node restarts with another one.
async fn renew_every_certificate(scene: &Scene, network: &[Value]) {
    let names = HOSPITALS.map(|name| [format!("{name}-orderer"), format!("{name}-peer")]).concat();
    let before = serials(scene, &names).await;
    let began = Instant::now();
    // One hour more than what is left of any of them.
    let renewal = json!({"spec": {"pki": {"leaf": {"validity": "9000h", "renewBefore": "8761h"}}}});
    for name in HOSPITALS {
        scene.change("Hospital", name, renewal.clone()).await;
    }
    for name in &names {
        let old = before[name].clone();
        let kind = if name.ends_with("-peer") { "Peer" } else { "Orderer" };
        let renewed = |node: Option<&DynamicObject>| {
            node.is_some_and(|node| {
                let serial = &node.data["status"]["tls"]["serial"];
                is_ready(node) && serial.as_str().is_some_and(|serial| serial != old)
            })
        };
        scene.until(&scene.of_kind(kind), name, "renewed", renewed).await;
    }
    scene.ready(network).await;
    println!("every certificate of six nodes was renewed within {:.0} s", began.elapsed().as_secs_f64());
}

/// Serial numbers of the nodes' TLS certificates.
async fn serials(scene: &Scene, nodes: &[String]) -> BTreeMap<String, String> {
    let mut serials = BTreeMap::new();
    for node in nodes {
        let secret = scene.api::<Secret>().get(&format!("{node}-tls")).await.expect("a Secret");
        let text = String::from_utf8(secret.data.expect("data")["tls.crt"].0.clone()).expect("PEM");
        serials.insert(node.clone(), Certificate::from_pem(&text).expect("a certificate").serial());
    }
    serials
}

/// C1. All pods of Mercy are gone, and cannot come back before they may; the two others register and decide.
async fn take_a_hospital_away(scene: &Scene, pseudonym: &str, loads: &[Load]) {
    scene.no_new_pods().await;
    let pods = scene.api::<Pod>();
    let mercy = |name: &String| name.starts_with("mercy-") || name.starts_with("ehr-mercy-");
    let names = async || -> Vec<String> {
        let pods = pods.list(&ListParams::default()).await.expect("pods");
        pods.iter().map(ResourceExt::name_any).filter(mercy).collect()
    };
    let gone = names().await;
    assert_eq!(gone.len(), 3, "an orderer, a peer and the contract: {gone:?}");
    for pod in &gone {
        scene.kill(pod).await;
    }
    let [at_mercy, lakeside, harbor] = contract_clients(scene).await;
    let record = RegisterRecord {
        record: "r-1".into(),
        patient: pseudonym.into(),
        version: 1,
        class: Coding { system: None, code: "Observation".into(), display: None },
        confidentiality: "N".into(),
        sensitivity: Vec::new(),
        authored_on: None,
        manifest: None,
    };
    let secret = RecordSecret {
        salt: ehrnet_client::contract::salt(),
        digest: "11".repeat(32),
        storage: "https://fhir.lakeside.example/1".into(),
        codes: None,
        manifest_root: None,
    };
    let mut registered = None;
    eventually("Lakeside registers a record", async || {
        registered =
            lakeside.contract.call(&record, Some(&secret)).await.inspect_err(|error| println!("not yet: {error}")).ok();
        registered.is_some()
    })
    .await;
    for load in &loads[1..] {
        load.goes_on().await;
    }
    assert_eq!(names().await, Vec::<String>::new(), "Mercy is still away");

    scene.new_pods_again().await;
    scene.one_ready("Peer", "mercy-peer").await;
    for client in [&at_mercy, &lakeside, &harbor] {
        let verify = VerifyRecord { record: "r-1".into(), digest: Some("11".repeat(32)), manifest_root: None };
        eventually("the record is known", async || {
            client.contract.call(&verify, None).await.is_ok_and(|verification| verification.matches)
        })
        .await;
        let view =
            client.contract.call(&GetRecord { record: "r-1".into(), decision: None }, None).await.expect("a record");
        assert_eq!(Some(&view.record), registered.as_ref());
    }
}

/// All peers have the same blocks with the same state after each; there is no gap and no fork; and every request that was
/// acknowledged counts once.
async fn each_is_on_the_ledger_once(scene: &Scene, done: &[Done]) {
    let wire = Wire::new(scene);
    let mut peers: Vec<peer::Client> = Vec::new();
    for name in HOSPITALS {
        peers.push(wire.peer(scene.bundle(&format!("{name}-staff")).await));
    }
    let mut heights = Vec::new();
    eventually("all peers have the same blocks", async || {
        heights.clear();
        for peer in &peers {
            heights.push(peer.chain_info("care").await.map_or(0, |info| info.height));
        }
        heights.iter().all(|height| *height > 0 && *height == heights[0])
    })
    .await;
    let mut chain: Vec<Block> = Vec::new();
    for number in 0..heights[0] {
        let block = chain::block(&peers[0], "care", number).await;
        let header = block.header.as_ref().expect("a header");
        assert_eq!(header.number, number);
        if let Some(last) = chain.last() {
            assert_eq!(header.previous_hash, header_hash(last.header.as_ref().expect("a header")));
        }
        chain.push(block);
    }
    let state = |block: &Block| chain::metadata(block, BlockMetadataIndex::CommitHash);
    let newest = chain.last().expect("blocks");
    for peer in &peers[1..] {
        let theirs = chain::block(peer, "care", heights[0] - 1).await;
        assert_eq!((&theirs.header, state(&theirs)), (&newest.header, state(newest)), "{}", peer.node());
    }
    let counts = chain::count(&chain);
    let wrong: Vec<_> =
        done.iter().filter(|done| counts.get(&done.tx_id) != Some(&1)).map(|done| &done.tx_id).collect();
    assert!(wrong.is_empty(), "of {} requests these are not there once: {wrong:?}", done.len());
    println!("{} requests in {} blocks, each once", done.len(), chain.len());
}
