//! `ehrnet operator`: puts the rooms together and runs them until it is told to stop.

pub mod network;

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc;

use ehrnet_apply::{Applier, StatusWriter};
use ehrnet_controllers as controllers;
use ehrnet_controllers::{Clock, Context, GivenSecrets, Memories, Statuses, Writers};
use ehrnet_desired::{DefaultImage, NodeImages, Site};
use ehrnet_fabric::net::Network;
use ehrnet_observe::World;
use ehrnet_runtime::events::Reporter;
use ehrnet_runtime::health::{Health, HealthError, Phase, Servers};
use ehrnet_runtime::lease::{Candidate, Fence, Leadership, LeaseLost};
use ehrnet_runtime::metrics::Metrics;
use ehrnet_runtime::settings::{Namespaces, Words};
use ehrnet_runtime::shutdown::Shutdown;
use ehrnet_runtime::{Settings, client, logging};
use network::ClusterNetwork;

/// Why the operator ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The log could not be set up.
    #[error("failed to set up the log: {0}")]
    Logging(#[from] logging::LoggingError),
    /// Signals or sockets are not to be had.
    #[error("failed to start: {0}")]
    Io(#[from] std::io::Error),
    /// An address is taken.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// No cluster.
    #[error("failed to reach a Kubernetes API: {0}; run it in a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// Another operator took over.
    #[error("{0}")]
    Lease(LeaseLost),
}

/// What differs between production and a test.
pub struct Parts {
    /// How the operator is run.
    pub settings: Settings,
    /// The way to the API.
    pub client: Client,
    /// The way to the ledger.
    pub network: Arc<dyn Network>,
    /// The leave to write.
    pub fence: Fence,
    /// Counts.
    pub metrics: Metrics,
    /// Answers to probes.
    pub health: Health,
    /// The present.
    pub clock: Clock,
}

/// Runs the operator with everything real.
pub async fn main(settings: Settings) -> Result<(), OperatorError> {
    logging::init(settings.log_format, &settings.log)?;
    let shutdown = Shutdown::on_signals()?;
    let metrics = Metrics::new();
    let fence = if settings.lease.leader_election { Fence::closed() } else { Fence::always() };
    let client = client::connect(fence.clone(), metrics.clone())
        .await
        .map_err(|error| OperatorError::Client(Box::new(error)))?;
    let health = Health::default();
    let addresses = (settings.health_address, settings.metrics_address);
    let servers = Servers::start(addresses, health.clone(), metrics.clone(), &shutdown).await?;
    let network = Arc::new(ClusterNetwork { fence: fence.clone(), metrics: metrics.clone() });
    let clock: Clock = Arc::new(jiff::Timestamp::now);
    let result = run(Parts { settings, client, network, fence, metrics, health, clock }, &shutdown).await;
    shutdown.begin();
    servers.ended().await;
    result
}

/// Runs the operator until shutdown is wished or the lease is lost.
pub async fn run(parts: Parts, shutdown: &Shutdown) -> Result<(), OperatorError> {
    let Parts { settings, client, network, fence, metrics, health, clock } = parts;
    let namespaces = match &settings.watch_namespaces {
        Namespaces::All => Vec::new(),
        Namespaces::Listed(names) => names.clone(),
        Namespaces::Own => vec![client.default_namespace().to_owned()],
    };
    let identity = settings.lease.identity.clone().unwrap_or_else(|| format!("ehrnet-{:016x}", rand::random::<u64>()));
    let (news, receiver) = mpsc::unbounded_channel();
    let (world, mut watches) = World::start(&client, &namespaces, news);
    health.set(Phase::Standby);
    let leadership = tokio::select! {
        leadership = lead(&settings, &client, &identity, &fence) => leadership,
        () = shutdown.wished() => return Ok(()),
    };
    metrics.leader(true);
    health.set(Phase::Syncing);
    tokio::select! {
        () = watches.ready() => health.set(Phase::Leading),
        () = shutdown.wished() => {}
    }
    tracing::info!(namespaces = ?namespaces, "leading");
    let writers = Writers::new(Applier::new(client.clone()));
    let statuses = Statuses::new(StatusWriter::new(client.clone()), Reporter::new(client.clone(), &identity));
    let ctx = Arc::new(Context {
        world,
        site: site(&settings, &client),
        given: GivenSecrets::new(client),
        statuses,
        network,
        memories: Memories::default(),
        metrics: metrics.clone(),
        clock,
    });
    let concurrency = usize::from(settings.concurrency);
    let result = tokio::select! {
        () = controllers::run(ctx, writers, concurrency, receiver, shutdown) => Ok(()),
        lost = lost(leadership.as_ref()) => Err(OperatorError::Lease(lost)),
    };
    metrics.leader(false);
    watches.stop().await;
    if let Some(leadership) = leadership
        && let Err(error) = leadership.release().await
    {
        tracing::warn!(%error, "the lease could not be given back; it runs out by itself");
    }
    result
}

async fn lead(settings: &Settings, client: &Client, identity: &str, fence: &Fence) -> Option<Leadership> {
    if !settings.lease.leader_election {
        return None;
    }
    let namespace = settings.lease.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    Some(
        Candidate::new(client.clone(), &namespace, &settings.lease.lease_name, identity, fence.clone()).acquire().await,
    )
}

/// What is the same for every resource.
fn site(settings: &Settings, client: &Client) -> Site {
    let image =
        |reference: &str, command: &Words| DefaultImage { reference: reference.to_owned(), command: command.0.clone() };
    let images = &settings.images;
    Site {
        images: NodeImages {
            orderer: image(&images.orderer_image, &images.orderer_command),
            peer: image(&images.peer_image, &images.peer_command),
            couchdb: image(&images.couchdb_image, &images.couchdb_command),
            contract: image(&images.contract_image, &images.contract_command),
        },
        cluster_domain: settings.cluster_domain.clone(),
        operator_namespace: Some(client.default_namespace().to_owned()),
    }
}

async fn lost(leadership: Option<&Leadership>) -> LeaseLost {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}
