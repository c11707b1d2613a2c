//! Orderer: keys, pod, and what it says of its channels.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;

use super::context::Context;
use super::error::{ReconcileError, StepError};
use super::key_pairs::Slot;
use super::keys::{Pair, Replaceable};
use super::kind::{Declared, Deletion, Report};
use super::nodes::{self, Dependencies, LedgerNode, Needs, NodeAnswer, NodeFacts, NodeProvided, Prepared};
use super::writer::Writer;
use super::{consenters, credentials, deletion, ledger, quorum};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Hospital, NodeStatus, Orderer};
use ehrnet_apply::Owner;
use ehrnet_desired::{self as desired, Material, NodePlan, Objects, OrdererPlan, PlanError, Site, names};
use ehrnet_fabric::net::TlsIdentity;
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_status::Finding;

impl Declared for Orderer {
    const KIND: Kind = Kind::Orderer;
    type Facts = NodeFacts<Self>;
    type Provided = NodeProvided;
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

    async fn provide(ctx: &Context, facts: &NodeFacts<Self>, writer: &Writer<'_>) -> Result<NodeProvided, StepError> {
        nodes::provide(ctx, facts, writer).await
    }

    async fn ask(ctx: &Context, facts: &NodeFacts<Self>, provided: &Result<NodeProvided, Finding>) -> NodeAnswer {
        match (&facts.needs, provided) {
            (Ok(needs), Ok(provided)) if provided.pod.is_ready => ask(ctx, needs, provided).await,
            _ => NodeAnswer::default(),
        }
    }

    fn report(
        facts: &NodeFacts<Self>,
        provided: &Result<NodeProvided, Finding>,
        answer: NodeAnswer,
    ) -> Report<NodeStatus> {
        nodes::report(facts, provided, answer)
    }
}

impl LedgerNode for Orderer {
    const PORT: u16 = names::ORDERER_PORT;
    type Plan = OrdererPlan;
    /// What is found of the operator's key pair in the namespace.
    type More = Slot;

    fn hospital(&self) -> &str {
        &self.spec.hospital_ref.name
    }

    fn plan(&self, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<OrdererPlan, PlanError> {
        OrdererPlan::new(self, hospital, site, outside_ports)
    }

    fn gather_more(&self, ctx: &Context, dependencies: &Dependencies) -> Slot {
        credentials::operator_slot(ctx, &dependencies.owner.namespace)
    }

    fn node(plan: &OrdererPlan) -> &NodePlan {
        &plan.node
    }

    /// A channel that needs it for its quorum, as the ledger has its consenters.
    async fn needed(&self, ctx: &Context) -> Option<String> {
        let channels = consenters::of_channels(ctx, self).await;
        channels.iter().find_map(|(_, consenters)| quorum::needs_now(consenters, &self.name_any()))
    }

    /// None: how many orderers may be away is a matter of quorums.
    fn companions(&self, _: &World) -> Vec<String> {
        Vec::new()
    }

    /// Its channels know a consenter by its keys.
    fn replaceable(status: &NodeStatus) -> Replaceable {
        if status.channels.is_empty() { Replaceable::Yes } else { Replaceable::No }
    }

    /// The CA of the operator, whom it lets administer it.
    async fn prepare(ctx: &Context, writer: &Writer<'_>, needs: &Needs<Self>) -> Result<Prepared, StepError> {
        let (client, certificate) = credentials::of_operator(ctx, writer, &needs.more).await?;
        Ok(Prepared { client, certificate })
    }

    fn objects(plan: &OrdererPlan, material: &Material) -> Objects {
        desired::orderer::resources(plan, material)
    }
}

/// What the node says about itself; nothing while it cannot be asked.
async fn ask(ctx: &Context, needs: &Needs<Orderer>, provided: &NodeProvided) -> NodeAnswer {
    let (Owner { namespace, name, .. }, authorities) = (&needs.owner, &needs.dependencies.authorities);
    let Pair { certificate, key } = provided.prepared.client.pair.clone();
    let operator = TlsIdentity { certificate, key };
    let Ok(client) = ledger::orderer_admin(&ctx.network, namespace, name, authorities, operator) else {
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
    let version = ledger::version(&ctx.network, namespace, name, names::ORDERER_OPERATIONS_PORT, authorities).await;
    NodeAnswer { version, channels: Some(channels) }
}
