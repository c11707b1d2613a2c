//! Deleting an orderer is held up while it would cost a channel its quorum.
//!
//! Invariant: this looks at names and heights only, so that a spec that makes no sense can never block a deletion.

use std::sync::Arc;

use kube::ResourceExt;

use super::context::Context;
use super::node;
use super::outcome::{Outcome, ReconcileError};
use ehrnet_api::channel::ConsensusType;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::{Channel, NodeStatus, Orderer};
use ehrnet_status::{self as status, Finding};

/// Holds the resource until its deletion is harmless.
pub const FINALIZER: &str = "ehrnet.dev/quorum";

/// Sees to the finalizer. `None` goes on with an ordinary reconcile.
pub async fn orderer(ctx: &Context, orderer: &Arc<Orderer>) -> Result<Option<Outcome>, ReconcileError> {
    let held = orderer.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let (namespace, name) = super::place(&**orderer);
    if orderer.metadata.deletion_timestamp.is_none() {
        if !held && in_use(ctx, &namespace, &name) {
            let all: Vec<String> = orderer.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
            ctx.world.orderers.wrote(Arc::new(ctx.applier.finalizers(&**orderer, &all).await?));
        }
        return Ok(None);
    }
    if !held {
        return Ok(Some(Outcome::wait()));
    }
    if let Some(channel) = harmed(ctx, &namespace, &name) {
        let finding = Finding::not(
            Reason::DeletionBlocked,
            format!(
                "Channel {channel} would lose its quorum: remove this orderer from its spec.consensus.orderers first, or delete the Channel"
            ),
        );
        return say(ctx, orderer, finding).await.map(Some);
    }
    let rest: Vec<String> = orderer.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    let written = ctx.applier.finalizers(&**orderer, &rest).await?;
    ctx.world.orderers.wrote(Arc::new(written));
    Ok(Some(Outcome::wait()))
}

/// Whether a channel counts on this orderer.
fn in_use(ctx: &Context, namespace: &str, name: &str) -> bool {
    let channels = ctx.world.channels.list(namespace);
    channels.iter().any(|channel| channel.spec.consensus.orderers.iter().any(|orderer| orderer == name))
}

/// The channel that would stop ordering without this node.
fn harmed(ctx: &Context, namespace: &str, name: &str) -> Option<String> {
    ctx.world
        .channels
        .list(namespace)
        .into_iter()
        .filter(|channel| channel.metadata.deletion_timestamp.is_none())
        .find_map(|channel| {
            let orderers = &channel.spec.consensus.orderers;
            orderers.iter().any(|orderer| orderer == name).then_some(())?;
            let alive = |orderer: &&String| **orderer != name && node::is_ready(&ctx.world, namespace, orderer);
            let left = orderers.iter().filter(alive).count();
            (left < quorum(&channel)).then(|| channel.name_any())
        })
}

/// How many orderers must work (Raft: a majority; BFT: ceil((n + f + 1) / 2) with f = (n - 1) / 3).
fn quorum(channel: &Channel) -> usize {
    let n = channel.spec.consensus.orderers.len();
    match channel.spec.consensus.type_ {
        ConsensusType::Raft => n / 2 + 1,
        ConsensusType::Bft => (n + (n - 1) / 3 + 1).div_ceil(2),
    }
}

async fn say(ctx: &Context, orderer: &Orderer, finding: Finding) -> Result<Outcome, ReconcileError> {
    let current = orderer.status.clone().unwrap_or_default();
    let findings = [(ConditionType::Accepted, finding)];
    let conditions = status::conditions(&current.conditions, orderer.metadata.generation, (ctx.clock)(), &findings);
    let status = NodeStatus { conditions: conditions.clone(), ..current.clone() };
    let before = &current.conditions;
    super::publish(ctx, &ctx.world.orderers, orderer, orderer.status.as_ref(), &status, (before, &conditions)).await
}
