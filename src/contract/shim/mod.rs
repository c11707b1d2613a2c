//! The contract as a service: peers connect (`protos.Chaincode/Connect`) and run transactions over one stream.
//!
//! Environment names are those that the official shims read, so that one Deployment fits any chaincode image.
//! Certificates are read at start: a renewed one counts after a restart. Nothing but the listening port says that it is
//! ready, and nothing needs to: it has no state.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use ehrnet_fabric::proto::protos::ChaincodeMessage;
use ehrnet_fabric::proto::protos::chaincode_server::{Chaincode, ChaincodeServer};
use ehrnet_messages::Members;

mod session;
mod stub;
#[cfg(test)]
mod tests;
mod unpack;

/// Largest message either way (Fabric's own limit).
const MAX_MESSAGE: usize = 100 * 1024 * 1024;
/// How often a silent peer is asked whether it is there, and how long its answer may take: as in Fabric's shim.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Messages to a peer that may wait.
const WAITING: usize = 64;

/// Arguments of `ehrnet-contract`.
#[derive(Debug, clap::Args)]
pub struct ContractArgs {
    /// Where to listen.
    #[arg(long, env = "CHAINCODE_SERVER_ADDRESS", default_value = "0.0.0.0:9999")]
    address: SocketAddr,
    /// Package id under which peers know this contract: `label:hash`.
    #[arg(long, env = "CHAINCODE_ID")]
    id: String,
    /// MSP ids of the member hospitals of the channel, separated by commas: more than half must agree to a policy.
    #[arg(long, env = Members::ENVIRONMENT, default_value = "")]
    members: Members,
    /// Listen without TLS, for tests.
    #[arg(long, env = "CHAINCODE_TLS_DISABLED", action = clap::ArgAction::Set, default_value_t = false)]
    tls_disabled: bool,
    /// Server certificate, PEM.
    #[arg(long, env = "CHAINCODE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "CHAINCODE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// CA whose clients may connect, PEM.
    #[arg(long, env = "CHAINCODE_CLIENT_CA_CERT", value_name = "FILE")]
    client_ca: Option<PathBuf>,
}

/// Why the contract cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS is on, and a file is not named.
    #[error("TLS needs {0}: without it anybody could run the contract (for tests: CHAINCODE_TLS_DISABLED=true)")]
    Unnamed(&'static str),
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address is not ours or is taken.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be heard.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A certificate or key is unusable, or serving ended.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves the contract until SIGTERM or SIGINT.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(args: ContractArgs) -> Result<(), ServeError> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(ServeError::Signals)?,
        signal(SignalKind::interrupt()).map_err(ServeError::Signals)?,
    );
    let (stopper, stop) = watch::channel(false);
    let server = Service::listen(&args, stop).await?;
    info!(address = %server.address, id = %args.id, tls = !args.tls_disabled, "serving the health-record contract");
    let signals = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("stopping: no peer is served any more once its running transactions have ended");
        stopper.send_replace(true);
    };
    let (served, ()) = tokio::join!(server.serve(), signals);
    served
}

/// A listener with everything that serving needs.
struct Service {
    address: SocketAddr,
    incoming: TcpIncoming,
    tls: Option<ServerTlsConfig>,
    contract: Contract,
}

impl Service {
    async fn listen(args: &ContractArgs, stop: watch::Receiver<bool>) -> Result<Self, ServeError> {
        let tls = if args.tls_disabled { None } else { Some(mutual_tls(args)?) };
        let bind = |source| ServeError::Bind { address: args.address, source };
        let listener = TcpListener::bind(args.address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Self {
            address,
            incoming,
            tls,
            contract: Contract { id: args.id.clone(), members: Arc::new(args.members.clone()), stop },
        })
    }

    /// Serves until the switch is turned and every stream has ended.
    async fn serve(self) -> Result<(), ServeError> {
        let mut stop = self.contract.stop.clone();
        let mut server =
            Server::builder().http2_keepalive_interval(Some(KEEPALIVE.0)).http2_keepalive_timeout(Some(KEEPALIVE.1));
        if let Some(tls) = self.tls {
            server = server.tls_config(tls)?;
        }
        let service = ChaincodeServer::new(self.contract)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let stopped = async move { session::stopped(&mut stop).await };
        Ok(server.add_service(service).serve_with_incoming_shutdown(self.incoming, stopped).await?)
    }
}

fn mutual_tls(args: &ContractArgs) -> Result<ServerTlsConfig, ServeError> {
    let certificate = file(args.tls_cert.as_deref(), "CHAINCODE_TLS_CERT")?;
    let key = file(args.tls_key.as_deref(), "CHAINCODE_TLS_KEY")?;
    let client_ca = file(args.client_ca.as_deref(), "CHAINCODE_CLIENT_CA_CERT")?;
    let identity = Identity::from_pem(certificate, key);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(client_ca)))
}

fn file(path: Option<&Path>, name: &'static str) -> Result<Vec<u8>, ServeError> {
    let path = path.ok_or(ServeError::Unnamed(name))?;
    std::fs::read(path).map_err(|source| ServeError::File { path: path.to_owned(), source })
}

/// The service that peers connect to.
struct Contract {
    id: String,
    members: Arc<Members>,
    stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Chaincode for Contract {
    type ConnectStream = ReceiverStream<Result<ChaincodeMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, stream) = tokio::sync::mpsc::channel(WAITING);
        let peer = request.remote_addr().map_or("unknown".to_owned(), |address| address.to_string());
        let session = session::Session::new(self.id.clone(), self.members.clone(), outgoing, self.stop.clone());
        tokio::spawn(session.run(peer, request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
