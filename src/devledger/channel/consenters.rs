//! The consenters of a channel and the rules for changing them, for both kinds of consensus.
//!
//! Ids: BFT's configuration has them. Raft's are given out by the ledger, in the consenter metadata of each block, so
//! that they stay the same when certificates or addresses change.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use x509_parser::time::ASN1Time;

use super::bundle::{Bundle, OrdererConfig, serialized_identity};
use super::certificate as certs;
use crate::dial::same_key;
use crate::raft::Timing;
use ehrnet_fabric::duration;
use ehrnet_fabric::proto::common::Consenter;
use ehrnet_fabric::proto::etcdraft::{self, BlockMetadata, ConfigMetadata};
use ehrnet_fabric::proto::orderer::ConsensusType;
use ehrnet_fabric::proto::smartbft;

/// The consenters as the configuration lists them.
#[derive(Debug, Clone)]
pub enum Consenters {
    /// Crash fault tolerant.
    Raft(ConfigMetadata),
    /// Byzantine fault tolerant; here they run on Raft, under BFT's configuration rules.
    Bft {
        /// In the order of the mapping.
        mapping: Vec<Consenter>,
    },
}

/// One consenter, of either kind.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Name to dial.
    pub host: &'a str,
    /// Port to dial.
    pub port: u32,
    /// TLS certificate it calls with, PEM.
    pub client_tls: &'a [u8],
    /// TLS certificate it serves with, PEM.
    pub server_tls: &'a [u8],
    /// Enrolment certificate, PEM (BFT only).
    pub identity: Option<&'a [u8]>,
}

impl Consenters {
    /// Read what the orderer group says.
    ///
    /// # Errors
    /// An unknown consensus type or malformed metadata.
    pub fn new(consensus: &ConsensusType, mapping: Vec<Consenter>) -> Result<Self, String> {
        let bytes = consensus.metadata.as_slice();
        let malformed = |e: prost::DecodeError| format!("failed to unmarshal {} metadata: {e}", consensus.r#type);
        match consensus.r#type.as_str() {
            "etcdraft" => Ok(Self::Raft(ConfigMetadata::decode(bytes).map_err(malformed)?)),
            "BFT" => {
                // On Raft no option has an effect; what Fabric could not read is refused all the same.
                smartbft::Options::decode(bytes).map_err(malformed)?;
                Ok(Self::Bft { mapping })
            }
            other => Err(format!("failed to find a consenter for consensus type: {other}")),
        }
    }

    /// All of them, in the configuration's order.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        match self {
            Self::Raft(metadata) => metadata
                .consenters
                .iter()
                .map(|c| Node {
                    host: &c.host,
                    port: c.port,
                    client_tls: &c.client_tls_cert,
                    server_tls: &c.server_tls_cert,
                    identity: None,
                })
                .collect(),
            Self::Bft { mapping } => mapping
                .iter()
                .map(|c| Node {
                    host: &c.host,
                    port: c.port,
                    client_tls: &c.client_tls_cert,
                    server_tls: &c.server_tls_cert,
                    identity: Some(&c.identity),
                })
                .collect(),
        }
    }

    /// Which of them is the node with this TLS certificate (DER) and enrolment certificate (PEM): Raft compares the
    /// TLS key, BFT the enrolment key.
    pub fn position(&self, tls: Option<&[u8]>, enrolment: &[u8]) -> Option<usize> {
        let same = |pem: &[u8], own: &[u8]| certs::der(pem).is_some_and(|der| same_key(&der, own));
        let enrolment = certs::der(enrolment)?;
        self.nodes().iter().position(|node| match node.identity {
            Some(identity) => same(identity, &enrolment),
            None => tls.is_some_and(|tls| same(node.server_tls, tls)),
        })
    }

    /// A BFT consenter's serialized identity.
    pub fn identity(&self, id: u32) -> Option<Vec<u8>> {
        let Self::Bft { mapping } = self else { return None };
        mapping.iter().find(|c| c.id == id).map(|c| serialized_identity(&c.msp_id, &c.identity))
    }

    /// Ids in the configuration's order, given those of the last block.
    pub fn ids(&self, last: &BlockMetadata) -> Vec<u64> {
        match self {
            Self::Raft(_) => last.consenter_ids.clone(),
            Self::Bft { mapping } => mapping.iter().map(|c| u64::from(c.id)).collect(),
        }
    }

    /// Metadata of the first block: Raft's consenters are numbered from 1.
    pub fn first_metadata(&self) -> BlockMetadata {
        let count = self.nodes().len() as u64;
        BlockMetadata { consenter_ids: (1..=count).collect(), next_consenter_id: count + 1, raft_index: 0 }
    }

    /// How the nodes keep time. BFT's options give no ticks: Fabric's defaults for Raft are used.
    pub fn timing(&self) -> Timing {
        let default = Timing { tick: std::time::Duration::from_millis(500), election: 10, heartbeat: 1 };
        let Self::Raft(ConfigMetadata { options: Some(options), .. }) = self else { return default };
        Timing {
            tick: duration::parse(&options.tick_interval).unwrap_or(default.tick),
            election: options.election_tick,
            heartbeat: options.heartbeat_tick,
        }
    }
}

/// What an update does to a Raft consenter set.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Ids after the update.
    pub metadata: BlockMetadata,
    /// Position of the consenter that is new or has a new certificate.
    pub added: Option<usize>,
    /// Id of the consenter that left or was replaced.
    pub removed: Option<u64>,
}

/// Compare two Raft consenter sets; consenters are told apart by their client TLS certificate.
///
/// # Errors
/// More than one is added or removed.
pub fn change(
    last: &BlockMetadata,
    old: &[etcdraft::Consenter],
    new: &[etcdraft::Consenter],
) -> Result<Change, String> {
    let known: BTreeMap<_, _> = old.iter().zip(&last.consenter_ids).map(|(c, id)| (&c.client_tls_cert, *id)).collect();
    let kept: BTreeSet<_> = new.iter().map(|c| &c.client_tls_cert).collect();
    let added: Vec<usize> = (0..new.len()).filter(|at| !known.contains_key(&new[*at].client_tls_cert)).collect();
    let removed: Vec<u64> = known.iter().filter(|(cert, _)| !kept.contains(*cert)).map(|(_, id)| *id).collect();
    if added.len() > 1 || removed.len() > 1 {
        return Err(format!(
            "update of more than one consenter at a time is not supported, requested changes: \
             add {} node(s), remove {} node(s)",
            added.len(),
            removed.len()
        ));
    }
    let mut metadata = last.clone();
    let new_id = removed.first().copied().unwrap_or(last.next_consenter_id);
    metadata.consenter_ids = new.iter().map(|c| known.get(&c.client_tls_cert).copied().unwrap_or(new_id)).collect();
    if !added.is_empty() && removed.is_empty() {
        metadata.next_consenter_id += 1;
    }
    Ok(Change { metadata, added: added.first().copied(), removed: removed.first().copied() })
}

/// Whether the consenters of `next` may follow those of `current`; other rules were checked before. `active`: ids that
/// answer now.
///
/// # Errors
/// Fabric's words for what is wrong.
pub fn check_update(
    current: &OrdererConfig,
    next: &Bundle,
    last: &BlockMetadata,
    active: &BTreeSet<u64>,
    now: i64,
) -> Result<(), String> {
    let (Consenters::Raft(old), Consenters::Raft(new)) = (&current.consenters, &next.orderer.consenters) else {
        return Ok(());
    };
    for consenter in &new.consenters {
        check_tls(consenter, &next.orderer, None).map_err(|e| {
            let address = format!("{}:{}", consenter.host, consenter.port);
            format!("invalid new config metadata: consenter {address} has invalid certificate: {e}")
        })?;
    }
    let change = change(last, &old.consenters, &new.consenters)?;
    if let Some(added) = change.added {
        let consenter = &new.consenters[added];
        check_tls(consenter, &next.orderer, Some(now))
            .map_err(|e| format!("consenter {}:{} has invalid certificates: {e}", consenter.host, consenter.port))?;
    }
    check_quorum(&change, new.consenters.len(), old.consenters.len(), active)
}

fn check_quorum(change: &Change, new: usize, old: usize, active: &BTreeSet<u64>) -> Result<(), String> {
    let quorum = new / 2 + 1;
    let left = active.iter().filter(|id| Some(**id) != change.removed).count();
    // A set that tolerates no fault anyway cannot be protected.
    let lost = match (change.added, change.removed) {
        (None, None) => false,
        (None, Some(_)) => left < quorum,
        (Some(_), _) => new > 2 && left < quorum,
    };
    if lost {
        return Err(format!("{} out of {old} nodes are alive, configuration will result in quorum loss", active.len()));
    }
    Ok(())
}

fn check_tls(consenter: &etcdraft::Consenter, orderer: &OrdererConfig, now: Option<i64>) -> Result<(), String> {
    let address = format!("{}:{}", consenter.host, consenter.port);
    for (kind, pem) in [("client", &consenter.client_tls_cert), ("server", &consenter.server_tls_cert)] {
        let der = certs::der(pem)
            .ok_or_else(|| format!("parsing tls {kind} cert of {address}: no PEM data found in cert"))?;
        let certificate = certs::parse(&der)?;
        let refused = |why: &str| {
            format!("verifying tls {kind} cert with serial number {}: x509: {why}", certificate.tbs_certificate.serial)
        };
        let roots = orderer.organizations.iter().flat_map(|org| &org.tls_roots).filter_map(|pem| certs::der(pem));
        let known =
            roots.into_iter().any(|root| certs::parse(&root).is_ok_and(|root| certs::issued(&root, &certificate)));
        if !known {
            return Err(refused("certificate signed by unknown authority"));
        }
        let valid_at = |now| ASN1Time::from_timestamp(now).is_ok_and(|now| certificate.validity().is_valid_at(now));
        if now.is_some_and(|now| !valid_at(now)) {
            return Err(refused("certificate has expired or is not yet valid"));
        }
    }
    Ok(())
}
