//! The lease on a real API server: who leads, how fast it passes on, and that two never may write at one time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ehrnet_runtime::client;
use ehrnet_runtime::lease::{Candidate, Fence, LeaseLost};
use ehrnet_runtime::metrics::Metrics;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;

use super::support::scene::LIMIT;
use super::support::server::TestCluster;

/// Most that a released lease may take to pass on.
const AFTER_RELEASE: Duration = Duration::from_secs(1);
/// Most that the lease of a killed leader may take.
const AFTER_KILL: Duration = Duration::from_secs(6);

async fn candidate(cluster: &TestCluster, namespace: &str, identity: &str) -> (Candidate, Fence) {
    let fence = Fence::closed();
    let client = client::from_config(cluster.config().await, fence.clone(), Metrics::new()).expect("a client");
    (Candidate::new(client, namespace, "leader", identity, fence.clone()), fence)
}

pub async fn passes_on_at_once_when_it_is_released(cluster: Arc<TestCluster>) {
    let namespace = cluster.namespace(&cluster.client().await, "lease").await;
    let (first, first_fence) = candidate(&cluster, &namespace, "first").await;
    let (second, second_fence) = candidate(&cluster, &namespace, "second").await;
    let leadership = first.acquire().await;
    assert_eq!(first_fence.check(), Ok(()));
    let mut waiting = tokio::spawn(second.acquire());
    let early = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(early.is_err(), "the second waits while the first leads");

    let released = Instant::now();
    leadership.release().await.expect("given back");
    assert_eq!(first_fence.check(), Err(LeaseLost::Released));
    let next = tokio::time::timeout(LIMIT, waiting).await.expect("it passes on").expect("no panic");
    assert!(released.elapsed() <= AFTER_RELEASE, "passed on after {:?}", released.elapsed());
    assert_eq!(second_fence.check(), Ok(()));
    next.release().await.expect("given back");
}

pub async fn passes_on_after_a_crash_and_two_never_may_write(cluster: Arc<TestCluster>) {
    let namespace = cluster.namespace(&cluster.client().await, "lease").await;
    // A runtime of its own, which can be torn away from under the leader.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (led, leads) = tokio::sync::oneshot::channel();
    let (task_cluster, task_namespace) = (cluster.clone(), namespace.clone());
    doomed.spawn(async move {
        let (first, fence) = candidate(&task_cluster, &task_namespace, "first").await;
        let leadership = first.acquire().await;
        led.send(fence).expect("the test waits");
        leadership.lost().await
    });
    let first_fence = leads.await.expect("the first leads");
    let (second, second_fence) = candidate(&cluster, &namespace, "second").await;
    let watched = second_fence.clone();
    let two_at_once = tokio::spawn(async move {
        while watched.check().is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        first_fence.check().is_ok()
    });
    let waiting = tokio::spawn(second.acquire());

    let killed = Instant::now();
    doomed.shutdown_background();
    let next = tokio::time::timeout(LIMIT, waiting).await.expect("it passes on").expect("no panic");
    assert!(killed.elapsed() <= AFTER_KILL, "passed on after {:?}", killed.elapsed());
    assert!(!two_at_once.await.expect("no panic"), "both might have written");
    next.release().await.expect("given back");
}

pub async fn is_lost_when_somebody_deletes_it(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "lease").await;
    let (candidate, fence) = candidate(&cluster, &namespace, "first").await;
    let leadership = candidate.acquire().await;
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    leases.delete("leader", &DeleteParams::default()).await.expect("deleted");
    let lost = tokio::time::timeout(AFTER_KILL, leadership.lost()).await.expect("its loss is noticed");
    assert!(matches!(lost, LeaseLost::Taken { .. }), "{lost}");
    assert_eq!(fence.check(), Err(lost));
}
