//! The health-record contract on a network of two hospitals: how it gets there, and what it must do there. For real
//! Fabric and the embedded ledger. `C1`, `C2`, ... are the acceptance tests of the project's list.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use ehrnet_consent::decision::Effect;
use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection, EndorsementPolicy, Rule};
use ehrnet_fabric::package::{Connection, Package};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::{LedgerError, gateway};
use ehrnet_messages::*;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::network::{CHANNEL, Network, agree};
use crate::nodes::{Node, Org, eventually};
use crate::programs;

/// A hospital's contract: a process that serves over mutual TLS. It is killed when dropped.
pub struct Contract {
    pub package: Package,
    process: Child,
}

impl Contract {
    /// Packages and starts the contract of a hospital, whose peers show the certificate `client`.
    fn start(network: &Network, org: &Org, client: &str) -> Self {
        let members = format!("{},{}", network.a.msp_id, network.b.msp_id);
        let address = free_address();
        let (certificate, key) = org.tls_ca.issue_tls("127.0.0.1");
        let connection = Connection {
            address: address.clone(),
            dial_timeout: "10s".into(),
            tls_required: true,
            client_auth_required: true,
            root_cert: org.tls_ca.pem(),
            client_cert: client.to_owned(),
            client_key: "{{.client_key}}".into(),
        };
        let package = Package::ccaas("ehr", &connection, &BTreeMap::new()).expect("package");
        let file = |name: &str, text: &str| {
            let name = format!("contract-{}-{name}", org.msp_id);
            network.site.file(&name, text.as_bytes());
            network.site.path(&name)
        };
        let mut command = Command::new(programs::contract());
        command.env_clear().env("RUST_LOG", "warn");
        command.env("EHRNET_MEMBERS", members);
        command.env("CHAINCODE_SERVER_ADDRESS", &address).env("CHAINCODE_ID", &package.id);
        command.env("CHAINCODE_TLS_DISABLED", "false").env("CHAINCODE_TLS_CERT", file("tls.crt", &certificate));
        command.env("CHAINCODE_TLS_KEY", file("tls.key", &key));
        command.env("CHAINCODE_CLIENT_CA_CERT", file("ca.pem", &org.tls_ca.pem()));
        let process = command.stdin(Stdio::null()).spawn().expect("the contract starts");
        Self { package, process }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory that is its own, in KiB: without the program, which is large where it is not optimised.
    pub fn resident(&self) -> u64 {
        self.memory("RssAnon:")
    }

    /// Resident memory with the program, in KiB.
    pub fn resident_in_all(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Contract {
    fn drop(&mut self) {
        self.process.kill().expect("the contract is ours");
        self.process.wait().expect("the contract ends");
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Both hospitals endorse, and both keep what is private.
pub fn definition() -> ChaincodeDefinition {
    let collection = |name: &str| Collection {
        name: name.into(),
        members: vec!["HospitalA".into(), "HospitalB".into()],
        required_peers: 0,
        max_peers: 3,
        block_to_live: 0,
        member_only_read: true,
        member_only_write: true,
        endorsement: None,
    };
    ChaincodeDefinition {
        name: CHAINCODE_NAME.into(),
        version: "1.0".into(),
        endorsement: EndorsementPolicy::Signature(Rule::all(vec![Rule::peer("HospitalA"), Rule::peer("HospitalB")])),
        collections: collection::ALL.map(collection).to_vec(),
        init_required: false,
    }
}

/// Starts both hospitals' contracts and agrees on them.
pub async fn deploy(network: &Network) -> [Contract; 2] {
    let [a, b] = &network.clients;
    let contracts = [Contract::start(network, &network.a, a), Contract::start(network, &network.b, b)];
    let packages = contracts.each_ref().map(|contract| contract.package.clone());
    agree(network, &definition(), &packages).await;
    contracts
}

/// Somebody at the gateway of their hospital's peer.
pub struct User(gateway::Client);

impl User {
    fn new(network: &Network, (node, org): (&Node, &Org), name: &str, attributes: &[(&str, &str)]) -> Self {
        let identity = Arc::new(org.ca.person(&org.msp_id, name, attributes));
        Self(network.site.gateway(node, &identity))
    }

    async fn submit<F: Function>(&self, argument: &F, secret: Option<&F::Transient>) -> Result<F::Output, LedgerError> {
        let committed = self.0.submit(&call(argument, secret), &[]).await?;
        Ok(serde_json::from_slice(&committed.result).expect("the output"))
    }

    async fn evaluate<F: Function>(&self, argument: &F) -> Result<F::Output, LedgerError> {
        let result = self.0.evaluate(&call(argument, None), &[]).await?;
        Ok(serde_json::from_slice(&result).expect("the output"))
    }

    async fn request(&self, record: Option<&str>, purpose: &str) -> AuditEntry {
        self.try_request(record, purpose).await.expect("an answer")
    }

    /// Asks for access.
    pub async fn try_request(&self, record: Option<&str>, purpose: &str) -> Result<AuditEntry, LedgerError> {
        let secret = AccessSecret { salt: salt(), justification: Some("unconscious after a fall".into()) };
        self.submit(&access(record, purpose), Some(&secret)).await
    }
}

fn call<F: Function>(argument: &F, secret: Option<&F::Transient>) -> Call<'static> {
    let mut call = Call::new(CHANNEL, CHAINCODE_NAME, argument.arguments().expect("JSON"));
    let json = |secret: &F::Transient| serde_json::to_vec(secret).expect("JSON");
    call.transient =
        secret.map(|secret| (F::TRANSIENT.expect("takes one").to_owned(), json(secret))).into_iter().collect();
    call
}

fn patient() -> String {
    "5a".repeat(32)
}

fn salt() -> String {
    "a0".repeat(32)
}

fn access(record: Option<&str>, purpose: &str) -> RequestAccess {
    RequestAccess {
        patient: patient(),
        record: record.map(str::to_owned),
        action: Some("access".into()),
        purpose: purpose.into(),
        ..RequestAccess::default()
    }
}

fn consent(provision: Value) -> ConsentSecret {
    let resource = json!({
        "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "59284-0"}]}], "provision": provision,
    });
    ConsentSecret { salt: salt(), resource, source_hash: None, performer: Some("canary-performer".into()) }
}

/// The people of the two hospitals.
pub struct Cast {
    registrar: User,
    subject: User,
    pub physician: User,
    officer: User,
}

impl Cast {
    pub fn of(network: &Network) -> Self {
        let (a, b) = ((&network.peer_a, &network.a), (&network.peer_b, &network.b));
        let user = |at, name: &str, attributes: &[(&str, &str)]| User::new(network, at, name, attributes);
        let bound = [(attribute::ROLE, role::PATIENT), (attribute::PATIENT, &*patient())];
        let emergency = [(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")];
        Self {
            registrar: user(a, "records", &[(attribute::ROLE, role::REGISTRAR)]),
            subject: user(a, &patient(), &bound),
            physician: user(b, "dr-y", &emergency),
            officer: user(a, "po", &[(attribute::ROLE, role::PRIVACY_OFFICER)]),
        }
    }
}

/// A record shared, a reader refused, break-glass reviewed, everything audited and in the end erased.
pub async fn decides_who_reads(network: &Network) {
    let cast = Cast::of(network);
    policy_comes_first(network, json!({"breakGlass": {"mode": "allow"}})).await;
    is_registered(&cast).await;
    assert_eq!(cast.physician.request(Some("r1"), "TREAT").await.reason.as_deref(), Some("no-consent"));

    let refused = puts_consent(&cast.physician).await.expect_err("no patient").to_string();
    assert!(refused.contains("is for the patient and registered delegates"), "{refused}");
    puts_consent(&cast.subject).await.expect("put");
    let permitted = cast.physician.request(Some("r1"), "TREAT").await;
    assert_eq!(permitted.decision, Some(Effect::Permit));
    releases_the_body(&cast, &permitted).await;

    let revoke = RevokeConsent { patient: patient(), consent: "c1".into(), seq: 2 };
    cast.subject.submit(&revoke, None).await.expect("revoked");
    assert_eq!(cast.physician.request(Some("r1"), "TREAT").await.decision, Some(Effect::Deny));
    let broken = cast.physician.request(Some("r1"), "BTG").await;
    assert_eq!((broken.decision, broken.reason.as_deref()), (Some(Effect::Permit), Some("break-glass-allowed")));
    is_reviewed(&cast, &broken).await;
    is_audited(&cast).await;
    is_erased(&cast).await;
}

/// A policy, a record, and a consent that lets the physician read it.
pub async fn permits(network: &Network) -> Cast {
    let cast = Cast::of(network);
    policy_comes_first(network, json!({"breakGlass": {"mode": "allow"}})).await;
    is_registered(&cast).await;
    puts_consent(&cast.subject).await.expect("put");
    let answer = async || cast.physician.request(Some("r1"), "TREAT").await.decision;
    eventually("the consent counts everywhere", async || answer().await == Some(Effect::Permit)).await;
    cast
}

async fn is_registered(cast: &Cast) {
    let argument = RegisterRecord {
        record: "r1".into(),
        patient: patient(),
        version: 1,
        class: serde_json::from_value(json!({"code": "Observation"})).expect("a code"),
        confidentiality: "R".into(),
        sensitivity: Vec::new(),
        authored_on: Some("2026-02-01".into()),
        manifest: None,
    };
    let secret = RecordSecret {
        salt: salt(),
        digest: "11".repeat(32),
        storage: "s3://canary-storage/r1".into(),
        codes: Some(Vec::new()),
        manifest_root: None,
    };
    cast.registrar.submit(&argument, Some(&secret)).await.expect("registered");
}

async fn puts_consent(user: &User) -> Result<ConsentVersion, LedgerError> {
    let put = PutConsent { patient: patient(), consent: "c1".into(), seq: 1 };
    user.submit(&put, Some(&consent(json!({"type": "permit", "purpose": [{"code": "TREAT"}]})))).await
}

/// The hospitals agree on a policy, without which nothing is permitted.
pub async fn policy_comes_first(network: &Network, spec: Value) {
    let spec = serde_json::from_value(spec).expect("a spec");
    let policy = ehrnet_consent::validate(&spec).expect("a policy");
    let admin = User(network.site.gateway(&network.peer_a, &network.a.admin));
    let canonical = serde_json::from_str(policy.canonical_json()).expect("JSON");
    let approve = ApprovePolicy { name: "base".into(), digest: policy.digest(), replaces: 0 };
    let put = PutPolicy { name: "base".into(), policy: canonical, replaces: 0 };
    // A first call may find a gateway that has not heard of the other hospital's peer yet.
    let mut reported = String::new();
    let mut taken = |error: String| {
        if error != reported {
            eprintln!("not taken yet: {error}");
            reported = error;
        }
        false
    };
    eventually("the contract refuses what one hospital wants alone", async || match admin.submit(&put, None).await {
        Ok(version) => panic!("one hospital put version {} alone", version.version),
        Err(error) => Code::find(&error.to_string()) == Some(Code::NotAgreed) || taken(error.to_string()),
    })
    .await;
    let other = User(network.site.gateway(&network.peer_b, &network.b.admin));
    // The other gateway may know the first hospital's peer later still.
    eventually("the other hospital agrees", async || match other.submit(&approve, None).await {
        Ok(_) => true,
        Err(error) if error.lacks_endorsers() => taken(error.to_string()),
        Err(error) => panic!("the other hospital does not agree: {error}"),
    })
    .await;
    eventually("the policy is on the ledger", async || match admin.submit(&put, None).await {
        Ok(version) => version.version == 1,
        Err(error) => taken(error.to_string()),
    })
    .await;
    eventually("the other hospital has it", async || {
        let get = GetPolicy { name: "base".into(), version: None };
        other.evaluate(&get).await.is_ok_and(|version| version.digest == policy.digest())
    })
    .await;
}

/// C7, C18.
async fn releases_the_body(cast: &Cast, permitted: &AuditEntry) {
    let held = GetDecision { tx_id: permitted.tx_id.clone() };
    eventually("the decision is known", async || cast.physician.evaluate(&held).await.is_ok()).await;
    let held = cast.physician.evaluate(&held).await.expect("a decision");
    assert!(held.current);
    let detail = held.entry.detail.expect("detail").decision.expect("a decision");
    assert_eq!(detail.matched_path.as_deref(), Some("provision"));
    let get = GetRecord { record: "r1".into(), decision: Some(permitted.tx_id.clone()) };
    let view = cast.physician.evaluate(&get).await.expect("a record");
    assert_eq!(view.storage.as_deref(), Some("s3://canary-storage/r1"));
}

async fn is_reviewed(cast: &Cast, broken: &AuditEntry) {
    let open = async || cast.officer.evaluate(&ListReviews::default()).await.expect("reviews").reviews;
    eventually("the review is open", async || open().await.iter().any(|review| review.tx_id == broken.tx_id)).await;
    let review = BreakGlassReview { tx_id: broken.tx_id.clone(), outcome: ReviewOutcome::Justified };
    let notes = ReviewSecret { salt: salt(), notes: Some("canary-notes".into()) };
    cast.officer.submit(&review, Some(&notes)).await.expect("reviewed");
    assert!(open().await.is_empty());
}

/// C8.
async fn is_audited(cast: &Cast) {
    let mut kinds = Vec::new();
    let mut page = Page { size: Some(2), bookmark: None };
    loop {
        let query = QueryAudit { of: AuditSubject::Patient(patient()), from: None, until: None, page: page.clone() };
        let part = cast.subject.evaluate(&query).await.expect("entries");
        assert!(part.entries.iter().all(|entry| entry.detail.is_some()));
        kinds.extend(part.entries.iter().map(|entry| (entry.kind, entry.decision)));
        page.bookmark = part.bookmark;
        if page.bookmark.is_none() {
            break;
        }
    }
    let access = |effect| (AuditKind::Access, Some(effect));
    let expected = [Effect::Deny, Effect::Permit, Effect::Deny, Effect::Permit].map(access);
    assert_eq!(kinds[0], (AuditKind::Registration, None));
    assert_eq!(kinds[1..], expected);
}

async fn is_erased(cast: &Cast) {
    let erase = EraseRecord { record: "r1".into(), reason: ErasureReason::Objection, request: "q-1".into() };
    cast.registrar.submit(&erase, None).await.expect("erased");
    assert_eq!(cast.physician.request(Some("r1"), "TREAT").await.reason.as_deref(), Some("erased-record"));
    let get = GetRecord { record: "r1".into(), decision: None };
    assert_eq!(cast.registrar.evaluate(&get).await.expect("a tombstone").storage, None);
}

/// C5: orderers keep every block, and are told nothing private.
pub fn keeps_secrets_out_of_blocks(network: &Network) {
    let mut folders = vec![network.site.path("orderer-1")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            seen += usize::from(has("RegisterRecord"));
            for secret in ["canary-", "unconscious after", &salt()] {
                assert!(!has(secret), "{secret} is in {}", path.display());
            }
        }
    }
    assert!(seen > 0, "the blocks were looked at");
}

/// C21: no request for one patient invalidates another.
pub async fn takes_requests_at_once(network: &Network, count: usize) {
    let cast = Cast::of(network);
    let started = Instant::now();
    let entries = join_all((0..count).map(|_| cast.physician.request(None, "TREAT"))).await;
    eprintln!("{} concurrent requests for one patient: {:?}", entries.len(), started.elapsed());
}
