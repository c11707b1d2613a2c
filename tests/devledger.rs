//! The embedded ledger as its clients meet it: processes on loopback addresses, reached by the same clients as Fabric.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::genesis::{self, BftOptions, ChannelDefinition, Consensus, RaftOptions};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::lifecycle::{ensure_approved, ensure_installed};
use ehrnet_fabric::net::ActKind;
use ehrnet_fabric::participation::ConsensusRelation;
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex, Config, Metadata};
use ehrnet_fabric::verbs::{ConfigOutcome, ensure_config, read_config};
use ehrnet_fabric::{LedgerError, blocks, config_tree, config_update, orderer};
use prost::Message;
use serde_json::json;
use tokio::net::TcpStream;

// What real Fabric does, the embedded ledger does as well.
#[path = "real_fabric/agreement.rs"]
mod agreement;
#[path = "real_fabric/calls.rs"]
mod calls;
#[allow(dead_code)]
#[path = "support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "support/contract.rs"]
mod contract;
#[path = "real_fabric/gateways.rs"]
mod gateways;
#[allow(dead_code)]
#[path = "support/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "support/programs.rs"]
mod programs;
#[path = "real_fabric/records.rs"]
mod records;
#[path = "support/scrape.rs"]
mod scrape;

use network::{Network, agree, call, definition, services};
use nodes::{Node, Org, Site, eventually};

const CHANNEL: &str = "records";

/// Requests for access that come at once: signatures are slow where nothing is optimised, and gateways give up after a
/// while. `cargo bench --bench access` makes 200.
const REQUESTS_AT_ONCE: usize = 20;

/// The ledger for tests that run on real Fabric, too.
fn site() -> Option<Site> {
    Some(Site::embedded())
}

/// One organization, some orderers that all joined a channel, and the channel's first block.
struct Net {
    site: Site,
    org: Org,
    orderers: Vec<Node>,
    channel: ChannelDefinition,
    genesis: Block,
}

/// Raft ticks short enough for a test and long enough for a busy machine.
fn quick() -> RaftOptions {
    RaftOptions { tick_interval: Duration::from_millis(200), ..Default::default() }
}

impl Net {
    async fn raft(count: u8) -> Self {
        let consensus = |_: &Org, nodes: &[Node]| {
            let consenters = nodes.iter().map(Node::raft_consenter).collect();
            Consensus::Raft { consenters, options: quick() }
        };
        Self::new(count, consensus).await
    }

    async fn new(count: u8, consensus: impl Fn(&Org, &[Node]) -> Consensus) -> Self {
        let site = Site::embedded();
        let org = Org::new("HospitalA");
        let mut orderers: Vec<_> = (1..=count).map(|n| site.orderer(&org, n)).collect();
        for node in &mut orderers {
            node.set("ORDERER_METRICS_PROVIDER", "prometheus");
            site.start(node).await;
        }
        let channel = ChannelDefinition {
            channel_name: CHANNEL.into(),
            consensus: consensus(&org, &orderers),
            orderer_orgs: vec![org.orderer(&orderers.iter().collect::<Vec<_>>())],
            application_orgs: vec![org.application(vec![])],
            batch: Default::default(),
            policies: Default::default(),
            capabilities: Default::default(),
        };
        let genesis = genesis::block(&channel, &Stamp::now()).expect("genesis");
        for node in &orderers {
            let info = site.participation(node).join(CHANNEL, &genesis).await.expect("join");
            assert_eq!(info.consensus_relation, ConsensusRelation::Consenter);
        }
        let net = Self { site, org, orderers, channel, genesis };
        net.leader(&net.all()).await;
        net
    }

    fn all(&self) -> Vec<usize> {
        (0..self.orderers.len()).collect()
    }

    fn client(&self, at: usize) -> orderer::Client {
        self.site.orderer_client(&self.orderers[at], &self.org.admin)
    }

    async fn height(&self, at: usize) -> Option<u64> {
        let info = self.site.participation(&self.orderers[at]).info(CHANNEL).await.ok()?;
        info.map(|info| info.height)
    }

    /// Which of these orderers leads, once one does.
    async fn leader(&self, among: &[usize]) -> usize {
        let mut leader = None;
        eventually("there is a leader", async || {
            for at in among {
                let leads = scrape::leads(CHANNEL);
                if metrics(&self.orderers[*at].host).await.is_some_and(|text| text.contains(&leads)) {
                    leader = Some(*at);
                }
            }
            leader.is_some()
        })
        .await;
        leader.expect("found")
    }

    /// Changes the batch timeout through these orderers, and waits until the change is in force.
    async fn change(&mut self, through: &[usize], millis: u64) {
        self.channel.batch.timeout = Duration::from_millis(millis);
        let clients: Vec<_> = through.iter().map(|at| self.client(*at)).collect();
        let clients: Vec<_> = clients.iter().collect();
        let admin = self.org.admin.clone();
        let mut outcome = None;
        eventually("the change is taken", async || {
            let step =
                ensure_config(&clients, &self.channel, std::slice::from_ref(&admin), &[], async |_, _| Ok(())).await;
            // While a leader is elected the orderers say 503; anything else is a fault.
            assert!(!matches!(&step, Err(LedgerError::Refused { status, .. }) if *status != 503), "{step:?}");
            outcome = step.ok();
            outcome.is_some()
        })
        .await;
        assert!(matches!(outcome, Some(ConfigOutcome::Stepped { .. })), "{outcome:?}");
    }

    fn blocks_file(&self, at: usize) -> std::path::PathBuf {
        let ledgers = self.orderers[at].setting("ORDERER_FILELEDGER_LOCATION");
        std::path::Path::new(ledgers).join("chains").join(CHANNEL).join("blocks")
    }
}

async fn metrics(host: &str) -> Option<String> {
    scrape::metrics(TcpStream::connect((host, 8443)).await.ok()?).await.ok()
}

fn signatures(block: &Block) -> usize {
    let entry = &block.metadata.as_ref().expect("metadata").metadata[BlockMetadataIndex::Signatures as usize];
    Metadata::decode(entry.as_slice()).expect("metadata").signatures.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_outlives_its_leader_and_a_torn_block() {
    let mut net = Net::raft(3).await;
    let mut peer = net.site.peer(&net.org, 11);
    net.site.start(&mut peer).await;
    let peer_client = net.site.peer_client(&peer, &net.org.admin);
    peer_client.join(CHANNEL, &net.genesis).await.expect("join");

    net.change(&net.all(), 300).await;
    eventually("all orderers have the block", async || {
        let heights = [net.height(0).await, net.height(1).await, net.height(2).await];
        heights == [Some(2); 3]
    })
    .await;
    let mut headers = Vec::new();
    for at in net.all() {
        headers.push(net.client(at).block(CHANNEL, 1).await.expect("block").header);
    }
    assert!(headers.iter().all(|header| *header == headers[0]), "orderers made different blocks: {headers:?}");

    let leader = net.leader(&net.all()).await;
    net.orderers[leader].kill();
    let rest: Vec<_> = net.all().into_iter().filter(|at| *at != leader).collect();
    net.leader(&rest).await;
    net.change(&rest, 400).await;

    // The power cut also tore the block that was being written.
    let file = fs::OpenOptions::new().write(true).open(net.blocks_file(leader)).expect("blocks");
    file.set_len(file.metadata().expect("size").len() - 7).expect("torn");
    let mut returned = net.orderers.remove(leader);
    net.site.start(&mut returned).await;
    net.orderers.insert(leader, returned);
    eventually("the returned orderer has all blocks", async || net.height(leader).await == Some(3)).await;
    assert!(net.orderers[leader].log().contains("torn record"), "{}", net.orderers[leader].log());

    eventually("the peer has all blocks", async || {
        peer_client.chain_info(CHANNEL).await.is_ok_and(|info| info.height == 3)
    })
    .await;
    let config = read_config(&[&net.client(leader)], CHANNEL).await.expect("config");
    assert_eq!(peer_client.channel_config(CHANNEL).await.expect("config"), config);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_without_a_leader_send_blocks_only_to_those_that_want_them_all_the_same() {
    let mut net = Net::raft(3).await;
    let mut peer = net.site.peer(&net.org, 11);
    net.site.start(&mut peer).await;
    let client = net.site.peer_client(&peer, &net.org.admin);
    client.join(CHANNEL, &net.genesis).await.expect("join");
    net.change(&net.all(), 300).await;
    let height = async || client.chain_info(CHANNEL).await.map(|info| info.height).ok();
    eventually("the peer has the block", async || height().await == Some(2)).await;

    for at in [1, 2] {
        net.orderers[at].kill();
    }
    // Peers ask as Fabric's do: such an orderer is no good, its blocks may be old.
    eventually("the peer is sent away", async || peer.log().contains("with status SERVICE_UNAVAILABLE")).await;
    // Our client looks at blocks all the same.
    assert_eq!(blocks::number(&net.client(0).newest_block(CHANNEL).await.expect("block")), 1);
    for at in [1, 2] {
        let mut back = net.orderers.remove(at);
        net.site.start(&mut back).await;
        net.orderers.insert(at, back);
        // One that is behind judges a change by the configuration that it has.
        eventually("it has all blocks", async || net.height(at).await == Some(2)).await;
    }
    net.change(&net.all(), 400).await;
    eventually("the peer has the next block", async || height().await == Some(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_byte_stops_the_node_and_is_named() {
    let mut net = Net::raft(1).await;
    net.orderers[0].kill();
    let path = net.blocks_file(0);
    let mut bytes = fs::read(&path).expect("blocks");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("blocks");
    let status = net.site.command(&net.orderers[0]).status().expect("the node ends by itself");
    assert!(!status.success());
    let log = net.orderers[0].log();
    assert!(log.contains("is damaged at byte 0: its content does not match its checksum"), "{log}");
}

/// An update of the batch timeout, signed by `signer` alone.
fn update(current: &Config, channel: &ChannelDefinition, signer: &SigningIdentity) -> Vec<u8> {
    let desired = config_tree::channel_group(channel);
    let mut updated = current.channel_group.clone().expect("group");
    let timeout = desired.groups["Orderer"].values["BatchTimeout"].clone();
    updated.groups.get_mut("Orderer").expect("orderers").values.insert("BatchTimeout".into(), timeout);
    let group = current.channel_group.as_ref().expect("group");
    let update = config_update::compute(CHANNEL, group, &updated).expect("a difference").encode_to_vec();
    let signatures = vec![config_update::sign(signer, &update, &Stamp::now())];
    config_update::envelope(CHANNEL, update, signatures, signer, &Stamp::now()).encode_to_vec()
}

async fn refusal(client: &orderer::Client, envelope: &[u8], channel: &str) -> (u16, String) {
    let envelope = Message::decode(envelope).expect("envelope");
    match client.broadcast(&envelope, ActKind::ConfigUpdate, channel).await {
        Err(LedgerError::Refused { status, message, .. }) => (status, message),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_refused_with_fabrics_words() {
    let mut net = Net::raft(1).await;
    let client = net.client(0);
    let before = read_config(&[&client], CHANNEL).await.expect("config");
    net.change(&[0], 300).await;
    net.channel.batch.timeout = Duration::from_millis(900);
    let now = read_config(&[&client], CHANNEL).await.expect("config");
    let context = "error applying config update to existing channel 'records': error authorizing update: ";

    assert_eq!(
        refusal(&client, &update(&before, &net.channel, &net.org.admin), CHANNEL).await,
        (
            400,
            format!(
                "{context}error validating DeltaSet: attempt to set key [Value]  /Channel/Orderer/BatchTimeout to version 1, but key is at version 1"
            )
        )
    );
    let user = net.org.ca.identity("HospitalA", "client");
    assert_eq!(
        refusal(&client, &update(&now, &net.channel, &user), CHANNEL).await,
        (
            400,
            format!(
                "{context}error validating DeltaSet: policy for [Value]  /Channel/Orderer/BatchTimeout not satisfied: implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'Admins' sub-policies to be satisfied"
            )
        )
    );
    let stranger = Org::new("HospitalB").admin;
    let (status, words) = refusal(&client, &update(&now, &net.channel, &stranger), CHANNEL).await;
    assert_eq!(status, 403);
    assert!(words.ends_with(": permission denied"), "{words}");
    let (certificate, key) = net.org.ca.issue_between("admin", -1, 0);
    let expired = SigningIdentity::new("HospitalA", &certificate, &key).expect("identity");
    let (status, words) = refusal(&client, &update(&now, &net.channel, &expired), CHANNEL).await;
    assert_eq!(status, 400);
    assert!(words.ends_with("broadcast client identity expired"), "{words}");
    let elsewhere = ehrnet_fabric::envelope::signed(
        &net.org.admin,
        ehrnet_fabric::proto::common::HeaderType::Message,
        "nowhere",
        vec![1],
        &Stamp::now(),
    );
    assert_eq!(refusal(&client, &elsewhere.encode_to_vec(), "nowhere").await, (400, "channel does not exist".into()));
    assert_eq!(read_config(&[&client], CHANNEL).await.expect("config"), now, "a refused update changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_obeys_its_own_admins_only_and_goes_on_after_a_power_cut() {
    let mut net = Net::raft(1).await;
    let mut peer = net.site.peer(&net.org, 11);
    net.site.start(&mut peer).await;
    let user = Arc::new(net.org.ca.identity("HospitalA", "client"));
    let stranger = Org::new("HospitalB").admin;
    for (who, words) in [(&user, "access denied for [JoinChain][records]"), (&stranger, "creator org unknown")] {
        let refused = net.site.peer_client(&peer, who).join(CHANNEL, &net.genesis).await;
        assert!(refused.as_ref().is_err_and(|e| e.to_string().contains(words)), "{refused:?}");
    }
    let client = net.site.peer_client(&peer, &net.org.admin);
    assert_eq!(client.channels().await.expect("channels"), Vec::<String>::new());
    client.join(CHANNEL, &net.genesis).await.expect("join");
    let again = client.join(CHANNEL, &net.genesis).await.expect_err("joined already").to_string();
    assert!(again.contains("ledger [records] already exists with state [ACTIVE]"), "{again}");

    peer.kill();
    net.change(&[0], 300).await;
    net.site.start(&mut peer).await;
    eventually("the peer has the block it missed", async || {
        client.chain_info(CHANNEL).await.is_ok_and(|info| info.height == 2)
    })
    .await;
    let newest = net.client(0).block(CHANNEL, 1).await.expect("block");
    let hash = blocks::header_hash(newest.header.as_ref().expect("header"));
    assert_eq!(client.chain_info(CHANNEL).await.expect("info").current_block_hash, hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_channel_signs_with_a_quorum_and_a_peer_demands_it() {
    let consensus = |org: &Org, nodes: &[Node]| Consensus::Bft {
        consenters: nodes.iter().map(|node| node.bft_consenter(org)).collect(),
        options: BftOptions::default(),
    };
    let mut net = Net::new(4, consensus).await;
    let mut peer = net.site.peer(&net.org, 11);
    net.site.start(&mut peer).await;
    let peer_client = net.site.peer_client(&peer, &net.org.admin);
    peer_client.join(CHANNEL, &net.genesis).await.expect("join");
    let leader = net.leader(&net.all()).await;
    net.change(&net.all(), 300).await;
    let block = net.client(leader).block(CHANNEL, 1).await.expect("block");
    assert!(signatures(&block) >= 3, "{} signatures", signatures(&block));
    // It verifies them by the channel's block validation policy before it stores the block.
    eventually("the peer has the block", async || {
        peer_client.chain_info(CHANNEL).await.is_ok_and(|info| info.height == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_later_follows_and_becomes_a_consenter() {
    let mut net = Net::raft(1).await;
    net.change(&[0], 300).await;
    let mut late = net.site.orderer(&net.org, 2);
    net.site.start(&mut late).await;
    let participation = net.site.participation(&late);
    let newest = net.client(0).config_block(CHANNEL).await.expect("block");
    let info = participation.join(CHANNEL, &newest).await.expect("join");
    assert_eq!(info.consensus_relation, ConsensusRelation::Follower);
    eventually("it has pulled the blocks", async || {
        participation.info(CHANNEL).await.is_ok_and(|info| info.is_some_and(|info| info.height == 2))
    })
    .await;

    net.channel.consensus =
        Consensus::Raft { consenters: vec![net.orderers[0].raft_consenter(), late.raft_consenter()], options: quick() };
    let admin = net.org.admin.clone();
    let client = net.client(0);
    let step = ensure_config(&[&client], &net.channel, std::slice::from_ref(&admin), &[], async |_, _| Ok(())).await;
    assert!(matches!(step, Ok(ConfigOutcome::Stepped { .. })), "{step:?}");
    eventually("it is a consenter", async || {
        let info = participation.info(CHANNEL).await.ok().flatten();
        info.is_some_and(|info| info.consensus_relation == ConsensusRelation::Consenter && info.height == 3)
    })
    .await;
    // Now both are needed: together they order, and the new one alone cannot.
    net.orderers.push(late);
    net.change(&[0, 1], 500).await;
    let late = net.orderers.remove(1);
    net.orderers[0].kill();
    net.channel.batch.timeout = Duration::from_millis(700);
    let alone = net.site.orderer_client(&late, &admin);
    let config = read_config(&[&alone], CHANNEL).await.expect("config");
    eventually("it says that it has no leader", async || {
        refusal(&alone, &update(&config, &net.channel, &admin), CHANNEL).await == (503, "no Raft leader".into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_found_though_nobody_heard_of_it() {
    let network = Network::raft(Site::embedded()).await;
    let (at_a, _) = network.peers();
    let clients = network.orderers();
    let orderers: Vec<_> = clients.iter().collect();
    let (definition, [package, _]) = (definition(), services(&network).await);

    // The orderer takes an approval, and its answer is lost: the verb may fail, and the next time finds it done.
    ensure_installed(&at_a, &package).await.expect("install");
    eventually("there is a leader", async || read_config(&orderers, CHANNEL).await.is_ok()).await;
    network.play(&network.orderers[0], &json!([{"operation": "broadcast", "action": "dropReply", "times": 1}]));
    let approve = async || ensure_approved(&at_a, &orderers, CHANNEL, &definition, 1, Some(&package.id)).await;
    let lost = approve().await.expect_err("nobody answered");
    assert!(matches!(lost, LedgerError::Unreachable { .. }), "{lost:?}");
    let writes = network.site.network.writes();
    eventually("it is found", async || approve().await.is_ok_and(|acted| !acted)).await;
    assert!(network.site.network.writes() <= writes + 1, "at most one more attempt before the first was in a block");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_found_by_its_id_though_its_acceptance_was_lost() {
    let network = Network::raft(Site::embedded()).await;
    agree(&network, &definition(), &services(&network).await).await;
    let gateway = network.gateway(&network.peer_a, &network.a);
    let rules = json!([
        {"operation": "submit", "action": "dropReply", "times": 1},
        {"operation": "evaluate", "action": {"refuse": {"status": 503, "message": "busy"}}, "times": 1}
    ]);
    network.play(&network.peer_a, &rules);
    let endorsed = gateway.endorse(&call(&["put", "k", "v"]), &[]).await.expect("endorsed");
    let lost = gateway.send(&endorsed).await.expect_err("nobody answered");
    assert!(matches!(lost, LedgerError::Unreachable { .. }), "{lost:?}");
    gateway.committed(endorsed).await.expect("it happened");
    let busy = gateway.evaluate(&call(&["get", "k"]), &[]).await.expect_err("busy");
    assert!(matches!(busy, LedgerError::Unreachable { .. }), "{busy:?}");
    assert_eq!(gateway.evaluate(&call(&["get", "k"]), &[]).await.expect("answer"), b"v");
}
