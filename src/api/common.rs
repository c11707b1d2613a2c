//! Shapes shared by several kinds: references, storage, scheduling, certificates in status.
//!
//! A reference never leaves its namespace: a namespaced resource that makes an operator read another namespace is how
//! secrets leak ("Breaking the Bulkhead", arXiv 2507.03387).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ehrnet_consent::vocabulary::{GoDuration, LocalRef};

/// What happens to ledgers and CA keys when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Keep the volume with the ledger and the Secrets with CA keys; a resource created again under the same name takes them back.
    #[default]
    Retain,
    /// Delete them with the resource. History on this node and the keys cannot be brought back.
    Delete,
}

/// Persistent volume of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "storage cannot shrink: a volume can only be made larger"))]
#[x_kube(validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "storageClassName is immutable: the volume exists already"))]
pub struct Storage {
    /// Size of the volume, for example `10Gi`. It can grow where the storage class allows expansion, never shrink.
    #[serde(default = "default_storage_size")]
    pub size: Quantity,
    /// Storage class of the volume; the cluster's default class if absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

fn default_storage_size() -> Quantity {
    Quantity("10Gi".into())
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_storage_size(), storage_class_name: None }
    }
}

/// CPU and memory of the node's container (see Kubernetes' ResourceRequirements).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves, for example `{cpu: 100m, memory: 256Mi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may not exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// Where the pod of a node may run (each field as in Kubernetes' PodSpec).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that the Kubernetes node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Affinity rules. Without any, nodes of one kind prefer to stand on different Kubernetes nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Spread over zones or hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// Container image of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Full image reference; the operator's default (Fabric 3.1) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub reference: Option<String>,
    /// When the kubelet pulls: `Always`, `IfNotPresent` or `Never`; Kubernetes' own default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Names of Secrets with registry credentials, in this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<String>,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of the pod.
    Always,
    /// Only where the image is not on the node yet.
    IfNotPresent,
    /// Never: the image must be on the node.
    Never,
}

/// An address under which others reach a node: what `ehrnet_fabric::Endpoint` reads, but for IPv6 addresses, which a
/// network's nodes do not have yet.
pub const ENDPOINT_PATTERN: &str = "^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?:\
    ([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

/// A certificate as status shows it. Never a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Secret that holds the certificate and its key.
    pub secret_name: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the public key (X9.62 uncompressed point), lower-case hexadecimal: a renewal keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// End of validity, RFC 3339, UTC.
    pub not_after: String,
    /// When the operator renews it, RFC 3339, UTC; absent for what it never renews by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<String>,
}
