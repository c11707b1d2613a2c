//! How long, how many writes, how much memory: printed as tables, ratios first. Nothing here fails for being slow.
//!
//! Goals and the rival's figures are those of the project's targets for a machine with two processors; on a machine
//! that does other things at the same time only the ratios mean something.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;

use crate::audit::Audit;
use crate::bench_script::{Script, Site, sweep};
use crate::declared::{self, channel, contract, hospital, kind_of, orderer, peer, two_hospitals};
use crate::operator::change_leader;
use crate::programs;
use crate::scene::{Scene, condition, is_ready};
use crate::steps::{self, Start};

const ROUNDS: usize = 3;
const IDLE: Duration = Duration::from_secs(60);
const RESTART: Duration = Duration::from_secs(10);

/// The smallest network that somebody else has published figures of: see how the operator compares. First the nodes and
/// their channel, then the same with the contract.
pub async fn small_network(scene: Scene) {
    let mut network = vec![
        hospital("ordering"),
        hospital("mercy"),
        hospital("lakeside"),
        orderer("ordering-orderer", "ordering"),
        peer("mercy-peer", "mercy", &["care"]),
        peer("lakeside-peer", "lakeside", &["care"]),
        channel("care", "Raft", &["ordering-orderer"], &["mercy", "lakeside"]),
    ];
    let bare = rounds(&scene, &network).await;
    network.push(contract("ehr", "care", &["mercy", "lakeside"]));
    let whole = rounds(&scene, &network).await;
    println!("\nsmall network: 1 orderer, 2 peers, 1 channel, median of {ROUNDS}");
    println!("{:<32} {:>8} {:>8} {:>8} {:>10}", "", "of goal", "here", "goal", "FabricOps");
    line("all nodes ready, s", bare.nodes, 5.0, 33.9);
    line("channel with anchors, s", bare.channel, 7.0, 49.4);
    line("API writes until ready", bare.writes, 120.0, 1000.0);
    println!("with the contract of both hospitals");
    line("all nodes ready, s", whole.nodes, 5.0, 33.9);
    line("channel with anchors, s", whole.channel, 7.0, 49.4);
    line("contract committed, s", whole.committed, 10.0, 62.0);
    line("all ready, s", whole.ready, 11.0, 64.0);
    line("API writes until ready", whole.writes, 150.0, 1000.0);
}

/// Each step of many starts of the sample, and how long the starts took, one by one.
pub async fn many_starts_of_the_sample(scene: Scene) {
    let network = two_hospitals();
    let (mut starts, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..steps::starts() {
        let audit = Audit::from_now(scene.cluster.audit_log().expect("benchmarks need the local cluster's audit log"));
        let mut start = Start::now();
        let ready = scene.follow(|resources| {
            start.look(resources, network.len());
            start.took().is_some()
        });
        tokio::join!(scene.apply(&network), ready);
        starts.push(start);
        writes.push(audit.writes_to(&scene.namespace).len() as f64);
        clear(&scene, &network).await;
    }
    println!("\nthe sample, from the moment it was applied");
    print!("{}", steps::table(&starts));
    println!("writes of each start: {:?}", steps::sorted(writes));
}

/// The median of some rounds, measure by measure.
async fn rounds(scene: &Scene, network: &[Value]) -> Round {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(scene, network, Order::AtOnce).await);
        clear(scene, network).await;
    }
    let middle = |measure: fn(&Round) -> f64| median(rounds.iter().map(measure));
    Round {
        nodes: middle(|round| round.nodes),
        channel: middle(|round| round.channel),
        committed: middle(|round| round.committed),
        ready: middle(|round| round.ready),
        writes: middle(|round| round.writes),
    }
}

/// Three hospitals with an orderer and a peer each, against a script that does the same by hand.
pub async fn three_hospitals(scene: Scene) {
    let sites = ["mercy", "lakeside", "grace"];
    let nodes = ["mercy-orderer", "lakeside-orderer", "grace-orderer"];
    let mut network: Vec<Value> = sites.iter().map(|name| hospital(name)).collect();
    network.extend(sites.iter().zip(nodes).map(|(name, node)| orderer(node, name)));
    network.extend(sites.iter().map(|name| peer(&format!("{name}-peer"), name, &["care"])));
    network.push(channel("care", "Raft", &nodes, &sites));
    let msps = [("mercy", "MercyMSP"), ("lakeside", "LakesideMSP"), ("grace", "GraceMSP")];
    let sites = msps.map(|(hospital, msp)| Site { hospital, msp });

    let (mut at_once, mut reversed, mut by_hand) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        at_once.push(round(&scene, &network, Order::AtOnce).await.ready);
        let script = Script::write(&scene).await;
        clear(&scene, &network).await;
        by_hand.push(script.run(&scene, &sites).await);
        sweep(&scene).await;
        reversed.push(round(&scene, &network, Order::Reversed).await.ready);
        clear(&scene, &network).await;
    }
    let (at_once, reversed, by_hand) = (median(at_once), median(reversed), median(by_hand));
    println!("\n3 hospitals, 3 orderers, 3 peers, 1 channel, median of {ROUNDS}");
    println!("{:<28} {:>8} {:>8}", "", "here", "goal");
    println!("{:<28} {:>7.2}x {:>7.2}x", "apply to ready : by hand", at_once / by_hand, 1.5);
    println!("{:<28} {:>7.2}x {:>7.2}x", "reversed : at once", reversed / at_once, 1.1);
    println!(
        "{:<28} {:>8.1}\n{:<28} {:>8.1}\n{:<28} {:>8.1}",
        "at once, s", at_once, "reversed, s", reversed, "by hand, s", by_hand
    );

    scene.apply(&network).await;
    scene.ready(&network).await;
    at_rest(&scene).await;
    clear(&scene, &network).await;
}

/// What the operator costs when there is nothing to do.
async fn at_rest(scene: &Scene) {
    // Heights are looked at once more after everything is ready.
    tokio::time::sleep(RESTART).await;
    let log = scene.cluster.audit_log().expect("benchmarks need the local cluster's audit log");
    let (resident, peak) = memory();
    let audit = Audit::from_now(log.clone());
    tokio::time::sleep(IDLE).await;
    let idle = audit.writes_to(&scene.namespace).len();
    let audit = Audit::from_now(log);
    change_leader(scene).await;
    tokio::time::sleep(RESTART).await;
    let restart = audit.writes_to(&scene.namespace).len();
    let megabytes = |program: PathBuf| std::fs::metadata(program).expect("the program").len() as f64 / 1e6;
    for (what, here, goal) in [
        ("operator resident, MB", resident, 30.0),
        ("operator's peak, MB", peak, 30.0),
        ("operator, MB", megabytes(programs::ehrnet()), 25.0),
        ("contract, MB", megabytes(programs::contract()), 12.0),
        ("writes in 60 s idle", idle as f64, 0.0),
        ("writes after a restart", restart as f64, 0.0),
    ] {
        println!("{what:<28} {here:>8.1} {goal:>8.1}");
    }
}

#[derive(Clone, Copy)]
enum Order {
    AtOnce,
    Reversed,
}

/// Seconds since the first object was applied, and writes.
struct Round {
    nodes: f64,
    channel: f64,
    /// Until every contract is committed; there may be none.
    committed: f64,
    ready: f64,
    writes: f64,
}

async fn round(scene: &Scene, network: &[Value], order: Order) -> Round {
    let audit = Audit::from_now(scene.cluster.audit_log().expect("benchmarks need the local cluster's audit log"));
    let began = Instant::now();
    let apply = async {
        match order {
            Order::AtOnce => scene.apply(network).await,
            Order::Reversed => {
                for object in network.iter().rev() {
                    declared::apply(&scene.client, &scene.namespace, object).await;
                }
            }
        }
    };
    let is_node = |object: &&Value| matches!(kind_of(object), "Orderer" | "Peer");
    let nodes = async {
        let pods = network.iter().filter(is_node).map(|object| format!("{}-0", declared::name_of(object)));
        join_all(pods.map(|pod| async move { scene.until(&scene.api::<Pod>(), &pod, "ready", pod_is_ready).await }))
            .await;
        began.elapsed().as_secs_f64()
    };
    let channel = async {
        let ready = |object: Option<&kube::api::DynamicObject>| object.is_some_and(is_ready);
        scene.until(&scene.of_kind("Channel"), "care", "ready", ready).await;
        began.elapsed().as_secs_f64()
    };
    let is_contract = |object: &&Value| kind_of(object) == "Chaincode";
    let committed = async {
        let in_force = |object: Option<&kube::api::DynamicObject>| {
            object
                .and_then(|object| condition(object, "Committed"))
                .is_some_and(|committed| committed["status"] == "True")
        };
        let contracts = network.iter().filter(is_contract).map(declared::name_of);
        join_all(
            contracts
                .map(|name| async move { scene.until(&scene.of_kind("Chaincode"), name, "committed", in_force).await }),
        )
        .await;
        began.elapsed().as_secs_f64()
    };
    let ready = async {
        scene.ready(network).await;
        began.elapsed().as_secs_f64()
    };
    let ((), nodes, channel, committed, ready) = tokio::join!(apply, nodes, channel, committed, ready);
    let writes = audit.writes_to(&scene.namespace).len() as f64;
    Round { nodes, channel, committed, ready, writes }
}

/// An empty namespace again: resources, then what outlives them.
async fn clear(scene: &Scene, network: &[Value]) {
    for kind in ["ConsentPolicy", "Chaincode", "Channel", "Peer", "Orderer", "Hospital"] {
        let api = scene.of_kind(kind);
        for object in network.iter().filter(|object| kind_of(object) == kind) {
            api.delete(declared::name_of(object), &DeleteParams::default()).await.expect("delete");
        }
        for object in network.iter().filter(|object| kind_of(object) == kind) {
            scene.until_gone(&api, declared::name_of(object)).await;
        }
    }
    sweep(scene).await;
    let left = scene.api::<Pod>().list(&ListParams::default()).await.expect("pods");
    assert!(left.items.is_empty(), "{:?}", left.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
}

pub fn pod_is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Resident memory of the operator now and at its peak, MB. Its process is one of this machine.
fn memory() -> (f64, f64) {
    let mut processes = std::fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.path());
    let operator = processes.find(|process| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        command.starts_with(b"/usr/local/bin/ehrnet\0operator\0")
    });
    let status = std::fs::read_to_string(operator.expect("the operator's process").join("status")).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).expect("a number") / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let values = steps::sorted(values);
    values[values.len() / 2]
}

fn line(what: &str, here: f64, goal: f64, rival: f64) {
    println!("{what:<32} {:>7.2}x {here:>8.1} {goal:>8.1} {rival:>10.1}", here / goal);
}
