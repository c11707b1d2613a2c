//! Deleting an orderer is held up while it would cost a channel its quorum.
//!
//! Invariant: this looks at names and heights only, so that a spec that makes no sense can never block a deletion.

use std::sync::Arc;

use kube::ResourceExt;

use super::context::Context;
use super::error::ReconcileError;
use super::kind::Deletion;
use super::pods;
use super::writer::Writer;
use ehrnet_api::channel::ConsensusType;
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Channel, Orderer};
use ehrnet_status::Finding;

/// Holds the resource until its deletion is harmless.
const FINALIZER: &str = "ehrnet.dev/quorum";

/// Sees to the finalizer of an orderer.
pub async fn orderer(ctx: &Context, orderer: &Arc<Orderer>, writer: &Writer<'_>) -> Result<Deletion, ReconcileError> {
    let is_ours = |finalizer: &&String| *finalizer == FINALIZER;
    let held = orderer.finalizers().iter().any(|finalizer| is_ours(&finalizer));
    let (namespace, name) = super::place(&**orderer);
    if orderer.metadata.deletion_timestamp.is_none() {
        if !held && in_use(ctx, &namespace, &name) {
            let all: Vec<String> = orderer.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
            ctx.world.orderers.wrote(Arc::new(writer.finalizers(&**orderer, &all).await?));
        }
        return Ok(Deletion::None);
    }
    if !held {
        return Ok(Deletion::LetGo);
    }
    if let Some(channel) = harmed(ctx, &namespace, &name) {
        let message = format!(
            "Channel {channel} would lose its quorum: remove this orderer from its spec.consensus.orderers first, or delete the Channel"
        );
        return Ok(Deletion::Held(Finding::not(Reason::DeletionBlocked, message)));
    }
    let rest: Vec<String> = orderer.finalizers().iter().filter(|finalizer| !is_ours(finalizer)).cloned().collect();
    ctx.world.orderers.wrote(Arc::new(writer.finalizers(&**orderer, &rest).await?));
    Ok(Deletion::LetGo)
}

/// Whether a channel counts on this orderer.
fn in_use(ctx: &Context, namespace: &str, name: &str) -> bool {
    let channels = ctx.world.channels.list(namespace);
    channels.iter().any(|channel| channel.spec.consensus.orderers.iter().any(|orderer| orderer == name))
}

/// The channel that would stop ordering without this node.
fn harmed(ctx: &Context, namespace: &str, name: &str) -> Option<String> {
    let channels = ctx.world.channels.list(namespace);
    let mut alive = channels.iter().filter(|channel| channel.metadata.deletion_timestamp.is_none());
    let harmed = alive.find(|channel| {
        let orderers = &channel.spec.consensus.orderers;
        let answers = |orderer: &&String| **orderer != name && pods::is_ready(&ctx.world, namespace, orderer);
        let left = orderers.iter().filter(answers).count();
        orderers.iter().any(|orderer| orderer == name) && left < quorum(channel)
    });
    harmed.map(|channel| channel.name_any())
}

/// How many orderers must work (Raft: a majority; BFT: ceil((n + f + 1) / 2) with f = (n - 1) / 3).
fn quorum(channel: &Channel) -> usize {
    let n = channel.spec.consensus.orderers.len();
    match channel.spec.consensus.type_ {
        ConsensusType::Raft => n / 2 + 1,
        ConsensusType::Bft => (n + (n - 1) / 3 + 1).div_ceil(2),
    }
}
