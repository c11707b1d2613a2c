//! Everything that decisions about a channel need, gathered once from the caches.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use crate::authorities::{self, Authorities};
use crate::context::Context;
use crate::rival;
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Channel, Hospital, Orderer, Peer};
use ehrnet_desired::names;
use ehrnet_status::Finding;

/// A hospital that takes part in the channel, as member, through an orderer, or both.
#[derive(Clone)]
pub struct Organisation {
    /// The resource.
    pub hospital: Arc<Hospital>,
    /// Its CAs; or why they cannot be used yet.
    pub authorities: Result<Authorities, Finding>,
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

/// What is known of a channel.
pub struct ChannelFacts {
    /// The resource.
    pub channel: Arc<Channel>,
    /// Its namespace.
    pub namespace: String,
    /// An older Channel of the same channel name.
    pub rival: Option<String>,
    /// Hospitals by resource name; `None` for a name that nothing bears.
    pub hospitals: BTreeMap<String, Option<Organisation>>,
    /// Declared orderers, in the order of the spec.
    pub orderers: Vec<OrdererFact>,
    /// Peers that want to join.
    pub peers: Vec<Arc<Peer>>,
    /// The stored genesis block.
    pub genesis: Option<Arc<ConfigMap>>,
}

impl ChannelFacts {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, channel: Arc<Channel>) -> Self {
        let world = &ctx.world;
        let namespace = channel.namespace().unwrap_or_default();
        let name = channel.name_any();
        let orderers: Vec<OrdererFact> =
            channel.spec.consensus.orderers.iter().map(|orderer| orderer_fact(ctx, &namespace, orderer)).collect();
        let mut hospitals = BTreeMap::new();
        let through_orderers = orderers.iter().filter_map(|o| o.orderer.as_ref()).map(|o| &o.spec.hospital_ref.name);
        for hospital in channel.spec.members.iter().chain(through_orderers) {
            if !hospitals.contains_key(hospital) {
                hospitals.insert(hospital.clone(), organisation(ctx, &namespace, hospital).await);
            }
        }
        let joining =
            |peer: &Arc<Peer>| peer.spec.channels.contains(&name) && peer.metadata.deletion_timestamp.is_none();
        Self {
            rival: rival(ctx, &channel),
            hospitals,
            orderers,
            peers: world.peers.list(&namespace).into_iter().filter(joining).collect(),
            genesis: world.config_maps.get(&namespace, &names::genesis(&name)),
            namespace,
            channel,
        }
    }

    /// The organisation of that hospital resource, if it exists.
    pub fn organisation(&self, hospital: &str) -> Option<&Organisation> {
        self.hospitals.get(hospital)?.as_ref()
    }

    /// Whether the declaration makes sense together with what it refers to.
    pub fn accepted(&self) -> Finding {
        let spec = &self.channel.spec;
        if let Some(rival) = &self.rival {
            let message = format!(
                "Channel {rival} already has channelName {}: choose another one, or delete one of the two",
                spec.channel_name
            );
            return Finding::not(Reason::Conflict, message);
        }
        let mut missing: Vec<String> =
            self.orderers.iter().filter(|o| o.orderer.is_none()).map(|o| format!("Orderer {}", o.name)).collect();
        missing.extend(self.hospitals.iter().filter(|(_, h)| h.is_none()).map(|(name, _)| format!("Hospital {name}")));
        if !missing.is_empty() {
            let message =
                format!("{} {} not exist yet", missing.join(", "), if missing.len() == 1 { "does" } else { "do" });
            return Finding::not(Reason::WaitingForReference, message);
        }
        if let Some((msp, first, second)) = self.shared_msp() {
            let message = format!("Hospitals {first} and {second} both have mspId {msp}: each member needs its own");
            return Finding::not(Reason::Conflict, message);
        }
        let strangers: Vec<&str> = self
            .peers
            .iter()
            .filter(|peer| !spec.members.contains(&peer.spec.hospital_ref.name))
            .map(|peer| peer.metadata.name.as_deref().unwrap_or_default())
            .collect();
        if !strangers.is_empty() {
            return Finding::degraded(format!(
                "{} cannot join: the hospital is not among the members",
                strangers.iter().map(|name| format!("Peer {name}")).collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some(advice) = consenter_advice(spec) {
            return Finding::degraded(advice);
        }
        Finding::good("the declaration and everything it refers to exist")
    }

    fn shared_msp(&self) -> Option<(&str, &str, &str)> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, organisation) in &self.hospitals {
            let msp = organisation.as_ref()?.hospital.spec.msp_id.as_str();
            if let Some(first) = seen.insert(msp, name) {
                return Some((msp, first, name));
            }
        }
        None
    }
}

/// Advice on sets of orderers that work but buy nothing.
fn consenter_advice(spec: &ehrnet_api::ChannelSpec) -> Option<String> {
    use ehrnet_api::channel::ConsensusType::{Bft, Raft};
    let n = spec.consensus.orderers.len();
    match spec.consensus.type_ {
        Raft if n.is_multiple_of(2) => {
            Some(format!("{n} Raft orderers tolerate no more crashes than {}: declare an odd number", n - 1))
        }
        Bft if n % 3 != 1 => {
            Some(format!("{n} BFT orderers tolerate no more faults than {}: declare 3f+1", (n - 1) / 3 * 3 + 1))
        }
        Raft | Bft => None,
    }
}

fn rival(ctx: &Context, channel: &Channel) -> Option<String> {
    let same = |other: &Channel| other.spec.channel_name == channel.spec.channel_name;
    rival::older(&ctx.world.channels, channel, same)
}

async fn organisation(ctx: &Context, namespace: &str, name: &str) -> Option<Organisation> {
    let hospital = ctx.world.hospitals.get(namespace, name)?;
    let authorities = authorities::of_hospital(ctx, &hospital).await;
    Some(Organisation { hospital, authorities })
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
        ready: crate::pods::is_ready(world, namespace, name),
    }
}
