//! `Channel`: a ledger shared by the hospitals that are its members.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use ehrnet_consent::vocabulary::GoDuration;

/// A channel: one ledger, the hospitals that share it and the orderers that order its blocks.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Channel",
    plural = "channels",
    shortname = "chan",
    category = "ehrnet",
    namespaced,
    status = "ChannelStatus",
    derive = "PartialEq",
    doc = "A channel: one ledger, the hospitals that share it and the orderers that order its blocks.",
    printcolumn(name = "Channel", type_ = "string", json_path = ".spec.channelName"),
    printcolumn(name = "Consensus", type_ = "string", json_path = ".spec.consensus.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Height", type_ = "integer", json_path = ".status.height"),
    printcolumn(name = "Config", type_ = "integer", json_path = ".status.configSequence"),
    printcolumn(name = "Members", type_ = "string", json_path = ".spec.members", priority = 1),
    printcolumn(name = "Genesis", type_ = "string", json_path = ".status.genesisHash", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSpec {
    /// Fabric's name of the channel: lower-case letters, digits, `.` and `-`, starting with a letter. Immutable.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-z][a-z0-9.-]*$"))]
    #[x_kube(validation = ("self == oldSelf", "channelName is immutable: it is written into the genesis block; create a new Channel instead"))]
    pub channel_name: String,
    /// Who orders blocks, and how.
    pub consensus: ConsensusSpec,
    /// Names of the Hospitals that share the ledger. A hospital can be added to a live channel.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub members: Vec<String>,
    /// How transactions are collected into blocks.
    #[serde(default)]
    pub batch: BatchSpec,
    /// Rules about who must agree.
    #[serde(default)]
    pub policies: PolicySpec,
    /// Capability levels (Fabric: feature level that every node of the channel must have).
    #[serde(default)]
    pub capabilities: CapabilitySpec,
}

/// Consensus of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.type != 'BFT' || size(self.orderers) >= 4", "BFT needs at least 4 orderers: with fewer it tolerates no faulty one"))]
#[x_kube(validation = ("!has(self.raft) || self.type == 'Raft'", "raft options are only for consensus type Raft"))]
#[x_kube(validation = ("!has(self.bft) || self.type == 'BFT'", "bft options are only for consensus type BFT"))]
pub struct ConsensusSpec {
    /// `Raft` tolerates crashed orderers, `BFT` also lying ones. Immutable.
    #[serde(rename = "type")]
    #[x_kube(validation = ("self == oldSelf", "consensus type is immutable: it is written into the genesis block"))]
    pub type_: ConsensusType,
    /// Names of the Orderers that order this channel: an odd number for Raft (3 survive one crash), 3f+1 for BFT (4 survive one faulty).
    #[schemars(
        length(min = 1, max = 31),
        inner(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub orderers: Vec<String>,
    /// Options of Raft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft: Option<RaftOptions>,
    /// Options of BFT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bft: Option<BftOptions>,
}

/// Consensus protocol (Fabric: `etcdraft` and `BFT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConsensusType {
    /// Crash fault tolerant.
    Raft,
    /// Byzantine fault tolerant (SmartBFT).
    #[serde(rename = "BFT")]
    Bft,
}

/// Options of Raft (Fabric: `etcdraft.Options`). Ticks are shorter than in Fabric's sample configuration (500ms), as etcd's own are: the first leader is there sooner. An election still begins after 5s of silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.electionTick > self.heartbeatTick", "electionTick must be larger than heartbeatTick"))]
pub struct RaftOptions {
    /// Length of one tick.
    #[serde(default = "tick_interval")]
    pub tick_interval: GoDuration,
    /// Ticks without a leader before an election starts.
    #[serde(default = "election_tick")]
    #[schemars(range(min = 2, max = 1000))]
    pub election_tick: u32,
    /// Ticks between heartbeats of the leader.
    #[serde(default = "heartbeat_tick")]
    #[schemars(range(min = 1, max = 100))]
    pub heartbeat_tick: u32,
    /// Blocks that may be under way to a follower.
    #[serde(default = "max_inflight_blocks")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_inflight_blocks: u32,
    /// Bytes of blocks after which a snapshot is taken.
    #[serde(default = "snapshot_interval_size")]
    #[schemars(range(min = 1_048_576, max = 1_073_741_824))]
    pub snapshot_interval_size: u32,
}

fn tick_interval() -> GoDuration {
    GoDuration::millis(100)
}
fn election_tick() -> u32 {
    50
}
fn heartbeat_tick() -> u32 {
    2
}
fn max_inflight_blocks() -> u32 {
    5
}
fn snapshot_interval_size() -> u32 {
    16 * 1024 * 1024
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            tick_interval: tick_interval(),
            election_tick: election_tick(),
            heartbeat_tick: heartbeat_tick(),
            max_inflight_blocks: max_inflight_blocks(),
            snapshot_interval_size: snapshot_interval_size(),
        }
    }
}

/// Options of BFT (Fabric: `smartbft.Options`; what is not here has Fabric's default).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("duration(self.leaderHeartbeatTimeout) > duration(self.requestForwardTimeout)", "leaderHeartbeatTimeout must be longer than requestForwardTimeout"))]
pub struct BftOptions {
    /// How long an orderer keeps a request before it forwards it to the leader.
    #[serde(default = "request_forward_timeout")]
    pub request_forward_timeout: GoDuration,
    /// How long after that it complains about the leader.
    #[serde(default = "request_complain_timeout")]
    pub request_complain_timeout: GoDuration,
    /// Silence of the leader after which another one is chosen.
    #[serde(default = "leader_heartbeat_timeout")]
    pub leader_heartbeat_timeout: GoDuration,
}

fn request_forward_timeout() -> GoDuration {
    GoDuration::millis(2_000)
}
fn request_complain_timeout() -> GoDuration {
    GoDuration::millis(20_000)
}
fn leader_heartbeat_timeout() -> GoDuration {
    GoDuration::millis(60_000)
}

impl Default for BftOptions {
    fn default() -> Self {
        Self {
            request_forward_timeout: request_forward_timeout(),
            request_complain_timeout: request_complain_timeout(),
            leader_heartbeat_timeout: leader_heartbeat_timeout(),
        }
    }
}

/// How transactions are collected into blocks (Fabric: `BatchSize` and `BatchTimeout`). It can be changed at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.preferredMaxBytes <= self.absoluteMaxBytes", "preferredMaxBytes must not be larger than absoluteMaxBytes"))]
pub struct BatchSpec {
    /// How long a transaction waits for others before its block is cut. Somebody waits for each decision, so it is shorter than in Fabric's sample configuration (2s); an idle channel cuts no blocks either way.
    #[serde(default = "batch_timeout")]
    pub timeout: GoDuration,
    /// Transactions in a block at most.
    #[serde(default = "max_message_count")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_message_count: u32,
    /// Bytes in a block at most.
    #[serde(default = "absolute_max_bytes")]
    #[schemars(range(min = 1024, max = 103_809_024))]
    pub absolute_max_bytes: u32,
    /// Bytes after which a block is cut, where the transactions allow it.
    #[serde(default = "preferred_max_bytes")]
    #[schemars(range(min = 1024, max = 103_809_024))]
    pub preferred_max_bytes: u32,
}

fn batch_timeout() -> GoDuration {
    GoDuration::millis(500)
}
fn max_message_count() -> u32 {
    500
}
fn absolute_max_bytes() -> u32 {
    10 * 1024 * 1024
}
fn preferred_max_bytes() -> u32 {
    2 * 1024 * 1024
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self {
            timeout: batch_timeout(),
            max_message_count: max_message_count(),
            absolute_max_bytes: absolute_max_bytes(),
            preferred_max_bytes: preferred_max_bytes(),
        }
    }
}

/// Rules about who must agree, over the member hospitals (Fabric: implicit meta policies of the application group).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// How many hospitals must approve a chaincode definition.
    #[serde(default)]
    pub lifecycle_endorsement: Quorum,
    /// How many hospitals must endorse a transaction of a chaincode that names no policy of its own.
    #[serde(default)]
    pub endorsement: Quorum,
}

/// How many of the member hospitals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Quorum {
    /// One of them.
    Any,
    /// All of them.
    All,
    /// More than half of them.
    #[default]
    Majority,
}

/// Capability levels of the three parts of a channel's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapabilitySpec {
    /// Level of the channel as a whole.
    #[serde(default = "v3_0")]
    #[schemars(regex(pattern = "^V[0-9]+_[0-9]+(_[0-9]+)?$"), length(max = 16))]
    pub channel: String,
    /// Level of the orderers.
    #[serde(default = "v2_0")]
    #[schemars(regex(pattern = "^V[0-9]+_[0-9]+(_[0-9]+)?$"), length(max = 16))]
    pub orderer: String,
    /// Level of the peers.
    #[serde(default = "v2_5")]
    #[schemars(regex(pattern = "^V[0-9]+_[0-9]+(_[0-9]+)?$"), length(max = 16))]
    pub application: String,
}

fn v3_0() -> String {
    "V3_0".into()
}
fn v2_0() -> String {
    "V2_0".into()
}
fn v2_5() -> String {
    "V2_5".into()
}

impl Default for CapabilitySpec {
    fn default() -> Self {
        Self { channel: v3_0(), orderer: v2_0(), application: v2_5() }
    }
}

/// What the operator saw of a Channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// ConfigMap that holds the genesis block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_config_map: Option<String>,
    /// Hash of the genesis block's header, lower-case hexadecimal. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_hash: Option<String>,
    /// Sequence number of the channel configuration on the ledger; 0 is the genesis block's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sequence: Option<u64>,
    /// Orderers that the configuration on the ledger names consenters; `host:port` for those of another namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consenters: Vec<String>,
    /// Blocks on the orderer that has most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Steps that still separate the ledger's configuration from the declared one, in order; empty when they agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// The channel as each of its nodes sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<ChannelNode>,
}

impl Channel {
    /// Whoever may be a consenter: Orderers that the ledger named when it was last read, and those that are declared.
    pub fn possible_consenters(&self) -> BTreeSet<String> {
        let known = self.status.iter().flat_map(|status| &status.consenters);
        known.chain(&self.spec.consensus.orderers).cloned().collect()
    }
}

/// The channel as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelNode {
    /// Name of the Orderer or Peer.
    pub name: String,
    /// Which of the two it is.
    pub kind: NodeKind,
    /// For an orderer its consensus relation (`consenter`, `follower`, `config-tracker`, `other`); for a peer `member`; `unknown` while it does not answer, `none` before it joined.
    pub relation: String,
    /// For an orderer that the ledger names a consenter: whether it was seen to have the channel. One that has it no more has lost its blocks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// Blocks on the node, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
}

/// Kind of a ledger node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NodeKind {
    /// Orders blocks.
    Orderer,
    /// Keeps a copy of the ledger.
    Peer,
}
