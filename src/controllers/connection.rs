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
use ehrnet_desired::plan::endpoint;
use ehrnet_desired::{HospitalPlan, Objects, hospital, names};
use ehrnet_fabric::Endpoint;
use ehrnet_pki::{Certificate, KeyPairError, PrivateKey};

/// The objects of a hospital that follow from its keys and from the nodes that its clients reach. Pure.
///
/// # Errors
/// The stored admin identity cannot be read.
pub fn resources(plan: &HospitalPlan, keys: &HospitalKeys, nodes: &Nodes) -> Result<Objects, KeyPairError> {
    let key = PrivateKey::from_pem(&keys.admin.pair.key)?;
    let tls_ca = keys.authorities.tls.certificate();
    let identities = Identities {
        signing_ca: keys.authorities.signing.certificate(),
        tls_ca,
        holder: "admin",
        certificate: &keys.admin.certificate,
        key: &key,
        pseudonym_key: &keys.pseudonym_key,
    };
    Ok(hospital::resources(plan, &identities, &nodes.reachable(tls_ca)))
}

/// The nodes that clients of a hospital reach. One whose external endpoint makes no sense is reached nowhere, as in
/// channels.
pub struct Nodes {
    /// The hospital's peers.
    peers: BTreeMap<String, Endpoint>,
    /// Orderers of the hospital's channels.
    orderers: BTreeMap<String, OrdererNode>,
    /// The hospital's channels, by Fabric's name.
    channels: BTreeMap<String, ChannelNodes>,
}

struct OrdererNode {
    endpoint: Endpoint,
    /// Root of its TLS certificate; `None` for the hospital's own, which may be made in this very pass.
    root: Option<Certificate>,
}

impl Nodes {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, declared: &Hospital) -> Self {
        let (namespace, name) = super::place(declared);
        let own = |peer: &Arc<Peer>| peer.spec.hospital_ref.name == name;
        let declared_peers: Vec<Arc<Peer>> = ctx.world.peers.list(&namespace).into_iter().filter(own).collect();
        let takes_part = |channel: &Arc<Channel>| channel.spec.members.contains(&name);
        let declared_channels: Vec<Arc<Channel>> =
            ctx.world.channels.list(&namespace).into_iter().filter(takes_part).collect();
        let mut orderers = BTreeMap::new();
        for orderer in declared_channels.iter().flat_map(|channel| &channel.spec.consensus.orderers) {
            if let Some(node) = orderer_node(ctx, &namespace, &name, orderer).await {
                orderers.insert(orderer.clone(), node);
            }
        }
        let reached = |peer: &Arc<Peer>| {
            Some((peer.name_any(), reached_at(&peer.spec.node, &peer.name_any(), &namespace, names::PEER_PORT)?))
        };
        let peers: BTreeMap<_, _> = declared_peers.iter().filter_map(reached).collect();
        let of_channel = |channel: &Arc<Channel>| {
            let joins = |peer: &&Arc<Peer>| peer.spec.channels.contains(&channel.name_any());
            let joined = declared_peers.iter().filter(joins).map(|peer| peer.name_any());
            let declared_orderers = channel.spec.consensus.orderers.iter().cloned();
            let nodes = ChannelNodes {
                peers: joined.filter(|peer| peers.contains_key(peer)).collect(),
                orderers: declared_orderers.filter(|orderer| orderers.contains_key(orderer)).collect(),
            };
            (channel.spec.channel_name.clone(), nodes)
        };
        let channels = declared_channels.iter().map(of_channel).collect();
        Self { peers, orderers, channels }
    }

    /// As the builders take them, with the root of the hospital's own TLS certificates.
    pub fn reachable(&self, own: &Certificate) -> Reachable {
        let address = |node: &OrdererNode| OrdererAddress {
            endpoint: node.endpoint.clone(),
            tls_ca: node.root.as_ref().unwrap_or(own).clone(),
        };
        Reachable {
            peers: self.peers.clone(),
            orderers: self.orderers.iter().map(|(name, node)| (name.clone(), address(node))).collect(),
            channels: self.channels.clone(),
        }
    }
}

/// Where clients reach a node.
fn reached_at(node: &NodeSpec, name: &str, namespace: &str, port: u16) -> Option<Endpoint> {
    endpoint(name, namespace, node.external_endpoint.as_deref(), port).ok()
}

/// An orderer, for clients of the hospital `own`; left out until its hospital has a TLS CA.
async fn orderer_node(ctx: &Context, namespace: &str, own: &str, name: &str) -> Option<OrdererNode> {
    let orderer = ctx.world.orderers.get(namespace, name)?;
    let endpoint = reached_at(&orderer.spec.node, name, namespace, names::ORDERER_PORT)?;
    let hospital = &orderer.spec.hospital_ref.name;
    if hospital == own {
        return Some(OrdererNode { endpoint, root: None });
    }
    let hospital = ctx.world.hospitals.get(namespace, hospital)?;
    let authorities = authorities::of_hospital(ctx, &hospital).await.ok()?;
    Some(OrdererNode { endpoint, root: Some(authorities.tls.certificate().clone()) })
}
