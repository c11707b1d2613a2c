//! Replication of one channel between its orderers, by the crate `openraft`; there is no consensus code of our own.
//!
//! What is replicated is a batch of ordered envelopes, not a block: each node makes the same block of the same batch,
//! so a change of leader cannot leave two blocks that claim one number. A snapshot holds no data, only "up to block n":
//! a node that lags behind pulls the blocks from others, as in Fabric.

pub mod log;
pub mod machine;
pub mod network;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openraft::{Config, EmptyNode, SnapshotPolicy};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of our raft groups: consenter ids of Fabric are the node ids.
    pub TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
        SnapshotData = Checkpoint,
);

/// A raft group's handle.
pub type Raft = openraft::Raft<TypeConfig>;

/// Envelopes that become one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Sequence of the configuration under which the envelopes were found valid. If another one is in force when the
    /// batch is applied, every node drops it alike.
    pub config_sequence: u64,
    /// Encoded `common.Envelope`s.
    #[serde(with = "base64_list")]
    pub envelopes: Vec<Vec<u8>>,
}

/// A snapshot's content: blocks below `height` are in the ledger of whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Number of blocks.
    pub height: u64,
}

/// Timing of a raft group, from the channel's `etcdraft.Options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Length of a tick.
    pub tick: Duration,
    /// Ticks without a leader before an election.
    pub election: u32,
    /// Ticks between heartbeats.
    pub heartbeat: u32,
}

impl Timing {
    /// How long a leader may be silent.
    pub fn election_timeout(self) -> Duration {
        self.tick * self.election
    }

    /// The crate's configuration. A follower there waits for the longest election timeout (the leader's lease) and then
    /// for a random one; both together are one to one and a fifth of Fabric's election timeout.
    ///
    /// # Errors
    /// The crate's words when the ticks contradict each other.
    pub fn config(self, channel: &str) -> Result<Arc<Config>, String> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1);
        let heartbeat = millis(self.tick * self.heartbeat);
        let election = millis(self.election_timeout());
        let shortest = (election * 2 / 5).max(heartbeat + 1);
        let longest = (election * 3 / 5).max(shortest + 1);
        let config = Config {
            cluster_name: channel.to_owned(),
            heartbeat_interval: heartbeat,
            election_timeout_min: shortest,
            election_timeout_max: longest,
            install_snapshot_timeout: 60_000,
            max_payload_entries: 16,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(256),
            max_in_snapshot_log_to_keep: 64,
            replication_lag_threshold: 512,
            ..Default::default()
        };
        config.validate().map(Arc::new).map_err(|e| e.to_string())
    }
}

mod base64_list {
    use super::{Deserialize, Engine, STANDARD};
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|item| STANDARD.encode(item)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        list.iter().map(|item| STANDARD.decode(item).map_err(D::Error::custom)).collect()
    }
}
