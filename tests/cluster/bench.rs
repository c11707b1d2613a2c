//! How fast and how big, as a table with ratios first: `cargo test --test cluster -- --ignored --nocapture`.
//!
//! The script it is compared with knows everything beforehand: it has the objects that the operator made in the same
//! namespace, sends them all at once, and does each act on the ledger the moment its node is up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ehrnet_desired::names;
use ehrnet_fabric::proto::common::Block;
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use prost::Message;
use serde_json::json;

use crate::drift;
use crate::steps::{self, Start};
use crate::support::kubelet::is_ready;
use crate::support::process::Process;
use crate::support::scene::{LIMIT, Scene, condition_of};
use crate::support::server::TestCluster;
use crate::support::{ledger_client, objects, resident_mb, sample, snapshot};

const RUNS: usize = 3;
const REPAIRS: usize = 40;
const ORDERERS: [&str; 3] = ["orderer-1", "orderer-2", "orderer-3"];
const PEERS: [&str; 2] = ["mercy-peer", "lakeside-peer"];
const MEMBERS: [(&str, &str, &str); 2] =
    [("mercy-peer", "mercy", "MercyMSP"), ("lakeside-peer", "lakeside", "LakesideMSP")];

/// Time to ready against the script, writes, repairs, memory.
pub async fn prints_the_table(cluster: Arc<TestCluster>) {
    let (mut operator_times, mut script_times, mut writes, mut repairs) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let scene = Scene::new(&cluster, "bench").await;
        let mut operator = scene.operator();
        let begin = Instant::now();
        scene.apply(&sample::two_hospitals()).await;
        scene
            .until(LIMIT, "everything to be ready", |resources| {
                resources.len() == sample::two_hospitals().len()
                    && resources.values().all(crate::support::scene::is_ready)
            })
            .await;
        operator_times.push(begin.elapsed());
        scene.settle(&mut operator).await;
        writes.push(operator.gate().writes().len());
        repairs.extend(repair_times(&scene).await);
        operator.stop(Duration::from_secs(10)).await;
        let children = clear(&scene).await;
        let begin = Instant::now();
        script(&scene, children).await;
        script_times.push(begin.elapsed());
    }
    repairs.sort();
    let [operator, script] = [median(operator_times), median(script_times)];
    println!("| what | value |\n| --- | --- |");
    println!(
        "| apply to Ready, against a script that knows all | {:.2} x |",
        operator.as_secs_f64() / script.as_secs_f64()
    );
    println!("| apply to Ready | {operator:.2?} |\n| the script | {script:.2?} |");
    println!("| writes until Ready | {} |", median(writes));
    println!(
        "| repair p50 / p99 of {} | {:.1?} / {:.1?} |",
        repairs.len(),
        repairs[repairs.len() / 2],
        repairs[repairs.len() * 99 / 100]
    );
    for (name, megabytes) in cluster.resident() {
        println!("| {name} resident | {megabytes:.0} MB |");
    }
}

/// Each step of many starts of the sample, and how long the starts took, one by one.
pub async fn prints_many_starts(cluster: Arc<TestCluster>) {
    let declared = sample::two_hospitals();
    let (mut starts, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..steps::starts() {
        let scene = Scene::new(&cluster, "starts").await;
        let mut operator = scene.operator();
        let start = RefCell::new(Start::now());
        let applied = declared.iter().map(|resource| scene.apply(std::slice::from_ref(resource)));
        let ready = scene.until(LIMIT, "everything to be ready", |resources| {
            start.borrow_mut().look(resources, declared.len());
            start.borrow().took().is_some()
        });
        futures::join!(join_all(applied), ready);
        starts.push(start.into_inner());
        scene.settle(&mut operator).await;
        writes.push(operator.gate().writes().len());
        operator.stop(Duration::from_secs(10)).await;
        clear(&scene).await;
    }
    print!("{}", steps::table(&starts));
    writes.sort();
    println!("writes of each start: {writes:?}");
}

/// Networks of the operator with much to do, unless `EHRNET_BENCH_NETWORKS` says otherwise.
const NETWORKS: usize = 100;
/// Longest time until all of them are made.
const MANY: Duration = Duration::from_secs(1200);
const THREE_HOSPITALS: &str = include_str!("three-hospitals.yaml");

/// What the operator takes as a process of its own (`EHRNET_TEST_PROGRAMS`), without nodes: with one network of three
/// hospitals, an orderer and a peer each, and with a hundred of them.
pub async fn operator_memory(cluster: Arc<TestCluster>) {
    let program = crate::programs::ehrnet();
    let kubeconfig = cluster.folder().join("operator.kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig()).expect("a file");
    let address = cluster.subnet.take();
    let arguments = [
        "operator".to_owned(),
        "--leader-election=false".to_owned(),
        "--watch-namespaces=*".to_owned(),
        format!("--metrics-address={address}:8080"),
        format!("--health-address={address}:8081"),
    ];
    let env = [("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
    let start = async |log: &str| {
        let log = cluster.folder().join(log);
        Process::start("operator", &program, &arguments, &env, &log).await.expect("the operator starts")
    };
    let operator = start("operator.log").await;
    let client = cluster.client().await;
    let mut made = 0;
    println!("| networks | operator resident, MB | without its program | peak |\n| ---: | ---: | ---: | ---: |");
    let many = std::env::var("EHRNET_BENCH_NETWORKS").map_or(NETWORKS, |text| text.parse().expect("a number"));
    for networks in [1, many] {
        while made < networks {
            let namespace = cluster.namespace(&client, "network").await;
            for resource in sample::all(THREE_HOSPITALS) {
                objects::create(&client, &namespace, &resource).await.expect("create");
            }
            made += 1;
        }
        all_made(&client, networks, &operator).await;
        print_memory(&networks.to_string(), &operator);
    }
    operator.stop(Duration::from_secs(10)).await;
    let begin = Instant::now();
    let again = start("operator-again.log").await;
    // It leads as soon as it knows everything; that it says so in its log has no other event.
    while !again.tail(usize::MAX).contains("ehrnet_operator: leading") {
        assert!(begin.elapsed() < LIMIT, "{}", again.tail(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("knew all of {made} networks {:.1?} after its start", begin.elapsed());
    all_made(&client, made, &again).await;
    print_memory(&format!("{made}, started again"), &again);
    again.stop(Duration::from_secs(10)).await;
}

fn print_memory(what: &str, operator: &Process) {
    let [now, own, peak] = ["VmRSS:", "RssAnon:", "VmHWM:"].map(|field| resident_mb(operator.pid(), field));
    println!("| {what} | {now:.1} | {own:.1} | {peak:.1} |");
}

/// Waits until every network has its genesis block and every node its StatefulSet, and the operator rests.
async fn all_made(client: &kube::Client, networks: usize, operator: &Process) {
    let begin = Instant::now();
    let of_all = async |kind: &str| {
        let api = Api::<DynamicObject>::all_with(client.clone(), &objects::resource(kind));
        api.list(&ListParams::default()).await.expect("a list").items
    };
    let holds = |object: &DynamicObject, condition: &str, reason: &str| {
        condition_of(object, condition).is_some_and(|found| found["reason"] == reason)
    };
    let mut versions = String::new();
    loop {
        let (channels, orderers, peers) = futures::join!(of_all("Channel"), of_all("Orderer"), of_all("Peer"));
        let genesis = channels.iter().filter(|channel| holds(channel, "GenesisReady", "AsDeclared")).count();
        let nodes = orderers.iter().chain(&peers).filter(|node| holds(node, "NodeReady", "WaitingForPod")).count();
        let seen: String =
            channels.iter().chain(&orderers).chain(&peers).filter_map(ResourceExt::resource_version).collect();
        if genesis == networks && nodes == networks * 6 && seen == versions {
            return;
        }
        versions = seen;
        assert!(begin.elapsed() < MANY, "{genesis} channels, {nodes} nodes\n{}", operator.tail(20));
        // That nothing changes any more has no event.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort();
    values[values.len() / 2]
}

async fn repair_times(scene: &Scene) -> Vec<Duration> {
    let api = snapshot::api(&scene.client, &scene.namespace, ("", "v1", "Service"));
    let wanted = api.get("mercy-peer").await.expect("a Service").labels().clone();
    let edit = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "somebody-else"}}});
    let mut times = Vec::new();
    for _ in 0..REPAIRS {
        let damage = async || api.patch("mercy-peer", &PatchParams::default(), &Patch::Merge(&edit)).await.map(drop);
        times.push(drift::watched(&api, "mercy-peer", |now| *now.labels() == wanted, damage).await);
    }
    times
}

/// Deletes everything, ledgers too, and returns the children as they can be created again.
async fn clear(scene: &Scene) -> BTreeMap<(String, String), DynamicObject> {
    let children = snapshot::children(&scene.client, &scene.namespace).await;
    for (kind, name) in scene.resources().into_keys() {
        let api = crate::support::objects::api(&scene.client, &scene.namespace, &kind);
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch(&name, &PatchParams::default(), &free).await.expect("free it");
        api.delete(&name, &DeleteParams::default()).await.expect("delete");
    }
    for (kind, name) in children.keys() {
        let api = snapshot::api(
            &scene.client,
            &scene.namespace,
            *snapshot::CHILDREN.iter().find(|(_, _, k)| k == kind).expect("a kind"),
        );
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("{kind} {name}: {error}"),
        }
    }
    scene.until_gone(&[ORDERERS.as_slice(), PEERS.as_slice()].concat()).await;
    scene.kubelet.wipe();
    let clean = |mut object: DynamicObject| {
        object.metadata = kube::core::ObjectMeta {
            name: object.metadata.name,
            labels: object.metadata.labels,
            annotations: object.metadata.annotations,
            ..Default::default()
        };
        if let Some(spec) = object.data["spec"].as_object_mut() {
            spec.retain(|field, _| !matches!(field.as_str(), "clusterIP" | "clusterIPs"));
        }
        object
    };
    children.into_iter().map(|(id, object)| (id, clean(object))).collect()
}

async fn script(scene: &Scene, children: BTreeMap<(String, String), DynamicObject>) {
    let made = futures::stream::iter(children).map(|((kind, name), object)| async move {
        let api = snapshot::api(
            &scene.client,
            &scene.namespace,
            *snapshot::CHILDREN.iter().find(|(_, _, k)| *k == kind).expect("a kind"),
        );
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    });
    made.buffer_unordered(16).collect::<Vec<()>>().await;
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let data = maps.get("care-genesis").await.expect("a ConfigMap").binary_data.expect("binary data");
    let block = Block::decode(data[names::GENESIS_BLOCK].0.as_slice()).expect("a block");
    let orderers = join_all(ORDERERS.map(async |node| {
        up(scene, node).await;
        ledger_client::join_orderer(scene, node, "care", &block).await;
    }));
    let peers = join_all(MEMBERS.map(async |(node, hospital, msp_id)| {
        up(scene, node).await;
        ledger_client::join_peer(scene, node, hospital, msp_id, "care", &block).await;
    }));
    futures::join!(orderers, peers);
}

/// Waits until a node's pod is ready.
async fn up(scene: &Scene, node: &str) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let name = format!("{node}-0");
    let ready = await_condition(pods, &name, |pod: Option<&Pod>| pod.is_some_and(is_ready));
    tokio::time::timeout(LIMIT, ready).await.expect("the node comes up").expect("the watch");
}
