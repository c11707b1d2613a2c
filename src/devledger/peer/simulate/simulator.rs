//! One simulation (Fabric: `txmgr/tx_simulator.go`).
//!
//! The traps: private range queries and paged queries leave nothing in the read set that a validator could check, so
//! Fabric refuses any write beside them. And looking a collection's definition up is itself a read of the transaction.

use std::collections::{BTreeMap, BTreeSet};

use crate::peer::lifecycle::definition::Definition;
use crate::peer::lifecycle::{self, ReadWritableState, ReadableState};
use crate::peer::rwset::builder::{Builder, Metadata, Results};
use crate::peer::simulate::queries::RangeRead;
use crate::peer::state::world::{Missing, State};
use crate::peer::state::{Collection, Version, sha256};
use ehrnet_fabric::proto::protos::StaticCollectionConfig;
use ehrnet_fabric::proto::queryresult::Kv;

/// A simulation on one channel.
pub struct Simulator {
    channel: String,
    tx_id: String,
    orgs: Vec<String>,
    state: State,
    builder: Builder,
    ranges: Vec<RangeRead>,
    wrote: bool,
    queried_private: bool,
    paged: bool,
    collections: BTreeMap<String, BTreeSet<String>>,
    touched: Touched,
}

/// What the endorsement policies of a simulation's result depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Metadata in the state of each key that is written; collection "" is public.
    pub written: BTreeMap<Collection, BTreeMap<String, Metadata>>,
    /// Collections of which private values were read.
    pub private_reads: BTreeSet<Collection>,
    /// Namespaces with anything read or written.
    pub namespaces: BTreeSet<String>,
}

/// A finished simulation.
pub struct Simulated {
    /// The read-write set.
    pub results: Results,
    /// What its policies depend on.
    pub touched: Touched,
}

impl Simulator {
    /// Simulate on `state`; `orgs` are the MSP ids of the channel's application organisations.
    pub fn new(channel: &str, tx_id: &str, orgs: Vec<String>, state: State) -> Self {
        Self {
            channel: channel.to_owned(),
            tx_id: tx_id.to_owned(),
            orgs,
            state,
            builder: Builder::default(),
            ranges: Vec::new(),
            wrote: false,
            queried_private: false,
            paged: false,
            collections: BTreeMap::new(),
            touched: Touched::default(),
        }
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The state simulated on.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The read-write set.
    pub fn finish(mut self) -> Simulated {
        for range in self.ranges {
            range.note(&mut self.builder);
        }
        self.touched.namespaces = self.builder.touched().cloned().collect();
        Simulated { results: self.builder.finish(), touched: self.touched }
    }

    /// Value of a public key.
    pub fn get(&mut self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        let entry = self.state.get(namespace, key);
        self.builder.read(namespace, key, entry.map(|entry| entry.version));
        entry.map(|entry| entry.value.clone())
    }

    /// Metadata of a public key.
    pub fn metadata(&mut self, namespace: &str, key: &str) -> Metadata {
        let entry = self.state.get(namespace, key);
        self.builder.read(namespace, key, entry.map(|entry| entry.version));
        entry.map(|entry| entry.metadata.clone()).unwrap_or_default()
    }

    /// Write a public key; an empty value deletes it.
    ///
    /// # Errors
    /// Queries that forbid writing were made before.
    pub fn put(&mut self, namespace: &str, key: &str, value: &[u8]) -> Result<(), String> {
        self.before_write()?;
        self.builder.write(namespace, key, value);
        self.note_public_write(namespace, key);
        Ok(())
    }

    /// Replace a public key's metadata.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_metadata(&mut self, namespace: &str, key: &str, metadata: &Metadata) -> Result<(), String> {
        self.before_write()?;
        self.builder.write_metadata(namespace, key, metadata);
        self.note_public_write(namespace, key);
        Ok(())
    }

    /// Value of a private key.
    ///
    /// # Errors
    /// There is no such collection, or this peer does not have the value.
    pub fn get_private(&mut self, collection: &Collection, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.check_collection(collection)?;
        let found = self.state.private(collection, key).map_err(|Missing { hashed }| {
            format!(
                "private data matching public hash version is not available. Public hash version = {}, Private data \
                 version = <nil>",
                text(hashed)
            )
        })?;
        self.builder.read_hash(collection, key, found.map(|(_, version)| version));
        self.touched.private_reads.insert(collection.clone());
        Ok(found.map(|(value, _)| value.to_vec()))
    }

    /// Hash of a private value.
    ///
    /// # Errors
    /// There is no such collection.
    pub fn private_hash(&mut self, collection: &Collection, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.check_collection(collection)?;
        let entry = self.state.hashed(collection, &sha256(key.as_bytes()));
        self.builder.read_hash(collection, key, entry.map(|entry| entry.version));
        Ok(entry.map(|entry| entry.value.clone()))
    }

    /// Metadata of a private key.
    ///
    /// # Errors
    /// There is no such collection.
    pub fn private_metadata(&mut self, collection: &Collection, key: &str) -> Result<Metadata, String> {
        self.private_hash(collection, key)?;
        let entry = self.state.hashed(collection, &sha256(key.as_bytes()));
        Ok(entry.map(|entry| entry.metadata.clone()).unwrap_or_default())
    }

    /// Write a private key; an empty value deletes it, `purge` with all its past.
    ///
    /// # Errors
    /// There is no such collection, or queries that forbid writing were made before.
    pub fn put_private(&mut self, collection: &Collection, key: &str, value: &[u8], purge: bool) -> Result<(), String> {
        self.check_collection(collection)?;
        self.before_write()?;
        self.builder.write_private(collection, key, value, purge);
        self.note_private_write(collection, key);
        Ok(())
    }

    /// Replace a private key's metadata.
    ///
    /// # Errors
    /// As [`Self::put_private`].
    pub fn put_private_metadata(
        &mut self,
        collection: &Collection,
        key: &str,
        metadata: &Metadata,
    ) -> Result<(), String> {
        self.check_collection(collection)?;
        self.before_write()?;
        self.builder.write_private_metadata(collection, key, metadata);
        self.note_private_write(collection, key);
        Ok(())
    }

    /// Begin a range query, and return its handle. With a page size (0: without limit) it is a paged one.
    ///
    /// # Errors
    /// A paged query beside writes.
    pub fn open_range(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        page: Option<usize>,
    ) -> Result<usize, String> {
        if page.is_some() {
            if self.wrote {
                return Err(self.unsupported("Paginated queries are supported only in a read-only transaction"));
            }
            self.paged = true;
        }
        self.ranges.push(RangeRead::new(namespace, start, end, page.filter(|size| *size > 0)));
        Ok(self.ranges.len() - 1)
    }

    /// The next result of a range query.
    pub fn next_in_range(&mut self, handle: usize) -> Option<Kv> {
        self.ranges.get_mut(handle)?.next(&self.state)
    }

    /// The key at which the page after a range query's begins; empty if there is none.
    pub fn bookmark(&self, handle: usize) -> String {
        self.ranges.get(handle).map(|range| range.bookmark(&self.state)).unwrap_or_default()
    }

    /// The private keys of a range, which this peer has, and their values.
    ///
    /// # Errors
    /// There is no such collection, or something was written before.
    pub fn private_range(
        &mut self,
        collection: &Collection,
        start: &str,
        end: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, String> {
        if self.wrote {
            return Err(self.unsupported("Queries on pvt data is supported only in a read-only transaction"));
        }
        self.queried_private = true;
        self.check_collection(collection)?;
        let found = self.state.private_range(collection, start, end);
        Ok(found.map(|(key, value)| (key.clone(), value.to_vec())).collect())
    }

    /// A collection's configuration.
    ///
    /// # Errors
    /// There is no such collection.
    pub fn collection(&mut self, collection: &Collection) -> Result<StaticCollectionConfig, String> {
        let (namespace, name) = collection;
        let found = self.definition(namespace)?.and_then(|definition| definition.collection(name));
        found.ok_or_else(|| format!("collection {}/{namespace}/{name} could not be found", self.channel))
    }

    /// Definition of a chaincode; the lifecycle itself has one without being defined.
    fn definition(&mut self, namespace: &str) -> Result<Option<Definition>, String> {
        if namespace == lifecycle::NAMESPACE {
            return Ok(Some(Definition::default()));
        }
        Definition::read(self, namespace)
    }

    fn check_collection(&mut self, (namespace, name): &Collection) -> Result<(), String> {
        if !self.collections.contains_key(namespace) {
            let definition = self.definition(namespace)?.unwrap_or_default();
            let defined = lifecycle::collections::configs(&definition.collections).map(|config| config.name.clone());
            let implicit = self.orgs.iter().map(|org| lifecycle::implicit_collection(org));
            let names = defined.chain(implicit).collect();
            self.collections.insert(namespace.clone(), names);
        }
        match self.collections.get(namespace).is_some_and(|names| names.contains(name)) {
            true => Ok(()),
            false => {
                Err(format!("collection [{name}] not defined in the collection config for chaincode [{namespace}]"))
            }
        }
    }

    fn before_write(&mut self) -> Result<(), String> {
        if self.queried_private {
            return Err(
                self.unsupported("Transaction has already performed queries on pvt data. Writes are not allowed")
            );
        }
        if self.paged {
            return Err(self.unsupported("Transaction has already performed a paginated query. Writes are not allowed"));
        }
        self.wrote = true;
        Ok(())
    }

    fn unsupported(&self, what: &str) -> String {
        // The typing error is Fabric's.
        format!("txid [{}]: unsuppored transaction. {what}", self.tx_id)
    }

    fn note_public_write(&mut self, namespace: &str, key: &str) {
        let metadata = self.state.get(namespace, key).map(|entry| entry.metadata.clone());
        let place = (namespace.to_owned(), String::new());
        self.touched.written.entry(place).or_default().insert(key.to_owned(), metadata.unwrap_or_default());
    }

    fn note_private_write(&mut self, collection: &Collection, key: &str) {
        let entry = self.state.hashed(collection, &sha256(key.as_bytes()));
        let metadata = entry.map(|entry| entry.metadata.clone()).unwrap_or_default();
        self.touched.written.entry(collection.clone()).or_default().insert(key.to_owned(), metadata);
    }
}

fn text(version: Version) -> String {
    format!("{{BlockNum: {}, TxNum: {}}}", version.block, version.tx)
}

fn own(collection: &str) -> Collection {
    (lifecycle::NAMESPACE.to_owned(), collection.to_owned())
}

impl ReadableState for Simulator {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        match collection {
            "" => Ok(Self::get(self, lifecycle::NAMESPACE, key)),
            _ => self.get_private(&own(collection), key),
        }
    }
}

impl ReadWritableState for Simulator {
    fn put(&mut self, collection: &str, key: &str, value: &[u8]) -> Result<(), String> {
        match collection {
            "" => Self::put(self, lifecycle::NAMESPACE, key, value),
            _ => self.put_private(&own(collection), key, value, false),
        }
    }

    fn hash(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.private_hash(&own(collection), key)
    }

    fn with_prefix(&mut self, collection: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        let end = format!("{prefix}\x7f");
        if !collection.is_empty() {
            return self.private_range(&own(collection), prefix, &end);
        }
        let handle = self.open_range(lifecycle::NAMESPACE, prefix, &end, None)?;
        let mut found = Vec::new();
        while let Some(kv) = self.next_in_range(handle) {
            found.push((kv.key, kv.value));
        }
        Ok(found)
    }
}
