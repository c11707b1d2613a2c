//! Takes envelopes from clients and orders them.

use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc;
use tonic::{Status as Grpc, Streaming};

use super::registrar::{ChannelError, Registrar};
use crate::channel;
use crate::faults::{Faults, Operation};
use crate::stop::Stop;
use ehrnet_fabric::proto::common::{Envelope, HeaderType, Status};
use ehrnet_fabric::proto::orderer::BroadcastResponse;

/// Answer a stream of envelopes; it ends after the first that is refused.
pub async fn run(
    registrar: Arc<Registrar>,
    faults: Faults,
    mut envelopes: Streaming<Envelope>,
    responses: mpsc::Sender<Result<BroadcastResponse, Grpc>>,
    mut stop: Stop,
) {
    loop {
        let envelope = tokio::select! {
            () = stop.requested() => return,
            envelope = envelopes.message() => envelope,
        };
        let envelope = match envelope {
            Ok(Some(envelope)) => envelope,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "broadcast stream ended");
                return;
            }
        };
        let Ok(response) = answer(&registrar, &faults, &envelope).await else {
            let broken = Grpc::unavailable("connection broken on request");
            let _gone = responses.send(Err(broken)).await.is_err();
            return;
        };
        let accepted = response.status == i32::from(Status::Success);
        if responses.send(Ok(response)).await.is_err() || !accepted {
            return;
        }
    }
}

/// The reply is to be dropped.
struct Dropped;

async fn answer(registrar: &Registrar, faults: &Faults, envelope: &Envelope) -> Result<BroadcastResponse, Dropped> {
    let name = channel::open(envelope).map(|opened| opened.channel.channel_id).unwrap_or_default();
    let injection = faults.inject(Operation::Broadcast, &name).await;
    let result = match injection.refusal {
        Some(refusal) => {
            let status = Status::try_from(i32::from(refusal.status)).unwrap_or(Status::ServiceUnavailable);
            Err((status, refusal.message))
        }
        None => order(registrar, envelope).await,
    };
    if injection.drop_reply {
        return Err(Dropped);
    }
    Ok(match result {
        Ok(()) => BroadcastResponse { status: Status::Success.into(), info: String::new() },
        Err((status, info)) => {
            tracing::warn!(channel = name, status = status.as_str_name(), info, "rejecting an envelope");
            BroadcastResponse { status: status.into(), info }
        }
    })
}

async fn order(registrar: &Registrar, envelope: &Envelope) -> Result<(), (Status, String)> {
    let bad = |reason: String| (Status::BadRequest, reason);
    let opened = channel::open(envelope).map_err(|e| bad(format!("could not determine channel ID: {e}")))?;
    let chain = registrar.consenter(&opened.channel.channel_id).map_err(|_| bad(ChannelError::Unknown.to_string()))?;
    let judged = match HeaderType::try_from(opened.channel.r#type) {
        Ok(HeaderType::ConfigUpdate) => {
            chain.process(|processor| processor.config_update(envelope).map(|c| c.encode_to_vec()))
        }
        Ok(HeaderType::Config) => return Err(bad("message is of type that cannot be processed directly".into())),
        Ok(HeaderType::OrdererTransaction) => return Err(bad("message is of type that is no longer supported".into())),
        _ => chain.process(|processor| processor.transaction(envelope).map(|()| envelope.encode_to_vec())),
    };
    let (message, sequence) = judged.map_err(|rejection| (rejection.status, rejection.reason))?;
    chain.order(message, sequence).await.map_err(|reason| (Status::ServiceUnavailable, reason))
}
