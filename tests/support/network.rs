//! Two hospitals on one channel, and the way to a chaincode that both agree on. For real Fabric and the embedded ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ehrnet_fabric::Endpoint;
use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection, EndorsementPolicy, Rule};
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::genesis::{self, ApplicationOrg, BftOptions, ChannelDefinition, Consensus, OrdererOrg, RaftOptions};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::lifecycle::{
    self, CommitOutcome, Endorser, approved, ensure_approved, ensure_committed, ensure_installed, next_sequence,
};
use ehrnet_fabric::package::{Connection, Package};
use ehrnet_fabric::participation::{ChannelStatus, ConsensusRelation};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::proto::common::Block;
use ehrnet_fabric::verbs::{ensure_orderer_joined, ensure_peer_joined, read_config};
use ehrnet_fabric::{LedgerError, gateway, orderer, peer};

use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::chaincode::Service;
use crate::nodes::{Node, Org, Site, eventually};

/// The channel.
pub const CHANNEL: &str = "records";

/// Two hospitals, a peer of each, and orderers.
pub struct Network {
    pub site: Site,
    pub a: Org,
    pub b: Org,
    pub peer_a: Node,
    pub peer_b: Node,
    pub orderers: Vec<Node>,
    /// Certificates that the peers show to contracts. The keys are in the peers' own settings, not in packages.
    pub clients: [String; 2],
}

impl Network {
    /// With one Raft orderer.
    pub async fn raft(site: Site) -> Self {
        Self::start(site, 1, |_, orderers| raft(&orderers.iter().collect::<Vec<_>>())).await
    }

    /// With four BFT orderers.
    pub async fn bft(site: Site) -> Self {
        let consensus = |org: &Org, orderers: &[Node]| Consensus::Bft {
            consenters: orderers.iter().map(|node| node.bft_consenter(org)).collect(),
            options: BftOptions::default(),
        };
        Self::start(site, 4, consensus).await
    }

    /// With one Raft orderer, and the second hospital's peer from the embedded ledger.
    pub async fn mixed(site: Site) -> Self {
        Self::with(site, 1, |_, orderers| raft(&orderers.iter().collect::<Vec<_>>()), Node::embed).await
    }

    async fn start(site: Site, orderers: u8, consensus: impl Fn(&Org, &[Node]) -> Consensus) -> Self {
        Self::with(site, orderers, consensus, |_| {}).await
    }

    async fn with(
        site: Site,
        orderers: u8,
        consensus: impl Fn(&Org, &[Node]) -> Consensus,
        change: impl Fn(&mut Node),
    ) -> Self {
        let (a, b) = (Org::new("HospitalA"), Org::new("HospitalB"));
        let mut orderers: Vec<_> = (1..=orderers).map(|n| site.orderer(&a, n)).collect();
        let (mut peer_a, mut peer_b) = (site.peer(&a, 11), site.peer(&b, 12));
        let clients = [(&mut peer_a, &a), (&mut peer_b, &b)].map(|(peer, org)| {
            let (certificate, key) = org.tls_ca.issue_tls("peer");
            let values = serde_json::json!({ "client_key": key }).to_string();
            peer.set("CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG", &values);
            certificate
        });
        change(&mut peer_b);
        for node in orderers.iter_mut().chain([&mut peer_a, &mut peer_b]) {
            // Real Fabric does not know it.
            node.set("EHRNET_DEVLEDGER_FAULTS", &faults(&site, node).display().to_string());
            site.start(node).await;
        }
        let anchor = |peer: &Node| vec![Endpoint::new(&peer.host, 7051)];
        let hospitals = vec![a.application(anchor(&peer_a)), b.application(anchor(&peer_b))];
        let orderer_org = a.orderer(&orderers.iter().collect::<Vec<_>>());
        let mut desired = channel(consensus(&a, &orderers), vec![orderer_org], hospitals);
        desired.batch.timeout = Duration::from_millis(200);
        let genesis = genesis::block(&desired, &Stamp::now()).expect("genesis");
        for orderer in &orderers {
            joined(&site, orderer, &genesis, ConsensusRelation::Consenter).await;
        }
        for (peer, org) in [(&peer_a, &a), (&peer_b, &b)] {
            let client = site.peer_client(peer, &org.admin);
            ensure_peer_joined(&client, CHANNEL, &genesis).await.expect("join");
        }
        let network = Self { site, a, b, peer_a, peer_b, orderers, clients };
        let clients = network.orderers();
        let all: Vec<_> = clients.iter().collect();
        eventually("the orderers serve", async || read_config(&all, CHANNEL).await.is_ok()).await;
        network
    }

    /// Makes a node of the embedded ledger misbehave from now on.
    pub fn play(&self, node: &Node, rules: &serde_json::Value) {
        std::fs::write(faults(&self.site, node), rules.to_string()).expect("faults");
    }

    pub fn orderers(&self) -> Vec<orderer::Client> {
        self.orderers.iter().map(|node| self.site.orderer_client(node, &self.a.admin)).collect()
    }

    /// Both hospitals' admins at their peers.
    pub fn peers(&self) -> (peer::Client, peer::Client) {
        let client = |node, org: &Org| self.site.peer_client(node, &org.admin);
        (client(&self.peer_a, &self.a), client(&self.peer_b, &self.b))
    }

    /// The gateway of a hospital's peer, for a user of the hospital.
    pub fn gateway(&self, node: &Node, org: &Org) -> gateway::Client {
        let user: Arc<SigningIdentity> = Arc::new(org.ca.identity(&org.msp_id, "client"));
        self.site.gateway(node, &user)
    }
}

fn faults(site: &Site, node: &Node) -> std::path::PathBuf {
    site.path(&format!("{}.faults", node.host))
}

/// Both hospitals' peers must endorse, except for what only one of them keeps.
pub fn definition() -> ChaincodeDefinition {
    let collection = |name: &str, members: &[&str]| Collection {
        name: name.into(),
        members: members.iter().map(ToString::to_string).collect(),
        required_peers: 0,
        max_peers: 3,
        block_to_live: 0,
        member_only_read: true,
        member_only_write: true,
        endorsement: None,
    };
    ChaincodeDefinition {
        name: "ehr".into(),
        version: "1.0".into(),
        endorsement: EndorsementPolicy::Signature(Rule::all(vec![Rule::peer("HospitalA"), Rule::peer("HospitalB")])),
        collections: vec![
            collection("shared", &["HospitalB", "HospitalA"]),
            Collection {
                endorsement: Some(EndorsementPolicy::Signature(Rule::peer("HospitalA"))),
                ..collection("own-a", &["HospitalA"])
            },
        ],
        init_required: false,
    }
}

/// The package of a service without TLS.
pub fn package(label: &str, address: &str) -> Package {
    let connection = Connection { address: address.into(), dial_timeout: "10s".into(), ..Default::default() };
    Package::ccaas(label, &connection, &BTreeMap::new()).expect("package")
}

/// Two instances of the tests' own chaincode, which have different names, and their packages.
pub async fn services(network: &Network) -> [Package; 2] {
    let start = async |name: &str, org: &Org, client: &String| {
        let (certificate, key) = org.tls_ca.issue_tls("127.0.0.1");
        let identity = Identity::from_pem(certificate, key);
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(org.tls_ca.pem()));
        let service = Service::start_tls("127.0.0.1", name, tls).await;
        let connection = Connection {
            address: service.address.to_string(),
            dial_timeout: "10s".into(),
            tls_required: true,
            client_auth_required: true,
            root_cert: org.tls_ca.pem(),
            client_key: "{{.client_key}}".into(),
            client_cert: client.clone(),
        };
        let package = Package::ccaas("ehr", &connection, &BTreeMap::new()).expect("package");
        service.serve_as(&package.id);
        package
    };
    let [client_a, client_b] = &network.clients;
    [start("a", &network.a, client_a).await, start("b", &network.b, client_b).await]
}

/// Approves what was not approved. Orderers that have no leader yet are asked again.
pub async fn approve(
    at: &peer::Client,
    orderers: &[&orderer::Client],
    definition: &ChaincodeDefinition,
    sequence: i64,
    package_id: Option<&str>,
) {
    eventually("there is a leader", async || {
        match ensure_approved(at, orderers, CHANNEL, definition, sequence, package_id).await {
            Ok(acted) => {
                assert!(acted, "approved already");
                true
            }
            Err(LedgerError::Refused { status: 503, .. }) => false,
            Err(e) => panic!("{e}"),
        }
    })
    .await;
}

/// Installs, approves at both hospitals, and commits; checks each step on the way.
pub async fn agree(network: &Network, definition: &ChaincodeDefinition, packages: &[Package; 2]) {
    let (at_a, at_b) = network.peers();
    let clients = network.orderers();
    let orderers: Vec<_> = clients.iter().collect();
    let endorsers = [Endorser { msp_id: "HospitalA", peer: &at_a }, Endorser { msp_id: "HospitalB", peer: &at_b }];
    let name = definition.name.as_str();
    let before = lifecycle::committed(&at_a, CHANNEL, name).await.expect("query");
    let sequence = next_sequence(definition, before.as_ref());
    for (n, (at, package)) in [&at_a, &at_b].into_iter().zip(packages).enumerate() {
        assert!(ensure_installed(at, package).await.expect("install"));
        let writes = network.site.network.writes();
        assert!(!ensure_installed(at, package).await.expect("installed"));
        assert_eq!(network.site.network.writes(), writes, "installed already: nothing to write");

        let outcome = ensure_committed(&endorsers, &orderers, CHANNEL, definition, sequence).await.expect("short");
        let CommitOutcome::NotReady(readiness) = outcome else { panic!("{n} approvals: {outcome:?}") };
        assert_eq!(readiness.approvals.values().filter(|yes| **yes).count(), n, "{readiness:?}");
        let id = Some(package.id.as_str());
        approve(at, &orderers, definition, sequence, id).await;
        let writes = network.site.network.writes();
        assert!(!ensure_approved(at, &orderers, CHANNEL, definition, sequence, id).await.expect("approved"));
        assert_eq!(network.site.network.writes(), writes, "approved already: nothing to write");
        let approval = approved(at, CHANNEL, name, sequence).await.expect("query").expect("approved");
        assert_eq!(approval.package_id.as_deref(), id);
    }
    // A peer may be a block behind the other's hospital.
    let mut outcome = None;
    eventually("the definition is committed", async || {
        outcome = ensure_committed(&endorsers, &orderers, CHANNEL, definition, sequence).await.ok();
        matches!(outcome, Some(CommitOutcome::Committed(_)))
    })
    .await;
    let Some(CommitOutcome::Committed(committed)) = outcome else { panic!("not committed") };
    assert_eq!(committed.recorded.sequence, sequence);
    assert_eq!(committed.recorded.differences(definition), [""; 0]);
    assert!(committed.approvals.values().all(|yes| *yes), "{committed:?}");
    let writes = network.site.network.writes();
    let again = ensure_committed(&endorsers, &orderers, CHANNEL, definition, sequence).await.expect("committed");
    assert_eq!(again, CommitOutcome::Committed(committed));
    assert_eq!(network.site.network.writes(), writes, "committed already: nothing to write");
    eventually("the other peer has it, too", async || {
        lifecycle::committed(&at_b, CHANNEL, name)
            .await
            .expect("query")
            .is_some_and(|c| c.recorded.sequence == sequence)
    })
    .await;
}

/// A call of the chaincode.
pub fn call(args: &[&str]) -> Call<'static> {
    Call::new(CHANNEL, "ehr", args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
}

/// A channel of these.
pub fn channel(
    consensus: Consensus,
    orderer_orgs: Vec<OrdererOrg>,
    hospitals: Vec<ApplicationOrg>,
) -> ChannelDefinition {
    ChannelDefinition {
        channel_name: CHANNEL.into(),
        consensus,
        orderer_orgs,
        application_orgs: hospitals,
        batch: Default::default(),
        policies: Default::default(),
        capabilities: Default::default(),
    }
}

/// Raft between these.
pub fn raft(nodes: &[&Node]) -> Consensus {
    let consenters = nodes.iter().map(|o| o.raft_consenter()).collect();
    Consensus::Raft { consenters, options: RaftOptions::default() }
}

/// Makes an orderer a member of the channel and waits until it is active.
pub async fn joined(site: &Site, node: &Node, block: &Block, relation: ConsensusRelation) {
    let client = site.participation(node);
    let info = ensure_orderer_joined(&client, CHANNEL, block).await.expect("join");
    assert_eq!(info.consensus_relation, relation);
    eventually("the orderer is active", async || {
        client.info(CHANNEL).await.expect("info").is_some_and(|i| i.status == ChannelStatus::Active)
    })
    .await;
}
