//! A small chaincode that runs as a service, for tests of what is around a contract. It does as its arguments say.
//!
//! | function | arguments | does |
//! | --- | --- | --- |
//! | `put` | key, value | writes, and emits event `put` with the key |
//! | `get` | key | reads |
//! | `putPrivate` | collection, key | writes what the transient map has under `value` |
//! | `putBoth` | collection, key, value | writes the value, and privately what the transient map has under `value` |
//! | `getPrivate` | collection, key | reads |
//! | `privateHash` | collection, key | reads the hash |
//! | `purge` | collection, key | purges |
//! | `append` | key, text | reads and writes |
//! | `count` | start, end, key | writes under `key` how many keys are in the range |
//! | `page` | start, end, size, bookmark | reads a page: its keys and the next bookmark, separated by spaces |
//! | `history` | key | reads all values, newest first, separated by spaces |
//! | `call` | chaincode, arguments... | calls another chaincode |
//! | `guard` | key, MSP... | from now on, peers of all these must endorse writes of the key |
//! | `fail` | text | refuses |
//! | `who` | | answers with the name this instance was started with, and writes it |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ehrnet_fabric::chaincode::Rule;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::chaincode_server::{Chaincode, ChaincodeServer};
use ehrnet_fabric::proto::protos::{
    ChaincodeEvent, ChaincodeId, ChaincodeInput, ChaincodeMessage, ChaincodeProposalPayload, ChaincodeSpec,
    GetHistoryForKey, GetState, GetStateByRange, Proposal, PurgePrivateState, PutState, PutStateMetadata,
    QueryMetadata, QueryResponse, QueryResponseMetadata, QueryStateNext, Response as Answer, StateMetadata,
};
use ehrnet_fabric::proto::queryresult::{KeyModification, Kv};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// A running service; it ends with the test's runtime.
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    id: Arc<Mutex<String>>,
}

impl Service {
    /// Starts an instance called `name` on `host`, without TLS. It answers peers once it knows its package id.
    pub async fn start(host: &str, name: &str) -> Self {
        Self::serve(host, name, Server::builder()).await
    }

    /// The same with TLS.
    pub async fn start_tls(host: &str, name: &str, tls: ServerTlsConfig) -> Self {
        Self::serve(host, name, Server::builder().tls_config(tls).expect("TLS")).await
    }

    async fn serve(host: &str, name: &str, mut server: Server) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("listen");
        let address = listener.local_addr().expect("address");
        let id = Arc::<Mutex<String>>::default();
        let served = Served { name: name.into(), id: id.clone() };
        let server = server.add_service(ChaincodeServer::new(served));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { address, id }
    }

    /// Tells the instance which package peers know it by.
    pub fn serve_as(&self, package_id: &str) {
        *self.id.lock().expect("id") = package_id.into();
    }
}

struct Served {
    name: String,
    id: Arc<Mutex<String>>,
}

type Outgoing = mpsc::Sender<Result<ChaincodeMessage, Status>>;

#[tonic::async_trait]
impl Chaincode for Served {
    type ConnectStream = ReceiverStream<Result<ChaincodeMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, stream) = mpsc::channel(64);
        let id = ChaincodeId { name: self.id.lock().expect("id").clone(), ..Default::default() };
        let register =
            ChaincodeMessage { r#type: Type::Register.into(), payload: id.encode_to_vec(), ..Default::default() };
        outgoing.send(Ok(register)).await.expect("stream");
        tokio::spawn(talk(self.name.clone(), request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Serves one peer's stream.
async fn talk(name: String, mut incoming: Streaming<ChaincodeMessage>, outgoing: Outgoing) {
    let mut waiting: BTreeMap<String, mpsc::Sender<ChaincodeMessage>> = BTreeMap::new();
    while let Ok(Some(message)) = incoming.message().await {
        let tx = format!("{}/{}", message.channel_id, message.txid);
        match message.r#type() {
            Type::Transaction | Type::Init => {
                let (answers, answered) = mpsc::channel(1);
                waiting.insert(tx, answers);
                let stub = Stub { message, outgoing: outgoing.clone(), answered };
                tokio::spawn(transact(name.clone(), stub));
            }
            Type::Response | Type::Error => {
                if let Some(answers) = waiting.get(&tx) {
                    // A transaction that has ended does not wait any more.
                    answers.send(message).await.ok();
                }
            }
            Type::Keepalive => {
                outgoing.send(Ok(message)).await.ok();
            }
            _ => {}
        }
    }
}

/// The chaincode stub of one transaction.
struct Stub {
    message: ChaincodeMessage,
    outgoing: Outgoing,
    answered: mpsc::Receiver<ChaincodeMessage>,
}

impl Stub {
    fn reply(&self, r#type: Type, payload: Vec<u8>) -> ChaincodeMessage {
        ChaincodeMessage {
            r#type: r#type.into(),
            payload,
            txid: self.message.txid.clone(),
            channel_id: self.message.channel_id.clone(),
            ..Default::default()
        }
    }

    async fn ask(&mut self, r#type: Type, question: impl Message) -> Result<Vec<u8>, String> {
        let question = self.reply(r#type, question.encode_to_vec());
        self.outgoing.send(Ok(question)).await.map_err(|e| e.to_string())?;
        let answer = self.answered.recv().await.ok_or("the peer went away")?;
        match answer.r#type() {
            Type::Response => Ok(answer.payload),
            _ => Err(String::from_utf8_lossy(&answer.payload).into_owned()),
        }
    }

    async fn get(&mut self, collection: &str, key: &str) -> Result<Vec<u8>, String> {
        self.ask(Type::GetState, GetState { key: key.into(), collection: collection.into() }).await
    }

    async fn put(&mut self, collection: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let put = PutState { key: key.into(), value: value.into(), collection: collection.into() };
        self.ask(Type::PutState, put).await
    }

    /// All results of a query, and what it says about its page.
    async fn query(&mut self, r#type: Type, query: impl Message) -> Result<(Vec<Vec<u8>>, Vec<u8>), String> {
        let mut answer = self.ask(r#type, query).await?;
        let mut all = Vec::new();
        loop {
            let page = QueryResponse::decode(answer.as_slice()).map_err(|e| e.to_string())?;
            all.extend(page.results.into_iter().map(|result| result.result_bytes));
            if !page.has_more {
                return Ok((all, page.metadata));
            }
            answer = self.ask(Type::QueryStateNext, QueryStateNext { id: page.id }).await?;
        }
    }

    fn transient(&self, name: &str) -> Option<Vec<u8>> {
        let proposal = Proposal::decode(self.message.proposal.as_ref()?.proposal_bytes.as_slice()).ok()?;
        let mut payload = ChaincodeProposalPayload::decode(proposal.payload.as_slice()).ok()?;
        payload.transient_map.remove(name)
    }
}

async fn transact(name: String, mut stub: Stub) {
    let mut event = None;
    let outcome = call(&name, &mut stub, &mut event).await;
    let answer = match outcome {
        Ok(payload) => Answer { status: 200, payload, ..Default::default() },
        Err(message) => Answer { status: 500, message, ..Default::default() },
    };
    let mut completed = stub.reply(Type::Completed, answer.encode_to_vec());
    completed.chaincode_event = event;
    stub.outgoing.send(Ok(completed)).await.ok();
}

async fn call(name: &str, stub: &mut Stub, event: &mut Option<ChaincodeEvent>) -> Result<Vec<u8>, String> {
    let input = ChaincodeInput::decode(stub.message.payload.as_slice()).map_err(|e| e.to_string())?;
    let args: Vec<String> = input.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["put", key, value] => {
            let event_name = "put".to_owned();
            *event = Some(ChaincodeEvent { event_name, payload: key.as_bytes().to_vec(), ..Default::default() });
            stub.put("", key, value.as_bytes()).await
        }
        ["get", key] => stub.get("", key).await,
        ["putPrivate", collection, key] => {
            let value = stub.transient("value").ok_or("there is no transient value")?;
            stub.put(collection, key, &value).await
        }
        ["putBoth", collection, key, value] => {
            let private = stub.transient("value").ok_or("there is no transient value")?;
            stub.put(collection, key, &private).await?;
            stub.put("", key, value.as_bytes()).await
        }
        ["getPrivate", collection, key] => stub.get(collection, key).await,
        ["guard", key, msp_ids @ ..] => guard(stub, key, msp_ids).await,
        ["privateHash", collection, key] => {
            let get = GetState { key: (*key).into(), collection: (*collection).into() };
            stub.ask(Type::GetPrivateDataHash, get).await
        }
        ["purge", collection, key] => {
            let purge = PurgePrivateState { key: (*key).into(), collection: (*collection).into() };
            stub.ask(Type::PurgePrivateData, purge).await
        }
        ["append", key, text] => {
            let value = [stub.get("", key).await?.as_slice(), text.as_bytes()].concat();
            stub.put("", key, &value).await
        }
        ["count", start, end, key] => count(stub, (start, end), key).await,
        ["page", start, end, size, bookmark] => page(stub, (start, end), size, bookmark).await,
        ["history", key] => history(stub, key).await,
        ["call", chaincode, args @ ..] => call_other(stub, chaincode, args).await,
        ["who"] => {
            stub.put("", "who", name.as_bytes()).await?;
            Ok(name.as_bytes().to_vec())
        }
        ["fail", text] => Err((*text).into()),
        other => Err(format!("no function {other:?}")),
    }
}

/// Gives a key an endorsement policy of its own: all of these organisations.
async fn guard(stub: &mut Stub, key: &str, msp_ids: &[&str]) -> Result<Vec<u8>, String> {
    let rule = Rule::all(msp_ids.iter().map(|msp_id| Rule::peer(*msp_id)).collect());
    let value = rule.envelope().encode_to_vec();
    let metadata = StateMetadata { metakey: "VALIDATION_PARAMETER".into(), value };
    let put = PutStateMetadata { key: key.into(), collection: String::new(), metadata: Some(metadata) };
    stub.ask(Type::PutStateMetadata, put).await
}

/// Writes under `key` how many keys the range has.
async fn count(stub: &mut Stub, (start, end): (&str, &str), key: &str) -> Result<Vec<u8>, String> {
    let query = GetStateByRange { start_key: start.into(), end_key: end.into(), ..Default::default() };
    let (found, _) = stub.query(Type::GetStateByRange, query).await?;
    let count = found.len().to_string();
    stub.put("", key, count.as_bytes()).await?;
    Ok(count.into_bytes())
}

/// The keys of one page of a range, and the bookmark of the next page.
async fn page(stub: &mut Stub, (start, end): (&str, &str), size: &str, bookmark: &str) -> Result<Vec<u8>, String> {
    let page_size = size.parse().map_err(|_| "size is no number")?;
    let metadata = QueryMetadata { page_size, bookmark: bookmark.into() }.encode_to_vec();
    let query = GetStateByRange { start_key: start.into(), end_key: end.into(), metadata, ..Default::default() };
    let (found, metadata) = stub.query(Type::GetStateByRange, query).await?;
    let mut words: Vec<String> = found.iter().map(|kv| Kv::decode(kv.as_slice()).expect("KV").key).collect();
    let page = QueryResponseMetadata::decode(metadata.as_slice()).map_err(|e| e.to_string())?;
    words.push(page.bookmark);
    Ok(words.join(" ").into_bytes())
}

/// Every value that a key ever had.
async fn history(stub: &mut Stub, key: &str) -> Result<Vec<u8>, String> {
    let (found, _) = stub.query(Type::GetHistoryForKey, GetHistoryForKey { key: key.into() }).await?;
    let values = found.iter().map(|past| KeyModification::decode(past.as_slice()).expect("history").value);
    Ok(values.map(|value| String::from_utf8_lossy(&value).into_owned()).collect::<Vec<_>>().join(" ").into())
}

/// What another chaincode answers.
async fn call_other(stub: &mut Stub, chaincode: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    let spec = ChaincodeSpec {
        chaincode_id: Some(ChaincodeId { name: chaincode.into(), ..Default::default() }),
        input: Some(ChaincodeInput { args, ..Default::default() }),
        ..Default::default()
    };
    let answer = stub.ask(Type::InvokeChaincode, spec).await?;
    let answer = ChaincodeMessage::decode(answer.as_slice()).map_err(|e| e.to_string())?;
    if answer.r#type() != Type::Completed {
        return Err(String::from_utf8_lossy(&answer.payload).into_owned());
    }
    let answer = Answer::decode(answer.payload.as_slice()).map_err(|e| e.to_string())?;
    if answer.status >= 400 { Err(answer.message) } else { Ok(answer.payload) }
}
