//! The CouchDB beside a peer: a sidecar that is up before its peer starts and stops after it.
//!
//! It is an init container with `restartPolicy: Always` (Kubernetes' native sidecar), because a peer that finds no
//! database gives up. Its port is on the pod's address as well, where the NetworkPolicy admits nobody.

use k8s_openapi::api::core::v1::{Container, EnvVar, Volume};

use super::names;
use super::node::{self, Port};
use super::plan::{CouchDbPlan, NodePlan};
use super::pod::{self, COUCHDB_UID, ProbeTiming, env, secret_env};

const PORTS: [Port; 1] = [Port { name: "couchdb", number: names::COUCHDB_PORT }];

/// Where the image keeps its database.
const DATA: &str = "/opt/couchdb/data";
/// Where the image writes the administrator that the environment names.
const LOCAL_CONFIG: &str = "/opt/couchdb/etc/local.d";

/// How the peer reaches it.
pub(super) fn peer_environment(plan: &NodePlan) -> Vec<EnvVar> {
    let secret = names::node_couchdb(&plan.parent.name);
    vec![
        env("CORE_LEDGER_STATE_STATEDATABASE", "CouchDB"),
        env("CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS", format!("127.0.0.1:{}", names::COUCHDB_PORT)),
        secret_env("CORE_LEDGER_STATE_COUCHDBCONFIG_USERNAME", &secret, "username"),
        secret_env("CORE_LEDGER_STATE_COUCHDBCONFIG_PASSWORD", &secret, "password"),
    ]
}

/// The sidecar.
pub(super) fn container(plan: &NodePlan, database: &CouchDbPlan) -> Container {
    let secret = names::node_couchdb(&plan.parent.name);
    let up = |timing| pod::http_probe("HTTP", PORTS[0].name, "/_up", timing);
    Container {
        restart_policy: Some("Always".into()),
        env: Some(vec![
            secret_env("COUCHDB_USER", &secret, "username"),
            secret_env("COUCHDB_PASSWORD", &secret, "password"),
        ]),
        ports: Some(node::container_ports(&PORTS)),
        startup_probe: Some(up(ProbeTiming { period: 1, failures: 120 })),
        liveness_probe: Some(up(ProbeTiming { period: 10, failures: 6 })),
        resources: Some(pod::resources(&database.resources, [("cpu", "100m"), ("memory", "256Mi")], "1Gi")),
        volume_mounts: Some(vec![
            pod::mount("couchdb", DATA),
            pod::mount("couchdb-config", LOCAL_CONFIG),
            pod::mount("couchdb-tmp", "/tmp"),
        ]),
        ..node::container("couchdb", &database.image, COUCHDB_UID)
    }
}

/// Its volumes.
pub(super) fn volumes(plan: &NodePlan) -> Vec<Volume> {
    vec![
        pod::claimed("couchdb", names::node_couchdb(&plan.parent.name)),
        pod::empty_dir("couchdb-config", "1Mi"),
        pod::empty_dir("couchdb-tmp", "64Mi"),
    ]
}
