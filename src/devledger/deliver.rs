//! Delivery of blocks to clients, the same for orderers and peers: seek requests, access control, waiting.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use tokio::sync::{mpsc, watch};
use tonic::{Status as Grpc, Streaming};

use super::channel::{self, Opened, SignedData, certificate};
use super::faults::{Faults, Operation};
use super::ledger::ChannelLedger;
use super::stop::Stop;
use ehrnet_fabric::proto::common::{Block, Envelope, Status};
use ehrnet_fabric::proto::orderer::seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse};
use ehrnet_fabric::proto::orderer::{SeekInfo, SeekPosition, seek_position::Type};

/// Where blocks come from, and who may have them.
pub trait Library: Send + Sync + 'static {
    /// The channel's ledger, if it is delivered here.
    fn ledger(&self, channel: &str) -> Option<Arc<ChannelLedger>>;

    /// Whether the signer may read the channel.
    ///
    /// # Errors
    /// Why not.
    fn may_read(&self, ledger: &ChannelLedger, request: SignedData) -> Result<(), String>;

    /// Whether what makes the channel's blocks has failed, as it changes; `None` where that cannot be.
    fn errored(&self, channel: &str) -> Option<watch::Receiver<bool>>;
}

/// One message to the client.
pub enum Item {
    /// A block.
    Block {
        /// The channel, for responses that name it.
        channel: String,
        /// The block.
        block: Block,
        /// Who asked (`msp.SerializedIdentity`).
        reader: Vec<u8>,
    },
    /// The end of one request.
    Status(Status),
}

/// Answers the requests of one stream.
pub struct Delivery<L> {
    /// The blocks.
    pub library: Arc<L>,
    /// How far a request's timestamp may be off.
    pub time_window: Duration,
    /// Faults to play.
    pub faults: Faults,
    /// The node is stopping.
    pub stop: Stop,
}

/// Why a request ends before its last block.
enum End {
    /// The client went away.
    Gone,
    /// With this status.
    Status(Status),
}

/// What may happen while a block is waited for.
struct Changes {
    heights: watch::Receiver<u64>,
    errored: Option<watch::Receiver<bool>>,
}

impl<L: Library> Delivery<L> {
    /// Answer until the client ends, a request fails, or the node stops.
    pub async fn run<R: Send + 'static>(
        mut self,
        mut requests: Streaming<Envelope>,
        responses: mpsc::Sender<Result<R, Grpc>>,
        encode: impl Fn(Item) -> R + Send + 'static,
    ) {
        loop {
            let request = tokio::select! {
                () = self.stop.requested() => return,
                request = requests.message() => request,
            };
            let request = match request {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "deliver stream ended");
                    return;
                }
            };
            let status = match self.answer(&request, &responses, &encode).await {
                Ok(()) => Status::Success,
                Err(End::Status(status)) => status,
                Err(End::Gone) => return,
            };
            let sent = responses.send(Ok(encode(Item::Status(status)))).await;
            if sent.is_err() || status != Status::Success {
                return;
            }
        }
    }

    /// Sends the blocks that a request asks for.
    async fn answer<R>(
        &mut self,
        request: &Envelope,
        responses: &mpsc::Sender<Result<R, Grpc>>,
        encode: &impl Fn(Item) -> R,
    ) -> Result<(), End> {
        let (opened, seek, ledger) = self.read(request).await.map_err(|(status, reason)| {
            tracing::warn!(reason, status = status.as_str_name(), "rejecting deliver request");
            End::Status(status)
        })?;
        let (start, stop) = range(&seek, ledger.height()).ok_or(End::Status(Status::BadRequest))?;
        if start > ledger.height() {
            // As Fabric: only the very next block is waited for.
            return Err(End::Status(Status::NotFound));
        }
        let errored = self.errored(ledger.channel(), &seek);
        let mut changes = Changes { heights: ledger.watch_height(), errored };
        let expires = certificate::expires_at(&opened.signature.creator);
        let mut permitted_under = None;
        for number in start..=stop {
            if ledger.height() <= number {
                if seek.behavior == i32::from(SeekBehavior::FailIfNotReady) {
                    return Err(End::Status(Status::NotFound));
                }
                self.wait_for_block(number, &mut changes, responses).await?;
            }
            let block = stored(&ledger, number)?;
            if expires.is_some_and(|end| end < now_seconds()) {
                return Err(End::Status(Status::Forbidden));
            }
            // A new configuration may have taken the reader's right away.
            let sequence = ledger.bundle().map(|bundle| bundle.sequence());
            if permitted_under != sequence {
                self.permit(&ledger, request).map_err(|reason| {
                    tracing::warn!(channel = ledger.channel(), reason, "client may not read");
                    End::Status(Status::Forbidden)
                })?;
                permitted_under = sequence;
            }
            let item = Item::Block {
                channel: ledger.channel().to_owned(),
                block: trim(block, &seek),
                reader: opened.signature.creator.clone(),
            };
            responses.send(Ok(encode(item))).await.map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    /// Returns when the ledger has block `number`.
    async fn wait_for_block<R>(
        &mut self,
        number: u64,
        changes: &mut Changes,
        responses: &mpsc::Sender<Result<R, Grpc>>,
    ) -> Result<(), End> {
        tokio::select! {
            () = self.stop.requested() => Err(End::Status(Status::ServiceUnavailable)),
            () = responses.closed() => Err(End::Gone),
            () = failure(&mut changes.errored) => Err(End::Status(Status::ServiceUnavailable)),
            grown = changes.heights.wait_for(|height| *height > number) => {
                grown.map(drop).map_err(|_| End::Status(Status::NotFound))
            }
        }
    }

    /// Everything that can be wrong with a request before a block is looked for.
    async fn read(&self, request: &Envelope) -> Result<(Opened, SeekInfo, Arc<ChannelLedger>), (Status, String)> {
        let bad = |reason: String| (Status::BadRequest, reason);
        let opened = channel::open(request).map_err(bad)?;
        let timestamp = opened.channel.timestamp.ok_or_else(|| bad("channel header has no timestamp".into()))?;
        if !within(timestamp.seconds, self.time_window) {
            return Err(bad("the request's timestamp is too far from this node's clock".into()));
        }
        let name = &opened.channel.channel_id;
        let injection = self.faults.inject(Operation::Deliver, name).await;
        if let Some(refusal) = injection.refusal {
            let status = Status::try_from(i32::from(refusal.status)).unwrap_or(Status::ServiceUnavailable);
            return Err((status, refusal.message));
        }
        let not_found = || (Status::NotFound, format!("channel {name} not found"));
        let ledger = self.library.ledger(name).ok_or_else(not_found)?;
        let seek =
            SeekInfo::decode(opened.data.as_slice()).map_err(|e| bad(format!("malformed seekInfo payload: {e}")))?;
        if self.errored(name, &seek).is_some_and(|errored| *errored.borrow()) {
            return Err((Status::ServiceUnavailable, "the channel has no leader".into()));
        }
        if certificate::expires_at(&opened.signature.creator).is_some_and(|end| end < now_seconds()) {
            return Err((Status::Forbidden, "deliver client identity expired".into()));
        }
        self.permit(&ledger, request).map_err(|reason| (Status::Forbidden, reason))?;
        Ok((opened, seek, ledger))
    }

    /// A request may ask for blocks in spite of failures.
    fn errored(&self, channel: &str, seek: &SeekInfo) -> Option<watch::Receiver<bool>> {
        let strict = seek.error_response != i32::from(SeekErrorResponse::BestEffort);
        strict.then(|| self.library.errored(channel)).flatten()
    }

    fn permit(&self, ledger: &ChannelLedger, request: &Envelope) -> Result<(), String> {
        self.library.may_read(ledger, SignedData::of_envelope(request)?)
    }
}

fn stored(ledger: &ChannelLedger, number: u64) -> Result<Block, End> {
    let block = ledger.block(number).map_err(|error| {
        tracing::error!(%error, "cannot deliver a block");
        End::Status(Status::InternalServerError)
    })?;
    block.ok_or(End::Status(Status::NotFound))
}

/// Returns when there is a failure; never where there can be none.
async fn failure(errored: &mut Option<watch::Receiver<bool>>) {
    match errored {
        // The sender goes with the chain.
        Some(errored) => drop(errored.wait_for(|errored| *errored).await),
        None => std::future::pending().await,
    }
}

/// First and last block asked for; `None` if the request makes no sense.
fn range(seek: &SeekInfo, height: u64) -> Option<(u64, u64)> {
    let newest = height.saturating_sub(1);
    let position = |position: &Option<SeekPosition>| position.and_then(|position| position.r#type);
    let start = match position(&seek.start)? {
        Type::Oldest(_) => 0,
        Type::Newest(_) => newest,
        Type::Specified(at) => at.number,
        Type::NextCommit(_) => height,
    };
    let stop = match position(&seek.stop)? {
        Type::Oldest(_) => start,
        Type::Newest(_) => newest.max(start),
        Type::Specified(at) if at.number < start => return None,
        Type::Specified(at) => at.number,
        Type::NextCommit(_) => return None,
    };
    Some((start, stop))
}

fn trim(block: Block, seek: &SeekInfo) -> Block {
    let attestation = seek.content_type == i32::from(SeekContentType::HeaderWithSig);
    if attestation && !channel::is_config_block(&block) { Block { data: None, ..block } } else { block }
}

/// Whether a time (seconds since 1970) is close enough to this node's clock.
pub fn within(seconds: i64, window: Duration) -> bool {
    seconds.abs_diff(now_seconds()) <= window.as_secs()
}

/// This node's clock, in seconds since 1970.
pub fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
