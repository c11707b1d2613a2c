//! Orderer: keys, pod, and what it says of its channels.

use std::sync::Arc;

use super::context::{Context, Turn};
use super::credentials::{self, Credentials};
use super::deletion;
use super::keys::Replaceable;
use super::nodes::{self, Ground, Said};
use super::outcome::{Outcome, ReconcileError, told};
use super::{ledger, node};
use ehrnet_api::Orderer;
use ehrnet_api::conditions::Reason;
use ehrnet_api::node::NodeChannel;
use ehrnet_apply::Owner;
use ehrnet_desired::plan::{OrdererPlan, material};
use ehrnet_desired::{self as desired, names};
use ehrnet_status::{self as status, Finding};

/// Brings one orderer closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, orderer: Arc<Orderer>, turn: Turn) -> Result<Outcome, ReconcileError> {
    if let Some(outcome) = deletion::orderer(ctx, &orderer).await? {
        return Ok(outcome);
    }
    let ground = nodes::ground(ctx, &*orderer, &orderer.spec.hospital_ref.name).await;
    let credentials = match &ground {
        Ok(ground) => told(provision(ctx, &orderer, ground).await)?,
        Err(finding) => Err(finding.clone()),
    };
    drop(turn);
    let said = match (&ground, &credentials) {
        (Ok(ground), Ok(_)) => look(ctx, &orderer, ground).await,
        _ => Said::default(),
    };
    let findings = nodes::findings(ctx, &*orderer, &ground, &credentials);
    let credentials = credentials.as_ref().ok();
    let before = orderer.status.clone().unwrap_or_default();
    let had = before.conditions.clone();
    let conditions = status::conditions(&had, orderer.metadata.generation, (ctx.clock)(), &findings);
    let status = nodes::report(&*orderer, names::ORDERER_PORT, before, credentials, said, conditions.clone());
    let current = orderer.status.as_ref();
    let told = super::publish(ctx, &ctx.world.orderers, &*orderer, current, &status, (&had, &conditions)).await?;
    Ok(told.or_sooner(nodes::wake_up(ctx, credentials).or_sooner(Outcome::of(&findings))))
}

/// Brings what was made for one orderer back to what is declared.
pub async fn repair(ctx: &Context, orderer: Arc<Orderer>) -> Result<(), ReconcileError> {
    match nodes::ground(ctx, &*orderer, &orderer.spec.hospital_ref.name).await {
        Ok(ground) => provision(ctx, &orderer, &ground).await.map(drop),
        Err(_) => Ok(()),
    }
}

/// Keys first, then everything around the pod, then the pod.
async fn provision(
    ctx: &Context,
    orderer: &Orderer,
    ground: &Ground,
) -> Result<Result<Credentials, Finding>, ReconcileError> {
    let mut plan = match OrdererPlan::new(orderer, &ground.hospital, &ctx.site) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
    };
    let Some(owner) = Owner::of(orderer) else {
        return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID")));
    };
    let operator = match credentials::of_operator(ctx, &owner.namespace).await? {
        Ok(operator) => operator,
        Err(finding) => return Ok(Err(finding)),
    };
    let status = orderer.status.clone().unwrap_or_default();
    // Its channels know a consenter by its keys.
    let replaceable = if status.channels.is_empty() { Replaceable::Yes } else { Replaceable::No };
    let known = (status.identity.as_ref(), status.tls.as_ref());
    let issued =
        credentials::of_node(ctx, &owner, &plan.node, &ground.authorities, ground.window, known, replaceable).await?;
    let credentials = match issued {
        Ok(credentials) => credentials,
        Err(finding) => return Ok(Err(finding)),
    };
    plan.node.material = material([
        credentials.identity.pair.certificate.as_str(),
        credentials.tls.pair.certificate.as_str(),
        ground.authorities.signing.certificate().pem(),
        ground.authorities.tls.certificate().pem(),
        operator.pem(),
    ]);
    plan.node.outside_ports = nodes::outside_ports(ctx, &owner.namespace);
    let restart_waits = nodes::apply(ctx, &owner, desired::orderer::resources(&plan)).await?;
    Ok(Ok(Credentials { restart_waits, ..credentials }))
}

/// What the node says about itself; nothing while it cannot be asked.
async fn look(ctx: &Context, orderer: &Orderer, ground: &Ground) -> Said {
    let (namespace, name) = super::place(orderer);
    if !node::is_ready(&ctx.world, &namespace, &name) {
        return Said::default();
    }
    let Ok(client) = ledger::orderer_admin(ctx, &namespace, &name, &ground.authorities) else {
        return Said::default();
    };
    let listed = match client.list().await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(orderer = name, %error, "the orderer does not answer");
            return Said::default();
        }
    };
    let mut channels = Vec::new();
    for channel in listed {
        if let Ok(Some(info)) = client.info(&channel).await {
            channels.push(NodeChannel { name: info.name, height: info.height });
        }
    }
    let version = ledger::version(ctx, &namespace, &name, names::ORDERER_OPERATIONS_PORT, &ground.authorities).await;
    Said { version, channels: Some(channels) }
}
