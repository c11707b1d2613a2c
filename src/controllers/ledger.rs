//! Clients for ledger nodes, built from what the caches know: where a node is, whom to trust, whom to be.

use std::sync::Arc;

use kube::ResourceExt;

use super::authorities;
use super::channel::facts::{ChannelFacts, OrdererFact};
use super::context::Context;
use ehrnet_api::Hospital;
use ehrnet_api::conditions::Reason;
use ehrnet_desired::names;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::net::{Target, TlsIdentity};
use ehrnet_fabric::{LedgerError, gateway, operations, orderer, participation, peer};
use ehrnet_pki::Certificate;
use ehrnet_status::Finding;

/// The finding that a failed call to a node stands for.
pub fn finding(node: &str, error: &LedgerError) -> Finding {
    match error {
        LedgerError::Unreachable { .. } => Finding::unknown(Reason::NodeUnreachable, format!("{node}: {error}")),
        LedgerError::NotAllowed(_) => Finding::unknown(Reason::Progressing, error.to_string()),
        LedgerError::NotFound { .. }
        | LedgerError::Refused { .. }
        | LedgerError::Declined { .. }
        | LedgerError::Disagreement { .. }
        | LedgerError::Rejected { .. }
        | LedgerError::Invalid(_) => Finding::not(Reason::LedgerRefused, format!("{node}: {error}")),
    }
}

/// The operator's certificate for the orderers' admin endpoints in a namespace.
fn operator_identity(ctx: &Context, namespace: &str) -> Result<TlsIdentity, Finding> {
    let secret = ctx.world.secrets.get(namespace, names::OPERATOR);
    let pair = secret.as_deref().and_then(authorities::pair).ok_or_else(|| {
        Finding::not(Reason::WaitingForDependency, format!("Secret {} is not there yet", names::OPERATOR))
    })?;
    Ok(TlsIdentity { certificate: pair.certificate, key: pair.key })
}

/// The admin endpoint of an orderer of a channel.
pub fn participation(
    ctx: &Context,
    facts: &ChannelFacts,
    orderer: &OrdererFact,
) -> Result<participation::Client, Finding> {
    let hospital = orderer.orderer.as_ref().map(|o| o.spec.hospital_ref.name.clone()).unwrap_or_default();
    let organisation = facts
        .organisation(&hospital)
        .ok_or_else(|| Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")))?;
    let authorities = organisation.authorities.as_ref().map_err(Clone::clone)?;
    orderer_admin(ctx, &facts.namespace, &orderer.name, authorities)
}

/// The broadcast and deliver services of an orderer of a channel, as the admin of its own hospital.
pub fn orderer(ctx: &Context, facts: &ChannelFacts, fact: &OrdererFact) -> Result<orderer::Client, Finding> {
    let hospital = fact.orderer.as_ref().map(|o| o.spec.hospital_ref.name.clone()).unwrap_or_default();
    let organisation = facts
        .organisation(&hospital)
        .ok_or_else(|| Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")))?;
    let authorities = organisation.authorities.as_ref().map_err(Clone::clone)?;
    let target = Target {
        host: names::host(&fact.name, &facts.namespace),
        port: names::ORDERER_PORT,
        tls_roots: vec![authorities.tls.certificate().pem().to_owned()],
        client_identity: None,
    };
    orderer::Client::new(ctx.network.clone(), &target, admin(ctx, &organisation.hospital)?)
        .map_err(|error| finding(&format!("Orderer {}", fact.name), &error))
}

/// The admin endpoint of an orderer.
pub fn orderer_admin(
    ctx: &Context,
    namespace: &str,
    orderer: &str,
    authorities: &authorities::Authorities,
) -> Result<participation::Client, Finding> {
    let target = Target {
        host: names::host(orderer, namespace),
        port: names::ORDERER_ADMIN_PORT,
        tls_roots: vec![authorities.tls.certificate().pem().to_owned()],
        client_identity: Some(operator_identity(ctx, namespace)?),
    };
    participation::Client::new(ctx.network.clone(), &target)
        .map_err(|error| finding(&format!("Orderer {orderer}"), &error))
}

/// The admin identity of a hospital.
pub fn admin(ctx: &Context, hospital: &Hospital) -> Result<Arc<SigningIdentity>, Finding> {
    let namespace = hospital.namespace().unwrap_or_default();
    let name = names::admin(&hospital.name_any());
    let secret = ctx.world.secrets.get(&namespace, &name);
    let pair = secret.as_deref().and_then(authorities::pair).ok_or_else(|| {
        Finding::not(
            Reason::WaitingForDependency,
            format!("Hospital {} has no admin identity yet", hospital.name_any()),
        )
    })?;
    SigningIdentity::new(&hospital.spec.msp_id, &pair.certificate, &pair.key)
        .map(Arc::new)
        .map_err(|error| Finding::not(Reason::InvalidKeyPair, format!("Secret {name}: {error}")))
}

/// A peer, as its hospital's admin.
pub fn peer(
    ctx: &Context,
    namespace: &str,
    name: &str,
    hospital: &Hospital,
    authorities: &authorities::Authorities,
) -> Result<peer::Client, Finding> {
    let target = peer_target(namespace, name, authorities.tls.certificate());
    peer::Client::new(ctx.network.clone(), &target, admin(ctx, hospital)?)
        .map_err(|error| finding(&format!("Peer {name}"), &error))
}

/// The gateway of a peer, as its hospital's admin.
pub fn gateway(
    ctx: &Context,
    namespace: &str,
    name: &str,
    hospital: &Hospital,
    tls_ca: &Certificate,
) -> Result<gateway::Client, Finding> {
    gateway::Client::new(ctx.network.clone(), &peer_target(namespace, name, tls_ca), admin(ctx, hospital)?)
        .map_err(|error| finding(&format!("Peer {name}"), &error))
}

fn peer_target(namespace: &str, name: &str, tls_ca: &Certificate) -> Target {
    Target {
        host: names::host(name, namespace),
        port: names::PEER_PORT,
        tls_roots: vec![tls_ca.pem().to_owned()],
        client_identity: None,
    }
}

/// The software of a node, as it says itself; `None` while it does not answer.
pub async fn version(
    ctx: &Context,
    namespace: &str,
    node: &str,
    port: u16,
    authorities: &authorities::Authorities,
) -> Option<String> {
    let target = Target {
        host: names::host(node, namespace),
        port,
        tls_roots: vec![authorities.tls.certificate().pem().to_owned()],
        client_identity: None,
    };
    let client = operations::Client::new(ctx.network.clone(), &target).ok()?;
    match client.version().await {
        Ok(version) => Some(version),
        Err(error) => {
            tracing::debug!(node, %error, "the node does not tell its version");
            None
        }
    }
}
