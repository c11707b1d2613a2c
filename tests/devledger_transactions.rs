//! Transactions on the embedded ledger: three hospitals' peers as processes, contracts over chaincode as a service, and
//! the verdicts, private data and state that Fabric would have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ehrnet_fabric::Endpoint;
use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection, EndorsementPolicy, Rule};
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::genesis::{self, ChannelDefinition, Consensus, RaftOptions};
use ehrnet_fabric::lifecycle::{CommitOutcome, Endorser, ensure_approved, ensure_committed, ensure_installed};
use ehrnet_fabric::net::ActKind;
use ehrnet_fabric::package::{Connection, Package};
use ehrnet_fabric::proposal::{self, Call};
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex, Envelope};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;
use ehrnet_fabric::verbs::{ensure_peer_joined, read_config};
use ehrnet_fabric::{LedgerError, identity, orderer, peer};
use sha2::{Digest, Sha256};

// Shared with other tests, which use other parts of it.
#[allow(dead_code)]
#[path = "support/chain.rs"]
mod chain;
#[allow(dead_code)]
#[path = "support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "support/programs.rs"]
mod programs;

use chaincode::Service;
use nodes::{Node, Org, Site, eventually};

const CHANNEL: &str = "records";
const PATIENCE: Duration = Duration::from_secs(60);
const CANARY: &str = "canary-of-the-patient";

/// Three hospitals with a peer each, and an orderer.
struct Network {
    site: Site,
    orgs: Vec<Org>,
    peers: Vec<Node>,
    orderer: Node,
    services: Vec<Service>,
}

impl Network {
    async fn start() -> Self {
        let site = Site::embedded();
        let orgs: Vec<Org> = ["HospitalA", "HospitalB", "HospitalC"].map(Org::new).into();
        let mut orderer = site.orderer(&orgs[0], 1);
        let mut peers: Vec<_> = orgs.iter().zip(11..).map(|(org, number)| site.peer(org, number)).collect();
        for node in peers.iter_mut().chain([&mut orderer]) {
            site.start(node).await;
        }
        let genesis = genesis::block(&channel(&orgs, &peers, &orderer), &Stamp::now()).expect("genesis");
        site.participation(&orderer).join(CHANNEL, &genesis).await.expect("join");
        for (peer, org) in peers.iter().zip(&orgs) {
            ensure_peer_joined(&site.peer_client(peer, &org.admin), CHANNEL, &genesis).await.expect("join");
        }
        let mut services = Vec::new();
        for org in &orgs {
            services.push(Service::start("127.0.0.1", &org.msp_id).await);
        }
        let network = Self { site, orgs, peers, orderer, services };
        let orderer = network.orderer();
        eventually("the orderer serves", async || read_config(&[&orderer], CHANNEL).await.is_ok()).await;
        network
    }

    fn orderer(&self) -> orderer::Client {
        self.site.orderer_client(&self.orderer, &self.orgs[0].admin)
    }

    /// The administrator of hospital `at`, at its own peer.
    fn peer(&self, at: usize) -> peer::Client {
        self.site.peer_client(&self.peers[at], &self.orgs[at].admin)
    }

    /// The administrator of hospital `of`, at the peer of hospital `at`.
    fn guest(&self, of: usize, at: usize) -> peer::Client {
        self.site.peer_client(&self.peers[at], &self.orgs[of].admin)
    }

    /// Installs and approves at every hospital, and commits.
    async fn agree(&self, definition: &ChaincodeDefinition, sequence: i64) {
        let orderer = self.orderer();
        let peers: Vec<_> = (0..3).map(|at| self.peer(at)).collect();
        for (peer, service) in peers.iter().zip(&self.services) {
            let package = package(&definition.name, service);
            service.serve_as(&package.id);
            ensure_installed(peer, &package).await.expect("installed");
            eventually("the orderer has a leader", async || {
                let id = Some(package.id.as_str());
                ensure_approved(peer, &[&orderer], CHANNEL, definition, sequence, id).await.is_ok()
            })
            .await;
        }
        let endorsers: Vec<_> =
            peers.iter().zip(&self.orgs).map(|(peer, org)| Endorser { msp_id: &org.msp_id, peer }).collect();
        let mut outcome = None;
        eventually("the definition is committed", async || {
            outcome = ensure_committed(&endorsers, &[&orderer], CHANNEL, definition, sequence).await.ok();
            matches!(outcome, Some(CommitOutcome::Committed(_)))
        })
        .await;
        self.level().await;
    }

    /// All peers have the blocks that the orderer has.
    async fn level(&self) {
        let height = 1 + number(&self.orderer().newest_block(CHANNEL).await.expect("block"));
        for at in 0..3 {
            let peer = self.peer(at);
            eventually("the peer has all blocks", async || {
                peer.chain_info(CHANNEL).await.is_ok_and(|info| info.height == height)
            })
            .await;
        }
    }

    /// A transaction endorsed by these hospitals' peers and ready to be sent; `by` is who makes it.
    async fn endorse(&self, by: usize, at: &[usize], call: &Call<'_>) -> Result<(Envelope, String), LedgerError> {
        let client = self.peer(by);
        let (signed, tx_id) = client.proposal(call);
        let mut answers = Vec::new();
        for at in at {
            answers.push(self.peer(*at).endorse(&signed).await?);
        }
        let transaction = proposal::transaction(&signed, &answers)?;
        Ok((proposal::sign(client.signer(), transaction), tx_id))
    }

    async fn send(&self, transaction: &Envelope) {
        self.orderer().broadcast(transaction, ActKind::Transaction, CHANNEL).await.expect("ordered");
    }

    /// What hospital A's peer says of a transaction.
    async fn verdict(&self, tx_id: &str) -> Code {
        self.peer(0).committed(CHANNEL, tx_id, 1, PATIENCE).await.expect("committed").1
    }

    async fn transact(&self, at: &[usize], call: &Call<'_>) -> Code {
        let (transaction, tx_id) = self.endorse(at[0], at, call).await.expect("endorsed");
        self.send(&transaction).await;
        self.verdict(&tx_id).await
    }

    /// What a call answers to hospital `of` at the peer of hospital `at`, without becoming a transaction.
    async fn ask(&self, of: usize, at: usize, args: &[&str]) -> Result<String, String> {
        let client = self.guest(of, at);
        let (signed, _) = client.proposal(&call(args));
        let answer = client.endorse(&signed).await.map_err(|e| e.to_string())?;
        Ok(String::from_utf8(answer.response.response.unwrap_or_default().payload).expect("text"))
    }

    async fn read(&self, args: &[&str]) -> String {
        self.level().await;
        self.ask(0, 0, args).await.expect("answer")
    }

    /// Whether a text is in any file that a hospital's peer keeps.
    fn keeps(&self, at: usize, text: &str) -> bool {
        contains(Path::new(self.peers[at].setting("CORE_PEER_FILESYSTEMPATH")), text.as_bytes())
    }

    /// Waits until a text lies in no file of a peer any more. Its height tells of the block a moment before.
    async fn forgets(&self, at: usize, text: &str) {
        eventually(&format!("peer {at} keeps {text} no more"), async || !self.keeps(at, text)).await;
    }

    /// The commit hashes of every block of a peer, which are equal where state and verdicts are.
    async fn commit_hashes(&self, at: usize) -> Vec<Vec<u8>> {
        let client = self.peer(at);
        let height = client.chain_info(CHANNEL).await.expect("info").height;
        let mut hashes = Vec::new();
        for number in 1..height {
            let block = chain::block(&client, CHANNEL, number).await;
            hashes.push(chain::metadata(&block, BlockMetadataIndex::CommitHash));
        }
        hashes
    }
}

fn channel(orgs: &[Org], peers: &[Node], orderer: &Node) -> ChannelDefinition {
    let anchored = |(org, peer): (&Org, &Node)| org.application(vec![Endpoint::new(&peer.host, 7051)]);
    ChannelDefinition {
        channel_name: CHANNEL.into(),
        consensus: Consensus::Raft {
            consenters: vec![orderer.raft_consenter()],
            options: RaftOptions { tick_interval: Duration::from_millis(200), ..Default::default() },
        },
        orderer_orgs: vec![orgs[0].orderer(&[orderer])],
        application_orgs: orgs.iter().zip(peers).map(anchored).collect(),
        batch: genesis::Batch { timeout: Duration::from_millis(200), ..Default::default() },
        policies: Default::default(),
        capabilities: Default::default(),
    }
}

/// Most hospitals endorse. `shared` is pushed to the other member; `lazy` is not pushed at all; `short` lives two blocks.
fn definition() -> ChaincodeDefinition {
    let collection = |name: &str, required: u16, max: u16, block_to_live: u64| Collection {
        name: name.into(),
        members: vec!["HospitalA".into(), "HospitalB".into()],
        required_peers: required,
        max_peers: max,
        block_to_live,
        member_only_read: true,
        member_only_write: false,
        endorsement: None,
    };
    let peers = ["HospitalA", "HospitalB", "HospitalC"].map(Rule::peer).into();
    ChaincodeDefinition {
        name: "ehr".into(),
        version: "1.0".into(),
        endorsement: EndorsementPolicy::Signature(Rule::OutOf { n: 2, of: peers }),
        collections: vec![collection("shared", 1, 1, 0), collection("lazy", 0, 0, 0), collection("short", 0, 1, 2)],
        init_required: false,
    }
}

fn package(label: &str, service: &Service) -> Package {
    let connection =
        Connection { address: service.address.to_string(), dial_timeout: "10s".into(), ..Default::default() };
    Package::ccaas(label, &connection, &BTreeMap::new()).expect("package")
}

fn call(args: &[&str]) -> Call<'static> {
    Call::new(CHANNEL, "ehr", args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
}

fn private(collection: &str, key: &str, value: &str) -> Call<'static> {
    let mut call = call(&["putPrivate", collection, key]);
    call.transient.insert("value".into(), value.into());
    call
}

fn number(block: &Block) -> u64 {
    block.header.as_ref().expect("header").number
}

fn contains(path: &Path, text: &[u8]) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).expect("folder").any(|entry| contains(&entry.expect("entry").path(), text));
    }
    fs::read(path).expect("file").windows(text.len()).any(|window| window == text)
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_judged_as_fabric_judges_them() {
    let mut network = Network::start().await;
    network.agree(&definition(), 1).await;

    assert_eq!(network.transact(&[0, 1], &call(&["put", "k", "1"])).await, Code::Valid);
    assert_eq!(network.read(&["get", "k"]).await, "1");

    // Both read the same version; the second comes too late.
    let (first, first_id) = network.endorse(0, &[0, 1], &call(&["append", "k", "2"])).await.expect("endorsed");
    let (second, second_id) = network.endorse(0, &[0, 1], &call(&["append", "k", "3"])).await.expect("endorsed");
    network.send(&first).await;
    network.send(&second).await;
    assert_eq!(network.verdict(&first_id).await, Code::Valid);
    assert_eq!(network.verdict(&second_id).await, Code::MvccReadConflict);
    assert_eq!(network.read(&["get", "k"]).await, "12");

    // A key appears in a range that was read.
    let (counted, counted_id) = network.endorse(0, &[0, 1], &call(&["count", "a", "z", "n"])).await.expect("endorsed");
    assert_eq!(network.transact(&[0, 1], &call(&["put", "l", "1"])).await, Code::Valid);
    network.send(&counted).await;
    assert_eq!(network.verdict(&counted_id).await, Code::PhantomReadConflict);
    assert_eq!(network.read(&["get", "n"]).await, "");

    // One hospital is not most of them, and a key's own policy goes before the chaincode's.
    assert_eq!(network.transact(&[0], &call(&["put", "k", "0"])).await, Code::EndorsementPolicyFailure);
    let guard = call(&["guard", "k", "HospitalA", "HospitalB", "HospitalC"]);
    assert_eq!(network.transact(&[0, 1], &guard).await, Code::Valid);
    network.level().await;
    assert_eq!(network.transact(&[0, 1], &call(&["put", "k", "0"])).await, Code::EndorsementPolicyFailure);
    assert_eq!(network.read(&["get", "k"]).await, "12");
    assert_eq!(network.transact(&[0, 1, 2], &call(&["put", "k", "13"])).await, Code::Valid);
    assert_eq!(network.read(&["history", "k"]).await, "13 12 1");

    repeated_and_forged_transactions_do_not_count(&network).await;
    queries_are_paged(&network).await;

    // After a power cut the state is what it was, and every block came to the same everywhere.
    network.peers[0].kill();
    assert_eq!(network_height(&network, 1).await, network_height(&network, 2).await);
    let peer = &mut network.peers[0];
    network.site.start(peer).await;
    assert_eq!(network.read(&["get", "k"]).await, "13");
    let hashes = network.commit_hashes(0).await;
    assert!(hashes.iter().all(|hash| !hash.is_empty()));
    assert_eq!((&hashes, &hashes), (&network.commit_hashes(1).await, &network.commit_hashes(2).await));
    edited_blocks_are_not_served(&mut network).await;
}

/// C2. Where one byte of a peer's blocks is another, the peer does not start and says where; put right, it is as before.
async fn edited_blocks_are_not_served(network: &mut Network) {
    let hashes = network.commit_hashes(2).await;
    network.peers[2].kill();
    let path = Path::new(network.peers[2].setting("CORE_PEER_FILESYSTEMPATH")).join("ledgersData/records/blocks");
    let good = fs::read(&path).expect("blocks");
    let mut edited = good.clone();
    let middle = edited.len() / 2;
    edited[middle] ^= 1;
    fs::write(&path, edited).expect("blocks");
    let status = network.site.command(&network.peers[2]).status().expect("the peer ends by itself");
    assert!(!status.success());
    let log = network.peers[2].log();
    assert!(log.contains("ledgersData/records/blocks is damaged at byte"), "{log}");
    fs::write(&path, good).expect("blocks");
    network.site.start(&mut network.peers[2]).await;
    network.level().await;
    assert_eq!(network.commit_hashes(2).await, hashes);
}

async fn network_height(network: &Network, at: usize) -> u64 {
    network.peer(at).chain_info(CHANNEL).await.expect("info").height
}

async fn repeated_and_forged_transactions_do_not_count(network: &Network) {
    let (again, id) = network.endorse(0, &[0, 1], &call(&["put", "again", "1"])).await.expect("endorsed");
    network.send(&again).await;
    assert_eq!(network.verdict(&id).await, Code::Valid);
    let before = network_height(network, 0).await;
    network.send(&again).await;
    let newest = network.orderer().wait_for_block(CHANNEL, before, PATIENCE).await.expect("block");
    network.level().await;
    let block = chain::block(&network.peer(0), CHANNEL, number(&newest)).await;
    assert_eq!(chain::verdicts(&block), [(id.clone(), Code::DuplicateTxid)]);
    assert_eq!(network.verdict(&id).await, Code::Valid, "the first stays what it was");

    // Signed by somebody else than its creator.
    let (mut forged, id) = network.endorse(0, &[0, 1], &call(&["put", "forged", "1"])).await.expect("endorsed");
    forged.signature = network.orgs[1].admin.sign(&forged.payload);
    let refused = network.orderer().broadcast(&forged, ActKind::Transaction, CHANNEL).await;
    assert!(matches!(refused, Err(LedgerError::Refused { status: 403, .. })), "{refused:?}");
    assert!(network.peer(0).committed(CHANNEL, &id, 1, Duration::from_millis(600)).await.is_err());
}

async fn queries_are_paged(network: &Network) {
    for key in ["p1", "p2", "p3"] {
        assert_eq!(network.transact(&[0, 1], &call(&["put", key, "1"])).await, Code::Valid);
    }
    assert_eq!(network.read(&["page", "p", "q", "2", ""]).await, "p1 p2 p3");
    assert_eq!(network.read(&["page", "p", "q", "2", "p3"]).await, "p3 ");
    // A contract works on one call of a transaction at a time: it cannot call itself.
    let itself = network.ask(0, 0, &["call", "ehr", "get", "p1"]).await.expect_err("refused");
    assert!(itself.contains("INVOKE_CHAINCODE failed: transaction ID"), "{itself}");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_data_is_its_members_until_it_is_purged() {
    let mut network = Network::start().await;
    network.agree(&definition(), 1).await;

    // Pushed at endorsement to a member whose peer does not endorse.
    assert_eq!(network.transact(&[0, 2], &private("shared", "p", CANARY)).await, Code::Valid);
    network.level().await;
    for member in [0, 1] {
        assert_eq!(network.ask(member, member, &["getPrivate", "shared", "p"]).await.expect("member"), CANARY);
    }
    let stranger = network.ask(2, 2, &["getPrivate", "shared", "p"]).await.expect_err("no member");
    assert!(stranger.contains("tx creator does not have read access permission on privatedata"), "{stranger}");
    let absent = network.ask(0, 2, &["getPrivate", "shared", "p"]).await.expect_err("not kept");
    assert!(absent.contains("private data matching public hash version is not available"), "{absent}");
    let hash = Sha256::digest(CANARY);
    let client = network.peer(2);
    let (signed, _) = client.proposal(&call(&["privateHash", "shared", "p"]));
    let answer = client.endorse(&signed).await.expect("hash").response.response.unwrap_or_default();
    assert_eq!(answer.payload[..], hash[..]);
    assert!(network.keeps(0, CANARY) && network.keeps(1, CANARY) && !network.keeps(2, CANARY));

    // Not pushed: pulled when its block comes; and with a member away, once it is back.
    assert_eq!(network.transact(&[0, 2], &private("lazy", "q", "pulled")).await, Code::Valid);
    network.level().await;
    assert_eq!(network.ask(1, 1, &["getPrivate", "lazy", "q"]).await.expect("pulled"), "pulled");
    network.peers[1].kill();
    let alone = network.endorse(0, &[0, 2], &private("shared", "p", "x")).await.expect_err("nobody takes it");
    assert!(alone.to_string().contains("Failed disseminating 1 out of 1 private dissemination plans"), "{alone}");
    assert_eq!(network.transact(&[0, 2], &private("lazy", "r", "later")).await, Code::Valid);
    let peer = &mut network.peers[1];
    network.site.start(peer).await;
    network.level().await;
    assert_eq!(network.ask(1, 1, &["getPrivate", "lazy", "r"]).await.expect("pulled"), "later");

    // A life of two blocks ends with the third.
    assert_eq!(network.transact(&[0, 1], &private("short", "s", "shortlived")).await, Code::Valid);
    for _ in 0..2 {
        assert_eq!(network.transact(&[0, 1], &call(&["put", "k", "1"])).await, Code::Valid);
        network.level().await;
        assert_eq!(network.ask(0, 0, &["getPrivate", "short", "s"]).await.expect("alive"), "shortlived");
    }
    assert_eq!(network.transact(&[0, 1], &call(&["put", "k", "1"])).await, Code::Valid);
    network.level().await;
    assert_eq!(network.ask(0, 0, &["getPrivate", "short", "s"]).await.expect("over"), "");
    tokio::join!(network.forgets(0, "shortlived"), network.forgets(1, "shortlived"));

    // What is purged is nowhere, also after a restart, and the rest stays.
    assert_eq!(network.transact(&[0, 1], &call(&["purge", "shared", "p"])).await, Code::Valid);
    network.level().await;
    network.peers[0].kill();
    let peer = &mut network.peers[0];
    network.site.start(peer).await;
    network.level().await;
    for member in [0, 1] {
        assert_eq!(network.ask(member, member, &["getPrivate", "shared", "p"]).await.expect("purged"), "");
        assert_eq!(network.ask(member, member, &["getPrivate", "lazy", "q"]).await.expect("kept"), "pulled");
        network.forgets(member, CANARY).await;
    }
    assert_eq!(network.commit_hashes(0).await, network.commit_hashes(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_data_that_nobody_could_give_comes_in_the_background() {
    let mut network = Network::start().await;
    network.agree(&definition(), 1).await;
    network.peers[1].kill();
    assert_eq!(network.transact(&[0, 2], &private("lazy", "q", CANARY)).await, Code::Valid);
    let height = network_height(&network, 0).await;

    // The only one that has it is away while the other member comes to the block.
    network.peers[0].kill();
    let peer = &mut network.peers[1];
    peer.set("CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD", "1s");
    peer.set("CORE_PEER_GOSSIP_PVTDATA_RECONCILESLEEPINTERVAL", "1s");
    network.site.start(peer).await;
    let member = network.peer(1);
    eventually("the member has the block", async || {
        member.chain_info(CHANNEL).await.is_ok_and(|info| info.height == height)
    })
    .await;
    let missing = network.ask(1, 1, &["getPrivate", "lazy", "q"]).await.expect_err("not here");
    assert!(missing.contains("private data matching public hash version is not available"), "{missing}");
    assert!(!network.keeps(1, CANARY));

    let peer = &mut network.peers[0];
    network.site.start(peer).await;
    eventually("it has come", async || {
        network.ask(1, 1, &["getPrivate", "lazy", "q"]).await.is_ok_and(|value| value == CANARY)
    })
    .await;
    // It stays, and the next block is made of the same state everywhere.
    let peer = &mut network.peers[1];
    peer.kill();
    network.site.start(peer).await;
    network.level().await;
    assert_eq!(network.ask(1, 1, &["getPrivate", "lazy", "q"]).await.expect("kept"), CANARY);
    assert_eq!(network.commit_hashes(1).await, network.commit_hashes(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_that_are_away_or_of_another_package_are_named() {
    let network = Network::start().await;
    let definition = definition();
    network.agree(&definition, 1).await;
    assert_eq!(network.read(&["get", "k"]).await, "");

    let other: identity::SigningIdentity = network.orgs[0].ca.identity("HospitalA", "client");
    let client = network.site.peer_client(&network.peers[0], &other.into());
    let (signed, _) = client.proposal(&Call::new("", "_lifecycle", vec![b"QueryInstalledChaincodes".to_vec(), vec![]]));
    let refused = client.endorse(&signed).await.expect_err("no administrator").to_string();
    assert!(refused.contains("Failed to authorize invocation due to failed ACL check"), "{refused}");

    // Another package at the same address: the contract there says that it is not the one.
    let package = package("other", &network.services[0]);
    let (peer, orderer) = (network.peer(0), network.orderer());
    ensure_installed(&peer, &package).await.expect("installed");
    ensure_approved(&peer, &[&orderer], CHANNEL, &definition, 1, Some(&package.id)).await.expect("approved");
    network.level().await;
    let wrong = network.ask(0, 0, &["get", "k"]).await.expect_err("another package");
    assert!(wrong.contains(&format!("could not launch chaincode {}", package.id)), "{wrong}");

    let unknown = Call::new(CHANNEL, "nothing", vec![b"get".to_vec()]);
    let (signed, _) = peer.proposal(&unknown);
    let unknown = peer.endorse(&signed).await.expect_err("not defined").to_string();
    let words = "make sure the chaincode nothing has been successfully defined on channel records and try again";
    assert!(unknown.contains(words), "{unknown}");
}
