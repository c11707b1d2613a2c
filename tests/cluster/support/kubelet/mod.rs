//! A stand-in for the nodes of a namespace: pods become processes on loopback addresses of their own.
//!
//! [`statefulsets`] and [`deployments`] make pods, [`pods`] runs them, [`garbage`] removes what lost its owner. Status is
//! written as the real ones write it; volumes outlive their pods. Dropping the [`FakeKubelet`] kills every process.

mod container;
mod deployments;
mod garbage;
mod pods;
mod probes;
mod statefulsets;
mod volumes;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::process::Process;
use super::server::TestCluster;

pub use garbage::terminate_namespace;
pub use statefulsets::is_ready;

/// Images under this host cannot be pulled.
pub const UNREACHABLE_REGISTRY: &str = "nowhere.invalid/";

/// The nodes of one namespace.
pub struct FakeKubelet {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the parts have in common.
pub struct Shared {
    cluster: Arc<TestCluster>,
    client: Client,
    namespace: String,
    folder: PathBuf,
    addresses: Mutex<BTreeMap<String, Ipv4Addr>>,
    running: Mutex<BTreeMap<String, Arc<Process>>>,
    /// Nodes (StatefulSets and Deployments) whose processes must not run now.
    held: watch::Sender<BTreeSet<String>>,
    refusals: Mutex<Vec<String>>,
    services: Store<Service>,
    pods: Store<Pod>,
}

impl FakeKubelet {
    /// Starts to look after `namespace`.
    pub async fn start(cluster: &Arc<TestCluster>, namespace: &str) -> Self {
        let client = cluster.client().await;
        let folder = cluster.folder().join(namespace);
        fs::create_dir_all(&folder).expect("make a folder");
        File::create(folder.join("hosts")).expect("make a hosts file");
        let mut tasks = JoinSet::new();
        let services = keep(&mut tasks, Api::namespaced(client.clone(), namespace));
        let pod_store = keep(&mut tasks, Api::namespaced(client.clone(), namespace));
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            client: client.clone(),
            namespace: namespace.to_owned(),
            folder,
            addresses: Mutex::default(),
            running: Mutex::default(),
            held: watch::Sender::new(BTreeSet::new()),
            refusals: Mutex::default(),
            services,
            pods: pod_store,
        });
        let creator = cluster.as_service_account(&client, "kube-system", "statefulset-controller").await;
        let creator = Client::try_from(creator).expect("the configuration is complete");
        tasks.spawn(statefulsets::run(shared.clone(), creator));
        let creator = cluster.as_service_account(&client, "kube-system", "replicaset-controller").await;
        let creator = Client::try_from(creator).expect("the configuration is complete");
        tasks.spawn(deployments::run(shared.clone(), creator));
        tasks.spawn(pods::run(shared.clone()));
        let (ready, seen) = oneshot::channel();
        tasks.spawn(garbage::run(client, namespace.to_owned(), ready));
        seen.await.expect("the garbage collector sees every owner");
        Self { shared, tasks }
    }

    /// Kills the node's process and keeps it down: its pod stays and is not ready.
    pub fn hold(&self, node: &str) {
        self.shared.held.send_if_modified(|held| held.insert(node.to_owned()));
    }

    /// Lets a held node start again.
    pub fn release(&self, node: &str) {
        self.shared.held.send_if_modified(|held| held.remove(node));
    }

    /// Stops the process of a node without ending it: its connections stay, and nothing answers.
    pub fn freeze(&self, node: &str) {
        self.process(node).signal(Signal::STOP);
    }

    /// Kills the node's process; it is started again as after a crash.
    pub fn kill(&self, node: &str) {
        self.process(node).signal(Signal::KILL);
    }

    /// Deletes what is on the volume of a claim; the node that has it must be held.
    pub fn wipe_claim(&self, claim: &str) {
        std::fs::remove_dir_all(self.shared.folder.join("claims").join(claim)).expect("remove the volume");
    }

    /// Deletes what is on the volumes.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.shared.folder.join("claims")).expect("remove the volumes");
    }

    /// Process id of a running node; it changes with each start.
    pub fn pid(&self, node: &str) -> u32 {
        self.process(node).pid()
    }

    /// The last lines a node printed; nothing while it does not run.
    pub fn log(&self, node: &str) -> String {
        let running = self.shared.running.lock().expect("no panic while held");
        running.get(node).map(|process| process.tail(50)).unwrap_or_default()
    }

    /// Pods that the API server did not admit: set and message.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.lock().expect("no panic while held").clone()
    }

    /// Where a connection to a Service goes, as kube-proxy would decide: the ready pod that its selector matches and
    /// the target port of `port`.
    pub fn resolver(&self) -> Resolver {
        Resolver(self.shared.clone())
    }

    fn process(&self, node: &str) -> Arc<Process> {
        let running = self.shared.running.lock().expect("no panic while held");
        running.get(node).unwrap_or_else(|| panic!("{node} does not run")).clone()
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.tasks.abort_all();
        self.shared.running.lock().unwrap_or_else(|e| e.into_inner()).clear();
        for address in self.shared.addresses.lock().unwrap_or_else(|e| e.into_inner()).values() {
            self.shared.cluster.subnet.give_back(*address);
        }
    }
}

fn keep<K>(tasks: &mut JoinSet<()>, api: Api<K>) -> Store<K>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
{
    let (store, writer) = reflector::store();
    let stream = reflector::reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
    tasks.spawn(stream.for_each(|_| std::future::ready(())));
    store
}

impl Shared {
    /// The address of a node, the same as long as the namespace is looked after.
    fn address(&self, node: &str) -> Ipv4Addr {
        let mut addresses = self.addresses.lock().expect("no panic while held");
        if let Some(address) = addresses.get(node) {
            return *address;
        }
        let address = self.cluster.subnet.take();
        let ns = &self.namespace;
        let line = format!("{address} {node} {node}.{ns} {node}.{ns}.svc {node}.{ns}.svc.cluster.local {node}-0\n");
        // One write of one line, so that a reader never sees half a name.
        let mut hosts = File::options().append(true).open(self.hosts()).expect("open the hosts file");
        hosts.write_all(line.as_bytes()).expect("write the hosts file");
        addresses.insert(node.to_owned(), address);
        address
    }

    fn hosts(&self) -> PathBuf {
        self.folder.join("hosts")
    }

    fn refused(&self, set: &str, message: &str) {
        self.refusals.lock().expect("no panic while held").push(format!("{set}: {message}"));
    }
}

/// Finds the address behind a Service's name.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

impl Resolver {
    /// The address and port behind `host:port`, or why there is none.
    pub fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        let mut labels = host.split('.');
        let name = labels.next().unwrap_or_default();
        let namespace = labels.next().unwrap_or(&self.0.namespace);
        let service = self.0.services.find(|s| s.name_any() == name && namespace == self.0.namespace);
        let service = service.ok_or_else(|| format!("no such host {host}"))?;
        let spec = service.spec.clone().unwrap_or_default();
        let selector = spec.selector.unwrap_or_default();
        let unready = spec.publish_not_ready_addresses == Some(true);
        let selected = |pod: &Pod| {
            selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)) && !selector.is_empty()
        };
        let pod = self.0.pods.find(|pod| selected(pod) && (unready || is_ready(pod)));
        let pod = pod.ok_or_else(|| format!("service {name} has no endpoints"))?;
        let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()?.parse::<Ipv4Addr>().ok());
        let address = address.ok_or_else(|| format!("pod of {name} has no address"))?;
        let entry = spec.ports.iter().flatten().find(|p| p.port == i32::from(port));
        let entry = entry.ok_or_else(|| format!("service {name} has no port {port}"))?;
        let target = match &entry.target_port {
            Some(target) => pod.spec.iter().flat_map(|s| &s.containers).find_map(|c| probes::port(target, c)),
            None => Some(port),
        };
        let target = target.ok_or_else(|| format!("pod of {name} has no port {:?}", entry.target_port))?;
        Ok(SocketAddr::from((address, target)))
    }
}
