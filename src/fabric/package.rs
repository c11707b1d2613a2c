//! Packages of chaincode that runs as a service: made, opened, and known by their id.
//!
//! A package is a gzipped tar of `metadata.json` and `code.tar.gz`, which holds `connection.json`: where the peer finds
//! the chaincode. The id is the label and the SHA-256 of the package's bytes, so the same content must always make the
//! same bytes: no times, no owners, fixed order, and no compression, whose result differs between versions of a library.
//!
//! The traps: the booleans of `connection.json` must be booleans, whatever Fabric's documentation shows; and every admin
//! of the peer can read a package, so keys belong in the peer's own configuration: see [`Connection::expanded`].

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::GzBuilder;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::LedgerError;

const METADATA: &str = "metadata.json";
const CODE: &str = "code.tar.gz";
const CONNECTION: &str = "connection.json";
/// The kind of package that Fabric's `ccaas_builder` takes.
const CCAAS: &str = "ccaas";
/// Where a state database's files are in the code.
const COUCHDB: &str = "META-INF/statedb/couchdb";
/// No package of a service is larger when it is unpacked.
const LARGEST: u64 = 16 * 1024 * 1024;

/// `connection.json`: where a peer finds the chaincode, and how both prove who they are.
///
/// Texts may hold `{{.name}}`, to be filled in by each peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// `host:port` of the chaincode's server. Its certificate must be for this host.
    pub address: String,
    /// How long a connection may take to be made, as Go writes durations.
    pub dial_timeout: String,
    /// Whether the connection is TLS.
    pub tls_required: bool,
    /// Whether the peer shows a certificate.
    pub client_auth_required: bool,
    /// CA of the server's certificate, PEM.
    pub root_cert: String,
    /// The peer's key, PEM.
    pub client_key: String,
    /// The peer's certificate, PEM.
    pub client_cert: String,
}

/// A package to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name for people.
    pub label: String,
    /// Its name for peers.
    pub id: String,
    /// What is installed.
    pub bytes: Vec<u8>,
}

/// What is in a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Kind of chaincode; `ccaas` for a service.
    pub kind: String,
    /// Name for people.
    pub label: String,
    /// Files of the code, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// `metadata.json`, its fields in the order in which Fabric's tools write them.
#[derive(Serialize, Deserialize)]
struct Metadata {
    #[serde(default)]
    path: String,
    r#type: String,
    label: String,
}

impl Package {
    /// The package of a service. `indexes` are files for CouchDB by their path below `META-INF/statedb/couchdb`, such as
    /// `indexes/by-patient.json`.
    ///
    /// # Errors
    /// `Invalid` if the label or a path cannot be used.
    pub fn ccaas(
        label: &str,
        connection: &Connection,
        indexes: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, LedgerError> {
        let invalid = |e: String| LedgerError::Invalid(format!("chaincode package {label}: {e}"));
        check_label(label).map_err(invalid)?;
        let connection = serde_json::to_vec(connection).map_err(|e| invalid(e.to_string()))?;
        let metadata = Metadata { path: String::new(), r#type: CCAAS.into(), label: label.into() };
        let metadata = serde_json::to_vec(&metadata).map_err(|e| invalid(e.to_string()))?;
        let indexes = indexes.iter().map(|(path, file)| (format!("{COUCHDB}/{path}"), file.as_slice()));
        let files: Vec<_> = indexes.chain([(CONNECTION.into(), connection.as_slice())]).collect();
        let code = archive(&files).map_err(|e| invalid(e.to_string()))?;
        let bytes = archive(&[(METADATA.into(), &metadata), (CODE.into(), &code)]);
        let bytes = bytes.map_err(|e| invalid(e.to_string()))?;
        Ok(Self { label: label.into(), id: id(label, &bytes), bytes })
    }
}

/// Id of a package: its label and the SHA-256 of its bytes (Fabric: `persistence.PackageID`).
pub fn id(label: &str, bytes: &[u8]) -> String {
    format!("{label}:{}", hex::encode(Sha256::digest(bytes)))
}

/// Takes a package apart, whoever made it.
///
/// # Errors
/// Why it is no package, in Fabric's words where a peer has some.
pub fn open(bytes: &[u8]) -> Result<Contents, String> {
    let mut outer = unpack(bytes)?;
    let code = outer.remove(CODE).ok_or("did not find a code package inside the package")?;
    let metadata =
        outer.get(METADATA).ok_or_else(|| format!("did not find any package metadata (missing {METADATA})"))?;
    let metadata: Metadata =
        serde_json::from_slice(metadata).map_err(|e| format!("could not unmarshal {METADATA} as json: {e}"))?;
    check_label(&metadata.label)?;
    Ok(Contents { kind: metadata.r#type, label: metadata.label, files: unpack(&code)? })
}

impl Contents {
    /// How the service is reached.
    ///
    /// # Errors
    /// That it is not said, or not readable.
    pub fn connection(&self) -> Result<Connection, String> {
        let file = self.files.get(CONNECTION).ok_or_else(|| format!("{CONNECTION} not found in source folder"))?;
        serde_json::from_slice(file).map_err(|e| format!("{CONNECTION} is not readable: {e}"))
    }
}

impl Connection {
    /// The connection with each `{{.name}}` filled in from `config`, the JSON object that the peer has in
    /// `CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG` (empty for none). As Fabric's `ccaas_builder`, which does this once, when
    /// the package is installed, and leaves out certificates where there is no TLS.
    ///
    /// # Errors
    /// Which field cannot be filled in. Values are never shown.
    pub fn expanded(&self, config: &str) -> Result<Self, String> {
        let config: BTreeMap<String, serde_json::Value> = if config.is_empty() {
            BTreeMap::new()
        } else {
            let no_object = |_| "CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG is not a JSON object".to_owned();
            serde_json::from_str(config).map_err(no_object)?
        };
        let fill = |field: &str, text: &str| {
            expand(text, &config).map_err(|e| format!("Failed to parse the {field} field template: {e}"))
        };
        let address = fill("Address", &self.address)?;
        let dial_timeout = fill("DialTimeout", &self.dial_timeout)?;
        if !self.tls_required {
            return Ok(Self { address, dial_timeout, ..Self::default() });
        }
        Ok(Self {
            address,
            dial_timeout,
            root_cert: fill("RootCert", &self.root_cert)?,
            client_key: fill("ClientKey", &self.client_key)?,
            client_cert: fill("ClientCert", &self.client_cert)?,
            ..*self
        })
    }
}

/// The part of Go's text templates that makes sense here: `{{.name}}`.
fn expand(template: &str, config: &BTreeMap<String, serde_json::Value>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, action)) = rest.split_once("{{") {
        let (action, after) = action.split_once("}}").ok_or("a {{ is not closed by }}")?;
        let key = action.trim().strip_prefix('.').filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| format!("{{{{{action}}}}} is not of the form {{{{.name}}}}"))?;
        let value = config.get(key).ok_or_else(|| format!("map has no entry for key \"{key}\""))?;
        text.push_str(before);
        text.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn check_label(label: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    if label.starts_with(|c: char| c.is_ascii_alphanumeric()) && label.chars().all(plain) {
        return Ok(());
    }
    Err(format!(
        "invalid label '{label}'. Label must be non-empty, can only consist of alphanumerics, symbols from '.+-_', and \
         can only begin with alphanumerics"
    ))
}

/// A gzipped tar that depends on nothing but `files`.
fn archive(files: &[(String, &[u8])]) -> std::io::Result<Vec<u8>> {
    let gzip: GzEncoder<Vec<u8>> =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for (path, file) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(file.len() as u64);
        tar.append_data(&mut header, path, *file)?;
    }
    let mut gzip = tar.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

/// The files in a gzipped tar.
fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let unreadable = |e: std::io::Error| format!("error reading as gzip stream: {e}");
    let mut tar = tar::Archive::new(GzDecoder::new(bytes).take(LARGEST));
    let mut files = BTreeMap::new();
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(format!("tar entry {path} is not a regular file"));
        }
        let mut file = Vec::new();
        entry.read_to_end(&mut file).map_err(|e| format!("could not read {path} from tar: {e}"))?;
        files.insert(path, file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            address: "ehr-hospital-a:9999".into(),
            dial_timeout: "10s".into(),
            tls_required: true,
            client_auth_required: true,
            root_cert: "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n".into(),
            client_key: "{{.client_key}}".into(),
            client_cert: "-----BEGIN CERTIFICATE-----\nB\n-----END CERTIFICATE-----\n".into(),
        }
    }

    fn package() -> Package {
        let indexes = BTreeMap::from([("indexes/by-patient.json".to_owned(), b"{}".to_vec())]);
        Package::ccaas("ehr_1.0", &connection(), &indexes).expect("package")
    }

    #[test]
    fn the_id_is_the_same_on_every_machine_and_in_every_version() {
        // If this fails after an update of a library, the id of every package changes: keep the bytes as they were.
        assert_eq!(package().id, "ehr_1.0:e61356a0f778b3e4d297fda81a6f26e9f00504897f496b9aa69fde1ed9ca1a40");
        assert_eq!(package(), package());
    }

    #[test]
    fn what_was_packed_is_found_again() {
        let package = package();
        let contents = open(&package.bytes).expect("package");
        assert_eq!((contents.kind.as_str(), contents.label.as_str()), ("ccaas", "ehr_1.0"));
        assert_eq!(contents.connection(), Ok(connection()));
        let paths: Vec<_> = contents.files.keys().map(String::as_str).collect();
        assert_eq!(paths, ["META-INF/statedb/couchdb/indexes/by-patient.json", "connection.json"]);
        assert_eq!(id(&contents.label, &package.bytes), package.id);
    }

    #[test]
    fn booleans_are_booleans() {
        let json = serde_json::to_value(connection()).expect("JSON");
        assert_eq!((&json["tls_required"], &json["client_auth_required"]), (&true.into(), &true.into()));
    }

    #[test]
    fn a_key_comes_from_the_peer_and_keeps_its_lines() {
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";
        let config = serde_json::json!({ "client_key": key }).to_string();
        let expanded = connection().expanded(&config).expect("expanded");
        assert_eq!(expanded, Connection { client_key: key.into(), ..connection() });
        let missing = connection().expanded("").expect_err("no key");
        assert_eq!(missing, "Failed to parse the ClientKey field template: map has no entry for key \"client_key\"");
        let broken = connection().expanded(&format!("{config} secret")).expect_err("no JSON");
        assert!(!broken.contains("secret"), "{broken}");
    }

    #[test]
    fn without_tls_there_are_no_certificates() {
        let plain = Connection { tls_required: false, address: "{{.peername}}_cc:9999".into(), ..connection() };
        let expanded = plain.expanded(r#"{"peername":"peer0"}"#).expect("expanded");
        assert_eq!(
            expanded,
            Connection { address: "peer0_cc:9999".into(), dial_timeout: "10s".into(), ..Default::default() }
        );
        let odd = Connection { address: "{{if .a}}b{{end}}".into(), ..connection() };
        assert!(odd.expanded("").expect_err("not supported").contains("{{if .a}}"));
    }

    #[test]
    fn labels_and_packages_that_peers_refuse_are_refused() {
        for label in ["", "_x", "a b", "a/b"] {
            assert!(Package::ccaas(label, &connection(), &BTreeMap::new()).is_err(), "{label}");
        }
        assert!(open(b"no package").expect_err("refused").contains("gzip"));
        let only = archive(&[(METADATA.into(), br#"{"type":"ccaas","label":"x"}"#)]).expect("archive");
        assert_eq!(open(&only), Err("did not find a code package inside the package".into()));
    }
}
