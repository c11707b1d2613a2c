//! The service as a peer sees it: over mutual TLS, with several transactions on one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

use super::{ContractArgs, ServeError, Service};
use crate::tests::world::{MERCY, State, access, patient, salt};
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::proposal::{Call, proposal};
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_fabric::proto::protos::chaincode_client::ChaincodeClient;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::*;
use ehrnet_fabric::proto::queryresult::Kv;
use ehrnet_messages::Members;
use ehrnet_messages::*;
use ehrnet_pki::{Attributes, Authority, AuthorityName, Leaf, PrivateKey, Profile, Role, SubjectAltNames};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const PATIENCE: Duration = Duration::from_secs(20);

fn authority(name: &str) -> Authority {
    let name = AuthorityName { common_name: name.into(), organization: None };
    Authority::generate(&name, YEAR, Timestamp::now()).expect("a CA")
}

/// Certificate and key, PEM.
fn issue(ca: &Authority, name: &str, profile: Profile) -> (String, String) {
    let key = PrivateKey::generate();
    let leaf = Leaf { common_name: name.into(), organization: None, profile };
    let certificate = ca.issue(&leaf, &key, YEAR, Timestamp::now()).expect("a certificate");
    (certificate.pem().to_owned(), key.to_pem().to_string())
}

/// A contract that serves.
struct Served {
    address: String,
    tls: Authority,
    stopper: watch::Sender<bool>,
    server: JoinHandle<Result<(), ServeError>>,
    _files: tempfile::TempDir,
}

async fn serve() -> Served {
    let tls = authority("tls");
    let files = tempfile::tempdir().expect("a folder");
    let (certificate, key) = issue(&tls, "ehr", Profile::Tls { names: SubjectAltNames::new(["localhost"]) });
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("written");
        Some(path)
    };
    let args = ContractArgs {
        members: Members::default(),
        address: "127.0.0.1:0".parse().expect("an address"),
        id: "ehr:1".into(),
        tls_disabled: false,
        tls_cert: file("cert", &certificate),
        tls_key: file("key", &key),
        client_ca: file("ca", tls.certificate().pem()),
    };
    let (stopper, stop) = watch::channel(false);
    let service = Service::listen(&args, stop).await.expect("listens");
    let address = format!("https://localhost:{}", service.address.port());
    Served { address, tls, stopper, server: tokio::spawn(service.serve()), _files: files }
}

impl Served {
    async fn dial(&self, client_ca: Option<&Authority>) -> Result<Channel, tonic::transport::Error> {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.tls.certificate().pem()));
        let config = match client_ca.map(|ca| issue(ca, "peer", Profile::TlsClient)) {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        };
        Endpoint::from_shared(self.address.clone())?.tls_config(config)?.connect().await
    }

    /// A peer that has shaken hands, and offers this much.
    async fn peer(&self, offered: ChaincodeAdditionalParams) -> Peer {
        let channel = self.dial(Some(&self.tls)).await.expect("connects");
        let (outgoing, stream) = mpsc::channel(64);
        let answer = ChaincodeClient::new(channel).connect(ReceiverStream::new(stream)).await.expect("a stream");
        let mut peer = Peer {
            outgoing,
            incoming: answer.into_inner(),
            state: State::default(),
            asked: BTreeSet::new(),
            rest: Vec::new(),
        };
        let register = peer.next().await.expect("REGISTER");
        assert_eq!(register.r#type(), Type::Register);
        assert_eq!(ChaincodeId::decode(register.payload.as_slice()).expect("an id").name, "ehr:1");
        peer.send(message(Type::Registered, Vec::new())).await;
        peer.send(message(Type::Ready, offered.encode_to_vec())).await;
        peer
    }
}

fn message(r#type: Type, payload: Vec<u8>) -> ChaincodeMessage {
    ChaincodeMessage { r#type: r#type.into(), payload, ..Default::default() }
}

fn batches() -> ChaincodeAdditionalParams {
    ChaincodeAdditionalParams {
        use_write_batch: true,
        max_size_write_batch: 1_000,
        use_get_multiple_keys: true,
        max_size_get_multiple_keys: 1_000,
    }
}

/// A peer with a ledger in memory, which answers like Fabric's handler.
struct Peer {
    outgoing: mpsc::Sender<ChaincodeMessage>,
    incoming: Streaming<ChaincodeMessage>,
    state: State,
    asked: BTreeSet<&'static str>,
    /// Results of a query that were not sent yet.
    rest: Vec<QueryResultBytes>,
}

impl Peer {
    async fn send(&self, message: ChaincodeMessage) {
        self.outgoing.send(message).await.expect("the stream is open");
    }

    async fn next(&mut self) -> Option<ChaincodeMessage> {
        let next: Result<Option<ChaincodeMessage>, Status> =
            timeout(PATIENCE, self.incoming.message()).await.expect("in time");
        next.expect("no failure")
    }

    /// Starts a transaction of somebody.
    async fn start<F: Function>(&self, creator: &[u8], argument: &F, secret: Option<&F::Transient>) -> String {
        let mut call = Call::new("records", "ehr", argument.arguments().expect("JSON"));
        let json = |secret: &F::Transient| serde_json::to_vec(secret).expect("JSON");
        call.transient =
            secret.map(|secret| (F::TRANSIENT.expect("takes one").to_owned(), json(secret))).into_iter().collect();
        let (proposal, txid) = proposal(creator, &call, &Stamp::now());
        let input = ChaincodeInput { args: call.args, ..Default::default() };
        let signed = SignedProposal { proposal_bytes: proposal.encode_to_vec(), signature: Vec::new() };
        self.send(ChaincodeMessage {
            txid: txid.clone(),
            channel_id: "records".into(),
            proposal: Some(signed),
            ..message(Type::Transaction, input.encode_to_vec())
        })
        .await;
        txid
    }

    /// Answers questions until `count` transactions are completed.
    async fn completed(&mut self, count: usize) -> BTreeMap<String, (Response, Option<ChaincodeEvent>)> {
        let mut completed = BTreeMap::new();
        while completed.len() < count {
            let message = self.next().await.expect("more messages");
            if message.r#type() == Type::Completed {
                let response = Response::decode(message.payload.as_slice()).expect("a response");
                completed.insert(message.txid, (response, message.chaincode_event));
            } else {
                self.answer(message).await;
            }
        }
        completed
    }

    async fn answer(&mut self, question: ChaincodeMessage) {
        self.asked.insert(question.r#type().as_str_name());
        let payload = self.look_up(&question);
        self.send(ChaincodeMessage { r#type: Type::Response.into(), payload, proposal: None, ..question }).await;
    }

    fn look_up(&mut self, question: &ChaincodeMessage) -> Vec<u8> {
        let bytes = question.payload.as_slice();
        match question.r#type() {
            Type::GetState => {
                let GetState { key, collection } = GetState::decode(bytes).expect("GetState");
                self.value(&collection, key)
            }
            Type::GetStateMultiple => {
                let GetStateMultiple { keys, collection } = GetStateMultiple::decode(bytes).expect("GetStateMultiple");
                let values = keys.into_iter().map(|key| self.value(&collection, key)).collect();
                GetStateMultipleResult { values }.encode_to_vec()
            }
            Type::GetStateByRange => self.query(&GetStateByRange::decode(bytes).expect("GetStateByRange")),
            Type::QueryStateNext => self.result(None),
            Type::PutState => {
                let PutState { key, value, collection } = PutState::decode(bytes).expect("PutState");
                self.write(&collection, key, value);
                Vec::new()
            }
            Type::WriteBatchState => {
                for WriteRecord { key, value, collection, .. } in WriteBatchState::decode(bytes).expect("a batch").rec {
                    self.write(&collection, key, value);
                }
                Vec::new()
            }
            other => panic!("{other:?} is not expected"),
        }
    }

    fn value(&self, collection: &str, key: String) -> Vec<u8> {
        let value = match collection {
            "" => self.state.public.get(&key),
            _ => self.state.private.get(&(collection.to_owned(), key)),
        };
        value.cloned().unwrap_or_default()
    }

    fn write(&mut self, collection: &str, key: String, value: Vec<u8>) {
        match collection {
            "" => self.state.public.insert(key, value),
            _ => self.state.private.insert((collection.to_owned(), key), value),
        };
    }

    /// A page at once; without a page one entry at a time, as a peer does with long results.
    fn query(&mut self, query: &GetStateByRange) -> Vec<u8> {
        let entries = self.state.public.range(query.start_key.clone()..query.end_key.clone());
        let metadata = QueryMetadata::decode(query.metadata.as_slice()).expect("metadata");
        let size = usize::try_from(metadata.page_size).expect("a size");
        let bookmark = entries.clone().nth(size).map(|(key, _)| key.clone()).unwrap_or_default();
        let kv =
            |(key, value): (&String, &Vec<u8>)| Kv { namespace: "ehr".into(), key: key.clone(), value: value.clone() };
        let mut results: Vec<QueryResultBytes> =
            entries.map(|entry| QueryResultBytes { result_bytes: kv(entry).encode_to_vec() }).collect();
        if size == 0 {
            self.rest = results;
            return self.result(None);
        }
        results.truncate(size);
        self.rest = results;
        let fetched_records_count = i32::try_from(self.rest.len()).expect("few");
        self.result(Some(QueryResponseMetadata { fetched_records_count, bookmark }))
    }

    fn result(&mut self, page: Option<QueryResponseMetadata>) -> Vec<u8> {
        let count = if page.is_some() { self.rest.len() } else { self.rest.len().min(1) };
        let results = self.rest.drain(..count).collect();
        let metadata = page.map(|page| page.encode_to_vec()).unwrap_or_default();
        QueryResponse { results, has_more: !self.rest.is_empty(), id: "1".into(), metadata }.encode_to_vec()
    }
}

fn physician() -> Vec<u8> {
    let attributes = BTreeMap::from([(attribute::ROLE.to_owned(), role::PRIVACY_OFFICER.to_owned())]);
    let profile = Profile::Enrolment { role: Role::Client, attributes: Attributes::new(attributes) };
    let (certificate, _) = issue(&authority("ca"), "dr-x", profile);
    SerializedIdentity { mspid: MERCY.into(), id_bytes: certificate.into_bytes() }.encode_to_vec()
}

fn secret() -> AccessSecret {
    AccessSecret { salt: salt(1), justification: None }
}

fn entry(response: &Response) -> AuditEntry {
    assert_eq!(response.status, 200, "{}", response.message);
    serde_json::from_slice(&response.payload).expect("an entry")
}

#[tokio::test]
async fn fifty_transactions_run_beside_each_other_on_one_stream() {
    let served = serve().await;
    let creator = physician();
    for (offered, asked) in [
        (batches(), ["GET_STATE_BY_RANGE", "GET_STATE_MULTIPLE", "WRITE_BATCH_STATE"]),
        (ChaincodeAdditionalParams::default(), ["GET_STATE", "GET_STATE_BY_RANGE", "PUT_STATE"]),
    ] {
        let mut peer = served.peer(offered).await;
        let mut started = BTreeSet::new();
        for _ in 0..50 {
            started.insert(peer.start(&creator, &access(1, None, "TREAT"), Some(&secret())).await);
        }
        let completed = peer.completed(50).await;
        assert_eq!(completed.keys().cloned().collect::<BTreeSet<_>>(), started);
        for (tx_id, (response, event)) in completed {
            assert_eq!(entry(&response).tx_id, tx_id);
            assert_eq!(event.map(|event| event.event_name).as_deref(), Some(event::ACCESS_DECIDED));
        }
        assert_eq!(peer.asked, BTreeSet::from(asked));
        assert_eq!((peer.state.public.len(), peer.state.private.len()), (100, 50), "entry, index and secret of each");
        let page = Page { size: Some(30), bookmark: None };
        let query = QueryAudit { of: AuditSubject::Patient(patient(1)), from: None, until: None, page };
        peer.start(&creator, &query, None).await;
        let (response, _) = peer.completed(1).await.into_values().next().expect("one");
        let page: AuditPage = serde_json::from_slice(&response.payload).expect("a page");
        assert!(page.entries.len() == 30 && page.bookmark.is_some());
        assert!(page.entries.iter().all(|entry| entry.detail.is_some()));
    }
}

#[tokio::test]
async fn a_long_result_is_read_to_its_end() {
    let served = serve().await;
    let mut peer = served.peer(batches()).await;
    for n in 0..3 {
        let consent = ConsentVersion {
            reading: ehrnet_consent::fhir::READING,
            patient: patient(1),
            consent: format!("c{n}"),
            seq: 1,
            status: ConsentStatus::Inactive,
            digest: String::new(),
            read_with: None,
            period: None,
            at: Timestamp::now(),
            tx_id: String::new(),
            signer_msp: MERCY.into(),
            signer: String::new(),
            detail: None,
        };
        let key = crate::keys::consent(&patient(1), &consent.consent);
        peer.state.public.insert(key, serde_json::to_vec(&consent).expect("JSON"));
    }
    peer.start(&physician(), &access(1, None, "TREAT"), Some(&secret())).await;
    let (response, _) = peer.completed(1).await.into_values().next().expect("one");
    assert_eq!(entry(&response).reason.as_deref(), Some("no-policy"));
    assert!(peer.asked.contains("QUERY_STATE_NEXT"));
}

/// C4.
#[tokio::test]
async fn a_peer_without_a_certificate_of_the_hospital_is_refused() {
    let served = serve().await;
    let stranger = authority("stranger");
    for client_ca in [None, Some(&stranger)] {
        // The server may refuse only after the client has finished its part of the handshake (TLS 1.3).
        if let Ok(channel) = served.dial(client_ca).await {
            let (_outgoing, stream) = mpsc::channel(1);
            assert!(ChaincodeClient::new(channel).connect(ReceiverStream::new(stream)).await.is_err());
        }
    }
    let plain = Endpoint::from_shared(served.address.replace("https", "http")).expect("an address");
    if let Ok(channel) = plain.connect().await {
        let (_outgoing, stream) = mpsc::channel(1);
        assert!(ChaincodeClient::new(channel).connect(ReceiverStream::new(stream)).await.is_err());
    }
    served.peer(batches()).await;
}

#[tokio::test]
async fn keepalives_inits_and_unknown_functions_are_answered() {
    let served = serve().await;
    let mut peer = served.peer(batches()).await;
    peer.send(message(Type::Keepalive, Vec::new())).await;
    assert_eq!(peer.next().await.expect("a message").r#type(), Type::Keepalive);
    peer.send(ChaincodeMessage { txid: "t1".into(), ..message(Type::Init, Vec::new()) }).await;
    assert_eq!(peer.completed(1).await["t1"].0.status, 200);
    peer.send(ChaincodeMessage { txid: "t2".into(), ..message(Type::Transaction, Vec::new()) }).await;
    assert_eq!(peer.completed(1).await["t2"].0.status, 400);
}

#[tokio::test]
async fn a_ledger_that_fails_is_an_error_and_nothing_is_written() {
    let served = serve().await;
    let mut peer = served.peer(batches()).await;
    let tx_id = peer.start(&physician(), &access(1, None, "TREAT"), Some(&secret())).await;
    let question = peer.next().await.expect("a question");
    let failed = ChaincodeMessage { payload: b"the disk is gone".to_vec(), r#type: Type::Error.into(), ..question };
    peer.send(failed).await;
    let (response, event) = peer.completed(1).await.remove(&tx_id).expect("completed");
    assert_eq!(response.status, 500);
    assert_eq!(response.message, "the peer did not answer from its ledger: the disk is gone");
    assert!(event.is_none() && peer.asked.is_empty() && peer.state.public.is_empty());
}

#[tokio::test]
async fn answers_that_nobody_asked_for_hold_nothing_up() {
    let served = serve().await;
    let mut peer = served.peer(batches()).await;
    let tx_id = peer.start(&physician(), &access(1, None, "TREAT"), Some(&secret())).await;
    let question = peer.next().await.expect("a question");
    for _ in 0..5 {
        peer.send(ChaincodeMessage { r#type: Type::Response.into(), txid: "other".into(), ..question.clone() }).await;
    }
    peer.answer(question).await;
    let (response, _) = peer.completed(1).await.remove(&tx_id).expect("completed");
    assert_eq!(entry(&response).tx_id, tx_id);
}

#[tokio::test]
async fn a_stop_lets_running_transactions_end_and_then_the_stream() {
    let served = serve().await;
    let mut peer = served.peer(batches()).await;
    let tx_id = peer.start(&physician(), &access(1, None, "TREAT"), Some(&secret())).await;
    let question = peer.next().await.expect("a question");
    served.stopper.send_replace(true);
    peer.answer(question).await;
    let (response, _) = peer.completed(1).await.remove(&tx_id).expect("completed");
    assert_eq!(entry(&response).tx_id, tx_id);
    assert!(peer.next().await.is_none(), "the stream ends");
    drop(peer);
    timeout(PATIENCE, served.server).await.expect("in time").expect("no panic").expect("a good end");
}

#[tokio::test]
async fn without_its_files_it_does_not_listen() {
    let args = ContractArgs {
        members: Members::default(),
        address: "127.0.0.1:0".parse().expect("an address"),
        id: "ehr:1".into(),
        tls_disabled: false,
        tls_cert: None,
        tls_key: None,
        client_ca: None,
    };
    let (_stopper, stop) = watch::channel(false);
    let error = Service::listen(&args, stop).await.err().expect("refused");
    assert!(error.to_string().starts_with("TLS needs CHAINCODE_TLS_CERT"), "{error}");
}
