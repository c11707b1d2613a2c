//! The resource types of `ehrnet.dev/v1alpha1`: the only place that defines a field name.
//!
//! Invariant: nothing here talks to a cluster. Rules that one object can break by itself are CEL rules in its schema
//! (refused at admission); rules that need a second object become conditions.

pub mod channel;
pub mod common;
pub mod conditions;
pub mod consent_codes;
pub mod consent_policy;
mod consent_schema;
pub mod duration;
pub mod hospital;
pub mod node;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use channel::{Channel, ChannelSpec, ChannelStatus};
pub use consent_policy::{ConsentPolicy, ConsentPolicySpec, ConsentPolicyStatus};
pub use hospital::{Hospital, HospitalSpec, HospitalStatus};
pub use node::{Orderer, OrdererSpec, OrdererStatus, Peer, PeerSpec, PeerStatus};

/// API group of every kind.
pub const GROUP: &str = "ehrnet.dev";

/// The definitions of all kinds, as `crds/` and the chart hold them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Hospital::crd(), Orderer::crd(), Peer::crd(), Channel::crd(), ConsentPolicy::crd()]
}
