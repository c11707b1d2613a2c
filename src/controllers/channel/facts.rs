//! Everything that decisions about a channel need, gathered once from the caches.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::definition;
use super::participants::Participants;
use crate::context::Context;
use crate::rival;
use ehrnet_api::Channel;
use ehrnet_api::conditions::Reason;
use ehrnet_desired::names;
use ehrnet_fabric::definition::ChannelDefinition;
use ehrnet_status::Finding;

/// What is known of a channel.
pub struct ChannelFacts {
    /// The channel with all that takes part in it.
    pub participants: Participants,
    /// An older Channel of the same channel name.
    rival: Option<String>,
    /// The stored genesis block.
    pub genesis: Option<Arc<ConfigMap>>,
    /// The definition as declared, or what has to exist before it can be written down.
    pub definition: Result<ChannelDefinition, Finding>,
}

impl ChannelFacts {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, channel: Arc<Channel>) -> Self {
        let rival = rival(ctx, &channel);
        let participants = Participants::gather(ctx, channel).await;
        let genesis = names::genesis(&participants.channel.name_any());
        Self {
            rival,
            genesis: ctx.world.config_maps.get(&participants.namespace, &genesis),
            definition: definition::definition(&participants),
            participants,
        }
    }

    /// Whether the declaration makes sense together with what it refers to.
    pub fn accepted(&self) -> Finding {
        let Participants { channel, hospitals, orderers, peers, .. } = &self.participants;
        let spec = &channel.spec;
        if let Some(rival) = &self.rival {
            let message = format!(
                "Channel {rival} already has channelName {}: choose another one, or delete one of the two",
                spec.channel_name
            );
            return Finding::not(Reason::Conflict, message);
        }
        let mut missing: Vec<String> =
            orderers.iter().filter(|o| o.orderer.is_none()).map(|o| format!("Orderer {}", o.name)).collect();
        missing.extend(hospitals.iter().filter(|(_, h)| h.is_none()).map(|(name, _)| format!("Hospital {name}")));
        if !missing.is_empty() {
            let message =
                format!("{} {} not exist yet", missing.join(", "), if missing.len() == 1 { "does" } else { "do" });
            return Finding::not(Reason::WaitingForReference, message);
        }
        if let Some((msp, first, second)) = self.shared_msp() {
            let message = format!("Hospitals {first} and {second} both have mspId {msp}: each member needs its own");
            return Finding::not(Reason::Conflict, message);
        }
        let strangers: Vec<&str> = peers
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
        for (name, organisation) in &self.participants.hospitals {
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
