//! A peer: its environment, its CouchDB where it wants one, and all its objects.
//!
//! Fabric reads `CORE_<PATH>` over `core.yaml`, and here empty values do count: `CORE_VM_ENDPOINT` is emptied so that no
//! Docker engine is looked for.

use k8s_openapi::api::core::v1::EnvVar;

use super::names::{self, CA_CRT, TLS_CRT, TLS_KEY};
use super::node::{self, GRPC, LEDGER_DIR, MSP_DIR, OPERATIONS, Port, TLS_DIR};
use super::plan::{Material, NodePlan, PeerPlan};
use super::pod::{self, NODE_UID, env, secret_env};
use super::resources::Objects;
use super::stateful_set::{self, PodParts};
use super::{couchdb, network_policy, service, service_account, volume_claim};

/// Name of the container.
pub const CONTAINER: &str = "peer";

/// Ports of a peer.
pub const PORTS: [Port; 2] =
    [Port { name: GRPC, number: names::PEER_PORT }, Port { name: OPERATIONS, number: names::PEER_OPERATIONS_PORT }];

/// Every object of a peer but its Secrets.
pub fn resources(plan: &PeerPlan, material: &Material) -> Objects {
    let node = &plan.node;
    let mut volume_claims = vec![volume_claim::node(node, names::node_ledger(&node.parent.name), &node.storage)];
    if let Some(database) = &plan.couchdb {
        volume_claims.push(volume_claim::node(node, names::node_couchdb(&node.parent.name), &database.storage));
    }
    Objects {
        service_accounts: vec![service_account::node(node)],
        services: vec![service::node(node, &PORTS)],
        network_policies: vec![network_policy::peer(node)],
        volume_claims,
        stateful_sets: vec![stateful_set::node(node, material, pod_parts(plan))],
        ..Objects::default()
    }
}

fn pod_parts(plan: &PeerPlan) -> PodParts {
    let node = &plan.node;
    let mut parts = PodParts {
        sidecars: Vec::new(),
        container: node::container(CONTAINER, &node.image, NODE_UID),
        volumes: node::volumes(node),
        pull_secrets: node.image.pull_secrets.clone(),
    };
    let mut environment = environment(node);
    if let Some(database) = &plan.couchdb {
        environment.extend(couchdb::peer_environment(node));
        parts.sidecars.push(couchdb::container(node, database));
        parts.volumes.extend(couchdb::volumes(node));
        parts.pull_secrets.extend(database.image.pull_secrets.clone());
    } else {
        environment.push(env("CORE_LEDGER_STATE_STATEDATABASE", "goleveldb"));
    }
    let container = &mut parts.container;
    let [startup, readiness, liveness] = node::probes();
    container.startup_probe = Some(startup);
    container.readiness_probe = Some(readiness);
    container.liveness_probe = Some(liveness);
    container.env = Some(environment);
    container.ports = Some(node::container_ports(&PORTS));
    container.resources = Some(pod::resources(&node.resources, [("cpu", "100m"), ("memory", "256Mi")], "2Gi"));
    container.volume_mounts = Some(node::mounts());
    parts
}

fn environment(plan: &NodePlan) -> Vec<EnvVar> {
    let tls = |file: &str| format!("{TLS_DIR}/{file}");
    let address = format!("{}:{}", plan.host(), names::PEER_PORT);
    let mut environment = vec![
        env("FABRIC_LOGGING_SPEC", "info"),
        env("CORE_PEER_ID", &plan.parent.name),
        env("CORE_PEER_LOCALMSPID", &plan.msp_id),
        env("CORE_PEER_MSPCONFIGPATH", MSP_DIR),
        env("CORE_PEER_FILESYSTEMPATH", LEDGER_DIR),
        env("CORE_LEDGER_SNAPSHOTS_ROOTDIR", format!("{LEDGER_DIR}/snapshots")),
        env("CORE_PEER_LISTENADDRESS", format!("0.0.0.0:{}", names::PEER_PORT)),
        env("CORE_PEER_ADDRESS", &address),
        // Chaincode runs as a service and never dials its peer. Unset, the peer would listen on the address that its own
        // Service's name resolves to, which is no address of its pod, and give up.
        env("CORE_PEER_CHAINCODELISTENADDRESS", "127.0.0.1:7052"),
        env("CORE_PEER_TLS_ENABLED", "true"),
        env("CORE_PEER_TLS_CERT_FILE", tls(TLS_CRT)),
        env("CORE_PEER_TLS_KEY_FILE", tls(TLS_KEY)),
        env("CORE_PEER_TLS_ROOTCERT_FILE", tls(CA_CRT)),
        env("CORE_PEER_TLS_CLIENTAUTHREQUIRED", "false"),
        env("CORE_PEER_TLS_CLIENTROOTCAS_FILES", tls(CA_CRT)),
        // A peer without its orderers tries again soon: Fabric's own limit of the pauses is an hour.
        env("CORE_PEER_DELIVERYCLIENT_RECONNECTBACKOFFTHRESHOLD", "5s"),
        env("CORE_OPERATIONS_LISTENADDRESS", format!("0.0.0.0:{}", names::PEER_OPERATIONS_PORT)),
        env("CORE_OPERATIONS_TLS_ENABLED", "true"),
        env("CORE_OPERATIONS_TLS_CERT_FILE", tls(TLS_CRT)),
        env("CORE_OPERATIONS_TLS_KEY_FILE", tls(TLS_KEY)),
        env("CORE_OPERATIONS_TLS_CLIENTAUTHREQUIRED", "false"),
        env("CORE_OPERATIONS_TLS_CLIENTROOTCAS_FILES", tls(CA_CRT)),
        env("CORE_METRICS_PROVIDER", "prometheus"),
        env("CORE_VM_ENDPOINT", ""),
        // Fabric's builder takes the key for contracts from nowhere else (core.yaml: `propagateEnvironment`).
        secret_env(
            "CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG",
            &names::chaincode_client(&plan.hospital),
            names::BUILDER_JSON,
        ),
    ];
    environment.extend(gossip(plan, &address));
    environment
}

/// How the peer finds the others and what it gets from them. Fabric's own intervals are for hundreds of peers; here they
/// are a few, and while a peer does not know of another one, no gateway finds who is to endorse.
fn gossip(plan: &NodePlan, address: &str) -> [EnvVar; 12] {
    let outside = plan.external_endpoint.as_ref().map_or_else(|| address.to_owned(), ToString::to_string);
    [
        // Peers of a hospital find each other through the channels' anchor peers. A list of them here would restart
        // every peer whenever one is added.
        env("CORE_PEER_GOSSIP_BOOTSTRAP", address),
        env("CORE_PEER_GOSSIP_ENDPOINT", address),
        env("CORE_PEER_GOSSIP_EXTERNALENDPOINT", outside),
        env("CORE_PEER_GOSSIP_USELEADERELECTION", "false"),
        env("CORE_PEER_GOSSIP_ORGLEADER", "true"),
        env("CORE_PEER_GOSSIP_STATE_ENABLED", "false"),
        // A peer that joins asks the others while its own channel is still being set up, which mostly fails ("Could not
        // acquire policy manager"), and by default (25s) they stay strangers for that long. Only peers that are not
        // connected are dialled again. Heartbeats stay Fabric's: a connection that breaks is noticed at once, and a busy
        // machine must not make peers strangers.
        env("CORE_PEER_GOSSIP_RECONNECTINTERVAL", "1s"),
        // An anchor peer that never answered is given up after these tries: at least the fifty minutes of the default.
        env("CORE_PEER_GOSSIP_MAXCONNECTIONATTEMPTS", "3000"),
        // What a peer has (its height, its contracts) is told when it changed, by default up to 4s later. Looking whether
        // it changed costs nothing.
        env("CORE_PEER_GOSSIP_PUBLISHSTATEINFOINTERVAL", "500ms"),
        // Who was not there to be told asks: a message of a few hundred bytes, by default every 4s.
        env("CORE_PEER_GOSSIP_REQUESTSTATEINFOINTERVAL", "2s"),
        // A transaction that a gateway sent twice, because an orderer went away, does not count the second time, and its
        // private data is nowhere any more. By default every peer looks for it for a minute, and all blocks behind wait.
        env("CORE_PEER_GOSSIP_PVTDATA_SKIPPULLINGINVALIDTRANSACTIONSDURINGCOMMIT", "true"),
        // What else cannot be had at once is fetched later (`reconciliationEnabled`).
        env("CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD", "10s"),
    ]
}
