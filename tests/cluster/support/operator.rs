//! The operator under test: the real thing in this process, on a runtime of its own, as its own service account.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Parser;
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed};
use ehrnet_operator::{self as operator, OperatorError, Parts};
use ehrnet_runtime::Settings;
use ehrnet_runtime::client::Guard;
use ehrnet_runtime::fence::Fence;
use ehrnet_runtime::health::Health;
use ehrnet_runtime::metrics::Metrics;
use ehrnet_runtime::shutdown::Shutdown;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::gate::{Gate, LedgerPass};
use super::kubelet::{FakeKubelet, Resolver};
use super::rules;
use super::scene::LIMIT;
use super::server::TestCluster;

/// Name of the operator's service account in each test's namespace.
pub const ACCOUNT: &str = "ehrnet-operator";

/// The arguments of `ehrnet operator` as a test sets them.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

/// How to start an operator.
#[derive(Clone)]
pub struct Start {
    config: Config,
    resolver: Resolver,
    arguments: Vec<String>,
}

impl Start {
    /// In `namespace`, with the rights of its service account there.
    pub async fn new(cluster: &TestCluster, kubelet: &FakeKubelet, namespace: &str) -> Self {
        let client = cluster.client().await;
        let mut config = cluster.as_service_account(&client, namespace, ACCOUNT).await;
        grant(&client, namespace).await;
        until_granted(&client, namespace).await;
        namespace.clone_into(&mut config.default_namespace);
        let mut arguments = ["operator", "--leader-election", "false"].map(str::to_owned).to_vec();
        arguments.extend(super::ledger::arguments());
        Self { config, resolver: kubelet.resolver(), arguments }
    }

    /// With this option, whatever it was before.
    pub fn with(mut self, argument: [&str; 2]) -> Self {
        if let Some(at) = self.arguments.iter().position(|known| known == argument[0]) {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend(argument.map(str::to_owned));
        self
    }

    /// With leader election, as this candidate; the same one again is a pod that starts again.
    pub fn with_lease(mut self, candidate: &str) -> Self {
        "true".clone_into(&mut self.arguments[2]);
        self.arguments.extend(["--identity", candidate, "--lease-name", rules::LEASE].map(str::to_owned));
        self
    }

    /// Starts it behind `gate`.
    pub fn run(&self, gate: Gate) -> OperatorUnderTest {
        let settings = Arguments::try_parse_from(&self.arguments).expect("valid arguments").settings;
        let fence = if settings.lease.leader_election { Fence::closed() } else { Fence::always() };
        let metrics = Metrics::new();
        let guard = Guard { fence: fence.clone(), metrics: metrics.clone() };
        let network = Arc::new(TestNetwork {
            resolver: self.resolver.clone(),
            gate: gate.clone(),
            fence: fence.clone(),
            passes: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("operator")
            .enable_all()
            .build()
            .expect("a runtime");
        let counted = metrics.clone();
        let (config, shutdown, health) = (self.config.clone(), Shutdown::new(), Health::default());
        let task = runtime.spawn({
            let (gate, shutdown, health) = (gate.clone(), shutdown.clone(), health.clone());
            async move {
                let client =
                    ClientBuilder::try_from(config).expect("a client").with_layer(&gate).with_layer(&guard).build();
                let clock = Arc::new(jiff::Timestamp::now);
                operator::run(Parts { settings, client, network, fence, metrics, health, clock }, &shutdown).await
            }
        });
        OperatorUnderTest { runtime: Some(runtime), task, gate, shutdown, metrics: counted }
    }
}

/// The rights that the chart gives, in a namespace.
async fn grant(client: &Client, namespace: &str) {
    let rules: Vec<_> = rules::watched().into_iter().chain(rules::lease()).collect();
    let role: Role = object(json!({"metadata": {"name": ACCOUNT}, "rules": rules}));
    let binding: RoleBinding = object(json!({
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    }));
    let create = PostParams::default();
    Api::namespaced(client.clone(), namespace).create(&create, &role).await.expect("create a Role");
    Api::namespaced(client.clone(), namespace).create(&create, &binding).await.expect("create a RoleBinding");
}

/// The server takes new rights into use a moment after it has stored them, and nothing tells when: a candidate that comes
/// in between would leave the lease to the next one.
async fn until_granted(client: &Client, namespace: &str) {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let review: SubjectAccessReview = object(json!({"metadata": {}, "spec": {
        "user": format!("system:serviceaccount:{namespace}:{ACCOUNT}"),
        "resourceAttributes": {"namespace": namespace, "group": "coordination.k8s.io", "resource": "leases", "verb": "create"},
    }}));
    let begin = Instant::now();
    loop {
        let answer = reviews.create(&PostParams::default(), &review).await.expect("the administrator may ask");
        if answer.status.is_some_and(|status| status.allowed) {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "the Role does not come into force");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// A running operator. Dropping it kills it.
pub struct OperatorUnderTest {
    runtime: Option<tokio::runtime::Runtime>,
    task: JoinHandle<Result<(), OperatorError>>,
    gate: Gate,
    shutdown: Shutdown,
    metrics: Metrics,
}

impl OperatorUnderTest {
    /// Its gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Reconciles that ended so far; nothing while one is under way.
    pub fn passes(&self) -> Option<u64> {
        let text = self.metrics.text().expect("metrics are text");
        let sum = |name: &str| -> u64 {
            let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
            values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
        };
        (sum("ehrnet_reconciles_in_flight{") == 0).then(|| sum("ehrnet_reconciles_total{"))
    }

    /// Waits until it holds the lease.
    pub async fn leading(&self) {
        let mut leases = self.gate.lease_writes();
        leases.wait_for(|count| *count > 0).await.expect("the gate outlives the operator");
    }

    /// Ends it as SIGTERM does; it must be gone within the limit.
    pub async fn stop(mut self, limit: Duration) {
        self.shutdown.begin();
        let ended = tokio::time::timeout(limit, &mut self.task).await;
        ended.expect("the operator ends when it is told to").expect("no panic").expect("no error");
    }

    /// Panics with its error if it has ended by itself.
    pub async fn check(&mut self) {
        if self.task.is_finished() {
            let ended = (&mut self.task).await.expect("no panic in the operator");
            panic!("the operator ended: {ended:?}");
        }
    }
}

impl Drop for OperatorUnderTest {
    /// As SIGKILL: nothing passes the gate any more, then every task is dropped.
    fn drop(&mut self) {
        self.gate.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The way to the processes of the fake kubelet.
struct TestNetwork {
    resolver: Resolver,
    gate: Gate,
    fence: Fence,
    /// Changes under way; the ledger's answer says only what it was about.
    passes: Mutex<Vec<(LedgerAct, LedgerPass)>>,
}

#[async_trait]
impl Network for TestNetwork {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let address = self.resolver.resolve(host, port).map_err(|why| io::Error::new(io::ErrorKind::NotFound, why))?;
        let stream = TcpStream::connect(address).await?;
        self.gate.reached(host, port);
        Ok(stream)
    }

    async fn before_write(&self, act: &LedgerAct) -> Result<(), NotAllowed> {
        self.fence.check().map_err(|lost| NotAllowed(lost.to_string()))?;
        let target = format!("{}@{}", act.channel, act.node);
        let pass = self.gate.ledger_begins(act.kind.as_str(), &target).await;
        self.passes.lock().expect("no panic while held").push((act.clone(), pass));
        Ok(())
    }

    async fn after_write(&self, act: &LedgerAct) {
        let pass = {
            let mut passes = self.passes.lock().expect("no panic while held");
            let index = passes.iter().position(|(begun, _)| begun == act).expect("a change that was begun");
            passes.swap_remove(index).1
        };
        self.gate.ledger_ended(&pass).await;
    }
}
