//! Sends a raft group's messages to the other consenters of its channel.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::{Snapshot, SnapshotMeta};
use openraft::{EmptyNode, OptionalSend, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Raft, TypeConfig};
use crate::orderer::cluster::{CallError, Cluster};

/// A raft message on its way.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// Entries or a heartbeat.
    Append {
        /// The request.
        request: AppendEntriesRequest<TypeConfig>,
        /// The consenters that answer the leader.
        active: BTreeSet<u64>,
    },
    /// A candidate asks for a vote.
    Vote(VoteRequest<u64>),
    /// A snapshot for a node that lags behind.
    Snapshot {
        /// The leader's vote.
        vote: Vote<u64>,
        /// What the snapshot is of.
        meta: SnapshotMeta<u64, EmptyNode>,
        /// Its content.
        checkpoint: Checkpoint,
    },
}

/// Makes the clients of one channel's group.
pub struct Network {
    /// The channel.
    pub channel: String,
    /// Connections to other orderers.
    pub cluster: Arc<Cluster>,
    /// This node's id.
    pub id: u64,
}

/// Talks to one node of the group.
pub struct Client {
    channel: String,
    cluster: Arc<Cluster>,
    id: u64,
    target: u64,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        Client { channel: self.channel.clone(), cluster: self.cluster.clone(), id: self.id, target }
    }
}

type Answer<T> = Result<T, RPCError<u64, EmptyNode, RaftError<u64>>>;

impl Client {
    async fn call<T: DeserializeOwned>(&self, message: &Message, option: &RPCOption) -> Result<T, CallError> {
        let body = serde_json::to_vec(message).map_err(|e| CallError::Malformed(e.to_string()))?;
        let reply = self.cluster.step(&self.channel, self.target, body, option.hard_ttl()).await?;
        serde_json::from_slice(&reply).map_err(|e| CallError::Malformed(e.to_string()))
    }

    async fn raft_call<T: DeserializeOwned>(&self, message: Message, option: &RPCOption) -> Answer<T> {
        let answer: Result<Result<T, RaftError<u64>>, CallError> = self.call(&message, option).await;
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(RPCError::RemoteError(RemoteError::new(self.target, refusal))),
            Err(error @ CallError::Malformed(_)) => Err(RPCError::Network(NetworkError::new(&error))),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }
}

impl RaftNetwork<TypeConfig> for Client {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        let active = self.cluster.active(&self.channel, self.id, true, RECENT);
        self.raft_call(Message::Append { request, active }, &option).await
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Answer<VoteResponse<u64>> {
        self.raft_call(Message::Vote(request), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let message = Message::Snapshot { vote, meta: snapshot.meta, checkpoint: *snapshot.snapshot };
        let answer: Result<Result<SnapshotResponse<u64>, Fatal<u64>>, CallError> = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = self.call(&message, &option) => answer,
        };
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(StreamingError::RemoteError(RemoteError::new(self.target, refusal))),
            Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }
}

/// A consenter counts as active for so long after its last answer.
const RECENT: Duration = Duration::from_secs(5);

/// Hand a received message to the group and encode its answer.
///
/// # Errors
/// The message or the answer cannot be read or written.
pub async fn receive(raft: &Raft, cluster: &Cluster, channel: &str, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    match serde_json::from_slice(body)? {
        Message::Append { request, active } => {
            cluster.tell(channel, active);
            serde_json::to_vec(&raft.append_entries(request).await)
        }
        Message::Vote(request) => serde_json::to_vec(&raft.vote(request).await),
        Message::Snapshot { vote, meta, checkpoint } => {
            let snapshot = Snapshot { meta, snapshot: Box::new(checkpoint) };
            serde_json::to_vec(&raft.install_full_snapshot(vote, snapshot).await)
        }
    }
}
