//! A real control plane without a node: etcd and kube-apiserver on a loopback address of their own.
//!
//! RBAC is on, Pod Security is enforced by namespace label, requests of service accounts go to an audit log, and
//! everything is gone when [`TestCluster`] is dropped. There is no controller manager and no kubelet: what those
//! would do, and the tests need, is in `controllers.rs` and `kubelet/`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ehrnet_api as api;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::objects;
use super::process::Process;
use super::subnet::Subnet;
use super::tls::{self, Pair};

const START_LIMIT: Duration = Duration::from_secs(60);

/// The only way to learn that a port answers is to ask again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The control plane of one test binary.
pub struct TestCluster {
    // Dropped in this order: the API server before its store, the data last.
    apiserver: Process,
    etcd: Process,
    /// Loopback addresses of this binary.
    pub subnet: Subnet,
    ca: Pair,
    admin: Pair,
    url: String,
    folder: TempDir,
    started_in: Duration,
}

impl TestCluster {
    /// Starts both processes and installs the resource definitions. An error says which did not, and what it printed.
    pub async fn start(assets: &Path) -> Result<Self, String> {
        let begin = Instant::now();
        remove_leftovers();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER_PREFIX}{}-", std::process::id()))
            .tempdir()
            .map_err(|e| format!("temporary folder: {e}"))?;
        let subnet = Subnet::claim().map_err(|e| format!("no free loopback addresses 127.x.0.0/16: {e}"))?;
        let address = subnet.take();
        let etcd = start_etcd(assets, folder.path(), address).await?;
        let ca = tls::authority("test-cluster");
        let admin = ca.client("admin", "system:masters");
        let apiserver = start_apiserver(assets, folder.path(), address, &ca).await?;
        let url = format!("https://{address}:6443");
        let mut cluster = Self { apiserver, etcd, subnet, ca, admin, url, folder, started_in: Duration::ZERO };
        cluster.wait_until_ready().await?;
        cluster.install_definitions().await.map_err(|e| format!("resource definitions: {e}"))?;
        cluster.started_in = begin.elapsed();
        Ok(cluster)
    }

    /// From the first process to installed definitions.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Connection of the cluster's administrator. Clients belong to the runtime that made them, so each test makes its own.
    pub async fn config(&self) -> Config {
        self.config_for(&self.admin_user()).await
    }

    /// Connection with a service account's token.
    pub async fn config_with_token(&self, token: &str) -> Config {
        self.config_for(&json!({"token": token})).await
    }

    /// The administrator's kubeconfig, for other programs (JSON is YAML).
    pub fn kubeconfig(&self) -> String {
        serde_json::to_string(&self.kubeconfig_for(&self.admin_user())).expect("JSON")
    }

    /// A client with every right.
    pub async fn client(&self) -> Client {
        Client::try_from(self.config().await).expect("the configuration is complete")
    }

    /// A folder of this cluster for a test's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Audit log: one JSON event per line, requests of service accounts only.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// Resident memory of both processes in MB, for the benchmark.
    pub fn resident(&self) -> [(&'static str, f64); 2] {
        [("etcd", &self.etcd), ("kube-apiserver", &self.apiserver)]
            .map(|(name, process)| (name, super::resident_mb(process.pid(), "VmRSS:")))
    }

    /// A namespace of its own for a test, which admits no pod that breaks Pod Security `restricted`.
    pub async fn namespace(&self, client: &Client, prefix: &str) -> String {
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("{prefix}-"),
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "latest",
                },
            },
        }))
        .expect("a namespace");
        let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        made.expect("create a namespace").metadata.name.expect("the server names it")
    }

    /// A client that is the service account `name` of `namespace` (made if absent), by a token the server issues.
    pub async fn as_service_account(&self, client: &Client, namespace: &str, name: &str) -> Config {
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let account = ServiceAccount {
            metadata: kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() },
            ..Default::default()
        };
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => panic!("service account {namespace}/{name}: {error}"),
        }
        let request = serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 3600}}))
            .expect("a token request");
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.expect("a token");
        self.config_with_token(&answer.status.expect("an answered token request").token).await
    }

    async fn config_for(&self, user: &Value) -> Config {
        let mut config = Config::from_custom_kubeconfig(self.kubeconfig_for(user), &KubeConfigOptions::default())
            .await
            .expect("the kubeconfig is complete");
        // Tests want to see each answer of the server, not the client's retries of it.
        config.default_retry = false;
        config
    }

    fn kubeconfig_for(&self, user: &Value) -> Kubeconfig {
        let authority = tls::base64(&self.ca.certificate);
        serde_json::from_value(json!({
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }))
        .expect("a kubeconfig")
    }

    fn admin_user(&self) -> Value {
        json!({
            "client-certificate-data": tls::base64(&self.admin.certificate),
            "client-key-data": tls::base64(&self.admin.key),
        })
    }

    async fn wait_until_ready(&self) -> Result<(), String> {
        let client = self.client().await;
        let begin = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            let answer = client.request_text(request).await;
            if answer.as_deref().is_ok_and(|text| text == "ok") {
                return Ok(());
            }
            for process in [&self.etcd, &self.apiserver] {
                if let Some(status) = process.exited() {
                    return Err(format!("a process ended ({status}):\n{}", process.tail(20)));
                }
            }
            if begin.elapsed() > START_LIMIT {
                return Err(format!("not ready after {START_LIMIT:?}: {answer:?}\n{}", self.apiserver.tail(20)));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn install_definitions(&self) -> Result<(), kube::Error> {
        let client = self.client().await;
        let definitions = Api::<CustomResourceDefinition>::all(client.clone());
        for definition in api::crds() {
            let name = definition.metadata.name.clone().expect("a definition has a name");
            let parameters = PatchParams::apply("test").force().validation_strict();
            definitions.patch(&name, &parameters, &kube::api::Patch::Apply(&definition)).await?;
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            match tokio::time::timeout(START_LIMIT, established).await {
                Ok(seen) => drop(seen.expect("the watch of a definition")),
                Err(_) => panic!("{name} is not established: {:?}", definitions.get(&name).await?.status),
            }
            let served =
                Api::<DynamicObject>::all_with(client.clone(), &objects::resource(&definition.spec.names.kind));
            // Established comes a moment before the server's own cache of the new kind is filled; until then it says 429.
            while let Err(error) = served.list_metadata(&ListParams::default().limit(1)).await {
                match error {
                    kube::Error::Api(status) if status.code == 429 => tokio::time::sleep(ASK_AGAIN).await,
                    other => return Err(other),
                }
            }
        }
        Ok(())
    }
}

const FOLDER_PREFIX: &str = "ehrnet-test-";

/// A binary that was killed leaves its folder behind; its pid stands in the name.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(FOLDER_PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another binary may be removing it at the same moment.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn start_etcd(assets: &Path, folder: &Path, address: Ipv4Addr) -> Result<Process, String> {
    let client = format!("http://{address}:2379");
    let peer = format!("http://{address}:2380");
    let arguments = [
        ("data-dir", folder.join("etcd").display().to_string()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer.clone()),
        ("initial-cluster", format!("default={peer}")),
        // The data does not outlive the process.
        ("unsafe-no-fsync", "true".to_owned()),
        ("log-level", "error".to_owned()),
    ];
    start(assets, "etcd", &arguments, folder).await
}

async fn start_apiserver(assets: &Path, folder: &Path, address: Ipv4Addr, ca: &Pair) -> Result<Process, String> {
    let file = |name: &str, text: &str| -> Result<String, String> {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path.display().to_string())
    };
    let serving = ca.server(address);
    let tokens = tls::key_pair();
    let token_key = file("tokens.key", &tokens.key)?;
    let token_public_key = file("tokens.pub", &tokens.certificate)?;
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
    });
    let arguments = [
        ("etcd-servers", format!("http://{address}:2379")),
        ("bind-address", address.to_string()),
        ("advertise-address", address.to_string()),
        ("secure-port", "6443".to_owned()),
        ("client-ca-file", file("ca.crt", &ca.certificate)?),
        ("tls-cert-file", file("apiserver.crt", &serving.certificate)?),
        ("tls-private-key-file", file("apiserver.key", &serving.key)?),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("service-account-signing-key-file", token_key),
        ("service-account-key-file", token_public_key),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("authorization-mode", "RBAC".to_owned()),
        ("enable-admission-plugins", "PodSecurity,OwnerReferencesPermissionEnforcement".to_owned()),
        // It guards volumes by a finalizer that only the controller manager takes away.
        ("disable-admission-plugins", "StorageObjectInUseProtection".to_owned()),
        // A loopback address is no valid endpoint of the service `kubernetes`, and no pod asks for it.
        ("endpoint-reconciler-type", "none".to_owned()),
        ("audit-log-path", folder.join("audit.log").display().to_string()),
        ("audit-policy-file", file("audit-policy.json", &policy.to_string())?),
    ];
    start(assets, "kube-apiserver", &arguments, folder).await
}

async fn start(assets: &Path, name: &str, arguments: &[(&str, String)], folder: &Path) -> Result<Process, String> {
    let arguments: Vec<_> = arguments.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
    let log = folder.join(format!("{name}.log"));
    Process::start(name, &assets.join(name), &arguments, &[], &log).await.map_err(|e| format!("{name}: {e}"))
}
