//! What a hospital's applications need to reach its ledger, as one Secret: the client bundle. The hospital's own holds its
//! admin; that of an Identity (`identity`) holds the identity, and its certificate and key in their usual place besides.
//!
//! | Key | Content |
//! | --- | --- |
//! | `connection.yaml`, `connection.json` | connection profile, version 1.0.0, of the Fabric SDKs |
//! | `gateway.env` | settings of the Fabric Gateway client in the names of its samples, with paths relative to the bundle |
//! | `MSP_ID`, `PEER_ENDPOINT`, `PEER_HOST_ALIAS` | the same, for single environment variables |
//! | `tls-ca.pem` | root of the hospital's TLS certificates |
//! | `orderer-tls-cas.pem` | roots of the TLS certificates of its channels' orderers |
//! | `admin.id`, or `<name>.id` | the identity in the format of SDK wallets |
//! | `msp.*` | the identity's MSP folder: `msp.signcerts.cert.pem` is `msp/signcerts/cert.pem` |
//! | `pseudonym.key` | key of the network's pseudonyms, hexadecimal: HMAC-SHA-256 of a patient identifier is a pseudonym |
//!
//! It holds a private key. Do not load it whole into an environment (`envFrom`): that would put the key there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use ehrnet_fabric::Endpoint;
use ehrnet_pki::{Certificate, PrivateKey};

use super::config_map::NODE_OUS;
use super::names;
use super::plan::HospitalPlan;
use super::secret::labelled;

/// What the holder of a bundle is known by, and knows.
#[derive(Clone, Copy)]
pub struct Identities<'a> {
    /// Signs identities of the hospital.
    pub signing_ca: &'a Certificate,
    /// Signs TLS certificates of the hospital.
    pub tls_ca: &'a Certificate,
    /// Name of the identity among the wallet files.
    pub holder: &'a str,
    /// The identity's certificate.
    pub certificate: &'a Certificate,
    /// The identity's key.
    pub key: &'a PrivateKey,
    /// Key of the network's pseudonyms, hexadecimal.
    pub pseudonym_key: &'a str,
}

/// What a hospital's applications can reach. The maps' order is the output's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    /// The hospital's peers by name.
    pub peers: BTreeMap<String, Endpoint>,
    /// Orderers of the hospital's channels by name.
    pub orderers: BTreeMap<String, OrdererAddress>,
    /// The hospital's channels by Fabric's name.
    pub channels: BTreeMap<String, ChannelNodes>,
}

/// An orderer as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdererAddress {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Root of its TLS certificate.
    pub tls_ca: Certificate,
}

/// Nodes of a channel, by the names in [`Reachable`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelNodes {
    /// The hospital's peers that join it.
    pub peers: Vec<String>,
    /// Its orderers.
    pub orderers: Vec<String>,
}

/// The client bundle of a hospital.
pub fn bundle(plan: &HospitalPlan, identities: &Identities<'_>, reachable: &Reachable) -> Secret {
    Secret {
        metadata: labelled(plan.parent.owned(names::connection(&plan.parent.name)), &plan.parent.name),
        type_: Some("Opaque".into()),
        data: Some(files(plan, identities, reachable)),
        ..Secret::default()
    }
}

/// The content of a client bundle.
pub(super) fn files(
    plan: &HospitalPlan,
    identities: &Identities<'_>,
    reachable: &Reachable,
) -> BTreeMap<String, ByteString> {
    let profile = profile(plan, identities.tls_ca, reachable);
    let key = identities.key.to_pem();
    let wallet_file = format!("{}.id", identities.holder);
    let mut files: BTreeMap<&str, Zeroizing<String>> = BTreeMap::from([
        ("connection.json", pretty(&profile)),
        ("connection.yaml", serde_yaml::to_string(&profile).expect("what is JSON can be written as YAML")),
        ("tls-ca.pem", identities.tls_ca.pem().to_owned()),
        ("MSP_ID", plan.msp_id.clone()),
        ("gateway.env", gateway(plan, reachable)),
        ("msp.config.yaml", NODE_OUS.to_owned()),
        ("msp.cacerts.ca.pem", identities.signing_ca.pem().to_owned()),
        ("msp.tlscacerts.ca.pem", identities.tls_ca.pem().to_owned()),
        ("msp.signcerts.cert.pem", identities.certificate.pem().to_owned()),
        (names::PSEUDONYM_KEY, identities.pseudonym_key.to_owned()),
    ])
    .into_iter()
    .map(|(key, text)| (key, Zeroizing::new(text)))
    .collect();
    files.insert("msp.keystore.key.pem", key.clone());
    files.insert(&wallet_file, wallet(plan, identities.certificate, &key));
    if let Some(peer) = reachable.peers.values().next() {
        files.insert("PEER_ENDPOINT", Zeroizing::new(peer.to_string()));
        files.insert("PEER_HOST_ALIAS", Zeroizing::new(peer.host.clone()));
    }
    let roots: BTreeMap<&[u8], &str> =
        reachable.orderers.values().map(|orderer| (orderer.tls_ca.der(), orderer.tls_ca.pem())).collect();
    if !roots.is_empty() {
        files.insert("orderer-tls-cas.pem", Zeroizing::new(roots.into_values().collect()));
    }
    files.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect()
}

/// The connection profile (Fabric: `internal/peer/common/networkconfig.go` and the SDKs' `connection-profile`).
pub fn profile(plan: &HospitalPlan, tls_ca: &Certificate, reachable: &Reachable) -> Value {
    let name = &plan.parent.name;
    let peers = map(&reachable.peers, |endpoint| node(endpoint, tls_ca));
    let orderers = map(&reachable.orderers, |orderer| node(&orderer.endpoint, &orderer.tls_ca));
    let channels = map(&reachable.channels, |channel| {
        let uses = json!({"endorsingPeer": true, "chaincodeQuery": true, "ledgerQuery": true, "eventSource": true});
        let peers: Map<String, Value> = channel.peers.iter().map(|peer| (peer.clone(), uses.clone())).collect();
        json!({"orderers": channel.orderers, "peers": peers})
    });
    json!({
        "name": name,
        "version": "1.0.0",
        "client": {
            "organization": name,
            "connection": {"timeout": {"peer": {"endorser": "300"}, "orderer": "300"}},
        },
        "organizations": {name: {"mspid": plan.msp_id, "peers": reachable.peers.keys().collect::<Vec<_>>()}},
        "peers": peers,
        "orderers": orderers,
        "channels": channels,
    })
}

fn map<T>(of: &BTreeMap<String, T>, value: impl Fn(&T) -> Value) -> Map<String, Value> {
    of.iter().map(|(name, item)| (name.clone(), value(item))).collect()
}

fn node(endpoint: &Endpoint, tls_ca: &Certificate) -> Value {
    json!({
        "url": format!("grpcs://{endpoint}"),
        "tlsCACerts": {"pem": tls_ca.pem()},
        "grpcOptions": {"ssl-target-name-override": endpoint.host, "hostnameOverride": endpoint.host},
    })
}

/// Names as in the samples of `fabric-gateway`; paths as in an MSP folder.
fn gateway(plan: &HospitalPlan, reachable: &Reachable) -> String {
    let mut lines = vec![
        format!("MSP_ID={}", plan.msp_id),
        "CRYPTO_PATH=.".to_owned(),
        "KEY_DIRECTORY_PATH=msp/keystore".to_owned(),
        "CERT_DIRECTORY_PATH=msp/signcerts".to_owned(),
        "TLS_CERT_PATH=tls-ca.pem".to_owned(),
    ];
    if let Some(peer) = reachable.peers.values().next() {
        lines.push(format!("PEER_ENDPOINT={peer}"));
        lines.push(format!("PEER_HOST_ALIAS={}", peer.host));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// An identity in the format of SDK wallets (X.509, version 1). By hand, because a JSON value would leave copies of the key.
fn wallet(plan: &HospitalPlan, certificate: &Certificate, key_pem: &str) -> Zeroizing<String> {
    let certificate = certificate.pem().replace('\n', "\\n");
    let key = Zeroizing::new(key_pem.replace('\n', "\\n"));
    Zeroizing::new(format!(
        r#"{{"credentials":{{"certificate":"{certificate}","privateKey":"{}"}},"mspId":"{}","type":"X.509","version":1}}"#,
        *key, plan.msp_id
    ))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
