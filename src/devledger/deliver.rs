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

/// The client went away.
struct Gone;

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
            let Ok(status) = self.answer(&request, &responses, &encode).await else { return };
            let sent = responses.send(Ok(encode(Item::Status(status)))).await;
            if sent.is_err() || status != Status::Success {
                return;
            }
        }
    }

    async fn answer<R>(
        &mut self,
        request: &Envelope,
        responses: &mpsc::Sender<Result<R, Grpc>>,
        encode: &impl Fn(Item) -> R,
    ) -> Result<Status, Gone> {
        let (opened, seek, ledger) = match self.read(request).await {
            Ok(read) => read,
            Err((status, reason)) => {
                tracing::warn!(reason, status = status.as_str_name(), "rejecting deliver request");
                return Ok(status);
            }
        };
        let expires = certificate::expires_at(&opened.signature.creator);
        let Some((start, stop)) = range(&seek, ledger.height()) else { return Ok(Status::BadRequest) };
        if start > ledger.height() {
            // As Fabric: only the very next block is waited for.
            return Ok(Status::NotFound);
        }
        let mut heights = ledger.watch_height();
        let mut errored = self.errored(ledger.channel(), &seek);
        let mut judged = None;
        let mut number = start;
        loop {
            if ledger.height() <= number {
                if seek.behavior == i32::from(SeekBehavior::FailIfNotReady) {
                    return Ok(Status::NotFound);
                }
                tokio::select! {
                    () = self.stop.requested() => return Ok(Status::ServiceUnavailable),
                    () = responses.closed() => return Err(Gone),
                    () = failure(&mut errored) => return Ok(Status::ServiceUnavailable),
                    grown = heights.wait_for(|height| *height > number) => {
                        if grown.is_err() {
                            return Ok(Status::NotFound);
                        }
                    }
                }
            }
            let block = match ledger.block(number) {
                Ok(Some(block)) => block,
                Ok(None) => return Ok(Status::NotFound),
                Err(error) => {
                    tracing::error!(%error, "cannot deliver a block");
                    return Ok(Status::InternalServerError);
                }
            };
            if expires.is_some_and(|end| end < now_seconds()) {
                return Ok(Status::Forbidden);
            }
            let sequence = ledger.bundle().map(|bundle| bundle.sequence());
            if judged != sequence {
                if let Err(reason) = self.permit(&ledger, request) {
                    tracing::warn!(channel = ledger.channel(), reason, "client may not read");
                    return Ok(Status::Forbidden);
                }
                judged = sequence;
            }
            let item = Item::Block {
                channel: ledger.channel().to_owned(),
                block: trim(block, &seek),
                reader: opened.signature.creator.clone(),
            };
            if responses.send(Ok(encode(item))).await.is_err() {
                return Err(Gone);
            }
            if number == stop {
                return Ok(Status::Success);
            }
            number += 1;
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
