//! `Orderer` and `Peer`: the ledger nodes of a hospital.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{CertificateStatus, DeletionPolicy, Image, LocalRef, Resources, Scheduling, Storage};

/// An ordering node: it puts transactions of its channels into blocks, together with the channels' other orderers.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Orderer",
    plural = "orderers",
    shortname = "ord",
    category = "ehrnet",
    namespaced,
    status = "NodeStatus",
    derive = "PartialEq",
    doc = "An ordering node: it puts transactions of its channels into blocks, together with the channels' other orderers.",
    printcolumn(name = "Hospital", type_ = "string", json_path = ".spec.hospitalRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Channels", type_ = "string", json_path = ".status.channelNames"),
    printcolumn(name = "Ledger", type_ = "string", json_path = ".status.ledger"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address", priority = 1),
    printcolumn(name = "Cert-Expires", type_ = "string", json_path = ".status.tls.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct OrdererSpec {
    /// The Hospital that runs this orderer. Immutable.
    #[x_kube(validation = ("self.name == oldSelf.name", "hospitalRef is immutable: the node's identity belongs to that hospital"))]
    pub hospital_ref: LocalRef,
    /// What every ledger node has: image, storage, resources, scheduling.
    #[serde(flatten)]
    pub node: NodeSpec,
}

/// A peer: it keeps a copy of the ledger of each channel it joined, for its hospital.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Peer",
    plural = "peers",
    category = "ehrnet",
    namespaced,
    status = "NodeStatus",
    derive = "PartialEq",
    doc = "A peer: it keeps a copy of the ledger of each channel it joined, for its hospital.",
    printcolumn(name = "Hospital", type_ = "string", json_path = ".spec.hospitalRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Channels", type_ = "string", json_path = ".status.channelNames"),
    printcolumn(name = "Ledger", type_ = "string", json_path = ".status.ledger"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address", priority = 1),
    printcolumn(name = "Cert-Expires", type_ = "string", json_path = ".status.tls.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.couchdb) || self.stateDatabase == 'CouchDB'", "couchdb is only for stateDatabase: CouchDB"))]
pub struct PeerSpec {
    /// The Hospital that runs this peer. Immutable.
    #[x_kube(validation = ("self.name == oldSelf.name", "hospitalRef is immutable: the node's identity belongs to that hospital"))]
    pub hospital_ref: LocalRef,
    /// Names of the Channel resources that this peer joins. A peer never leaves a channel by itself: removing a name here only stops the operator from looking after it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub channels: Vec<String>,
    /// Whether peers of other hospitals find this hospital through this peer (Fabric: anchor peer).
    #[serde(default = "yes")]
    pub anchor: bool,
    /// Where the current state is kept. Immutable.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "stateDatabase is immutable: the ledger on the volume was written for it"))]
    pub state_database: StateDatabase,
    /// Settings of the CouchDB beside the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub couchdb: Option<CouchDbSpec>,
    /// What every ledger node has: image, storage, resources, scheduling.
    #[serde(flatten)]
    pub node: NodeSpec,
}

fn yes() -> bool {
    true
}

/// What an orderer and a peer have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Container image.
    #[serde(default)]
    pub image: Image,
    /// Volume with the ledger.
    #[serde(default)]
    pub storage: Storage,
    /// CPU and memory.
    #[serde(default)]
    pub resources: Resources,
    /// `host:port` under which nodes and clients outside this cluster reach it. It is put into the TLS certificate and the channel configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = super::common::ENDPOINT_PATTERN))]
    pub external_endpoint: Option<String>,
    /// Where the pod may run.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// What happens to the volume with the ledger when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// State database of a peer (Fabric: `ledger.state.stateDatabase`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateDatabase {
    /// Embedded key-value store.
    #[default]
    LevelDB,
    /// CouchDB in the peer's pod, with JSON queries.
    CouchDB,
}

/// The CouchDB beside a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CouchDbSpec {
    /// Container image; the operator's default if absent.
    #[serde(default)]
    pub image: Image,
    /// Volume with the database.
    #[serde(default)]
    pub storage: Storage,
    /// CPU and memory.
    #[serde(default)]
    pub resources: Resources,
}

/// A channel as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeChannel {
    /// Fabric's name of the channel.
    pub name: String,
    /// Blocks on this node.
    pub height: u64,
}

impl NodeChannel {
    /// Names of channels in one text, for people; `None` if there are none.
    pub fn names(channels: &[Self]) -> Option<String> {
        let names: Vec<_> = channels.iter().map(|channel| channel.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(","))
    }
}

/// What the operator saw of an Orderer or a Peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// `host:port` of the node inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The ledger software, as the node reports it, for example `Fabric 3.1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Identity certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<CertificateStatus>,
    /// TLS certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateStatus>,
    /// Channels that this node takes part in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<NodeChannel>,
    /// Names of `channels` in one text: a column of `kubectl get` cannot show more than the first of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_names: Option<String>,
}

impl NodeStatus {
    /// Whether the node has a channel of that name of Fabric's.
    pub fn has_channel(&self, name: &str) -> bool {
        self.channels.iter().any(|channel| channel.name == name)
    }
}
