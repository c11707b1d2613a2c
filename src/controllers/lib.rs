//! One thin driver per kind: observe, decide, apply, ledger, status.
//!
//! Invariant: what a reconcile does follows from the caches and the ledger as they are now, never from the news that
//! woke it. The trap: the caches lag behind the cluster; whatever must not happen twice is made by create, or checked
//! by the API server through a resource version.

pub mod authorities;
pub mod chaincode;
pub mod channel;
pub mod children;
pub mod connection;
pub mod consent_policy;
pub mod context;
pub mod credentials;
pub mod deletion;
pub mod driver;
pub mod hospital;
pub mod identity;
pub mod key_pairs;
pub mod keys;
pub mod ledger;
pub mod malformed;
pub mod node;
pub mod nodes;
pub mod orderer;
pub mod outcome;
pub mod peer;
pub mod pseudonym;
pub mod repair;
mod rival;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use context::{Context, status_key};
use ehrnet_apply::Child;
use ehrnet_observe::cache::{Cache, Cached};
use ehrnet_observe::{Kind, News, Target};
use ehrnet_runtime::shutdown::Shutdown;
use ehrnet_status as status;
use outcome::{Outcome, ReconcileError};

/// Reconciles whatever the news concern until shutdown is wished, and lets what runs finish.
pub async fn run(ctx: Arc<Context>, mut news: mpsc::UnboundedReceiver<News>, shutdown: &Shutdown) {
    let (requests, queue) = mpsc::unbounded_channel();
    let (repairs, drifted) = mpsc::unbounded_channel();
    let feed = {
        let (ctx, requests, repairs) = (ctx.clone(), requests.clone(), repairs.clone());
        async move {
            while let Some(news) = news.recv().await {
                match news {
                    News::Affected(targets) => driver::enqueue(&requests, targets),
                    News::Drifted(owners) => driver::enqueue(&repairs, owners),
                    News::Malformed { target, error } => malformed::report(&ctx, &target, &error).await,
                }
            }
        }
    };
    let feed = tokio::spawn(feed);
    let concurrency = usize::from(ctx.settings.concurrency);
    let passes = driver::run(queue, requests, concurrency, |target| reconcile(ctx.clone(), target), shutdown.wished());
    let repair = |target| repair::run(ctx.clone(), target);
    let repairs = driver::run(drifted, repairs, concurrency, repair, shutdown.wished());
    tokio::join!(passes, repairs);
    feed.abort();
}

/// One pass over one resource, counted and logged.
async fn reconcile(ctx: Arc<Context>, target: Target) -> driver::Pass {
    let measure = ctx.metrics.reconciling(target.kind.as_str());
    let (generation, result) = dispatch(&ctx, &target).await;
    match &result {
        Ok(_) => {
            let took = measure.finish("ok");
            tracing::debug!(%target, ?took, "reconciled");
        }
        Err(error) => {
            measure.finish(error.label());
            tracing::warn!(%target, %error, "cannot go on for now");
        }
    }
    driver::Pass { target, generation, result }
}

async fn dispatch(ctx: &Context, target: &Target) -> (i64, Result<Outcome, ReconcileError>) {
    let (namespace, name, world) = (&target.namespace, &target.name, &ctx.world);
    let turn = ctx.writers.take(&target.to_string()).await;
    macro_rules! pass {
        // One that is given the turn ends it before it asks the ledger.
        ($cache:ident, $reconcile:path $(, $turn:ident)?) => {
            match world.$cache.get(namespace, name) {
                Some(resource) => {
                    let generation = resource.metadata.generation.unwrap_or_default();
                    (generation, $reconcile(ctx, resource $(, $turn)?).await)
                }
                None => {
                    ctx.published.forget(&status_key(target.kind.as_str(), namespace, name));
                    (0, Ok(Outcome::wait()))
                }
            }
        };
    }
    match target.kind {
        Kind::Hospital => pass!(hospitals, hospital::reconcile),
        Kind::Orderer => pass!(orderers, orderer::reconcile, turn),
        Kind::Peer => pass!(peers, peer::reconcile, turn),
        Kind::Channel => pass!(channels, channel::reconcile, turn),
        Kind::Chaincode => pass!(chaincodes, chaincode::reconcile, turn),
        Kind::ConsentPolicy => pass!(consent_policies, consent_policy::reconcile),
        Kind::Identity => {
            if world.identities.get(namespace, name).is_none() {
                identity::gone(ctx, namespace, name).await;
            }
            pass!(identities, identity::reconcile)
        }
    }
}

/// How long a status may wait that tells nothing but how far something is: the next one tells more.
const UNHURRIED: Duration = Duration::from_millis(300);

/// Writes a status where it differs, and tells people about a `Ready` that changed. One that does not matter to others yet
/// waits for the next, so that not every state on the way is written; the outcome says when it is written at the latest.
async fn publish<K, S>(
    ctx: &Context,
    cache: &Cache<K>,
    resource: &K,
    current: Option<&S>,
    status: &S,
    conditions: (&[Condition], &[Condition]),
) -> Result<Outcome, ReconcileError>
where
    K: Child + Cached,
    S: Serialize,
{
    let (namespace, name) = place(resource);
    let key = status_key(&K::kind(&()), &namespace, &name);
    let rest = ctx.published.get(&key).and_then(|last| UNHURRIED.checked_sub(last.elapsed()));
    if let (Some(rest), true) = (rest, status::is_unhurried(current, status)) {
        return Ok(Outcome::within(rest));
    }
    if let Some(written) = ctx.applier.status(resource, current, status).await? {
        cache.wrote(Arc::new(written));
        ctx.published.remember(key, Instant::now());
        let (before, after) = conditions;
        ctx.reporter.transition(resource, before, after).await;
    }
    Ok(Outcome::wait())
}

/// Name and namespace of a resource.
fn place<K: kube::Resource>(resource: &K) -> (String, String) {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}
