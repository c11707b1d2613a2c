//! Consenters come, change and go one at a time.
//!
//! A renewed certificate with the same key is the same consenter and asks for no update: orderers compare public keys.
//!
//! Raft: where clients reach an orderer is changed after it has become a consenter, and before it ceases to be one.
//! BFT: the consenters, the block validation policy that follows from them and where they are reached change together.

use prost::Message;

use crate::Endpoint;
use crate::config_rules::value;
use crate::config_tree::{CONSENSUS_TYPE, ENDPOINTS, ORDERER, ORDERERS, bft, put_bft_consenters, put_value, raft};
use crate::definition::{BftConsenter, BftOptions, ChannelDefinition, Consensus, RaftConsenter, RaftOptions};
use crate::duration;
use crate::identity::known_by;
use crate::proto::common::{ConfigGroup, Consenter, OrdererAddresses, Orderers};
use crate::proto::orderer::ConsensusType;
use crate::proto::{etcdraft, smartbft};
use crate::view::endpoint;

use super::edits::{Edit, org_mut, put_endpoints, section_mut};

/// A consenter as both sides of the comparison have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    endpoint: Endpoint,
    /// What orderers know its TLS certificate by.
    tls: Vec<u8>,
    /// Whatever else is said about it.
    rest: (String, Vec<u8>),
}

/// What happens to one consenter. Positions are those in the declared list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Add(usize),
    Replace { old: Member, new: usize },
    Remove(Member),
}

fn changes(current: &[Member], desired: &[Member], silent: &[Endpoint]) -> Vec<Change> {
    let mut left: Vec<&Member> = current.iter().collect();
    let mut partner = vec![None; desired.len()];
    // The certificate is what a consenter is known by; its address only if no certificate fits.
    let same: [fn(&Member, &Member) -> bool; 2] = [|a, b| a.tls == b.tls, |a, b| a.endpoint == b.endpoint];
    for same in same {
        for (at, wanted) in desired.iter().enumerate().filter(|(at, _)| partner[*at].is_none()).collect::<Vec<_>>() {
            if let Some(found) = left.iter().position(|m| same(m, wanted)) {
                partner[at] = Some(left.remove(found));
            }
        }
    }
    let pairs = || partner.iter().enumerate();
    let replaced = pairs().filter_map(|(new, old)| {
        old.filter(|old| **old != desired[new]).map(|old| Change::Replace { old: old.clone(), new })
    });
    let added = pairs().filter(|(_, old)| old.is_none()).map(|(new, _)| Change::Add(new));
    let (lost, leaving): (Vec<&Member>, Vec<&Member>) =
        left.into_iter().partition(|member| silent.contains(&member.endpoint));
    let remove = |members: Vec<&Member>| members.into_iter().cloned().map(Change::Remove).collect::<Vec<_>>();
    // Those that are lost first: orderers take no other change that leaves fewer of them than a quorum. Then new ones, so
    // that there are never fewer that work than before and after.
    remove(lost).into_iter().chain(replaced).chain(added).chain(remove(leaving)).collect()
}

/// The edits of the consenters, one for each that differs.
pub fn edits<'a>(
    orderer: &ConfigGroup,
    desired: &'a ChannelDefinition,
    silent: &[Endpoint],
) -> Result<Vec<Edit<'a>>, String> {
    match &desired.consensus {
        Consensus::Raft { consenters, .. } => {
            let current = raft_metadata(orderer)?.consenters;
            let current: Vec<_> = current.iter().map(raft_member).collect::<Result<_, _>>()?;
            let wanted: Vec<_> = consenters.iter().map(wanted_raft).collect::<Result<_, _>>()?;
            Ok(changes(&current, &wanted, silent).into_iter().flat_map(|c| raft_edits(c, consenters)).collect())
        }
        Consensus::Bft { consenters, .. } => {
            let current = value::<Orderers>(orderer, ORDERERS)?.consenter_mapping;
            let current: Vec<_> = current.iter().map(bft_member).collect::<Result<_, _>>()?;
            let wanted: Vec<_> = consenters.iter().map(wanted_bft).collect::<Result<_, _>>()?;
            let changes = changes(&current, &wanted, silent).into_iter();
            Ok(changes.map(|c| bft_edit(c, consenters, desired)).collect())
        }
    }
}

fn describe(change: &Change, endpoint: impl Fn(usize) -> Endpoint) -> (String, Endpoint) {
    match change {
        Change::Add(new) => (format!("add consenter {}", endpoint(*new)), endpoint(*new)),
        Change::Replace { new, .. } => (format!("change consenter {}", endpoint(*new)), endpoint(*new)),
        Change::Remove(old) => (format!("remove consenter {}", old.endpoint), old.endpoint.clone()),
    }
}

fn raft_edits(change: Change, wanted: &[RaftConsenter]) -> Vec<Edit<'_>> {
    let (description, endpoint) = describe(&change, |at| wanted[at].endpoint.clone());
    let mut edits = Vec::new();
    if matches!(change, Change::Remove(_)) {
        edits.push(forget_endpoint(endpoint.clone()));
    }
    let mut edit = Edit::new(description, move |channel| {
        let orderer = section_mut(channel, ORDERER)?;
        let mut metadata = raft_metadata(orderer)?;
        let position = |of: &Member| {
            let at = metadata.consenters.iter().position(|c| raft_member(c).is_ok_and(|m| m == *of));
            at.ok_or_else(|| format!("consenter {} is not there", of.endpoint))
        };
        match &change {
            Change::Add(new) => metadata.consenters.push(wanted[*new].message()),
            Change::Replace { old, new } => {
                let at = position(old)?;
                metadata.consenters[at] = wanted[*new].message();
            }
            Change::Remove(old) => {
                let at = position(old)?;
                metadata.consenters.remove(at);
            }
        }
        put_metadata(orderer, metadata.encode_to_vec())
    });
    edit.consenter = Some(endpoint);
    edits.push(edit);
    edits
}

/// Takes an orderer that is about to leave from where clients look, if its organization has others.
fn forget_endpoint<'a>(endpoint: Endpoint) -> Edit<'a> {
    Edit::new(format!("stop sending clients to {endpoint}"), move |channel| {
        let gone = endpoint.to_string();
        for org in section_mut(channel, ORDERER)?.groups.values_mut() {
            let addresses: OrdererAddresses = value(org, ENDPOINTS)?;
            let kept: Vec<_> = addresses.addresses.iter().filter(|a| **a != gone).cloned().collect();
            if !kept.is_empty() && kept.len() < addresses.addresses.len() {
                put_value(org, ENDPOINTS, &OrdererAddresses { addresses: kept });
            }
        }
        Ok(())
    })
}

fn bft_edit<'a>(change: Change, wanted: &'a [BftConsenter], desired: &'a ChannelDefinition) -> Edit<'a> {
    let (description, endpoint) = describe(&change, |at| wanted[at].endpoint.clone());
    let mut edit = Edit::new(description, move |channel| {
        let orderer = section_mut(channel, ORDERER)?;
        let mut all = value::<Orderers>(orderer, ORDERERS)?.consenter_mapping;
        let position = |of: &Member| {
            let at = all.iter().position(|c| bft_member(c).is_ok_and(|m| m == *of));
            at.ok_or_else(|| format!("consenter {} is not there", of.endpoint))
        };
        let org = match &change {
            Change::Add(new) => {
                let id = all.iter().map(|c| c.id).max().unwrap_or_default() + 1;
                all.push(wanted[*new].numbered(id));
                wanted[*new].msp_id.clone()
            }
            Change::Replace { old, new } => {
                let at = position(old)?;
                all[at] = wanted[*new].numbered(all[at].id);
                wanted[*new].msp_id.clone()
            }
            Change::Remove(old) => {
                let at = position(old)?;
                all.remove(at).msp_id
            }
        };
        put_bft_consenters(orderer, all);
        match desired.orderer_orgs.iter().find(|o| o.msp.id == org) {
            Some(declared) => put_endpoints(org_mut(channel, ORDERER, &org)?, &declared.endpoints),
            None => Ok(()),
        }
    });
    edit.consenter = Some(endpoint);
    edit
}

/// Sets the options of consensus, unless they mean the same already. What a definition has no word for stays.
pub fn set_options(orderer: &mut ConfigGroup, desired: &Consensus) -> Result<(), String> {
    match desired {
        Consensus::Raft { options, .. } => {
            let metadata = raft_metadata(orderer)?;
            if metadata.options.as_ref().is_some_and(|actual| raft_options(actual).as_ref() == Some(options)) {
                return Ok(());
            }
            put_metadata(orderer, raft(metadata.consenters, options).metadata)
        }
        Consensus::Bft { options, .. } => {
            let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE)?;
            let actual = smartbft::Options::decode(consensus.metadata.as_slice())
                .map_err(|e| format!("options of BFT are not readable: {e}"))?;
            if bft_options(&actual).as_ref() == Some(options) {
                return Ok(());
            }
            let wanted = smartbft::Options::decode(bft(options).metadata.as_slice())
                .map_err(|e| format!("options of BFT are not readable: {e}"))?;
            let merged = smartbft::Options {
                request_batch_max_count: actual.request_batch_max_count,
                request_batch_max_bytes: actual.request_batch_max_bytes,
                request_max_bytes: actual.request_max_bytes,
                sync_on_start: actual.sync_on_start,
                speed_up_view_change: actual.speed_up_view_change,
                leader_rotation: actual.leader_rotation,
                decisions_per_leader: actual.decisions_per_leader,
                ..wanted
            };
            put_metadata(orderer, merged.encode_to_vec())
        }
    }
}

fn put_metadata(orderer: &mut ConfigGroup, metadata: Vec<u8>) -> Result<(), String> {
    let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE)?;
    put_value(orderer, CONSENSUS_TYPE, &ConsensusType { metadata, ..consensus });
    Ok(())
}

fn raft_metadata(orderer: &ConfigGroup) -> Result<etcdraft::ConfigMetadata, String> {
    let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE)?;
    etcdraft::ConfigMetadata::decode(consensus.metadata.as_slice())
        .map_err(|e| format!("metadata of Raft is not readable: {e}"))
}

fn raft_options(options: &etcdraft::Options) -> Option<RaftOptions> {
    Some(RaftOptions {
        tick_interval: duration::parse(&options.tick_interval)?,
        election_tick: options.election_tick,
        heartbeat_tick: options.heartbeat_tick,
        max_inflight_blocks: options.max_inflight_blocks,
        snapshot_interval_size: options.snapshot_interval_size,
    })
}

fn bft_options(options: &smartbft::Options) -> Option<BftOptions> {
    Some(BftOptions {
        request_batch_max_interval: duration::parse(&options.request_batch_max_interval)?,
        incoming_message_buffer_size: options.incoming_message_buffer_size,
        request_pool_size: options.request_pool_size,
        request_forward_timeout: duration::parse(&options.request_forward_timeout)?,
        request_complain_timeout: duration::parse(&options.request_complain_timeout)?,
        request_auto_remove_timeout: duration::parse(&options.request_auto_remove_timeout)?,
        view_change_resend_interval: duration::parse(&options.view_change_resend_interval)?,
        view_change_timeout: duration::parse(&options.view_change_timeout)?,
        leader_heartbeat_timeout: duration::parse(&options.leader_heartbeat_timeout)?,
        leader_heartbeat_count: options.leader_heartbeat_count,
        collect_timeout: duration::parse(&options.collect_timeout)?,
    })
}

fn raft_member(consenter: &etcdraft::Consenter) -> Result<Member, String> {
    let tls = known_by(&consenter.client_tls_cert)?;
    let server = known_by(&consenter.server_tls_cert)?;
    Ok(Member { endpoint: endpoint(&consenter.host, consenter.port)?, tls, rest: (String::new(), server) })
}

fn wanted_raft(consenter: &RaftConsenter) -> Result<Member, String> {
    raft_member(&consenter.message())
}

fn bft_member(consenter: &Consenter) -> Result<Member, String> {
    let rest = (consenter.msp_id.clone(), known_by(&consenter.identity)?);
    let tls = known_by(&consenter.client_tls_cert)?;
    Ok(Member { endpoint: endpoint(&consenter.host, consenter.port)?, tls, rest })
}

fn wanted_bft(consenter: &BftConsenter) -> Result<Member, String> {
    bft_member(&consenter.numbered(0))
}
