//! The whole of it on a real node: the operator in a pod, installed by its chart, with the rights of its own account.
//!
//! ```text
//!  cargo test --test e2e                                            the embedded ledger
//!  EHRNET_FABRIC_BIN=... cargo test --test e2e                      Hyperledger Fabric, from a release folder
//!  EHRNET_TEST_CONTEXT=kind-x [EHRNET_TEST_LEDGER=fabric] cargo ... a cluster that has, or can pull, the images
//!  EHRNET_TEST_PROGRAMS=target/release cargo test --test e2e -- --ignored          the benchmark
//! ```
//!
//! One cluster and one operator serve all scenarios, each in a namespace of its own. A scenario that stops the operator
//! runs alone. A machine that cannot run a node shows every scenario as ignored and says why; with `CI=true` that is a
//! failure.

mod audit;
mod bench;
mod bench_script;
#[path = "../support/resources.rs"]
mod resources;
// Shared with other tests, which use other parts of it.
#[allow(dead_code)]
#[path = "../support/chain.rs"]
mod chain;
mod cluster;
mod declared;
mod failure;
mod false_answers;
mod falsifying_contract;
mod growth;
mod isolation;
mod load;
mod operator;
mod outage;
mod privacy;
#[path = "../support/programs.rs"]
mod programs;
mod repair;
mod sample;
mod scene;
#[path = "../support/scrape.rs"]
mod scrape;
mod search;
#[path = "../support/steps.rs"]
mod steps;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use cluster::Cluster;
use libtest_mimic::{Arguments, Trial};
use scene::Scene;

type Body = fn(Scene) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// What runs, in a namespace of its own.
struct Scenario {
    name: &'static str,
    namespace: &'static str,
    mode: Mode,
    body: Body,
}

/// How a scenario runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Beside others.
    Together,
    /// With nothing else at the same time: it stops the operator, or looks back at what it did.
    Alone,
    /// Alone, and only when asked for.
    Bench,
}

macro_rules! mode {
    () => {
        Mode::Together
    };
    (alone) => {
        Mode::Alone
    };
    (bench) => {
        Mode::Bench
    };
}

macro_rules! scenarios {
    ($($module:ident::$name:ident in $namespace:literal $($mark:ident)?;)+) => {
        &[$(Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            namespace: $namespace,
            mode: mode!($($mark)?),
            body: |scene| Box::pin($module::$name(scene)),
        }),+]
    };
}

const SCENARIOS: &[Scenario] = scenarios! {
    outage::the_ledger_goes_on_without_any_one_part in "e2e-outage";
    privacy::nothing_private_leaves_its_collection in "e2e-privacy";
    false_answers::a_contract_that_answers_falsely_commits_nothing in "e2e-false-answers";
    sample::applied_at_once_becomes_ready in "e2e-at-once";
    sample::applied_in_reverse_order_becomes_ready in "e2e-reverse";
    sample::four_bft_orderers_become_ready in "e2e-bft";
    sample::columns_tell_what_the_status_says in "e2e-columns";
    growth::a_hospital_joins_a_live_channel_without_a_restart in "e2e-growth";
    repair::killed_nodes_come_back_with_their_ledgers in "e2e-killed";
    repair::a_channel_is_updated_while_any_one_orderer_is_away in "e2e-lost";
    repair::two_raft_orderers_deleted_at_once_leave_a_quorum in "e2e-quorum";
    repair::two_bft_orderers_deleted_at_once_leave_a_quorum in "e2e-bft-quorum";
    repair::a_raft_orderer_that_lost_its_volume_comes_back in "e2e-wiped";
    repair::a_bft_orderer_that_lost_its_volume_comes_back in "e2e-bft-wiped";
    repair::a_recreated_peer_takes_its_volume_back in "e2e-volume";
    failure::a_wrong_image_is_named_and_healed_by_the_right_one in "e2e-image";
    failure::a_namespace_goes_with_its_network in "e2e-gone";
    isolation::a_stranger_does_not_reach_an_orderers_admin_port in "e2e-strange";
    operator::a_new_leader_changes_nothing in "e2e-leader" alone;
    operator::a_network_outlives_the_chart in "e2e-chart" alone;
    operator::nothing_was_refused_to_its_account in "e2e-rights" alone;
    bench::small_network in "e2e-small" bench;
    bench::three_hospitals in "e2e-three" bench;
    bench::many_starts_of_the_sample in "e2e-starts" bench;
};

fn trials(cluster: Option<&Arc<Cluster>>, benchmarks: bool) -> Vec<Trial> {
    let trial = |scenario: &'static Scenario| {
        let cluster = cluster.cloned();
        let ignored = cluster.is_none() || (scenario.mode == Mode::Bench && !benchmarks);
        Trial::test(scenario.name, move || {
            let cluster = cluster.ok_or("no cluster")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(async {
                let scene = Scene::open(cluster, scenario.namespace, scenario.mode != Mode::Together).await;
                (scenario.body)(scene.clone()).await;
                scene.close().await;
            });
            Ok(())
        })
        .with_ignored_flag(ignored)
    };
    SCENARIOS.iter().map(trial).collect()
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(falsifying_contract::COMMAND) {
        return falsifying_contract::run();
    }
    let mut arguments = Arguments::from_args();
    let benchmarks = arguments.ignored || arguments.include_ignored;
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None, benchmarks)).exit_code();
    }
    rustls::crypto::ring::default_provider().install_default().expect("first to install a TLS provider");
    // Scenarios mostly wait for pods: more of them than processors keep those busy.
    arguments.test_threads.get_or_insert(4);
    if std::mem::take(&mut arguments.ignored) {
        // The benchmarks are what is left out otherwise; asked for, they are no longer marked as ignored.
        arguments.filter.get_or_insert("bench::".into());
    }
    let namespaces = SCENARIOS.iter().map(|scenario| scenario.namespace);
    let cluster = match Cluster::start(namespaces) {
        Ok(cluster) => Arc::new(cluster),
        Err(reason) => return skip_all(&arguments, &reason),
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&cluster), benchmarks));
    if conclusion.has_failed() && std::env::var_os("EHRNET_TEST_KEEP").is_some() {
        println!("left as it is, because EHRNET_TEST_KEEP is set: {}", cluster.how_to_reach());
    } else {
        cluster.leave();
    }
    conclusion.exit_code()
}

fn skip_all(arguments: &Arguments, reason: &str) -> ExitCode {
    println!("SKIPPED: every end-to-end scenario, because {reason}");
    let conclusion = libtest_mimic::run(arguments, trials(None, false));
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if in_ci { ExitCode::FAILURE } else { conclusion.exit_code() }
}
