//! A node that runs is restarted by our own hand only when the network can do without it (S4 in docs/invariants.md): an
//! orderer while its channels keep their quorums, a peer while the other peers of its hospital are there.
//!
//! Exception to "facts are gathered first": whether a restart may happen is looked up once the turn is there, because the
//! nodes whose turn it was before have just been restarted. What was gathered before the turn would still call them ready.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::context::Context;
use super::error::StepError;
use super::nodes::{LedgerNode, Needs, NodeFacts};
use super::writer::Writer;
use super::{pods, write};
use ehrnet_apply::drift::drift;
use ehrnet_desired::{Objects, names};

/// How long a restart waits for the same nodes to come back that it shares nothing vital with. After that they count as
/// sick, and a sick node holds nobody up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long before its certificate ends a node waits for no companion any more.
const LAST_CALL: SignedDuration = SignedDuration::from_hours(24);

/// Writes a node's objects. A change that restarts a running pod waits until the network can do without it. Nothing else
/// waits: neither nodes that are new nor repairs.
///
/// Returns why the pod still runs as it was before, if it does.
pub async fn apply<K: LedgerNode>(
    ctx: &Context,
    writer: &Writer<'_>,
    facts: &NodeFacts<K>,
    needs: &Needs<K>,
    mut objects: Objects,
) -> Result<Option<String>, StepError> {
    let (_turn, waits) = match restarted(ctx, facts, &objects) {
        // What restarts nothing waits for nobody: whoever has the turn may be asking a node that does not answer.
        None => (None, None),
        Some(_) => {
            let turn = writer.turn_to_stop(&facts.namespace).await;
            let waits = match restarted(ctx, facts, &objects) {
                Some(live) => must_wait(ctx, facts, &live).await,
                None => None,
            };
            (Some(turn), waits)
        }
    };
    if let Some(why) = &waits {
        tracing::debug!(node = facts.name, why, "the restart waits");
        objects.stateful_sets.clear();
    }
    write::objects(ctx, writer, &needs.owner, objects).await?;
    Ok(waits)
}

/// The StatefulSet whose running pod the write would restart.
fn restarted<K: LedgerNode>(ctx: &Context, facts: &NodeFacts<K>, objects: &Objects) -> Option<Arc<StatefulSet>> {
    let live = ctx.world.stateful_sets.get(&facts.namespace, &facts.name)?;
    let runs = pods::is_ready(&ctx.world, &facts.namespace, &facts.name);
    (runs && objects.stateful_sets.iter().any(|declared| changes_pod(&live, declared))).then_some(live)
}

/// Why a restart cannot be now.
async fn must_wait<K: LedgerNode>(ctx: &Context, facts: &NodeFacts<K>, live: &StatefulSet) -> Option<String> {
    let left = certificates_end(live).map(|ends| ends.duration_since(facts.now));
    // Nobody talks to a node whose certificate has ended: it is down already.
    if left.is_some_and(|left| left.is_negative()) {
        return None;
    }
    if let Some(why) = facts.node.needed(ctx).await {
        return Some(why);
    }
    if left.is_some_and(|left| left < LAST_CALL) {
        return None;
    }
    let is_settled = |name: &String| pods::is_settled(&ctx.world, &facts.namespace, name);
    if let Some(away) = facts.node.companions(&ctx.world).iter().find(|name| !is_settled(name)) {
        return Some(format!("it is restarted once {away}, which serves the same hospital, is ready"));
    }
    let away = on_their_way(ctx, facts);
    let uid = facts.node.uid().unwrap_or_default();
    let is_patient = !away.is_empty() && ctx.memories.waited_for(&uid, &away) < PATIENCE;
    is_patient.then(|| format!("nodes are restarted one at a time, and {} is on its way", away.join(", ")))
}

/// Other nodes of the namespace that need nothing but time.
fn on_their_way<K: LedgerNode>(ctx: &Context, facts: &NodeFacts<K>) -> Vec<String> {
    let (world, namespace) = (&ctx.world, &facts.namespace);
    let others = world.stateful_sets.list(namespace).into_iter().map(|set| set.name_any());
    let others = others.filter(|other| *other != facts.name);
    let away = others.filter(|other| !pods::is_settled(world, namespace, other));
    away.filter(|other| !pods::is_failing(world, namespace, other)).collect()
}

/// When the first certificate ends that the running pod has read.
fn certificates_end(live: &StatefulSet) -> Option<Timestamp> {
    let annotations = live.spec.as_ref()?.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(names::CERTIFICATES_END)?.parse().ok()
}

/// Whether writing a node changes the template of its pod. Pure.
fn changes_pod(live: &StatefulSet, declared: &StatefulSet) -> bool {
    let template = |set: &StatefulSet| serde_json::to_value(set.spec.as_ref().map(|spec| &spec.template)).ok();
    match (template(live), template(declared)) {
        (Some(live), Some(declared)) => !drift(&live, &declared).is_empty(),
        _ => true,
    }
}
