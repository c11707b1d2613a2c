//! The resource types of `ehrnet.dev/v1alpha1`: the only place that defines a field name.
//!
//! Invariant: nothing here talks to a cluster. Rules that one object can break by itself are CEL rules in its schema
//! (refused at admission); rules that need a second object become conditions.

// What derives write as `::kube::core` is kube-core here: it has no client, so the compiler holds that wall.
extern crate self as kube;
#[doc(hidden)]
pub use kube_core as core;
#[doc(hidden)]
pub use kube_derive::KubeSchema;

pub mod chaincode;
pub mod channel;
pub mod common;
pub mod conditions;
pub mod consent_policy;
pub mod hospital;
pub mod identity;
mod kind;
pub mod node;
mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

pub use chaincode::{Chaincode, ChaincodeSpec, ChaincodeStatus};
pub use channel::{Channel, ChannelSpec, ChannelStatus};
pub use consent_policy::{ConsentPolicy, ConsentPolicySpec, ConsentPolicyStatus};
pub use hospital::{Hospital, HospitalSpec, HospitalStatus};
pub use identity::{Identity, IdentitySpec, IdentityStatus};
pub use kind::Kind;
pub use node::{NodeStatus, Orderer, OrdererSpec, Peer, PeerSpec};
pub use status::Status;

/// API group of every kind.
pub const GROUP: &str = "ehrnet.dev";

/// The definitions of all kinds, as `crds/` and the chart hold them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds: Vec<_> = Kind::ALL.iter().map(|kind| kind.crd()).collect();
    let versions = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions);
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()).for_each(known_formats);
    crds
}

/// Takes away number formats that OpenAPI does not know (`uint32`, `uint64`): the API server warns users about them.
/// The range says the same.
fn known_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(known_formats);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => known_formats(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(known_formats),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        known_formats(values);
    }
}
