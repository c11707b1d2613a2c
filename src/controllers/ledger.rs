//! Clients for ledger nodes: where a node is, whom to trust, whom to be. Whom to be is gathered ([`admin`], [`operator`])
//! like other facts; the rest is pure.

use std::sync::Arc;

use kube::ResourceExt;

use super::authorities::{self, Authorities};
use super::channel::participants::{OrdererFact, Organisation, Participants};
use super::context::Context;
use ehrnet_api::Hospital;
use ehrnet_api::conditions::Reason;
use ehrnet_desired::names;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::net::{Network, Target, TlsIdentity};
use ehrnet_fabric::{LedgerError, gateway, operations, orderer, participation, peer};
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

/// The way to the ledger's nodes.
type Net = Arc<dyn Network>;

/// Who the operator is at the orderers' admin endpoints of a namespace. Gathers from the caches.
pub fn operator(ctx: &Context, namespace: &str) -> Result<TlsIdentity, Finding> {
    let secret = ctx.world.secrets.get(namespace, names::OPERATOR);
    let pair = secret.as_deref().and_then(authorities::pair).ok_or_else(|| {
        Finding::not(Reason::WaitingForDependency, format!("Secret {} is not there yet", names::OPERATOR))
    })?;
    Ok(TlsIdentity { certificate: pair.certificate, key: pair.key })
}

/// The admin identity of a hospital. Gathers from the caches.
pub fn admin(ctx: &Context, hospital: &Hospital) -> Result<Admin, Finding> {
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

/// Who the operator is to a hospital's nodes.
pub type Admin = Arc<SigningIdentity>;

/// A node's port, reached through its Service and known by its hospital's TLS CA.
fn target(namespace: &str, node: &str, port: u16, authorities: &Authorities) -> Target {
    let tls_roots = vec![authorities.tls.certificate().pem().to_owned()];
    Target { host: names::host(node, namespace), port, tls_roots, client_identity: None }
}

/// The hospital of an orderer of a channel, with its CAs.
fn organisation_of<'a>(
    participants: &'a Participants,
    fact: &OrdererFact,
) -> Result<(&'a Organisation, &'a Authorities), Finding> {
    let hospital = fact.orderer.as_ref().map(|o| o.spec.hospital_ref.name.as_str()).unwrap_or_default();
    let organisation = participants
        .organisation(hospital)
        .ok_or_else(|| Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")))?;
    Ok((organisation, organisation.authorities.as_ref().map_err(Clone::clone)?))
}

/// The admin endpoint of an orderer of a channel.
pub fn participation(
    network: &Net,
    participants: &Participants,
    orderer: &OrdererFact,
) -> Result<participation::Client, Finding> {
    let (_, authorities) = organisation_of(participants, orderer)?;
    let operator = participants.operator.clone()?;
    orderer_admin(network, &participants.namespace, &orderer.name, authorities, operator)
}

/// The broadcast and deliver services of an orderer of a channel, as the admin of its own hospital.
pub fn orderer(network: &Net, participants: &Participants, fact: &OrdererFact) -> Result<orderer::Client, Finding> {
    let (organisation, authorities) = organisation_of(participants, fact)?;
    let target = target(&participants.namespace, &fact.name, names::ORDERER_PORT, authorities);
    orderer::Client::new(network.clone(), &target, organisation.admin.clone()?)
        .map_err(|error| finding(&format!("Orderer {}", fact.name), &error))
}

/// The admin endpoint of an orderer.
pub fn orderer_admin(
    network: &Net,
    namespace: &str,
    orderer: &str,
    authorities: &Authorities,
    operator: TlsIdentity,
) -> Result<participation::Client, Finding> {
    let target = Target {
        client_identity: Some(operator),
        ..target(namespace, orderer, names::ORDERER_ADMIN_PORT, authorities)
    };
    participation::Client::new(network.clone(), &target).map_err(|error| finding(&format!("Orderer {orderer}"), &error))
}

/// A peer, as its hospital's admin.
pub fn peer(
    network: &Net,
    namespace: &str,
    name: &str,
    authorities: &Authorities,
    admin: Admin,
) -> Result<peer::Client, Finding> {
    let target = target(namespace, name, names::PEER_PORT, authorities);
    peer::Client::new(network.clone(), &target, admin).map_err(|error| finding(&format!("Peer {name}"), &error))
}

/// The gateway of a peer, as its hospital's admin.
pub fn gateway(
    network: &Net,
    namespace: &str,
    name: &str,
    authorities: &Authorities,
    admin: Admin,
) -> Result<gateway::Client, Finding> {
    let target = target(namespace, name, names::PEER_PORT, authorities);
    gateway::Client::new(network.clone(), &target, admin).map_err(|error| finding(&format!("Peer {name}"), &error))
}

/// The software of a node, as it says itself; `None` while it does not answer.
pub async fn version(
    network: &Net,
    namespace: &str,
    node: &str,
    port: u16,
    authorities: &Authorities,
) -> Option<String> {
    let client = operations::Client::new(network.clone(), &target(namespace, node, port, authorities)).ok()?;
    match client.version().await {
        Ok(version) => Some(version),
        Err(error) => {
            tracing::debug!(node, %error, "the node does not tell its version");
            None
        }
    }
}
