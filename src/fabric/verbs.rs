//! What the operator does to the ledger: read first, act if need be, read back.
//!
//! Each verb can be called again at any time. A node that does not answer makes a verb fail; it never counts as a node
//! that lacks something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;

use super::blocks;
use super::config_update::{envelope, sign};
use super::definition::ChannelDefinition;
use super::endpoint::Endpoint;
use super::envelope::Stamp;
use super::error::LedgerError;
use super::identity::SigningIdentity;
use super::membership::{Identity, Membership};
use super::net::ActKind;
use super::orderer::broadcast;
use super::participation::ChannelInfo;
use super::plan::{Next, Step, UnsignedStep, next};
use super::proto::common::{Block, Config, ConfigSignature};
use super::view::ChannelView;
use super::{orderer, participation, peer};

/// How long an accepted update may take to become a block.
const ORDERING: Duration = Duration::from_secs(30);
/// How long one orderer may be silent meanwhile, before another one is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two rounds of asking all orderers.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(250);

/// Makes an orderer a member of `channel`: `block` is the genesis block of a new channel, or the latest configuration
/// block of a running one. Returns what the orderer says afterwards.
pub async fn ensure_orderer_joined(
    orderer: &participation::Client,
    channel: &str,
    block: &Block,
) -> Result<ChannelInfo, LedgerError> {
    if let Some(info) = orderer.info(channel).await? {
        return Ok(info);
    }
    let joined = orderer.join(channel, block).await;
    // Whatever became of the request: what the orderer has now is what counts.
    match (orderer.info(channel).await?, joined) {
        (Some(info), _) => Ok(info),
        (None, Err(e)) => Err(e),
        (None, Ok(_)) => Err(LedgerError::Invalid(format!(
            "{} accepted channel {channel} and then does not have it",
            orderer.node()
        ))),
    }
}

/// Makes a peer a member of `channel`, whose genesis block is `genesis`. Returns the height of its ledger.
///
/// `None` as height means that the peer has joined and has not yet come to the block that lets its hospital read: the
/// genesis block of a channel that its hospital joined later does not name it.
pub async fn ensure_peer_joined(
    peer: &peer::Client,
    channel: &str,
    genesis: &Block,
) -> Result<Option<u64>, LedgerError> {
    let has = async || peer.channels().await.map(|all| all.iter().any(|c| c == channel));
    if !has().await? {
        let joined = peer.join(channel, genesis).await;
        if !has().await? {
            joined?;
            let node = peer.node();
            return Err(LedgerError::Invalid(format!("{node} accepted channel {channel} and then does not have it")));
        }
    }
    match peer.chain_info(channel).await {
        Ok(info) => Ok(Some(info.height)),
        Err(LedgerError::Refused { message, .. }) if message.starts_with("access denied") => Ok(None),
        Err(e) => Err(e),
    }
}

/// The configuration of `channel` in force, from the first orderer that serves the channel. For tests, which ask real
/// orderers what a step left behind; the operator's own reading is part of [`ensure_config`].
///
/// # Errors
/// The last orderer's, if none does.
pub async fn read_config(orderers: &[&orderer::Client], channel: &str) -> Result<Config, LedgerError> {
    let (_, block) = read_config_block(orderers, channel).await?;
    config_of(channel, &block)
}

async fn read_config_block<'a>(
    orderers: &[&'a orderer::Client],
    channel: &str,
) -> Result<(&'a orderer::Client, Block), LedgerError> {
    let mut last = LedgerError::Invalid(format!("channel {channel} has no orderer to ask"));
    for orderer in orderers {
        match orderer.config_block(channel).await {
            Ok(block) => return Ok((orderer, block)),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn config_of(channel: &str, block: &Block) -> Result<Config, LedgerError> {
    let invalid = |e: String| LedgerError::Invalid(format!("configuration block of channel {channel}: {e}"));
    let (name, config) = blocks::config(block).map_err(invalid)?;
    if name != channel {
        return Err(invalid(format!("it is of channel {name}")));
    }
    Ok(config)
}

/// What [`ensure_config`] found or did.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigOutcome {
    /// The configuration is as declared.
    Converged(Config),
    /// One step was taken and has taken effect; there may be more.
    Stepped {
        /// The step.
        description: String,
        /// The configuration after it.
        config: Config,
    },
    /// There are steps, but each lacks signatures that are not at hand.
    SignaturesMissing {
        /// The steps, and what each lacks.
        steps: Vec<UnsignedStep>,
        /// The configuration as it stays.
        config: Config,
    },
    /// The caller held the next step back.
    Held {
        /// The step.
        description: String,
        /// The caller's reason.
        reason: String,
        /// The configuration as it stays.
        config: Config,
    },
}

impl ConfigOutcome {
    /// The configuration in force.
    pub fn config(&self) -> &Config {
        match self {
            Self::Converged(config)
            | Self::Stepped { config, .. }
            | Self::SignaturesMissing { config, .. }
            | Self::Held { config, .. } => config,
        }
    }
}

/// Takes the next step from the configuration in force to the declared one, if there is one, and waits until it is in
/// force. `may` is asked before a step is taken; a reason holds it back.
///
/// Signs with each of `identities` whose signature counts, and sends as the first that is a member already: a newcomer's
/// admin may not write yet. `silent` are the addresses of consenters that do not answer: where they are to leave, they do so
/// before others.
///
/// # Errors
/// `Refused` with status 400 also if somebody else changed the configuration meanwhile: call again.
pub async fn ensure_config(
    orderers: &[&orderer::Client],
    desired: &ChannelDefinition,
    identities: &[Arc<SigningIdentity>],
    silent: &[Endpoint],
    may: impl AsyncFnOnce(&Step, &Config) -> Result<(), String>,
) -> Result<ConfigOutcome, LedgerError> {
    let channel = &desired.channel_name;
    let (reader, block) = read_config_block(orderers, channel).await?;
    let config = config_of(channel, &block)?;
    let known = members(&config, identities)?;
    let signers: Vec<Identity> = known.iter().map(|(identity, _)| identity.clone()).collect();
    let step = match next(&config, desired, &signers, silent)? {
        Next::Converged => return Ok(ConfigOutcome::Converged(config)),
        Next::SignaturesMissing(steps) => return Ok(ConfigOutcome::SignaturesMissing { steps, config }),
        Next::Step(step) => step,
    };
    let description = step.description.clone();
    if let Err(reason) = may(&step, &config).await {
        return Ok(ConfigOutcome::Held { description, reason, config });
    }
    let newest = blocks::number(&reader.newest_block(channel).await?);
    submit(orderers, channel, &config, &step, &known).await?;
    let config = await_config(orderers, channel, blocks::number(&block), newest + 1).await?;
    Ok(ConfigOutcome::Stepped { description, config })
}

/// Those of `identities` that are members of the channel, as the channel sees them.
fn members<'a>(
    config: &Config,
    identities: &'a [Arc<SigningIdentity>],
) -> Result<Vec<(Identity, &'a SigningIdentity)>, LedgerError> {
    let group = config.channel_group.as_ref().ok_or_else(|| LedgerError::Invalid("no channel group".into()))?;
    let members = Membership::of_channel(group).map_err(LedgerError::Invalid)?;
    let known = identities.iter().filter_map(|i| Some((members.identity(i.serialized()).ok()?, i.as_ref())));
    Ok(known.collect())
}

async fn submit(
    orderers: &[&orderer::Client],
    channel: &str,
    config: &Config,
    step: &Step,
    known: &[(Identity, &SigningIdentity)],
) -> Result<(), LedgerError> {
    let nobody = || LedgerError::Invalid(format!("none of the identities at hand is a member of channel {channel}"));
    let (_, submitter) = known.first().ok_or_else(nobody)?;
    let group = config.channel_group.as_ref().ok_or_else(|| LedgerError::Invalid("no channel group".into()))?;
    let update = step.update.encode_to_vec();
    let identities: Vec<Identity> = known.iter().map(|(identity, _)| identity.clone()).collect();
    let useful = step.signers.useful(group, &identities);
    let signatures: Vec<ConfigSignature> =
        useful.into_iter().map(|at| sign(known[at].1, &update, &Stamp::now())).collect();
    let envelope = envelope(channel, update, signatures, submitter, &Stamp::now());
    broadcast(orderers, &ChannelView::of(config)?, &envelope, ActKind::ConfigUpdate, channel).await
}

/// Follows the blocks from `from` until one is made under another configuration than that of block `old`.
///
/// Asks one orderer after the other: the update may have cost the one asked its place in the channel.
async fn await_config(
    orderers: &[&orderer::Client],
    channel: &str,
    old: u64,
    from: u64,
) -> Result<Config, LedgerError> {
    let until = Instant::now() + ORDERING;
    let mut number = from;
    let mut last = LedgerError::Invalid(format!("channel {channel} has no orderer to ask"));
    for (turn, orderer) in orderers.iter().cycle().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let source =
                format!("an update of channel {channel} was accepted, and is not in force {ORDERING:?} later: {last}");
            return Err(LedgerError::unreachable(orderer.node(), source));
        }
        if turn > 0 && turn % orderers.len() == 0 {
            tokio::time::sleep(BETWEEN_ROUNDS.min(left)).await;
        }
        match follow(orderer, channel, old, &mut number, left.min(PATIENCE)).await {
            Ok(config) => return Ok(config),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// [`await_config`] at one orderer; `number` is the next block to look at.
async fn follow(
    orderer: &orderer::Client,
    channel: &str,
    old: u64,
    number: &mut u64,
    patience: Duration,
) -> Result<Config, LedgerError> {
    loop {
        let block = orderer.wait_for_block(channel, *number, patience).await?;
        let in_force = orderer.last_config(&block)?;
        if in_force == *number {
            return config_of(channel, &block);
        }
        if in_force != old {
            return config_of(channel, &orderer.block(channel, in_force).await?);
        }
        *number += 1;
    }
}
