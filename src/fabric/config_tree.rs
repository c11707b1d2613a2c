//! The configuration tree of a channel, built from its definition; and the names in it.
//!
//! ```text
//! Channel ── Orderer ──── <orderer organization>      MSP, Endpoints
//!         └─ Application ─ <application organization>  MSP, AnchorPeers
//! ```
//! Invariant: every group, value and policy has a `mod_policy` (`Admins` of its own group); without one an element can
//! never be changed again.

use prost::Message;

use super::definition::{
    ApplicationOrg, BftConsenter, BftOptions, ChannelDefinition, Consensus, OrdererOrg, RaftConsenter, RaftOptions,
};
use super::duration;
use super::endpoint::Endpoint;
use super::policy::{any_role, bft_block_validation, implicit_meta};
use super::proto::common::implicit_meta_policy::Rule;
use super::proto::common::msp_role::MspRoleType::{Admin, Client, Member, Peer};
use super::proto::common::{
    BlockDataHashingStructure, Capabilities, Capability, ConfigGroup, ConfigPolicy, ConfigValue, Consenter,
    HashingAlgorithm, OrdererAddresses, Orderers, Policy,
};
use super::proto::orderer::{BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType};
use super::proto::protos::{AnchorPeer, AnchorPeers};
use super::proto::{etcdraft, smartbft};

/// Name of the group with the application organizations.
pub const APPLICATION: &str = "Application";
/// Name of the group with the orderer organizations.
pub const ORDERER: &str = "Orderer";
/// Name of the policy that guards changes.
pub const ADMINS: &str = "Admins";
/// Name of the policy of those who may read.
pub const READERS: &str = "Readers";
/// Name of the policy of those who may write.
pub const WRITERS: &str = "Writers";
/// Name of the policy that a block's signatures must meet.
pub const BLOCK_VALIDATION: &str = "BlockValidation";
/// Name of the policy of a transaction's endorsements.
pub const ENDORSEMENT: &str = "Endorsement";
/// Name of the policy of a chaincode definition's approvals.
pub const LIFECYCLE_ENDORSEMENT: &str = "LifecycleEndorsement";
/// Key of an organization's MSP (`msp.MSPConfig`).
pub const MSP: &str = "MSP";
/// Key of an application organization's anchor peers (`protos.AnchorPeers`).
pub const ANCHOR_PEERS: &str = "AnchorPeers";
/// Key of an orderer organization's addresses (`common.OrdererAddresses`).
pub const ENDPOINTS: &str = "Endpoints";
/// Key of the consensus protocol (`orderer.ConsensusType`).
pub const CONSENSUS_TYPE: &str = "ConsensusType";
/// Key of the BFT consenters (`common.Orderers`).
pub const ORDERERS: &str = "Orderers";
/// Key of the block limits (`orderer.BatchSize`).
pub const BATCH_SIZE: &str = "BatchSize";
/// Key of the block timeout (`orderer.BatchTimeout`).
pub const BATCH_TIMEOUT: &str = "BatchTimeout";
/// Key of the feature levels (`common.Capabilities`).
pub const CAPABILITIES: &str = "Capabilities";

/// The whole tree of a new channel.
pub fn channel_group(channel: &ChannelDefinition) -> ConfigGroup {
    let mut group = group();
    put_value(&mut group, "HashingAlgorithm", &HashingAlgorithm { name: "SHA256".into() });
    put_value(&mut group, "BlockDataHashingStructure", &BlockDataHashingStructure { width: u32::MAX });
    put_value(&mut group, CAPABILITIES, &capability(&channel.capabilities.channel));
    put_meta_policies(&mut group);
    group.groups.insert(ORDERER.into(), orderer_group(channel));
    group.groups.insert(APPLICATION.into(), application_group(channel));
    group
}

fn orderer_group(channel: &ChannelDefinition) -> ConfigGroup {
    let mut group = group();
    put_meta_policies(&mut group);
    put_value(&mut group, BATCH_SIZE, &batch_size(channel));
    put_value(&mut group, BATCH_TIMEOUT, &BatchTimeout { timeout: duration::format(channel.batch.timeout) });
    put_value(&mut group, "ChannelRestrictions", &ChannelRestrictions { max_count: 0 });
    put_value(&mut group, CAPABILITIES, &capability(&channel.capabilities.orderer));
    match &channel.consensus {
        Consensus::Raft { consenters, options } => {
            put_policy(&mut group, BLOCK_VALIDATION, implicit_meta(Rule::Any, WRITERS));
            let consenters = consenters.iter().map(RaftConsenter::message).collect();
            put_value(&mut group, CONSENSUS_TYPE, &raft(consenters, options));
        }
        Consensus::Bft { consenters, options } => {
            let numbered = (1..).zip(consenters).map(|(id, c)| c.numbered(id));
            put_bft_consenters(&mut group, numbered.collect());
            put_value(&mut group, CONSENSUS_TYPE, &bft(options));
        }
    }
    for org in &channel.orderer_orgs {
        group.groups.insert(org.msp.id.clone(), orderer_org(org));
    }
    group
}

fn application_group(channel: &ChannelDefinition) -> ConfigGroup {
    let mut group = group();
    put_meta_policies(&mut group);
    put_policy(&mut group, ENDORSEMENT, implicit_meta(channel.policies.endorsement, ENDORSEMENT));
    put_policy(&mut group, LIFECYCLE_ENDORSEMENT, implicit_meta(channel.policies.lifecycle_endorsement, ENDORSEMENT));
    put_value(&mut group, CAPABILITIES, &capability(&channel.capabilities.application));
    for org in &channel.application_orgs {
        group.groups.insert(org.msp.id.clone(), application_org(org));
    }
    group
}

/// Group of an orderer organization. Its writers include its orderers: they sign configuration transactions.
pub fn orderer_org(org: &OrdererOrg) -> ConfigGroup {
    let mut group = group();
    put_value(&mut group, MSP, &org.msp.config());
    put_value(&mut group, ENDPOINTS, &addresses(&org.endpoints));
    put_policy(&mut group, READERS, any_role(&org.msp.id, &[Member]));
    put_policy(&mut group, WRITERS, any_role(&org.msp.id, &[Member]));
    put_policy(&mut group, ADMINS, any_role(&org.msp.id, &[Admin]));
    group
}

/// Group of an application organization.
pub fn application_org(org: &ApplicationOrg) -> ConfigGroup {
    let mut group = group();
    put_value(&mut group, MSP, &org.msp.config());
    if !org.anchor_peers.is_empty() {
        put_value(&mut group, ANCHOR_PEERS, &anchor_peers(&org.anchor_peers));
    }
    put_policy(&mut group, READERS, any_role(&org.msp.id, &[Admin, Peer, Client]));
    put_policy(&mut group, WRITERS, any_role(&org.msp.id, &[Admin, Client]));
    put_policy(&mut group, ADMINS, any_role(&org.msp.id, &[Admin]));
    put_policy(&mut group, ENDORSEMENT, any_role(&org.msp.id, &[Peer]));
    group
}

/// Consenters and the block validation policy that follows from them: orderers demand that both change together.
pub fn put_bft_consenters(orderer_group: &mut ConfigGroup, consenters: Vec<Consenter>) {
    put_policy(orderer_group, BLOCK_VALIDATION, bft_block_validation(&consenters));
    put_value(orderer_group, ORDERERS, &Orderers { consenter_mapping: consenters });
}

/// Sets a value, keeping the version and the guard of one that exists.
pub fn put_value(group: &mut ConfigGroup, key: &str, message: &impl Message) {
    let value = group
        .values
        .entry(key.into())
        .or_insert_with(|| ConfigValue { mod_policy: ADMINS.into(), ..Default::default() });
    value.value = message.encode_to_vec();
}

/// Sets a policy, keeping the version and the guard of one that exists.
pub fn put_policy(group: &mut ConfigGroup, key: &str, policy: Policy) {
    let entry = group
        .policies
        .entry(key.into())
        .or_insert_with(|| ConfigPolicy { mod_policy: ADMINS.into(), ..Default::default() });
    entry.policy = Some(policy);
}

/// Raft's value of [`CONSENSUS_TYPE`].
pub fn raft(consenters: Vec<etcdraft::Consenter>, options: &RaftOptions) -> ConsensusType {
    let options = etcdraft::Options {
        tick_interval: duration::format(options.tick_interval),
        election_tick: options.election_tick,
        heartbeat_tick: options.heartbeat_tick,
        max_inflight_blocks: options.max_inflight_blocks,
        snapshot_interval_size: options.snapshot_interval_size,
    };
    let metadata = etcdraft::ConfigMetadata { consenters, options: Some(options) };
    ConsensusType { r#type: "etcdraft".into(), metadata: metadata.encode_to_vec(), state: 0 }
}

/// BFT's value of [`CONSENSUS_TYPE`]. Orderers take the batch limits from `BatchSize` and only check that these are set.
pub fn bft(options: &BftOptions) -> ConsensusType {
    let options = smartbft::Options {
        request_batch_max_count: 100,
        request_batch_max_bytes: 10 * 1024 * 1024,
        request_batch_max_interval: duration::format(options.request_batch_max_interval),
        incoming_message_buffer_size: options.incoming_message_buffer_size,
        request_pool_size: options.request_pool_size,
        request_forward_timeout: duration::format(options.request_forward_timeout),
        request_complain_timeout: duration::format(options.request_complain_timeout),
        request_auto_remove_timeout: duration::format(options.request_auto_remove_timeout),
        view_change_resend_interval: duration::format(options.view_change_resend_interval),
        view_change_timeout: duration::format(options.view_change_timeout),
        leader_heartbeat_timeout: duration::format(options.leader_heartbeat_timeout),
        leader_heartbeat_count: options.leader_heartbeat_count,
        collect_timeout: duration::format(options.collect_timeout),
        ..Default::default()
    };
    ConsensusType { r#type: "BFT".into(), metadata: options.encode_to_vec(), state: 0 }
}

/// Value of [`BATCH_SIZE`].
pub fn batch_size(channel: &ChannelDefinition) -> BatchSize {
    BatchSize {
        max_message_count: channel.batch.max_message_count,
        absolute_max_bytes: channel.batch.absolute_max_bytes,
        preferred_max_bytes: channel.batch.preferred_max_bytes,
    }
}

/// Value of [`CAPABILITIES`].
pub fn capability(level: &str) -> Capabilities {
    Capabilities { capabilities: [(level.to_owned(), Capability {})].into() }
}

/// Value of [`ENDPOINTS`].
pub fn addresses(endpoints: &[Endpoint]) -> OrdererAddresses {
    OrdererAddresses { addresses: endpoints.iter().map(ToString::to_string).collect() }
}

/// Value of [`ANCHOR_PEERS`].
pub fn anchor_peers(endpoints: &[Endpoint]) -> AnchorPeers {
    let anchor_peers = endpoints.iter().map(|e| AnchorPeer { host: e.host.clone(), port: i32::from(e.port) }).collect();
    AnchorPeers { anchor_peers }
}

impl RaftConsenter {
    /// The consenter as the configuration has it.
    pub fn message(&self) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: self.endpoint.host.clone(),
            port: self.endpoint.port.into(),
            client_tls_cert: self.tls_certificate.clone().into_bytes(),
            server_tls_cert: self.tls_certificate.clone().into_bytes(),
        }
    }
}

impl BftConsenter {
    /// The consenter under its id.
    pub fn numbered(&self, id: u32) -> Consenter {
        Consenter {
            id,
            host: self.endpoint.host.clone(),
            port: self.endpoint.port.into(),
            msp_id: self.msp_id.clone(),
            identity: self.identity.clone().into_bytes(),
            client_tls_cert: self.tls_certificate.clone().into_bytes(),
            server_tls_cert: self.tls_certificate.clone().into_bytes(),
        }
    }
}

fn group() -> ConfigGroup {
    ConfigGroup { mod_policy: ADMINS.into(), ..Default::default() }
}

fn put_meta_policies(group: &mut ConfigGroup) {
    put_policy(group, READERS, implicit_meta(Rule::Any, READERS));
    put_policy(group, WRITERS, implicit_meta(Rule::Any, WRITERS));
    put_policy(group, ADMINS, implicit_meta(Rule::Majority, ADMINS));
}
