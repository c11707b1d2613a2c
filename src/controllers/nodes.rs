//! What orderers and peers have in common on their way to a running pod.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::authorities::{self, Authorities};
use super::context::Context;
use super::credentials::{self, Credentials};
use super::error::StepError;
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::writer::Writer;
use super::{pods, write};
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Hospital, NodeStatus};
use ehrnet_apply::Owner;
use ehrnet_apply::drift::drift;
use ehrnet_desired::{Material, NodePlan, Objects, PlanError, Site, names};
use ehrnet_fabric::Endpoint;
use ehrnet_pki::{Certificate, Window, renewal};
use ehrnet_status::Finding;

/// How often a node is asked about its ledger without news.
const LEDGER_LOOK: Duration = Duration::from_secs(60);

/// How soon a node whose restart waits for others is looked at again: their readiness is no news of its own.
const RESTART_LOOK: Duration = Duration::from_secs(1);

/// What orderers and peers differ in.
pub trait LedgerNode: Declared<Facts = NodeFacts<Self>, Provided = Credentials, Status = NodeStatus> {
    /// Port under which others reach it.
    const PORT: u16;
    /// Validated input of its builders.
    type Plan: Send + Sync;

    /// Name of its Hospital.
    fn hospital(&self) -> &str;

    /// Plans it.
    ///
    /// # Errors
    /// The spec makes no sense.
    fn plan(&self, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<Self::Plan, PlanError>;

    /// What every node has.
    fn node(plan: &Self::Plan) -> &NodePlan;

    /// Whether its keys may be replaced, once it is known by them.
    fn replaceable(status: &NodeStatus) -> Replaceable;

    /// What its pod reads beside its own keys, made where it is missing: the certificate of it.
    fn prepare(
        ctx: &Context,
        writer: &Writer<'_>,
        owner: &Owner,
        plan: &Self::Plan,
        dependencies: &Dependencies,
    ) -> impl Future<Output = Result<Certificate, StepError>> + Send;

    /// Every object of it but its Secrets.
    fn objects(plan: &Self::Plan, material: &Material) -> Objects;
}

/// What belongs to a hospital depends on.
pub struct Dependencies {
    /// The hospital.
    pub hospital: Arc<Hospital>,
    /// The hospital's CAs.
    pub authorities: Authorities,
    /// Validity and renewal of certificates.
    pub window: Window,
}

/// The hospital of a resource with its CAs, or what is missing.
pub async fn dependencies<K: kube::Resource>(
    ctx: &Context,
    resource: &K,
    hospital: &str,
) -> Result<Dependencies, Finding> {
    let namespace = resource.namespace().unwrap_or_default();
    let Some(found) = ctx.world.hospitals.get(&namespace, hospital) else {
        return Err(Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")));
    };
    let authorities = authorities::of_hospital(ctx, &found).await?;
    let leaf = &found.spec.pki.leaf;
    let window = Window { validity: leaf.validity.0, renew_before: leaf.renew_before.0 };
    Ok(Dependencies { hospital: found, authorities, window })
}

/// Whether the hospital that something belongs to is there.
pub fn accepted(dependencies: &Result<Dependencies, Finding>) -> Finding {
    match dependencies {
        Ok(_) => Finding::good("the hospital and its CAs are there"),
        Err(finding) => finding.clone(),
    }
}

/// What decisions about a node need.
pub struct NodeFacts<K> {
    /// The resource.
    pub node: Arc<K>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it depends on, or what of it is missing.
    pub dependencies: Result<Dependencies, Finding>,
    /// Ports of nodes outside the cluster that it must reach.
    outside_ports: BTreeSet<u16>,
}

impl<K: LedgerNode> NodeFacts<K> {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, node: Arc<K>) -> Self {
        let (namespace, name) = super::place(&*node);
        let dependencies = dependencies(ctx, &*node, node.hospital()).await;
        Self { outside_ports: outside_ports(ctx, &namespace), node, namespace, name, dependencies }
    }

    /// The status as it was.
    pub fn status(&self) -> NodeStatus {
        self.node.status().cloned().unwrap_or_default()
    }
}

/// Keys first, then everything around the pod, then the pod.
pub async fn provide<K: LedgerNode>(
    ctx: &Context,
    facts: &NodeFacts<K>,
    writer: &Writer<'_>,
) -> Result<Credentials, StepError> {
    let dependencies = facts.dependencies.as_ref().map_err(Clone::clone)?;
    let plan = facts.node.plan(&dependencies.hospital, &ctx.site, facts.outside_ports.clone())?;
    let owner = super::owner(&*facts.node)?;
    let prepared = K::prepare(ctx, writer, &owner, &plan, dependencies).await?;
    let (node, known) = (K::node(&plan), facts.status());
    let replaceable = K::replaceable(&known);
    let credentials = credentials::of_node(ctx, writer, &owner, node, dependencies, &known, replaceable).await?;
    let material = Material::of([
        credentials.identity.pair.certificate.as_str(),
        credentials.tls.pair.certificate.as_str(),
        dependencies.authorities.signing.certificate().pem(),
        dependencies.authorities.tls.certificate().pem(),
        prepared.pem(),
    ]);
    let restart_waits = apply(ctx, writer, &owner, K::objects(&plan, &material)).await?;
    Ok(Credentials { restart_waits, ..credentials })
}

/// What a node says about itself; `None` for what it does not say now.
#[derive(Default)]
pub struct NodeAnswer {
    /// Its software.
    pub version: Option<String>,
    /// Its channels.
    pub channels: Option<Vec<NodeChannel>>,
}

/// What people are told of a node. What is not known now stays as it was.
pub fn report<K: LedgerNode>(
    ctx: &Context,
    facts: &NodeFacts<K>,
    provided: &Result<Credentials, Finding>,
    answer: NodeAnswer,
) -> Report<NodeStatus> {
    let (identity, pod) = match provided {
        Ok(_) => (
            Finding::good("identity and TLS certificate are valid"),
            pods::finding(&ctx.world, &facts.namespace, &facts.name),
        ),
        Err(finding) => (finding.clone(), Finding::comes_after("the identity")),
    };
    let (before, credentials) = (facts.status(), provided.as_ref().ok());
    let channels = answer.channels.unwrap_or(before.channels);
    Report {
        findings: vec![
            (ConditionType::Accepted, accepted(&facts.dependencies)),
            (ConditionType::IdentityReady, identity),
            (ConditionType::NodeReady, pod),
        ],
        status: NodeStatus {
            address: Some(format!("{}:{}", names::host(&facts.name, &facts.namespace), K::PORT)),
            ledger: answer.version.or(before.ledger),
            identity: credentials.map(|c| c.identity.status()).or(before.identity),
            tls: credentials.map(|c| c.tls.status()).or(before.tls),
            channel_names: NodeChannel::names(&channels),
            channels,
            ..NodeStatus::default()
        },
        look_again: wake_up(ctx, credentials),
    }
}

/// Ports outside the cluster that nodes of this namespace have to reach.
fn outside_ports(ctx: &Context, namespace: &str) -> BTreeSet<u16> {
    let orderers = ctx.world.orderers.list(namespace);
    let peers = ctx.world.peers.list(namespace);
    let endpoints = orderers.iter().map(|o| &o.spec.node).chain(peers.iter().map(|p| &p.spec.node));
    let endpoints = endpoints.filter_map(|node| node.external_endpoint.as_deref()?.parse::<Endpoint>().ok());
    endpoints.map(|endpoint| endpoint.port).collect()
}

/// Writes a node's objects. A change that restarts a running pod waits until no other node of the namespace is on its
/// way (S4 in docs/invariants.md): an orderer that is down already must not be joined by a second one by our own hand.
///
/// Returns whether a restart waits.
async fn apply(ctx: &Context, writer: &Writer<'_>, owner: &Owner, mut objects: Objects) -> Result<bool, StepError> {
    let known = |set: &StatefulSet| ctx.world.stateful_sets.get(&owner.namespace, &set.name_any()).is_some();
    // What is made for the first time restarts nothing, and nodes that are new do not wait for each other's writes.
    let _turn = match objects.stateful_sets.iter().any(known) {
        true => Some(writer.turn_to_restart(&owner.namespace).await),
        false => None,
    };
    let declared = objects.stateful_sets.len();
    objects.stateful_sets.retain(|declared| {
        let waits =
            restarts(ctx, &owner.namespace, declared) && others_unsettled(ctx, &owner.namespace, &declared.name_any());
        if waits {
            tracing::debug!(node = declared.name_any(), "the restart waits until the other nodes are ready");
        }
        !waits
    });
    let waits = objects.stateful_sets.len() < declared;
    write::objects(ctx, writer, owner, objects).await?;
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
    differs && pods::is_ready(&ctx.world, namespace, &declared.name_any())
}

fn others_unsettled(ctx: &Context, namespace: &str, name: &str) -> bool {
    let sets = ctx.world.stateful_sets.list(namespace);
    sets.iter().map(|set| set.name_any()).any(|other| other != name && !pods::is_settled(&ctx.world, namespace, &other))
}

/// When the node has to be looked at again: its certificates fall due, or its ledger may have moved.
fn wake_up(ctx: &Context, credentials: Option<&Credentials>) -> Outcome {
    let Some(credentials) = credentials else { return Outcome::wait() };
    let due = credentials.identity.due.into_iter().chain(credentials.tls.due);
    let renewal = renewal::next_wake_up(due, (ctx.clock)()).map_or(Outcome::wait(), Outcome::within);
    let look = if credentials.restart_waits { RESTART_LOOK } else { LEDGER_LOOK };
    Outcome::within(look).or_sooner(renewal)
}
