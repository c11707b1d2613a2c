//! NetworkPolicies: everything is denied but the flows that Fabric needs.
//!
//! | To | Port | From |
//! | --- | --- | --- |
//! | orderer | 7050 | orderers and peers of the namespace, the operator, ledger clients |
//! | orderer | 9443 | the operator alone |
//! | peer | 7051 | peers of the namespace, the operator, ledger clients |
//! | contract | 9999 | peers of its own hospital |
//! | orderer, peer | operations | the operator, metrics clients |
//!
//! Outgoing: cluster DNS and the ports above; peers also call contracts of their hospital, contracts call nobody. A node with an external endpoint takes
//! calls to its gRPC port from everywhere. A selector of a *namespace* can only be satisfied by those who may label
//! namespaces, one of pods only by pods of the same namespace: nobody lets themselves in from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use super::plan::{ContractPlan, NodePlan};
use super::secret::labelled;

/// Label that every namespace has with its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policy of an orderer's pod.
pub fn orderer(plan: &NodePlan) -> NetworkPolicy {
    let ingress = vec![
        grpc(plan, names::ORDERER_PORT, vec![pods(Component::Orderer.selector()), pods(Component::Peer.selector())]),
        from(names::ORDERER_ADMIN_PORT, operator(plan)),
        operations(plan, names::ORDERER_OPERATIONS_PORT),
    ];
    let egress = vec![to(names::ORDERER_PORT, vec![pods(Component::Orderer.selector())])];
    policy(plan, ingress, egress)
}

/// The policy of a peer's pod.
pub fn peer(plan: &NodePlan) -> NetworkPolicy {
    let ingress = vec![
        grpc(plan, names::PEER_PORT, vec![pods(Component::Peer.selector())]),
        operations(plan, names::PEER_OPERATIONS_PORT),
    ];
    let contracts = of_hospital(Component::Chaincode, &plan.hospital);
    let egress = vec![
        to(names::ORDERER_PORT, vec![pods(Component::Orderer.selector())]),
        to(names::PEER_PORT, vec![pods(Component::Peer.selector())]),
        to(names::CHAINCODE_PORT, vec![pods(contracts)]),
    ];
    policy(plan, ingress, egress)
}

/// The policy of a hospital's contract: its own peers get in, nothing gets out. A contract that called others would answer
/// differently at two hospitals, and could carry patients' data away.
pub fn contract(plan: &ContractPlan) -> NetworkPolicy {
    let peers = pods(of_hospital(Component::Peer, &plan.hospital));
    NetworkPolicy {
        metadata: plan.metadata(plan.name()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(plan.selector())),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![from(names::CHAINCODE_PORT, vec![peers])]),
            egress: Some(Vec::new()),
        }),
    }
}

fn of_hospital(component: Component, hospital: &str) -> BTreeMap<String, String> {
    let mut labels = component.selector();
    labels.insert(names::HOSPITAL.into(), hospital.to_owned());
    labels
}

fn policy(
    plan: &NodePlan,
    ingress: Vec<NetworkPolicyIngressRule>,
    mut egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    // Without a destination: cluster DNS may run on the host's network, where no selector finds it.
    egress.push(NetworkPolicyEgressRule { ports: Some(vec![port("UDP", 53), port("TCP", 53)]), to: None });
    if !plan.outside_ports.is_empty() {
        let ports: &BTreeSet<u16> = &plan.outside_ports;
        let ports = ports.iter().map(|number| port("TCP", *number)).collect();
        egress.push(NetworkPolicyEgressRule { ports: Some(ports), to: None });
    }
    NetworkPolicy {
        metadata: labelled(plan.parent.owned(&plan.parent.name), &plan.hospital),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(plan.parent.selector())),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            // A rule without sources would admit everyone.
            ingress: Some(
                ingress.into_iter().filter(|rule| rule.from.as_ref().is_none_or(|from| !from.is_empty())).collect(),
            ),
            egress: Some(egress),
        }),
    }
}

/// The node's gRPC port: its fellows, the operator and clients; everyone if it has an address outside.
fn grpc(plan: &NodePlan, number: u16, mut sources: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    if plan.external_endpoint.is_some() {
        return NetworkPolicyIngressRule { from: None, ports: Some(vec![port("TCP", number)]) };
    }
    sources.extend(operator(plan));
    sources.extend(allowed_by(names::LEDGER_CLIENT));
    from(number, sources)
}

fn operations(plan: &NodePlan, number: u16) -> NetworkPolicyIngressRule {
    let mut sources = operator(plan);
    sources.extend(allowed_by(names::METRICS_CLIENT));
    from(number, sources)
}

/// The operator's pods; nobody if it runs outside the cluster.
fn operator(plan: &NodePlan) -> Vec<NetworkPolicyPeer> {
    let namespace = plan.operator_namespace.iter().map(|namespace| NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.clone())]))),
        pod_selector: Some(selector(Component::Operator.selector())),
        ..NetworkPolicyPeer::default()
    });
    namespace.collect()
}

/// Pods of this namespace, or whole other namespaces, that carry `label: "true"`.
fn allowed_by(label: &str) -> [NetworkPolicyPeer; 2] {
    let labels = BTreeMap::from([(label.to_owned(), "true".to_owned())]);
    let namespace =
        NetworkPolicyPeer { namespace_selector: Some(selector(labels.clone())), ..NetworkPolicyPeer::default() };
    [pods(labels), namespace]
}

fn pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(labels)), ..NetworkPolicyPeer::default() }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn from(number: u16, sources: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: Some(sources), ports: Some(vec![port("TCP", number)]) }
}

fn to(number: u16, destinations: Vec<NetworkPolicyPeer>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(destinations), ports: Some(vec![port("TCP", number)]) }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    }
}
