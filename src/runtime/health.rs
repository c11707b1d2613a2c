//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Invariant: an instance that waits for the lease is ready. If it were not, a rolling update could never replace the
//! leader, which holds the lease until its successor is ready.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::metrics::{CONTENT_TYPE, Metrics};
use super::shutdown::Shutdown;

/// Why nothing answers.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for health checks and metrics: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// How far this process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It connects to the cluster.
    Starting,
    /// Another instance leads; this one takes over when needed.
    Standby,
    /// It leads and reads what is there.
    Syncing,
    /// It leads and works.
    Leading,
}

impl Phase {
    fn is_ready(self) -> bool {
        matches!(self, Self::Standby | Self::Leading)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting: connecting to the cluster",
            Self::Standby => "standby: another instance leads",
            Self::Syncing => "syncing: reading what is in the cluster",
            Self::Leading => "leading",
        }
    }
}

/// The phase, for whoever asks. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(watch::Sender<Phase>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Health {
    /// A new phase has begun.
    pub fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    fn readiness(&self) -> (StatusCode, &'static str) {
        let phase = *self.0.borrow();
        let code = if phase.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, phase.as_str())
    }
}

fn health_routes(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { health.readiness() }))
}

fn metrics_routes(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(move || async move { text_of(&metrics) }))
}

fn text_of(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The servers of one process.
#[derive(Debug)]
pub struct Servers {
    tasks: JoinSet<()>,
    /// Where health is served, with the port that the system chose if none was given: so tests find it.
    pub health_address: SocketAddr,
    /// Where metrics are served, likewise.
    pub metrics_address: SocketAddr,
}

impl Servers {
    /// Listens on both addresses (which may be one) and answers until `shutdown` is wished.
    pub async fn start(
        (health_address, metrics_address): (SocketAddr, SocketAddr),
        health: Health,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, HealthError> {
        let mut tasks = JoinSet::new();
        let (health, metrics) = (health_routes(health), metrics_routes(metrics));
        if health_address == metrics_address {
            let address = serve(&mut tasks, health_address, health.merge(metrics), shutdown).await?;
            return Ok(Self { tasks, health_address: address, metrics_address: address });
        }
        let health_address = serve(&mut tasks, health_address, health, shutdown).await?;
        let metrics_address = serve(&mut tasks, metrics_address, metrics, shutdown).await?;
        Ok(Self { tasks, health_address, metrics_address })
    }

    /// Waits until the last connection is closed after shutdown was wished.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn serve(
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    routes: Router,
    shutdown: &Shutdown,
) -> Result<SocketAddr, HealthError> {
    let failed = |source| HealthError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.wished());
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%bound, %error, "health checks and metrics are not served any more");
        }
    });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_a_standby_is_ready() {
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let servers = Servers::start((any_port(), any_port()), health.clone(), Metrics::new(), &shutdown)
            .await
            .expect("listening");
        for (phase, code) in
            [(Phase::Starting, "503"), (Phase::Standby, "200"), (Phase::Syncing, "503"), (Phase::Leading, "200")]
        {
            health.set(phase);
            let answer = get(servers.health_address, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains(phase.as_str()), "{answer}");
            assert!(get(servers.health_address, "/healthz").await.starts_with("HTTP/1.1 200"));
        }
        shutdown.begin();
        servers.ended().await;
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_form_that_prometheus_reads() {
        let shutdown = Shutdown::new();
        let same = TcpListener::bind(any_port()).await.and_then(|free| free.local_addr()).expect("a free port");
        let metrics = Metrics::new();
        metrics.ledger_write("OrdererJoin");
        let servers = Servers::start((same, same), Health::default(), metrics, &shutdown).await.expect("listening");
        let answer = get(servers.metrics_address, "/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
        assert!(answer.contains("ehrnet_ledger_writes_total{act=\"OrdererJoin\"} 1"), "{answer}");
        assert!(get(same, "/readyz").await.starts_with("HTTP/1.1 503"), "one address can serve both");
        shutdown.begin();
        servers.ended().await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let shutdown = Shutdown::new();
        let taken = TcpListener::bind(any_port()).await.expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = Servers::start((address, any_port()), Health::default(), Metrics::new(), &shutdown).await;
        assert!(error.expect_err("in use").to_string().contains(&address.to_string()));
    }
}
