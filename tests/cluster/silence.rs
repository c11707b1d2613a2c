//! A network that is as declared causes no writes but those of the lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ehrnet_messages::ApprovePolicy;
use serde_json::json;

use crate::support::gate::{Gate, tally};
use crate::support::scene::{LIMIT, Scene};
use crate::support::server::TestCluster;
use crate::support::{ledger_client, sample};

/// How long nothing may happen.
const WATCHED: Duration = Duration::from_secs(60);

/// How long nothing was written before: on a slow machine the last height of a peer comes later than the rest.
const SETTLED: Duration = Duration::from_secs(5);

/// How long a started operator has to find nothing to do.
const AFTER_START: Duration = Duration::from_secs(5);

/// Settled, the operator writes its lease and nothing else; started again, it finds nothing to write either.
pub async fn writes_nothing_but_the_lease_once_settled(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "silence").await;
    let start = scene.start.clone().with_lease("operator-0");
    let mut operator = start.run(Gate::open());
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let settled = until_quiet(operator.gate()).await;
    let leases = operator.gate().leases();
    // Time itself is what is tested here.
    tokio::time::sleep(WATCHED).await;
    operator.check().await;
    let writes = operator.gate().writes().split_off(settled);
    assert!(writes.is_empty(), "{} writes in a minute: {writes:#?}", writes.len());
    assert!(operator.gate().leases() > leases, "the lease was not renewed, so the operator does not live");
    operator.stop(Duration::from_secs(10)).await;

    let mut again = start.run(Gate::open());
    again.leading().await;
    tokio::time::sleep(AFTER_START).await;
    again.check().await;
    assert!(again.gate().leases() > 0, "it has not taken the lease");
    let writes = again.gate().writes();
    assert!(writes.is_empty(), "{} writes after a restart: {writes:#?}", writes.len());
}

/// Waits until nothing was written for a while, and says how many writes there were.
async fn until_quiet(gate: &Gate) -> usize {
    let begin = Instant::now();
    let (mut since, mut writes) = (begin, gate.writes().len());
    while since.elapsed() < SETTLED {
        assert!(begin.elapsed() < LIMIT, "{writes} writes and no end");
        // That nothing is written has no event.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if gate.writes().len() != writes {
            (since, writes) = (Instant::now(), gate.writes().len());
        }
    }
    writes
}

/// Transactions while it is listened.
const BLOCKS: usize = 20;

/// Users' transactions are no reason to write either, but for heights now and then. Where every node that reports another
/// height made others look, they would go on as long as the transactions.
pub async fn writes_little_on_a_busy_channel(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "busy").await;
    let mut operator = scene.operator();
    scene.apply(&sample::two_hospitals()).await;
    scene.settle(&mut operator).await;
    let settled = until_quiet(operator.gate()).await;
    for block in 0..BLOCKS {
        if block == 1 {
            // From here on all nodes of the channel have something to report.
            scene.edit("Channel", "care", json!({"metadata": {"labels": {"looked": "at"}}})).await;
        }
        let approve = ApprovePolicy { name: "treatment".into(), digest: format!("{block:064x}"), replaces: 1 };
        ledger_client::submit(&scene, "mercy-peer", "care", "ehr", &approve).await;
    }
    operator.check().await;
    let writes = operator.gate().writes().split_off(settled);
    println!("{} writes during {BLOCKS} blocks: {:?}", writes.len(), tally(&writes));
    assert!(writes.len() < BLOCKS, "{} writes during {BLOCKS} blocks: {:#?}", writes.len(), tally(&writes));
}
