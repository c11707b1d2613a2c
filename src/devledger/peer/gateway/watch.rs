//! `CommitStatus` and `ChaincodeEvents`: what the channel's ledger tells (Fabric: `gateway/commitstatus.go`,
//! `gateway/chaincodeevents.go`).

use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Gateway;
use crate::channel::SignedData;
use crate::peer::access::check_signed;
use crate::peer::events::chaincode_events;
use crate::peer::joined::Joined;
use crate::stop::Stop;
use ehrnet_fabric::proto::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, CommitStatusResponse,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest,
};
use ehrnet_fabric::proto::orderer::seek_position::Type as Position;
use ehrnet_fabric::proto::protos::ChaincodeEvent;

/// Responses that may wait for a slow client.
const WAITING: usize = 4;

type Events = mpsc::Sender<Result<ChaincodeEventsResponse, Status>>;

impl Gateway {
    pub(super) async fn status_of(&self, signed: SignedCommitStatusRequest) -> Result<CommitStatusResponse, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument("a commit status request is required"));
        }
        let request = CommitStatusRequest::decode(signed.request.as_slice())
            .map_err(|e| Status::invalid_argument(format!("invalid status request: {e}")))?;
        let missing = [
            (request.identity.is_empty(), "no identity provided"),
            (request.channel_id.is_empty(), "no channel ID provided"),
            (request.transaction_id.is_empty(), "transaction ID should not be empty"),
        ];
        if let Some((_, what)) = missing.into_iter().find(|(is_missing, _)| *is_missing) {
            return Err(Status::invalid_argument(what));
        }
        let signature = SignedData { data: signed.request, identity: request.identity, signature: signed.signature };
        let joined = self.permit("gateway/CommitStatus", &request.channel_id, signature)?;
        let mut stop = self.stop.clone();
        let placed = tokio::select! {
            placed = joined.committed(&request.transaction_id) => placed,
            () = stop.requested() => None,
        };
        let placed = placed.ok_or_else(|| Status::aborted("unexpected close of commit notification channel"))?;
        Ok(CommitStatusResponse { result: placed.code.into(), block_number: placed.block })
    }

    pub(super) fn events(
        &self,
        signed: SignedChaincodeEventsRequest,
    ) -> Result<ReceiverStream<Result<ChaincodeEventsResponse, Status>>, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument("a chaincode events request is required"));
        }
        let request = ChaincodeEventsRequest::decode(signed.request.as_slice())
            .map_err(|e| Status::invalid_argument(format!("invalid chaincode events request: {e}")))?;
        let signature =
            SignedData { data: signed.request, identity: request.identity.clone(), signature: signed.signature };
        let joined = self.permit("gateway/ChaincodeEvents", &request.channel_id, signature)?;
        let first = first_block(&joined, &request)?;
        let wanted = Wanted::new(request);
        let (events, stream) = mpsc::channel(WAITING);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(status) = follow(&joined, first, wanted, &events, stop).await {
                // A client that has gone needs no answer.
                events.send(Err(status)).await.ok();
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    /// The channel, if the signer may use the resource.
    fn permit(&self, resource: &str, channel: &str, signed: SignedData) -> Result<Arc<Joined>, Status> {
        if channel.is_empty() {
            return Err(Status::permission_denied(
                "Invalid channel ID name during check policy on signed data. Name must be different from nil.",
            ));
        }
        let found = self.endorser.channels.get(channel).and_then(|joined| Some((joined.bundle()?, joined)));
        let (bundle, joined) = found.ok_or_else(|| {
            Status::permission_denied(format!("Failed to get policy manager for channel [{channel}]"))
        })?;
        check_signed(signed, &bundle, resource).map_err(Status::permission_denied)?;
        Ok(joined)
    }
}

/// Where to begin: with the block of the transaction to begin after, or where the request says.
fn first_block(joined: &Joined, request: &ChaincodeEventsRequest) -> Result<u64, Status> {
    if let Some(placed) = joined.transaction(&request.after_transaction_id) {
        return Ok(placed.block);
    }
    let of_kind = |kind: &str| Err(Status::invalid_argument(format!("invalid start position type: *orderer.{kind}")));
    match request.start_position.and_then(|position| position.r#type) {
        None | Some(Position::NextCommit(_)) => Ok(joined.ledger().height()),
        Some(Position::Specified(at)) => Ok(at.number),
        Some(Position::Oldest(_)) => of_kind("SeekPosition_Oldest"),
        Some(Position::Newest(_)) => of_kind("SeekPosition_Newest"),
    }
}

/// Sends the events of one block after the other, for as long as the client listens.
async fn follow(
    joined: &Joined,
    first: u64,
    mut wanted: Wanted,
    events: &Events,
    mut stop: Stop,
) -> Result<(), Status> {
    let mut heights = joined.ledger().watch_height();
    for number in first.. {
        tokio::select! {
            () = events.closed() => return Ok(()),
            () = stop.requested() => return Err(Status::unavailable("the peer is stopping")),
            grown = heights.wait_for(|height| *height > number) => {
                grown.map_err(|_| Status::aborted("the channel is closed"))?;
            }
        }
        let block = joined.ledger().block(number).map_err(|e| Status::aborted(e.to_string()))?;
        let block = block.ok_or_else(|| Status::aborted(format!("block {number} is missing")))?;
        let found: Vec<_> = chaincode_events(&block).into_iter().filter(|event| wanted.takes(event)).collect();
        if !found.is_empty() {
            let response = ChaincodeEventsResponse { events: found, block_number: number };
            if events.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Which events a client asked for.
struct Wanted {
    chaincode: String,
    /// Nothing is sent until an event of this transaction has passed.
    after: Option<String>,
}

impl Wanted {
    fn new(request: ChaincodeEventsRequest) -> Self {
        let after = Some(request.after_transaction_id).filter(|id| !id.is_empty());
        Self { chaincode: request.chaincode_id, after }
    }

    fn takes(&mut self, event: &ChaincodeEvent) -> bool {
        match &self.after {
            Some(id) => {
                if *id == event.tx_id {
                    self.after = None;
                }
                false
            }
            None => event.chaincode_id == self.chaincode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_on_after_the_transaction_that_it_has_dealt_with() {
        let event = |chaincode: &str, tx: &str| ChaincodeEvent {
            chaincode_id: chaincode.into(),
            tx_id: tx.into(),
            ..Default::default()
        };
        let request = |after: &str| ChaincodeEventsRequest {
            chaincode_id: "ehr".into(),
            after_transaction_id: after.into(),
            ..Default::default()
        };
        let seen = [event("ehr", "1"), event("other", "2"), event("ehr", "3"), event("ehr", "4")];
        let taken = |after: &str| {
            let mut wanted = Wanted::new(request(after));
            seen.iter().filter(|e| wanted.takes(e)).map(|e| e.tx_id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(taken(""), ["1", "3", "4"]);
        assert_eq!(taken("2"), ["3", "4"]);
        assert_eq!(taken("4"), [""; 0]);
    }
}
