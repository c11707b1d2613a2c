//! Deleting an orderer is held up while a channel counts on it.
//!
//! Invariant: what the ledger says of the channel's consenters decides, never a declaration: a spec that makes no sense can
//! neither block a deletion nor allow one. Decisions of a namespace are taken one after another, so that two orderers that
//! are deleted at once are not let go for each other's sake.

use std::sync::Arc;

use kube::ResourceExt;

use super::consenters::{self, Consenters};
use super::context::Context;
use super::error::ReconcileError;
use super::kind::Deletion;
use super::quorum;
use super::writer::Writer;
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Channel, Orderer};
use ehrnet_status::Finding;

/// Holds the resource until its deletion is harmless.
const FINALIZER: &str = "ehrnet.dev/quorum";

/// Sees to the finalizer of an orderer.
pub async fn orderer(ctx: &Context, orderer: &Arc<Orderer>, writer: &Writer<'_>) -> Result<Deletion, ReconcileError> {
    let held = is_held(orderer);
    let namespace = orderer.namespace().unwrap_or_default();
    if orderer.metadata.deletion_timestamp.is_none() {
        if !held && is_candidate(ctx, orderer) {
            let all: Vec<String> = orderer.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
            ctx.world.orderers.wrote(Arc::new(writer.finalizers(&**orderer, &all).await?));
        }
        return Ok(Deletion::None);
    }
    if !held {
        return Ok(Deletion::LetGo);
    }
    let _turn = writer.turn_to_stop(&namespace).await;
    if let Some(why) = counted_on(ctx, orderer).await {
        return Ok(Deletion::Held(Finding::not(Reason::DeletionBlocked, why)));
    }
    let rest: Vec<String> = orderer.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    ctx.world.orderers.wrote(Arc::new(writer.finalizers(&**orderer, &rest).await?));
    Ok(Deletion::LetGo)
}

/// Whether an orderer is being deleted and nothing of ours holds it.
pub fn is_let_go(orderer: &Orderer) -> bool {
    orderer.metadata.deletion_timestamp.is_some() && !is_held(orderer)
}

fn is_held(orderer: &Orderer) -> bool {
    orderer.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn is_candidate(ctx: &Context, orderer: &Orderer) -> bool {
    let (namespace, name) = super::place(orderer);
    ctx.world.channels.list(&namespace).iter().any(|channel| channel.possible_consenters().contains(&name))
}

/// Why a channel counts on an orderer, and what to do about it; `None` if none does.
async fn counted_on(ctx: &Context, orderer: &Orderer) -> Option<String> {
    let channels = consenters::of_channels(ctx, orderer).await;
    channels.iter().find_map(|(channel, consenters)| reason(channel, consenters, &orderer.name_any()))
}

fn reason(channel: &Channel, consenters: &Consenters, name: &str) -> Option<String> {
    let is_consenter = consenters.all.iter().any(|consenter| consenter.name == name);
    if is_consenter && !channel.spec.consensus.orderers.iter().any(|declared| declared == name) {
        return Some(format!(
            "Channel {} still has it as a consenter: it goes once the channel does without it, see the plan in the status of the Channel",
            consenters.channel
        ));
    }
    quorum::needs(consenters, name).map(|why| {
        format!("{why}: remove this orderer from spec.consensus.orderers of the Channel first, or delete the Channel")
    })
}
