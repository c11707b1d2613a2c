//! An orderer: its environment and all its objects.
//!
//! Fabric reads `ORDERER_<PATH>` over `orderer.yaml` and ignores empty values. Cluster listener settings are absent on
//! purpose: the orderers talk to each other on port 7050, with the node's TLS certificate on both sides.

use k8s_openapi::api::core::v1::EnvVar;

use super::names::{self, CA_CRT, TLS_CRT, TLS_KEY};
use super::node::{self, ADMIN, GRPC, LEDGER_DIR, MSP_DIR, OPERATIONS, OPERATOR_DIR, Port, TLS_DIR};
use super::plan::{Material, NodePlan, OrdererPlan};
use super::pod::{self, NODE_UID, env};
use super::resources::Objects;
use super::stateful_set::{self, PodParts};
use super::{disruption_budget, network_policy, service, service_account, volume_claim};

/// Name of the container.
pub const CONTAINER: &str = "orderer";

/// Ports of an orderer.
pub const PORTS: [Port; 3] = [
    Port { name: GRPC, number: names::ORDERER_PORT },
    Port { name: ADMIN, number: names::ORDERER_ADMIN_PORT },
    Port { name: OPERATIONS, number: names::ORDERER_OPERATIONS_PORT },
];

/// Every object of an orderer but its Secrets. The disruption budget is the same object for all orderers of the namespace.
pub fn resources(plan: &OrdererPlan, material: &Material) -> Objects {
    let node = &plan.node;
    Objects {
        service_accounts: vec![service_account::node(node)],
        services: vec![service::node(node, &PORTS)],
        network_policies: vec![network_policy::orderer(node)],
        disruption_budgets: vec![disruption_budget::orderers(&node.parent.namespace)],
        volume_claims: vec![volume_claim::node(node, names::node_ledger(&node.parent.name), &node.storage)],
        stateful_sets: vec![stateful_set::node(node, material, pod_parts(node))],
        ..Objects::default()
    }
}

fn pod_parts(plan: &NodePlan) -> PodParts {
    let mut volumes = node::volumes(plan);
    let operator_ca = pod::from_secret(names::OPERATOR.into(), &[(CA_CRT, "ca.crt")]);
    volumes.push(pod::projected("operator", vec![operator_ca]));
    let mut container = node::container(CONTAINER, &plan.image, NODE_UID);
    let [startup, readiness, liveness] = node::probes();
    container.startup_probe = Some(startup);
    container.readiness_probe = Some(readiness);
    container.liveness_probe = Some(liveness);
    container.env = Some(environment(plan));
    container.ports = Some(node::container_ports(&PORTS));
    container.resources = Some(pod::resources(&plan.resources, [("cpu", "100m"), ("memory", "128Mi")], "1Gi"));
    let mut mounts = node::mounts();
    mounts.push(pod::read_only("operator", OPERATOR_DIR));
    container.volume_mounts = Some(mounts);
    PodParts { sidecars: Vec::new(), container, volumes, pull_secrets: plan.image.pull_secrets.clone() }
}

fn environment(plan: &NodePlan) -> Vec<EnvVar> {
    let tls = |file: &str| format!("{TLS_DIR}/{file}");
    let list = |file: String| format!("[{file}]");
    let ledger = |folder: &str| format!("{LEDGER_DIR}/orderer{folder}");
    vec![
        env("FABRIC_LOGGING_SPEC", "info"),
        env("ORDERER_GENERAL_LISTENADDRESS", "0.0.0.0"),
        env("ORDERER_GENERAL_LISTENPORT", names::ORDERER_PORT.to_string()),
        env("ORDERER_GENERAL_LOCALMSPID", &plan.msp_id),
        env("ORDERER_GENERAL_LOCALMSPDIR", MSP_DIR),
        env("ORDERER_GENERAL_BOOTSTRAPMETHOD", "none"),
        env("ORDERER_GENERAL_TLS_ENABLED", "true"),
        env("ORDERER_GENERAL_TLS_CERTIFICATE", tls(TLS_CRT)),
        env("ORDERER_GENERAL_TLS_PRIVATEKEY", tls(TLS_KEY)),
        env("ORDERER_GENERAL_TLS_ROOTCAS", list(tls(CA_CRT))),
        env("ORDERER_GENERAL_TLS_CLIENTAUTHREQUIRED", "false"),
        env("ORDERER_CHANNELPARTICIPATION_ENABLED", "true"),
        env("ORDERER_ADMIN_LISTENADDRESS", format!("0.0.0.0:{}", names::ORDERER_ADMIN_PORT)),
        env("ORDERER_ADMIN_TLS_ENABLED", "true"),
        env("ORDERER_ADMIN_TLS_CERTIFICATE", tls(TLS_CRT)),
        env("ORDERER_ADMIN_TLS_PRIVATEKEY", tls(TLS_KEY)),
        env("ORDERER_ADMIN_TLS_CLIENTAUTHREQUIRED", "true"),
        env("ORDERER_ADMIN_TLS_CLIENTROOTCAS", list(format!("{OPERATOR_DIR}/{CA_CRT}"))),
        env("ORDERER_OPERATIONS_LISTENADDRESS", format!("0.0.0.0:{}", names::ORDERER_OPERATIONS_PORT)),
        env("ORDERER_OPERATIONS_TLS_ENABLED", "true"),
        env("ORDERER_OPERATIONS_TLS_CERTIFICATE", tls(TLS_CRT)),
        env("ORDERER_OPERATIONS_TLS_PRIVATEKEY", tls(TLS_KEY)),
        env("ORDERER_OPERATIONS_TLS_CLIENTAUTHREQUIRED", "false"),
        env("ORDERER_OPERATIONS_TLS_CLIENTROOTCAS", list(tls(CA_CRT))),
        env("ORDERER_METRICS_PROVIDER", "prometheus"),
        env("ORDERER_FILELEDGER_LOCATION", ledger("")),
        env("ORDERER_CONSENSUS_WALDIR", ledger("/etcdraft/wal")),
        env("ORDERER_CONSENSUS_SNAPDIR", ledger("/etcdraft/snapshot")),
    ]
}
