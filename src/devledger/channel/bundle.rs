//! A configuration, read and found usable: what a node needs to know of a channel.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::consenters::Consenters;
use super::{SignedData, open};
use ehrnet_fabric::config_rules::{self, value};
use ehrnet_fabric::config_tree::{ANCHOR_PEERS, APPLICATION};
use ehrnet_fabric::membership::{Identity, Membership};
use ehrnet_fabric::proto::common::{
    Block, BlockMetadataIndex, Capabilities, Config, ConfigEnvelope, ConfigGroup, ConfigUpdateEnvelope, Envelope,
    HeaderType, IdentifierHeader, Metadata, OrdererAddresses, Orderers, SignatureHeader,
};
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_fabric::proto::orderer::{BatchSize, BatchTimeout, ConsensusType, consensus_type::State};
use ehrnet_fabric::proto::protos::{AcLs as Acls, AnchorPeers};
use ehrnet_fabric::{authorization, blocks, config_update, duration, msp};

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
    /// Peers that others contact first: host and port; empty in the orderer group.
    pub anchor_peers: Vec<(String, u16)>,
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
    /// Its organisations' members.
    pub members: Arc<Membership>,
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
        let failed = |e: String| format!("initializing channelconfig failed: {e}");
        let group = config.channel_group.as_ref().ok_or("config must contain a channel group")?;
        config_rules::check(group).map_err(failed)?;
        check_name(channel).map_err(|e| format!("initializing configtx manager failed: bad channel ID: {e}"))?;
        let members = Arc::new(Membership::of_channel(group).map_err(failed)?);
        let orderer = orderer_config(&group.groups["Orderer"]).map_err(failed)?;
        let application = group.groups.get("Application").map(organizations).transpose().map_err(failed)?;
        Ok(Self { channel: channel.to_owned(), members, orderer, application, config })
    }

    /// Sequence of the configuration.
    pub fn sequence(&self) -> u64 {
        self.config.sequence
    }

    /// The root of the configuration.
    pub fn root(&self) -> &ConfigGroup {
        static EMPTY: std::sync::LazyLock<ConfigGroup> = std::sync::LazyLock::new(ConfigGroup::default);
        self.config.channel_group.as_ref().unwrap_or(&EMPTY)
    }

    /// MSP ids of the application organisations.
    pub fn application_orgs(&self) -> Vec<String> {
        self.application.iter().flatten().map(|org| org.msp_id.clone()).collect()
    }

    /// Whether the configuration has a policy of this path.
    pub fn has_policy(&self, path: &str) -> bool {
        authorization::Need::of_policy(self.root(), path).is_ok()
    }

    /// Path of the policy that the configuration itself sets for a resource such as `peer/Propose`.
    pub fn acl(&self, resource: &str) -> Option<String> {
        let application = self.root().groups.get(APPLICATION).filter(|group| group.values.contains_key("ACLs"))?;
        let policy = value::<Acls>(application, "ACLs").ok()?.acls.remove(resource)?.policy_ref;
        Some(if policy.starts_with('/') { policy } else { format!("/Channel/Application/{policy}") })
    }

    /// Whether the application group has a capability such as `V2_5`.
    pub fn has_application_capability(&self, name: &str) -> bool {
        let application = self.root().groups.get(APPLICATION);
        let capabilities = application.and_then(|group| value::<Capabilities>(group, "Capabilities").ok());
        capabilities.is_some_and(|capabilities| capabilities.capabilities.contains_key(name))
    }

    /// Whether a policy (`/Channel/Writers`) holds for these signatures.
    ///
    /// # Errors
    /// Fabric's words for what is missing.
    pub fn check(&self, policy: &str, signatures: &[SignedData]) -> Result<(), String> {
        authorization::evaluate(self.root(), policy, &self.signers(signatures))
    }

    /// Those whose signatures are right, each once.
    pub fn signers(&self, signatures: &[SignedData]) -> Vec<Identity> {
        let mut signers: Vec<Identity> = Vec::new();
        for signed in signatures {
            let identity = self.members.identity(&signed.identity).and_then(|identity| {
                identity.verify(&signed.data, &signed.signature)?;
                Ok(identity)
            });
            match identity {
                Ok(identity) if !signers.iter().any(|known| known.is(&identity)) => signers.push(identity),
                Ok(_) => tracing::debug!("a second signature of one identity does not count"),
                Err(reason) => tracing::debug!(reason, "a signature does not count"),
            }
        }
        signers
    }

    /// The configuration that results from a CONFIG_UPDATE envelope.
    ///
    /// # Errors
    /// Fabric's words for why it is refused.
    pub fn propose(&self, update: &Envelope) -> Result<ConfigEnvelope, String> {
        let unreadable = |e: String| format!("error converting envelope to config update: {e}");
        let opened = open(update).map_err(unreadable)?;
        if opened.channel.r#type != i32::from(HeaderType::ConfigUpdate) {
            return Err(unreadable(format!("invalid type {}, expected CONFIG_UPDATE", opened.channel.r#type)));
        }
        let signed = ConfigUpdateEnvelope::decode(opened.data.as_slice())
            .map_err(|e| unreadable(format!("error unmarshaling message: {e}")))?;
        let config = config_update::apply_signed(&self.channel, &self.config, &signed).map_err(|e| e.0)?;
        Ok(ConfigEnvelope { config: Some(config), last_update: Some(update.clone()) })
    }

    /// Whether a config envelope is what its own last update makes of this configuration.
    ///
    /// # Errors
    /// Fabric's words for why not.
    pub fn validate(&self, envelope: &ConfigEnvelope) -> Result<(), String> {
        let config = envelope.config.as_ref().ok_or("config envelope has nil config")?;
        if config.sequence != self.sequence() + 1 {
            return Err(format!(
                "config currently at sequence {}, cannot validate config at sequence {}",
                self.sequence(),
                config.sequence
            ));
        }
        let update = envelope.last_update.as_ref().ok_or("envelope must have a Header")?;
        if self.propose(update)?.config.as_ref() != Some(config) {
            return Err("ConfigEnvelope LastUpdate did not produce the supplied config result".into());
        }
        Ok(())
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

fn organizations(section: &ConfigGroup) -> Result<Vec<Organization>, String> {
    section.groups.iter().map(|(name, group)| organization(name, group)).collect()
}

fn organization(name: &str, group: &ConfigGroup) -> Result<Organization, String> {
    let config = msp::decode(&value(group, "MSP")?)?;
    let endpoints = match group.values.contains_key("Endpoints") {
        true => value::<OrdererAddresses>(group, "Endpoints")?.addresses,
        false => Vec::new(),
    };
    let anchors = match group.values.contains_key(ANCHOR_PEERS) {
        true => value::<AnchorPeers>(group, ANCHOR_PEERS)?.anchor_peers,
        false => Vec::new(),
    };
    let anchor_peers = anchors.into_iter().filter_map(|peer| Some((peer.host, u16::try_from(peer.port).ok()?)));
    let tls_roots = config.tls_root_certs.into_iter().chain(config.tls_intermediate_certs).collect();
    Ok(Organization {
        name: name.to_owned(),
        msp_id: config.name,
        endpoints,
        tls_roots,
        anchor_peers: anchor_peers.collect(),
    })
}

fn orderer_config(group: &ConfigGroup) -> Result<OrdererConfig, String> {
    let timeout: BatchTimeout = value(group, "BatchTimeout")?;
    let consensus: ConsensusType = value(group, "ConsensusType")?;
    let mapping = match group.values.contains_key("Orderers") {
        true => value::<Orderers>(group, "Orderers")?.consenter_mapping,
        false => Vec::new(),
    };
    Ok(OrdererConfig {
        consenters: Consenters::new(&consensus, mapping)?,
        consensus,
        batch_size: value::<BatchSize>(group, "BatchSize")?,
        batch_timeout: duration::parse(&timeout.timeout).unwrap_or_default(),
        organizations: organizations(group)?,
    })
}
