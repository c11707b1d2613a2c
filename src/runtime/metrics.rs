//! What is counted, in the OpenMetrics text that Prometheus reads.
//!
//! Invariant: label values come from fixed sets (kinds, verbs, results) or from the resources' own names; nothing that a
//! user types freely becomes a label, so that the number of series is bounded by the number of resources.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Which certificate.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Certificate {
    /// Namespace of the resource.
    pub namespace: String,
    /// Kind of the resource that it was issued for; empty for what the resources of a namespace share.
    pub kind: String,
    /// Name of that resource.
    pub name: String,
    /// The Secret that holds it.
    pub secret: String,
    /// `leaf`, or which of the CAs of its resource: `signing-ca` or `tls-ca`.
    pub certificate: &'static str,
}

/// Namespace, kind and name of the resource that certificates were issued for.
type Owner = (String, String, String);

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
    ends: Family<Certificate, Gauge>,
    renewals: Family<Certificate, Gauge>,
    /// All certificates that stand in the two before, by owner: a family does not tell what it holds.
    certificates: Mutex<BTreeMap<Owner, HashSet<Certificate>>>,
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
            ends: Family::default(),
            renewals: Family::default(),
            certificates: Mutex::default(),
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
            "End of validity of a certificate, seconds since 1970",
            Unit::Seconds,
            inner.ends.clone(),
        );
        registry.register_with_unit(
            "certificate_renewal_timestamp",
            "When the operator renews a certificate, seconds since 1970; none for what it never renews by itself",
            Unit::Seconds,
            inner.renewals.clone(),
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

    /// A certificate ends at `not_after` and is renewed at `renewal`, both in seconds since 1970. A CA takes the place of the
    /// one that its resource had before, whatever Secret that was in.
    pub fn certificate(&self, certificate: Certificate, not_after: i64, renewal: Option<i64>) {
        let owner = (certificate.namespace.clone(), certificate.kind.clone(), certificate.name.clone());
        let mut certificates = self.0.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = certificates.entry(owner).or_default();
        if certificate.certificate != "leaf" {
            let replaced = |other: &Certificate| {
                other.certificate == certificate.certificate && other.secret != certificate.secret
            };
            known.extract_if(replaced).for_each(|other| self.withdraw(&other));
        }
        self.0.ends.get_or_create(&certificate).set(not_after);
        match renewal {
            Some(renewal) => {
                self.0.renewals.get_or_create(&certificate).set(renewal);
            }
            None => {
                self.0.renewals.remove(&certificate);
            }
        }
        known.insert(certificate);
    }

    /// A resource is gone, and nothing is said of its certificates any more. What the resources of a namespace share goes
    /// with the last of them.
    pub fn certificates_gone(&self, namespace: &str, kind: &str, name: &str) {
        let mut certificates = self.0.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone =
            certificates.remove(&(namespace.to_owned(), kind.to_owned(), name.to_owned())).unwrap_or_default();
        let first: Owner = (namespace.to_owned(), String::new(), String::new());
        let left: Vec<Owner> = certificates
            .range(first..)
            .map(|(owner, _)| owner.clone())
            .take_while(|(of, ..)| of == namespace)
            .collect();
        if left.iter().all(|(_, kind, _)| kind.is_empty()) {
            gone.extend(left.iter().filter_map(|owner| certificates.remove(owner)).flatten());
        }
        gone.iter().for_each(|certificate| self.withdraw(certificate));
    }

    /// Takes a certificate out of the text.
    fn withdraw(&self, certificate: &Certificate) {
        self.0.ends.remove(certificate);
        self.0.renewals.remove(certificate);
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

    fn certificate(name: &str) -> Certificate {
        let [namespace, kind, name, secret] =
            ["mercy", "Peer", name, &format!("{name}-tls")].map(|text| text.to_owned());
        Certificate { namespace, kind, name, secret, certificate: "leaf" }
    }

    #[test]
    fn what_happened_stands_in_the_text() {
        let metrics = Metrics::new();
        metrics.reconciling("Peer").finish("ok");
        drop(metrics.reconciling("Peer"));
        let under_way = metrics.reconciling("Channel");
        metrics.api_write("statefulsets", "patch", Some(200));
        metrics.api_write("secrets", "create", None);
        metrics.ledger_write("OrdererJoin");
        metrics.certificate(certificate("peer0"), 1_800_000_000, Some(1_700_000_000));
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
            r#"ehrnet_certificate_expiry_timestamp_seconds{namespace="mercy",kind="Peer",name="peer0",secret="peer0-tls",certificate="leaf"} 1800000000"#,
            r#"ehrnet_certificate_renewal_timestamp_seconds{namespace="mercy",kind="Peer",name="peer0",secret="peer0-tls",certificate="leaf"} 1700000000"#,
            "ehrnet_leader 1",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        under_way.finish("ok");
    }

    #[test]
    fn nothing_is_said_of_the_certificates_of_a_resource_that_is_gone() {
        let metrics = Metrics::new();
        metrics.certificate(certificate("peer0"), 1, Some(1));
        metrics.certificate(certificate("peer1"), 1, None);
        metrics.certificates_gone("mercy", "Peer", "peer0");
        let text = metrics.text().expect("encoding into a string");
        assert!(!text.contains("peer0-tls") && text.contains("peer1-tls"), "{text}");
    }

    #[test]
    fn a_ca_takes_the_place_of_the_one_before_and_a_leaf_of_its_own_only() {
        let metrics = Metrics::new();
        let of = |secret: &str, certificate: &'static str| Certificate {
            secret: secret.into(),
            certificate,
            ..self::certificate("oak")
        };
        metrics.certificate(of("made", "tls-ca"), 1, Some(1));
        metrics.certificate(of("signing", "signing-ca"), 1, Some(1));
        metrics.certificate(of("admin", "leaf"), 1, Some(1));
        metrics.certificate(of("given", "tls-ca"), 2, None);
        metrics.certificate(of("client", "leaf"), 2, Some(2));
        let text = metrics.text().expect("encoding into a string");
        assert!(!text.contains("made"), "{text}");
        for secret in ["signing", "admin", "given", "client"] {
            assert!(text.contains(&format!("secret=\"{secret}\"")), "{secret} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_namespace_shares_goes_with_its_last_resource() {
        let metrics = Metrics::new();
        let shared = Certificate { kind: String::new(), name: String::new(), ..certificate("shared") };
        metrics.certificate(shared, 1, None);
        metrics.certificate(certificate("peer0"), 1, None);
        metrics.certificate(certificate("peer1"), 1, None);
        metrics.certificates_gone("mercy", "Peer", "peer0");
        assert!(metrics.text().expect("a text").contains("shared-tls"));
        metrics.certificates_gone("mercy", "Peer", "peer1");
        assert!(!metrics.text().expect("a text").contains("shared-tls"));
    }
}
