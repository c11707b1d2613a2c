//! What orderers demand of a configuration, and of the way from one to the next (Fabric: packages `channelconfig`,
//! `etcdraft` and `smartbft`). Error texts are Fabric's where a user would look one up.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::config_tree::{
    APPLICATION, BATCH_SIZE, BATCH_TIMEOUT, BLOCK_VALIDATION, CAPABILITIES, CONSENSUS_TYPE, ENDPOINTS, MSP, ORDERER,
    ORDERERS,
};
use super::duration;
use super::membership::Membership;
use super::msp;
use super::policy::bft_block_validation;
use super::proto::common::{Capabilities, ConfigGroup, OrdererAddresses, Orderers};
use super::proto::etcdraft::{ConfigMetadata, Consenter};
use super::proto::msp::{FabricMspConfig, MspConfig};
use super::proto::orderer::{BatchSize, BatchTimeout, ConsensusType};
use super::proto::smartbft::{Options, options::Rotation};

const CHANNEL_LEVELS: &[&str] = &["V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"];
const ORDERER_LEVELS: &[&str] = &["V1_1", "V1_4_2", "V2_0"];
const APPLICATION_LEVELS: &[&str] = &["V1_1", "V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"];

/// Whether orderers would run a channel with this configuration.
pub fn check(channel_group: &ConfigGroup) -> Result<(), String> {
    if let Some(other) = channel_group.groups.keys().find(|g| ![ORDERER, APPLICATION].contains(&g.as_str())) {
        return Err(format!("Disallowed channel group: {other}"));
    }
    if channel_group.values.contains_key("OrdererAddresses") {
        return Err(
            "global OrdererAddresses are not allowed with V3_0 capability, use org specific addresses only".into()
        );
    }
    check_levels(channel_group, "Channel", CHANNEL_LEVELS)?;
    check_msps(channel_group)?;
    if let Some(application) = channel_group.groups.get(APPLICATION) {
        check_levels(application, "Application", APPLICATION_LEVELS)?;
    }
    let orderer = channel_group.groups.get(ORDERER).ok_or("config does not contain an orderer section")?;
    check_levels(orderer, "Orderer", ORDERER_LEVELS)?;
    check_batch(orderer)?;
    check_endpoints(orderer)?;
    let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE)?;
    match consensus.r#type.as_str() {
        "etcdraft" => check_raft(&raft_metadata(&consensus)?),
        "BFT" => check_bft(orderer, &consensus),
        other => Err(format!("unsupported consensus type: {other}")),
    }
}

/// Whether orderers would go from one configuration to the other.
pub fn check_change(current: &ConfigGroup, new: &ConfigGroup) -> Result<(), String> {
    check(new)?;
    for (section, kind) in [(ORDERER, "orderer"), (APPLICATION, "application")] {
        let Some(old) = current.groups.get(section) else { continue };
        let Some(new) = new.groups.get(section) else {
            return Err(format!("current config has {kind} section, but new config does not"));
        };
        for (name, org) in &old.groups {
            let Some(new_org) = new.groups.get(name) else { continue };
            let (old_id, new_id) = (msp_config(org)?.name, msp_config(new_org)?.name);
            if old_id != new_id {
                return Err(format!("{kind} org {name} attempted to change MSP ID from {old_id} to {new_id}"));
            }
        }
    }
    let (Some(old), Some(new)) = (current.groups.get(ORDERER), new.groups.get(ORDERER)) else { return Ok(()) };
    let (old, new): (ConsensusType, ConsensusType) = (value(old, CONSENSUS_TYPE)?, value(new, CONSENSUS_TYPE)?);
    if old.r#type != new.r#type {
        return Err(format!("attempted to change consensus type from {} to {}", old.r#type, new.r#type));
    }
    if new.r#type == "etcdraft" {
        check_one_consenter_at_a_time(&raft_metadata(&old)?.consenters, &raft_metadata(&new)?.consenters)
            .map_err(|e| format!("consensus metadata update for channel config update is invalid: {e}"))?;
    }
    Ok(())
}

fn check_levels(group: &ConfigGroup, kind: &str, known: &[&str]) -> Result<(), String> {
    let levels: Capabilities = value(group, CAPABILITIES)?;
    match levels.capabilities.keys().find(|level| !known.contains(&level.as_str())) {
        Some(level) => Err(format!("{kind} capability {level} is required but not supported")),
        None => Ok(()),
    }
}

/// Every MSP can be used, and an organization that orders and shares the ledger has the same MSP in both groups.
fn check_msps(channel_group: &ConfigGroup) -> Result<(), String> {
    let mut seen: BTreeMap<String, FabricMspConfig> = BTreeMap::new();
    for org in channel_group.groups.values().flat_map(|section| section.groups.values()) {
        let config = msp_config(org)?;
        if config.name.is_empty() {
            return Err("MSP for org has empty MSP ID".into());
        }
        if seen.get(&config.name).is_some_and(|other| *other != config) {
            return Err(format!("Attempted to define two different versions of MSP: {}", config.name));
        }
        seen.insert(config.name.clone(), config);
    }
    Membership::of_channel(channel_group).map(drop)
}

fn check_batch(orderer: &ConfigGroup) -> Result<(), String> {
    let size: BatchSize = value(orderer, BATCH_SIZE)?;
    for (what, limit) in [
        ("max message count", size.max_message_count),
        ("absolute max bytes", size.absolute_max_bytes),
        ("preferred max bytes", size.preferred_max_bytes),
    ] {
        if limit == 0 {
            return Err(format!("Attempted to set the batch size {what} to an invalid value: 0"));
        }
    }
    if size.preferred_max_bytes > size.absolute_max_bytes {
        return Err(format!(
            "Attempted to set the batch size preferred max bytes ({}) greater than the absolute max bytes ({}).",
            size.preferred_max_bytes, size.absolute_max_bytes
        ));
    }
    let timeout: BatchTimeout = value(orderer, BATCH_TIMEOUT)?;
    match duration::parse(&timeout.timeout) {
        Some(time) if !time.is_zero() => Ok(()),
        _ => Err(format!("Attempted to set the batch timeout to a invalid value: {:?}", timeout.timeout)),
    }
}

fn check_endpoints(orderer: &ConfigGroup) -> Result<(), String> {
    let empty = |org: &ConfigGroup| value::<OrdererAddresses>(org, ENDPOINTS).map_or(true, |e| e.addresses.is_empty());
    let missing: Vec<_> = orderer.groups.iter().filter(|(_, org)| empty(org)).map(|(name, _)| name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("some orderer organizations endpoints are empty: [{}]", missing.join(" ")))
}

fn check_raft(metadata: &ConfigMetadata) -> Result<(), String> {
    let options = metadata.options.as_ref().ok_or("nil Raft config metadata options")?;
    let (heartbeat, election, inflight) = (options.heartbeat_tick, options.election_tick, options.max_inflight_blocks);
    if heartbeat == 0 || election == 0 || inflight == 0 {
        return Err(format!(
            "none of HeartbeatTick ({heartbeat}), ElectionTick ({election}) and MaxInflightBlocks ({inflight}) can be zero"
        ));
    }
    if election <= heartbeat {
        return Err(format!("ElectionTick ({election}) must be greater than HeartbeatTick ({heartbeat})"));
    }
    if duration::parse(&options.tick_interval).is_none_or(|t| t.is_zero()) {
        return Err(format!("failed to parse TickInterval ({}) to time duration", options.tick_interval));
    }
    if metadata.consenters.is_empty() {
        return Err("empty consenter set".into());
    }
    let mut seen = BTreeSet::new();
    match metadata.consenters.iter().find(|c| !seen.insert(&c.client_tls_cert)) {
        Some(twice) => Err(format!("duplicate consenter: {}:{}", twice.host, twice.port)),
        None => Ok(()),
    }
}

fn check_one_consenter_at_a_time(old: &[Consenter], new: &[Consenter]) -> Result<(), String> {
    let missing = |from: &[Consenter], other: &[Consenter]| {
        from.iter().filter(|c| !other.iter().any(|o| o.client_tls_cert == c.client_tls_cert)).count()
    };
    let (added, removed) = (missing(new, old), missing(old, new));
    if added > 1 || removed > 1 {
        return Err(format!(
            "update of more than one consenter at a time is not supported, requested changes: add {added} node(s), remove {removed} node(s)"
        ));
    }
    Ok(())
}

fn check_bft(orderer: &ConfigGroup, consensus: &ConsensusType) -> Result<(), String> {
    let consenters = value::<Orderers>(orderer, ORDERERS)?.consenter_mapping;
    if consenters.is_empty() {
        return Err("empty consenter set".into());
    }
    let ids: BTreeSet<u32> = consenters.iter().map(|c| c.id).collect();
    if ids.len() != consenters.len() || ids.contains(&0) {
        return Err("consenter ids must be unique and larger than zero".into());
    }
    let actual = orderer.policies.get(BLOCK_VALIDATION).and_then(|p| p.policy.as_ref());
    if actual != Some(&bft_block_validation(&consenters)) {
        return Err("block validation policy should be a signature policy of a quorum of the consenters".into());
    }
    let options = Options::decode(consensus.metadata.as_slice())
        .map_err(|e| format!("invalid options encoded in consensus metadata: {e}"))?;
    if options.leader_rotation() == Rotation::On {
        return Err("leader rotation must be turned off for this version or be unspecified".into());
    }
    Ok(())
}

fn raft_metadata(consensus: &ConsensusType) -> Result<ConfigMetadata, String> {
    ConfigMetadata::decode(consensus.metadata.as_slice())
        .map_err(|e| format!("failed to unmarshal new etcdraft metadata configuration: {e}"))
}

fn msp_config(org: &ConfigGroup) -> Result<FabricMspConfig, String> {
    msp::decode(&value::<MspConfig>(org, MSP)?)
}

/// A group's value of that key.
pub fn value<T: Message + Default>(group: &ConfigGroup, key: &str) -> Result<T, String> {
    let value = group.values.get(key).ok_or_else(|| format!("config has no value {key}"))?;
    T::decode(value.value.as_slice()).map_err(|e| format!("config value {key} is not readable: {e}"))
}
