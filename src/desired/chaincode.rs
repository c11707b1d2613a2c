//! A contract: how peers find each hospital's service of it, and all objects of those services.
//!
//! | Who | has |
//! | --- | --- |
//! | the peers of a hospital | the package: address and CA of the service, and their own certificate; their key comes from their environment |
//! | the service of a hospital | a TLS certificate for its Service's names, and the hospital's TLS CA to know the peers by |
//!
//! The trap: the package's id is a hash of it, and the service must register under that id. So the package holds nothing
//! that changes often: no image, no version, and a client certificate that lasts as long as the TLS CA.

use k8s_openapi::api::core::v1::{Container, EnvVar, Volume};

use ehrnet_fabric::package::Connection;
use ehrnet_pki::Certificate;

use super::names::{self, CA_CRT, TLS_CRT, TLS_KEY};
use super::node::{self, GRPC, Port};
use super::plan::{ContractPlan, ContractRelease};
use super::pod::{self, NODE_UID, ProbeTiming, env};
use super::resources::Objects;
use super::{deployment, network_policy, service, service_account};

/// Name of the container.
pub const CONTAINER: &str = "contract";

/// Port of the service.
pub const PORTS: [Port; 1] = [Port { name: GRPC, number: names::CHAINCODE_PORT }];

/// Folder of the TLS files.
const TLS_DIR: &str = "/etc/chaincode/tls";

/// How the peers of the plan's hospital reach its service: `connection.json` of the package.
pub fn connection(plan: &ContractPlan, tls_ca: &Certificate, client: &Certificate) -> Connection {
    Connection {
        address: plan.address(),
        dial_timeout: "10s".into(),
        tls_required: true,
        client_auth_required: true,
        root_cert: tls_ca.pem().into(),
        // Every admin of a peer can read its packages: the key is filled in by the peer (`secret::chaincode_client`).
        client_key: "{{.client_key}}".into(),
        client_cert: client.pem().into(),
    }
}

/// Every object of the services of one contract but their Secrets.
pub fn resources(services: &[(ContractPlan, ContractRelease)]) -> Objects {
    let plans = || services.iter().map(|(plan, _)| plan);
    Objects {
        service_accounts: plans().take(1).map(service_account::contract).collect(),
        services: plans().map(|plan| service::contract(plan, &PORTS)).collect(),
        network_policies: plans().map(network_policy::contract).collect(),
        deployments: services
            .iter()
            .map(|(plan, release)| deployment::contract(plan, release, container(plan, release), volumes(plan)))
            .collect(),
        ..Objects::default()
    }
}

fn volumes(plan: &ContractPlan) -> Vec<Volume> {
    let tls = pod::from_secret(
        names::node_tls(&plan.name()),
        &[(TLS_CRT, "tls.crt"), (TLS_KEY, "tls.key"), (CA_CRT, "ca.crt")],
    );
    vec![pod::projected("tls", vec![tls]), pod::empty_dir("tmp", "64Mi")]
}

fn container(plan: &ContractPlan, release: &ContractRelease) -> Container {
    let tcp = |timing| pod::tcp_probe(GRPC, timing);
    Container {
        env: Some(environment(plan, release)),
        ports: Some(node::container_ports(&PORTS)),
        // A service that speaks TLS only, and knows no health protocol that all images share.
        startup_probe: Some(tcp(ProbeTiming { period: 1, failures: 120 })),
        readiness_probe: Some(tcp(ProbeTiming { period: 2, failures: 5 })),
        liveness_probe: Some(tcp(ProbeTiming { period: 10, failures: 6 })),
        resources: Some(pod::resources(&plan.resources, [("cpu", "50m"), ("memory", "32Mi")], "256Mi")),
        volume_mounts: Some(vec![pod::read_only("tls", TLS_DIR), pod::mount("tmp", "/tmp")]),
        ..node::container(CONTAINER, &plan.image, NODE_UID)
    }
}

/// The names that the samples and libraries for Go, Java and Node.js read: each has its own for the same thing.
fn environment(plan: &ContractPlan, release: &ContractRelease) -> Vec<EnvVar> {
    let listen = format!("0.0.0.0:{}", names::CHAINCODE_PORT);
    let file = |name: &str| format!("{TLS_DIR}/{name}");
    vec![
        env("CHAINCODE_SERVER_ADDRESS", &listen),
        env("CHAINCODE_ID", &release.package_id),
        // Read by the health-record contract only: whose agreement a policy needs.
        env("EHRNET_MEMBERS", plan.members.join(",")),
        env("CHAINCODE_TLS_DISABLED", "false"),
        env("CHAINCODE_TLS_CERT", file(TLS_CRT)),
        env("CHAINCODE_TLS_KEY", file(TLS_KEY)),
        env("CHAINCODE_CLIENT_CA_CERT", file(CA_CRT)),
        env("CORE_CHAINCODE_ADDRESS", &listen),
        env("CORE_CHAINCODE_ID", &release.package_id),
        env("CORE_CHAINCODE_ID_NAME", &release.package_id),
        env("CORE_CHAINCODE_TLS_CERT_FILE", file(TLS_CRT)),
        env("CORE_CHAINCODE_TLS_KEY_FILE", file(TLS_KEY)),
        env("CORE_CHAINCODE_TLS_CLIENT_CACERT_FILE", file(CA_CRT)),
        // Interpreters write their caches and logs below it, and nothing else is writable.
        env("HOME", "/tmp"),
    ]
}
