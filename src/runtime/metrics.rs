//! What is counted, in the OpenMetrics text that Prometheus reads.
//!
//! Invariant: label values come from fixed sets (kinds, verbs, results) or from the resources' own names; nothing that a
//! user types freely becomes a label, so that the number of series is bounded by the number of resources.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of the duration histograms, in seconds: from one that finds nothing to do to one that waits for a node.
const DURATION_BOUNDS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindResult {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiWrite {
    resource: String,
    verb: &'static str,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Act {
    act: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Certificate {
    namespace: String,
    secret: String,
}

/// All metrics of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconciles: Family<KindResult, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    in_flight: Family<Kind, Gauge>,
    api_writes: Family<ApiWrite, Counter>,
    ledger_writes: Family<Act, Counter>,
    certificates: Family<Certificate, Gauge>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything, all at zero.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("ehrnet"),
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            in_flight: Family::default(),
            api_writes: Family::default(),
            ledger_writes: Family::default(),
            certificates: Family::default(),
            leader: Gauge::default(),
        };
        let registry = &mut inner.registry;
        registry.register("reconciles", "Reconciles that ended, by kind and result", inner.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took",
            Unit::Seconds,
            inner.durations.clone(),
        );
        registry.register("reconciles_in_flight", "Reconciles under way", inner.in_flight.clone());
        registry.register("api_writes", "Writes to the Kubernetes API, by resource", inner.api_writes.clone());
        registry.register("ledger_writes", "Acts that change the ledger", inner.ledger_writes.clone());
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "End of validity of the first certificate in a Secret to expire, seconds since 1970",
            Unit::Seconds,
            inner.certificates.clone(),
        );
        registry.register("leader", "1 while this process holds the lease", inner.leader.clone());
        Self(Arc::new(inner))
    }

    /// A reconcile of `kind` begins; it ends with [`Reconciling::finish`].
    pub fn reconciling(&self, kind: &'static str) -> Reconciling {
        self.0.in_flight.get_or_create(&Kind { kind }).inc();
        Reconciling { metrics: self.clone(), kind, since: Instant::now(), result: "cancelled" }
    }

    /// A request that changes something was answered with `code`, or with nothing: `none`.
    pub fn api_write(&self, resource: &str, verb: &'static str, code: Option<u16>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.0.api_writes.get_or_create(&ApiWrite { resource: resource.to_owned(), verb, code }).inc();
    }

    /// The ledger was changed by an `act` of this sort.
    pub fn ledger_write(&self, act: &'static str) {
        self.0.ledger_writes.get_or_create(&Act { act }).inc();
    }

    /// A certificate in `secret` expires at `not_after`, seconds since 1970.
    pub fn certificate(&self, namespace: &str, secret: &str, not_after: i64) {
        self.0.certificates.get_or_create(&certificate(namespace, secret)).set(not_after);
    }

    /// `secret` is gone.
    pub fn certificate_gone(&self, namespace: &str, secret: &str) {
        self.0.certificates.remove(&certificate(namespace, secret));
    }

    /// Whether this process holds the lease.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// Everything, as OpenMetrics text of the type [`CONTENT_TYPE`].
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

fn certificate(namespace: &str, secret: &str) -> Certificate {
    Certificate { namespace: namespace.to_owned(), secret: secret.to_owned() }
}

/// A reconcile under way. Dropped without [`Self::finish`] it counts as `cancelled`.
#[derive(Debug)]
pub struct Reconciling {
    metrics: Metrics,
    kind: &'static str,
    since: Instant,
    result: &'static str,
}

impl Reconciling {
    /// It ended with `result`: `ok`, or the name of the error's variant. Returns how long it took.
    pub fn finish(mut self, result: &'static str) -> Duration {
        self.result = result;
        self.since.elapsed()
    }
}

impl Drop for Reconciling {
    fn drop(&mut self) {
        let Self { metrics, kind, since, result } = self;
        metrics.0.in_flight.get_or_create(&Kind { kind }).dec();
        metrics.0.durations.get_or_create(&Kind { kind }).observe(since.elapsed().as_secs_f64());
        metrics.0.reconciles.get_or_create(&KindResult { kind, result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_stands_in_the_text() {
        let metrics = Metrics::new();
        metrics.reconciling("Peer").finish("ok");
        drop(metrics.reconciling("Peer"));
        let under_way = metrics.reconciling("Channel");
        metrics.api_write("statefulsets", "patch", Some(200));
        metrics.api_write("secrets", "create", None);
        metrics.ledger_write("OrdererJoin");
        metrics.certificate("mercy", "peer0-tls", 1_800_000_000);
        metrics.leader(true);
        let text = metrics.text().expect("encoding into a string");
        for line in [
            r#"ehrnet_reconciles_total{kind="Peer",result="ok"} 1"#,
            r#"ehrnet_reconciles_total{kind="Peer",result="cancelled"} 1"#,
            r#"ehrnet_reconcile_duration_seconds_count{kind="Peer"} 2"#,
            r#"ehrnet_reconciles_in_flight{kind="Channel"} 1"#,
            r#"ehrnet_reconciles_in_flight{kind="Peer"} 0"#,
            r#"ehrnet_api_writes_total{resource="statefulsets",verb="patch",code="200"} 1"#,
            r#"ehrnet_api_writes_total{resource="secrets",verb="create",code="none"} 1"#,
            r#"ehrnet_ledger_writes_total{act="OrdererJoin"} 1"#,
            r#"ehrnet_certificate_expiry_timestamp_seconds{namespace="mercy",secret="peer0-tls"} 1800000000"#,
            "ehrnet_leader 1",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        under_way.finish("ok");
    }

    #[test]
    fn a_secret_that_is_gone_has_no_expiry() {
        let metrics = Metrics::new();
        metrics.certificate("mercy", "peer0-tls", 1);
        metrics.certificate_gone("mercy", "peer0-tls");
        assert!(!metrics.text().expect("encoding into a string").contains("peer0-tls"));
    }
}
