//! Nodes restart one at a time (S4 in docs/invariants.md): an orderer that is down already must not be joined by a second
//! one by our own hand.
//!
//! Exception to "facts are gathered first": whether a restart may happen is looked up once the turn is there
//! ([`must_wait`]), because the nodes whose turn it was before have just been restarted. What was gathered before the turn
//! would still call them ready.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::context::Context;
use super::error::StepError;
use super::writer::Writer;
use super::{pods, write};
use ehrnet_apply::Owner;
use ehrnet_apply::drift::drift;
use ehrnet_desired::Objects;
use ehrnet_observe::World;

/// Writes a node's objects. A change that restarts a running pod waits until no other node of the namespace is on its way.
/// What is made for the first time restarts nothing: nodes that are new do not wait for each other's writes.
///
/// Returns whether a restart waits.
pub async fn apply(
    ctx: &Context,
    writer: &Writer<'_>,
    owner: &Owner,
    is_new: bool,
    mut objects: Objects,
) -> Result<bool, StepError> {
    let _turn = match is_new {
        true => None,
        false => Some(writer.turn_to_restart(&owner.namespace).await),
    };
    let declared = objects.stateful_sets.len();
    objects.stateful_sets.retain(|declared| !must_wait(&ctx.world, &owner.namespace, declared));
    let waits = objects.stateful_sets.len() < declared;
    if waits {
        tracing::debug!(node = owner.name, "the restart waits until the other nodes are ready");
    }
    write::objects(ctx, writer, owner, objects).await?;
    Ok(waits)
}

/// Whether a node must not be written at this moment: that would restart it while another one of the namespace is on its way.
fn must_wait(world: &World, namespace: &str, declared: &StatefulSet) -> bool {
    let name = declared.name_any();
    let Some(live) = world.stateful_sets.get(namespace, &name) else { return false };
    changes_pod(&live, declared) && pods::is_ready(world, namespace, &name) && {
        let sets = world.stateful_sets.list(namespace);
        let mut others = sets.iter().map(|set| set.name_any()).filter(|other| *other != name);
        others.any(|other| !pods::is_settled(world, namespace, &other))
    }
}

/// Whether writing a node changes the template of its pod. Pure.
fn changes_pod(live: &StatefulSet, declared: &StatefulSet) -> bool {
    let template = |set: &StatefulSet| serde_json::to_value(set.spec.as_ref().map(|spec| &spec.template)).ok();
    match (template(live), template(declared)) {
        (Some(live), Some(declared)) => !drift(&live, &declared).is_empty(),
        _ => true,
    }
}
