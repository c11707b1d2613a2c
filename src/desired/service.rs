//! Services: the stable address of a node.
//!
//! Not-ready addresses are published: orderers find each other through their Services before any of them is ready, and
//! a Service that waited for readiness would keep a Raft cluster from ever forming.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::node::Port;
use super::plan::{ContractPlan, NodePlan};
use super::secret::labelled;

/// The Service of a node, with its ports under their names.
pub fn node(plan: &NodePlan, ports: &[Port]) -> Service {
    let mut metadata = labelled(plan.parent.owned(&plan.parent.name), &plan.hospital);
    metadata.annotations = Some(scrape_annotations(ports));
    let spec = ServiceSpec { publish_not_ready_addresses: Some(true), ..spec(plan.parent.selector(), ports) };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// The Service of a hospital's contract: its peers find those pods only that are ready.
pub fn contract(plan: &ContractPlan, ports: &[Port]) -> Service {
    Service { metadata: plan.metadata(plan.name()), spec: Some(spec(plan.selector(), ports)), ..Service::default() }
}

fn spec(selector: BTreeMap<String, String>, ports: &[Port]) -> ServiceSpec {
    let ports = ports.iter().map(|port| ServicePort {
        name: Some(port.name.to_owned()),
        port: i32::from(port.number),
        target_port: Some(IntOrString::String(port.name.to_owned())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    });
    ServiceSpec {
        type_: Some("ClusterIP".into()),
        selector: Some(selector),
        ports: Some(ports.collect()),
        ..ServiceSpec::default()
    }
}

/// Prometheus' customary annotations. The endpoint speaks TLS and wants a client certificate of the hospital's TLS CA.
fn scrape_annotations(ports: &[Port]) -> BTreeMap<String, String> {
    let Some(port) = ports.iter().find(|port| port.name == super::node::OPERATIONS) else {
        return BTreeMap::new();
    };
    let annotations = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/scheme", "https".to_owned()),
        ("prometheus.io/path", "/metrics".to_owned()),
        ("prometheus.io/port", port.number.to_string()),
    ];
    annotations.map(|(key, value)| (key.to_owned(), value)).into()
}
