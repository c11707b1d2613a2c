//! The peer process: listeners, services, start and stop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::channels::Channels;
use super::endorser::{Endorser, Failure};
use crate::devledger::channel;
use crate::devledger::deliver::{Delivery, Item, now_seconds};
use crate::devledger::faults::Faults;
use crate::devledger::hosts::Hosts;
use crate::devledger::listen::{self, Volunteered};
use crate::devledger::logging::LogLevels;
use crate::devledger::node::LocalMsp;
use crate::devledger::orderer::cluster::MAX_MESSAGE;
use crate::devledger::orderer::service::tls_identity;
use crate::devledger::pull::Puller;
use crate::devledger::settings::PeerSettings;
use crate::devledger::stop::Stop;
use crate::devledger::{StartError, operations, web};
use crate::fabric::blocks;
use crate::fabric::proto::common::{Block, BlockMetadataIndex, Envelope};
use crate::fabric::proto::protos::deliver_server::{Deliver, DeliverServer};
use crate::fabric::proto::protos::endorser_server::{Endorser as EndorserService, EndorserServer};
use crate::fabric::proto::protos::{
    BlockAndPrivateData, DeliverResponse, FilteredBlock, FilteredTransaction, ProposalResponse, SignedProposal,
    deliver_response::Type,
};

/// Run a peer until `stop`.
///
/// # Errors
/// It cannot start; the text says what is missing.
pub async fn run(settings: PeerSettings, levels: LogLevels, stop: Stop) -> Result<(), StartError> {
    let node = &settings.node;
    let local = LocalMsp::read(&node.msp_dir, &node.msp_id, now_seconds())?;
    let faults = Faults::new(node.faults.clone());
    let puller = Puller {
        signer: Arc::new(local.signer),
        identity: node.grpc.tls.as_ref().map(tls_identity).transpose()?,
        hosts: Hosts::new(node.hosts.clone()),
        max_retry: settings.reconnect_max,
    };
    let (grpc_at, grpc) = listen::listen(&node.grpc, Volunteered::Unchecked, &faults).await?;
    let (operations_at, operations) = listen::listen(&node.operations, Volunteered::Verified, &faults).await?;
    let channels = Channels::open(settings.ledger_dir.clone(), Arc::new(puller)).map_err(StartError::Ledger)?;
    tracing::info!(grpc = %grpc_at, operations = %operations_at, "peer is ready");

    let gauges: operations::ReadGauges = {
        let channels = channels.clone();
        Arc::new(move || channels.gauges())
    };
    let routes = operations::routes(levels, node.metrics.then_some(gauges), node.operations.tls.is_some());
    let endorser = Endorser {
        channels: channels.clone(),
        local: local.members,
        time_window: node.time_window,
        faults: faults.clone(),
    };
    let endorser = EndorserServer::new(Front(endorser)).max_decoding_message_size(MAX_MESSAGE);
    let events = Events { channels: channels.clone(), faults, time_window: node.time_window, stop: stop.clone() };
    let events = DeliverServer::new(events).max_encoding_message_size(MAX_MESSAGE);
    let connections = ReceiverStream::new(grpc).map(Ok::<_, std::io::Error>);
    let mut until = stop.clone();
    let grpc = Server::builder()
        .add_service(endorser.max_encoding_message_size(MAX_MESSAGE))
        .add_service(events)
        .serve_with_incoming_shutdown(connections, async move { until.requested().await });
    let (served, ()) = tokio::join!(grpc, web::serve(operations, routes, stop.clone()));
    channels.halt().await;
    served.map_err(|e| StartError::Serve(e.to_string()))
}

struct Front(Endorser);

#[tonic::async_trait]
impl EndorserService for Front {
    async fn process_proposal(&self, request: Request<SignedProposal>) -> Result<Response<ProposalResponse>, Status> {
        match self.0.process(request.into_inner()).await {
            Ok(response) => Ok(Response::new(response)),
            Err(Failure(reason)) => Err(Status::unknown(reason)),
        }
    }
}

struct Events {
    channels: Arc<Channels>,
    faults: Faults,
    time_window: Duration,
    stop: Stop,
}

type Responses = ReceiverStream<Result<DeliverResponse, Status>>;

impl Events {
    fn deliver_as(&self, requests: Streaming<Envelope>, encode: fn(String, Block) -> Type) -> Response<Responses> {
        let (tx, rx) = mpsc::channel(4);
        let delivery = Delivery {
            library: self.channels.clone(),
            time_window: self.time_window,
            faults: self.faults.clone(),
            stop: self.stop.clone(),
        };
        let encode = move |item| DeliverResponse {
            r#type: Some(match item {
                Item::Block { channel, block } => encode(channel, block),
                Item::Status(status) => Type::Status(status.into()),
            }),
        };
        tokio::spawn(delivery.run(requests, tx, encode));
        Response::new(ReceiverStream::new(rx))
    }
}

#[tonic::async_trait]
impl Deliver for Events {
    type DeliverStream = Responses;
    type DeliverFilteredStream = Responses;
    type DeliverWithPrivateDataStream = Responses;

    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Responses>, Status> {
        Ok(self.deliver_as(request.into_inner(), |_, block| Type::Block(block)))
    }

    async fn deliver_filtered(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Responses>, Status> {
        Ok(self.deliver_as(request.into_inner(), |channel, block| Type::FilteredBlock(filter(channel, &block))))
    }

    async fn deliver_with_private_data(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        let encode = |_, block| {
            let block = Some(block);
            Type::BlockAndPrivateData(BlockAndPrivateData { block, ..Default::default() })
        };
        Ok(self.deliver_as(request.into_inner(), encode))
    }
}

/// A block without content: which transactions, and whether they count.
fn filter(channel_id: String, block: &Block) -> FilteredBlock {
    let entries = block.metadata.as_ref().map(|m| m.metadata.as_slice()).unwrap_or_default();
    let flags = entries.get(BlockMetadataIndex::TransactionsFilter as usize).map(Vec::as_slice).unwrap_or_default();
    let data = block.data.as_ref().map(|data| data.data.as_slice()).unwrap_or_default();
    let transaction = |(at, envelope): (usize, &Vec<u8>)| {
        let opened = channel::open(&Envelope::decode(envelope.as_slice()).ok()?).ok()?;
        Some(FilteredTransaction {
            txid: opened.channel.tx_id,
            r#type: opened.channel.r#type,
            tx_validation_code: flags.get(at).copied().map_or(0, i32::from),
            ..Default::default()
        })
    };
    let filtered_transactions = data.iter().enumerate().filter_map(transaction).collect();
    FilteredBlock { channel_id, number: blocks::number(block), filtered_transactions }
}
