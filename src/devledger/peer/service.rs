//! The peer process: listeners, services, start and stop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::chaincode::packages::Packages;
use super::chaincode::runtime::Runtime;
use super::channels::Channels;
use super::endorser::{Endorser, Failure};
use super::gateway::Gateway;
use super::private::contacts::Directory;
use super::private::exchange::{self, Exchange};
use super::{Limits, Node, events};
use crate::connections::Connections;
use crate::deliver::{Delivery, Item, now_seconds};
use crate::faults::Faults;
use crate::hosts::Hosts;
use crate::listen::{self, OptionalCertificate};
use crate::logging::LogLevels;
use crate::node::LocalMsp;
use crate::orderer::cluster::MAX_MESSAGE;
use crate::orderer::service::tls_identity;
use crate::pull::Puller;
use crate::settings::PeerSettings;
use crate::stop::Stop;
use crate::{StartError, operations, web};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::proto::common::{Block, Envelope};
use ehrnet_fabric::proto::gateway::gateway_server::GatewayServer;
use ehrnet_fabric::proto::orderer::seek_info::SeekErrorResponse;
use ehrnet_fabric::proto::protos::deliver_server::{Deliver, DeliverServer};
use ehrnet_fabric::proto::protos::endorser_server::{Endorser as EndorserService, EndorserServer};
use ehrnet_fabric::proto::protos::{DeliverResponse, ProposalResponse, SignedProposal, deliver_response::Type};

/// Run a peer until `stop`.
///
/// # Errors
/// It cannot start; the text says what is missing.
pub async fn run(settings: PeerSettings, levels: LogLevels, stop: Stop) -> Result<(), StartError> {
    let node = &settings.node;
    let local = LocalMsp::read(&node.msp_dir, &node.msp_id, now_seconds())?;
    let faults = Faults::new(node.faults.clone());
    let (grpc_at, grpc) = listen::listen(&node.grpc, OptionalCertificate::Unchecked, &faults).await?;
    let (operations_at, operations) = listen::listen(&node.operations, OptionalCertificate::Verified, &faults).await?;
    let shared = Arc::new(shared(&settings, local.signer)?);
    let hosts = Hosts::new(node.hosts.clone());
    let packages = Packages::open(settings.packages_dir.clone(), settings.builder_config.clone());
    let packages = packages.map_err(StartError::Ledger)?;
    let channels = Channels::open(shared.clone()).map_err(StartError::Ledger)?;
    tracing::info!(grpc = %grpc_at, operations = %operations_at, "peer is ready");

    let gauges: operations::ReadGauges = {
        let channels = channels.clone();
        Arc::new(move || channels.gauges())
    };
    let routes = operations::routes(levels, node.metrics.then_some(gauges), node.operations.tls.is_some());
    let private = exchange::Service {
        channels: channels.clone(),
        msp_id: node.msp_id.clone(),
        time_window: node.time_window,
        faults: faults.clone(),
    };
    let events = Events {
        channels: channels.clone(),
        faults: faults.clone(),
        time_window: node.time_window,
        stop: stop.clone(),
    };
    let endorser = Arc::new(Endorser {
        node: shared,
        channels: channels.clone(),
        local: local.members,
        runtime: Runtime::new(packages, hosts, settings.startup_limit),
        execute_limit: settings.execute_limit,
        time_window: node.time_window,
        faults,
    });
    let gateway = GatewayServer::new(Gateway::new(endorser.clone(), stop.clone()));
    let gateway = gateway.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let endorser = EndorserServer::new(EndorserEndpoint(endorser)).max_decoding_message_size(MAX_MESSAGE);
    let connections = ReceiverStream::new(grpc).map(Ok::<_, std::io::Error>);
    let mut until = stop.clone();
    let grpc = Server::builder()
        .add_service(endorser.max_encoding_message_size(MAX_MESSAGE))
        .add_service(DeliverServer::new(events).max_encoding_message_size(MAX_MESSAGE))
        .add_service(gateway)
        .add_service(private)
        .serve_with_incoming_shutdown(connections, async move { until.requested().await });
    let (served, ()) = tokio::join!(grpc, web::serve(operations, routes, stop.clone()));
    channels.halt().await;
    served.map_err(|e| StartError::Serve(e.to_string()))
}

fn shared(settings: &PeerSettings, signer: SigningIdentity) -> Result<Node, StartError> {
    let node = &settings.node;
    let tls = || node.grpc.tls.as_ref().map(tls_identity).transpose();
    let (signer, hosts) = (Arc::new(signer), Hosts::new(node.hosts.clone()));
    let puller = Puller {
        signer: signer.clone(),
        identity: tls()?,
        hosts: hosts.clone(),
        max_retry: settings.reconnect_max,
        without_leader: SeekErrorResponse::Strict,
    };
    let connections = Arc::new(Connections::new(hosts, tls()?));
    Ok(Node {
        puller,
        exchange: Exchange::new(signer.clone(), connections.clone()),
        connections,
        signer,
        directory: Directory {
            msp_id: node.msp_id.clone(),
            own: settings.own_addresses.clone(),
            bootstrap: settings.bootstrap.clone(),
        },
        ledger_dir: settings.ledger_dir.clone(),
        transient_dir: settings.transient_dir.clone(),
        limits: Limits { pull: settings.pull_limit, reconcile: settings.reconcile_interval },
    })
}

struct EndorserEndpoint(Arc<Endorser>);

#[tonic::async_trait]
impl EndorserService for EndorserEndpoint {
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

/// How a block is sent: the channel's name, the block, and who asked.
type Encode = Arc<dyn Fn(&str, Block, &[u8]) -> Option<Type> + Send + Sync>;

impl Events {
    fn deliver_as(&self, requests: Streaming<Envelope>, encode: Encode) -> Response<Responses> {
        let (tx, rx) = mpsc::channel(4);
        let delivery = Delivery {
            library: self.channels.clone(),
            time_window: self.time_window,
            faults: self.faults.clone(),
            stop: self.stop.clone(),
        };
        let encode = move |item| DeliverResponse {
            r#type: match item {
                Item::Block { channel, block, reader } => encode(&channel, block, &reader),
                Item::Status(status) => Some(Type::Status(status.into())),
            },
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
        Ok(self.deliver_as(request.into_inner(), Arc::new(|_, block, _| Some(Type::Block(block)))))
    }

    async fn deliver_filtered(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Responses>, Status> {
        let encode: Encode =
            Arc::new(|channel, block, _| Some(Type::FilteredBlock(events::filtered(channel.to_owned(), &block))));
        Ok(self.deliver_as(request.into_inner(), encode))
    }

    async fn deliver_with_private_data(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        let channels = self.channels.clone();
        let encode: Encode = Arc::new(move |channel, block, reader| {
            let joined = channels.get(channel)?;
            let reader = joined.bundle()?.members.identity(reader).ok()?;
            Some(Type::BlockAndPrivateData(joined.with_private_data(block, &reader)))
        });
        Ok(self.deliver_as(request.into_inner(), encode))
    }
}
