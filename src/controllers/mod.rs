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
mod rival;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::apply::Child;
use crate::observe::cache::{Cache, Cached};
use crate::observe::{Kind, News, Target};
use crate::runtime::shutdown::Shutdown;
use context::Context;
use outcome::{Outcome, ReconcileError};

/// Reconciles whatever the news concern until shutdown is wished, and lets what runs finish.
pub async fn run(ctx: Arc<Context>, mut news: mpsc::UnboundedReceiver<News>, shutdown: &Shutdown) {
    let (requests, queue) = mpsc::unbounded_channel();
    let feed = {
        let (ctx, requests) = (ctx.clone(), requests.clone());
        async move {
            while let Some(news) = news.recv().await {
                match news {
                    News::Affected(targets) => driver::enqueue(&requests, targets),
                    News::Malformed { target, error } => malformed::report(&ctx, &target, &error).await,
                }
            }
        }
    };
    let feed = tokio::spawn(feed);
    let concurrency = usize::from(ctx.settings.concurrency);
    driver::run(queue, requests, concurrency, |target| reconcile(ctx.clone(), target), shutdown.wished()).await;
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
    macro_rules! pass {
        ($cache:ident, $reconcile:path) => {
            match world.$cache.get(namespace, name) {
                Some(resource) => (resource.metadata.generation.unwrap_or_default(), $reconcile(ctx, resource).await),
                None => (0, Ok(Outcome::wait())),
            }
        };
    }
    match target.kind {
        Kind::Hospital => pass!(hospitals, hospital::reconcile),
        Kind::Orderer => pass!(orderers, orderer::reconcile),
        Kind::Peer => pass!(peers, peer::reconcile),
        Kind::Channel => pass!(channels, channel::reconcile),
        Kind::Chaincode => pass!(chaincodes, chaincode::reconcile),
        Kind::ConsentPolicy => pass!(consent_policies, consent_policy::reconcile),
        Kind::Identity => {
            if world.identities.get(namespace, name).is_none() {
                identity::gone(ctx, namespace, name).await;
            }
            pass!(identities, identity::reconcile)
        }
    }
}

/// Writes a status where it differs, and tells people about a `Ready` that changed.
async fn publish<K, S>(
    ctx: &Context,
    cache: &Cache<K>,
    resource: &K,
    current: Option<&S>,
    status: &S,
    conditions: (&[Condition], &[Condition]),
) -> Result<(), ReconcileError>
where
    K: Child + Cached,
    S: Serialize,
{
    if let Some(written) = ctx.applier.status(resource, current, status).await? {
        cache.wrote(Arc::new(written));
        let (before, after) = conditions;
        ctx.reporter.transition(resource, before, after).await;
    }
    Ok(())
}

/// Name and namespace of a resource.
fn place<K: kube::Resource>(resource: &K) -> (String, String) {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}
