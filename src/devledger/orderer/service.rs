//! The orderer process: listeners, services, start and stop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::cluster::{Cluster, MAX_MESSAGE, Service as ClusterService};
use super::registrar::Registrar;
use super::{Node, broadcast, participation};
use crate::deliver::{Delivery, Item, now_seconds};
use crate::dial::TlsIdentity;
use crate::faults::Faults;
use crate::hosts::Hosts;
use crate::listen::{self, ListenError, OptionalCertificate};
use crate::logging::LogLevels;
use crate::node::LocalMsp;
use crate::pull::Puller;
use crate::settings::{OrdererSettings, TlsFiles};
use crate::stop::Stop;
use crate::{StartError, operations, web};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::proto::common::Envelope;
use ehrnet_fabric::proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use ehrnet_fabric::proto::orderer::seek_info::SeekErrorResponse;
use ehrnet_fabric::proto::orderer::{BroadcastResponse, DeliverResponse, deliver_response};

/// Longest pause between two attempts to pull blocks.
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Run an orderer until `stop`.
///
/// # Errors
/// It cannot start; the text says what is missing.
pub async fn run(settings: OrdererSettings, levels: LogLevels, stop: Stop) -> Result<(), StartError> {
    let local = LocalMsp::read(&settings.node.msp_dir, &settings.node.msp_id, now_seconds())?;
    let faults = Faults::new(settings.node.faults.clone());
    let node = Arc::new(node(&settings, local.signer)?);
    // Listen first: what is wrong with an address or certificate is said before ledgers are read.
    let (grpc_at, grpc) = listen::listen(&settings.node.grpc, OptionalCertificate::Unchecked, &faults).await?;
    let (admin_at, admin) = listen::listen(&settings.admin, OptionalCertificate::Verified, &faults).await?;
    let (operations_at, operations) =
        listen::listen(&settings.node.operations, OptionalCertificate::Verified, &faults).await?;
    let registrar = Registrar::open(node.clone()).await.map_err(StartError::Ledger)?;
    tracing::info!(grpc = %grpc_at, admin = %admin_at, operations = %operations_at, "orderer is ready");

    let gauges: operations::ReadGauges = {
        let registrar = registrar.clone();
        Arc::new(move || registrar.gauges())
    };
    let gauges = settings.node.metrics.then_some(gauges);
    let admin_routes = participation::routes(
        registrar.clone(),
        faults.clone(),
        settings.max_request_body,
        settings.admin.tls.is_some(),
    );
    let operations_routes = operations::routes(levels, gauges, settings.node.operations.tls.is_some());
    let cluster = ClusterService::new(node.cluster.clone(), registrar.clone(), faults.clone());
    let atomic = AtomicBroadcastServer::new(Atomic {
        registrar: registrar.clone(),
        faults,
        time_window: settings.node.time_window,
        stop: stop.clone(),
    });
    let atomic = atomic.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let connections = ReceiverStream::new(grpc).map(Ok::<_, std::io::Error>);
    let mut until = stop.clone();
    let grpc = Server::builder()
        .add_service(cluster)
        .add_service(atomic)
        .serve_with_incoming_shutdown(connections, async move { until.requested().await });
    let (served, (), ()) = tokio::join!(
        grpc,
        web::serve(admin, admin_routes, stop.clone()),
        web::serve(operations, operations_routes, stop.clone()),
    );
    registrar.halt().await;
    served.map_err(|e| StartError::Serve(e.to_string()))
}

/// What the orderer's parts share.
fn node(settings: &OrdererSettings, signer: SigningIdentity) -> Result<Node, StartError> {
    let hosts = Hosts::new(settings.node.hosts.clone());
    let tls = settings.node.grpc.tls.as_ref();
    let identity = tls.map(tls_identity).transpose()?;
    let tls_certificate = identity.as_ref().map(|identity| identity.chain[0].to_vec());
    let signer = Arc::new(signer);
    let puller = Puller {
        signer: signer.clone(),
        identity: tls.map(tls_identity).transpose()?,
        hosts: hosts.clone(),
        max_retry: MAX_RETRY,
        without_leader: SeekErrorResponse::BestEffort,
    };
    Ok(Node {
        signer,
        tls_certificate,
        cluster: Arc::new(Cluster::new(identity, hosts)),
        puller: Arc::new(puller),
        settings: settings.clone(),
    })
}

/// The certificate and key of a listener, to call others with.
///
/// # Errors
/// A file cannot be read.
pub fn tls_identity(files: &TlsFiles) -> Result<TlsIdentity, ListenError> {
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|e| ListenError::Tls { path: files.key.clone(), reason: e.to_string() })?;
    Ok(TlsIdentity { chain: listen::read_certificates(&files.certificate)?, key })
}

struct Atomic {
    registrar: Arc<Registrar>,
    faults: Faults,
    time_window: Duration,
    stop: Stop,
}

#[tonic::async_trait]
impl AtomicBroadcast for Atomic {
    type BroadcastStream = ReceiverStream<Result<BroadcastResponse, Status>>;
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let (tx, rx) = mpsc::channel(1);
        let (registrar, faults, stop) = (self.registrar.clone(), self.faults.clone(), self.stop.clone());
        tokio::spawn(broadcast::run(registrar, faults, request.into_inner(), tx, stop));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Self::DeliverStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        let delivery = Delivery {
            library: self.registrar.clone(),
            time_window: self.time_window,
            faults: self.faults.clone(),
            stop: self.stop.clone(),
        };
        let encode = |item| DeliverResponse {
            r#type: Some(match item {
                Item::Block { block, .. } => deliver_response::Type::Block(block),
                Item::Status(status) => deliver_response::Type::Status(status.into()),
            }),
        };
        tokio::spawn(delivery.run(request.into_inner(), tx, encode));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}
