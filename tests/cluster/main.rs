//! Tests against a real kube-apiserver, as `cargo test --test cluster` runs them.
//!
//! One control plane serves all of them, each test in a namespace of its own. A machine that cannot run it shows every
//! test as ignored and says why; with `CI=true` that is a failure.

mod admission;
mod apply;
mod bench;
mod contract;
mod crash_sweep;
mod drift;
mod lease;
#[path = "../support/libraries.rs"]
mod libraries;
mod network;
mod node;
mod orderers;
#[allow(dead_code)]
#[path = "../support/programs.rs"]
mod programs;
mod quorum;
mod rbac;
mod refusals;
#[path = "../support/resources.rs"]
mod resources;
mod silence;
#[path = "../support/steps.rs"]
mod steps;
mod support;

use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use libtest_mimic::{Arguments, Trial};
use support::server::TestCluster;

/// Registers each test of `$module` under its own name.
macro_rules! tests {
    ($cluster:expr; $($module:ident: $($name:ident)+;)+) => {
        vec![$($(test(concat!(stringify!($module), "::", stringify!($name)), $cluster, |c| Box::pin($module::$name(c)))),+),+]
    };
}

fn trials(cluster: Option<&Arc<TestCluster>>) -> Vec<Trial> {
    [of_networks(cluster), of_parts(cluster)].into_iter().flatten().collect()
}

/// Tests with an operator and a network.
fn of_networks(cluster: Option<&Arc<TestCluster>>) -> Vec<Trial> {
    tests! { cluster;
        drift:
            goes_on_beside_an_object_it_cannot_read
            repairs_every_child_that_is_edited_or_deleted
            is_repaired_while_the_ledger_does_not_answer
            says_that_a_ca_key_is_lost
            never_makes_a_second_genesis_block
            fills_a_volume_that_was_lost
            begins_no_second_history
            leaves_a_foreign_object_alone
            gets_through_failures_of_the_api_server
            lets_go_of_a_namespace_that_is_deleted;
        network:
            becomes_ready_when_applied_at_once
            becomes_ready_in_reverse_order
            becomes_ready_in_any_order
            takes_a_new_hospital_into_a_live_channel
            catches_up_with_edits_made_in_its_absence
            edits_a_channel_while_an_orderer_is_down
            renews_certificates_one_node_at_a_time
            keeps_ledgers_and_keys_for_a_resource_made_again
            says_what_it_waits_for
            names_an_image_that_cannot_be_pulled
            prints_true_columns;
        orderers:
            come_and_go_one_at_a_time;
        quorum:
            is_left_by_two_orderers_deleted_at_once
            is_kept_while_removed_orderers_are_deleted
            holds_no_channel_that_goes_as_a_whole
            is_no_affair_of_a_sick_peer
            outweighs_a_restart;
        refusals:
            name_what_contradicts_in_a_channel
            name_what_is_wrong_with_a_ca
            keep_to_the_ca_key_that_a_channel_knows;
        contract:
            is_upgraded_rolled_out_and_rolled_back
            is_not_ready_under_another_package_id
            keeps_one_policy_everywhere
            serves_an_official_client_from_a_secret_alone
            issues_identities;
        silence:
            writes_nothing_but_the_lease_once_settled
            writes_little_on_a_busy_channel;
        rbac:
            uses_exactly_the_rights_it_has;
        crash_sweep:
            survives_a_crash_at_every_write;
        bench:
            prints_the_table
            prints_many_starts
            operator_memory;
    }
}

/// Tests of one part: the definitions, the writer, the lease, and the stand-in for nodes.
fn of_parts(cluster: Option<&Arc<TestCluster>>) -> Vec<Trial> {
    tests! { cluster;
        admission:
            accepts_the_definitions_with_their_columns
            documents_every_field
            fills_in_the_defaults
            refuses_what_one_object_can_get_wrong
            refuses_changes_to_what_cannot_change
            admits_changes_that_are_allowed;
        apply:
            undoes_what_people_do_to_small_objects
            undoes_every_hole_in_a_network_policy
            undoes_what_people_do_to_a_pod_template;
        lease:
            passes_on_at_once_when_it_is_released
            passes_on_after_a_crash_and_two_never_may_write
            is_lost_when_somebody_deletes_it;
        node:
            runs_a_pod_as_its_spec_says
            refuses_a_pod_that_is_not_restricted
            reports_crashes_and_collects_garbage;
    }
}

/// Tests that change what all share: they run alone. They come first in the list, so that nobody waits for long.
const ALONE: &[&str] = &["drift::goes_on_beside_an_object_it_cannot_read"];

static SHARED: RwLock<()> = RwLock::new(());

type Body = fn(Arc<TestCluster>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Held as long as a test runs.
enum Turn {
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
}

fn test(name: &'static str, cluster: Option<&Arc<TestCluster>>, body: Body) -> Trial {
    let cluster = cluster.cloned();
    let skipped = cluster.is_none();
    Trial::test(name, move || {
        let cluster = cluster.ok_or("no control plane")?;
        // A test that failed while it held the lock has nothing to hide from the next one.
        let _turn = if ALONE.contains(&name) {
            Turn::Alone(SHARED.write().unwrap_or_else(PoisonError::into_inner))
        } else {
            Turn::Shared(SHARED.read().unwrap_or_else(PoisonError::into_inner))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(body(cluster));
        Ok(())
    })
    .with_ignored_flag(skipped || name.starts_with("bench::"))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    rustls::crypto::ring::default_provider().install_default().expect("first to install a TLS provider");
    support::logs::keep();
    let assets = match support::assets::find() {
        Ok(folder) => folder,
        Err(reason) => return skip_all(&arguments, &reason),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cluster = match runtime.block_on(TestCluster::start(&assets)) {
        Ok(cluster) => Arc::new(cluster),
        Err(reason) => {
            eprintln!("the control plane does not start: {reason}");
            return ExitCode::FAILURE;
        }
    };
    println!("control plane ready in {:.1} s", cluster.started_in().as_secs_f64());
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&cluster)));
    // Ends the processes and removes their data: `exit` would not.
    drop(cluster);
    conclusion.exit_code()
}

fn skip_all(arguments: &Arguments, reason: &str) -> ExitCode {
    println!("SKIPPED: every test that needs a real kube-apiserver, because: {reason}");
    let conclusion = libtest_mimic::run(arguments, trials(None));
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if in_ci { ExitCode::FAILURE } else { conclusion.exit_code() }
}
