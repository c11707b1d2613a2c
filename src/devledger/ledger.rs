//! A channel's ledger together with the configuration in force: what orderers and peers share.
//!
//! Invariant: the bundle is that of the newest configuration block stored.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::channel::bundle::Bundle;
use super::store::blocks::{BlockStore, Tip};
use super::store::records::StoreError;
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::Block;

/// Why a block was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk or what is on it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The block cannot be trusted or read.
    #[error("block {number} of channel {channel} is refused: {reason}")]
    Refused {
        /// The channel.
        channel: String,
        /// The block's number.
        number: u64,
        /// Why.
        reason: String,
    },
}

/// One channel's blocks and configuration.
#[derive(Debug)]
pub struct ChannelLedger {
    channel: String,
    store: BlockStore,
    current: RwLock<Option<Current>>,
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Current {
    /// The configuration.
    pub bundle: Arc<Bundle>,
    /// Number of the block it is in.
    pub config_block: u64,
}

impl ChannelLedger {
    /// Open the ledger in `folder`, creating it if it is not there; `visit` sees each block in order.
    ///
    /// # Errors
    /// Damaged files, or a last configuration that cannot be used.
    pub fn open(channel: &str, folder: &Path, mut visit: impl FnMut(&Block)) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::io(folder, e))?;
        let mut newest = None;
        let store = BlockStore::open(folder, |block| {
            if super::channel::is_config_block(block) {
                newest = Some(blocks::number(block));
            }
            visit(block);
        })?;
        let ledger = Self { channel: channel.to_owned(), store, current: RwLock::default() };
        if let Some(number) = newest
            && let Some(block) = ledger.store.block(number)?
        {
            ledger.adopt(ledger.read_config(&block)?, number);
        }
        Ok(ledger)
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The configuration in force; `None` before the first block.
    pub fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its bundle.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.current().map(|current| current.bundle)
    }

    /// The block with the configuration in force.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config_block(&self) -> Result<Option<Block>, StoreError> {
        match self.current() {
            Some(current) => self.store.block(current.config_block),
            None => Ok(None),
        }
    }

    /// Block `number`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn block(&self, number: u64) -> Result<Option<Block>, StoreError> {
        self.store.block(number)
    }

    /// Number of blocks.
    pub fn height(&self) -> u64 {
        self.store.height()
    }

    /// Where the next block has to fit.
    pub fn tip(&self) -> Tip {
        self.store.tip()
    }

    /// To wait for blocks.
    pub fn watch_height(&self) -> watch::Receiver<u64> {
        self.store.watch_height()
    }

    /// Check that a block got from another node is signed as the channel demands. The first is trusted as given.
    ///
    /// # Errors
    /// `Refused` if not.
    pub fn verify(&self, block: &Block) -> Result<(), LedgerError> {
        let Some(bundle) = self.bundle() else { return Ok(()) };
        bundle.check_block(block).map_err(|reason| self.refused(block, reason))
    }

    /// Store the next block and take over its configuration, if it has one.
    ///
    /// # Errors
    /// It does not continue the chain, cannot be stored, or holds an unusable configuration.
    pub fn append(&self, block: &Block) -> Result<(), LedgerError> {
        self.append_then(block, || {})
    }

    /// The same; `stored` runs once the block is on the disk and before those who wait for it hear of it.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_then(&self, block: &Block, stored: impl FnOnce()) -> Result<(), LedgerError> {
        let config = match super::channel::is_config_block(block) {
            true => Some(self.read_config(block)?),
            false => None,
        };
        self.store.append(block, || {
            if let Some(bundle) = config {
                self.adopt(bundle, blocks::number(block));
            }
            stored();
        })?;
        Ok(())
    }

    fn read_config(&self, block: &Block) -> Result<Bundle, LedgerError> {
        let bundle = Bundle::of_block(block).map_err(|reason| self.refused(block, reason))?;
        if bundle.channel != self.channel {
            return Err(self.refused(block, format!("it configures channel {}", bundle.channel)));
        }
        Ok(bundle)
    }

    fn adopt(&self, bundle: Bundle, number: u64) {
        let current = Current { bundle: Arc::new(bundle), config_block: number };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    fn refused(&self, block: &Block, reason: String) -> LedgerError {
        LedgerError::Refused { channel: self.channel.clone(), number: blocks::number(block), reason }
    }
}
