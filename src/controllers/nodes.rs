//! What orderers and peers have in common on their way to a running pod.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::authorities::{self, Authorities};
use super::children;
use super::context::Context;
use super::credentials::Credentials;
use super::node;
use super::outcome::{Outcome, ReconcileError};
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Hospital, NodeStatus};
use ehrnet_apply::Owner;
use ehrnet_apply::drift::drift;
use ehrnet_desired::names;
use ehrnet_desired::plan::Endpoint;
use ehrnet_desired::resources::{Prepared, Resources};
use ehrnet_pki::{Window, renewal};
use ehrnet_status::Finding;

/// How often a node is asked about its ledger without news.
pub const LEDGER_LOOK: Duration = Duration::from_secs(60);

/// How soon a node whose restart waits for others is looked at again: their readiness is no news of its own.
const RESTART_LOOK: Duration = Duration::from_secs(1);

/// What a node stands on.
pub struct Ground {
    /// Its hospital.
    pub hospital: Arc<Hospital>,
    /// The hospital's CAs.
    pub authorities: Authorities,
    /// Validity and renewal of its certificates.
    pub window: Window,
}

/// The hospital of a node with its CAs, or what is missing.
pub async fn ground<K: kube::Resource>(ctx: &Context, node: &K, hospital: &str) -> Result<Ground, Finding> {
    let namespace = node.namespace().unwrap_or_default();
    let Some(found) = ctx.world.hospitals.get(&namespace, hospital) else {
        return Err(Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")));
    };
    let authorities = authorities::of_hospital(ctx, &found).await?;
    let leaf = &found.spec.pki.leaf;
    let window = Window { validity: leaf.validity.0, renew_before: leaf.renew_before.0 };
    Ok(Ground { hospital: found, authorities, window })
}

/// Whether the hospital that something belongs to is there.
pub fn accepted(ground: &Result<Ground, Finding>) -> Finding {
    match ground {
        Ok(_) => Finding::good("the hospital and its CAs are there"),
        Err(finding) => finding.clone(),
    }
}

/// What is known of a node before its ledger is asked.
pub fn findings<K: kube::Resource>(
    ctx: &Context,
    node: &K,
    ground: &Result<Ground, Finding>,
    credentials: &Result<Credentials, Finding>,
) -> Vec<(ConditionType, Finding)> {
    let (namespace, name) = super::place(node);
    let (identity, pod) = match credentials {
        Ok(_) => {
            (Finding::good("identity and TLS certificate are valid"), node::finding(&ctx.world, &namespace, &name))
        }
        Err(finding) => (finding.clone(), Finding::unknown(Reason::Progressing, "comes after the identity")),
    };
    vec![
        (ConditionType::Accepted, accepted(ground)),
        (ConditionType::IdentityReady, identity),
        (ConditionType::NodeReady, pod),
    ]
}

/// What a node says about itself; `None` for what it does not say now.
#[derive(Default)]
pub struct Said {
    /// Its software.
    pub version: Option<String>,
    /// Its channels.
    pub channels: Option<Vec<NodeChannel>>,
}

/// The status of a node that serves `port`. What is not known now stays as it was.
pub fn report<K: kube::Resource>(
    node: &K,
    port: u16,
    before: NodeStatus,
    credentials: Option<&Credentials>,
    said: Said,
    conditions: Vec<Condition>,
) -> NodeStatus {
    let (namespace, name) = super::place(node);
    let channels = said.channels.unwrap_or(before.channels);
    NodeStatus {
        observed_generation: node.meta().generation,
        conditions,
        address: Some(format!("{}:{port}", names::host(&name, &namespace))),
        ledger: said.version.or(before.ledger),
        identity: credentials.map(|c| c.identity.status()).or(before.identity),
        tls: credentials.map(|c| c.tls.status()).or(before.tls),
        channel_names: NodeChannel::names(&channels),
        channels,
    }
}

/// Ports outside the cluster that nodes of this namespace have to reach.
pub fn outside_ports(ctx: &Context, namespace: &str) -> BTreeSet<u16> {
    let orderers = ctx.world.orderers.list(namespace);
    let peers = ctx.world.peers.list(namespace);
    let endpoints = orderers.iter().map(|o| &o.spec.node).chain(peers.iter().map(|p| &p.spec.node));
    let endpoints = endpoints.filter_map(|node| node.external_endpoint.as_deref()?.parse::<Endpoint>().ok());
    endpoints.map(|endpoint| endpoint.port).collect()
}

/// Writes a node's objects. A change that restarts a running pod waits until no other node of the namespace is on its
/// way (S4): an orderer that is down already must not be joined by a second one by our own hand.
///
/// Returns whether a restart waits.
pub async fn apply(ctx: &Context, owner: &Owner, mut resources: Resources<Prepared>) -> Result<bool, ReconcileError> {
    let _turn = ctx.restarts.take(&owner.namespace).await;
    let declared = resources.objects.stateful_sets.len();
    resources.objects.stateful_sets.retain(|declared| {
        let waits =
            restarts(ctx, &owner.namespace, declared) && others_unsettled(ctx, &owner.namespace, &declared.name_any());
        if waits {
            tracing::debug!(node = declared.name_any(), "the restart waits until the other nodes are ready");
        }
        !waits
    });
    let waits = resources.objects.stateful_sets.len() < declared;
    children::apply(ctx, owner, resources).await?;
    Ok(waits)
}

/// Whether applying changes the template of a pod that runs.
fn restarts(ctx: &Context, namespace: &str, declared: &StatefulSet) -> bool {
    let Some(live) = ctx.world.stateful_sets.get(namespace, &declared.name_any()) else { return false };
    let template = |set: &StatefulSet| serde_json::to_value(set.spec.as_ref().map(|spec| &spec.template)).ok();
    let differs = match (template(&live), template(declared)) {
        (Some(live), Some(declared)) => !drift(&live, &declared).is_empty(),
        _ => true,
    };
    differs && node::is_ready(&ctx.world, namespace, &declared.name_any())
}

fn others_unsettled(ctx: &Context, namespace: &str, name: &str) -> bool {
    let sets = ctx.world.stateful_sets.list(namespace);
    sets.iter().map(|set| set.name_any()).any(|other| other != name && !node::is_settled(&ctx.world, namespace, &other))
}

/// When the node has to be looked at again: its certificates fall due, or its ledger may have moved.
pub fn wake_up(ctx: &Context, credentials: Option<&Credentials>) -> Outcome {
    let Some(credentials) = credentials else { return Outcome::wait() };
    let due = credentials.identity.due.into_iter().chain(credentials.tls.due);
    let renewal = renewal::next_wake_up(due, (ctx.clock)()).map_or(Outcome::wait(), Outcome::within);
    let look = if credentials.restart_waits { RESTART_LOOK } else { LEDGER_LOOK };
    Outcome::within(look).or_sooner(renewal)
}
