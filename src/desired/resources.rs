//! Everything that is applied for one resource. Take it apart without `..`, so that a new kind breaks the build where it must
//! be handled.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// The objects of one resource by kind.
///
/// The fields stand in the order in which they are applied: what a pod mounts before the pod, and what makes pods last,
/// or its pod would start with old files and be started again.
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
