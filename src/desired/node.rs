//! What orderers and peers have in common: ports, files, and the objects around the StatefulSet.
//!
//! Operations endpoint: TLS with the node's certificate. `/healthz` and `/version` ask for no client certificate, so the
//! kubelet can probe them; `/metrics` and `/logspec` want one of the hospital's TLS CA (Fabric ties that to TLS being on,
//! `core/operations/system.go`). The Secret `<node>-tls` is such a certificate, in the layout that a ServiceMonitor takes.

use k8s_openapi::api::core::v1::{Container, ContainerPort, Probe, Volume, VolumeMount};

use super::config_map::{MSP_CACERT, MSP_CONFIG, MSP_TLSCACERT};
use super::names::{self, CA_CRT, TLS_CRT, TLS_KEY};
use super::plan::{ContainerImage, NodePlan};
use super::pod::{self, ProbeTiming};

/// Name of the gRPC port.
pub const GRPC: &str = "grpc";
/// Name of an orderer's admin port.
pub const ADMIN: &str = "admin";
/// Name of the operations port.
pub const OPERATIONS: &str = "operations";

/// Folder of the local MSP.
pub const MSP_DIR: &str = "/etc/fabric/msp";
/// Folder of the TLS files.
pub const TLS_DIR: &str = "/etc/fabric/tls";
/// Folder of the operator's CA certificate.
pub const OPERATOR_DIR: &str = "/etc/fabric/operator";
/// Mount point of the ledger's volume, where the images declare theirs.
const LEDGER_MOUNT: &str = "/var/hyperledger";
/// Folder of the ledger.
pub const LEDGER_DIR: &str = "/var/hyperledger/production";

/// A port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in Service and container.
    pub name: &'static str,
    /// TCP port.
    pub number: u16,
}

/// The volumes of a node's own material, its ledger, and a place for temporary files.
pub(super) fn volumes(plan: &NodePlan) -> Vec<Volume> {
    let node = &plan.parent.name;
    let msp = vec![
        pod::from_config_map(
            names::msp(&plan.hospital),
            &[(MSP_CONFIG, "config.yaml"), (MSP_CACERT, "cacerts/ca.pem"), (MSP_TLSCACERT, "tlscacerts/ca.pem")],
        ),
        pod::from_secret(names::node_identity(node), &[(TLS_CRT, "signcerts/cert.pem"), (TLS_KEY, "keystore/key.pem")]),
    ];
    let tls = vec![pod::from_secret(
        names::node_tls(node),
        &[(TLS_CRT, "tls.crt"), (TLS_KEY, "tls.key"), (CA_CRT, "ca.crt")],
    )];
    vec![
        pod::projected("msp", msp),
        pod::projected("tls", tls),
        pod::claimed("ledger", names::node_ledger(node)),
        pod::empty_dir("tmp", "512Mi"),
    ]
}

/// Where a node's container has those volumes.
pub(super) fn mounts() -> Vec<VolumeMount> {
    vec![
        pod::read_only("msp", MSP_DIR),
        pod::read_only("tls", TLS_DIR),
        pod::mount("ledger", LEDGER_MOUNT),
        pod::mount("tmp", "/tmp"),
    ]
}

/// A container with what all have; its environment, ports, mounts and probes are the caller's.
pub(super) fn container(name: &str, image: &ContainerImage, uid: i64) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.reference.clone()),
        image_pull_policy: image.pull_policy.map(pod::pull_policy),
        command: (!image.command.is_empty()).then(|| image.command.clone()),
        security_context: Some(pod::container_security(uid)),
        ..Container::default()
    }
}

/// Ports as a container states them.
pub(super) fn container_ports(ports: &[Port]) -> Vec<ContainerPort> {
    let port = |port: &Port| ContainerPort {
        name: Some(port.name.to_owned()),
        container_port: i32::from(port.number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    ports.iter().map(port).collect()
}

/// Startup: one try a second, for ten minutes, because a node that comes back reads its whole ledger. Ready: health,
/// with all that it needs. Alive: the process answers at all; a database that is away is no reason to kill its peer.
pub(super) fn probes() -> [Probe; 3] {
    let startup = pod::https_probe(OPERATIONS, "/healthz", ProbeTiming { period: 1, failures: 600 });
    let readiness = pod::https_probe(OPERATIONS, "/healthz", ProbeTiming { period: 2, failures: 2 });
    let liveness = pod::https_probe(OPERATIONS, "/version", ProbeTiming { period: 10, failures: 6 });
    [startup, readiness, liveness]
}
