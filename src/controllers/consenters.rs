//! The consenters that the ledger itself names for a channel, and how each of them is.
//!
//! Exception to "facts are gathered first": who may go is asked once the turn is there, because the node whose turn it was
//! before has just gone or been restarted. Invariant: a node that cannot be asked is not a node that is no consenter.

use std::sync::Arc;

use futures::future::join_all;
use kube::ResourceExt;

use super::channel::participants::{OrdererFact, Participants};
use super::context::Context;
use super::{deletion, ledger, pods};
use ehrnet_api::channel::ConsensusType;
use ehrnet_api::{Channel, Orderer};
use ehrnet_desired::names;
use ehrnet_fabric::blocks;
use ehrnet_fabric::participation::{ChannelInfo, ChannelStatus, ConsensusRelation};
use ehrnet_fabric::view::ChannelView;
use ehrnet_fabric::{Endpoint, orderer};
use ehrnet_observe::World;

/// The consenters of a channel.
pub struct Consenters {
    /// Name of the Channel.
    pub channel: String,
    /// Whether a Byzantine quorum is needed.
    pub is_bft: bool,
    /// All of them.
    pub all: Vec<Consenter>,
}

/// One consenter.
pub struct Consenter {
    /// Name of the Orderer; `host:port` for a node of another namespace or cluster.
    pub name: String,
    /// Whether it can be counted on.
    pub standing: Standing,
}

/// Whether a consenter can be counted on.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It orders, has all blocks, and nothing is about to stop it.
    Well,
    /// It cannot: what is the matter with it, to follow its name.
    Ill(String),
}

/// Asks the orderers who the consenters of a channel are, and each how it is. `None` for a channel that has not begun: no
/// orderer was ever known to have it, and none that answers has it.
async fn ask(ctx: &Context, channel: Arc<Channel>) -> Option<Consenters> {
    let participants = Participants::gather(ctx, channel.clone()).await;
    let asked = join_all(participants.all_orderers().map(|fact| info(ctx, &participants, fact))).await;
    let status = channel.status.clone().unwrap_or_default();
    let begun = status.genesis_hash.is_some() || asked.iter().any(|(_, info)| matches!(info, Ok(Some(_))));
    if !begun {
        return None;
    }
    let (is_bft, names) = match read(ctx, &participants, &asked).await {
        Some(view) => (view.is_bft, names_of(&view.consenters, &participants.namespace)),
        None => {
            (channel.spec.consensus.type_ == ConsensusType::Bft, channel.possible_consenters().into_iter().collect())
        }
    };
    let mut all = Vec::new();
    for name in names {
        let standing = standing(&ctx.world, &participants.namespace, &name, &asked, status.height);
        all.push(Consenter { name, standing });
    }
    Some(Consenters { channel: channel.name_any(), is_bft, all })
}

/// Names of the consenters at these addresses: of Orderers of the namespace where they are such.
pub fn names_of(endpoints: &[Endpoint], namespace: &str) -> Vec<String> {
    let name = |endpoint: &Endpoint| {
        let first = endpoint.host.split('.').next().unwrap_or_default();
        let own = endpoint.host == names::host(first, namespace) && endpoint.port == names::ORDERER_PORT;
        if own { first.to_owned() } else { endpoint.to_string() }
    };
    endpoints.iter().map(name).collect()
}

/// The channels that may count on an orderer and are there to stay, each with its consenters.
pub async fn of_channels(ctx: &Context, orderer: &Orderer) -> Vec<(Arc<Channel>, Consenters)> {
    let (namespace, name) = super::place(orderer);
    let mut channels = ctx.world.channels.list(&namespace);
    channels.retain(|channel| {
        channel.metadata.deletion_timestamp.is_none() && channel.possible_consenters().contains(&name)
    });
    let asked = channels.into_iter().map(async |channel| Some((channel.clone(), ask(ctx, channel).await?)));
    join_all(asked).await.into_iter().flatten().collect()
}

/// What an orderer tells of the channel.
struct Told {
    /// How many blocks it has.
    height: u64,
    /// Whether it orders, as far as it says.
    orders: bool,
}

/// What an orderer tells of the channel, nothing if it does not have it; or why it could not be asked, to follow its name.
type Info<'a> = (&'a OrdererFact, Result<Option<Told>, String>);

async fn info<'a>(ctx: &Context, participants: &Participants, fact: &'a OrdererFact) -> Info<'a> {
    if !fact.ready {
        return (fact, Err("is not ready".to_owned()));
    }
    let told = |info: ChannelInfo| Told {
        height: info.height,
        orders: info.consensus_relation == ConsensusRelation::Consenter && info.status == ChannelStatus::Active,
    };
    let answer = match ledger::participation(&ctx.network, participants, fact) {
        Ok(client) => client.info(participants.channel_name()).await.map_err(|error| error.to_string()),
        Err(finding) => Err(finding.message),
    };
    let answer = match answer {
        Ok(info) => Ok(info.map(told)),
        Err(error) => serves(ctx, participants, fact).await.map(Some).ok_or(format!("does not answer: {error}")),
    };
    (fact, answer)
}

/// What an orderer serves to the admin of its hospital. While it does not know the operator's newest certificate, which it
/// reads when it starts, it can be asked in this way only.
async fn serves(ctx: &Context, participants: &Participants, fact: &OrdererFact) -> Option<Told> {
    let client = ledger::orderer(&ctx.network, participants, fact).ok()?;
    let newest = client.newest_block(participants.channel_name()).await.ok()?;
    Some(Told { height: blocks::number(&newest) + 1, orders: true })
}

/// The configuration in force, from the first orderer that has the channel and answers.
async fn read(ctx: &Context, participants: &Participants, asked: &[Info<'_>]) -> Option<ChannelView> {
    for (fact, _) in asked.iter().filter(|(_, info)| matches!(info, Ok(Some(_)))) {
        let read = async |client: orderer::Client| {
            let block = client.config_block(participants.channel_name()).await.ok()?;
            ChannelView::of(&blocks::config(&block).ok()?.1).ok()
        };
        let Ok(client) = ledger::orderer(&ctx.network, participants, fact) else { continue };
        if let Some(view) = read(client).await {
            return Some(view);
        }
    }
    None
}

/// How a consenter is. `height` is what the channel was last known to have: whoever has less has stopped.
fn standing(world: &World, namespace: &str, name: &str, asked: &[Info<'_>], height: Option<u64>) -> Standing {
    let ill = |why: &str| Standing::Ill(why.to_owned());
    let Some(orderer) = world.orderers.get(namespace, name) else {
        return ill("is no Orderer here: whether it works is not known");
    };
    if deletion::is_let_go(&orderer) {
        return ill("is being deleted");
    }
    if !pods::is_settled(world, namespace, name) {
        return ill("is starting or failing");
    }
    match asked.iter().find(|(fact, _)| fact.name == name).map(|(_, info)| info) {
        None => ill("was not asked"),
        Some(Err(why)) => ill(why),
        Some(Ok(None)) => ill("does not have the channel"),
        Some(Ok(Some(told))) if !told.orders => ill("does not order yet"),
        Some(Ok(Some(told))) if Some(told.height) < height => {
            Standing::Ill(format!("has {} of {} blocks", told.height, height.unwrap_or_default()))
        }
        Some(Ok(Some(_))) => Standing::Well,
    }
}
