//! Client of an orderer's broadcast and deliver services.
//!
//! The traps: `SUCCESS` means accepted for ordering, not ordered; and an orderer that does not have a channel refuses a
//! broadcast with 400, like any bad message.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream;
use prost::Message;
use tonic::Streaming;

use super::blocks;
use super::envelope::{Stamp, signed};
use super::error::LedgerError;
use super::grpc::{Connection, MAX_ANSWER, MAX_BLOCK, MAX_SENT};
use super::identity::SigningIdentity;
use super::net::{ActKind, Network, Target};
use super::policy::bft_quorum;
use super::proto::common::{Block, Envelope, HeaderType, Status};
use super::proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use super::proto::orderer::seek_info::{SeekBehavior, SeekErrorResponse};
use super::proto::orderer::seek_position::Type as Position;
use super::proto::orderer::{DeliverResponse, SeekInfo, SeekNewest, SeekPosition, SeekSpecified, deliver_response};
use super::view::ChannelView;

const READ: Duration = Duration::from_secs(15);
const BROADCAST: Duration = Duration::from_secs(30);

/// A client of one orderer's gRPC port, as one identity.
pub struct Client {
    connection: Connection,
    signer: Arc<SigningIdentity>,
}

impl Client {
    /// A client; it connects with its first call and keeps the connection.
    pub fn new(network: Arc<dyn Network>, target: &Target, signer: Arc<SigningIdentity>) -> Result<Self, LedgerError> {
        Ok(Self { connection: Connection::new(network, target)?, signer })
    }

    /// Sends `envelope` to be ordered; `kind` and `channel` say what it is.
    ///
    /// # Errors
    /// `Refused`: 400 if a policy or version does not fit or the orderer does not have the channel, 403 if the signer
    /// may not write, 503 while there is no leader.
    pub async fn broadcast(&self, envelope: &Envelope, kind: ActKind, channel: &str) -> Result<(), LedgerError> {
        let envelope = envelope.clone();
        let send = |transport| async move {
            let mut client = AtomicBroadcastClient::new(transport)
                .max_decoding_message_size(MAX_ANSWER)
                .max_encoding_message_size(MAX_SENT);
            let mut answers = client
                .broadcast(stream::iter([envelope]))
                .await
                .map_err(|s| LedgerError::from_status(self.node(), s))?
                .into_inner();
            let answer = answers.message().await.map_err(|s| LedgerError::from_status(self.node(), s))?;
            let answer = answer.ok_or_else(|| LedgerError::unreachable(self.node(), "no answer to the broadcast"))?;
            if answer.status() == Status::Success {
                return Ok(());
            }
            Err(self.refused(answer.status, answer.info))
        };
        self.connection.dialer.write(kind, channel, self.connection.call(BROADCAST, send)).await
    }

    /// The newest block of `channel`.
    pub async fn newest_block(&self, channel: &str) -> Result<Block, LedgerError> {
        self.seek(channel, Position::Newest(SeekNewest {}), SeekBehavior::FailIfNotReady, READ).await
    }

    /// Block `number` of `channel`; `NotFound` if there is no such block yet.
    pub async fn block(&self, channel: &str, number: u64) -> Result<Block, LedgerError> {
        let position = Position::Specified(SeekSpecified { number });
        self.seek(channel, position, SeekBehavior::FailIfNotReady, READ).await
    }

    /// Block `number` of `channel` as soon as the orderer has it; `Unreachable` if that takes longer than `patience`.
    pub async fn wait_for_block(&self, channel: &str, number: u64, patience: Duration) -> Result<Block, LedgerError> {
        let position = Position::Specified(SeekSpecified { number });
        self.seek(channel, position, SeekBehavior::BlockUntilReady, patience).await
    }

    /// The block with the configuration of `channel` that is in force.
    pub async fn config_block(&self, channel: &str) -> Result<Block, LedgerError> {
        let newest = self.newest_block(channel).await?;
        let number = self.last_config(&newest)?;
        if number == blocks::number(&newest) { Ok(newest) } else { self.block(channel, number).await }
    }

    /// Number of the configuration block in force when `block` was made.
    pub fn last_config(&self, block: &Block) -> Result<u64, LedgerError> {
        blocks::last_config(block)
            .map_err(|e| LedgerError::Invalid(format!("block {} of {}: {e}", blocks::number(block), self.node())))
    }

    async fn seek(
        &self,
        channel: &str,
        position: Position,
        behavior: SeekBehavior,
        deadline: Duration,
    ) -> Result<Block, LedgerError> {
        let position = Some(SeekPosition { r#type: Some(position) });
        let seek = SeekInfo {
            start: position,
            stop: position,
            behavior: behavior.into(),
            // Blocks stay true while there is no leader; what would be stale is caught by versions.
            error_response: SeekErrorResponse::BestEffort.into(),
            ..Default::default()
        };
        let request = signed(&self.signer, HeaderType::DeliverSeekInfo, channel, seek.encode_to_vec(), &Stamp::now());
        let send = |transport| async move {
            let mut client = AtomicBroadcastClient::new(transport).max_decoding_message_size(MAX_BLOCK);
            let answers = client.deliver(stream::iter([request])).await;
            let answers = answers.map_err(|s| LedgerError::from_status(self.node(), s))?.into_inner();
            self.first_block(channel, answers).await
        };
        self.connection.call(deadline, send).await
    }

    async fn first_block(&self, channel: &str, mut from: Streaming<DeliverResponse>) -> Result<Block, LedgerError> {
        let answer = from.message().await.map_err(|s| LedgerError::from_status(self.node(), s))?;
        match answer.and_then(|a| a.r#type) {
            Some(deliver_response::Type::Block(block)) => Ok(block),
            Some(deliver_response::Type::Status(status)) if status == i32::from(Status::NotFound) => {
                Err(LedgerError::NotFound {
                    node: self.node().into(),
                    what: format!("such block of channel {channel}"),
                })
            }
            Some(deliver_response::Type::Status(status)) => {
                Err(self.refused(status, format!("delivery of channel {channel}")))
            }
            None => Err(LedgerError::unreachable(self.node(), "the delivery ended without an answer")),
        }
    }

    fn refused(&self, status: i32, message: String) -> LedgerError {
        let status = u16::try_from(status).unwrap_or(500);
        LedgerError::Refused { node: self.node().into(), status, message }
    }

    /// `host:port` of the orderer.
    pub fn node(&self) -> &str {
        &self.connection.dialer.node
    }
}

/// Sends `envelope` the way the consensus of the channel, of which `view` is, needs it.
///
/// # Errors
/// Raft: the last orderer's that was unreachable, had no leader or refused with 400; any other refusal ends the round.
/// BFT: that of an orderer that did not accept, if too few did; `Invalid` if fewer than a quorum were to be asked.
pub async fn broadcast(
    orderers: &[&Client],
    view: &ChannelView,
    envelope: &Envelope,
    kind: ActKind,
    channel: &str,
) -> Result<(), LedgerError> {
    if view.is_bft {
        broadcast_quorum(orderers, view.consenters.len(), envelope, kind, channel).await
    } else {
        broadcast_any(orderers, envelope, kind, channel).await
    }
}

/// Sends `envelope` to orderers one after the other until one accepts it. For Raft, where any orderer passes it on.
async fn broadcast_any(
    orderers: &[&Client],
    envelope: &Envelope,
    kind: ActKind,
    channel: &str,
) -> Result<(), LedgerError> {
    let mut last = LedgerError::Invalid(format!("channel {channel} has no orderer to send to"));
    for orderer in orderers {
        match orderer.broadcast(envelope, kind, channel).await {
            Ok(()) => return Ok(()),
            // 400 is also what a follower says, and another orderer's answer may be a better one.
            Err(e @ (LedgerError::Unreachable { .. } | LedgerError::Refused { status: 400 | 503, .. })) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

/// Sends `envelope` to all of `orderers`; a quorum of the channel's `consenters` must accept it. For BFT, where one
/// orderer may answer falsely.
async fn broadcast_quorum(
    orderers: &[&Client],
    consenters: usize,
    envelope: &Envelope,
    kind: ActKind,
    channel: &str,
) -> Result<(), LedgerError> {
    let quorum = bft_quorum(consenters);
    if orderers.len() < quorum {
        let known = orderers.len();
        let what = format!("channel {channel} needs {quorum} of {consenters} orderers, and only {known} can be asked");
        return Err(LedgerError::Invalid(what));
    }
    let outcomes = join_all(orderers.iter().map(|o| o.broadcast(envelope, kind, channel))).await;
    let (yes, no): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(accepted);
    match no.into_iter().next() {
        Some(refused) if yes.len() < quorum => refused,
        _ => Ok(()),
    }
}

/// An orderer that has the request from another one already has accepted it, too.
fn accepted(outcome: &Result<(), LedgerError>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(LedgerError::Refused { status: 503, message, .. }) => message.contains("request already exists"),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quorum_is_of_the_channels_consenters_not_of_those_that_can_be_asked() {
        let error = broadcast_quorum(&[], 4, &Envelope::default(), ActKind::ConfigUpdate, "records").await;
        assert_eq!(
            error.expect_err("nobody to ask").to_string(),
            "channel records needs 3 of 4 orderers, and only 0 can be asked"
        );
    }

    #[test]
    fn only_a_request_that_is_there_already_makes_a_refusal_a_yes() {
        let refused = |status, message: &str| {
            accepted(&Err(LedgerError::Refused { node: "o:7050".into(), status, message: message.into() }))
        };
        assert!(refused(503, "failed to submit request: request already exists"));
        assert!(!refused(503, "no Raft leader"));
        assert!(!refused(400, "request already exists"));
        assert!(!accepted(&Err(LedgerError::unreachable("o:7050", "gone"))));
    }
}
