//! Resources as a cluster returns them, run through the real planning, and one set of keys for all tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::connection::{ChannelNodes, Identities, OrdererAddress, Reachable};
use crate::*;
use ehrnet_api::{Chaincode, Channel, Hospital, Identity, Orderer, Peer};
use ehrnet_pki::{Authority, AuthorityName, Certificate, Leaf, PrivateKey};

pub struct Keys {
    pub signing: Authority,
    pub tls: Authority,
    pub operator: Authority,
    pub admin: (Certificate, PrivateKey),
    pub identity: (Certificate, PrivateKey),
    pub node_tls: (Certificate, PrivateKey),
    pub client: (Certificate, PrivateKey),
    pub clerk: (Certificate, PrivateKey),
}

pub static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let now = "2031-02-03T04:05:06Z".parse().expect("a timestamp");
    let plan = hospital_plan();
    let ca = |name: &AuthorityName| Authority::generate(name, plan.ca_window.validity, now).expect("a CA");
    let issue = |ca: &Authority, leaf: &Leaf| {
        let key = PrivateKey::generate();
        (ca.issue(leaf, &key, plan.leaf_window.validity, now).expect("issued"), key)
    };
    let (signing, tls) = (ca(&plan.signing_ca_name()), ca(&plan.tls_ca_name()));
    let operator = ca(&secret::operator_ca_name("north-clinic"));
    let orderer = orderer_plan().node;
    Keys {
        admin: issue(&signing, &plan.admin_leaf()),
        identity: issue(&signing, &orderer.identity_leaf()),
        node_tls: issue(&tls, &orderer.tls_leaf()),
        client: issue(&operator, &secret::operator_leaf()),
        clerk: issue(&signing, &identity_plan().leaf),
        signing,
        tls,
        operator,
    }
});

/// Fixed text, for what must not change from run to run.
pub fn certificates() -> [Certificate; 2] {
    [include_str!("../../pki/testdata/no-ski-ca.pem"), include_str!("../../pki/testdata/repeated-dc-ca.pem")]
        .map(|pem| Certificate::from_pem(pem).expect("a certificate"))
}

fn resource<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    let metadata = json!({"name": name, "namespace": "north-clinic", "uid": format!("uid-of-{name}")});
    let object = json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    serde_json::from_value(object).expect("a resource")
}

pub fn hospital(spec: Value) -> Hospital {
    resource("Hospital", "willow", spec)
}

pub fn willow() -> Hospital {
    hospital(json!({"mspId": "WillowHealthMSP", "displayName": "Willow Health Trust"}))
}

pub fn hospital_plan() -> HospitalPlan {
    HospitalPlan::new(&willow()).expect("a plan")
}

pub fn channel() -> Channel {
    let consensus = json!({"type": "Raft", "orderers": ["sequencer-9"]});
    resource(
        "Channel",
        "trial",
        json!({"channelName": "oncology.trial", "consensus": consensus, "members": ["willow"]}),
    )
}

pub fn site() -> Site {
    let image = |reference: &str| DefaultImage { reference: reference.into(), command: Vec::new() };
    Site {
        images: NodeImages {
            orderer: image("registry.example/orderer:7"),
            peer: image("registry.example/peer:8"),
            couchdb: image("registry.example/couch:9"),
            contract: image("registry.example/contract:6"),
        },
        cluster_domain: "cluster.example".into(),
        operator_namespace: Some("platform".into()),
    }
}

pub fn orderer(node: Value) -> Orderer {
    let mut spec = json!({"hospitalRef": {"name": "willow"}});
    merge(&mut spec, node);
    resource("Orderer", "sequencer-9", spec)
}

pub fn peer(node: Value) -> Peer {
    let mut spec = json!({"hospitalRef": {"name": "willow"}});
    merge(&mut spec, node);
    resource("Peer", "archive-4", spec)
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

pub fn orderer_plan_of(node: Value) -> OrdererPlan {
    OrdererPlan::new(&orderer(node), &willow(), &site(), BTreeSet::new()).expect("a plan")
}

pub fn orderer_plan() -> OrdererPlan {
    orderer_plan_of(json!({}))
}

pub fn peer_plan_of(node: Value) -> PeerPlan {
    PeerPlan::new(&peer(node), &willow(), &site(), BTreeSet::new()).expect("a plan")
}

/// Certificates that a pod reads.
pub fn material() -> Material {
    Material::of(["a certificate"]).ending("2027-01-01T00:00:00Z".parse().expect("a time"))
}

/// A peer with everything that a user can ask for.
pub fn full_peer_plan() -> PeerPlan {
    let mut plan = peer_plan_of(json!({
        "stateDatabase": "CouchDB",
        "couchdb": {"storage": {"size": "7Gi"}, "image": {"pullSecrets": ["registry-b"]}},
        "image": {"reference": "mirror.example/peer:1", "pullPolicy": "Never", "pullSecrets": ["registry-a"]},
        "storage": {"size": "33Gi", "storageClassName": "fast"},
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}},
        "externalEndpoint": "ledger.willow.example:31051",
        "deletionPolicy": "Delete",
        "scheduling": {
            "nodeSelector": {"disk": "nvme"},
            "tolerations": [{"key": "ledger", "operator": "Exists"}],
            "priorityClassName": "clinical",
            "affinity": {"nodeAffinity": {}},
        },
    }));
    plan.node.outside_ports = [31050, 31051].into();
    plan
}

pub fn chaincode(spec: Value) -> Chaincode {
    let mut whole = json!({"channelRef": {"name": "trial"}});
    merge(&mut whole, spec);
    resource("Chaincode", "ehr", whole)
}

pub fn contract_service_of(spec: Value, hospital: &Hospital) -> (ContractPlan, ContractRelease) {
    let members = ["OakMSP", "WillowMSP"].map(str::to_owned).into();
    let plan = ContractPlan::new(&chaincode(spec), hospital, &site(), &members).expect("a plan");
    (plan, ContractRelease { package_id: "ehr:0123".into(), material: Material::of(["a certificate"]) })
}

pub fn contract_service() -> (ContractPlan, ContractRelease) {
    contract_service_of(json!({}), &willow())
}

pub fn identities() -> Identities<'static> {
    let keys = &*KEYS;
    Identities {
        signing_ca: keys.signing.certificate(),
        tls_ca: keys.tls.certificate(),
        holder: "admin",
        certificate: &keys.admin.0,
        key: &keys.admin.1,
        pseudonym_key: PSEUDONYM_KEY,
    }
}

pub const PSEUDONYM_KEY: &str = "5eed";

pub fn identity(spec: Value) -> Identity {
    let mut whole = json!({"hospitalRef": {"name": "willow"}, "attributes": {"ehr.role": "registrar"}});
    merge(&mut whole, spec);
    resource("Identity", "front-desk", whole)
}

pub fn identity_plan() -> IdentityPlan {
    IdentityPlan::new(&identity(json!({})), &willow()).expect("a plan")
}

/// The Secret of an Identity.
pub fn identity_secret(plan: &IdentityPlan) -> Secret {
    let (certificate, key) = &KEYS.clerk;
    let identities = Identities { holder: &plan.parent.name, certificate, key, ..identities() };
    secret::identity(plan, &identities, &reachable())
}

pub fn reachable() -> Reachable {
    let endpoint = |name: &str, external, port| plan::endpoint(name, "north-clinic", external, port).expect("valid");
    let [orderer_root, _] = certificates();
    Reachable {
        peers: BTreeMap::from([
            ("archive-4".to_owned(), endpoint("archive-4", None, names::PEER_PORT)),
            ("archive-5".to_owned(), endpoint("archive-5", Some("ledger.willow.example:31051"), names::PEER_PORT)),
        ]),
        orderers: BTreeMap::from([(
            "sequencer-9".to_owned(),
            OrdererAddress { endpoint: endpoint("sequencer-9", None, names::ORDERER_PORT), tls_ca: orderer_root },
        )]),
        channels: BTreeMap::from([(
            "oncology.trial".to_owned(),
            ChannelNodes { peers: vec!["archive-4".into()], orderers: vec!["sequencer-9".into()] },
        )]),
    }
}

/// The content of a Secret in words: which of the known certificates and keys lies under which of its keys.
pub fn described(secret: &Secret) -> Value {
    let keys = &*KEYS;
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let authorities = [
        (&keys.signing, "signing CA certificate", "signing CA key"),
        (&keys.tls, "TLS CA certificate", "TLS CA key"),
        (&keys.operator, "operator CA certificate", "operator CA key"),
    ];
    for (authority, certificate, key) in authorities {
        known.insert(authority.certificate().pem().into(), certificate);
        known.insert(authority.key().to_pem().to_string(), key);
    }
    let leaves = [
        (&keys.admin, "admin certificate", "admin key"),
        (&keys.identity, "node identity certificate", "node identity key"),
        (&keys.node_tls, "node TLS certificate", "node TLS key"),
        (&keys.client, "operator client certificate", "operator client key"),
        (&keys.clerk, "identity certificate", "identity key"),
    ];
    for ((certificate, key), certificate_name, key_name) in leaves {
        known.insert(certificate.pem().into(), certificate_name);
        known.insert(key.to_pem().to_string(), key_name);
    }
    let mut value = serde_json::to_value(secret).expect("serializes");
    let data = secret.data.iter().flatten().map(|(key, bytes)| {
        let mut text = String::from_utf8(bytes.0.clone()).expect("text");
        for (content, name) in &known {
            text = text.replace(content.as_str(), &format!("<{name}>"));
            text = text.replace(&content.replace('\n', "\\n"), &format!("<{name}, escaped>"));
        }
        (key.clone(), Value::String(text))
    });
    value["data"] = Value::Object(data.collect());
    value
}
