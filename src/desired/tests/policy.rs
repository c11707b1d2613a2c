//! NetworkPolicies by what they admit, evaluated as Kubernetes documents it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::fixtures::*;
use crate::names::Component;
use crate::*;

/// Someone on the network.
struct Someone {
    labels: BTreeMap<String, String>,
    /// Labels of their namespace; `None` for the policy's own.
    namespace: Option<BTreeMap<String, String>>,
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn node(component: Component) -> Someone {
    Someone { labels: component.selector(), namespace: None }
}

fn operator_in(namespace: &str) -> Someone {
    let labels = Component::Operator.selector();
    Someone { labels, namespace: Some(map(&[("kubernetes.io/metadata.name", namespace)])) }
}

fn labelled_pod(label: &str, namespace: Option<&[(&str, &str)]>) -> Someone {
    Someone { labels: map(&[(label, "true")]), namespace: namespace.map(map) }
}

fn stranger() -> Someone {
    Someone { labels: BTreeMap::new(), namespace: None }
}

fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.and_then(|selector| selector.match_labels.as_ref());
    wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn is_meant(peer: &NetworkPolicyPeer, who: &Someone) -> bool {
    match (&peer.namespace_selector, &who.namespace) {
        (None, Some(_)) => false,
        (None, None) => selects(peer.pod_selector.as_ref(), &who.labels),
        (Some(selector), namespace) => {
            selects(Some(selector), namespace.as_ref().unwrap_or(&BTreeMap::new()))
                && selects(peer.pod_selector.as_ref(), &who.labels)
        }
    }
}

fn covers(
    peers: Option<&Vec<NetworkPolicyPeer>>,
    ports: Option<&Vec<NetworkPolicyPort>>,
    who: &Someone,
    port: u16,
) -> bool {
    let port = IntOrString::Int(port.into());
    peers.is_none_or(|peers| peers.is_empty() || peers.iter().any(|peer| is_meant(peer, who)))
        && ports.is_none_or(|ports| ports.iter().any(|known| known.port.as_ref() == Some(&port)))
}

fn admits(policy: &NetworkPolicy, from: &Someone, port: u16) -> bool {
    let rules = policy.spec.as_ref().and_then(|spec| spec.ingress.as_ref()).expect("ingress");
    rules.iter().any(|rule| covers(rule.from.as_ref(), rule.ports.as_ref(), from, port))
}

fn lets_out(policy: &NetworkPolicy, to: &Someone, port: u16) -> bool {
    let rules = policy.spec.as_ref().and_then(|spec| spec.egress.as_ref()).expect("egress");
    rules.iter().any(|rule| covers(rule.to.as_ref(), rule.ports.as_ref(), to, port))
}

fn orderer_policy() -> NetworkPolicy {
    network_policy::orderer(&orderer_plan().node)
}

fn peer_policy() -> NetworkPolicy {
    network_policy::peer(&peer_plan_of(json!({})).node)
}

#[test]
fn nodes_reach_each_other_and_the_operator_reaches_them() {
    let (orderer, peer) = (orderer_policy(), peer_policy());
    for (policy, from, port) in [
        (&orderer, node(Component::Orderer), 7050),
        (&orderer, node(Component::Peer), 7050),
        (&orderer, operator_in("platform"), 7050),
        (&orderer, operator_in("platform"), 9443),
        (&orderer, operator_in("platform"), 8443),
        (&peer, node(Component::Peer), 7051),
        (&peer, operator_in("platform"), 7051),
        (&peer, operator_in("platform"), 9443),
    ] {
        assert!(admits(policy, &from, port), "{port}");
    }
    for (policy, to, port) in [
        (&orderer, node(Component::Orderer), 7050),
        (&peer, node(Component::Orderer), 7050),
        (&peer, node(Component::Peer), 7051),
        (&orderer, stranger(), 53),
        (&peer, stranger(), 53),
    ] {
        assert!(lets_out(policy, &to, port), "{port}");
    }
}

#[test]
fn a_contract_is_reached_by_peers_of_its_hospital_and_reaches_nobody() {
    let policy = network_policy::contract(&contract_service().0);
    let of = |component: Component, hospital: &str| {
        let mut someone = node(component);
        someone.labels.insert(names::HOSPITAL.into(), hospital.into());
        someone
    };
    assert!(admits(&policy, &of(Component::Peer, "willow"), 9999));
    for other in [of(Component::Peer, "elm"), of(Component::Orderer, "willow"), operator_in("platform"), stranger()] {
        assert!(!admits(&policy, &other, 9999));
    }
    assert!(!lets_out(&policy, &stranger(), 53) && !lets_out(&policy, &of(Component::Peer, "willow"), 7051));
    let peer = peer_policy();
    assert!(lets_out(&peer, &of(Component::Chaincode, "willow"), 9999));
    assert!(!lets_out(&peer, &of(Component::Chaincode, "elm"), 9999));
}

#[test]
fn the_admin_endpoint_is_the_operators_alone() {
    let policy = orderer_policy();
    let others = [
        node(Component::Orderer),
        node(Component::Peer),
        operator_in("elsewhere"),
        labelled_pod(names::LEDGER_CLIENT, None),
        labelled_pod(names::METRICS_CLIENT, None),
        stranger(),
    ];
    for other in others {
        assert!(!admits(&policy, &other, 9443));
    }
}

#[test]
fn an_operator_outside_the_cluster_opens_nothing() {
    let mut plan = orderer_plan().node;
    plan.operator_namespace = None;
    let policy = network_policy::orderer(&plan);
    for who in [operator_in("platform"), node(Component::Peer), stranger()] {
        assert!(!admits(&policy, &who, 9443));
    }
}

#[test]
fn strangers_are_kept_out_and_nodes_kept_in() {
    for (policy, ports) in [(orderer_policy(), [7050, 9443, 8443]), (peer_policy(), [7051, 9443, 5984])] {
        for port in ports {
            assert!(!admits(&policy, &stranger(), port), "{port}");
            assert!(!lets_out(&policy, &stranger(), port), "{port}");
        }
        assert_eq!(policy.spec.and_then(|spec| spec.policy_types), Some(vec!["Ingress".into(), "Egress".into()]));
    }
    assert!(!admits(&peer_policy(), &node(Component::Peer), 5984), "CouchDB is for its own peer");
}

#[test]
fn a_label_admits_pods_of_the_namespace_and_namespaces_but_not_pods_of_other_namespaces() {
    let policy = peer_policy();
    for (label, port, closed) in [(names::LEDGER_CLIENT, 7051, 9443), (names::METRICS_CLIENT, 9443, 7051)] {
        assert!(admits(&policy, &labelled_pod(label, None), port));
        let namespace = Someone { labels: BTreeMap::new(), namespace: Some(map(&[(label, "true")])) };
        assert!(admits(&policy, &namespace, port));
        assert!(!admits(&policy, &labelled_pod(label, Some(&[("team", "x")])), port));
        assert!(!admits(&policy, &namespace, closed));
    }
}

#[test]
fn an_external_endpoint_opens_grpc_and_nothing_else() {
    let outsider = Someone { labels: BTreeMap::new(), namespace: Some(map(&[("team", "x")])) };
    let policy = network_policy::peer(&full_peer_plan().node);
    assert!(admits(&policy, &outsider, 7051) && !admits(&policy, &outsider, 9443));
    assert!(lets_out(&policy, &outsider, 31050) && !lets_out(&policy, &outsider, 443));
    assert!(!lets_out(&peer_policy(), &outsider, 31050));
}
