//! Makes blocks of committed batches and writes them: the end of a raft group's log.
//!
//! Invariant: of one batch each node makes the same block, up to the signatures. A batch that does not fit the
//! configuration in force is dropped by all alike. On a BFT channel a block is written when a quorum has signed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use tokio::sync::watch;

use super::cluster::Cluster;
use crate::channel::consenters::{self, Consenters};
use crate::channel::{self, bundle::Bundle};
use crate::ledger::{ChannelLedger, LedgerError};
use crate::pull::{Next, Puller};
use crate::raft::{Batch, machine::BlockWriter};
use crate::stop::Stop;
use crate::store::records::StoreError;
use ehrnet_fabric::blocks;
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::policy::bft_quorum;
use ehrnet_fabric::proto::common::{
    Block, BlockMetadataIndex, ConfigEnvelope, Envelope, HeaderType, IdentifierHeader, LastConfig, Metadata,
    MetadataSignature, OrdererBlockMetadata, SignatureHeader,
};
use ehrnet_fabric::proto::etcdraft::BlockMetadata;

/// Writes one channel's blocks.
pub struct Writer {
    /// The ledger, which has at least one block.
    pub ledger: Arc<ChannelLedger>,
    /// This node's identity.
    pub signer: Arc<SigningIdentity>,
    /// This node's id in the channel.
    pub id: u64,
    /// The other consenters.
    pub cluster: Arc<Cluster>,
    /// Fetches blocks that a snapshot stands for.
    pub puller: Arc<Puller>,
    /// The chain is being stopped.
    pub stop: Stop,
    /// The block that waits for signatures of others.
    pub pending: watch::Sender<Option<Block>>,
    /// One writer at a time: committed batches and pulled blocks.
    pub writing: Mutex<()>,
}

/// The consenter metadata of a ledger's last block: raft ids and index.
///
/// # Errors
/// The block cannot be read.
pub fn last_metadata(ledger: &ChannelLedger) -> Result<BlockMetadata, LedgerError> {
    let first = || ledger.bundle().map(|b| b.orderer.consenters.first_metadata()).unwrap_or_default();
    let Some(newest) = ledger.height().checked_sub(1) else { return Ok(first()) };
    let Some(block) = ledger.block(newest)? else { return Ok(first()) };
    let read = || -> Option<BlockMetadata> {
        let signed = signed_metadata(&block)?;
        let metadata = OrdererBlockMetadata::decode(signed.value.as_slice()).ok()?;
        let value = Metadata::decode(metadata.consenter_metadata.as_slice()).ok()?.value;
        BlockMetadata::decode(value.as_slice()).ok().filter(|metadata| !metadata.consenter_ids.is_empty())
    };
    Ok(read().unwrap_or_else(first))
}

fn signed_metadata(block: &Block) -> Option<Metadata> {
    let entry = block.metadata.as_ref()?.metadata.get(BlockMetadataIndex::Signatures as usize)?;
    Metadata::decode(entry.as_slice()).ok()
}

impl Writer {
    /// The block that the batch becomes, unsigned; `None` if it is dropped.
    fn make(&self, batch: &Batch, raft_index: u64) -> Result<Option<Block>, LedgerError> {
        let Some(current) = self.ledger.current() else { return Ok(None) };
        let last = last_metadata(&self.ledger)?;
        if raft_index <= last.raft_index {
            tracing::debug!(raft_index, "the block of this entry is there already");
            return Ok(None);
        }
        let channel = self.ledger.channel();
        if batch.config_sequence != current.bundle.sequence() {
            tracing::warn!(channel, raft_index, "dropping a batch that was made under another configuration");
            return Ok(None);
        }
        let next = match next_config(&current.bundle, batch) {
            Ok(next) => next,
            Err(reason) => {
                tracing::error!(channel, raft_index, reason, "dropping a configuration that does not apply");
                return Ok(None);
            }
        };
        let mut metadata = last;
        metadata.raft_index = raft_index;
        if let Some(next) = &next
            && let (Consenters::Raft(old), Consenters::Raft(new)) =
                (&current.bundle.orderer.consenters, &next.orderer.consenters)
        {
            match consenters::change(&metadata, &old.consenters, &new.consenters) {
                Ok(change) => metadata = change.metadata,
                Err(reason) => {
                    tracing::error!(channel, reason, "dropping an illegal change of consenters");
                    return Ok(None);
                }
            }
        }
        let tip = self.ledger.tip();
        let mut block = blocks::new_block(tip.height, tip.hash, batch.envelopes.clone());
        let index = if next.is_some() { tip.height } else { current.config_block };
        prepare(&mut block, index, &metadata);
        Ok(Some(block))
    }

    /// This node's signature over a block, in the way of the channel's consensus.
    pub fn sign(&self, block: &Block, bft: bool) -> MetadataSignature {
        let nonce = Stamp::now().nonce.to_vec();
        let value = signed_metadata(block).map(|metadata| metadata.value).unwrap_or_default();
        let header = block.header.as_ref().map(blocks::header_bytes).unwrap_or_default();
        let mut signature = MetadataSignature::default();
        let signer = if bft {
            let identifier = u32::try_from(self.id).unwrap_or_default();
            signature.identifier_header = IdentifierHeader { identifier, nonce }.encode_to_vec();
            &signature.identifier_header
        } else {
            let creator = self.signer.serialized().to_vec();
            signature.signature_header = SignatureHeader { creator, nonce }.encode_to_vec();
            &signature.signature_header
        };
        signature.signature = self.signer.sign(&[value.as_slice(), signer, &header].concat());
        signature
    }

    /// Signatures over `block` of a quorum of BFT consenters; `None` if the chain is stopped meanwhile.
    async fn collect(&self, block: &Block, consenters: &[u64]) -> Option<Vec<MetadataSignature>> {
        let number = blocks::number(block);
        let quorum = bft_quorum(consenters.len());
        let mut signatures = BTreeMap::from([(self.id, self.sign(block, true))]);
        while signatures.len() < quorum {
            if self.stop.is_requested() {
                return None;
            }
            let missing = consenters.iter().copied().filter(|id| !signatures.contains_key(id));
            let mut answers: FuturesUnordered<_> = missing
                .map(|id| async move {
                    let answer = self.cluster.sign(self.ledger.channel(), id, number, Duration::from_secs(2)).await;
                    (id, answer)
                })
                .collect();
            let mut failed = false;
            while let Some((id, answer)) = answers.next().await {
                match answer.map(|bytes| MetadataSignature::decode(bytes.as_slice())) {
                    Ok(Ok(signature)) => {
                        signatures.insert(id, signature);
                    }
                    Ok(Err(error)) => tracing::warn!(id, %error, "a consenter sent a malformed signature"),
                    Err(error) => {
                        failed = true;
                        tracing::debug!(id, number, %error, "no signature yet");
                    }
                }
                if signatures.len() >= quorum {
                    break;
                }
            }
            if failed && signatures.len() < quorum {
                let mut stop = self.stop.clone();
                tokio::select! {
                    () = stop.requested() => return None,
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
            }
        }
        Some(signatures.into_values().collect())
    }

    /// The signature another consenter asks for, once this node is about to write that block or has.
    ///
    /// # Errors
    /// The block cannot be read, or the chain was stopped.
    pub async fn countersign(&self, number: u64) -> Result<Vec<u8>, String> {
        let mut pending = self.pending.subscribe();
        loop {
            if let Some(block) = self.ledger.block(number).map_err(|e| e.to_string())? {
                return Ok(self.sign(&block, true).encode_to_vec());
            }
            let waiting = pending.borrow_and_update().clone();
            if let Some(block) = waiting.filter(|block| blocks::number(block) == number) {
                return Ok(self.sign(&block, true).encode_to_vec());
            }
            pending.changed().await.map_err(|_| "chain is stopped".to_owned())?;
        }
    }

    /// Store a block that was pulled, unless it is there already.
    fn take_pulled(&self, block: &Block) -> Result<(), LedgerError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks::number(block) < self.ledger.height() {
            return Ok(());
        }
        self.ledger.verify(block)?;
        self.ledger.append(block)
    }
}

#[async_trait]
impl BlockWriter for Writer {
    async fn commit(&self, batch: Batch, raft_index: u64) -> Result<(), StoreError> {
        let stopped = |e: LedgerError| match e {
            LedgerError::Store(e) => e,
            refused @ LedgerError::Refused { .. } => StoreError::OutOfOrder(refused.to_string()),
        };
        let Some(mut block) = self.make(&batch, raft_index).map_err(stopped)? else { return Ok(()) };
        let bft = self.ledger.bundle().filter(|b| matches!(b.orderer.consenters, Consenters::Bft { .. }));
        let signatures = match bft {
            None => vec![self.sign(&block, false)],
            Some(bundle) => {
                self.pending.send_replace(Some(block.clone()));
                let ids = bundle.orderer.consenters.ids(&BlockMetadata::default());
                let signatures = self.collect(&block, &ids).await;
                signatures.ok_or_else(|| StoreError::OutOfOrder("chain is stopped".into()))?
            }
        };
        add_signatures(&mut block, signatures);
        let written = {
            let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            // A block that was pulled meanwhile is the same one.
            if blocks::number(&block) < self.ledger.height() { Ok(()) } else { self.ledger.append(&block) }
        };
        self.pending.send_replace(None);
        written.map_err(stopped)
    }

    fn height(&self) -> u64 {
        self.ledger.height()
    }

    async fn catch_up(&self, height: u64) {
        if self.ledger.height() >= height {
            return;
        }
        let take = |block: Block| -> Result<Next, String> {
            self.take_pulled(&block).map_err(|e| e.to_string())?;
            Ok(if self.ledger.height() >= height { Next::Done } else { Next::Continue })
        };
        let take = |block| std::future::ready(take(block));
        self.puller.follow(&self.ledger, None, self.stop.clone(), take).await;
    }
}

/// The configuration that the batch brings; `None` if it brings none.
fn next_config(current: &Bundle, batch: &Batch) -> Result<Option<Bundle>, String> {
    let [envelope] = batch.envelopes.as_slice() else { return Ok(None) };
    let envelope = Envelope::decode(envelope.as_slice()).map_err(|e| e.to_string())?;
    let opened = channel::open(&envelope)?;
    if opened.channel.r#type != i32::from(HeaderType::Config) {
        return Ok(None);
    }
    let config = ConfigEnvelope::decode(opened.data.as_slice()).map_err(|e| e.to_string())?;
    current.validate(&config)?;
    let next = Bundle::new(&current.channel, config.config.unwrap_or_default())?;
    Ok(Some(next))
}

/// What all signatures of the block cover.
fn prepare(block: &mut Block, last_config: u64, metadata: &BlockMetadata) {
    let last_config = LastConfig { index: last_config };
    let consenter = Metadata { value: metadata.encode_to_vec(), signatures: Vec::new() }.encode_to_vec();
    let value = OrdererBlockMetadata { last_config: Some(last_config), consenter_metadata: consenter };
    let entries = &mut block.metadata.get_or_insert_default().metadata;
    entries.resize(blocks::METADATA_ENTRIES, Vec::new());
    for (at, value) in [
        (BlockMetadataIndex::Signatures, value.encode_to_vec()),
        (BlockMetadataIndex::LastConfig, last_config.encode_to_vec()),
    ] {
        entries[at as usize] = Metadata { value, signatures: Vec::new() }.encode_to_vec();
    }
}

fn add_signatures(block: &mut Block, signatures: Vec<MetadataSignature>) {
    let value = signed_metadata(block).map(|metadata| metadata.value).unwrap_or_default();
    let entries = &mut block.metadata.get_or_insert_default().metadata;
    if let Some(entry) = entries.get_mut(BlockMetadataIndex::Signatures as usize) {
        *entry = Metadata { value, signatures }.encode_to_vec();
    }
}

/// The ids of the consenters after a ledger's last block.
///
/// # Errors
/// The block cannot be read.
pub fn consenter_ids(ledger: &ChannelLedger) -> Result<BTreeSet<u64>, LedgerError> {
    let last = last_metadata(ledger)?;
    let ids = ledger.bundle().map(|bundle| bundle.orderer.consenters.ids(&last)).unwrap_or_default();
    Ok(ids.into_iter().collect())
}
