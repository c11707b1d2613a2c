//! What somebody else did to the objects of a resource is undone at once, beside the passes.
//!
//! A pass asks the ledger, which may take as long as a node that does not answer; drift must not wait for that. So a repair
//! does the first part of a pass only: it writes what the resource stands for and reports nothing. The pass that the same
//! news asks for reports. A consent policy has no repair: its pass says who changed what before it puts it back.

use std::sync::Arc;

use super::context::Context;
use super::driver::Pass;
use super::outcome::{Outcome, ReconcileError};
use super::{chaincode, channel, hospital, identity, orderer, peer};
use crate::observe::{Kind, Target};

/// Repairs what was made for one resource.
pub async fn run(ctx: Arc<Context>, target: Target) -> Pass {
    let result = repair(&ctx, &target).await;
    if let Err(error) = &result {
        tracing::warn!(%target, %error, "cannot repair for now");
    }
    Pass { target, generation: 0, result: result.map(|()| Outcome::wait()) }
}

async fn repair(ctx: &Context, target: &Target) -> Result<(), ReconcileError> {
    let (namespace, name, world) = (&target.namespace, &target.name, &ctx.world);
    let _turn = ctx.writers.take(&target.to_string()).await;
    match target.kind {
        Kind::Hospital => match world.hospitals.get(namespace, name) {
            Some(hospital) => hospital::reconcile(ctx, hospital).await.map(drop),
            None => Ok(()),
        },
        Kind::Identity => match world.identities.get(namespace, name) {
            Some(identity) => identity::reconcile(ctx, identity).await.map(drop),
            None => Ok(()),
        },
        Kind::Orderer => match world.orderers.get(namespace, name) {
            Some(orderer) => orderer::repair(ctx, &orderer).await,
            None => Ok(()),
        },
        Kind::Peer => match world.peers.get(namespace, name) {
            Some(peer) => peer::repair(ctx, &peer).await,
            None => Ok(()),
        },
        Kind::Channel => match world.channels.get(namespace, name) {
            Some(channel) => channel::repair(ctx, channel).await,
            None => Ok(()),
        },
        Kind::Chaincode => match world.chaincodes.get(namespace, name) {
            Some(chaincode) => chaincode::repair(ctx, chaincode).await,
            None => Ok(()),
        },
        Kind::ConsentPolicy => Ok(()),
    }
}
