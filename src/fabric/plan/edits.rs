//! The edits of a configuration tree that a definition asks for, in their order.
//!
//! The order: who is trusted first (MSPs, new orderer organizations), then consenters and where they are reached, limits
//! and rules, new hospitals, and last whoever leaves. An edit that finds its aim reached changes nothing.

use std::collections::BTreeSet;

use prost::Message;

use crate::Endpoint;
use crate::config_rules::value;
use crate::config_tree::{
    ANCHOR_PEERS, APPLICATION, BATCH_SIZE, BATCH_TIMEOUT, CAPABILITIES, CONSENSUS_TYPE, ENDORSEMENT, ENDPOINTS,
    LIFECYCLE_ENDORSEMENT, MSP, ORDERER, addresses, anchor_peers, application_org, batch_size, capability, orderer_org,
    put_policy, put_value,
};
use crate::definition::{ApplicationOrg, ChannelDefinition, OrdererOrg};
use crate::duration;
use crate::error::LedgerError;
use crate::msp::{self, MspDefinition};
use crate::policy::implicit_meta;
use crate::proto::common::{ConfigGroup, OrdererAddresses};
use crate::proto::msp::{FabricMspConfig, MspConfig};
use crate::proto::orderer::{BatchTimeout, ConsensusType};
use crate::proto::protos::AnchorPeers;

use super::consenters;

/// An edit: what it is for, and how it changes a tree.
pub struct Edit<'a> {
    pub description: String,
    pub apply: Apply<'a>,
    pub consenter: Option<Endpoint>,
}

pub type Apply<'a> = Box<dyn Fn(&mut ConfigGroup) -> Result<(), String> + 'a>;

impl<'a> Edit<'a> {
    pub fn new(description: impl Into<String>, apply: impl Fn(&mut ConfigGroup) -> Result<(), String> + 'a) -> Self {
        Self { description: description.into(), apply: Box::new(apply), consenter: None }
    }
}

/// All edits from `current` to `desired`; consenters at the addresses in `silent` leave before any other comes or goes.
pub fn edits<'a>(
    current: &ConfigGroup,
    desired: &'a ChannelDefinition,
    silent: &[Endpoint],
) -> Result<Vec<Edit<'a>>, LedgerError> {
    desired.validate()?;
    let invalid = |e: String| LedgerError::Invalid(format!("channel {}: {e}", desired.channel_name));
    let orderer = section(current, ORDERER).map_err(invalid)?;
    let application = section(current, APPLICATION).map_err(invalid)?;
    let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE).map_err(invalid)?;
    if consensus.r#type != desired.consensus.type_name() {
        let (is, wanted) = (consensus.r#type, desired.consensus.type_name());
        return Err(invalid(format!(
            "consensus type is {is} and cannot become {wanted}: create a new channel instead"
        )));
    }
    let mut edits = msp_edits(desired);
    edits.extend(desired.orderer_orgs.iter().filter(|o| !orderer.groups.contains_key(&o.msp.id)).map(add_orderer_org));
    edits.extend(consenters::edits(orderer, desired, silent).map_err(invalid)?);
    edits.extend(desired.orderer_orgs.iter().filter(|o| orderer.groups.contains_key(&o.msp.id)).map(set_endpoints));
    edits.extend(limits(desired));
    edits.extend(levels(desired));
    let known = |o: &&ApplicationOrg| application.groups.contains_key(&o.msp.id);
    edits.extend(desired.application_orgs.iter().filter(|o| !known(o)).map(add_hospital));
    edits.extend(desired.application_orgs.iter().filter(known).map(set_anchor_peers));
    edits.extend(rules(desired));
    edits.extend(departures(APPLICATION, application, desired.application_orgs.iter().map(|o| &o.msp)));
    edits.extend(departures(ORDERER, orderer, desired.orderer_orgs.iter().map(|o| &o.msp)));
    Ok(edits)
}

/// A section of the channel group, to read.
pub fn section<'g>(channel_group: &'g ConfigGroup, name: &str) -> Result<&'g ConfigGroup, String> {
    channel_group.groups.get(name).ok_or_else(|| format!("the configuration has no group {name}"))
}

/// A section of the channel group, to change.
pub fn section_mut<'g>(channel_group: &'g mut ConfigGroup, name: &str) -> Result<&'g mut ConfigGroup, String> {
    channel_group.groups.get_mut(name).ok_or_else(|| format!("the configuration has no group {name}"))
}

/// An organization of a section, to change.
pub fn org_mut<'g>(channel_group: &'g mut ConfigGroup, name: &str, org: &str) -> Result<&'g mut ConfigGroup, String> {
    let section = section_mut(channel_group, name)?;
    section.groups.get_mut(org).ok_or_else(|| format!("group {name} has no organization {org}"))
}

/// One edit per organization, in all groups it is in: orderers refuse two versions of one MSP.
fn msp_edits(desired: &ChannelDefinition) -> Vec<Edit<'_>> {
    let orderers = desired.orderer_orgs.iter().map(|o| &o.msp);
    let mut seen = BTreeSet::new();
    let orgs = orderers.chain(desired.application_orgs.iter().map(|o| &o.msp)).filter(|m| seen.insert(&m.id));
    orgs.map(|msp| {
        Edit::new(format!("change the certificates that vouch for {}", msp.id), move |channel| {
            for section in [ORDERER, APPLICATION] {
                if let Ok(org) = org_mut(channel, section, &msp.id) {
                    set_msp(org, msp)?;
                }
            }
            Ok(())
        })
    })
    .collect()
}

fn set_msp(org: &mut ConfigGroup, wanted: &MspDefinition) -> Result<(), String> {
    let actual = msp::decode(&value::<MspConfig>(org, MSP)?)?;
    if sorted(actual) != sorted(wanted.fabric_config()) {
        put_value(org, MSP, &wanted.config());
    }
    Ok(())
}

/// The order of certificates has no meaning.
fn sorted(mut msp: FabricMspConfig) -> FabricMspConfig {
    for list in [
        &mut msp.root_certs,
        &mut msp.intermediate_certs,
        &mut msp.tls_root_certs,
        &mut msp.tls_intermediate_certs,
        &mut msp.revocation_list,
    ] {
        list.sort();
    }
    msp
}

fn add_orderer_org(org: &OrdererOrg) -> Edit<'_> {
    Edit::new(format!("let {} run orderers", org.msp.id), |channel| {
        section_mut(channel, ORDERER)?.groups.insert(org.msp.id.clone(), orderer_org(org));
        Ok(())
    })
}

fn set_endpoints(org: &OrdererOrg) -> Edit<'_> {
    Edit::new(format!("change where orderers of {} are reached", org.msp.id), |channel| {
        put_endpoints(org_mut(channel, ORDERER, &org.msp.id)?, &org.endpoints)
    })
}

/// Sets an orderer organization's endpoints, unless they are the same but for their order.
pub fn put_endpoints(org: &mut ConfigGroup, endpoints: &[Endpoint]) -> Result<(), String> {
    let wanted = addresses(endpoints);
    let actual = match org.values.contains_key(ENDPOINTS) {
        true => value::<OrdererAddresses>(org, ENDPOINTS)?,
        false => OrdererAddresses::default(),
    };
    if set(&actual.addresses) != set(&wanted.addresses) {
        put_value(org, ENDPOINTS, &wanted);
    }
    Ok(())
}

fn set(texts: &[String]) -> BTreeSet<&str> {
    texts.iter().map(String::as_str).collect()
}

fn limits(desired: &ChannelDefinition) -> [Edit<'_>; 2] {
    let consensus = Edit::new("change the options of consensus", |channel| {
        consenters::set_options(section_mut(channel, ORDERER)?, &desired.consensus)
    });
    let batch = Edit::new("change how transactions are collected into blocks", |channel| {
        let orderer = section_mut(channel, ORDERER)?;
        put_if_changed(orderer, BATCH_SIZE, &batch_size(desired))?;
        let actual: BatchTimeout = value(orderer, BATCH_TIMEOUT)?;
        if duration::parse(&actual.timeout) != Some(desired.batch.timeout) {
            put_value(orderer, BATCH_TIMEOUT, &BatchTimeout { timeout: duration::format(desired.batch.timeout) });
        }
        Ok(())
    });
    [consensus, batch]
}

fn levels(desired: &ChannelDefinition) -> [Edit<'_>; 3] {
    let levels = &desired.capabilities;
    [
        Edit::new(format!("raise the channel's capability to {}", levels.channel), |channel| {
            put_if_changed(channel, CAPABILITIES, &capability(&levels.channel))
        }),
        Edit::new(format!("raise the orderers' capability to {}", levels.orderer), |channel| {
            put_if_changed(section_mut(channel, ORDERER)?, CAPABILITIES, &capability(&levels.orderer))
        }),
        Edit::new(format!("raise the hospitals' capability to {}", levels.application), |channel| {
            put_if_changed(section_mut(channel, APPLICATION)?, CAPABILITIES, &capability(&levels.application))
        }),
    ]
}

/// Sets a value unless it means the same already; then its bytes stay.
fn put_if_changed<T>(group: &mut ConfigGroup, key: &str, wanted: &T) -> Result<(), String>
where
    T: Message + Default + PartialEq,
{
    if !group.values.contains_key(key) || value::<T>(group, key)? != *wanted {
        put_value(group, key, wanted);
    }
    Ok(())
}

fn add_hospital(org: &ApplicationOrg) -> Edit<'_> {
    Edit::new(format!("add hospital {}", org.msp.id), |channel| {
        section_mut(channel, APPLICATION)?.groups.insert(org.msp.id.clone(), application_org(org));
        Ok(())
    })
}

fn set_anchor_peers(org: &ApplicationOrg) -> Edit<'_> {
    Edit::new(format!("change the anchor peers of {}", org.msp.id), |channel| {
        let group = org_mut(channel, APPLICATION, &org.msp.id)?;
        let actual = match group.values.contains_key(ANCHOR_PEERS) {
            true => value::<AnchorPeers>(group, ANCHOR_PEERS)?,
            false => AnchorPeers::default(),
        };
        let wanted = anchor_peers(&org.anchor_peers);
        let key = |p: &AnchorPeers| p.anchor_peers.iter().map(|a| (a.host.clone(), a.port)).collect::<BTreeSet<_>>();
        if key(&actual) == key(&wanted) {
            return Ok(());
        }
        if wanted.anchor_peers.is_empty() {
            group.values.remove(ANCHOR_PEERS);
        } else {
            put_value(group, ANCHOR_PEERS, &wanted);
        }
        Ok(())
    })
}

fn rules(desired: &ChannelDefinition) -> [Edit<'_>; 2] {
    let set = |key: &'static str, rule| {
        move |channel: &mut ConfigGroup| {
            let application = section_mut(channel, APPLICATION)?;
            let wanted = implicit_meta(rule, ENDORSEMENT);
            if application.policies.get(key).and_then(|p| p.policy.as_ref()) != Some(&wanted) {
                put_policy(application, key, wanted);
            }
            Ok(())
        }
    };
    [
        Edit::new(
            "change how many hospitals must approve a chaincode",
            set(LIFECYCLE_ENDORSEMENT, desired.policies.lifecycle_endorsement),
        ),
        Edit::new(
            "change how many hospitals must endorse a transaction",
            set(ENDORSEMENT, desired.policies.endorsement),
        ),
    ]
}

fn departures<'a>(
    section: &'static str,
    current: &ConfigGroup,
    stay: impl Iterator<Item = &'a MspDefinition>,
) -> Vec<Edit<'a>> {
    let stay: BTreeSet<&str> = stay.map(|m| m.id.as_str()).collect();
    let leave = current.groups.keys().filter(|name| !stay.contains(name.as_str())).cloned();
    let what = if section == ORDERER { "orderers' organization" } else { "hospital" };
    leave
        .map(|name| {
            Edit::new(format!("remove {what} {name}"), move |channel| {
                section_mut(channel, section)?.groups.remove(&name);
                Ok(())
            })
        })
        .collect()
}
