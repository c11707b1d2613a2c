//! What the valid transactions of one block change, and the commit hash over it (Fabric: `txmgr/update_batch_bytes.go`,
//! `validation/tx_ops.go`).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::world::{Entry, State};
use super::{Collection, KeyHash, Version, sha256};
use crate::peer::rwset::{self, HashedCollection, Namespace, RwSet};
use ehrnet_fabric::proto::kvrwset::KvMetadataEntry;

/// A key's value and metadata.
pub type Content = (Vec<u8>, BTreeMap<String, Vec<u8>>);

/// The new content of a key, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Value and metadata; `None` if the key is deleted.
    pub entry: Option<Content>,
    /// Who does it.
    pub version: Version,
}

/// All changes of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    pub(super) public: BTreeMap<String, BTreeMap<String, Change>>,
    pub(super) hashed: BTreeMap<Collection, BTreeMap<KeyHash, Change>>,
}

/// One key's writes within a transaction.
#[derive(Default)]
struct Operation<'a> {
    deleted: bool,
    value: Option<&'a [u8]>,
    metadata: Option<&'a [KvMetadataEntry]>,
}

impl Updates {
    /// Changes of a namespace.
    pub fn public(&mut self, namespace: &str) -> &mut BTreeMap<String, Change> {
        self.public.entry(namespace.to_owned()).or_default()
    }

    /// Whether a transaction before has changed this key.
    pub fn touches(&self, namespace: &str, key: &str) -> bool {
        self.public.get(namespace).is_some_and(|changes| changes.contains_key(key))
    }

    /// The same for a private key, by its hash.
    pub fn touches_hash(&self, collection: &Collection, key_hash: &[u8]) -> bool {
        self.hashed.get(collection).is_some_and(|changes| changes.contains_key(key_hash))
    }

    /// Changes of a namespace in the order of keys, for merging with the state.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&String, &Change)> {
        self.public.get(namespace).into_iter().flatten()
    }

    /// Add the public and hashed writes of a valid transaction.
    pub fn add(&mut self, set: &RwSet, version: Version, state: &State) {
        for namespace in &set.namespaces {
            self.add_public(namespace, version, state);
            for hashed in &namespace.collections {
                self.add_hashed((namespace.name.clone(), hashed.name.clone()), hashed, version, state);
            }
        }
    }

    fn add_public(&mut self, namespace: &Namespace, version: Version, state: &State) {
        let mut operations: BTreeMap<&String, Operation<'_>> = BTreeMap::new();
        for write in &namespace.kv.writes {
            let operation = operations.entry(&write.key).or_default();
            if rwset::deletes(write) { operation.deleted = true } else { operation.value = Some(&write.value) }
        }
        for write in &namespace.kv.metadata_writes {
            operations.entry(&write.key).or_default().metadata = Some(&write.entries);
        }
        for (key, operation) in operations {
            let changed = self.public.get(&namespace.name).and_then(|changes| changes.get(key));
            let entry = operation.outcome(changed, state.get(&namespace.name, key));
            if let Some(entry) = entry {
                self.public(&namespace.name).insert(key.clone(), Change { entry, version });
            }
        }
    }

    fn add_hashed(&mut self, collection: Collection, hashed: &HashedCollection, version: Version, state: &State) {
        let mut operations: BTreeMap<&KeyHash, Operation<'_>> = BTreeMap::new();
        for write in &hashed.set.hashed_writes {
            let operation = operations.entry(&write.key_hash).or_default();
            match rwset::deletes_hash(write) {
                true => operation.deleted = true,
                false => operation.value = Some(&write.value_hash),
            }
        }
        for write in &hashed.set.metadata_writes {
            operations.entry(&write.key_hash).or_default().metadata = Some(&write.entries);
        }
        for (key, operation) in operations {
            let changed = self.hashed.get(&collection).and_then(|changes| changes.get(key));
            let entry = operation.outcome(changed, state.hashed(&collection, key));
            if let Some(entry) = entry {
                let changes = self.hashed.entry(collection.clone()).or_default();
                changes.insert(key.clone(), Change { entry, version });
            }
        }
    }

    /// Remove a private key's hash, unless the block writes it.
    pub fn expire(&mut self, collection: &Collection, key_hash: &[u8], version: Version) {
        let changes = self.hashed.entry(collection.clone()).or_default();
        changes.entry(key_hash.to_vec()).or_insert(Change { entry: None, version });
    }

    /// Private keys whose hashes go.
    pub fn forgotten(&self) -> impl Iterator<Item = (&Collection, &KeyHash)> {
        self.hashed.iter().flat_map(|(collection, changes)| {
            changes.iter().filter(|(_, change)| change.entry.is_none()).map(move |(key, _)| (collection, key))
        })
    }

    /// The hash that says whether two peers have the same state after this block: over the verdicts on its transactions
    /// (`flags`), its changes and the hash of the block before.
    pub fn commit_hash(&self, flags: &[u8], previous: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(flags.len() as u64, &mut bytes);
        bytes.extend_from_slice(flags);
        bytes.extend_from_slice(&self.to_bytes());
        bytes.extend_from_slice(previous);
        sha256(&bytes)
    }

    /// Public and hashed changes in Fabric's deterministic form.
    fn to_bytes(&self) -> Vec<u8> {
        let namespaces: BTreeSet<&String> =
            self.public.keys().chain(self.hashed.keys().map(|(namespace, _)| namespace)).collect();
        let mut writes = Vec::new();
        for namespace in namespaces {
            let from = writes.len();
            let public = self.public.get(namespace).into_iter().flatten();
            writes.extend(public.map(|(key, change)| Written::new(key.as_bytes(), change)));
            for ((_, name), changes) in self.hashed.iter().filter(|((of, _), _)| of == namespace) {
                let first = writes.len();
                writes.extend(changes.iter().map(|(key, change)| Written::new(key, change)));
                if let Some(first) = writes.get_mut(first) {
                    first.collection.clone_from(name);
                }
            }
            if let Some(first) = writes.get_mut(from) {
                first.namespace.clone_from(namespace);
            }
        }
        WrittenList { writes }.encode_to_vec()
    }
}

impl Operation<'_> {
    /// The key's content afterwards; the outer `None` if nothing changes. What is not written is kept.
    fn outcome(&self, changed: Option<&Change>, committed: Option<&Entry>) -> Option<Option<Content>> {
        if self.deleted {
            return Some(None);
        }
        let latest = match changed {
            Some(change) => change.entry.clone(),
            None => committed.map(|entry| (entry.value.clone(), entry.metadata.clone())),
        };
        let (value, metadata) = latest.map_or((None, BTreeMap::new()), |(value, metadata)| (Some(value), metadata));
        // Metadata alone of a key that does not exist is not kept.
        let value = self.value.map(<[u8]>::to_vec).or(value)?;
        let metadata = match self.metadata {
            Some(entries) => entries.iter().map(|entry| (entry.name.clone(), entry.value.clone())).collect(),
            None => metadata,
        };
        Some(Some((value, metadata)))
    }
}

/// `txmgr.KVWrite`, which Fabric only hashes.
#[derive(Clone, PartialEq, prost::Message)]
struct Written {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    collection: String,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bool, tag = "4")]
    is_delete: bool,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    version: Vec<u8>,
}

/// `txmgr.Updates`.
#[derive(Clone, PartialEq, prost::Message)]
struct WrittenList {
    #[prost(message, repeated, tag = "1")]
    writes: Vec<Written>,
}

impl Written {
    fn new(key: &[u8], change: &Change) -> Self {
        Self {
            key: key.to_vec(),
            is_delete: change.entry.is_none(),
            value: change.entry.as_ref().map(|(value, _)| value.clone()).unwrap_or_default(),
            version: change.version.to_bytes(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rwset::testing::{metadata, set, write};

    const AT: Version = Version { block: 3, tx: 1 };

    fn value(updates: &Updates, key: &str) -> Option<Content> {
        updates.public["cc"][key].entry.clone()
    }

    fn of(set: &RwSet, state: &State) -> Updates {
        let mut updates = Updates::default();
        updates.add(set, AT, state);
        updates
    }

    #[test]
    fn a_value_keeps_its_metadata_and_metadata_its_value() {
        let mut state = State::default();
        state.apply(&of(&set("cc", &[write("k", "1")], &[metadata("k", "POLICY", "p")]), &state.clone()));
        let updates = of(&set("cc", &[write("k", "2")], &[]), &state);
        assert_eq!(value(&updates, "k"), Some((b"2".to_vec(), [("POLICY".into(), b"p".to_vec())].into())));
        let updates = of(&set("cc", &[], &[metadata("k", "POLICY", "q")]), &state);
        assert_eq!(value(&updates, "k"), Some((b"1".to_vec(), [("POLICY".into(), b"q".to_vec())].into())));
    }

    #[test]
    fn metadata_of_an_absent_key_is_dropped_and_an_empty_value_deletes() {
        let state = State::default();
        assert_eq!(of(&set("cc", &[], &[metadata("k", "POLICY", "p")]), &state), Updates::default());
        assert_eq!(value(&of(&set("cc", &[write("k", "")], &[]), &state), "k"), None);
    }

    #[test]
    fn the_commit_hash_tells_verdicts_changes_and_past_apart() {
        let state = State::default();
        let updates = of(&set("cc", &[write("k", "1")], &[]), &state);
        let hash = updates.commit_hash(&[0], b"before");
        assert_ne!(hash, updates.commit_hash(&[11], b"before"));
        assert_ne!(hash, updates.commit_hash(&[0], b"other"));
        assert_ne!(hash, of(&set("cc", &[write("k", "2")], &[]), &state).commit_hash(&[0], b"before"));
        assert_eq!(hash, of(&set("cc", &[write("k", "1")], &[]), &state).commit_hash(&[0], b"before"));
    }
}
