//! The private data of committed transactions, on disk beside the blocks.
//!
//! What is purged or at the end of its life is taken out of the file itself, which is written anew for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;

use super::parts::Part;
use crate::peer::state::Version;
use crate::store::records::{RecordFile, Span, StoreError, sync_parent};
use ehrnet_fabric::proto::kvrwset::KvrwSet;

/// The open file and where each part lies in it.
#[derive(Debug)]
pub struct PrivateStore {
    path: PathBuf,
    file: RecordFile,
    spans: BTreeMap<Part, Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    block: u64,
    #[prost(uint64, tag = "2")]
    tx: u64,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "4")]
    collection: String,
    #[prost(bytes = "vec", tag = "5")]
    set: Vec<u8>,
}

impl PrivateStore {
    /// Open or create the store in a channel's folder.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("private");
        let (file, spans) = open(&path)?;
        Ok(Self { path, file, spans })
    }

    /// Add parts; they are on the disk when this returns.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn append(&mut self, parts: &[(Part, KvrwSet)]) -> Result<(), StoreError> {
        if parts.is_empty() {
            return Ok(());
        }
        let records: Vec<Vec<u8>> = parts.iter().map(|(part, set)| encode(part, set)).collect();
        let spans = self.file.append(records.iter().map(Vec::as_slice))?;
        self.spans.extend(parts.iter().map(|(part, _)| part.clone()).zip(spans));
        Ok(())
    }

    /// A part's data.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn get(&self, part: &Part) -> Result<Option<KvrwSet>, StoreError> {
        let Some(span) = self.spans.get(part) else { return Ok(None) };
        let bytes = self.file.read(*span)?;
        let decoded = decode(&bytes).map(|(_, set)| Some(set));
        decoded.map_err(|reason| StoreError::Corrupt { path: self.path.clone(), offset: span.start(), reason })
    }

    /// Whether a part's data is here.
    pub fn has(&self, part: &Part) -> bool {
        self.spans.contains_key(part)
    }

    /// All parts, in the order of their transactions.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.spans.keys()
    }

    /// Write the file anew with what `keep` leaves of each part; what it gives nothing for is dropped.
    ///
    /// # Errors
    /// See [`StoreError`]; the old file then still stands.
    pub fn rewrite(&mut self, keep: impl Fn(&Part, KvrwSet) -> Option<KvrwSet>) -> Result<(), StoreError> {
        let fresh = self.path.with_extension("new");
        if fresh.exists() {
            std::fs::remove_file(&fresh).map_err(|e| StoreError::io(&fresh, e))?;
        }
        let mut file = RecordFile::open(&fresh, |_, _| Ok(()))?;
        for part in self.spans.keys() {
            let Some(set) = self.get(part)?.and_then(|set| keep(part, set)) else { continue };
            file.append([encode(part, &set).as_slice()])?;
        }
        std::fs::rename(&fresh, &self.path).map_err(|e| StoreError::io(&self.path, e))?;
        sync_parent(&self.path)?;
        (self.file, self.spans) = open(&self.path)?;
        Ok(())
    }
}

fn open(path: &Path) -> Result<(RecordFile, BTreeMap<Part, Span>), StoreError> {
    let mut spans = BTreeMap::new();
    let file = RecordFile::open(path, |span, bytes| {
        let (part, _) = decode(bytes)?;
        spans.insert(part, span);
        Ok(())
    })?;
    Ok((file, spans))
}

fn encode(part: &Part, set: &KvrwSet) -> Vec<u8> {
    let (namespace, collection) = part.collection.clone();
    let Version { block, tx } = part.version;
    Record { block, tx, namespace, collection, set: set.encode_to_vec() }.encode_to_vec()
}

fn decode(bytes: &[u8]) -> Result<(Part, KvrwSet), String> {
    let record = Record::decode(bytes).map_err(|e| e.to_string())?;
    let set = KvrwSet::decode(record.set.as_slice()).map_err(|e| e.to_string())?;
    let version = Version { block: record.block, tx: record.tx };
    Ok((Part { version, collection: (record.namespace, record.collection) }, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::proto::kvrwset::KvWrite;

    fn part(block: u64) -> Part {
        Part { version: Version { block, tx: 0 }, collection: ("cc".into(), "secrets".into()) }
    }

    fn set(value: &str) -> KvrwSet {
        let write = KvWrite { key: "k".into(), is_delete: false, value: value.into() };
        KvrwSet { writes: vec![write], ..Default::default() }
    }

    #[test]
    fn parts_are_found_again_after_a_restart() {
        let dir = tempfile::tempdir().expect("folder");
        PrivateStore::open(dir.path()).expect("store").append(&[(part(1), set("one"))]).expect("stored");
        let store = PrivateStore::open(dir.path()).expect("store");
        assert_eq!(store.get(&part(1)).expect("read"), Some(set("one")));
        assert_eq!(store.get(&part(2)).expect("read"), None);
    }

    #[test]
    fn what_is_dropped_leaves_no_byte_behind() {
        let dir = tempfile::tempdir().expect("folder");
        let mut store = PrivateStore::open(dir.path()).expect("store");
        store.append(&[(part(1), set("canary")), (part(2), set("stays"))]).expect("stored");
        store.rewrite(|part, set| (part.version.block != 1).then_some(set)).expect("rewritten");
        assert_eq!(store.get(&part(2)).expect("read"), Some(set("stays")));
        store.append(&[(part(3), set("three"))]).expect("stored");
        assert_eq!(store.parts().count(), 2);
        for entry in std::fs::read_dir(dir.path()).expect("folder") {
            let bytes = std::fs::read(entry.expect("entry").path()).expect("file");
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
        }
    }
}
