//! A configuration, read and found usable: what a node needs to know of a channel.

use std::time::Duration;

use prost::Message;

use super::consenters::Consenters;
use super::msp::Msp;
use super::policy::{Msps, PolicyTree, SignedData};
use crate::fabric::proto::common::{
    Block, BlockMetadataIndex, Capabilities, Config, ConfigGroup, HashingAlgorithm, IdentifierHeader, Metadata,
    OrdererAddresses, Orderers, SignatureHeader,
};
use crate::fabric::proto::msp::SerializedIdentity;
use crate::fabric::proto::orderer::{BatchSize, BatchTimeout, ConsensusType, consensus_type::State};
use crate::fabric::{blocks, duration, msp};

/// An organisation of the orderer or application group.
#[derive(Debug, Clone)]
pub struct Organization {
    /// Its group's name.
    pub name: String,
    /// Its MSP's id.
    pub msp_id: String,
    /// `host:port` of its orderers; empty in the application group.
    pub endpoints: Vec<String>,
    /// TLS CAs, PEM.
    pub tls_roots: Vec<Vec<u8>>,
}

/// The orderer group's values.
#[derive(Debug, Clone)]
pub struct OrdererConfig {
    /// `etcdraft` or `BFT`.
    pub consensus: ConsensusType,
    /// The consenters, of either kind.
    pub consenters: Consenters,
    /// Limits of a block.
    pub batch_size: BatchSize,
    /// When a block is cut that is not full.
    pub batch_timeout: Duration,
    /// Orderer organisations.
    pub organizations: Vec<Organization>,
}

impl OrdererConfig {
    /// Only configuration updates are taken.
    pub fn in_maintenance(&self) -> bool {
        self.consensus.state == i32::from(State::Maintenance)
    }

    /// All endpoints with the TLS CAs of their organisation.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &[Vec<u8>])> {
        self.organizations.iter().flat_map(|org| org.endpoints.iter().map(|e| (e.as_str(), org.tls_roots.as_slice())))
    }
}

/// A channel's configuration with everything derived from it.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The channel's name.
    pub channel: String,
    /// The configuration.
    pub config: Config,
    /// Its policies.
    pub policies: PolicyTree,
    /// Its organisations' MSPs.
    pub msps: Msps,
    /// The orderer group.
    pub orderer: OrdererConfig,
    /// Application organisations; `None` without an application group.
    pub application: Option<Vec<Organization>>,
}

impl Bundle {
    /// Read a configuration block.
    ///
    /// # Errors
    /// Fabric's words for what is wrong.
    pub fn of_block(block: &Block) -> Result<Self, String> {
        let (channel, config) = blocks::config(block)?;
        Self::new(&channel, config)
    }

    /// Read a configuration.
    ///
    /// # Errors
    /// Fabric's words for what is wrong.
    pub fn new(channel: &str, config: Config) -> Result<Self, String> {
        let group = config.channel_group.as_ref().ok_or("config must contain a channel group")?;
        check_channel(group).map_err(|e| format!("initializing channelconfig failed: {e}"))?;
        let mut msps = Msps::new();
        let sub_group = |name: &str, e: String| {
            format!("initializing channelconfig failed: could not create channel {name} sub-group config: {e}")
        };
        let application = match group.groups.get("Application") {
            Some(group) => Some(application(group, &mut msps).map_err(|e| sub_group("Application", e))?),
            None => None,
        };
        let orderer = group.groups.get("Orderer").ok_or("config does not contain orderer config")?;
        let orderer = orderer_config(orderer, &mut msps).map_err(|e| sub_group("Orderer", e))?;
        let policies = PolicyTree::new(group).map_err(|e| format!("initializing policymanager failed: {e}"))?;
        check_name(channel).map_err(|e| format!("initializing configtx manager failed: bad channel ID: {e}"))?;
        Ok(Self { channel: channel.to_owned(), policies, msps, orderer, application, config })
    }

    /// Sequence of the configuration.
    pub fn sequence(&self) -> u64 {
        self.config.sequence
    }

    /// Whether a policy (`/Channel/Writers`) holds for these signatures.
    ///
    /// # Errors
    /// Fabric's words for what is missing.
    pub fn check(&self, policy: &str, signatures: &[SignedData]) -> Result<(), String> {
        let relative = policy.strip_prefix("/Channel/").ok_or_else(|| format!("could not find policy {policy}"))?;
        self.policies.evaluate(relative, &self.msps, signatures)
    }

    /// Whether the block's signatures satisfy the channel's block validation policy.
    ///
    /// # Errors
    /// Why the block is not trusted.
    pub fn check_block(&self, block: &Block) -> Result<(), String> {
        let header = blocks::header_bytes(block.header.as_ref().ok_or("block has no header")?);
        let entries = block.metadata.as_ref().map(|m| m.metadata.as_slice()).unwrap_or_default();
        let entry = entries.get(BlockMetadataIndex::Signatures as usize).ok_or("no signatures in block metadata")?;
        let metadata = Metadata::decode(entry.as_slice())
            .map_err(|e| format!("error unmarshalling signatures from metadata: {e}"))?;
        let mut signatures = Vec::new();
        for signature in metadata.signatures {
            let (identity, signer) = if signature.signature_header.is_empty() {
                let signer = IdentifierHeader::decode(signature.identifier_header.as_slice())
                    .map_err(|e| format!("failed unmarshalling identifier header: {e}"))?;
                let Some(identity) = self.orderer.consenters.identity(signer.identifier) else { continue };
                (identity, signature.identifier_header)
            } else {
                let signer = SignatureHeader::decode(signature.signature_header.as_slice())
                    .map_err(|e| format!("failed unmarshalling signature header: {e}"))?;
                (signer.creator, signature.signature_header)
            };
            let data = [metadata.value.as_slice(), &signer, &header].concat();
            signatures.push(SignedData { data, identity, signature: signature.signature });
        }
        self.check("/Channel/Orderer/BlockValidation", &signatures)
    }

    /// Whether `next` may follow this configuration.
    ///
    /// # Errors
    /// Fabric's words for what must not change.
    pub fn check_successor(&self, next: &Self) -> Result<(), String> {
        let (old, new) = (&self.orderer.consensus, &next.orderer.consensus);
        if old.r#type != new.r#type {
            return Err(format!(
                "attempted to change consensus type from {} to {}, transition not supported",
                old.r#type, new.r#type
            ));
        }
        same_msp_ids("orderer", &self.orderer.organizations, &next.orderer.organizations)?;
        match (&self.application, &next.application) {
            (Some(old), Some(new)) => same_msp_ids("application", old, new),
            (Some(_), None) => Err("current config has application section, but new config does not".into()),
            (None, _) => Ok(()),
        }
    }
}

/// Fabric's rule for channel names.
///
/// # Errors
/// Fabric's words.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    if name.is_empty() {
        Err("channel ID illegal, cannot be empty".into())
    } else if name.len() > 249 {
        Err("channel ID illegal, cannot be longer than 249".into())
    } else if !name.as_bytes()[0].is_ascii_lowercase() || !name.bytes().all(allowed) {
        Err(format!("'{name}' contains illegal characters"))
    } else {
        Ok(())
    }
}

/// BFT consenters, by their mapping.
pub fn serialized_identity(msp_id: &str, pem: &[u8]) -> Vec<u8> {
    SerializedIdentity { mspid: msp_id.to_owned(), id_bytes: pem.to_vec() }.encode_to_vec()
}

fn same_msp_ids(kind: &str, old: &[Organization], new: &[Organization]) -> Result<(), String> {
    for org in old {
        let Some(next) = new.iter().find(|next| next.name == org.name) else { continue };
        if next.msp_id != org.msp_id {
            return Err(format!(
                "{kind} org {} attempted to change MSP ID from {} to {}",
                org.name, org.msp_id, next.msp_id
            ));
        }
    }
    Ok(())
}

fn value<T: Message + Default>(group: &ConfigGroup, key: &str) -> Result<T, String> {
    match group.values.get(key) {
        Some(value) => {
            T::decode(value.value.as_slice()).map_err(|e| format!("failed to deserialize values: {key}: {e}"))
        }
        None => Ok(T::default()),
    }
}

fn check_channel(group: &ConfigGroup) -> Result<(), String> {
    let hash: HashingAlgorithm = value(group, "HashingAlgorithm")?;
    if hash.name != "SHA256" {
        return Err(format!("Unknown hashing algorithm type: {}", hash.name));
    }
    let levels = ["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"];
    let capabilities = check_capabilities("Channel", group, &levels)?;
    let addresses: OrdererAddresses = value(group, "OrdererAddresses")?;
    if capabilities.capabilities.contains_key("V3_0") && !addresses.addresses.is_empty() {
        return Err(
            "global OrdererAddresses are not allowed with V3_0 capability, use org specific addresses only".into()
        );
    }
    match group.groups.keys().find(|name| *name != "Application" && *name != "Orderer") {
        Some(name) => Err(format!("Disallowed channel group: {name}")),
        None => Ok(()),
    }
}

fn check_capabilities(kind: &str, group: &ConfigGroup, known: &[&str]) -> Result<Capabilities, String> {
    let capabilities: Capabilities = value(group, "Capabilities")?;
    match capabilities.capabilities.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("{kind} capability {name} is required but not supported")),
        None => Ok(capabilities),
    }
}

fn application(group: &ConfigGroup, msps: &mut Msps) -> Result<Vec<Organization>, String> {
    let levels = ["V1_1", "V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"];
    check_capabilities("Application", group, &levels)?;
    group.groups.iter().map(|(name, group)| organization(name, group, msps)).collect()
}

fn organization(name: &str, group: &ConfigGroup, msps: &mut Msps) -> Result<Organization, String> {
    if !group.groups.is_empty() {
        return Err("organizations do not support sub-groups".into());
    }
    let config = msp::decode(&value(group, "MSP")?)?;
    let msp = Msp::new(&config).map_err(|e| format!("setting up the MSP manager failed: {e}"))?;
    if msp.name().is_empty() {
        return Err(format!("MSP for org {name} has empty MSP ID"));
    }
    let addresses: OrdererAddresses = value(group, "Endpoints")?;
    let organization = Organization {
        name: name.to_owned(),
        msp_id: msp.name().to_owned(),
        endpoints: addresses.addresses,
        tls_roots: msp.tls_roots.clone(),
    };
    msps.insert(organization.msp_id.clone(), msp);
    Ok(organization)
}

fn orderer_config(group: &ConfigGroup, msps: &mut Msps) -> Result<OrdererConfig, String> {
    let batch_size: BatchSize = value(group, "BatchSize")?;
    check_batch_size(&batch_size)?;
    let timeout: BatchTimeout = value(group, "BatchTimeout")?;
    let batch_timeout = duration::parse(&timeout.timeout).ok_or_else(|| {
        format!("Attempted to set the batch timeout to a invalid value: time: invalid duration {:?}", timeout.timeout)
    })?;
    if batch_timeout.is_zero() {
        return Err("Attempted to set the batch timeout to a non-positive value: 0s".into());
    }
    check_capabilities("Orderer", group, &["V1_1", "V1_4_2", "V2_0"])?;
    let organizations: Vec<Organization> =
        group.groups.iter().map(|(name, group)| organization(name, group, msps)).collect::<Result<_, _>>()?;
    let missing: Vec<_> = organizations.iter().filter(|o| o.endpoints.is_empty()).map(|o| o.name.as_str()).collect();
    if !missing.is_empty() {
        return Err(format!("some orderer organizations endpoints are empty: [{}]", missing.join(" ")));
    }
    let consensus: ConsensusType = value(group, "ConsensusType")?;
    let mapping: Orderers = value(group, "Orderers")?;
    let consenters = Consenters::new(&consensus, mapping.consenter_mapping)?;
    Ok(OrdererConfig { consensus, consenters, batch_size, batch_timeout, organizations })
}

fn check_batch_size(size: &BatchSize) -> Result<(), String> {
    for (name, value) in [
        ("max message count", size.max_message_count),
        ("absolute max bytes", size.absolute_max_bytes),
        ("preferred max bytes", size.preferred_max_bytes),
    ] {
        if value == 0 {
            return Err(format!("Attempted to set the batch size {name} to an invalid value: 0"));
        }
    }
    if size.preferred_max_bytes > size.absolute_max_bytes {
        return Err(format!(
            "Attempted to set the batch size preferred max bytes ({}) greater than the absolute max bytes ({}).",
            size.preferred_max_bytes, size.absolute_max_bytes
        ));
    }
    Ok(())
}
