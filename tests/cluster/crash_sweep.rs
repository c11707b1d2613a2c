//! For every n: the operator dies at its n-th write, is started again, and the network ends as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::StreamExt;
use serde_json::Value;

use crate::support::gate::{Death, Gate};
use crate::support::scene::Scene;
use crate::support::server::TestCluster;
use crate::support::{invariants, ledger_client, sample, snapshot};

const DEATHS: [Death; 3] = [Death::BeforeIt, Death::WithItsAnswer, Death::AfterIt];

/// How many networks live at the same time.
const AT_ONCE: usize = 3;

/// Every fifth write of the sample network, API and ledger, is the last one once; the way of dying rotates. With
/// `EHRNET_SWEEP=each` every write is, with `EHRNET_SWEEP=full` in all three ways.
pub async fn survives_a_crash_at_every_write(cluster: Arc<TestCluster>) {
    let begin = Instant::now();
    let expected = Arc::new(undisturbed(&cluster).await);
    let sweep = std::env::var("EHRNET_SWEEP").unwrap_or_default();
    let (full, stride) = (sweep == "full", if sweep.is_empty() { 5 } else { 1 });
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let cases = (1..).step_by(stride as usize).flat_map(|n: u64| {
        DEATHS
            .into_iter()
            .enumerate()
            .filter(move |(way, _)| full || n / stride % 3 == *way as u64)
            .map(move |(_, death)| (n, death))
    });
    let cases = cases.take_while({
        let last = last.clone();
        move |(n, _)| *n < last.load(Ordering::SeqCst)
    });
    let runs = futures::stream::iter(cases).map(|(n, death)| {
        let (cluster, expected, last) = (cluster.clone(), expected.clone(), last.clone());
        async move {
            let killed = tokio::spawn(async move { crash(&cluster, n, death, &expected).await }).await;
            match killed {
                Ok(Some(write)) => Some(write),
                Ok(None) => {
                    last.fetch_min(n, Ordering::SeqCst);
                    None
                }
                Err(panic) => {
                    eprintln!("crash at write {n}, {death:?}");
                    std::panic::resume_unwind(panic.into_panic())
                }
            }
        }
    });
    let mut runs = runs.buffer_unordered(AT_ONCE);
    while let Some(killed) = runs.next().await {
        if let Some(write) = killed {
            *kinds.entry(write).or_default() += 1;
            let done: u32 = kinds.values().sum();
            if done.is_multiple_of(20) {
                println!("{done} crashes survived after {:.0} s", begin.elapsed().as_secs_f64());
            }
        }
    }
    let total: u32 = kinds.values().sum();
    println!("{total} crashes in {:.0} s, at these writes: {kinds:#?}", begin.elapsed().as_secs_f64());
    assert!(u64::from(total) * stride > 60, "a network costs more writes than {total}: the sweep ended too early");
    if stride > 1 {
        return;
    }
    for act in ["orderer-join", "peer-join", "POST secrets", "PATCH statefulsets"] {
        assert!(kinds.contains_key(act), "no crash at {act}");
    }
}

async fn undisturbed(cluster: &Arc<TestCluster>) -> BTreeMap<String, Value> {
    let scene = Scene::new(cluster, "sweep").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    invariants::hold(&scene, &operator.gate().writes()).await;
    snapshot::normalised(&scene.client, &scene.namespace).await
}

/// What the operator was doing when it died; nothing if it got through without.
async fn crash(cluster: &Arc<TestCluster>, n: u64, death: Death, expected: &BTreeMap<String, Value>) -> Option<String> {
    let scene = Scene::new(cluster, "sweep").await;
    let gate = Gate::closing_at(n, death);
    let mut doomed = scene.start.run(gate.clone());
    scene.apply(&sample::two_hospitals()).await;
    let died = tokio::select! {
        () = gate.closed() => true,
        _ = scene.settle(&mut doomed) => false,
    };
    if !died {
        return None;
    }
    drop(doomed);
    let mut writes = gate.writes();
    let last = writes[n as usize - 1].clone();
    let mut operator = scene.operator();
    scene.settle(&mut operator).await;
    writes.extend(operator.gate().writes());
    ledger_client::one_genesis_everywhere(&scene, "care").await;
    invariants::hold(&scene, &writes).await;
    let difference = snapshot::lasting_difference(&scene, expected).await;
    assert!(
        difference.is_empty(),
        "after a crash at write {n} ({death:?}, {} {}): {difference:#?}",
        last.verb,
        last.target
    );
    Some(short(&last.verb, &last.target))
}

/// `PATCH statefulsets` for a write to the API server, the act for one to the ledger.
fn short(verb: &str, target: &str) -> String {
    let Some(path) = target.strip_prefix('/') else { return verb.to_owned() };
    let parts: Vec<_> = path.split('/').collect();
    let kind = parts.iter().position(|part| *part == "namespaces").and_then(|at| parts.get(at + 2)).unwrap_or(&"");
    let status = if parts.last() == Some(&"status") { "/status" } else { "" };
    format!("{verb} {kind}{status}")
}
