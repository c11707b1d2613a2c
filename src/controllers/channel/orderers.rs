//! Every declared orderer takes part in the channel: ask, join those that answer that they do not, ask again.

use futures::future::join_all;

use super::definition;
use super::genesis::Genesis;
use super::participants::{OrdererFact, Participants};
use crate::context::Context;
use crate::{ledger, together};
use ehrnet_api::conditions::Reason;
use ehrnet_fabric::blocks;
use ehrnet_fabric::participation::{ChannelInfo, ChannelStatus};
use ehrnet_fabric::proto::common::Block;
use ehrnet_fabric::verbs::ensure_orderer_joined;
use ehrnet_fabric::{Endpoint, LedgerError};
use ehrnet_status::Finding;

/// The channel as one orderer sees it.
pub struct OrdererView {
    /// Name of the Orderer.
    pub name: String,
    /// What it said: its part in the channel, that it has none, or why it could not be asked.
    pub answer: Result<Option<ChannelInfo>, Finding>,
    /// Whether it is a consenter that came back without its blocks.
    pub lost_blocks: bool,
}

/// What a consenter has promised to Raft is lost with its blocks. If it took part again under its old place, others would
/// count on that, and it would stop at the first heartbeat (etcd raft: "tocommit is out of range"). So the channel takes it
/// out of its consenters first; then it joins as a follower, copies the blocks, and becomes a consenter again.
fn forgetful(view: OrdererView) -> OrdererView {
    let message = format!(
        "Orderer {} came back without its blocks: it joins again once the channel has taken it out of its consenters",
        view.name
    );
    OrdererView { answer: Err(Finding::not(Reason::BlocksLost, message)), lost_blocks: true, ..view }
}

/// Asks all declared orderers, and makes those join that answered that they have not. The first ones join together: one that
/// campaigns before the others listen is held up by its own failed connections, and with it the first election.
pub async fn joined(ctx: &Context, participants: &Participants, genesis: &Genesis) -> Vec<OrdererView> {
    let asked = join_all(participants.orderers.iter().map(|orderer| ask(ctx, participants, orderer, genesis))).await;
    if asked.iter().all(|view| !matches!(view.answer, Ok(None))) {
        return asked;
    }
    let begins = !asked.iter().any(|view| matches!(view.answer, Ok(Some(_))));
    if begins
        && asked.iter().any(|view| view.answer.is_err())
        && together::waits(&*participants.channel, participants.now)
    {
        return asked;
    }
    let block = join_block(ctx, participants, &asked, genesis).await;
    let block = &block;
    let pairs = participants.orderers.iter().zip(asked);
    join_all(pairs.map(|(orderer, view)| async move {
        match (&view.answer, block) {
            (Ok(None), Ok(_)) if participants.counts_on_blocks_of(&view.name) => forgetful(view),
            (Ok(None), Ok(block)) => join(ctx, participants, orderer, block).await,
            (Ok(None), Err(finding)) => OrdererView { answer: Err(finding.clone()), ..view },
            (Ok(Some(_)) | Err(_), _) => view,
        }
    }))
    .await
}

/// Addresses of the leaving consenters that do not take part any more.
pub async fn silent(ctx: &Context, participants: &Participants) -> Vec<Endpoint> {
    let takes_part = async |orderer: &OrdererFact| match client(ctx, participants, orderer) {
        Ok(client) => matches!(client.info(participants.channel_name()).await, Ok(Some(_))),
        Err(_) => false,
    };
    let asked = participants.leaving.iter().map(async |orderer| (orderer, takes_part(orderer).await));
    let silent = join_all(asked).await.into_iter().filter(|(_, takes_part)| !takes_part);
    silent.map(|(orderer, _)| definition::internal_endpoint(participants, &orderer.name)).collect()
}

async fn ask(ctx: &Context, participants: &Participants, orderer: &OrdererFact, genesis: &Genesis) -> OrdererView {
    let answer = match client(ctx, participants, orderer) {
        Ok(client) => client.info(participants.channel_name()).await.map_err(|error| problem(orderer, &error)),
        Err(finding) => Err(finding),
    };
    let answer = match answer {
        Ok(Some(info)) => same_beginning(ctx, participants, orderer, genesis).await.map(|()| Some(info)),
        other => other,
    };
    OrdererView { name: orderer.name.clone(), answer, lost_blocks: false }
}

/// An orderer may have a channel of this name from another life: it must have begun with the same block. Checked until
/// the status holds the genesis hash, which is written only after that.
async fn same_beginning(
    ctx: &Context,
    participants: &Participants,
    orderer: &OrdererFact,
    genesis: &Genesis,
) -> Result<(), Finding> {
    if participants.channel.status.as_ref().is_some_and(|status| status.genesis_hash.is_some()) {
        return Ok(());
    }
    let channel = participants.channel_name();
    let first = ledger::orderer(&ctx.network, participants, orderer)?
        .block(channel, 0)
        .await
        .map_err(|error| problem(orderer, &error))?;
    let hash = first.header.as_ref().map(|header| hex::encode(blocks::header_hash(header)));
    if hash.as_deref() == Some(genesis.hash.as_str()) {
        return Ok(());
    }
    let message = format!(
        "Orderer {} already has a channel {channel} that began with block {}: choose another channelName, or remove that channel from the orderer",
        orderer.name,
        hash.unwrap_or_default()
    );
    Err(Finding::not(Reason::GenesisMismatch, message))
}

fn client(
    ctx: &Context,
    participants: &Participants,
    orderer: &OrdererFact,
) -> Result<ehrnet_fabric::participation::Client, Finding> {
    if !orderer.ready {
        return Err(Finding::not(Reason::WaitingForDependency, format!("Orderer {} is not ready", orderer.name)));
    }
    ledger::participation(&ctx.network, participants, orderer)
}

fn problem(orderer: &OrdererFact, error: &LedgerError) -> Finding {
    ledger::finding(&format!("Orderer {}", orderer.name), error)
}

/// The block that a newcomer joins with: the latest configuration that another orderer has, so that it knows where to
/// copy the others from; the genesis block while no other block was ever seen.
async fn join_block(
    ctx: &Context,
    participants: &Participants,
    asked: &[OrdererView],
    genesis: &Genesis,
) -> Result<Block, Finding> {
    let asked_all = participants.orderers.iter().zip(asked);
    for orderer in asked_all
        .filter(|(_, view)| matches!(view.answer, Ok(Some(_))))
        .map(|(orderer, _)| orderer)
        .chain(&participants.leaving)
    {
        let Ok(client) = ledger::orderer(&ctx.network, participants, orderer) else { continue };
        match client.config_block(participants.channel_name()).await {
            Ok(block) => return Ok(block),
            Err(error) => tracing::debug!(orderer = orderer.name, %error, "no configuration block from this orderer"),
        }
    }
    match participants.known_height() {
        0 | 1 => Ok(genesis.block.clone()),
        height => Err(nobody_has_it(participants.channel_name(), height, asked)),
    }
}

/// The blocks of a channel are known and no orderer has them now. Beginning again with the genesis block would make a second
/// history.
fn nobody_has_it(channel: &str, height: u64, asked: &[OrdererView]) -> Finding {
    let silent: Vec<&str> = asked.iter().filter(|view| view.answer.is_err()).map(|view| view.name.as_str()).collect();
    if silent.is_empty() {
        let message = format!(
            "no orderer has channel {channel} any more, which had {height} blocks: it is lost unless the volume of an orderer is put back from a backup; nothing is made in its place"
        );
        return Finding::not(Reason::ChannelLost, message);
    }
    let message = format!(
        "of the {height} blocks of channel {channel} no orderer that answers has any: waiting for {}",
        silent.join(", ")
    );
    Finding::unknown(Reason::NodeUnreachable, message)
}

async fn join(ctx: &Context, participants: &Participants, orderer: &OrdererFact, block: &Block) -> OrdererView {
    let channel = participants.channel_name();
    let answer = match client(ctx, participants, orderer) {
        Ok(client) => {
            let joined = ensure_orderer_joined(&client, channel, block).await;
            joined.map(Some).map_err(|error| problem(orderer, &error))
        }
        Err(finding) => Err(finding),
    };
    OrdererView { name: orderer.name.clone(), answer, lost_blocks: false }
}

/// Whether all declared orderers take part. Pure.
pub fn finding(views: &[OrdererView]) -> Finding {
    for view in views {
        match &view.answer {
            Err(finding) => return finding.clone(),
            Ok(None) => {
                return Finding::not(
                    Reason::Progressing,
                    format!("Orderer {} has not joined the channel yet", view.name),
                );
            }
            Ok(Some(info)) if info.status == ChannelStatus::Failed => {
                let message = format!("Orderer {} failed to serve the channel: see its log", view.name);
                return Finding::not(Reason::LedgerRefused, message);
            }
            Ok(Some(info)) if info.status == ChannelStatus::Onboarding => {
                let message = format!("Orderer {} is copying the channel's blocks (has {})", view.name, info.height);
                return Finding::not(Reason::Progressing, message);
            }
            Ok(Some(_)) => {}
        }
    }
    Finding::good(format!("{} orderers take part", views.len()))
}
