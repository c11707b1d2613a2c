//! Read-write sets: what a simulation read and wrote, as endorsers sign it and validators check it.

pub mod builder;
pub mod merkle;

use prost::Message;

use ehrnet_fabric::proto::kvrwset::{HashedRwSet, KvWrite, KvWriteHash, KvrwSet};
use ehrnet_fabric::proto::rwset::TxReadWriteSet;

/// The public part of a transaction's read-write set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RwSet {
    /// In the order given.
    pub namespaces: Vec<Namespace>,
}

/// Reads and writes in one chaincode's namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Namespace {
    /// The chaincode.
    pub name: String,
    /// Public keys.
    pub kv: KvrwSet,
    /// Hashes of private keys.
    pub collections: Vec<HashedCollection>,
}

/// Hashed reads and writes in one collection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HashedCollection {
    /// The collection.
    pub name: String,
    /// Hashed keys and values.
    pub set: HashedRwSet,
    /// SHA-256 of the private part; empty if nothing private was written.
    pub private_hash: Vec<u8>,
}

impl RwSet {
    /// Read a `rwset.TxReadWriteSet`.
    ///
    /// # Errors
    /// A part is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = |e: prost::DecodeError| format!("read-write set is not readable: {e}");
        let set = TxReadWriteSet::decode(bytes).map_err(text)?;
        let mut namespaces = Vec::new();
        for namespace in set.ns_rwset {
            let mut collections = Vec::new();
            for collection in namespace.collection_hashed_rwset {
                collections.push(HashedCollection {
                    name: collection.collection_name,
                    set: HashedRwSet::decode(collection.hashed_rwset.as_slice()).map_err(text)?,
                    private_hash: collection.pvt_rwset_hash,
                });
            }
            let kv = KvrwSet::decode(namespace.rwset.as_slice()).map_err(text)?;
            namespaces.push(Namespace { name: namespace.namespace, kv, collections });
        }
        Ok(Self { namespaces })
    }

    /// Collections with private writes, and their chaincodes.
    pub fn private_parts(&self) -> impl Iterator<Item = (&str, &HashedCollection)> {
        self.namespaces.iter().flat_map(|namespace| {
            let written = namespace.collections.iter().filter(|collection| !collection.private_hash.is_empty());
            written.map(|collection| (namespace.name.as_str(), collection))
        })
    }
}

impl Namespace {
    /// Whether anything is written.
    pub fn writes(&self) -> bool {
        let private = |collection: &HashedCollection| {
            !collection.set.hashed_writes.is_empty() || !collection.set.metadata_writes.is_empty()
        };
        !self.kv.writes.is_empty() || !self.kv.metadata_writes.is_empty() || self.collections.iter().any(private)
    }
}

/// Whether a write removes its key; writing an empty value does, too.
pub fn deletes(write: &KvWrite) -> bool {
    write.is_delete || write.value.is_empty()
}

/// The same for a hashed write.
pub fn deletes_hash(write: &KvWriteHash) -> bool {
    write.is_delete || write.value_hash.is_empty()
}

/// Sets for unit tests.
#[cfg(test)]
pub mod testing {
    use super::*;
    use ehrnet_fabric::proto::kvrwset::{KvMetadataEntry, KvMetadataWrite};

    /// A write; an empty value deletes.
    pub fn write(key: &str, value: &str) -> KvWrite {
        KvWrite { key: key.into(), is_delete: value.is_empty(), value: value.into() }
    }

    /// A write of one entry of metadata.
    pub fn metadata(key: &str, name: &str, value: &str) -> KvMetadataWrite {
        let entries = vec![KvMetadataEntry { name: name.into(), value: value.into() }];
        KvMetadataWrite { key: key.into(), entries }
    }

    /// A set that writes in one namespace.
    pub fn set(namespace: &str, writes: &[KvWrite], metadata: &[KvMetadataWrite]) -> RwSet {
        let kv = KvrwSet { writes: writes.to_vec(), metadata_writes: metadata.to_vec(), ..Default::default() };
        RwSet { namespaces: vec![Namespace { name: namespace.into(), kv, collections: vec![] }] }
    }
}
