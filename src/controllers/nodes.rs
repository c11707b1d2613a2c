//! What orderers and peers have in common on their way to a running pod.
//!
//! Exception to "facts are gathered first": how the pod is doing is read after the writes ([`pods::node`], at the end of
//! [`provide`]). A write that restarts it makes what was gathered before untrue, and status never flatters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::authorities::{self, Authorities};
use super::context::Context;
use super::credentials::{self, CredentialSlots, Credentials};
use super::error::{StepError, unplannable};
use super::key_pairs::Issued;
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::pods::{self, NodePod};
use super::restart;
use super::writer::Writer;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Hospital, NodeStatus};
use ehrnet_apply::Owner;
use ehrnet_desired::{Material, NodePlan, Objects, PlanError, Site, names};
use ehrnet_fabric::Endpoint;
use ehrnet_observe::World;
use ehrnet_pki::{Certificate, Window, renewal};
use ehrnet_status::Finding;

/// How often a node is asked about its ledger without news.
const LEDGER_LOOK: Duration = Duration::from_secs(60);

/// How soon a node whose restart waits for others is looked at again: their readiness is no news of its own.
const RESTART_LOOK: Duration = Duration::from_secs(1);

/// What orderers and peers differ in.
pub trait LedgerNode: Declared<Facts = NodeFacts<Self>, Provided = NodeProvided, Status = NodeStatus> {
    /// Port under which others reach it.
    const PORT: u16;
    /// Validated input of its builders.
    type Plan: Send + Sync;
    /// What decisions about its sort of node need besides.
    type More: Send + Sync;

    /// Name of its Hospital.
    fn hospital(&self) -> &str;

    /// Plans it.
    ///
    /// # Errors
    /// The spec makes no sense.
    fn plan(&self, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<Self::Plan, PlanError>;

    /// Gathers what its sort of node needs besides, from the caches.
    fn gather_more(&self, ctx: &Context, dependencies: &Dependencies) -> Self::More;

    /// What every node has.
    fn node(plan: &Self::Plan) -> &NodePlan;

    /// Why the network cannot do without the node now, in one sentence; `None` if it can.
    fn needed(&self, ctx: &Context) -> impl Future<Output = Option<String>> + Send;

    /// Nodes that are not restarted while this one is away.
    fn companions(&self, world: &World) -> Vec<String>;

    /// Whether its keys may be replaced, once it is known by them.
    fn replaceable(status: &NodeStatus) -> Replaceable;

    /// What its pod reads beside its own keys, made where it is missing.
    fn prepare(
        ctx: &Context,
        writer: &Writer<'_>,
        needs: &Needs<Self>,
    ) -> impl Future<Output = Result<Prepared, StepError>> + Send;

    /// Every object of it but its Secrets.
    fn objects(plan: &Self::Plan, material: &Material) -> Objects;
}

/// What belongs to a hospital depends on.
pub struct Dependencies {
    /// The hospital.
    pub hospital: Arc<Hospital>,
    /// The hospital as an owner.
    pub owner: Owner,
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
    Ok(Dependencies { owner: super::owner(&*found)?, hospital: found, authorities, window })
}

/// Whether the hospital that something belongs to is there.
pub fn accepted(dependencies: &Result<Dependencies, Finding>) -> Finding {
    match dependencies {
        Ok(_) => Finding::good("the hospital and its CAs are there"),
        Err(finding) => finding.clone(),
    }
}

/// What decisions about a node need.
pub struct NodeFacts<K: LedgerNode> {
    /// The resource.
    pub node: Arc<K>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The present.
    pub now: Timestamp,
    /// Whether what it depends on is there.
    accepted: Finding,
    /// What it is made from, or why it cannot be made.
    pub needs: Result<Needs<K>, Finding>,
}

/// What a node is made from.
pub struct Needs<K: LedgerNode> {
    /// The node as an owner.
    pub owner: Owner,
    /// What it depends on.
    pub dependencies: Dependencies,
    /// The validated spec.
    pub plan: K::Plan,
    /// What its sort of node needs besides.
    pub more: K::More,
    /// What is found of its key pairs.
    slots: CredentialSlots,
}

impl<K: LedgerNode> NodeFacts<K> {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, node: Arc<K>) -> Self {
        let (namespace, name) = super::place(&*node);
        let dependencies = dependencies(ctx, &*node, node.hospital()).await;
        let accepted = accepted(&dependencies);
        let needs = dependencies.and_then(|dependencies| Needs::gather(ctx, &*node, dependencies));
        Self { node, namespace, name, now: (ctx.clock)(), accepted, needs }
    }

    /// The status as it was.
    pub fn status(&self) -> NodeStatus {
        self.node.status().cloned().unwrap_or_default()
    }
}

impl<K: LedgerNode> Needs<K> {
    fn gather(ctx: &Context, node: &K, dependencies: Dependencies) -> Result<Self, Finding> {
        let owner = super::owner(node)?;
        let plan = node.plan(&dependencies.hospital, &ctx.site, outside_ports(ctx, &owner.namespace));
        Ok(Self {
            plan: plan.map_err(|error| unplannable(&error))?,
            more: node.gather_more(ctx, &dependencies),
            slots: CredentialSlots::gather(ctx, &owner, node.status()),
            dependencies,
            owner,
        })
    }
}

/// What the pod of a node reads beside its own keys.
pub struct Prepared {
    /// A client: the operator's at orderers, its own at contracts for a peer.
    pub client: Issued,
    /// The certificate that the pod reads of it.
    pub certificate: Certificate,
}

/// What stands in the cluster for a node.
pub struct NodeProvided {
    credentials: Credentials,
    /// What its pod reads besides.
    pub prepared: Prepared,
    /// How its pod is doing after the writes.
    pub pod: NodePod,
    /// Why the pod still runs as it was before.
    restart_waits: Option<String>,
}

/// Keys first, then everything around the pod, then the pod.
pub async fn provide<K: LedgerNode>(
    ctx: &Context,
    facts: &NodeFacts<K>,
    writer: &Writer<'_>,
) -> Result<NodeProvided, StepError> {
    let needs = facts.needs.as_ref().map_err(Clone::clone)?;
    let Needs { dependencies, plan, slots, .. } = needs;
    let prepared = K::prepare(ctx, writer, needs).await?;
    let replaceable = K::replaceable(&facts.status());
    let credentials = credentials::of_node(ctx, writer, slots, K::node(plan), dependencies, replaceable).await?;
    let material = Material::of([
        credentials.identity.pair.certificate.as_str(),
        credentials.tls.pair.certificate.as_str(),
        dependencies.authorities.signing.certificate().pem(),
        dependencies.authorities.tls.certificate().pem(),
        prepared.certificate.pem(),
    ]);
    let ends = credentials.identity.certificate.not_after().min(credentials.tls.certificate.not_after());
    let objects = K::objects(plan, &material.ending(ends));
    let restart_waits = restart::apply(ctx, writer, facts, needs, objects).await?;
    let pod = pods::node(&ctx.world, &facts.namespace, &facts.name);
    Ok(NodeProvided { credentials, prepared, pod, restart_waits })
}

/// What a node says about itself; `None` for what it does not say now.
#[derive(Default)]
pub struct NodeAnswer {
    /// Its software.
    pub version: Option<String>,
    /// Its channels.
    pub channels: Option<Vec<NodeChannel>>,
}

/// What people are told of a node. What is not known now stays as it was. Pure.
pub fn report<K: LedgerNode>(
    facts: &NodeFacts<K>,
    provided: &Result<NodeProvided, Finding>,
    answer: NodeAnswer,
) -> Report<NodeStatus> {
    let (identity, pod) = match provided {
        Ok(provided) => (Finding::good("identity and TLS certificate are valid"), pod_finding(provided)),
        Err(finding) => (finding.clone(), Finding::comes_after("the identity")),
    };
    let (before, provided) = (facts.status(), provided.as_ref().ok());
    let credentials = provided.map(|provided| &provided.credentials);
    let channels = answer.channels.unwrap_or(before.channels);
    Report {
        findings: vec![
            (ConditionType::Accepted, facts.accepted.clone()),
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
        look_again: provided.map_or_else(Outcome::wait, |provided| wake_up(provided, facts.now)),
    }
}

/// How the pod is doing; while its restart waits, it is not as declared.
fn pod_finding(provided: &NodeProvided) -> Finding {
    let waiting = |why: &String| Finding::not(Reason::RestartWaiting, format!("it runs as before: {why}"));
    provided.restart_waits.as_ref().map_or_else(|| provided.pod.finding.clone(), waiting)
}

/// Ports outside the cluster that nodes of this namespace have to reach.
fn outside_ports(ctx: &Context, namespace: &str) -> BTreeSet<u16> {
    let orderers = ctx.world.orderers.list(namespace);
    let peers = ctx.world.peers.list(namespace);
    let endpoints = orderers.iter().map(|o| &o.spec.node).chain(peers.iter().map(|p| &p.spec.node));
    let endpoints = endpoints.filter_map(|node| node.external_endpoint.as_deref()?.parse::<Endpoint>().ok());
    endpoints.map(|endpoint| endpoint.port).collect()
}

/// When the node has to be looked at again: its certificates fall due, or its ledger may have moved.
fn wake_up(provided: &NodeProvided, now: Timestamp) -> Outcome {
    let Credentials { identity, tls } = &provided.credentials;
    let due = identity.due.into_iter().chain(tls.due);
    let renewal = renewal::next_wake_up(due, now).map_or(Outcome::wait(), Outcome::within);
    let look = if provided.restart_waits.is_some() { RESTART_LOOK } else { LEDGER_LOOK };
    Outcome::within(look).or_sooner(renewal)
}
