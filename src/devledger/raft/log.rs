//! A raft group's log and vote on disk: one file of records, replayed at start and rewritten when its head is purged.
//!
//! Invariant: when a method returns, what it did is on the disk. Entries are also kept in memory; snapshots keep them few.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{Entry, LogId, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use serde::{Deserialize, Serialize};

use super::TypeConfig;
use crate::store::records::{RecordFile, StoreError};

/// Shared handle of one group's log.
#[derive(Clone)]
pub struct LogStore(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    file: RecordFile,
    state: State,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry<TypeConfig>>,
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
}

#[derive(Serialize, Deserialize)]
enum Change {
    Vote(Vote<u64>),
    Append(Entry<TypeConfig>),
    Truncate(u64),
    Purge(LogId<u64>),
}

impl State {
    fn change(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Append(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            Change::Truncate(from) => {
                self.entries.split_off(&from);
            }
            Change::Purge(to) => {
                self.entries = self.entries.split_off(&(to.index + 1));
                self.purged = Some(to);
            }
        }
    }
}

impl LogStore {
    /// Open the log in `folder`, which must exist.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("raft.log");
        let mut state = State::default();
        let file = RecordFile::open(&path, |_, bytes| {
            state.change(serde_json::from_slice(bytes).map_err(|e| e.to_string())?);
            Ok(())
        })?;
        Ok(Self(Arc::new(Mutex::new(Inner { path, file, state }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the group was never started here.
    pub fn is_pristine(&self) -> bool {
        let inner = self.lock();
        inner.state.vote.is_none() && inner.state.entries.is_empty() && inner.state.purged.is_none()
    }
}

impl Inner {
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let records = changes.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.file.append(records.iter().map(Vec::as_slice))?;
        changes.into_iter().for_each(|change| self.state.change(change));
        Ok(())
    }

    /// Forget the entries up to `to` on disk, too: write what is left to a new file and swap.
    fn purge(&mut self, to: LogId<u64>) -> Result<(), StoreError> {
        self.state.change(Change::Purge(to));
        let temporary = self.path.with_extension("new");
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::io(&temporary, e)),
            _ => {}
        }
        let mut records = Vec::new();
        if let Some(vote) = self.state.vote {
            records.push(encode(&Change::Vote(vote))?);
        }
        records.push(encode(&Change::Purge(to))?);
        for entry in self.state.entries.values() {
            records.push(encode(&Change::Append(entry.clone()))?);
        }
        RecordFile::open(&temporary, |_, _| Ok(()))?.append(records.iter().map(Vec::as_slice))?;
        std::fs::rename(&temporary, &self.path).map_err(|e| StoreError::io(&self.path, e))?;
        self.file = RecordFile::open(&self.path, |_, _| Ok(()))?;
        Ok(())
    }
}

fn encode(change: &Change) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(change).map_err(|e| StoreError::OutOfOrder(format!("a raft entry cannot be encoded: {e}")))
}

fn writing(error: &StoreError) -> StorageError<u64> {
    StorageIOError::write_logs(error).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        Ok(self.lock().state.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let inner = self.lock();
        let purged = inner.state.purged;
        let last = inner.state.entries.last_key_value().map(|(_, entry)| entry.log_id).or(purged);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.lock().apply(vec![Change::Vote(*vote)]).map_err(|e| StorageIOError::write_vote(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.lock().state.vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let changes = entries.into_iter().map(Change::Append).collect();
        self.lock().apply(changes).map_err(|e| writing(&e))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.lock().apply(vec![Change::Truncate(log_id.index)]).map_err(|e| writing(&e))
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.lock().purge(log_id).map_err(|e| writing(&e))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::raft::Batch;
    use openraft::{CommittedLeaderId, EntryPayload};

    fn log_id(index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(2, 1), index)
    }

    fn append(index: u64) -> Change {
        let batch = Batch { config_sequence: 0, envelopes: vec![vec![index.to_le_bytes()[0]]] };
        Change::Append(Entry { log_id: log_id(index), payload: EntryPayload::Normal(batch) })
    }

    fn indexes(store: &LogStore) -> Vec<u64> {
        store.lock().state.entries.keys().copied().collect()
    }

    #[tokio::test]
    async fn vote_and_entries_survive_truncation_purge_and_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = LogStore::open(dir.path()).unwrap();
        assert!(store.is_pristine());
        store.save_vote(&Vote::new(2, 1)).await.unwrap();
        store.lock().apply((1..=6).map(append).collect()).unwrap();
        store.truncate(log_id(6)).await.unwrap();
        store.purge(log_id(2)).await.unwrap();
        store.lock().apply(vec![append(6)]).unwrap();
        drop(store);
        let mut store = LogStore::open(dir.path()).unwrap();
        assert_eq!(indexes(&store), [3, 4, 5, 6]);
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(2, 1)));
        let state = store.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(2)), Some(log_id(6))));
    }
}
