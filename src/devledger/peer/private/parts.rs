//! The private parts of transactions: what a block refers to by hash, and whether data fits it.

use std::collections::BTreeMap;

use prost::Message;

use crate::peer::rwset::{HashedCollection, RwSet};
use crate::peer::state::{Collection, KeyHash, Version, sha256};
use ehrnet_fabric::proto::kvrwset::{KvWrite, KvrwSet};

/// One transaction's private part in one collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The transaction.
    pub version: Version,
    /// The collection.
    pub collection: Collection,
}

/// When keys were purged last: their data up to then is to be forgotten.
#[derive(Debug, Clone, Default)]
pub struct Purged(BTreeMap<(Collection, KeyHash), Version>);

impl Purged {
    /// Note the purges of a valid transaction, and tell whether there were any.
    pub fn add(&mut self, set: &RwSet, version: Version) -> bool {
        let mut any = false;
        for (namespace, collection) in set.private_parts() {
            let name: Collection = (namespace.to_owned(), collection.name.clone());
            for write in collection.set.hashed_writes.iter().filter(|write| write.is_purge) {
                self.0.insert((name.clone(), write.key_hash.clone()), version);
                any = true;
            }
        }
        any
    }

    /// Whether a key's data of that transaction was purged by it or later.
    pub fn covers(&self, collection: &Collection, key_hash: &[u8], written: Version) -> bool {
        self.0.get(&(collection.clone(), key_hash.to_vec())).is_some_and(|purged| *purged >= written)
    }

    /// A part's data without what was purged.
    pub fn strip(&self, part: &Part, mut set: KvrwSet) -> KvrwSet {
        let kept = |write: &KvWrite| !self.covers(&part.collection, &sha256(write.key.as_bytes()), part.version);
        set.writes.retain(kept);
        set
    }
}

/// Check data against the hashes in the block, and take purged keys out of it.
///
/// # Errors
/// It is not what the block speaks of.
pub fn fit(part: &Part, hashed: &HashedCollection, data: &[u8], purged: &Purged) -> Result<KvrwSet, String> {
    let set = KvrwSet::decode(data).map_err(|e| format!("private data is not readable: {e}"))?;
    if sha256(data) == hashed.private_hash {
        return Ok(purged.strip(part, set));
    }
    // Whoever purged keys of it can only give the rest.
    let mut writes = BTreeMap::new();
    for write in &set.writes {
        writes.insert(sha256(write.key.as_bytes()), write);
    }
    for expected in &hashed.set.hashed_writes {
        let given = writes.remove(&expected.key_hash);
        let fits = match given {
            Some(write) if expected.value_hash.is_empty() => write.value.is_empty(),
            Some(write) => sha256(&write.value) == expected.value_hash,
            None => purged.covers(&part.collection, &expected.key_hash, part.version),
        };
        if !fits {
            return Err("private data does not match its hash in the block".into());
        }
    }
    if !writes.is_empty() {
        return Err("private data has keys of which the block has no hash".into());
    }
    Ok(purged.strip(part, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rwset::builder::Builder;

    const AT: Version = Version { block: 5, tx: 0 };

    fn collection() -> Collection {
        ("cc".into(), "secrets".into())
    }

    fn written(keys: &[(&str, &str)], purge: bool) -> (RwSet, Vec<u8>) {
        let mut builder = Builder::default();
        for (key, value) in keys {
            builder.write_private(&collection(), key, value.as_bytes(), purge);
        }
        let results = builder.finish();
        let set = RwSet::decode(&results.public.encode_to_vec()).expect("readable");
        (set, results.private.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset.clone())
    }

    fn keys(set: &KvrwSet) -> Vec<&str> {
        set.writes.iter().map(|write| write.key.as_str()).collect()
    }

    #[test]
    fn data_fits_its_hash_or_is_refused() {
        let part = Part { version: AT, collection: collection() };
        let (set, data) = written(&[("a", "1"), ("b", "2")], false);
        let hashed = &set.namespaces[0].collections[0];
        assert_eq!(keys(&fit(&part, hashed, &data, &Purged::default()).expect("fits")), ["a", "b"]);
        for forged in [&[("a", "1"), ("b", "3")][..], &[("a", "1")], &[("a", "1"), ("b", "2"), ("c", "3")]] {
            let (_, forged) = written(forged, false);
            fit(&part, hashed, &forged, &Purged::default()).expect_err("refused");
        }
    }

    #[test]
    fn what_was_purged_is_taken_out_and_may_be_absent() {
        let part = Part { version: AT, collection: collection() };
        let (set, data) = written(&[("a", "1"), ("b", "2")], false);
        let hashed = &set.namespaces[0].collections[0];
        let mut purged = Purged::default();
        let (purge, _) = written(&[("a", "")], true);
        assert!(purged.add(&purge, Version { block: 6, tx: 0 }));
        assert_eq!(keys(&fit(&part, hashed, &data, &purged).expect("fits")), ["b"]);
        let (_, rest) = written(&[("b", "2")], false);
        assert_eq!(keys(&fit(&part, hashed, &rest, &purged).expect("fits")), ["b"]);
        // What is written after the purge stays.
        let later = Part { version: Version { block: 7, tx: 0 }, collection: collection() };
        assert_eq!(keys(&fit(&later, hashed, &data, &purged).expect("fits")), ["a", "b"]);
    }
}
