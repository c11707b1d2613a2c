//! The kubelet: runs each pod, probes it, reports its status, ends it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::container::Start;
use super::volumes::{self, Missing, Owner};
use super::{Shared, UNREACHABLE_REGISTRY, probes, workloads};
use crate::support::process::Process;

/// Until a container is up it is asked this often (the real kubelet: once a second), so that tests are fast.
const STARTING: Duration = Duration::from_millis(50);

/// How long a crashed container waits, and a pod whose volumes are not there yet.
const AGAIN: Duration = Duration::from_millis(100);

/// Runs the pods of the namespace until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut known: BTreeMap<String, watch::Sender<Pod>> = BTreeMap::new();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = running.join_next() => {
                let uid: String = ended.expect("a pod's task");
                known.remove(&uid);
            }
            Some(event) = events.next() => {
                // The watch repeats itself after an error.
                let Ok(pod) = event else { continue };
                let uid = pod.uid().unwrap_or_default();
                match known.entry(uid.clone()) {
                    Entry::Occupied(entry) => drop(entry.get().send_replace(pod)),
                    Entry::Vacant(entry) => {
                        let (sender, seen) = watch::channel(pod);
                        entry.insert(sender);
                        let worker = PodWorker::new(shared.clone(), seen);
                        running.spawn(async move { worker.run().await; uid });
                    }
                }
            }
        }
    }
}

struct PodWorker {
    shared: Arc<Shared>,
    api: Api<Pod>,
    seen: watch::Receiver<Pod>,
    /// The pod as it was created; its spec cannot change in a way that matters here.
    pod: Pod,
    node: String,
    address: Ipv4Addr,
    restarts: i32,
}

/// Why a container is not up.
struct Waiting {
    reason: &'static str,
    message: String,
}

impl PodWorker {
    fn new(shared: Arc<Shared>, seen: watch::Receiver<Pod>) -> Self {
        let pod = seen.borrow().clone();
        let owner = workloads::owner::<StatefulSet>(&pod).or_else(|| workloads::owner::<Deployment>(&pod));
        let node = owner.unwrap_or_else(|| pod.name_any());
        let address = shared.address(&node);
        let api = Api::namespaced(shared.client.clone(), &shared.namespace);
        Self { shared, api, seen, pod, node, address, restarts: 0 }
    }

    /// From the first event to the moment the object is gone.
    async fn run(mut self) {
        let mut deleted = self.seen.clone();
        let life = self.live();
        tokio::select! {
            // The sender is gone only when everything ends.
            _ = deleted.wait_for(|pod| pod.metadata.deletion_timestamp.is_some()) => {}
            () = life => {}
        }
        let process = self.shared.running.lock().expect("no panic while held").remove(&self.node);
        if let Some(process) = process {
            let spec = self.pod.spec.as_ref();
            let grace = spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
            process.stop(Duration::from_secs(grace.max(0) as u64)).await;
        }
        let _ = fs::remove_dir_all(self.folder());
        let now = DeleteParams::default().grace_period(0);
        match self.api.delete(&self.pod.name_any(), &now).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("pod {}: {error}", self.pod.name_any()),
        }
    }

    /// The first container is the node; the others (a database beside a peer) have no part in these tests.
    fn container(&self) -> Container {
        self.pod.spec.as_ref().expect("a pod has a spec").containers[0].clone()
    }

    fn folder(&self) -> std::path::PathBuf {
        self.shared.folder.join("pods").join(self.pod.uid().unwrap_or_default())
    }

    async fn live(&mut self) {
        loop {
            let waiting = match self.start().await {
                Ok(process) => self.attend(process).await,
                Err(waiting) => waiting,
            };
            self.report(Some(&waiting), false).await;
            let held = |held: &std::collections::BTreeSet<String>| held.contains(&self.node);
            if self.shared.held.borrow().contains(&self.node) {
                let mut changes = self.shared.held.subscribe();
                let _ = changes.wait_for(|now| !held(now)).await;
            } else {
                // Missing volumes, missing images and crashes are looked at again, as the kubelet does.
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn start(&self) -> Result<Process, Waiting> {
        let container = self.container();
        let image = container.image.clone().unwrap_or_default();
        if image.starts_with(UNREACHABLE_REGISTRY) {
            return Err(Waiting { reason: "ImagePullBackOff", message: format!("Back-off pulling image \"{image}\"") });
        }
        if self.shared.held.borrow().contains(&self.node) {
            return Err(Waiting { reason: "CrashLoopBackOff", message: "held down by the test".into() });
        }
        self.prepare(&container).await.map_err(|message| Waiting { reason: "ContainerCreating", message })
    }

    async fn prepare(&self, container: &Container) -> Result<Process, Missing> {
        let root = rustix::process::geteuid().is_root();
        let security = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        let owner = Owner { group: security.and_then(|s| s.fs_group).map(|id| id as u32), root };
        let folder = self.folder();
        let claims = self.shared.folder.join("claims");
        let volumes = volumes::make(
            &self.shared.client,
            &self.shared.namespace,
            &self.pod,
            &folder.join("volumes"),
            &claims,
            owner,
        )
        .await?;
        let start = Start {
            client: &self.shared.client,
            namespace: &self.shared.namespace,
            pod: &self.pod,
            container,
            address: self.address,
            volumes: &volumes,
            hosts: &self.shared.hosts(),
            folder: &folder,
            root,
        };
        start.run().await
    }

    /// Looks after a running container until it ends, and says how it ended.
    async fn attend(&mut self, process: Process) -> Waiting {
        let process = Arc::new(process);
        self.shared.running.lock().expect("no panic while held").insert(self.node.clone(), process.clone());
        let mut exit = process.exit_watch();
        let mut held = self.shared.held.subscribe();
        let node = self.node.clone();
        let reason = tokio::select! {
            _ = async { exit.wait_for(Option::is_some).await.map(drop) } => format!("exited: {:?}\n{}", process.exited(), process.tail(5)),
            _ = held.wait_for(|held| held.contains(&node)) => "held down by the test".to_owned(),
            why = self.probe() => why,
        };
        self.shared.running.lock().expect("no panic while held").remove(&self.node);
        process.stop(Duration::ZERO).await;
        self.restarts += 1;
        Waiting { reason: "CrashLoopBackOff", message: reason }
    }

    /// Runs the probes; returns only when the liveness probe has failed too often.
    async fn probe(&self) -> String {
        let container = self.container();
        self.report(None, false).await;
        let first = container.startup_probe.clone().or_else(|| container.readiness_probe.clone());
        if let Some(probe) = &first {
            while !probes::succeeds(probe, &container, self.address).await {
                tokio::time::sleep(STARTING).await;
            }
        }
        tokio::join!(self.readiness(&container), self.liveness(&container)).1
    }

    async fn readiness(&self, container: &Container) {
        let mut ready = container.readiness_probe.is_none();
        if let Some(probe) = &container.readiness_probe {
            while !probes::succeeds(probe, container, self.address).await {
                tokio::time::sleep(STARTING).await;
            }
            ready = true;
        }
        self.report(None, ready).await;
        let Some(probe) = &container.readiness_probe else { return };
        let mut failures = 0;
        loop {
            tokio::time::sleep(probes::period(probe)).await;
            failures = if probes::succeeds(probe, container, self.address).await { 0 } else { failures + 1 };
            let now = failures < limit(probe);
            if now != ready {
                ready = now;
                self.report(None, ready).await;
            }
        }
    }

    async fn liveness(&self, container: &Container) -> String {
        let Some(probe) = &container.liveness_probe else { return std::future::pending().await };
        let mut failures = 0;
        while failures < limit(probe) {
            tokio::time::sleep(probes::period(probe)).await;
            failures = if probes::succeeds(probe, container, self.address).await { 0 } else { failures + 1 };
        }
        "the liveness probe failed".to_owned()
    }

    async fn report(&self, waiting: Option<&Waiting>, ready: bool) {
        let now = Time(jiff::Timestamp::now());
        let state = match waiting {
            Some(why) => json!({"waiting": {"reason": why.reason, "message": why.message}}),
            None => json!({"running": {"startedAt": now}}),
        };
        let containers = self.pod.spec.iter().flat_map(|s| &s.containers);
        let statuses: Vec<ContainerStatus> =
            containers.map(|container| self.status(container, &state, ready)).collect();
        let condition = |kind: &str, value: bool| json!({"type": kind, "status": if value { "True" } else { "False" }, "lastTransitionTime": now});
        let up = waiting.is_none();
        let patch = json!({"status": {
            "phase": if up || self.restarts > 0 { "Running" } else { "Pending" },
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": self.address,
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", true),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": statuses,
        }});
        match self.api.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => {}
            Err(error) => panic!("pod {}: {error}", self.pod.name_any()),
        }
    }

    fn status(&self, container: &Container, state: &Value, ready: bool) -> ContainerStatus {
        serde_json::from_value(json!({
            "name": container.name,
            "image": container.image,
            "imageID": "",
            "ready": ready,
            "started": state.get("running").is_some(),
            "restartCount": self.restarts,
            "state": state,
        }))
        .expect("a container status")
    }
}

fn limit(probe: &Probe) -> i32 {
    probe.failure_threshold.unwrap_or(3).max(1)
}
