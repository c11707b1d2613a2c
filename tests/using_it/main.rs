//! The whole of it as users have it: two hospitals' peers, the contract as each hospital runs it, and `ehrnet` commands
//! with nothing but client bundles. On the embedded ledger, or on real Fabric where `EHRNET_FABRIC_BIN` names it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ehrnet_messages::hash;
use ehrnet_messages::{attribute, collection, role};
// Where `testing` looks for it.
use ehrnet_fabric::chaincode::{ChaincodeDefinition, Collection};
use ehrnet_fabric::package::Package;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

// Shared with other tests, which use other parts of it.
#[allow(dead_code)]
#[path = "../support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "../support/contract.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../support/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "../support/programs.rs"]
mod programs;

use ledger::policy_comes_first;
use network::{CHANNEL, Network, agree, definition, package};
use nodes::{Node, Org, Site, eventually};

/// The network's secret.
const SECRET: [u8; 32] = [7; 32];
const PATIENT: &str = "MRN-1";

/// The contract as a hospital runs it; it is ended when dropped.
struct Contract(Child);

impl Drop for Contract {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Contract {
    async fn start() -> (Self, Package) {
        let free: SocketAddr = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let package = package("ehr", &free.to_string());
        let mut contract = Command::new(programs::contract());
        contract.env("CHAINCODE_SERVER_ADDRESS", free.to_string()).env("CHAINCODE_ID", &package.id);
        contract
            .env("CHAINCODE_TLS_DISABLED", "true")
            .env("EHRNET_MEMBERS", "HospitalA,HospitalB")
            .stderr(Stdio::null());
        let contract = Self(contract.spawn().expect("the contract starts"));
        eventually("the contract listens", async || TcpStream::connect(free).await.is_ok()).await;
        (contract, package)
    }
}

/// The contract's definition: both hospitals endorse, and all private data is both hospitals'.
fn contract() -> ChaincodeDefinition {
    let own = definition();
    let shared = Collection { required_peers: 1, ..own.collections[0].clone() };
    let collections = collection::ALL.map(|name| Collection { name: name.into(), ..shared.clone() });
    ChaincodeDefinition { collections: collections.into(), ..own }
}

/// A user with a client bundle.
struct Client {
    folder: TempDir,
}

/// What a command printed.
struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandOutput {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

impl Client {
    fn new(org: &Org, peer: &Node, name: &str, attributes: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (certificate, key) = org.ca.issue_stating(name, attributes);
        for (file, text) in [
            ("MSP_ID", org.msp_id.clone()),
            ("PEER_ENDPOINT", format!("{}:7051", peer.host)),
            ("tls-ca.pem", org.tls_ca.pem()),
            ("msp.signcerts.cert.pem", certificate),
            ("msp.keystore.key.pem", key),
            ("connection.json", json!({"channels": {CHANNEL: {}}}).to_string()),
            ("pseudonym.key", hex::encode(SECRET)),
        ] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        Self { folder }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs `ehrnet` with the words of `line`, then `more`.
    fn run(&self, line: &str, more: &[&str]) -> CommandOutput {
        let mut command = Command::new(programs::ehrnet());
        let output = command.env("EHRNET_BUNDLE", self.folder.path()).args(line.split_whitespace()).args(more);
        let output = output.output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        CommandOutput { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it prints; it must succeed.
    fn ok(&self, line: &str, more: &[&str]) -> String {
        let said = self.run(line, more);
        assert_eq!(said.code, Some(0), "{line}: {}", said.err);
        said.out
    }

    fn json(&self, line: &str) -> Value {
        let said = self.run(line, &["--output", "json"]);
        assert_eq!(said.code, Some(0), "{line}: {}", said.err);
        said.json()
    }
}

/// Two hospitals with users.
struct Scenario {
    registrar: Client,
    patient: Client,
    physician: Client,
    emergency: Client,
    officer: Client,
    network: Network,
    _contracts: [Contract; 2],
}

impl Scenario {
    async fn build() -> Self {
        let site = match std::env::var_os("EHRNET_FABRIC_BIN") {
            Some(fabric) => Site::new(Path::new(&fabric)),
            None => Site::embedded(),
        };
        let network = Network::raft(site).await;
        let ((one, first), (other, second)) = (Contract::start().await, Contract::start().await);
        agree(&network, &contract(), &[first, second]).await;
        policy_comes_first(&network, json!({})).await;
        let pseudonym = hash::pseudonym(&SECRET, PATIENT);
        let at_a = |name: &str, attributes: &[(&str, &str)]| Client::new(&network.a, &network.peer_a, name, attributes);
        let at_b = |name: &str, attributes: &[(&str, &str)]| Client::new(&network.b, &network.peer_b, name, attributes);
        Self {
            registrar: at_a("registrar", &[(attribute::ROLE, role::REGISTRAR)]),
            patient: at_a("patient-1", &[(attribute::ROLE, role::PATIENT), (attribute::PATIENT, &pseudonym)]),
            physician: at_b("physician", &[(attribute::ROLE, role::PHYSICIAN)]),
            emergency: at_b("emergency", &[(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")]),
            officer: at_b("officer", &[(attribute::ROLE, role::PRIVACY_OFFICER)]),
            network,
            _contracts: [one, other],
        }
    }
}

fn observation(value: u32) -> String {
    let label = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"});
    json!({"resourceType": "Observation", "meta": {"security": [label]}, "valueInteger": value}).to_string()
}

/// Permits treatment by the physician, and break-glass to whoever may.
fn consent() -> String {
    let purpose = |code: &str| json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": code}]);
    let physician = json!([{"reference": {"reference": "Practitioner/physician"}}]);
    json!({
        "resourceType": "Consent", "status": "active", "dateTime": "2026-01-01",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "provision": {"type": "deny", "provision": [
            {"type": "permit", "purpose": purpose("TREAT"), "actor": physician},
            {"type": "permit", "purpose": purpose("BTG")},
        ]},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_the_whole_story() {
    let scenario = Scenario::build().await;
    records(&scenario);
    consents(&scenario);
    break_glass(&scenario);
    audit(&scenario);
    a_large_object(&scenario, 16).await;
}

/// With `EHRNET_TEST_PROGRAMS=target/release` it takes seconds, in a debug build minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "hashes an object of 1 GiB three times"]
async fn an_object_of_a_gibibyte_costs_the_ledger_one_small_transaction() {
    a_large_object(&Scenario::build().await, 1024).await;
}

/// C25: what it costs on the ledger, and how damage is found.
async fn a_large_object(scenario: &Scenario, mebibytes: u64) {
    const CHUNK: u64 = 4 * 1024 * 1024;
    let image = std::fs::File::create(scenario.registrar.folder.path().join("scan")).expect("a file");
    image.set_len(mebibytes * 1024 * 1024).expect("a sparse file");
    let register = |id: &str, what: &str| {
        format!(
            "record register --patient {PATIENT} --record {id} --storage https://a.example/3 --class ImagingStudy --confidentiality R {what}"
        )
    };
    let manifest = scenario.registrar.path("scan.manifest");
    let object = format!("--object {} --manifest {manifest}", scenario.registrar.path("scan"));
    let before = blocks(scenario).await;
    let began = std::time::Instant::now();
    let said = scenario.registrar.ok(&register("scan-1", &object), &[]);
    assert!(said.contains(&format!("registered in {} chunks", mebibytes * 1024 * 1024 / CHUNK)), "{said}");
    let took = began.elapsed();
    let grown = blocks(scenario).await - before;
    let body = scenario.registrar.file("small.json", observation(1));
    let before = blocks(scenario).await;
    scenario.registrar.ok(&register("small-1", &format!("--body {}", body.display())), &[]);
    let small = blocks(scenario).await - before;
    println!(
        "object of {mebibytes} MiB: registered in {took:.1?}; its block has {grown} bytes, one of a small record {small}"
    );
    assert!(grown < small + 512, "{grown} bytes, {small} for a small record");

    let damaged = mebibytes * 1024 * 1024 / CHUNK / 2;
    image.write_all_at(b"!", damaged * CHUNK + 7).expect("written");
    let said = scenario.registrar.ok(&format!("record verify --record scan-1 {object}"), &[]);
    assert!(said.contains(&format!("damaged chunks, counted from 0: {damaged}\n")), "{said}");
}

/// Bytes of the blocks that the orderer keeps, once it has none under way.
async fn blocks(scenario: &Scenario) -> u64 {
    let orderer = &scenario.network.orderers()[0];
    let peer = scenario.network.peers().0;
    eventually("the peer has every block", async || {
        let newest = orderer.newest_block(CHANNEL).await.expect("a block").header.expect("a header").number;
        peer.chain_info(CHANNEL).await.is_ok_and(|info| info.height == newest + 1)
    })
    .await;
    let newest = orderer.newest_block(CHANNEL).await.expect("a block").header.expect("a header").number;
    let mut bytes = 0;
    for number in 0..=newest {
        bytes += orderer.block(CHANNEL, number).await.expect("a block").encoded_len() as u64;
    }
    bytes
}

/// C6, C25, and erasure.
fn records(scenario: &Scenario) {
    let body = scenario.registrar.file("body.json", observation(72));
    let register = format!(
        "record register --patient {PATIENT} --record obs-1 --storage https://a.example/1 --body {}",
        body.display()
    );
    let said = scenario.registrar.ok(&register, &[]);
    assert!(said.contains("record obs-1 version 1 registered: Observation N"), "{said}");

    let verify = |client: &Client, text: &str| {
        let body = client.file("at-hand.json", text);
        client.run(&format!("record verify --record obs-1 --fail-on-mismatch --body {}", body.display()), &[])
    };
    let reordered = observation(72).replacen('{', "{ ", 1);
    assert_eq!(verify(&scenario.physician, &reordered).code, Some(0));
    let flipped = verify(&scenario.physician, &observation(73));
    assert_eq!(
        (flipped.code, flipped.out.as_str()),
        (Some(3), "no match: the body is not version 1 of record obs-1\n")
    );

    let mut bytes = vec![0_u8; 200_000];
    scenario.registrar.file("image", &bytes);
    let object = format!(
        "--object {} --chunk-size 65536 --manifest {}",
        scenario.registrar.path("image"),
        scenario.registrar.path("manifest")
    );
    let said = scenario.registrar.ok(&format!("record register --patient {PATIENT} --record img-1 --storage https://a.example/2 --class ImagingStudy --confidentiality R {object}"), &[]);
    assert!(said.contains("registered in 4 chunks"), "{said}");
    bytes[140_000] = 1;
    scenario.registrar.file("image", &bytes);
    let said = scenario.registrar.ok(&format!("record verify --record img-1 {object}"), &[]);
    assert!(said.starts_with("no match") && said.contains("damaged chunks, counted from 0: 2"), "{said}");

    let said = scenario.registrar.ok("record erase --record img-1 --reason objection --request req-1", &[]);
    assert!(said.contains("record img-1 erased"), "{said}");
    let said = scenario.registrar.ok(&format!("record verify --record img-1 {object}"), &[]);
    assert!(said.contains("was erased"), "{said}");
    let erase = scenario.physician.run("record erase --record obs-1 --reason objection --request req-2", &[]);
    assert!(
        erase.code == Some(1) && erase.err.contains("403"),
        "a physician erases nothing: {}{}",
        erase.out,
        erase.err
    );
}

/// C11, C19, C22.
fn consents(scenario: &Scenario) {
    let ask = |client: &Client, purpose: &str| {
        client
            .run(&format!("access request --patient {PATIENT} --record obs-1 --purpose {purpose} --fail-on-deny"), &[])
    };
    let before = ask(&scenario.physician, "TREAT");
    assert_eq!(before.code, Some(3), "{}", before.err);
    assert!(before.out.contains("DENY") && before.out.contains("no consent of the patient decides"), "{}", before.out);

    let file = scenario.patient.file("consent.json", consent());
    let put = format!("consent put {} --consent c-1", file.display());
    let said = scenario.patient.ok(&put, &[]);
    assert!(said.contains("consent c-1 given (change 1)"), "{said}");
    let by_physician = scenario.physician.run(&format!("{put} --patient {PATIENT} --seq 2"), &[]);
    assert_eq!(by_physician.code, Some(1), "only the patient may: {}", by_physician.out);

    let permitted = ask(&scenario.physician, "TREAT");
    assert_eq!(permitted.code, Some(0), "{}{}", permitted.out, permitted.err);
    assert!(
        permitted.out.contains("PERMIT: Practitioner/physician may see record obs-1 for TREAT"),
        "{}",
        permitted.out
    );
    assert!(permitted.out.contains("provision.provision[0] of consent c-1"), "{}", permitted.out);
    assert_eq!(ask(&scenario.physician, "HRESCH").code, Some(3), "consent to treatment is none to research");
    let forged = scenario
        .physician
        .run(&format!("access request --patient {PATIENT} --purpose TREAT --role privacy-officer --fail-on-deny"), &[]);
    assert!(forged.code == Some(3) && forged.out.contains("does not have the role"), "{}{}", forged.out, forged.err);

    let transaction =
        scenario.physician.json(&format!("access request --patient {PATIENT} --record obs-1 --purpose TREAT"));
    let tx_id = transaction["entry"]["txId"].as_str().expect("a transaction").to_owned();
    let explained = scenario.patient.ok(&format!("access explain --transaction {tx_id}"), &[]);
    assert!(
        explained.contains("(purpose TREAT, actor Practitioner/physician)"),
        "the patient sees the provision: {explained}"
    );
    assert!(explained.contains("it still holds"), "{explained}");

    let said = scenario.patient.ok("consent revoke c-1", &[]);
    assert!(said.contains("consent c-1 revoked (change 2)"), "{said}");
    assert_eq!(ask(&scenario.physician, "TREAT").code, Some(3));
    let explained = scenario.physician.ok(&format!("access explain --transaction {tx_id}"), &[]);
    assert!(explained.contains("it holds no longer"), "{explained}");
    let tried =
        scenario.physician.ok(&format!("access explain --patient {PATIENT} --record obs-1 --purpose TREAT"), &[]);
    assert!(tried.contains("DENY: you may not see record obs-1") && tried.contains("nothing was recorded"), "{tried}");
    let list = scenario.patient.ok("consent list", &[]);
    assert!(list.starts_with("CONSENT") && list.contains("inactive"), "{list}");
}

fn break_glass(scenario: &Scenario) {
    let file = scenario.patient.file("consent.json", consent());
    scenario.patient.ok(&format!("consent put {} --consent c-1", file.display()), &[]);
    let ask = format!("access request --patient {PATIENT} --record obs-1 --purpose BTG --fail-on-deny");
    let why = ["--justification", "found unconscious"];
    assert_eq!(scenario.physician.run(&ask, &why).code, Some(3), "the certificate does not allow it");
    let said = scenario.emergency.ok(&ask, &why);
    assert!(said.contains("the glass was broken"), "{said}");
    let due = scenario.officer.json("review list");
    let mut mine = due.as_array().expect("a list").iter().filter(|review| review["status"] == "open");
    let tx_id = mine.next_back().expect("a review is due")["txId"].as_str().expect("a transaction").to_owned();
    let said =
        scenario.officer.ok(&format!("review decide {tx_id} --outcome justified --notes"), &["patient confirmed it"]);
    assert!(said.contains("reviewed: justified"), "{said}");
    assert_eq!(scenario.emergency.run("review list", &[]).code, Some(1), "reviews are the officers'");
}

/// C8: every request has an entry, in each form.
fn audit(scenario: &Scenario) {
    let entries = scenario.patient.json("audit query");
    let entries = entries.as_array().expect("a list");
    let decided: Vec<&Value> =
        entries.iter().filter(|entry| entry["kind"] == "access").map(|entry| &entry["decision"]).collect();
    assert_eq!(decided, ["DENY", "PERMIT", "DENY", "DENY", "PERMIT", "DENY", "DENY", "PERMIT"]);
    let officer = format!("--patient {PATIENT}");
    let table = scenario.officer.ok(&format!("audit query {officer}"), &[]);
    assert!(table.contains("Practitioner/emergency (HospitalB)") && table.contains("justified"), "{table}");
    let bundle: Value =
        serde_json::from_str(&scenario.officer.ok(&format!("audit export --format bundle {officer}"), &[]))
            .expect("JSON");
    assert_eq!(bundle["entry"].as_array().map(Vec::len), Some(entries.len()));
    let lines = scenario.officer.ok(&format!("audit export --format ndjson {officer}"), &[]);
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["resourceType"] == "AuditEvent"))
    );
    let file = scenario.officer.path("audit.csv");
    scenario.officer.ok(&format!("audit export --format csv {officer} --file {file}"), &[]);
    let csv = std::fs::read_to_string(file).expect("CSV");
    assert_eq!(csv.lines().count(), entries.len() + 1);
    assert!(csv.contains("found unconscious"));
    let by_actor = scenario.officer.json("audit query --actor HospitalB:Practitioner/emergency");
    assert_eq!(by_actor.as_array().map(Vec::len), Some(1));
    let refused = scenario.physician.run(&format!("audit query {officer}"), &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.out);
}
