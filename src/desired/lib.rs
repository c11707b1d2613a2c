//! What a declared resource means as Kubernetes objects. Pure: no client, no clock, no I/O.
//!
//! ```text
//! spec ── plan (validated) ── hospital | orderer | peer | chaincode ──> Objects ── apply ──> cluster
//!                          └─ secret (key pairs) and config_map::genesis: created once, apart from the rest
//! ```
//!
//! Builders take plans only and cannot fail. One Kubernetes kind stands in one file; names, labels and owner references
//! stand in `names`. Equal input gives equal output to the byte, or the operator would write without end: no random
//! numbers, no unordered maps.

pub mod chaincode;
pub mod config_map;
pub mod connection;
pub mod couchdb;
pub mod deployment;
pub mod disruption_budget;
pub mod hospital;
pub mod names;
pub mod network_policy;
pub mod node;
pub mod orderer;
pub mod peer;
pub mod plan;
pub mod pod;
pub mod resources;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod stateful_set;
pub mod volume_claim;

#[cfg(test)]
mod tests;

pub use plan::{
    ContractPlan, ContractRelease, CouchDbPlan, DefaultImage, HospitalPlan, IdentityPlan, Material, NodeImages,
    NodePlan, OrdererPlan, PeerPlan, PlanError, Site,
};
pub use resources::Objects;
