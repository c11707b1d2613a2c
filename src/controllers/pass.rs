//! One pass over one resource of any kind, and the repair that is its first half.
//!
//! Invariant: what a pass does follows from the caches and the ledger as they are now, never from the news that woke it. The
//! trap: the caches lag behind the cluster; whatever must not happen twice is made by create, or checked by the API server
//! through a resource version.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::context::Context;
use super::error::{ReconcileError, StepError};
use super::kind::{Declared, Deletion, Report};
use super::outcome::Outcome;
use super::writer::{Writer, Writers};
use ehrnet_api::Status;
use ehrnet_observe::Target;
use ehrnet_status::{self as status, Finding};

/// A pass: the generation of the spec that it saw, and how it ended.
pub async fn pass<K: Declared>(
    ctx: &Context,
    writers: &Writers,
    target: &Target,
) -> (i64, Result<Outcome, ReconcileError>) {
    let writer = writers.writer(target).await;
    match present::<K>(ctx, target).await {
        Some(resource) => {
            let generation = resource.meta().generation.unwrap_or_default();
            (generation, reconcile(ctx, resource, writer).await)
        }
        None => (0, Ok(Outcome::wait())),
    }
}

/// Brings one resource closer to its declaration and reports how far it is.
async fn reconcile<K: Declared>(
    ctx: &Context,
    resource: Arc<K>,
    writer: Writer<'_>,
) -> Result<Outcome, ReconcileError> {
    let held = match K::deletion(ctx, &resource, &writer).await? {
        Deletion::None => None,
        Deletion::LetGo => return Ok(Outcome::wait()),
        Deletion::Held(finding) => Some(finding),
    };
    let Provision::<K> { facts, provided } = provide(ctx, resource.clone(), writer).await?;
    let answer = K::ask(ctx, &facts, &provided).await;
    let report = K::report(&facts, &provided, answer);
    publish(ctx, &*resource, held.into_iter().fold(report, Report::held)).await
}

/// Undoes at once what somebody else did to the objects of a resource, beside the passes: writes what it stands for and
/// reports nothing. The pass that the same news asks for reports.
pub async fn repair<K: Declared>(ctx: &Context, writers: &Writers, target: &Target) -> Result<(), ReconcileError> {
    if !K::REPAIRED {
        return Ok(());
    }
    let writer = writers.writer(target).await;
    let resource = present::<K>(ctx, target).await.filter(|resource| resource.meta().deletion_timestamp.is_none());
    if let Some(resource) = resource {
        provide(ctx, resource, writer).await?;
    }
    Ok(())
}

/// What is known of a resource, and what was made for it.
struct Provision<K: Declared> {
    facts: K::Facts,
    /// What stands in the cluster, or what is in the way of it: people are told, and the pass goes on.
    provided: Result<K::Provided, Finding>,
}

/// Reads what decisions need and writes what follows from it. The leave to write is taken and ends here: what comes after
/// may take as long as a node that does not answer, and repairs must not wait for that.
async fn provide<K: Declared>(
    ctx: &Context,
    resource: Arc<K>,
    writer: Writer<'_>,
) -> Result<Provision<K>, ReconcileError> {
    let facts = K::gather(ctx, resource).await;
    let provided = match K::provide(ctx, &facts, &writer).await {
        Ok(provided) => Ok(provided),
        Err(StepError::Obstacle(finding)) => Err(finding),
        Err(StepError::Failed(error)) => return Err(error),
    };
    Ok(Provision { facts, provided })
}

/// The resource, if there is one.
async fn present<K: Declared>(ctx: &Context, target: &Target) -> Option<Arc<K>> {
    let resource = K::cache(&ctx.world).get(&target.namespace, &target.name);
    let uid = resource.as_ref().and_then(|resource| resource.uid());
    recognise(ctx, target, uid.as_deref()).await;
    if resource.is_none() {
        ctx.metrics.certificates_gone(&target.namespace, K::KIND.as_str(), &target.name);
    }
    resource
}

/// Forgets what is remembered of another resource of that name, and tells what was to be told when it goes.
pub async fn recognise(ctx: &Context, target: &Target, uid: Option<&str>) {
    if let Some(farewell) = ctx.memories.present(target, uid) {
        ctx.statuses.reporter.tell(&farewell.reference, &farewell.event).await;
    }
}

/// How long a status may wait that tells nothing but how far something is: the next one tells more.
const UNHURRIED: Duration = Duration::from_millis(300);

/// Writes a status where it differs, and tells people about a `Ready` that changed. One that does not matter to others yet
/// waits for the next, so that not every state on the way is written; the outcome says when it is written at the latest.
async fn publish<K: Declared>(
    ctx: &Context,
    resource: &K,
    report: Report<K::Status>,
) -> Result<Outcome, ReconcileError> {
    let Report { findings, mut status, look_again } = report;
    let look_again = look_again.or_sooner(Outcome::of(&findings));
    let (current, uid) = (resource.status(), resource.uid().unwrap_or_default());
    let before = current.map(|status| status.conditions().to_vec()).unwrap_or_default();
    let generation = resource.meta().generation;
    status.set_conditions(generation, status::conditions(&before, generation, (ctx.clock)(), &findings));
    let rest = ctx.memories.published(&uid).and_then(|last| UNHURRIED.checked_sub(last.elapsed()));
    if let (Some(rest), true) = (rest, status::is_unhurried(current, &status)) {
        return Ok(look_again.or_sooner(Outcome::within(rest)));
    }
    let cache = K::cache(&ctx.world);
    let writing = cache.writing(&resource.namespace().unwrap_or_default(), &resource.name_any());
    let written = ctx.statuses.writer.status(resource, current, &status).await?.map(Arc::new);
    let changed = written.is_some();
    let missed = writing.end(written);
    if changed {
        ctx.memories.remember_published(&uid);
        ctx.statuses.reporter.transition(resource, &before, status.conditions()).await;
    }
    Ok(if missed { look_again.or_sooner(Outcome::within(Duration::ZERO)) } else { look_again })
}
