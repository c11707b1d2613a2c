//! What a raft group does with committed entries: hands batches to the ledger and remembers where it is.
//!
//! The ledger is the durable state: it knows the raft index of its last block, so that an entry that is applied again
//! after a crash writes nothing. Of the machine itself only the last snapshot is stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EmptyNode, Entry, EntryPayload, LogId, OptionalSend, StorageError, StorageIOError, StoredMembership};
use serde::{Deserialize, Serialize};

use super::{Batch, Checkpoint, TypeConfig};
use crate::store::records::{StoreError, replace_file};

/// Makes blocks of committed batches.
#[async_trait]
pub trait BlockWriter: Send + Sync + 'static {
    /// Make a block of the batch, unless the block of this raft index is there already.
    ///
    /// # Errors
    /// The block cannot be stored; the node must stop.
    async fn commit(&self, batch: Batch, raft_index: u64) -> Result<(), StoreError>;

    /// Number of blocks.
    fn height(&self) -> u64;

    /// Get the blocks below `height` from others; returns when they are stored or the node is stopping.
    async fn catch_up(&self, height: u64);
}

/// One group's state machine.
#[derive(Clone)]
pub struct Machine {
    ledger: Arc<dyn BlockWriter>,
    file: PathBuf,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    meta: SnapshotMeta<u64, EmptyNode>,
    checkpoint: Checkpoint,
}

impl Machine {
    /// Continue from the snapshot stored in `file`, if any.
    ///
    /// # Errors
    /// The file cannot be read or is no snapshot.
    pub fn open(file: PathBuf, ledger: Arc<dyn BlockWriter>) -> Result<Self, StoreError> {
        let meta = read(&file)?.map(|stored| stored.meta).unwrap_or_default();
        Ok(Self { ledger, file, applied: meta.last_log_id, membership: meta.last_membership })
    }

    fn store(&self, stored: &Stored) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(stored).map_err(|e| StoreError::OutOfOrder(e.to_string()))?;
        replace_file(&self.file, &bytes)
    }
}

fn read(file: &Path) -> Result<Option<Stored>, StoreError> {
    let damaged = |reason| StoreError::Corrupt { path: file.to_owned(), offset: 0, reason };
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io(file, e)),
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let checkpoint = Checkpoint { height: self.ledger.height() };
        let index = self.applied.map_or(0, |id| id.index);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}-{}", checkpoint.height),
        };
        let stored = self.store(&Stored { meta: meta.clone(), checkpoint });
        stored.map_err(|e| StorageIOError::write_snapshot(Some(meta.signature()), &e))?;
        Ok(Snapshot { meta, snapshot: Box::new(checkpoint) })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for Entry { log_id, payload } in entries {
            match payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(batch) => {
                    let committed = self.ledger.commit(batch, log_id.index).await;
                    committed.map_err(|e| StorageIOError::apply(log_id, &e))?;
                }
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(log_id), members);
                }
            }
            self.applied = Some(log_id);
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Checkpoint>, StorageError<u64>> {
        Ok(Box::new(Checkpoint { height: 0 }))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Checkpoint>,
    ) -> Result<(), StorageError<u64>> {
        self.ledger.catch_up(snapshot.height).await;
        if self.ledger.height() < snapshot.height {
            let why = StoreError::OutOfOrder(format!("stopped while fetching the blocks below {}", snapshot.height));
            return Err(StorageIOError::write_snapshot(Some(meta.signature()), &why).into());
        }
        let stored = self.store(&Stored { meta: meta.clone(), checkpoint: *snapshot });
        stored.map_err(|e| StorageIOError::write_snapshot(Some(meta.signature()), &e))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        // The builder is a clone of this: only the file knows the newest snapshot.
        let stored = read(&self.file).map_err(|e| StorageIOError::read_snapshot(None, &e))?;
        Ok(stored.map(|stored| Snapshot { meta: stored.meta, snapshot: Box::new(stored.checkpoint) }))
    }
}
