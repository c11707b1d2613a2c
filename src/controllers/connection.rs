//! What a hospital shows to others and gives to its own clients: public MSP, client bundle, connection profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;

use super::authorities;
use super::context::Context;
use super::hospital::HospitalKeys;
use ehrnet_api::node::NodeSpec;
use ehrnet_api::{Channel, Hospital, Peer};
use ehrnet_desired::connection::{ChannelNodes, Identities, OrdererAddress, Reachable};
use ehrnet_desired::{Objects, hospital, names};
use ehrnet_fabric::Endpoint;
use ehrnet_pki::{Certificate, KeyPairError, PrivateKey};

/// The objects of a hospital that follow from its keys and from the nodes that its clients reach.
///
/// # Errors
/// The stored admin identity cannot be read.
pub async fn resources(ctx: &Context, declared: &Hospital, material: &HospitalKeys) -> Result<Objects, KeyPairError> {
    let key = PrivateKey::from_pem(&material.admin.pair.key)?;
    let identities = Identities {
        signing_ca: material.authorities.signing.certificate(),
        tls_ca: material.authorities.tls.certificate(),
        holder: "admin",
        certificate: &material.admin.certificate,
        key: &key,
        pseudonym_key: &material.pseudonym_key,
    };
    Ok(hospital::resources(&material.plan, &identities, &reachable(ctx, declared).await))
}

/// The hospital's peers, its channels, and the orderers of those.
pub async fn reachable(ctx: &Context, declared: &Hospital) -> Reachable {
    let (namespace, name) = super::place(declared);
    let peers: Vec<Arc<Peer>> =
        ctx.world.peers.list(&namespace).into_iter().filter(|peer| peer.spec.hospital_ref.name == name).collect();
    let channels: Vec<Arc<Channel>> = ctx
        .world
        .channels
        .list(&namespace)
        .into_iter()
        .filter(|channel| channel.spec.members.contains(&name))
        .collect();
    let mut orderers = BTreeMap::new();
    for orderer in channels.iter().flat_map(|channel| &channel.spec.consensus.orderers) {
        if let Some(address) = orderer_address(ctx, &namespace, orderer).await {
            orderers.insert(orderer.clone(), address);
        }
    }
    let of_channel = |channel: &Arc<Channel>| {
        let joins = |peer: &&Arc<Peer>| peer.spec.channels.contains(&channel.name_any());
        let known = |orderer: &&String| orderers.contains_key(*orderer);
        let nodes = ChannelNodes {
            peers: peers.iter().filter(joins).map(|peer| peer.name_any()).collect(),
            orderers: channel.spec.consensus.orderers.iter().filter(known).cloned().collect(),
        };
        (channel.spec.channel_name.clone(), nodes)
    };
    let channels = channels.iter().map(of_channel).collect();
    let peer_endpoint =
        |peer: &Arc<Peer>| (peer.name_any(), endpoint(&peer.spec.node, &peer.name_any(), &namespace, names::PEER_PORT));
    Reachable { peers: peers.iter().map(peer_endpoint).collect(), orderers, channels }
}

/// Where clients reach a node: its external endpoint if it has one, its Service otherwise.
fn endpoint(node: &NodeSpec, name: &str, namespace: &str, port: u16) -> Endpoint {
    let external = node.external_endpoint.as_deref().and_then(|text| text.parse().ok());
    external.unwrap_or_else(|| Endpoint::new(names::host(name, namespace), port))
}

/// An orderer with the root of its TLS certificate; left out until its hospital has one.
async fn orderer_address(ctx: &Context, namespace: &str, name: &str) -> Option<OrdererAddress> {
    let orderer = ctx.world.orderers.get(namespace, name)?;
    let hospital = ctx.world.hospitals.get(namespace, &orderer.spec.hospital_ref.name)?;
    let tls_ca: Certificate = authorities::of_hospital(ctx, &hospital).await.ok()?.tls.certificate().clone();
    Some(OrdererAddress { endpoint: endpoint(&orderer.spec.node, name, namespace, names::ORDERER_PORT), tls_ca })
}
