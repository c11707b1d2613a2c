//! Everything that decisions about a contract need, gathered once from the caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::definition;
use crate::channel::participants::Participants;
use crate::context::Context;
use crate::key_pairs::Slot;
use crate::ledger::Admin;
use crate::nodes::{self, Dependencies};
use crate::{credentials, pods, rival};
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Chaincode, Peer};
use ehrnet_desired::names;
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
    /// The present.
    pub now: Timestamp,
}

/// A member hospital of the channel.
pub struct Member {
    /// Name of the Hospital.
    pub name: String,
    /// The Hospital with its CAs, or what is missing.
    pub dependencies: Result<Dependencies, Finding>,
    /// What is found of the service's key pairs, or why it can have none.
    pub slots: Result<ServiceSlots, Finding>,
    /// Who the operator is to its nodes, or why it is nobody yet.
    pub admin: Result<Admin, Finding>,
    /// Its peers that have joined the channel and answer.
    pub peers: Vec<String>,
    /// Whether it has any peer that wants to join.
    pub has_peers: bool,
}

/// What is found of the key pairs of a hospital's service.
pub struct ServiceSlots {
    /// By which the hospital's peers are known to its contracts.
    pub client: Slot,
    /// Of the service itself.
    pub tls: Slot,
}

impl Member {
    async fn gather(ctx: &Context, chaincode: &Chaincode, channel: &Participants, name: &str) -> Self {
        let dependencies = nodes::dependencies(ctx, chaincode, name).await;
        let slots = dependencies.as_ref().map_err(Clone::clone);
        let of_hospital = |peer: &&Arc<Peer>| peer.spec.hospital_ref.name == name;
        let wanting: Vec<_> = channel.peers.iter().filter(of_hospital).collect();
        Self {
            name: name.to_owned(),
            slots: slots.and_then(|dependencies| ServiceSlots::gather(ctx, chaincode, dependencies)),
            admin: channel.admin(name),
            has_peers: !wanting.is_empty(),
            peers: wanting.iter().filter(|peer| has_joined(ctx, channel, peer)).map(|peer| peer.name_any()).collect(),
            dependencies,
        }
    }
}

impl ServiceSlots {
    fn gather(ctx: &Context, chaincode: &Chaincode, dependencies: &Dependencies) -> Result<Self, Finding> {
        let (owner, hospital) = (crate::owner(chaincode)?, &dependencies.owner.name);
        let known = chaincode.status.iter().flat_map(|status| &status.hospitals);
        let existed = known.into_iter().any(|known| known.name == *hospital && known.tls.is_some());
        let tls = names::node_tls(&names::contract(&owner.name, hospital));
        Ok(Self {
            client: credentials::chaincode_client_slot(ctx, dependencies),
            tls: Slot::gather(ctx, owner, tls, existed),
        })
    }
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
        if let Some(channel) = &channel {
            for name in &channel.channel.spec.members {
                members.push(Member::gather(ctx, &chaincode, channel, name).await);
            }
        }
        let msps = msps(&members);
        let channel_name = channel.as_ref().map_or("", Participants::channel_name);
        let definition = definition::definition(&chaincode, channel_name, &msps);
        Self { rival: rival(ctx, &chaincode), namespace, channel, members, definition, chaincode, now: (ctx.clock)() }
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
fn has_joined(ctx: &Context, channel: &Participants, peer: &Peer) -> bool {
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
