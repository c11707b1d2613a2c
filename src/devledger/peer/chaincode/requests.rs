//! What a chaincode asks of its simulation, and the answers (Fabric: the `Handle...` functions of
//! `core/chaincode/handler.go`).

use std::collections::BTreeMap;

use prost::Message;

use crate::peer::lifecycle::collections;
use crate::peer::rwset::builder::Metadata;
use crate::peer::simulate::simulator::Simulator;
use crate::peer::state::{Collection, Version};
use ehrnet_fabric::authorization::evaluate_signature_policy;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::{
    ChaincodeMessage, DelState, GetHistoryForKey, GetQueryResult, GetState, GetStateByRange, GetStateMetadata,
    GetStateMultiple, GetStateMultipleResult, PutState, PutStateMetadata, QueryMetadata, QueryResponse,
    QueryResponseMetadata, QueryResultBytes, QueryStateClose, QueryStateNext, StateMetadata, StateMetadataResult,
    WriteBatchState, write_record,
};
use ehrnet_fabric::proto::queryresult::{KeyModification, Kv};

/// Results in one message.
const BATCH: usize = 100;
/// Results of one query (Fabric: `ledger.state.totalQueryLimit`).
const MOST: usize = 100_000;

/// Earlier values of a channel's keys.
pub trait ChannelHistory: Send + Sync {
    /// Who wrote a key, newest first.
    fn writers(&self, namespace: &str, key: &str) -> Vec<Version>;

    /// What one of them wrote.
    ///
    /// # Errors
    /// The block cannot be read.
    fn modification(&self, namespace: &str, key: &str, version: Version) -> Result<KeyModification, String>;
}

/// A chaincode's call within a simulation.
pub struct Context<'a> {
    /// The simulation.
    pub simulator: &'a mut Simulator,
    /// The chaincode.
    pub namespace: &'a str,
    /// Whether this is its initialisation.
    pub is_init: bool,
    /// Who called.
    pub creator: &'a Identity,
    /// Earlier values.
    pub past: &'a dyn ChannelHistory,
    /// The channel's capabilities allow purging.
    pub may_purge: bool,
    /// Read and write permissions by collection.
    permissions: BTreeMap<String, (bool, bool)>,
    queries: BTreeMap<String, Query>,
    opened: usize,
}

/// A query in progress.
struct Query {
    source: Source,
    /// Read but not handed out.
    pending: Vec<QueryResultBytes>,
    /// All that were read.
    total: usize,
    limit: usize,
    /// Handle of a paged query, for its bookmark.
    paged: Option<usize>,
}

enum Source {
    Range(usize),
    Private(std::vec::IntoIter<Kv>),
    History { key: String, writers: std::vec::IntoIter<Version> },
}

type Answer = Result<Vec<u8>, String>;

fn decode<T: Message + Default>(payload: &[u8]) -> Result<T, String> {
    T::decode(payload).map_err(|e| format!("unmarshal failed: {e}"))
}

impl<'a> Context<'a> {
    /// Begin a call.
    pub fn new(
        simulator: &'a mut Simulator,
        namespace: &'a str,
        is_init: bool,
        creator: &'a Identity,
        past: &'a dyn ChannelHistory,
        may_purge: bool,
    ) -> Self {
        let (permissions, queries) = (BTreeMap::new(), BTreeMap::new());
        Self { simulator, namespace, is_init, creator, past, may_purge, permissions, queries, opened: 0 }
    }

    /// Answer a request. Calls of other chaincode are not answered here.
    pub fn answer(&mut self, request: &ChaincodeMessage) -> ChaincodeMessage {
        let payload = request.payload.as_slice();
        let answer = match request.r#type() {
            Type::GetState => self.get_state(payload),
            Type::GetStateMultiple => self.get_state_multiple(payload),
            Type::GetPrivateDataHash => self.get_private_hash(payload),
            Type::GetStateMetadata => self.get_metadata(payload),
            Type::PutState => decode(payload).and_then(|put: PutState| self.put(&put)),
            Type::DelState => decode(payload).and_then(|delete: DelState| self.delete(&delete)),
            Type::PurgePrivateData => decode(payload).and_then(|purge: DelState| self.purge(&purge)),
            Type::PutStateMetadata => decode(payload).and_then(|put: PutStateMetadata| self.put_metadata(put)),
            Type::WriteBatchState => self.write_batch(payload),
            Type::GetStateByRange => self.range(payload),
            Type::GetHistoryForKey => self.history(payload),
            Type::GetQueryResult => self.rich_query(payload),
            Type::QueryStateNext => {
                decode(payload).and_then(|next: QueryStateNext| self.next(&next.id).map(|r| r.encode_to_vec()))
            }
            Type::QueryStateClose => self.close(payload),
            other => Err(format!("cannot handle message ({}) while in ready state", other.as_str_name())),
        };
        reply(request, answer)
    }

    fn get_state(&mut self, payload: &[u8]) -> Answer {
        let GetState { key, collection } = decode(payload)?;
        if collection.is_empty() {
            return Ok(self.simulator.get(self.namespace, &key).unwrap_or_default());
        }
        let collection = self.readable(collection)?;
        Ok(self.simulator.get_private(&collection, &key)?.unwrap_or_default())
    }

    fn get_state_multiple(&mut self, payload: &[u8]) -> Answer {
        let GetStateMultiple { keys, collection } = decode(payload)?;
        let mut values = Vec::new();
        let collection = if collection.is_empty() { None } else { Some(self.readable(collection)?) };
        for key in &keys {
            let value = match &collection {
                None => self.simulator.get(self.namespace, key),
                Some(collection) => self.simulator.get_private(collection, key)?,
            };
            values.push(value.unwrap_or_default());
        }
        Ok(GetStateMultipleResult { values }.encode_to_vec())
    }

    fn get_private_hash(&mut self, payload: &[u8]) -> Answer {
        let GetState { key, collection } = decode(payload)?;
        let collection = self.not_in_init(collection)?;
        Ok(self.simulator.private_hash(&collection, &key)?.unwrap_or_default())
    }

    fn get_metadata(&mut self, payload: &[u8]) -> Answer {
        let GetStateMetadata { key, collection } = decode(payload)?;
        let metadata = match collection.is_empty() {
            true => self.simulator.metadata(self.namespace, &key),
            false => {
                let collection = self.readable(collection)?;
                self.simulator.private_metadata(&collection, &key)?
            }
        };
        let entries = metadata.into_iter().map(|(metakey, value)| StateMetadata { metakey, value }).collect();
        Ok(StateMetadataResult { entries }.encode_to_vec())
    }

    fn put(&mut self, put: &PutState) -> Answer {
        self.write(&put.collection, &put.key, &put.value)
    }

    fn delete(&mut self, delete: &DelState) -> Answer {
        self.write(&delete.collection, &delete.key, &[])
    }

    fn write(&mut self, collection: &str, key: &str, value: &[u8]) -> Answer {
        if collection.is_empty() {
            self.simulator.put(self.namespace, key, value)?;
        } else {
            let collection = self.writable(collection.to_owned())?;
            self.simulator.put_private(&collection, key, value, false)?;
        }
        Ok(Vec::new())
    }

    fn purge(&mut self, purge: &DelState) -> Answer {
        if !self.may_purge {
            return Err(
                "purge private data is not enabled, channel application capability of V2_5 or later is required".into(),
            );
        }
        if purge.collection.is_empty() {
            return Err("only applicable for private data".into());
        }
        let collection = self.writable(purge.collection.clone())?;
        self.simulator.put_private(&collection, &purge.key, &[], true)?;
        Ok(Vec::new())
    }

    fn put_metadata(&mut self, put: PutStateMetadata) -> Answer {
        let entry = put.metadata.unwrap_or_default();
        let metadata: Metadata = [(entry.metakey, entry.value)].into();
        if put.collection.is_empty() {
            self.simulator.put_metadata(self.namespace, &put.key, &metadata)?;
        } else {
            let collection = self.writable(put.collection)?;
            self.simulator.put_private_metadata(&collection, &put.key, &metadata)?;
        }
        Ok(Vec::new())
    }

    fn write_batch(&mut self, payload: &[u8]) -> Answer {
        let batch: WriteBatchState = decode(payload)?;
        for record in batch.rec {
            let kind = record.r#type();
            let (key, collection) = (record.key, record.collection);
            match kind {
                write_record::Type::PutState => self.put(&PutState { key, value: record.value, collection })?,
                write_record::Type::DelState => self.delete(&DelState { key, collection })?,
                write_record::Type::PurgePrivateData => self.purge(&DelState { key, collection })?,
                write_record::Type::PutStateMetadata => {
                    self.put_metadata(PutStateMetadata { key, collection, metadata: record.metadata })?
                }
                write_record::Type::Undefined => return Err("unknown operation type".into()),
            };
        }
        Ok(Vec::new())
    }

    fn range(&mut self, payload: &[u8]) -> Answer {
        let query: GetStateByRange = decode(payload)?;
        let page: QueryMetadata = decode(&query.metadata)?;
        let size = usize::try_from(page.page_size).unwrap_or(0);
        let is_paged = size > 0 || !page.bookmark.is_empty();
        let limit = if size > 0 { size.min(MOST) } else { MOST };
        let (source, paged) = if !query.collection.is_empty() {
            let collection = self.readable(query.collection)?;
            let found = self.simulator.private_range(&collection, &query.start_key, &query.end_key)?;
            let namespace = self.namespace.to_owned();
            let kvs = found.into_iter().map(|(key, value)| Kv { namespace: namespace.clone(), key, value });
            (Source::Private(kvs.collect::<Vec<_>>().into_iter()), None)
        } else {
            let start = if page.bookmark.is_empty() { &query.start_key } else { &page.bookmark };
            let page = is_paged.then_some(size);
            let handle = self.simulator.open_range(self.namespace, start, &query.end_key, page)?;
            (Source::Range(handle), is_paged.then_some(handle))
        };
        self.open(source, limit, paged)
    }

    fn history(&mut self, payload: &[u8]) -> Answer {
        let GetHistoryForKey { key } = decode(payload)?;
        let writers = self.past.writers(self.namespace, &key).into_iter();
        self.open(Source::History { key, writers }, MOST, None)
    }

    fn rich_query(&mut self, payload: &[u8]) -> Answer {
        let query: GetQueryResult = decode(payload)?;
        if !query.collection.is_empty() {
            self.readable(query.collection)?;
        }
        Err("ExecuteQuery not supported for leveldb".into())
    }

    fn open(&mut self, source: Source, limit: usize, paged: Option<usize>) -> Answer {
        self.opened += 1;
        let id = self.opened.to_string();
        self.queries.insert(id.clone(), Query { source, pending: Vec::new(), total: 0, limit, paged });
        self.next(&id).map(|response| response.encode_to_vec())
    }

    /// The next results of a query. Without pages, one more than fits is read, to know that there is more.
    fn next(&mut self, id: &str) -> Result<QueryResponse, String> {
        let mut query = self.queries.remove(id).ok_or("query iterator not found")?;
        while query.total < query.limit {
            let Some(result) = self.read(&mut query.source)? else { break };
            query.total += 1;
            let full = query.paged.is_none() && query.pending.len() == BATCH;
            let batch = if full { std::mem::take(&mut query.pending) } else { Vec::new() };
            query.pending.push(QueryResultBytes { result_bytes: result });
            if full {
                self.queries.insert(id.to_owned(), query);
                return Ok(QueryResponse { results: batch, has_more: true, id: id.to_owned(), metadata: Vec::new() });
            }
        }
        let metadata = query.paged.map(|handle| {
            let fetched_records_count = i32::try_from(query.total).unwrap_or(i32::MAX);
            QueryResponseMetadata { fetched_records_count, bookmark: self.simulator.bookmark(handle) }.encode_to_vec()
        });
        let metadata = metadata.unwrap_or_default();
        Ok(QueryResponse { results: query.pending, has_more: false, id: id.to_owned(), metadata })
    }

    fn read(&mut self, source: &mut Source) -> Result<Option<Vec<u8>>, String> {
        Ok(match source {
            Source::Range(handle) => self.simulator.next_in_range(*handle).map(|kv| kv.encode_to_vec()),
            Source::Private(kvs) => kvs.next().map(|kv| kv.encode_to_vec()),
            Source::History { key, writers } => match writers.next() {
                Some(version) => Some(self.past.modification(self.namespace, key, version)?.encode_to_vec()),
                None => None,
            },
        })
    }

    fn close(&mut self, payload: &[u8]) -> Answer {
        let QueryStateClose { id } = decode(payload)?;
        self.queries.remove(&id);
        Ok(QueryResponse { id, ..Default::default() }.encode_to_vec())
    }

    fn readable(&mut self, collection: String) -> Result<Collection, String> {
        self.permitted(collection, "read", |(read, _)| read)
    }

    fn writable(&mut self, collection: String) -> Result<Collection, String> {
        self.permitted(collection, "write", |(_, write)| write)
    }

    fn not_in_init(&self, collection: String) -> Result<Collection, String> {
        match self.is_init {
            true => Err("private data APIs are not allowed in chaincode Init()".into()),
            false => Ok((self.namespace.to_owned(), collection)),
        }
    }

    /// Members may do everything; others what the collection does not keep for its members.
    fn permitted(
        &mut self,
        collection: String,
        what: &str,
        allowed: impl Fn((bool, bool)) -> bool,
    ) -> Result<Collection, String> {
        let collection = self.not_in_init(collection)?;
        let permission = match self.permissions.get(&collection.1) {
            Some(permission) => *permission,
            None => {
                let config = self.simulator.collection(&collection)?;
                let policy = collections::members(&config);
                let is_member =
                    policy.is_some_and(|p| evaluate_signature_policy(p, std::slice::from_ref(self.creator)).is_ok());
                let permission = (is_member || !config.member_only_read, is_member || !config.member_only_write);
                self.permissions.insert(collection.1.clone(), permission);
                permission
            }
        };
        if allowed(permission) {
            return Ok(collection);
        }
        Err(format!(
            "tx creator does not have {what} access permission on privatedata in chaincodeName:{} collectionName: {}",
            collection.0, collection.1
        ))
    }
}

/// A message that answers another.
pub fn reply(request: &ChaincodeMessage, answer: Answer) -> ChaincodeMessage {
    let (kind, payload) = match answer {
        Ok(payload) => (Type::Response, payload),
        Err(reason) => {
            let what = request.r#type().as_str_name();
            (Type::Error, format!("{what} failed: transaction ID: {}: {reason}", request.txid).into_bytes())
        }
    };
    ChaincodeMessage {
        r#type: kind.into(),
        payload,
        txid: request.txid.clone(),
        channel_id: request.channel_id.clone(),
        ..Default::default()
    }
}
