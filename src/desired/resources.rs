//! Everything that is applied for one resource, before and after.
//!
//! Status is derived from `Resources<Applied>` only, and that exists only where every object was written or found as
//! declared. Take it apart without `..`, so that a new kind breaks the build where it must be handled.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// State: built, not yet written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {}

/// State: as the API server returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {}

/// The objects of one resource in one of the two states.
///
/// The fields stand in the order in which they are applied: what a pod mounts before the pod, and what makes pods last,
/// or its pod would start with old files and be started again.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources<State> {
    /// The objects.
    pub objects: Objects,
    state: PhantomData<State>,
}

/// The objects by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Accounts of the pods.
    pub service_accounts: Vec<ServiceAccount>,
    /// Public files.
    pub config_maps: Vec<ConfigMap>,
    /// Secrets that follow from other objects (client bundles); key pairs are made once, apart from this.
    pub secrets: Vec<Secret>,
    /// Addresses of the nodes.
    pub services: Vec<Service>,
    /// Who may talk to whom.
    pub network_policies: Vec<NetworkPolicy>,
    /// How many pods a drain may stop at once.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Ledgers and databases.
    pub volume_claims: Vec<PersistentVolumeClaim>,
    /// The nodes.
    pub stateful_sets: Vec<StatefulSet>,
    /// The contracts.
    pub deployments: Vec<Deployment>,
}

impl Resources<Prepared> {
    /// Objects that are to be applied.
    pub fn prepared(objects: Objects) -> Self {
        Self { objects, state: PhantomData }
    }
}

impl Resources<Applied> {
    /// Objects as the API server has them now. Only for the room that writes.
    pub fn applied(objects: Objects) -> Self {
        Self { objects, state: PhantomData }
    }
}
