//! The clients and verbs against small servers that answer as told: what becomes of each answer, and of none.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::error::{LedgerError, NotAllowed};
use super::net::{ActKind, LedgerAct, Network, Target, TlsIdentity};
use super::participation::{ChannelInfo, ChannelStatus, Client, ConsensusRelation};
use super::proto::common::Block;
use super::testing::Ca;
use super::verbs::ensure_orderer_joined;

/// Dials one server whatever the host, and records what it was asked leave for.
struct Wire {
    port: u16,
    acts: Mutex<Vec<LedgerAct>>,
    leads: AtomicBool,
}

#[async_trait]
impl Network for Wire {
    async fn dial(&self, _: &str, _: u16) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.port)).await
    }
    async fn before_write(&self, act: &LedgerAct) -> Result<(), NotAllowed> {
        if !self.leads.load(Ordering::SeqCst) {
            return Err(NotAllowed("another instance leads".into()));
        }
        self.acts.lock().expect("acts").push(act.clone());
        Ok(())
    }
    async fn after_write(&self, _: &LedgerAct) {}
}

/// An orderer's admin port that gives the answers in turn, then closes connections without one.
struct Admin {
    wire: Arc<Wire>,
    requests: Arc<Mutex<Vec<String>>>,
    tls_ca: Ca,
    operator: Ca,
}

impl Admin {
    async fn start(answers: &[&str]) -> Self {
        let (tls_ca, operator) = (Ca::new("tls"), Ca::new("operator"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        let wire = Arc::new(Wire { port, acts: Mutex::default(), leads: AtomicBool::new(true) });
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let answers = answers.iter().map(ToString::to_string).collect();
        tokio::spawn(serve(listener, acceptor(&tls_ca, &operator), answers, requests.clone()));
        Self { wire, requests, tls_ca, operator }
    }

    fn client(&self) -> Client {
        self.client_of(&self.tls_ca, "orderer1.example")
    }

    fn client_of(&self, trusted: &Ca, host: &str) -> Client {
        let (certificate, key) = self.operator.issue_tls("operator");
        let target = Target {
            host: host.into(),
            port: 9443,
            tls_roots: vec![trusted.pem()],
            client_identity: Some(TlsIdentity { certificate, key: key.into() }),
        };
        Client::new(self.wire.clone(), &target).expect("client")
    }

    fn acts(&self) -> Vec<ActKind> {
        self.wire.acts.lock().expect("acts").iter().map(|a| a.kind).collect()
    }

    /// First lines of the requests so far.
    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("requests").iter().filter_map(|r| r.lines().next().map(str::to_owned)).collect()
    }
}

fn acceptor(tls_ca: &Ca, operator: &Ca) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = rustls::RootCertStore::empty();
    clients.add(CertificateDer::from_pem_slice(operator.pem().as_bytes()).expect("PEM")).expect("CA");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone());
    let (certificate, key) = tls_ca.issue_tls("orderer1.example");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("verifier"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("key"),
        )
        .expect("certificate");
    Arc::new(config).into()
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    mut answers: VecDeque<String>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let Ok(mut io) = tls.accept(tcp).await else { continue };
        let mut request = Vec::new();
        while !complete(&request) {
            let mut part = [0; 4096];
            match io.read(&mut part).await {
                Ok(n) if n > 0 => request.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
        requests.lock().expect("requests").push(String::from_utf8_lossy(&request).into_owned());
        if let Some(answer) = answers.pop_front() {
            io.write_all(answer.as_bytes()).await.expect("answer");
        }
        // The client may have closed first.
        io.shutdown().await.ok();
    }
}

/// Whether head and body of a request are there.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.is_none_or(|l| body.len() >= l.parse().expect("length"))
}

fn answer(status: &str, json: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}", json.len())
}

const RECORDS: &str = r#"{"name":"records","url":"/x","consensusRelation":"consenter","status":"active","height":7}"#;

fn records() -> ChannelInfo {
    ChannelInfo {
        name: "records".into(),
        consensus_relation: ConsensusRelation::Consenter,
        status: ChannelStatus::Active,
        height: 7,
    }
}

#[tokio::test]
async fn no_channels_may_be_null() {
    let admin = Admin::start(&[&answer("200 OK", r#"{"systemChannel":null,"channels":null}"#)]).await;
    assert_eq!(admin.client().list().await.expect("list"), [""; 0]);
}

#[tokio::test]
async fn only_an_answer_makes_a_channel_absent() {
    let unavailable = answer("503 Service Unavailable", r#"{"error":"busy"}"#);
    let admin = Admin::start(&[&answer("404 Not Found", r#"{"error":"no such channel"}"#), &unavailable]).await;
    assert_eq!(admin.client().info("records").await.expect("an answer"), None);
    let busy = admin.client().info("records").await.expect_err("503");
    assert!(matches!(&busy, LedgerError::Refused { status: 503, message, .. } if message == "busy"), "{busy:?}");
    let silent = admin.client().info("records").await.expect_err("connection closed");
    assert!(matches!(silent, LedgerError::Unreachable { .. }), "{silent:?}");
}

#[tokio::test]
async fn channels_are_listed_in_one_order_whatever_the_node_makes_of_it() {
    let listed = |names: [&str; 2]| {
        answer("200 OK", &format!(r#"{{"channels":[{{"name":"{}"}},{{"name":"{}"}}]}}"#, names[0], names[1]))
    };
    let admin = Admin::start(&[&listed(["research", "care"]), &listed(["care", "research"])]).await;
    for _ in 0..2 {
        assert_eq!(admin.client().list().await.expect("list"), ["care", "research"]);
    }
}

#[tokio::test]
async fn a_node_that_nobody_vouches_for_is_unreachable() {
    let admin = Admin::start(&[]).await;
    for client in
        [admin.client_of(&Ca::new("tls"), "orderer1.example"), admin.client_of(&admin.tls_ca, "orderer2.example")]
    {
        let error = client.list().await.expect_err("not trusted");
        assert!(matches!(error, LedgerError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(admin.requests(), [""; 0], "nothing was sent to it");
}

#[tokio::test]
async fn joining_sends_the_block_as_a_file_and_reads_back() {
    let absent = answer("404 Not Found", r#"{"error":"no such channel"}"#);
    let admin = Admin::start(&[&absent, &answer("201 Created", RECORDS), &answer("200 OK", RECORDS)]).await;
    let info = ensure_orderer_joined(&admin.client(), "records", &Block::default()).await.expect("join");
    assert_eq!(info, records());
    assert_eq!(
        admin.requests(),
        [
            "GET /participation/v1/channels/records HTTP/1.1",
            "POST /participation/v1/channels HTTP/1.1",
            "GET /participation/v1/channels/records HTTP/1.1"
        ]
    );
    let post = admin.requests.lock().expect("requests")[1].clone();
    assert!(post.contains(r#"form-data; name="config-block"; filename="#), "{post}");
    assert_eq!(admin.acts(), [ActKind::OrdererJoin]);
}

#[tokio::test]
async fn joined_already_writes_nothing() {
    let admin = Admin::start(&[&answer("200 OK", RECORDS)]).await;
    assert_eq!(ensure_orderer_joined(&admin.client(), "records", &Block::default()).await.expect("info"), records());
    assert_eq!(admin.acts(), []);
}

#[tokio::test]
async fn a_lost_reply_to_a_join_that_worked_is_a_success() {
    let absent = answer("404 Not Found", "{}");
    let admin = Admin::start(&[&absent, "", &answer("200 OK", RECORDS)]).await;
    assert_eq!(ensure_orderer_joined(&admin.client(), "records", &Block::default()).await.expect("info"), records());
}

#[tokio::test]
async fn a_refused_join_is_told_in_the_orderers_words() {
    let absent = answer("404 Not Found", "{}");
    let bad = answer("400 Bad Request", r#"{"error":"invalid join block: block is not a config block"}"#);
    let admin = Admin::start(&[&absent, &bad, &absent]).await;
    let error = ensure_orderer_joined(&admin.client(), "records", &Block::default()).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "orderer1.example:9443 refused with status 400: invalid join block: block is not a config block"
    );
}

#[tokio::test]
async fn without_leave_nothing_is_sent() {
    let absent = answer("404 Not Found", "{}");
    let admin = Admin::start(&[&absent, &absent]).await;
    admin.wire.leads.store(false, Ordering::SeqCst);
    let error = ensure_orderer_joined(&admin.client(), "records", &Block::default()).await.expect_err("no leave");
    assert!(matches!(error, LedgerError::NotAllowed(_)), "{error:?}");
    assert!(admin.requests().iter().all(|r| r.starts_with("GET ")), "{:?}", admin.requests());
}
