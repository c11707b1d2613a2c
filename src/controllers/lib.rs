//! One driver for all kinds: observe, decide, apply, ledger, status.
//!
//! `kind` says what a kind is, `pass` goes through its steps, `driver` says when. Each kind stands in a module of its own:
//! [`hospital`], [`identity`], [`orderer`], [`peer`], [`channel`], [`chaincode`], [`consent_policy`].

mod authorities;
mod chaincode;
mod channel;
mod connection;
mod consent_policy;
mod consenters;
mod context;
mod credentials;
mod deletion;
mod driver;
mod error;
mod hospital;
mod identity;
mod key_pairs;
mod keys;
mod kind;
mod ledger;
mod memory;
mod nodes;
mod orderer;
mod outcome;
mod pass;
mod peer;
mod pods;
mod pseudonym;
mod quorum;
mod restart;
mod rival;
mod together;
mod unreadable;
mod write;
mod writer;

use std::sync::Arc;

use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

pub use authorities::GivenSecrets;
pub use context::{Clock, Context, Statuses};
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Chaincode, Channel, ConsentPolicy, Hospital, Identity, Orderer, Peer};
use ehrnet_apply::Owner;
use ehrnet_observe::{Kind, News, Target};
use ehrnet_runtime::shutdown::Shutdown;
use ehrnet_status::Finding;
use error::ReconcileError;
use kind::Declared;
pub use memory::Memories;
use outcome::Outcome;
pub use writer::Writers;

/// Reconciles whatever the news concern until shutdown is wished, and lets what runs finish.
pub async fn run(
    ctx: Arc<Context>,
    writers: Writers,
    concurrency: usize,
    mut news: mpsc::UnboundedReceiver<News>,
    shutdown: &Shutdown,
) {
    let (requests, queue) = mpsc::unbounded_channel();
    let (repairs, drifted) = mpsc::unbounded_channel();
    let feed = {
        let (ctx, requests, repairs) = (ctx.clone(), requests.clone(), repairs.clone());
        async move {
            while let Some(news) = news.recv().await {
                match news {
                    News::Affected(targets) => driver::enqueue(&requests, targets),
                    News::Drifted(owners) => driver::enqueue(&repairs, owners),
                    News::Malformed { target, uid, error } => unreadable::report(&ctx, &target, &uid, &error).await,
                }
            }
        }
    };
    let feed = tokio::spawn(feed);
    let work = |task| {
        let (ctx, writers) = (&*ctx, &writers);
        move |target| dispatch(ctx, writers, target, task)
    };
    let passes = driver::run(queue, requests, concurrency, work(Task::Pass), shutdown.wished());
    let repairs = driver::run(drifted, repairs, concurrency, work(Task::Repair), shutdown.wished());
    tokio::join!(passes, repairs);
    feed.abort();
}

/// What is to be done about a resource.
#[derive(Clone, Copy)]
enum Task {
    /// Bring it closer to what is declared, and report.
    Pass,
    /// Undo what others did to its objects.
    Repair,
}

/// The one place that goes from the name of a kind to its type.
async fn dispatch(ctx: &Context, writers: &Writers, target: Target, task: Task) -> driver::Pass {
    match target.kind {
        Kind::Hospital => work::<Hospital>(ctx, writers, target, task).await,
        Kind::Orderer => work::<Orderer>(ctx, writers, target, task).await,
        Kind::Peer => work::<Peer>(ctx, writers, target, task).await,
        Kind::Channel => work::<Channel>(ctx, writers, target, task).await,
        Kind::Chaincode => work::<Chaincode>(ctx, writers, target, task).await,
        Kind::ConsentPolicy => work::<ConsentPolicy>(ctx, writers, target, task).await,
        Kind::Identity => work::<Identity>(ctx, writers, target, task).await,
    }
}

/// Does a task, counted and logged.
async fn work<K: Declared>(ctx: &Context, writers: &Writers, target: Target, task: Task) -> driver::Pass {
    let (generation, result) = match task {
        Task::Repair => (0, pass::repair::<K>(ctx, writers, &target).await.map(|()| Outcome::wait())),
        Task::Pass => {
            let measure = ctx.metrics.reconciling(K::KIND.as_str());
            let (generation, result) = pass::pass::<K>(ctx, writers, &target).await;
            let took = measure.finish(result.as_ref().map_or_else(ReconcileError::label, |_| "ok"));
            tracing::debug!(%target, ?took, "reconciled");
            (generation, result)
        }
    };
    if let Err(error) = &result {
        tracing::warn!(%target, %error, "cannot go on for now");
    }
    driver::Pass { target, generation, result }
}

/// Name and namespace of a resource.
fn place<K: Resource>(resource: &K) -> (String, String) {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

/// A resource as the owner of what is made for it.
fn owner<K: Resource<DynamicType = ()>>(resource: &K) -> Result<Owner, Finding> {
    Owner::of(resource).ok_or_else(|| Finding::not(Reason::InvalidSpec, "the resource has no UID"))
}
