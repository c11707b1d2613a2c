//! The protocol room against real Fabric nodes. Runs only if `EHRNET_FABRIC_BIN` names a folder laid out as Fabric's
//! release archive (`bin`, `config`, `builders`); otherwise each test says that it is skipped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ehrnet_fabric::Endpoint;
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::genesis::{self, BftOptions, ChannelDefinition, Consensus};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::participation::ConsensusRelation;
use ehrnet_fabric::proto::common::{Block, Config};
use ehrnet_fabric::verbs::{ConfigOutcome, ensure_config, ensure_peer_joined, read_config};
use ehrnet_fabric::{LedgerError, blocks, orderer, participation, peer, plan};

mod agreement;
mod calls;
mod gateways;
mod stand_in;
// Shared with other tests.
#[allow(dead_code)]
#[path = "../support/chain.rs"]
mod chain;
#[allow(dead_code)]
#[path = "../support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "../support/contract.rs"]
mod contract;
#[allow(dead_code)]
#[path = "../support/network.rs"]
mod network;
// Each test crate uses a part of it.
#[allow(dead_code)]
mod nodes;
#[allow(dead_code)]
#[path = "../support/programs.rs"]
mod programs;
mod records;

use network::{channel, joined, raft};
use nodes::{Node, Org, Site, eventually};

/// Requests for access that come at once.
const REQUESTS_AT_ONCE: usize = 200;

/// The one permitted skip: real Fabric is not here.
fn site() -> Option<Site> {
    let Some(bin) = std::env::var_os("EHRNET_FABRIC_BIN") else {
        eprintln!("SKIPPED: EHRNET_FABRIC_BIN is not set; it must name a folder laid out as Fabric's release archive");
        return None;
    };
    Some(Site::new(&PathBuf::from(bin)))
}

/// Takes one step. A leader that was just elected refuses (503, or 400 until it has counted who is alive): ask again.
async fn step(
    orderers: &[&orderer::Client],
    desired: &ChannelDefinition,
    admins: &[Arc<SigningIdentity>],
) -> ConfigOutcome {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match ensure_config(orderers, desired, admins, &[], async |_, _| Ok(())).await {
            Ok(outcome) => return outcome,
            Err(LedgerError::Refused { status, message, .. })
                if Instant::now() < until && (status == 503 || message.contains("nodes are alive")) =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// Takes steps until there are none; their descriptions.
async fn converge(
    orderers: &[&orderer::Client],
    desired: &ChannelDefinition,
    admins: &[Arc<SigningIdentity>],
    sequence: u64,
) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        match step(orderers, desired, admins).await {
            ConfigOutcome::Stepped { description, config } => {
                assert_eq!(config.sequence, sequence + taken.len() as u64 + 1, "each step is one update");
                taken.push(description);
            }
            ConfigOutcome::Converged(_) => return taken,
            other => panic!("{other:?}"),
        }
    }
}

/// A new orderer joins; joining again changes nothing.
async fn joins_once(site: &Site, node: &Node, genesis: &Block) {
    let client = site.participation(node);
    assert_eq!(client.list().await.expect("list"), Vec::<String>::new());
    joined(site, node, genesis, ConsensusRelation::Consenter).await;
    let writes = site.network.writes();
    joined(site, node, genesis, ConsensusRelation::Consenter).await;
    assert_eq!(site.network.writes(), writes, "joined already: nothing to write");
    let again = client.join("records", genesis).await.expect_err("joined already").to_string();
    assert!(again.contains("405"), "{again}");
}

/// A new channel: made, stored, joined; joining again changes nothing. Its genesis block.
async fn is_made_and_joined(
    site: &Site,
    definition: &ChannelDefinition,
    orderers: [&Node; 3],
    peer: &peer::Client,
) -> Block {
    let genesis = genesis::block(definition, &Stamp::now()).expect("genesis");
    for node in orderers {
        joins_once(site, node, &genesis).await;
    }
    assert_eq!(ensure_peer_joined(peer, "records", &genesis).await.expect("join"), Some(1));
    assert_eq!(ensure_peer_joined(peer, "records", &genesis).await.expect("joined already"), Some(1));
    let hash = peer.chain_info("records").await.expect("info").current_block_hash;
    assert_eq!(hash, blocks::header_hash(genesis.header.as_ref().expect("header")));
    genesis
}

/// An orderer's participation interface and a peer give the same configuration block as an orderer delivers.
async fn have_configuration_block(orderer: &participation::Client, peer: &peer::Client, delivered: &Block) {
    let same = |block: &Block| (&block.header, &block.data) == (&delivered.header, &delivered.data);
    let served = orderer.config_block("records").await.expect("the orderer is a consenter");
    assert!(same(&served), "{:?} is not {:?}", served.header, delivered.header);
    eventually("the peer has the block", async || peer.config_block("records").await.is_ok_and(|b| same(&b))).await;
}

/// Peers come to go by this configuration.
async fn follow(peers: &[&peer::Client], config: &Config) {
    for peer in peers {
        eventually("the peer follows", async || peer.channel_config("records").await.is_ok_and(|c| c == *config)).await;
    }
}

async fn becomes_consenter(site: &Site, node: &Node) {
    let client = site.participation(node);
    eventually("the new orderer is a consenter", async || {
        let info = client.info("records").await.expect("info");
        info.is_some_and(|i| i.consensus_relation == ConsensusRelation::Consenter)
    })
    .await;
}

async fn leaves(site: &Site, node: &Node) {
    let client = site.participation(node);
    client.remove("records").await.expect("remove");
    eventually("the orderer has forgotten the channel", async || client.info("records").await.expect("info").is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_channel_is_made_joined_and_changed() {
    let Some(site) = site() else { return };
    let (a, b) = (Org::new("HospitalA"), Org::new("HospitalB"));
    let mut nodes = [site.orderer(&a, 1), site.orderer(&a, 2), site.orderer(&b, 3), site.orderer(&b, 4)];
    let (mut peer_a, mut peer_b) = (site.peer(&a, 11), site.peer(&b, 12));
    for node in nodes.iter_mut().chain([&mut peer_a, &mut peer_b]) {
        site.start(node).await;
    }
    let [o1, o2, o3, o4] = &nodes;
    let anchor = |peer: &Node| Endpoint::new(&peer.host, 7051);

    let first = channel(raft(&[o1, o2, o3]), vec![a.orderer(&[o1, o2]), b.orderer(&[o3])], vec![a.application(vec![])]);
    let at_a = site.peer_client(&peer_a, &a.admin);
    let genesis = is_made_and_joined(&site, &first, [o1, o2, o3], &at_a).await;

    let clients = [o1, o2, o3].map(|node| site.orderer_client(node, &a.admin));
    let orderers: Vec<_> = clients.iter().collect();
    eventually("a leader is elected", async || read_config(&orderers, "records").await.is_ok()).await;

    // Changes: a hospital, anchors, limits, a fourth orderer; then the first orderer leaves.
    let mut desired = first.clone();
    desired.application_orgs = vec![a.application(vec![anchor(&peer_a)]), b.application(vec![anchor(&peer_b)])];
    desired.batch.timeout = Duration::from_millis(700);
    let one = [a.admin.clone()];
    let both = [a.admin.clone(), b.admin.clone()];
    assert_eq!(
        converge_until_short(&orderers, &desired, &one).await,
        "to change how transactions are collected into blocks: policy /Channel/Orderer/Admins needs 2, and a signature is missing from HospitalB"
    );
    let sequence = read_config(&orderers, "records").await.expect("config").sequence;
    assert_eq!(sequence, 2, "what one hospital can sign is done: add hospital, anchor peers");
    let outcome = step(&orderers, &desired, &both).await;
    assert!(matches!(outcome, ConfigOutcome::Stepped { .. }), "{outcome:?}");

    let latest = orderers[0].config_block("records").await.expect("block");
    have_configuration_block(&site.participation(o1), &at_a, &latest).await;
    joined(&site, o4, &latest, ConsensusRelation::Follower).await;
    desired.consensus = raft(&[o2, o3, o4]);
    desired.orderer_orgs = vec![a.orderer(&[o2]), b.orderer(&[o3, o4])];
    let sequence = read_config(&orderers[1..], "records").await.expect("config").sequence;
    let taken = converge(&orderers[1..], &desired, &both, sequence).await;
    let (h1, h4) = (&o1.host, &o4.host);
    assert_eq!(
        taken,
        [
            format!("add consenter {h4}:7050"),
            format!("stop sending clients to {h1}:7050"),
            format!("remove consenter {h1}:7050"),
            "change where orderers of HospitalB are reached".into(),
        ]
    );
    becomes_consenter(&site, o4).await;

    // Peers follow, the new hospital's own included, and go by the same configuration.
    let config = read_config(&orderers[1..], "records").await.expect("config");
    let at_b = site.peer_client(&peer_b, &b.admin);
    ensure_peer_joined(&at_b, "records", &genesis).await.expect("join");
    follow(&[&at_a, &at_b], &config).await;
    leaves(&site, o1).await;
}

async fn converge_until_short(
    orderers: &[&orderer::Client],
    desired: &ChannelDefinition,
    admins: &[Arc<SigningIdentity>],
) -> String {
    loop {
        match step(orderers, desired, admins).await {
            ConfigOutcome::Stepped { .. } => {}
            ConfigOutcome::SignaturesMissing { steps, .. } => return steps.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_channel_is_made_joined_and_changed() {
    let Some(site) = site() else { return };
    let (a, b) = (Org::new("HospitalA"), Org::new("HospitalB"));
    let mut nodes: Vec<Node> = (1..=5).map(|n| site.orderer(if n < 3 { &a } else { &b }, n)).collect();
    let mut peer = site.peer(&a, 11);
    for node in nodes.iter_mut().chain([&mut peer]) {
        site.start(node).await;
    }
    let org = |n: usize| if n < 2 { &a } else { &b };
    let bft = |of: std::ops::Range<usize>| Consensus::Bft {
        consenters: of.map(|n| nodes[n].bft_consenter(org(n))).collect(),
        options: BftOptions::default(),
    };
    let orgs =
        |last: usize| vec![a.orderer(&[&nodes[0], &nodes[1]]), b.orderer(&nodes[2..last].iter().collect::<Vec<_>>())];
    let mut desired = channel(bft(0..4), orgs(4), vec![a.application(vec![])]);
    let genesis = genesis::block(&desired, &Stamp::now()).expect("genesis");
    for node in &nodes[..4] {
        joined(&site, node, &genesis, ConsensusRelation::Consenter).await;
    }
    let at_peer = site.peer_client(&peer, &a.admin);
    ensure_peer_joined(&at_peer, "records", &genesis).await.expect("join");
    let clients: Vec<_> = nodes[..4].iter().map(|node| site.orderer_client(node, &a.admin)).collect();
    let orderers: Vec<_> = clients.iter().collect();
    eventually("the orderers serve the channel", async || read_config(&orderers, "records").await.is_ok()).await;

    desired.application_orgs.push(b.application(vec![]));
    desired.batch.max_message_count = 50;
    let both = [a.admin.clone(), b.admin.clone()];
    let taken = converge(&orderers, &desired, &both, 0).await;
    assert_eq!(taken, ["change how transactions are collected into blocks", "add hospital HospitalB"]);

    let latest = orderers[0].config_block("records").await.expect("block");
    joined(&site, &nodes[4], &latest, ConsensusRelation::Follower).await;
    desired.consensus = bft(0..5);
    desired.orderer_orgs = orgs(5);
    let outcome = step(&orderers, &desired, &both).await;
    let ConfigOutcome::Stepped { description, config } = outcome else { panic!("{outcome:?}") };
    assert_eq!(description, format!("add consenter {}:7050", nodes[4].host));
    assert_eq!(plan::plan(&config, &desired).expect("plan").steps, []);
    follow(&[&at_peer], &config).await;
    becomes_consenter(&site, &nodes[4]).await;
}
