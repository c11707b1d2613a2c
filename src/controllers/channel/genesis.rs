//! The genesis block: made once, stored before anything uses it, never made a second time.
//!
//! Invariant (S2 in docs/invariants.md): once a genesis hash stands in the status, or an orderer answered that it has the
//! channel, no other block is ever used for it. A node that does not answer says nothing about whether the channel exists.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use prost::Message;

use super::facts::ChannelFacts;
use super::participants::Participants;
use crate::context::Context;
use crate::error::StepError;
use crate::ledger;
use crate::writer::Writer;
use ehrnet_api::conditions::Reason;
use ehrnet_desired::{self as desired, names};
use ehrnet_fabric::definition::ChannelDefinition;
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::proto::common::Block;
use ehrnet_fabric::{blocks, genesis};
use ehrnet_status::Finding;

/// A channel's first block.
#[derive(Clone)]
pub struct Genesis {
    /// The block.
    pub block: Block,
    /// Hash of its header, lower-case hexadecimal.
    pub hash: String,
}

impl Genesis {
    fn of(block: Block) -> Option<Self> {
        let hash = hex::encode(blocks::header_hash(block.header.as_ref()?));
        Some(Self { block, hash })
    }

    /// Reads the block out of its ConfigMap.
    pub fn read(config_map: &ConfigMap) -> Option<Self> {
        let bytes = config_map.binary_data.as_ref()?.get(names::GENESIS_BLOCK)?;
        Self::of(Block::decode(bytes.0.as_slice()).ok()?)
    }
}

/// What to do about the genesis block. Pure.
enum Decision {
    Use(Genesis),
    Refuse(Finding),
    Make,
    BringBack { hash: String },
}

fn decide(facts: &ChannelFacts) -> Decision {
    let known = facts.participants.channel.status.as_ref().and_then(|status| status.genesis_hash.clone());
    let stored = facts.genesis.as_deref().map(Genesis::read);
    match (stored, known) {
        (None, None) => Decision::Make,
        (None, Some(hash)) => Decision::BringBack { hash },
        (Some(Some(stored)), Some(hash)) if stored.hash != hash => Decision::Refuse(Finding::not(
            Reason::GenesisMismatch,
            format!(
                "ConfigMap {} holds a block with hash {}, but the channel began with {hash}: delete the ConfigMap and the true block is fetched from an orderer",
                names::genesis(&facts.participants.channel.name_any()),
                stored.hash
            ),
        )),
        (Some(Some(stored)), _) => Decision::Use(stored),
        (Some(None), _) => Decision::Refuse(Finding::not(
            Reason::GenesisMismatch,
            format!(
                "ConfigMap {} holds no readable block: delete it, and the block is made or fetched again",
                names::genesis(&facts.participants.channel.name_any())
            ),
        )),
    }
}

/// The stored block; made and stored if the channel is new, fetched from an orderer if its ConfigMap is gone.
pub async fn ensure(
    ctx: &Context,
    writer: &Writer<'_>,
    facts: &ChannelFacts,
    declared: &ChannelDefinition,
) -> Result<Genesis, StepError> {
    let block = match decide(facts) {
        // Stored again: that writes nothing unless somebody edited its labels or annotations.
        Decision::Use(stored) => stored.block,
        Decision::Refuse(finding) => return Err(finding.into()),
        Decision::Make => genesis::block(declared, &Stamp::now())
            .map_err(|error| Finding::not(Reason::InvalidSpec, error.to_string()))?,
        Decision::BringBack { hash } => fetch(ctx, &facts.participants, &hash).await?,
    };
    let config_map = desired::config_map::genesis(&facts.participants.channel, &block.encode_to_vec());
    // Whoever stores first has made the channel's genesis block: what is stored is used, not what was made here.
    let owner = crate::owner(&*facts.participants.channel)?;
    let stored = writer.create_once(&owner, &ctx.world.config_maps, &config_map).await?.object;
    let genesis = Genesis::read(&stored).ok_or_else(|| {
        Finding::not(Reason::NameTaken, format!("ConfigMap {} exists and is no genesis block", stored.name_any()))
    });
    Ok(genesis?)
}

/// Block 0 from any orderer that has it, if it is the one the channel began with.
async fn fetch(ctx: &Context, participants: &Participants, hash: &str) -> Result<Block, Finding> {
    let channel = participants.channel_name();
    let mut silent = Vec::new();
    for orderer in &participants.orderers {
        let answer = match ledger::orderer(&ctx.network, participants, orderer) {
            Ok(client) => client.block(channel, 0).await.map_err(|error| error.to_string()),
            Err(finding) => Err(finding.message),
        };
        match answer {
            Ok(block) => match Genesis::of(block) {
                Some(found) if found.hash == hash => return Ok(found.block),
                Some(found) => silent.push(format!("Orderer {} has another one ({})", orderer.name, found.hash)),
                None => silent.push(format!("Orderer {} sent a block without a header", orderer.name)),
            },
            Err(error) => silent.push(format!("Orderer {}: {error}", orderer.name)),
        }
    }
    Err(Finding::not(
        Reason::NodeUnreachable,
        format!(
            "ConfigMap {} with the genesis block is gone, and no orderer could send it again: {}",
            names::genesis(&participants.channel.name_any()),
            silent.join("; ")
        ),
    ))
}
