//! Orderer: keys, pod, and what it says of its channels.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::Context;
use super::credentials::{self, Credentials};
use super::error::{ReconcileError, StepError};
use super::keys::Replaceable;
use super::kind::{Declared, Deletion, Report};
use super::nodes::{self, Dependencies, LedgerNode, NodeAnswer, NodeFacts};
use super::writer::Writer;
use super::{deletion, ledger, pods};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Hospital, NodeStatus, Orderer};
use ehrnet_apply::Owner;
use ehrnet_desired::{self as desired, Material, NodePlan, Objects, OrdererPlan, PlanError, Site, names};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_pki::Certificate;
use ehrnet_status::Finding;

impl Declared for Orderer {
    const KIND: Kind = Kind::Orderer;
    type Facts = NodeFacts<Self>;
    type Provided = Credentials;
    type Answer = NodeAnswer;

    fn cache(world: &World) -> &Cache<Self> {
        &world.orderers
    }

    async fn deletion(ctx: &Context, orderer: &Arc<Self>, writer: &Writer<'_>) -> Result<Deletion, ReconcileError> {
        deletion::orderer(ctx, orderer, writer).await
    }

    async fn gather(ctx: &Context, orderer: Arc<Self>) -> NodeFacts<Self> {
        NodeFacts::gather(ctx, orderer).await
    }

    async fn provide(ctx: &Context, facts: &NodeFacts<Self>, writer: &Writer<'_>) -> Result<Credentials, StepError> {
        nodes::provide(ctx, facts, writer).await
    }

    async fn ask(ctx: &Context, facts: &NodeFacts<Self>, provided: &Result<Credentials, Finding>) -> NodeAnswer {
        match (&facts.dependencies, provided) {
            (Ok(dependencies), Ok(_)) => ask(ctx, facts, dependencies).await,
            _ => NodeAnswer::default(),
        }
    }

    fn report(
        ctx: &Context,
        facts: &NodeFacts<Self>,
        provided: &Result<Credentials, Finding>,
        answer: NodeAnswer,
    ) -> Report<NodeStatus> {
        nodes::report(ctx, facts, provided, answer)
    }
}

impl LedgerNode for Orderer {
    const PORT: u16 = names::ORDERER_PORT;
    type Plan = OrdererPlan;

    fn hospital(&self) -> &str {
        &self.spec.hospital_ref.name
    }

    fn plan(&self, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<OrdererPlan, PlanError> {
        OrdererPlan::new(self, hospital, site, outside_ports)
    }

    fn node(plan: &OrdererPlan) -> &NodePlan {
        &plan.node
    }

    /// Its channels know a consenter by its keys.
    fn replaceable(status: &NodeStatus) -> Replaceable {
        if status.channels.is_empty() { Replaceable::Yes } else { Replaceable::No }
    }

    /// The CA of the operator, whom it lets administer it.
    async fn prepare(
        ctx: &Context,
        writer: &Writer<'_>,
        owner: &Owner,
        _: &OrdererPlan,
        _: &Dependencies,
    ) -> Result<Certificate, StepError> {
        credentials::of_operator(ctx, writer, &owner.namespace).await
    }

    fn objects(plan: &OrdererPlan, material: &Material) -> Objects {
        desired::orderer::resources(plan, material)
    }
}

/// What the node says about itself; nothing while it cannot be asked.
async fn ask(ctx: &Context, facts: &NodeFacts<Orderer>, dependencies: &Dependencies) -> NodeAnswer {
    let (namespace, name) = (&facts.namespace, &facts.name);
    if !pods::is_ready(&ctx.world, namespace, name) {
        return NodeAnswer::default();
    }
    let Ok(client) = ledger::orderer_admin(ctx, namespace, name, &dependencies.authorities) else {
        return NodeAnswer::default();
    };
    let listed = match client.list().await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(orderer = %name, %error, "the orderer does not answer");
            return NodeAnswer::default();
        }
    };
    let mut channels = Vec::new();
    for channel in listed {
        if let Ok(Some(info)) = client.info(&channel).await {
            channels.push(NodeChannel { name: info.name, height: info.height });
        }
    }
    let version =
        ledger::version(ctx, namespace, name, names::ORDERER_OPERATIONS_PORT, &dependencies.authorities).await;
    NodeAnswer { version, channels: Some(channels) }
}
