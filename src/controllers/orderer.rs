//! Orderer: keys, pod, and what it says of its channels.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::context::{Context, Turn};
use super::credentials::{self, Credentials};
use super::deletion;
use super::keys::Replaceable;
use super::nodes::{self, Ground};
use super::outcome::{Outcome, ReconcileError, told};
use super::{ledger, node};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::node::NodeChannel;
use crate::api::{Orderer, OrdererStatus};
use crate::apply::Owner;
use crate::desired::plan::{OrdererPlan, material};
use crate::desired::{self, names};
use crate::status::{self, Finding};

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
    let ledger = match (&ground, &credentials) {
        (Ok(ground), Ok(_)) => look(ctx, &orderer, ground).await,
        _ => None,
    };
    let findings = findings(ctx, &orderer, &ground, &credentials);
    let before = previous(&orderer);
    let conditions = status::conditions(&before, orderer.metadata.generation, (ctx.clock)(), &findings);
    let status = report(&orderer, credentials.as_ref().ok(), ledger, conditions.clone());
    let current = orderer.status.as_ref();
    let told = super::publish(ctx, &ctx.world.orderers, &*orderer, current, &status, (&before, &conditions)).await?;
    Ok(told.or_sooner(nodes::wake_up(ctx, credentials.as_ref().ok()).or_sooner(Outcome::of(&findings))))
}

/// Brings what was made for one orderer back to what is declared.
pub async fn repair(ctx: &Context, orderer: Arc<Orderer>) -> Result<(), ReconcileError> {
    match nodes::ground(ctx, &*orderer, &orderer.spec.hospital_ref.name).await {
        Ok(ground) => provision(ctx, &orderer, &ground).await.map(drop),
        Err(_) => Ok(()),
    }
}

fn previous(orderer: &Orderer) -> Vec<Condition> {
    orderer.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
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

/// What the node says about itself: its software and channels. `None` while it cannot be asked.
async fn look(ctx: &Context, orderer: &Orderer, ground: &Ground) -> Option<(Option<String>, Vec<NodeChannel>)> {
    let (namespace, name) = super::place(orderer);
    if !node::is_ready(&ctx.world, &namespace, &name) {
        return None;
    }
    let client = ledger::orderer_admin(ctx, &namespace, &name, &ground.authorities).ok()?;
    let listed = match client.list().await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(orderer = name, %error, "the orderer does not answer");
            return None;
        }
    };
    let mut channels = Vec::new();
    for channel in listed {
        if let Ok(Some(info)) = client.info(&channel).await {
            channels.push(NodeChannel { name: info.name, height: info.height });
        }
    }
    let version = ledger::version(ctx, &namespace, &name, names::ORDERER_OPERATIONS_PORT, &ground.authorities).await;
    Some((version, channels))
}

fn findings(
    ctx: &Context,
    orderer: &Orderer,
    ground: &Result<Ground, Finding>,
    credentials: &Result<Credentials, Finding>,
) -> Vec<(ConditionType, Finding)> {
    let (namespace, name) = super::place(orderer);
    let pod = match credentials {
        Ok(_) => node::finding(&ctx.world, &namespace, &name),
        Err(_) => Finding::unknown(Reason::Progressing, "comes after the identity"),
    };
    vec![
        (ConditionType::Accepted, nodes::accepted(ground)),
        (ConditionType::IdentityReady, nodes::identity(credentials)),
        (ConditionType::NodeReady, pod),
    ]
}

fn report(
    orderer: &Orderer,
    credentials: Option<&Credentials>,
    ledger: Option<(Option<String>, Vec<NodeChannel>)>,
    conditions: Vec<Condition>,
) -> OrdererStatus {
    let before = orderer.status.clone().unwrap_or_default();
    let (version, channels) = ledger.unwrap_or((before.ledger.clone(), before.channels.clone()));
    let (namespace, name) = super::place(orderer);
    OrdererStatus {
        observed_generation: orderer.metadata.generation,
        conditions,
        address: Some(format!("{}:{}", names::host(&name, &namespace), names::ORDERER_PORT)),
        ledger: version.or(before.ledger),
        identity: credentials.map(|c| c.identity.status()).or(before.identity),
        tls: credentials.map(|c| c.tls.status()).or(before.tls),
        channel_names: NodeChannel::names(&channels),
        channels,
    }
}
