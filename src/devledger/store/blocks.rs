//! One channel's blocks: an append-only file, its index rebuilt at start, and a height to wait for.
//!
//! Invariant: block n's number is n, its data hash is that of its data and its previous hash that of block n-1's header.
//! This is checked at every append and again for the whole file at start.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use prost::Message;
use tokio::sync::watch;

use super::records::{RecordFile, Span, StoreError};
use ehrnet_fabric::blocks::{data_hash, header_hash};
use ehrnet_fabric::proto::common::{Block, BlockData, BlockHeader};

/// A channel's blocks.
#[derive(Debug)]
pub struct BlockStore {
    inner: RwLock<Inner>,
    height: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    file: RecordFile,
    spans: Vec<Span>,
    tip: Tip,
}

/// Where the next block has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tip {
    /// Number of the next block.
    pub height: u64,
    /// Hash of the last block's header; empty before the first.
    pub hash: Vec<u8>,
    /// The last block's own `previous_hash`.
    pub previous_hash: Vec<u8>,
}

impl Tip {
    fn accept(&self, block: &Block) -> Result<Self, String> {
        let none = BlockHeader::default();
        let header = block.header.as_ref().unwrap_or(&none);
        if header.number != self.height {
            return Err(format!("expected block {} but it is block {}", self.height, header.number));
        }
        if self.height > 0 && header.previous_hash != self.hash {
            return Err(format!(
                "previous hash of block {} is not the hash of block {}",
                header.number,
                self.height - 1
            ));
        }
        let empty = BlockData::default();
        if header.data_hash != data_hash(block.data.as_ref().unwrap_or(&empty)) {
            return Err(format!("data hash of block {} is not the hash of its data", header.number));
        }
        let hash = header_hash(header).to_vec();
        Ok(Self { height: self.height + 1, hash, previous_hash: header.previous_hash.clone() })
    }
}

impl BlockStore {
    /// Open the ledger in `folder`, which must exist; `visit` sees every block in order.
    ///
    /// # Errors
    /// See [`StoreError`]; a damaged block is named, nothing is repaired but a torn tail.
    pub fn open(folder: &Path, mut visit: impl FnMut(&Block)) -> Result<Self, StoreError> {
        let mut spans = Vec::new();
        let mut tip = Tip::default();
        let file = RecordFile::open(&folder.join("blocks"), |span, bytes| {
            let block = Block::decode(bytes).map_err(|e| e.to_string())?;
            tip = tip.accept(&block)?;
            spans.push(span);
            visit(&block);
            Ok(())
        })?;
        let height = watch::Sender::new(tip.height);
        Ok(Self { inner: RwLock::new(Inner { file, spans, tip }), height })
    }

    /// Store the next block; `stored` runs once it is on the disk and before those who wait for it hear of it.
    ///
    /// # Errors
    /// `OutOfOrder` if it does not continue the chain.
    pub fn append(&self, block: &Block, stored: impl FnOnce()) -> Result<(), StoreError> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let tip = inner.tip.accept(block).map_err(StoreError::OutOfOrder)?;
        let spans = inner.file.append([block.encode_to_vec().as_slice()])?;
        inner.spans.extend(spans);
        inner.tip = tip;
        let height = inner.tip.height;
        drop(inner);
        stored();
        self.height.send_replace(height);
        Ok(())
    }

    /// Block `number`, or `None` if the ledger is shorter.
    ///
    /// # Errors
    /// `Corrupt` if the file changed under us.
    pub fn block(&self, number: u64) -> Result<Option<Block>, StoreError> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let Some(span) = usize::try_from(number).ok().and_then(|n| inner.spans.get(n)) else { return Ok(None) };
        let bytes = inner.file.read(*span)?;
        let damaged = |e: prost::DecodeError| StoreError::Corrupt {
            path: inner.file.path().to_owned(),
            offset: span.start(),
            reason: e.to_string(),
        };
        Block::decode(bytes.as_slice()).map(Some).map_err(damaged)
    }

    /// Where the next block has to fit.
    pub fn tip(&self) -> Tip {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).tip.clone()
    }

    /// Number of blocks.
    pub fn height(&self) -> u64 {
        *self.height.borrow()
    }

    /// To wait for blocks.
    pub fn watch_height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ehrnet_fabric::blocks::new_block;

    fn three_blocks(folder: &Path) -> BlockStore {
        let store = BlockStore::open(folder, |_| {}).unwrap();
        for n in 0..3 {
            let tip = store.tip();
            store.append(&new_block(tip.height, tip.hash, vec![vec![n; 9]]), || {}).unwrap();
        }
        store
    }

    #[test]
    fn only_the_next_block_with_right_hashes_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = three_blocks(dir.path());
        let Tip { height, hash, .. } = store.tip();
        let mut wrong_data = new_block(height, hash.clone(), vec![vec![7]]);
        wrong_data.data.as_mut().unwrap().data[0][0] = 8;
        for block in [new_block(height, vec![1], vec![]), new_block(height + 1, hash.clone(), vec![]), wrong_data] {
            assert!(matches!(store.append(&block, || {}), Err(StoreError::OutOfOrder(_))));
        }
        store.append(&new_block(height, hash, vec![]), || {}).unwrap();
        assert_eq!(store.height(), 4);
    }

    #[test]
    fn reopening_finds_the_same_blocks_and_tip() {
        let dir = tempfile::tempdir().unwrap();
        let (tip, block) = {
            let store = three_blocks(dir.path());
            (store.tip(), store.block(1).unwrap())
        };
        let store = BlockStore::open(dir.path(), |_| {}).unwrap();
        assert_eq!((store.tip(), store.block(1).unwrap()), (tip, block));
        assert_eq!(store.block(3).unwrap(), None);
    }

    #[test]
    fn a_byte_edited_while_running_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = three_blocks(dir.path());
        let path = dir.path().join("blocks");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(9).position(|w| w == [1; 9]).unwrap();
        bytes[at] = 9;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(store.block(1), Err(StoreError::Corrupt { .. })));
        assert!(store.block(2).unwrap().is_some());
    }
}
