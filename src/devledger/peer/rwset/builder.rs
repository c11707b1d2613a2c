//! Builds the read-write set of a simulation, byte for byte as Fabric does (`rwsetutil/rwset_builder.go`): everything in
//! the order of its key, a key once.

use std::collections::BTreeMap;

use prost::Message;

use crate::peer::state::{Collection, Version, sha256};
use ehrnet_fabric::proto::kvrwset::range_query_info::ReadsInfo;
use ehrnet_fabric::proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvReadHash, KvWrite, KvWriteHash,
    KvrwSet, RangeQueryInfo,
};
use ehrnet_fabric::proto::rwset::{
    CollectionHashedReadWriteSet, CollectionPvtReadWriteSet, NsPvtReadWriteSet, NsReadWriteSet, TxPvtReadWriteSet,
    TxReadWriteSet,
};

/// Metadata of a key by name.
pub type Metadata = BTreeMap<String, Vec<u8>>;

/// Collects reads and writes.
#[derive(Debug, Default)]
pub struct Builder {
    namespaces: BTreeMap<String, Public>,
    private: BTreeMap<String, BTreeMap<String, Private>>,
}

#[derive(Debug, Default)]
struct Public {
    reads: BTreeMap<String, KvRead>,
    writes: BTreeMap<String, KvWrite>,
    metadata: BTreeMap<String, KvMetadataWrite>,
    ranges: Vec<RangeQueryInfo>,
    collections: BTreeMap<String, Hashed>,
}

/// By the key itself, not by its hash.
#[derive(Debug, Default)]
struct Hashed {
    reads: BTreeMap<String, KvReadHash>,
    writes: BTreeMap<String, KvWriteHash>,
    metadata: BTreeMap<String, KvMetadataWriteHash>,
}

#[derive(Debug, Default)]
struct Private {
    writes: BTreeMap<String, KvWrite>,
    metadata: BTreeMap<String, KvMetadataWrite>,
}

/// A simulation's results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// What goes into the transaction.
    pub public: TxReadWriteSet,
    /// What goes to the members of collections only; empty if nothing private was written.
    pub private: TxPvtReadWriteSet,
}

impl Builder {
    /// A public key was read.
    pub fn read(&mut self, namespace: &str, key: &str, version: Option<Version>) {
        let read = KvRead { key: key.into(), version: version.map(Version::to_proto) };
        self.public(namespace).reads.insert(key.into(), read);
    }

    /// A public key is written; an empty value deletes it.
    pub fn write(&mut self, namespace: &str, key: &str, value: &[u8]) {
        self.public(namespace).writes.insert(key.into(), kv_write(key, value));
    }

    /// A public key's metadata is replaced; empty removes it.
    pub fn write_metadata(&mut self, namespace: &str, key: &str, metadata: &Metadata) {
        let write = KvMetadataWrite { key: key.into(), entries: entries(metadata) };
        self.public(namespace).metadata.insert(key.into(), write);
    }

    /// A range was read from `start` to `end`, or to its end (`exhausted`). The same query counts once.
    pub fn range(&mut self, namespace: &str, start: &str, end: &str, exhausted: bool, reads: Option<ReadsInfo>) {
        let ranges = &mut self.public(namespace).ranges;
        let same = |r: &RangeQueryInfo| r.start_key == start && r.end_key == end && r.itr_exhausted == exhausted;
        if !ranges.iter().any(same) {
            ranges.push(RangeQueryInfo {
                start_key: start.into(),
                end_key: end.into(),
                itr_exhausted: exhausted,
                reads_info: reads,
            });
        }
    }

    /// A private key, or its hash, was read.
    pub fn read_hash(&mut self, collection: &Collection, key: &str, version: Option<Version>) {
        let read = KvReadHash { key_hash: sha256(key.as_bytes()), version: version.map(Version::to_proto) };
        self.hashed(collection).reads.insert(key.into(), read);
    }

    /// A private key is written; an empty value deletes it, `purge` with all its past.
    pub fn write_private(&mut self, collection: &Collection, key: &str, value: &[u8], purge: bool) {
        let hash = KvWriteHash {
            key_hash: sha256(key.as_bytes()),
            is_delete: value.is_empty(),
            value_hash: if value.is_empty() { Vec::new() } else { sha256(value) },
            is_purge: purge,
        };
        self.hashed(collection).writes.insert(key.into(), hash);
        self.private_part(collection).writes.insert(key.into(), kv_write(key, value));
    }

    /// A private key's metadata is replaced. The metadata is public, by the key's hash; the private part only names the
    /// key.
    pub fn write_private_metadata(&mut self, collection: &Collection, key: &str, metadata: &Metadata) {
        let write = KvMetadataWriteHash { key_hash: sha256(key.as_bytes()), entries: entries(metadata) };
        self.hashed(collection).metadata.insert(key.into(), write);
        let named = KvMetadataWrite { key: key.into(), entries: Vec::new() };
        self.private_part(collection).metadata.insert(key.into(), named);
    }

    /// Names of the namespaces that were touched.
    pub fn touched(&self) -> impl Iterator<Item = &String> {
        self.namespaces.keys()
    }

    /// The finished set.
    pub fn finish(self) -> Results {
        let mut private_hashes: BTreeMap<Collection, Vec<u8>> = BTreeMap::new();
        let mut private = TxPvtReadWriteSet::default();
        for (namespace, collections) in self.private {
            let mut parts = Vec::new();
            for (collection_name, part) in collections {
                let rwset = part.finish().encode_to_vec();
                private_hashes.insert((namespace.clone(), collection_name.clone()), sha256(&rwset));
                parts.push(CollectionPvtReadWriteSet { collection_name, rwset });
            }
            private.ns_pvt_rwset.push(NsPvtReadWriteSet { namespace, collection_pvt_rwset: parts });
        }
        let mut public = TxReadWriteSet::default();
        for (namespace, mut part) in self.namespaces {
            let collections = std::mem::take(&mut part.collections).into_iter();
            let collection_hashed_rwset = collections.map(|(collection_name, hashed)| {
                let hash = private_hashes.remove(&(namespace.clone(), collection_name.clone()));
                CollectionHashedReadWriteSet {
                    collection_name,
                    hashed_rwset: hashed.finish().encode_to_vec(),
                    pvt_rwset_hash: hash.unwrap_or_default(),
                }
            });
            public.ns_rwset.push(NsReadWriteSet {
                collection_hashed_rwset: collection_hashed_rwset.collect(),
                rwset: part.finish().encode_to_vec(),
                namespace,
            });
        }
        Results { public, private }
    }

    fn public(&mut self, namespace: &str) -> &mut Public {
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    fn hashed(&mut self, (namespace, name): &Collection) -> &mut Hashed {
        self.public(namespace).collections.entry(name.clone()).or_default()
    }

    fn private_part(&mut self, (namespace, name): &Collection) -> &mut Private {
        self.private.entry(namespace.clone()).or_default().entry(name.clone()).or_default()
    }
}

impl Public {
    fn finish(self) -> KvrwSet {
        KvrwSet {
            reads: self.reads.into_values().collect(),
            range_queries_info: self.ranges,
            writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata.into_values().collect(),
        }
    }
}

impl Hashed {
    fn finish(self) -> HashedRwSet {
        HashedRwSet {
            hashed_reads: self.reads.into_values().collect(),
            hashed_writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata.into_values().collect(),
        }
    }
}

impl Private {
    fn finish(self) -> KvrwSet {
        KvrwSet {
            writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata.into_values().collect(),
            ..Default::default()
        }
    }
}

fn kv_write(key: &str, value: &[u8]) -> KvWrite {
    KvWrite { key: key.into(), is_delete: value.is_empty(), value: value.to_vec() }
}

fn entries(metadata: &Metadata) -> Vec<KvMetadataEntry> {
    metadata.iter().map(|(name, value)| KvMetadataEntry { name: name.clone(), value: value.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rwset::RwSet;

    fn collection() -> Collection {
        ("cc".into(), "secrets".into())
    }

    #[test]
    fn keys_come_once_and_in_order_and_the_private_part_is_hashed() {
        let mut builder = Builder::default();
        builder.read("cc", "b", Some(Version { block: 2, tx: 1 }));
        builder.read("cc", "a", None);
        builder.write("cc", "k", b"1");
        builder.write("cc", "k", b"2");
        builder.write_private(&collection(), "secret", b"value", false);
        builder.read("_lifecycle", "x", None);
        let results = builder.finish();
        let set = RwSet::decode(&results.public.encode_to_vec()).expect("readable");
        assert_eq!(set.namespaces.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["_lifecycle", "cc"]);
        let cc = &set.namespaces[1];
        assert_eq!(cc.kv.reads.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(cc.kv.writes, [kv_write("k", b"2")]);
        let private = &results.private.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset;
        assert_eq!(cc.collections[0].private_hash, sha256(private));
        assert_eq!(cc.collections[0].set.hashed_writes[0].key_hash, sha256(b"secret"));
    }

    #[test]
    fn private_reads_leave_no_private_part_and_a_purge_deletes() {
        let mut builder = Builder::default();
        builder.read_hash(&collection(), "secret", None);
        let results = builder.finish();
        let set = RwSet::decode(&results.public.encode_to_vec()).expect("readable");
        assert!(set.namespaces[0].collections[0].private_hash.is_empty());
        assert!(results.private.ns_pvt_rwset.is_empty());

        let mut builder = Builder::default();
        builder.write_private(&collection(), "secret", b"", true);
        let set = RwSet::decode(&builder.finish().public.encode_to_vec()).expect("readable");
        let write = &set.namespaces[0].collections[0].set.hashed_writes[0];
        assert!(write.is_purge && write.is_delete && write.value_hash.is_empty());
    }
}
