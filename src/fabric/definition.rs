//! A channel as declared: what its configuration should say.

use std::collections::BTreeSet;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::error::LedgerError;
use super::msp::MspDefinition;
use super::proto::common::implicit_meta_policy::Rule;

/// A channel's declared configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelDefinition {
    /// Name of the channel: `[a-z][a-z0-9.-]*`, at most 249 characters.
    pub channel_name: String,
    /// Who orders blocks.
    pub consensus: Consensus,
    /// Organizations that run orderers.
    pub orderer_orgs: Vec<OrdererOrg>,
    /// Organizations that share the ledger.
    pub application_orgs: Vec<ApplicationOrg>,
    /// How transactions are collected into blocks.
    pub batch: Batch,
    /// Rules over the application organizations.
    pub policies: Policies,
    /// Feature levels.
    pub capabilities: Capabilities,
}

/// Consensus protocol, its members and options. Order of the members has no meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Consensus {
    /// Crash fault tolerant (`etcdraft`).
    Raft {
        /// The orderers.
        consenters: Vec<RaftConsenter>,
        /// Options.
        options: RaftOptions,
    },
    /// Byzantine fault tolerant (SmartBFT). Consenter ids are given by this room and kept for a consenter's life.
    Bft {
        /// The orderers.
        consenters: Vec<BftConsenter>,
        /// Options.
        options: BftOptions,
    },
}

/// A Raft orderer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConsenter {
    /// Where the other orderers reach it.
    pub endpoint: Endpoint,
    /// Its TLS certificate (PEM), by which they know it.
    pub tls_certificate: String,
}

/// A BFT orderer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BftConsenter {
    /// Where the other orderers reach it.
    pub endpoint: Endpoint,
    /// Its organization.
    pub msp_id: String,
    /// Its enrolment certificate (PEM), by which its block signatures are checked.
    pub identity: String,
    /// Its TLS certificate (PEM).
    pub tls_certificate: String,
}

/// Options of Raft (`etcdraft.Options`); the defaults are Fabric's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftOptions {
    /// Length of a tick.
    pub tick_interval: Duration,
    /// Ticks without a leader before an election; more than `heartbeat_tick`.
    pub election_tick: u32,
    /// Ticks between heartbeats.
    pub heartbeat_tick: u32,
    /// Blocks under way to a follower at most.
    pub max_inflight_blocks: u32,
    /// Bytes between snapshots.
    pub snapshot_interval_size: u32,
}

/// Options of BFT (`smartbft.Options`); the defaults are Fabric's. Batch limits are not here: orderers take them from
/// [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BftOptions {
    /// How long the leader waits to fill a batch.
    pub request_batch_max_interval: Duration,
    /// Messages an orderer buffers.
    pub incoming_message_buffer_size: u64,
    /// Requests an orderer keeps.
    pub request_pool_size: u64,
    /// Age at which a request is forwarded to the leader.
    pub request_forward_timeout: Duration,
    /// Time after that at which the leader is complained about.
    pub request_complain_timeout: Duration,
    /// Time after that at which the request is dropped.
    pub request_auto_remove_timeout: Duration,
    /// Interval between view change messages.
    pub view_change_resend_interval: Duration,
    /// Time a view change may take.
    pub view_change_timeout: Duration,
    /// Silence of the leader after which it is replaced.
    pub leader_heartbeat_timeout: Duration,
    /// Heartbeats per that time.
    pub leader_heartbeat_count: u64,
    /// Time to wait for other orderers' state.
    pub collect_timeout: Duration,
}

/// An organization that runs orderers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdererOrg {
    /// Its MSP.
    pub msp: MspDefinition,
    /// Where clients and peers reach its orderers; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// An organization that shares the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationOrg {
    /// Its MSP.
    pub msp: MspDefinition,
    /// Peers that other organizations contact first; may be empty.
    pub anchor_peers: Vec<Endpoint>,
}

/// Limits of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Time after which a block is cut.
    pub timeout: Duration,
    /// Transactions at most.
    pub max_message_count: u32,
    /// Bytes at most; also the largest transaction.
    pub absolute_max_bytes: u32,
    /// Bytes after which a block is cut where transactions allow it.
    pub preferred_max_bytes: u32,
}

/// Rules over the application organizations' `Endorsement` policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Who must approve a chaincode definition.
    pub lifecycle_endorsement: Rule,
    /// Who must endorse a transaction by default.
    pub endorsement: Rule,
}

/// Feature levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Of the channel group.
    pub channel: String,
    /// Of the orderer group.
    pub orderer: String,
    /// Of the application group.
    pub application: String,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            tick_interval: Duration::from_millis(500),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: 16 * 1024 * 1024,
        }
    }
}

impl Default for BftOptions {
    fn default() -> Self {
        Self {
            request_batch_max_interval: Duration::from_millis(50),
            incoming_message_buffer_size: 200,
            request_pool_size: 400,
            request_forward_timeout: Duration::from_secs(2),
            request_complain_timeout: Duration::from_secs(20),
            request_auto_remove_timeout: Duration::from_secs(180),
            view_change_resend_interval: Duration::from_secs(5),
            view_change_timeout: Duration::from_secs(20),
            leader_heartbeat_timeout: Duration::from_secs(60),
            leader_heartbeat_count: 10,
            collect_timeout: Duration::from_secs(1),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            max_message_count: 500,
            absolute_max_bytes: 10 * 1024 * 1024,
            preferred_max_bytes: 2 * 1024 * 1024,
        }
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self { lifecycle_endorsement: Rule::Majority, endorsement: Rule::Majority }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { channel: "V3_0".into(), orderer: "V2_0".into(), application: "V2_5".into() }
    }
}

impl Consensus {
    /// Fabric's name of the protocol.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Raft { .. } => "etcdraft",
            Self::Bft { .. } => "BFT",
        }
    }

    /// Where the orderers are reached by each other.
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        match self {
            Self::Raft { consenters, .. } => consenters.iter().map(|c| &c.endpoint).collect(),
            Self::Bft { consenters, .. } => consenters.iter().map(|c| &c.endpoint).collect(),
        }
    }
}

impl ChannelDefinition {
    /// The same without the Raft consenters at these addresses, as long as one is left, and without sending clients to them.
    pub fn without_consenters(&self, gone: &[Endpoint]) -> Self {
        let mut rest = self.clone();
        let Consensus::Raft { consenters, .. } = &mut rest.consensus else { return rest };
        if consenters.iter().all(|consenter| gone.contains(&consenter.endpoint)) {
            return rest;
        }
        consenters.retain(|consenter| !gone.contains(&consenter.endpoint));
        for org in &mut rest.orderer_orgs {
            if org.endpoints.iter().any(|endpoint| !gone.contains(endpoint)) {
                org.endpoints.retain(|endpoint| !gone.contains(endpoint));
            }
        }
        rest
    }

    /// Refuses what orderers would refuse, in words that say where.
    pub fn validate(&self) -> Result<(), LedgerError> {
        self.check().map_err(|what| LedgerError::Invalid(format!("channel {:?}: {what}", self.channel_name)))
    }

    fn check(&self) -> Result<(), String> {
        check_channel_name(&self.channel_name)?;
        check_orgs("orderer", self.orderer_orgs.iter().map(|o| &o.msp))?;
        check_orgs("application", self.application_orgs.iter().map(|o| &o.msp))?;
        for org in &self.orderer_orgs {
            if org.endpoints.is_empty() {
                return Err(format!("orderer organization {} has no endpoint", org.msp.id));
            }
        }
        self.check_consenters()?;
        let batch = &self.batch;
        if batch.timeout.is_zero() || batch.max_message_count == 0 || batch.preferred_max_bytes == 0 {
            return Err("batch limits must be larger than zero".into());
        }
        if batch.preferred_max_bytes > batch.absolute_max_bytes {
            return Err("batch preferred maximum bytes are more than the absolute maximum".into());
        }
        Ok(())
    }

    fn check_consenters(&self) -> Result<(), String> {
        let endpoints = self.consensus.endpoints();
        if endpoints.is_empty() {
            return Err("there is no consenter".into());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = endpoints.into_iter().find(|e| !seen.insert(*e)) {
            return Err(format!("consenter {twice} is listed twice"));
        }
        match &self.consensus {
            Consensus::Raft { options, .. } if options.election_tick <= options.heartbeat_tick => {
                Err("Raft's election tick must be more than its heartbeat tick".into())
            }
            Consensus::Raft { .. } => Ok(()),
            Consensus::Bft { consenters, .. } => {
                let orgs: BTreeSet<_> = self.orderer_orgs.iter().map(|o| o.msp.id.as_str()).collect();
                match consenters.iter().find(|c| !orgs.contains(c.msp_id.as_str())) {
                    Some(c) => Err(format!("consenter {}: {} is no orderer organization", c.endpoint, c.msp_id)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Fabric's rule for channel names.
fn check_channel_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && name.len() <= 249 && name.chars().all(fits) {
        return Ok(());
    }
    Err("the name must start with a lower-case letter, have only lower-case letters, digits, '.' and '-', and at most 249 characters".into())
}

fn check_orgs<'a>(kind: &str, orgs: impl Iterator<Item = &'a MspDefinition>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for org in orgs {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if org.id.is_empty() || org.id.len() > 249 || !org.id.chars().all(fits) {
            return Err(format!("{:?} is no MSP id: letters, digits, '.' and '-' only", org.id));
        }
        if !seen.insert(org.id.as_str()) {
            return Err(format!("{kind} organization {} is listed twice", org.id));
        }
        if org.root_certs.is_empty() {
            return Err(format!("{kind} organization {} has no CA certificate", org.id));
        }
    }
    if seen.is_empty() { Err(format!("there is no {kind} organization")) } else { Ok(()) }
}
