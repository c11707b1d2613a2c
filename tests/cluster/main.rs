//! Tests against a real kube-apiserver, as `cargo test --test cluster` runs them.
//!
//! One control plane serves all of them, each test in a namespace of its own. A machine that cannot run it shows every
//! test as ignored and says why; with `CI=true` that is a failure.

mod admission;
mod node;
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use support::server::TestCluster;
use tracing_subscriber::EnvFilter;

/// Registers each test of `$module` under its own name.
macro_rules! tests {
    ($cluster:expr; $($module:ident: $($name:ident)+;)+) => {
        vec![$($(test(concat!(stringify!($module), "::", stringify!($name)), $cluster, |c| Box::pin($module::$name(c)))),+),+]
    };
}

fn trials(cluster: Option<&Arc<TestCluster>>) -> Vec<Trial> {
    tests! { cluster;
        admission:
            accepts_the_definitions_with_their_columns
            documents_every_field
            fills_in_the_defaults
            refuses_what_one_object_can_get_wrong
            refuses_changes_to_what_cannot_change
            admits_changes_that_are_allowed;
        node:
            runs_a_pod_as_its_spec_says
            refuses_a_pod_that_is_not_restricted
            reports_crashes_and_collects_garbage;
    }
}

type Body = fn(Arc<TestCluster>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn test(name: &'static str, cluster: Option<&Arc<TestCluster>>, body: Body) -> Trial {
    let cluster = cluster.cloned();
    let skipped = cluster.is_none();
    Trial::test(name, move || {
        let cluster = cluster.ok_or("no control plane")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(body(cluster));
        Ok(())
    })
    .with_ignored_flag(skipped)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    rustls::crypto::ring::default_provider().install_default().expect("first to install a TLS provider");
    // `RUST_LOG=debug` shows what the operator and the stand-ins say.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()))
        .with_writer(std::io::stderr)
        .init();
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
