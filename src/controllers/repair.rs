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
use ehrnet_observe::{Kind, Target};

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
    macro_rules! repair {
        ($cache:ident, $repair:path) => {
            match world.$cache.get(namespace, name).filter(|resource| resource.metadata.deletion_timestamp.is_none()) {
                Some(resource) => $repair(ctx, resource).await.map(drop),
                None => Ok(()),
            }
        };
    }
    match target.kind {
        Kind::Hospital => repair!(hospitals, hospital::reconcile),
        Kind::Identity => repair!(identities, identity::reconcile),
        Kind::Orderer => repair!(orderers, orderer::repair),
        Kind::Peer => repair!(peers, peer::repair),
        Kind::Channel => repair!(channels, channel::repair),
        Kind::Chaincode => repair!(chaincodes, chaincode::repair),
        Kind::ConsentPolicy => Ok(()),
    }
}
