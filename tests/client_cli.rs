//! `ehrnet record|consent|access|review|audit|pseudonym` as users run them, as far as they get without a ledger: the
//! bundle, what is refused before anything is sent, exit codes. With a ledger they run in the end-to-end suite.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

/// A folder with a client bundle whose peer is nowhere.
struct ClientFolder {
    folder: TempDir,
}

impl ClientFolder {
    fn new() -> Self {
        let client = Self { folder: TempDir::new().expect("a folder") };
        let signing = ehrnet_pki::Authority::generate(
            &ehrnet_pki::AuthorityName { common_name: "CA".into(), organization: None },
            std::time::Duration::from_secs(3600),
            jiff::Timestamp::now(),
        );
        let signing = signing.expect("a CA");
        let key = ehrnet_pki::PrivateKey::generate();
        let leaf = ehrnet_pki::Leaf {
            common_name: "client".into(),
            organization: None,
            profile: ehrnet_pki::Profile::enrolment(ehrnet_pki::Role::Client),
        };
        let validity = std::time::Duration::from_secs(3600);
        let certificate = signing.issue(&leaf, &key, validity, jiff::Timestamp::now()).expect("a certificate");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for (name, text) in [
            ("MSP_ID", "MercyMSP"),
            ("PEER_ENDPOINT", &closed.to_string()),
            ("tls-ca.pem", signing.certificate().pem()),
            ("msp.signcerts.cert.pem", certificate.pem()),
            ("msp.keystore.key.pem", &key.to_pem()),
            ("connection.json", r#"{"channels": {"care": {}}}"#),
            ("pseudonym.key", SECRET),
        ] {
            client.file(name, text);
        }
        client
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn run(&self, line: &str, paths: &[&Path]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ehrnet"));
        command.env("EHRNET_BUNDLE", self.folder.path()).args(line.split_whitespace()).args(paths);
        command.output().expect("the binary runs")
    }
}

fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}{}", String::from_utf8_lossy(&output.stdout));
    said
}

#[test]
fn a_patients_pseudonym_is_the_hmac_under_the_networks_secret() {
    // HMAC-SHA-256, key 32 bytes 0x0b, "Hi There" (computed with Python).
    let output = ClientFolder::new().run("pseudonym", &[Path::new("Hi There")]);
    said(&output, 0);
    let expected = "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7";
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
}

#[test]
fn bad_input_is_refused_with_code_2_before_anything_is_sent() {
    let client = ClientFolder::new();
    let broken = client
        .file("broken.json", r#"{"resourceType": "Consent", "status": "active", "provision": {"type": "maybe"}}"#);
    let body = client.file("body.json", json!({"a": 1}).to_string());
    let empty = client.file("empty", "");
    let text = |path: &Path| path.display().to_string();
    for (line, paths, expected) in [
        (
            "consent put --patient 1 --consent c".to_owned(),
            vec![broken.as_path()],
            "Consent.provision.type: must be permit or deny",
        ),
        ("consent put --patient 1".to_owned(), vec![broken.as_path()], "--consent is needed"),
        ("access request --patient 1".to_owned(), vec![], "--purpose is needed"),
        ("access request --purpose TREAT".to_owned(), vec![], "give --patient or --pseudonym"),
        ("audit query --actor Practitioner/7".to_owned(), vec![], "MSP:ID"),
        ("review decide t1 --outcome perhaps".to_owned(), vec![], "justified"),
        // The flag's name of before.
        ("review decide t1 --verdict perhaps".to_owned(), vec![], "justified"),
        (
            format!("record register --patient 1 --record r --storage s --body {}", text(&body)),
            vec![],
            "--class is needed",
        ),
        (format!("record verify --record r --object {}", text(&empty)), vec![], "is empty"),
        ("record verify --record r".to_owned(), vec![], "--body"),
        ("record erase --record r --reason boredom --request q".to_owned(), vec![], "legal-obligation"),
        ("audit query --patient 1 --bundle nowhere".to_owned(), vec![], "nowhere: is not a folder"),
    ] {
        let said = said(&client.run(&line, &paths), 2);
        assert!(said.contains(expected), "{line}: {said}");
        assert!(!said.contains("127.0.0.1"), "{line} reached for the ledger: {said}");
    }
}

#[test]
fn a_ledger_that_cannot_be_reached_is_named_and_ends_with_code_1() {
    let client = ClientFolder::new();
    let said = said(&client.run("consent list --patient 1", &[]), 1);
    assert!(said.contains("GetConsents: 127.0.0.1:") && said.contains("cannot be reached"), "{said}");
}

#[test]
fn a_forwarded_port_takes_the_place_of_the_peers_address() {
    let client = ClientFolder::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let met = std::thread::spawn(move || listener.accept().is_ok());
    said(&client.run(&format!("audit query --patient 1 --peer {address}"), &[]), 1);
    assert!(met.join().expect("a thread"));
}

/// C13: a hospital's FHIR Consent becomes the template of a policy, and a patient's Consent is made of that, in either release.
#[test]
fn a_consent_goes_into_a_policy_and_comes_back() {
    let client = ClientFolder::new();
    let coding = |system: &str, code: &str| json!([{"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code}]);
    let original = json!({
        "resourceType": "Consent", "status": "active", "subject": {"reference": "Patient/1"}, "decision": "permit",
        "category": [{"coding": coding("consentcategorycodes", "research")}, {"coding": coding("consentscope", "research")}], "period": {"end": "2030-12-31"},
        "provision": [{"securityLabel": coding("v3-Confidentiality", "R"),
                       "provision": [{"actor": [{"reference": {"reference": "Practitioner/x"}}]}]}],
    });
    let file = client.file("consent.json", original.to_string());
    let imported = client.run("consent import --name study", &[&file]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let manifest: serde_json::Value = serde_yaml::from_slice(&imported.stdout).expect("YAML");
    assert_eq!((&manifest["kind"], &manifest["spec"]["scope"]), (&json!("ConsentPolicy"), &json!("research")));
    assert!(manifest["spec"].get("combining").is_none(), "defaults are not repeated");
    let policy = client.file("policy.yaml", imported.stdout);
    let exported = client.run("consent export --patient Patient/1 --dialect R5", &[&policy]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let back: serde_json::Value = serde_json::from_slice(&exported.stdout).expect("JSON");
    assert_eq!(back, original);
    let exported = client.run("consent export --patient Patient/1", &[&policy]).stdout;
    let back: serde_json::Value = serde_json::from_slice(&exported).expect("JSON");
    let nested = &back["provision"]["provision"][0];
    assert_eq!(
        (&back["provision"]["type"], &nested["type"], &nested["provision"][0]["type"]),
        (&json!("permit"), &json!("deny"), &json!("permit"))
    );

    let odd = member(&original, "provision", json!([{"purpose": coding("v3-ActReason", "NONSENSE")}]));
    let refused = client.run("consent import --name study", &[&client.file("odd.json", odd.to_string())]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("Consent.provision[0].purpose[0]"), "{said}");
}

fn member(value: &serde_json::Value, name: &str, member: serde_json::Value) -> serde_json::Value {
    let mut value = value.clone();
    value[name] = member;
    value
}
