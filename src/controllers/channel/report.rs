//! What a channel's status says. Pure.

use kube::ResourceExt;

use super::ChannelAnswer;
use super::genesis::Genesis;
use super::orderers::OrdererView;
use super::participants::Participants;
use ehrnet_api::ChannelStatus;
use ehrnet_api::Peer;
use ehrnet_api::channel::{ChannelNode, NodeKind};
use ehrnet_api::conditions::Reason;
use ehrnet_desired::names;
use ehrnet_fabric::participation::ConsensusRelation;
use ehrnet_status::Finding;

/// The whole status. What could not be asked this time keeps its last known value.
pub fn status(participants: &Participants, genesis: Option<&Genesis>, answer: &ChannelAnswer) -> ChannelStatus {
    let before = participants.channel.status.clone().unwrap_or_default();
    let config = answer.config.as_ref();
    let consenters = config.and_then(|config| config.consenters.clone()).unwrap_or(before.consenters);
    let height = answer.orderers.iter().filter_map(|v| v.answer.as_ref().ok()?.as_ref()).map(|info| info.height).max();
    ChannelStatus {
        genesis_config_map: genesis
            .map(|_| names::genesis(&participants.channel.name_any()))
            .or(before.genesis_config_map),
        // From here on no other block is ever used, so it must not stand here before an orderer serves the channel.
        genesis_hash: before.genesis_hash.or(genesis.filter(|_| height.is_some()).map(|genesis| genesis.hash.clone())),
        config_sequence: config.and_then(|config| config.sequence).or(before.config_sequence),
        height: height.or(before.height),
        plan: config.map(|config| config.plan.clone()).unwrap_or_default(),
        nodes: answer
            .orderers
            .iter()
            .map(|view| orderer_node(participants, &consenters, view))
            .chain(participants.peers.iter().map(|p| peer_node(participants, p)))
            .collect(),
        consenters,
        ..ChannelStatus::default()
    }
}

fn orderer_node(participants: &Participants, consenters: &[String], view: &OrdererView) -> ChannelNode {
    let has_it = matches!(view.answer, Ok(Some(_)));
    let joined = consenters.contains(&view.name) && (has_it || participants.was_joined(&view.name));
    let (relation, height) = match &view.answer {
        Err(_) => ("unknown", None),
        Ok(None) => ("none", None),
        Ok(Some(info)) => (relation(info.consensus_relation), Some(info.height)),
    };
    ChannelNode { name: view.name.clone(), kind: NodeKind::Orderer, relation: relation.to_owned(), joined, height }
}

fn relation(relation: ConsensusRelation) -> &'static str {
    match relation {
        ConsensusRelation::Consenter => "consenter",
        ConsensusRelation::Follower => "follower",
        ConsensusRelation::ConfigTracker => "config-tracker",
        ConsensusRelation::Other => "other",
    }
}

fn peer_node(participants: &Participants, peer: &Peer) -> ChannelNode {
    let height = participants.height_on(peer);
    let relation = if height.is_some() { "member" } else { "none" };
    ChannelNode { name: peer.name_any(), kind: NodeKind::Peer, relation: relation.to_owned(), joined: false, height }
}

/// Whether every peer that wants to, and may, has joined.
pub fn peers(participants: &Participants) -> Finding {
    let members = &participants.channel.spec.members;
    let wanting = participants.peers.iter().filter(|peer| members.contains(&peer.spec.hospital_ref.name));
    let (joined, missing): (Vec<_>, Vec<_>) = wanting.partition(|peer| participants.height_on(peer).is_some());
    match missing.first() {
        None => Finding::good(format!("{} peers have joined", joined.len())),
        Some(peer) => Finding::not(
            Reason::WaitingForDependency,
            format!("Peer {} has not joined yet: see its conditions", peer.name_any()),
        ),
    }
}
