//! How many of some nodes were away at the same time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;

use super::kubelet::is_ready;
use super::scene::Scene;

/// Watches nodes that are ready now until it is dropped.
pub struct Outage {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    down: BTreeSet<String>,
    worst: BTreeSet<String>,
    ever: BTreeSet<String>,
}

impl Outage {
    /// Begins to watch the pods of these nodes.
    pub async fn watch(scene: &Scene, nodes: &[&str]) -> Self {
        let pods: BTreeSet<String> = nodes.iter().map(|node| format!("{node}-0")).collect();
        let api: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        while !matches!(events.next().await.expect("a watch does not end"), Ok(Event::InitDone)) {}
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let record = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (pod, up) = match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod.name_any(), is_ready(&pod)),
                    Ok(Event::Delete(pod)) => (pod.name_any(), false),
                    _ => continue,
                };
                if pods.contains(&pod) {
                    record.lock().unwrap_or_else(PoisonError::into_inner).note(pod, up);
                }
            }
        });
        Self { seen, task }
    }

    /// The nodes' pods that were away at the same time when it was worst, and all that ever were.
    pub fn worst(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.worst.clone(), seen.ever.clone())
    }
}

impl Seen {
    fn note(&mut self, pod: String, up: bool) {
        if up {
            self.down.remove(&pod);
            return;
        }
        self.ever.insert(pod.clone());
        self.down.insert(pod);
        if self.down.len() > self.worst.len() {
            self.worst.clone_from(&self.down);
        }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.task.abort();
    }
}
