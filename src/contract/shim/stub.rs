//! The ledger behind one transaction: each question is a message to the peer, each answer one back.

use async_trait::async_trait;
use prost::Message;
use tokio::sync::mpsc;

use super::session::Outgoing;
use crate::keys::Range;
use crate::stub::{ChaincodeStub, Entry, StubError, Write};
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::{
    ChaincodeAdditionalParams, ChaincodeMessage, DelState, GetState, GetStateByRange, GetStateMultiple,
    GetStateMultipleResult, PurgePrivateState, PutState, QueryMetadata, QueryResponse, QueryResponseMetadata,
    QueryStateNext, WriteBatchState, WriteRecord, write_record,
};
use ehrnet_fabric::proto::queryresult::Kv;

/// What the peer takes in one message; 0 where it takes one thing at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    reads: usize,
    writes: usize,
}

impl Limits {
    /// What a peer offers.
    pub fn of(offered: &ChaincodeAdditionalParams) -> Self {
        let limit = |offered: bool, size: u32| if offered { usize::try_from(size).unwrap_or(0) } else { 0 };
        Self {
            reads: limit(offered.use_get_multiple_keys, offered.max_size_get_multiple_keys),
            writes: limit(offered.use_write_batch, offered.max_size_write_batch),
        }
    }
}

/// The ledger of one transaction.
pub struct PeerStub {
    channel: String,
    tx_id: String,
    outgoing: Outgoing,
    answers: mpsc::Receiver<ChaincodeMessage>,
    limits: Limits,
}

impl PeerStub {
    /// The ledger of the transaction (channel, id).
    pub fn new(
        (channel, tx_id): (String, String),
        outgoing: Outgoing,
        answers: mpsc::Receiver<ChaincodeMessage>,
        limits: Limits,
    ) -> Self {
        Self { channel, tx_id, outgoing, answers, limits }
    }

    async fn ask(&mut self, r#type: Type, question: &impl Message) -> Result<Vec<u8>, StubError> {
        let gone = || StubError("it went away".into());
        let message = ChaincodeMessage {
            r#type: r#type.into(),
            payload: question.encode_to_vec(),
            txid: self.tx_id.clone(),
            channel_id: self.channel.clone(),
            ..Default::default()
        };
        self.outgoing.send(Ok(message)).await.map_err(|_| gone())?;
        let answer = self.answers.recv().await.ok_or_else(gone)?;
        match answer.r#type() {
            Type::Response => Ok(answer.payload),
            Type::Error => Err(StubError(String::from_utf8_lossy(&answer.payload).into_owned())),
            other => Err(StubError(format!("it answered {} with {other:?}", r#type.as_str_name()))),
        }
    }

    async fn values(&mut self, collection: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError> {
        let mut values = Vec::with_capacity(keys.len());
        let at_once = self.limits.reads;
        for keys in keys.chunks(at_once.max(1)) {
            match keys {
                [key] => {
                    let question = GetState { key: key.clone(), collection: collection.to_owned() };
                    values.push(self.ask(Type::GetState, &question).await?);
                }
                keys => {
                    let question = GetStateMultiple { keys: keys.to_vec(), collection: collection.to_owned() };
                    let answer = self.ask(Type::GetStateMultiple, &question).await?;
                    values.extend(decode::<GetStateMultipleResult>(&answer)?.values);
                }
            }
        }
        if values.len() != keys.len() {
            return Err(StubError(format!("it answered {} keys with {} values", keys.len(), values.len())));
        }
        // Fabric answers with nothing where there is nothing.
        Ok(values.into_iter().map(|value| Some(value).filter(|value| !value.is_empty())).collect())
    }

    /// Writes what a call leaves behind, in order.
    pub async fn write(&mut self, writes: Vec<Write>) -> Result<(), StubError> {
        if self.limits.writes == 0 {
            for write in writes {
                self.write_one(write).await?;
            }
            return Ok(());
        }
        let records: Vec<WriteRecord> = writes.into_iter().map(record).collect();
        for records in records.chunks(self.limits.writes) {
            self.ask(Type::WriteBatchState, &WriteBatchState { rec: records.to_vec() }).await?;
        }
        Ok(())
    }

    async fn write_one(&mut self, write: Write) -> Result<(), StubError> {
        let WriteRecord { key, value, collection, .. } = record(write.clone());
        let answer = match write {
            Write::Put { .. } | Write::PutPrivate { .. } => {
                self.ask(Type::PutState, &PutState { key, value, collection }).await
            }
            Write::Delete { .. } => self.ask(Type::DelState, &DelState { key, collection }).await,
            Write::Purge { .. } => self.ask(Type::PurgePrivateData, &PurgePrivateState { key, collection }).await,
        };
        answer.map(drop)
    }

    async fn query(&mut self, range: &Range, metadata: Option<QueryMetadata>) -> Result<QueryResponse, StubError> {
        let question = GetStateByRange {
            start_key: range.start.clone(),
            end_key: range.end.clone(),
            collection: String::new(),
            metadata: metadata.map(|metadata| metadata.encode_to_vec()).unwrap_or_default(),
        };
        decode(&self.ask(Type::GetStateByRange, &question).await?)
    }
}

#[async_trait]
impl ChaincodeStub for PeerStub {
    async fn get(&mut self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError> {
        self.values("", keys).await
    }

    async fn get_private(&mut self, collection: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError> {
        self.values(collection, keys).await
    }

    async fn range(&mut self, range: &Range) -> Result<Vec<Entry>, StubError> {
        let mut response = self.query(range, None).await?;
        let mut entries = entries(&response)?;
        while response.has_more {
            let question = QueryStateNext { id: response.id };
            response = decode(&self.ask(Type::QueryStateNext, &question).await?)?;
            entries.extend(self::entries(&response)?);
        }
        Ok(entries)
    }

    async fn page(&mut self, range: &Range, size: u16) -> Result<(Vec<Entry>, Option<String>), StubError> {
        let metadata = QueryMetadata { page_size: i32::from(size), bookmark: String::new() };
        let response = self.query(range, Some(metadata)).await?;
        let next = decode::<QueryResponseMetadata>(&response.metadata)?.bookmark;
        Ok((entries(&response)?, Some(next).filter(|next| range.contains(next))))
    }
}

fn record(write: Write) -> WriteRecord {
    let (r#type, collection, key, value) = match write {
        Write::Put { key, value } => (write_record::Type::PutState, "", key, value),
        Write::PutPrivate { collection, key, value } => (write_record::Type::PutState, collection, key, value),
        Write::Delete { key } => (write_record::Type::DelState, "", key, Vec::new()),
        Write::Purge { collection, key } => (write_record::Type::PurgePrivateData, collection, key, Vec::new()),
    };
    WriteRecord { key, value, collection: collection.to_owned(), metadata: None, r#type: r#type.into() }
}

fn entries(response: &QueryResponse) -> Result<Vec<Entry>, StubError> {
    let read = |bytes: &[u8]| decode::<Kv>(bytes).map(|kv| (kv.key, kv.value));
    response.results.iter().map(|result| read(&result.result_bytes)).collect()
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, StubError> {
    M::decode(bytes).map_err(|error| StubError(format!("its answer cannot be read: {error}")))
}
