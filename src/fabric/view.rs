//! What a channel's configuration says, in a form to show and to compare.

use prost::Message;

use super::config_rules::value;
use super::config_tree::{APPLICATION, CONSENSUS_TYPE, ENDPOINTS, ORDERER, ORDERERS};
use super::endpoint::Endpoint;
use super::error::LedgerError;
use super::proto::common::{Config, ConfigGroup, OrdererAddresses, Orderers};
use super::proto::etcdraft::ConfigMetadata;
use super::proto::orderer::ConsensusType;

/// A channel as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// How often the configuration was changed.
    pub sequence: u64,
    /// Whether a quorum must accept what is broadcast (BFT), or any orderer will do (Raft).
    pub is_bft: bool,
    /// Where the consenters reach each other.
    pub consenters: Vec<Endpoint>,
    /// Where clients reach the orderers, `host:port`.
    pub orderer_addresses: Vec<String>,
    /// Organizations that run orderers.
    pub orderer_orgs: Vec<String>,
    /// Organizations that share the ledger.
    pub application_orgs: Vec<String>,
}

impl ChannelView {
    /// Reads `config`.
    pub fn of(config: &Config) -> Result<Self, LedgerError> {
        Self::read(config).map_err(|e| LedgerError::Invalid(format!("configuration of the channel: {e}")))
    }

    fn read(config: &Config) -> Result<Self, String> {
        let channel = config.channel_group.as_ref().ok_or("there is no channel group")?;
        let section = |name| channel.groups.get(name).ok_or_else(|| format!("there is no group {name}"));
        let (orderer, application) = (section(ORDERER)?, section(APPLICATION)?);
        let consensus: ConsensusType = value(orderer, CONSENSUS_TYPE)?;
        let is_bft = consensus.r#type == "BFT";
        let addresses = orderer.groups.values().map(|org| value::<OrdererAddresses>(org, ENDPOINTS));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        Ok(Self {
            sequence: config.sequence,
            is_bft,
            consenters: if is_bft { bft_consenters(orderer)? } else { raft_consenters(&consensus)? },
            orderer_addresses: addresses.into_iter().flat_map(|a| a.addresses).collect(),
            orderer_orgs: orderer.groups.keys().cloned().collect(),
            application_orgs: application.groups.keys().cloned().collect(),
        })
    }
}

fn raft_consenters(consensus: &ConsensusType) -> Result<Vec<Endpoint>, String> {
    let metadata = ConfigMetadata::decode(consensus.metadata.as_slice())
        .map_err(|e| format!("metadata of Raft is not readable: {e}"))?;
    metadata.consenters.iter().map(|c| endpoint(&c.host, c.port)).collect()
}

fn bft_consenters(orderer: &ConfigGroup) -> Result<Vec<Endpoint>, String> {
    value::<Orderers>(orderer, ORDERERS)?.consenter_mapping.iter().map(|c| endpoint(&c.host, c.port)).collect()
}

/// A consenter's address; the port is wider in the message than a port can be.
pub(super) fn endpoint(host: &str, port: u32) -> Result<Endpoint, String> {
    let port = u16::try_from(port).map_err(|_| format!("consenter {host}: {port} is no port"))?;
    Ok(Endpoint::new(host, port))
}
