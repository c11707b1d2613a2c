//! What the controllers of workloads have in common: when they look at which workload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

const AGAIN: Duration = Duration::from_millis(100);

/// Brings workloads of one kind to where they belong.
pub trait Controller<K> {
    /// Whether the workload's pod is what it should be, as far as this controller can bring it.
    fn reconcile(&self, workload: &K) -> impl Future<Output = kube::Result<bool>> + Send;
}

/// Looks at a workload whenever it or its pod changes, until it is dropped.
pub async fn run<K>(workloads: Api<K>, pods: Api<Pod>, controller: impl Controller<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = watcher(workloads, watcher::Config::default()).default_backoff().boxed();
    let mut pod_events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let mut known: BTreeMap<String, K> = BTreeMap::new();
    // Those that could not be brought to where they belong are looked at again, as the real controllers do.
    let mut again: BTreeSet<String> = BTreeSet::new();
    loop {
        let mut due = BTreeSet::new();
        tokio::select! {
            // A watch that broke begins anew by itself.
            Some(event) = events.next() => match event {
                Ok(Event::Apply(workload) | Event::InitApply(workload)) => {
                    due.insert(workload.name_any());
                    known.insert(workload.name_any(), workload);
                }
                Ok(Event::Delete(workload)) => drop(known.remove(&workload.name_any())),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            },
            Some(event) = pod_events.next() => {
                if let Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod)) = event {
                    due.extend(owner::<K>(&pod));
                }
            }
            () = tokio::time::sleep(AGAIN), if !again.is_empty() => due.append(&mut again),
        }
        for name in due {
            let Some(workload) = known.get(&name).filter(|w| w.meta().deletion_timestamp.is_none()) else { continue };
            match controller.reconcile(workload).await {
                Ok(true) => {}
                Ok(false) => drop(again.replace(name)),
                Err(error) if is_race(&error) => drop(again.replace(name)),
                Err(error) => panic!("{} {name}: {error}", K::kind(&())),
            }
        }
    }
}

/// Name of the workload of that kind whose pod it is.
pub fn owner<K: Resource<DynamicType = ()>>(pod: &Pod) -> Option<String> {
    pod.owner_references().iter().find(|owner| owner.kind == K::kind(&())).map(|owner| owner.name.clone())
}

/// Somebody else was first, or the namespace is going away: the next event tells the new state.
fn is_race(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404 | 409))
}
