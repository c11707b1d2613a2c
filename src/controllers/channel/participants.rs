//! A channel with all that takes part in it, gathered once from the caches.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::authorities::{self, Authorities};
use crate::context::Context;
use crate::ledger::{self, Admin};
use crate::pods;
use ehrnet_api::channel::{ConsensusType, NodeKind};
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Channel, Hospital, Orderer, Peer};
use ehrnet_desired::names;
use ehrnet_fabric::net::TlsIdentity;
use ehrnet_status::Finding;

/// A hospital that takes part in the channel, as member, through an orderer, or both.
#[derive(Clone)]
pub struct Organisation {
    /// The resource.
    pub hospital: Arc<Hospital>,
    /// Its CAs; or why they cannot be used yet.
    pub authorities: Result<Authorities, Finding>,
    /// Who the operator is to its nodes; or why it is nobody yet.
    pub admin: Result<Admin, Finding>,
}

/// A declared orderer of the channel.
#[derive(Clone)]
pub struct OrdererFact {
    /// Name of the resource.
    pub name: String,
    /// The resource, if it exists.
    pub orderer: Option<Arc<Orderer>>,
    /// TLS certificate (PEM), if it is issued.
    pub tls_certificate: Option<String>,
    /// Enrolment certificate (PEM), if it is issued.
    pub identity_certificate: Option<String>,
    /// Whether its pod is ready.
    pub ready: bool,
}

/// A channel with all that takes part in it.
pub struct Participants {
    /// The resource.
    pub channel: Arc<Channel>,
    /// Its namespace.
    pub namespace: String,
    /// Hospitals by resource name; `None` for a name that nothing bears.
    pub hospitals: BTreeMap<String, Option<Organisation>>,
    /// Declared orderers, in the order of the spec.
    pub orderers: Vec<OrdererFact>,
    /// Orderers that were still consenters when the ledger was last read, and are no longer declared.
    pub leaving: Vec<OrdererFact>,
    /// Who the operator is to the admin endpoints of the orderers.
    pub operator: Result<TlsIdentity, Finding>,
    /// Peers that want to join.
    pub peers: Vec<Arc<Peer>>,
    /// The present.
    pub now: Timestamp,
}

impl Participants {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, channel: Arc<Channel>) -> Self {
        let namespace = channel.namespace().unwrap_or_default();
        let name = channel.name_any();
        let orderers: Vec<OrdererFact> =
            channel.spec.consensus.orderers.iter().map(|orderer| orderer_fact(ctx, &namespace, orderer)).collect();
        let known = channel.status.iter().flat_map(|status| &status.consenters);
        let undeclared = known.filter(|name| !channel.spec.consensus.orderers.contains(name));
        let leaving: Vec<OrdererFact> = undeclared.map(|orderer| orderer_fact(ctx, &namespace, orderer)).collect();
        let mut hospitals = BTreeMap::new();
        let through_orderers =
            orderers.iter().chain(&leaving).filter_map(|o| o.orderer.as_ref()).map(|o| &o.spec.hospital_ref.name);
        for hospital in channel.spec.members.iter().chain(through_orderers) {
            if !hospitals.contains_key(hospital) {
                hospitals.insert(hospital.clone(), organisation(ctx, &namespace, hospital).await);
            }
        }
        let joining =
            |peer: &Arc<Peer>| peer.spec.channels.contains(&name) && peer.metadata.deletion_timestamp.is_none();
        let peers = ctx.world.peers.list(&namespace).into_iter().filter(joining).collect();
        let operator = ledger::operator(ctx, &namespace);
        Self { channel, namespace, hospitals, orderers, leaving, operator, peers, now: (ctx.clock)() }
    }

    /// Fabric's name of the channel.
    pub fn channel_name(&self) -> &str {
        &self.channel.spec.channel_name
    }

    /// Every orderer that takes part or is to: declared ones, then those that leave.
    pub fn all_orderers(&self) -> impl Iterator<Item = &OrdererFact> {
        self.orderers.iter().chain(&self.leaving)
    }

    /// Whether Raft counts on blocks that an orderer has: the ledger names it a consenter and it was seen to have the channel.
    pub fn counts_on_blocks_of(&self, orderer: &str) -> bool {
        let is_raft = self.channel.spec.consensus.type_ == ConsensusType::Raft;
        is_raft && self.is_consenter(orderer) && self.was_joined(orderer)
    }

    /// Whether the ledger named the orderer a consenter when it was last read.
    pub fn is_consenter(&self, orderer: &str) -> bool {
        self.channel.status.as_ref().is_some_and(|status| status.consenters.iter().any(|name| name == orderer))
    }

    /// Whether the orderer was seen to have the channel since it is a consenter.
    pub fn was_joined(&self, orderer: &str) -> bool {
        let mut nodes = self.channel.status.iter().flat_map(|status| &status.nodes);
        nodes.any(|node| node.kind == NodeKind::Orderer && node.name == orderer && node.joined)
    }

    /// How many blocks anybody was seen to have: the channel's orderers, or a peer.
    pub fn known_height(&self) -> u64 {
        let on_peers = self.peers.iter().filter_map(|peer| self.height_on(peer));
        let on_orderers = self.channel.status.as_ref().and_then(|status| status.height);
        on_peers.chain(on_orderers).max().unwrap_or_default()
    }

    /// Blocks of this channel on a peer, as the peer's own status says.
    pub fn height_on(&self, peer: &Peer) -> Option<u64> {
        let channels = &peer.status.as_ref()?.channels;
        channels.iter().find(|channel| channel.name == self.channel_name()).map(|channel| channel.height)
    }

    /// The organisation of that hospital resource, if it exists.
    pub fn organisation(&self, hospital: &str) -> Option<&Organisation> {
        self.hospitals.get(hospital)?.as_ref()
    }

    /// Who the operator is to the nodes of that hospital resource.
    pub fn admin(&self, hospital: &str) -> Result<Admin, Finding> {
        let missing = || Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet"));
        self.organisation(hospital).ok_or_else(missing)?.admin.clone()
    }
}

async fn organisation(ctx: &Context, namespace: &str, name: &str) -> Option<Organisation> {
    let hospital = ctx.world.hospitals.get(namespace, name)?;
    let authorities = authorities::of_hospital(ctx, &hospital).await;
    Some(Organisation { admin: ledger::admin(ctx, &hospital), hospital, authorities })
}

fn orderer_fact(ctx: &Context, namespace: &str, name: &str) -> OrdererFact {
    let world = &ctx.world;
    let certificate = |secret: &str| {
        let secret = world.secrets.get(namespace, secret)?;
        let data = secret.data.as_ref()?.get(names::TLS_CRT)?;
        String::from_utf8(data.0.clone()).ok()
    };
    OrdererFact {
        name: name.to_owned(),
        orderer: world.orderers.get(namespace, name),
        tls_certificate: certificate(&names::node_tls(name)),
        identity_certificate: certificate(&names::node_identity(name)),
        ready: pods::is_ready(world, namespace, name),
    }
}
