//! `Chaincode`: a smart contract on a channel, run by each member hospital for itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Image, LocalRef, Resources};

/// A smart contract on a channel. Each member hospital runs it as a service of its own; the hospitals agree on one definition.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Chaincode",
    plural = "chaincodes",
    shortname = "cc",
    category = "ehrnet",
    namespaced,
    status = "ChaincodeStatus",
    derive = "PartialEq",
    doc = "A smart contract on a channel. Each member hospital runs it as a service of its own; the hospitals agree on one definition. Deleting it stops the services; the definition and all data stay on the ledger.",
    printcolumn(name = "Channel", type_ = "string", json_path = ".spec.channelRef.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Sequence", type_ = "integer", json_path = ".status.sequence"),
    printcolumn(name = "Approved", type_ = "string", json_path = ".status.approvals"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Endorsement", type_ = "string", json_path = ".status.endorsement", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 20", "metadata.name must be a DNS label that starts with a letter, at most 20 characters: <name>-<hospital> is the name of each hospital's Service")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.chaincodeName) == has(oldSelf.chaincodeName) && (!has(self.chaincodeName) || self.chaincodeName == oldSelf.chaincodeName)", "chaincodeName is immutable: the data on the ledger is kept under it; create a new Chaincode instead"))]
pub struct ChaincodeSpec {
    /// The Channel that it is defined on. Immutable.
    #[x_kube(validation = ("self.name == oldSelf.name", "channelRef is immutable: its definition and data are on that channel's ledger; create a new Chaincode instead"))]
    pub channel_ref: LocalRef,
    /// Name on the ledger; the name of this resource if absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$"))]
    pub chaincode_name: Option<String>,
    /// Container image of the service (Fabric: chaincode as a service); this project's health-record contract if it names none. Another image is rolled out without a new definition.
    #[serde(default)]
    pub image: Image,
    /// Version in the definition. Another version, endorsement or set of collections makes a new sequence of the definition, on which the hospitals agree again.
    #[serde(default = "version")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_.+-]+$"))]
    pub version: String,
    /// Which hospitals must endorse a transaction; the channel's `policies.endorsement` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<EndorsementSpec>,
    /// Collections of private data; those of the health-record contract if absent. None of them can be removed later.
    #[serde(default = "contract_collections")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = ("oldSelf.all(old, self.exists(new, new.name == old.name))", "a collection cannot be removed or renamed: its hashes are on the ledger"))]
    pub collections: Vec<CollectionSpec>,
    /// Whether the first transaction must be the one that initialises the contract (Fabric: `--init-required`). A client sends it; the operator does not. Prefer contracts that need none.
    #[serde(default)]
    pub init_required: bool,
    /// CPU and memory of each hospital's service.
    #[serde(default)]
    pub resources: Resources,
}

fn version() -> String {
    "1.0".into()
}

/// What the health-record contract keeps in private, and every member hospital needs for its decisions.
fn contract_collections() -> Vec<CollectionSpec> {
    ["audit", "consents", "records"].map(CollectionSpec::of_all_members).into()
}

/// Which member hospitals must endorse a transaction (Fabric: signature policy over their peers).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.allOf) ? 1 : 0) + (has(self.anyOf) ? 1 : 0) + (has(self.outOf) ? 1 : 0) == 1", "endorsement needs exactly one of allOf, anyOf and outOf"))]
pub struct EndorsementSpec {
    /// Every one of these Hospitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub all_of: Option<Vec<String>>,
    /// One of these Hospitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub any_of: Option<Vec<String>>,
    /// A number of these Hospitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of: Option<OutOfSpec>,
}

/// A number of hospitals out of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.count <= size(self.hospitals)", "count must not be larger than the number of hospitals"))]
pub struct OutOfSpec {
    /// How many.
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
    /// Names of the Hospitals.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub hospitals: Vec<String>,
}

/// A collection of private data: its members' peers keep the data, the ledger its hashes (Fabric: `StaticCollectionConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.requiredPeerCount <= self.maxPeerCount", "requiredPeerCount must not be larger than maxPeerCount"))]
pub struct CollectionSpec {
    /// Name of the collection.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-][A-Za-z0-9_-]*$"))]
    pub name: String,
    /// Names of the Hospitals that keep the data; every member of the channel if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub members: Vec<String>,
    /// Other peers that must have the data before a peer endorses. More than 0 costs availability and saves data where one hospital's endorsement is enough.
    #[serde(default)]
    #[schemars(range(max = 64))]
    pub required_peer_count: u32,
    /// Other peers that a peer sends the data to when it endorses; the others fetch it later.
    #[serde(default = "max_peer_count")]
    #[schemars(range(max = 64))]
    pub max_peer_count: u32,
    /// Blocks after which the data is removed from the peers; 0 keeps it. It counts blocks and not time. Immutable.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    #[x_kube(validation = ("self == oldSelf", "blockToLive is immutable"))]
    pub block_to_live: u64,
    /// Whether only clients of member hospitals may read.
    #[serde(default = "yes")]
    pub member_only_read: bool,
    /// Whether only clients of member hospitals may write.
    #[serde(default = "yes")]
    pub member_only_write: bool,
}

fn max_peer_count() -> u32 {
    3
}

fn yes() -> bool {
    true
}

impl CollectionSpec {
    /// A collection that every member of the channel keeps for ever.
    fn of_all_members(name: &str) -> Self {
        Self {
            name: name.into(),
            members: Vec::new(),
            required_peer_count: 0,
            max_peer_count: max_peer_count(),
            block_to_live: 0,
            member_only_read: true,
            member_only_write: true,
        }
    }
}

/// What the operator saw of a Chaincode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Sequence of the definition that is committed on the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// Version of the definition that is committed on the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who must endorse, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
    /// How many of the member hospitals have approved the declared definition, as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<String>,
    /// The contract at each member hospital.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hospitals: Vec<ChaincodeHospital>,
}

/// The contract as one hospital has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeHospital {
    /// Name of the Hospital.
    pub name: String,
    /// Identifier of its package: label and SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_id: Option<String>,
    /// Its peers that have the package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<String>,
    /// Whether it has approved the declared definition with this package.
    #[serde(default)]
    pub approved: bool,
    /// Whether its service is ready.
    #[serde(default)]
    pub ready: bool,
    /// TLS certificate of its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<super::common::CertificateStatus>,
}
