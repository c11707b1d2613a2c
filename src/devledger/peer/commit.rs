//! Committing blocks: from what an orderer delivered to a new state.
//!
//! Invariant: private data is on the disk before its block, and the block before its effects are seen. After a crash in
//! between, the block is fetched again and finds its private data there.

use std::sync::Arc;

use prost::Message;

use super::joined::{Joined, Placed, View};
use super::private::members::block_to_live;
use super::private::parts::Part;
use super::private::reconcile::wanted;
use super::private::store::PrivateStore;
use super::state::Version;
use super::state::world::State;
use super::validate::block::{Outcome, envelopes, flag, flags, replay as replayed, validate};
use crate::channel;
use crate::store::records::StoreError;
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex, ConfigEnvelope, Envelope, Metadata};
use ehrnet_fabric::proto::kvrwset::KvrwSet;
use ehrnet_fabric::proto::protos::TxValidationCode;

impl Joined {
    /// Check, judge and store a block that an orderer delivered.
    ///
    /// # Errors
    /// The block cannot be trusted or stored.
    pub(super) async fn take(self: Arc<Self>, block: Block) -> Result<(), String> {
        self.ledger().verify(&block).map_err(|e| e.to_string())?;
        let (block, outcome) = {
            let this = self.clone();
            let judged = tokio::task::spawn_blocking(move || this.judge(&block).map(|outcome| (block, outcome)));
            judged.await.map_err(|e| e.to_string())??
        };
        let gathered = self.gather(&self.state(), &outcome.valid).await;
        self.commit(block, outcome, gathered.parts)?;
        if !gathered.is_complete {
            self.note_missing();
        }
        Ok(())
    }

    /// Store the channel's first block, found valid before.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(super) fn begin(&self, block: Block) -> Result<(), String> {
        let outcome = Outcome { flags: vec![flag(TxValidationCode::Valid)], ..Default::default() };
        self.commit(block, outcome, Vec::new())
    }

    fn judge(&self, block: &Block) -> Result<Outcome, String> {
        let bundle = self.bundle().ok_or("the channel has no configuration")?;
        if channel::is_config_block(block) {
            // Do not take the orderers' word that a configuration was signed by those concerned.
            let envelope = envelopes(block).first().map(Vec::as_slice).unwrap_or_default();
            let envelope = Envelope::decode(envelope).map_err(|e| e.to_string())?;
            let config = channel::open(&envelope)?.data;
            bundle.validate(&ConfigEnvelope::decode(config.as_slice()).map_err(|e| e.to_string())?)?;
            return Ok(Outcome { flags: vec![flag(TxValidationCode::Valid)], ..Default::default() });
        }
        Ok(validate(block, &bundle, &self.state(), |id| self.transaction(id).is_some()))
    }

    fn commit(&self, mut block: Block, mut outcome: Outcome, data: Vec<(Part, KvrwSet)>) -> Result<(), String> {
        let number = blocks::number(&block);
        let mut purged = self.purged();
        let purges = outcome.valid.iter().filter(|valid| purged.add(&valid.transaction.set, valid.version)).count();
        let data: Vec<_> = data.into_iter().map(|(part, set)| (part.clone(), purged.strip(&part, set))).collect();
        let fresh: Vec<_> = data.iter().filter(|(part, _)| !self.store().has(part)).cloned().collect();
        self.store().append(&fresh).map_err(|e| e.to_string())?;
        let commit_hash = match number {
            0 => Vec::new(),
            _ => outcome.updates.commit_hash(&outcome.flags, &self.view().commit_hash),
        };
        put_metadata(&mut block, &outcome.flags, &commit_hash);
        let mut expired = false;
        self.ledger()
            .append_then(&block, || {
                let view = &mut *self.view_mut();
                expired = absorb(view, &block, &mut outcome, |part| data.iter().any(|(has, _)| has == part));
                view.commit_hash = commit_hash;
                data.iter().for_each(|(part, set)| keep(&mut view.state, part, set));
            })
            .map_err(|e| e.to_string())?;
        if purges > 0 || expired {
            self.tidy().map_err(|e| e.to_string())?;
        }
        let ids: Vec<&str> = outcome.valid.iter().map(|valid| valid.transaction.tx_id.as_str()).collect();
        self.transient().forget(&ids, self.ledger().height());
        tracing::debug!(channel = self.name(), number, valid = outcome.valid.len(), "committed a block");
        Ok(())
    }

    /// Add private data of an earlier block.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(super) fn complete(&self, part: Part, set: &KvrwSet) -> Result<(), String> {
        let set = self.purged().strip(&part, set.clone());
        self.store().append(&[(part.clone(), set.clone())]).map_err(|e| e.to_string())?;
        let mut view = self.view_mut();
        keep(&mut view.state, &part, &set);
        view.missing.remove(&part);
        tracing::info!(channel = self.name(), block = part.version.block, "got private data that was missing");
        Ok(())
    }

    /// Take what was purged or is at the end of its life out of the store.
    fn tidy(&self) -> Result<(), StoreError> {
        let (purged, state) = (self.purged(), self.state());
        let height = self.ledger().height();
        self.store().rewrite(|part, set| (!is_over(&state, part, height)).then(|| purged.strip(part, set)))
    }
}

/// Take over a block's effects, and tell whether private data came to the end of its life. `has` tells of which private
/// parts the data is here.
fn absorb(view: &mut View, block: &Block, outcome: &mut Outcome, has: impl Fn(&Part) -> bool) -> bool {
    let number = blocks::number(block);
    index(view, block, &outcome.flags);
    for valid in &outcome.valid {
        let set = &valid.transaction.set;
        view.history.add(set, valid.version);
        view.purged.add(set, valid.version);
        let state = &view.state;
        view.expiry.add(set, number, |collection| block_to_live(state, collection));
    }
    view.missing.extend(wanted(&outcome.valid).map(|(part, _, _)| part).filter(|part| !has(part)));
    let expired = view.expiry.end(number, &view.state, &mut outcome.updates);
    view.state.apply(&outcome.updates);
    if expired {
        let state = view.state.clone();
        view.missing.retain(|part| !is_over(&state, part, number + 1));
    }
    expired
}

fn index(view: &mut View, block: &Block, flags: &[u8]) {
    for (at, envelope) in envelopes(block).iter().enumerate() {
        let opened = Envelope::decode(envelope.as_slice()).ok().and_then(|envelope| channel::open(&envelope).ok());
        let id = opened.map(|opened| opened.channel.tx_id).unwrap_or_default();
        if id.is_empty() {
            continue;
        }
        let code = flags.get(at).and_then(|flag| TxValidationCode::try_from(i32::from(*flag)).ok());
        let code = code.unwrap_or(TxValidationCode::NotValidated);
        // A repeated id keeps its first place, as in Fabric.
        view.transactions.entry(id).or_insert(Placed { block: blocks::number(block), at, code });
    }
}

/// Take over a block that was committed before the peer started.
pub(super) fn replay(view: &mut View, block: &Block) {
    let mut outcome = replayed(block, &view.state);
    outcome.flags = flags(block).to_vec();
    absorb(view, block, &mut outcome, |_| false);
    let entries = block.metadata.as_ref().map(|metadata| metadata.metadata.as_slice()).unwrap_or_default();
    let entry = entries.get(BlockMetadataIndex::CommitHash as usize).map(Vec::as_slice).unwrap_or_default();
    view.commit_hash = Metadata::decode(entry).map(|metadata| metadata.value).unwrap_or_default();
}

/// Fill in the private data after all blocks were replayed.
pub(super) fn restore_private(view: &mut View, store: &mut PrivateStore, height: u64) -> Result<(), StoreError> {
    let mut untidy = false;
    for part in store.parts().cloned().collect::<Vec<_>>() {
        // Of a block that a crash kept from being stored: it will come again.
        if part.version.block >= height {
            continue;
        }
        let Some(set) = store.get(&part)? else { continue };
        keep(&mut view.state, &part, &set);
        view.missing.remove(&part);
        untidy |= view.purged.strip(&part, set.clone()) != set || is_over(&view.state, &part, height);
    }
    if untidy {
        let (purged, state) = (view.purged.clone(), view.state.clone());
        store.rewrite(|part, set| (!is_over(&state, part, height)).then(|| purged.strip(part, set)))?;
    }
    Ok(())
}

fn keep(state: &mut State, part: &Part, set: &KvrwSet) {
    for write in &set.writes {
        state.keep_private(&part.collection, &write.key, &write.value);
    }
}

/// Whether a part's life ended before a ledger of that height.
fn is_over(state: &State, part: &Part, height: u64) -> bool {
    let lifetime = block_to_live(state, &part.collection);
    let Version { block, .. } = part.version;
    lifetime > 0 && block.saturating_add(lifetime).saturating_add(1) < height
}

fn put_metadata(block: &mut Block, flags: &[u8], commit_hash: &[u8]) {
    let entries = &mut block.metadata.get_or_insert_default().metadata;
    entries.resize(entries.len().max(blocks::METADATA_ENTRIES), Vec::new());
    entries[BlockMetadataIndex::TransactionsFilter as usize] = flags.to_vec();
    if !commit_hash.is_empty() {
        let metadata = Metadata { value: commit_hash.to_vec(), ..Default::default() };
        entries[BlockMetadataIndex::CommitHash as usize] = metadata.encode_to_vec();
    }
}
