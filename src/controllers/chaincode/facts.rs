//! Everything that decisions about a contract need, gathered once from the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;

use super::definition;
use crate::channel::participants::Participants;
use crate::context::Context;
use crate::nodes::{self, Dependencies};
use crate::pods;
use crate::rival;
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Chaincode, Peer};
use ehrnet_fabric::chaincode::ChaincodeDefinition;
use ehrnet_status::Finding;

/// What is known of a contract.
pub struct ChaincodeFacts {
    /// The resource.
    pub chaincode: Arc<Chaincode>,
    /// Its namespace.
    pub namespace: String,
    /// Its channel with all that takes part in it; `None` if there is no such Channel.
    pub channel: Option<Participants>,
    /// An older Chaincode with the same name on the same channel.
    rival: Option<String>,
    /// Member hospitals of the channel, in the order of its spec.
    pub members: Vec<Member>,
    /// The definition as declared, or what is wrong with the declaration.
    pub definition: Result<ChaincodeDefinition, Finding>,
}

/// A member hospital of the channel.
pub struct Member {
    /// Name of the Hospital.
    pub name: String,
    /// The Hospital with its CAs, or what is missing.
    pub dependencies: Result<Dependencies, Finding>,
    /// Its peers that have joined the channel and answer.
    pub peers: Vec<String>,
    /// Whether it has any peer that wants to join.
    pub has_peers: bool,
}

impl ChaincodeFacts {
    /// Gathers from the caches; only CA Secrets of users are read from the cluster.
    pub async fn gather(ctx: &Context, chaincode: Arc<Chaincode>) -> Self {
        let namespace = chaincode.namespace().unwrap_or_default();
        let channel = match ctx.world.channels.get(&namespace, &chaincode.spec.channel_ref.name) {
            Some(channel) => Some(Participants::gather(ctx, channel).await),
            None => None,
        };
        let mut members = Vec::new();
        for name in channel.iter().flat_map(|channel| &channel.channel.spec.members) {
            let dependencies = nodes::dependencies(ctx, &*chaincode, name).await;
            let of_hospital = |peer: &&Arc<Peer>| peer.spec.hospital_ref.name == *name;
            let wanting: Vec<_> = channel.iter().flat_map(|channel| &channel.peers).filter(of_hospital).collect();
            let has_peers = !wanting.is_empty();
            let joined = wanting.into_iter().filter(|peer| has_joined(ctx, channel.as_ref(), peer));
            members.push(Member {
                name: name.clone(),
                dependencies,
                peers: joined.map(|peer| peer.name_any()).collect(),
                has_peers,
            });
        }
        let msps = msps(&members);
        let channel_name = channel.as_ref().map_or("", Participants::channel_name);
        let definition = definition::definition(&chaincode, channel_name, &msps);
        Self { rival: rival(ctx, &chaincode), namespace, channel, members, definition, chaincode }
    }

    /// Name of the contract on the ledger.
    pub fn name(&self) -> String {
        definition::name(&self.chaincode)
    }

    /// Fabric's name of the channel; empty while there is none.
    pub fn channel_name(&self) -> &str {
        self.channel.as_ref().map_or("", Participants::channel_name)
    }

    /// MSP ids of the member hospitals that exist.
    pub fn msp_ids(&self) -> BTreeSet<String> {
        msps(&self.members).into_values().collect()
    }

    /// Whether everything that the declaration refers to is there.
    pub fn accepted(&self) -> Finding {
        let spec = &self.chaincode.spec;
        if let Some(rival) = &self.rival {
            let message = format!(
                "Chaincode {rival} already has the name {} on Channel {}: choose another chaincodeName, or delete one of the two",
                self.name(),
                spec.channel_ref.name
            );
            return Finding::not(Reason::Conflict, message);
        }
        if self.channel.is_none() {
            let message = format!("Channel {} does not exist yet", spec.channel_ref.name);
            return Finding::not(Reason::WaitingForReference, message);
        }
        let missing = self.members.iter().find_map(|member| member.dependencies.as_ref().err());
        if let Some(missing) = missing {
            return missing.clone();
        }
        match &self.definition {
            Ok(_) => Finding::good("the channel and its member hospitals are there"),
            Err(finding) => finding.clone(),
        }
    }
}

/// MSP id of each member hospital that exists, by its name.
fn msps(members: &[Member]) -> BTreeMap<String, String> {
    let known = members.iter().filter_map(|member| Some((member, member.dependencies.as_ref().ok()?)));
    known.map(|(member, dependencies)| (member.name.clone(), dependencies.hospital.spec.msp_id.clone())).collect()
}

/// Whether a peer answers and has the channel.
fn has_joined(ctx: &Context, channel: Option<&Participants>, peer: &Peer) -> bool {
    let Some(channel) = channel else { return false };
    let joined = peer.status.as_ref().is_some_and(|status| status.has_channel(channel.channel_name()));
    joined && pods::is_ready(&ctx.world, &channel.namespace, &peer.name_any())
}

/// An older Chaincode that claims the same name.
fn rival(ctx: &Context, chaincode: &Chaincode) -> Option<String> {
    let same = |other: &Chaincode| {
        other.spec.channel_ref.name == chaincode.spec.channel_ref.name
            && definition::name(other) == definition::name(chaincode)
    };
    rival::older(&ctx.world.chaincodes, chaincode, same)
}
