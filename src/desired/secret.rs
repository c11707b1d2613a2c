//! Secrets with keys, in one layout: `tls.crt`, `tls.key` and `ca.crt`, type `kubernetes.io/tls`.
//!
//! One layout for CAs, identities and TLS pairs means one reader, and tools that watch certificates in such Secrets see
//! them all. They are created once and never applied: their content is not a function of the spec.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroizing;

use ehrnet_api::common::DeletionPolicy;
use ehrnet_pki::{Authority, AuthorityName, Certificate, Leaf, PrivateKey, Profile};

use super::connection::{self, Identities, Reachable};
use super::names::{self, BUILDER_JSON, CA_CRT, CA_KEY, Parent, TLS_CRT, TLS_KEY};
use super::plan::{ContractPlan, HospitalPlan, IdentityPlan, NodePlan};

/// Secret type of key pairs.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// Secret with a hospital's signing CA.
pub fn signing_ca(plan: &HospitalPlan, ca: &Authority) -> Secret {
    authority(hospital_meta(plan, names::signing_ca(&plan.parent.name)), ca)
}

/// Secret with a hospital's TLS CA.
pub fn tls_ca(plan: &HospitalPlan, ca: &Authority) -> Secret {
    authority(hospital_meta(plan, names::tls_ca(&plan.parent.name)), ca)
}

/// Secret with a hospital's admin identity. `issuer` is the signing CA's certificate.
pub fn admin(plan: &HospitalPlan, certificate: &Certificate, key: &PrivateKey, issuer: &Certificate) -> Secret {
    key_pair(hospital_meta(plan, names::admin(&plan.parent.name)), certificate, key, issuer)
}

/// Secret with the key pair by which a hospital's peers are known to its contracts, and with what their chaincode builder
/// fills into packages. `issuer` is the TLS CA's certificate.
pub fn chaincode_client(
    plan: &HospitalPlan,
    certificate: &Certificate,
    key: &PrivateKey,
    issuer: &Certificate,
) -> Secret {
    let mut secret =
        key_pair(hospital_meta(plan, names::chaincode_client(&plan.parent.name)), certificate, key, issuer);
    // By hand, because a JSON value would leave copies of the key. Neither text has anything to escape but line ends.
    let escaped = Zeroizing::new(key.to_pem().replace('\n', "\\n"));
    let json = Zeroizing::new(format!(r#"{{"hospital":"{}","client_key":"{}"}}"#, plan.parent.name, *escaped));
    secret.data.get_or_insert_default().insert(BUILDER_JSON.into(), ByteString(json.as_bytes().to_vec()));
    secret
}

/// Secret with the TLS key pair of a hospital's service of a contract. `issuer` is the TLS CA's certificate.
pub fn contract_tls(plan: &ContractPlan, certificate: &Certificate, key: &PrivateKey, issuer: &Certificate) -> Secret {
    key_pair(plan.metadata(names::node_tls(&plan.name())), certificate, key, issuer)
}

/// Secret of an Identity: its key pair, and the client bundle around it. `identities` holds the pair.
pub fn identity(plan: &IdentityPlan, identities: &Identities<'_>, reachable: &Reachable) -> Secret {
    let meta = labelled(plan.parent.owned(&plan.secret_name), &plan.hospital.parent.name);
    let mut secret = key_pair(meta, identities.certificate, identities.key, identities.signing_ca);
    secret.data.get_or_insert_default().extend(connection::files(&plan.hospital, identities, reachable));
    secret
}

/// The namespace's Secret with the key of pseudonyms, hexadecimal. Shared: nothing owns it, and it outlives all.
pub fn pseudonym(namespace: &str, key: &str) -> Secret {
    Secret {
        metadata: names::shared(namespace, names::PSEUDONYM),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(names::PSEUDONYM_KEY.to_owned(), ByteString(key.as_bytes().to_vec()))])),
        ..Secret::default()
    }
}

/// Secret with a node's identity. `issuer` is the signing CA's certificate.
pub fn node_identity(plan: &NodePlan, certificate: &Certificate, key: &PrivateKey, issuer: &Certificate) -> Secret {
    key_pair(node_meta(plan, names::node_identity(&plan.parent.name)), certificate, key, issuer)
}

/// Secret with a node's TLS key pair. `issuer` is the TLS CA's certificate.
pub fn node_tls(plan: &NodePlan, certificate: &Certificate, key: &PrivateKey, issuer: &Certificate) -> Secret {
    key_pair(node_meta(plan, names::node_tls(&plan.parent.name)), certificate, key, issuer)
}

/// Subject of the CA of the orderers' admin endpoints in a namespace.
pub fn operator_ca_name(namespace: &str) -> AuthorityName {
    AuthorityName { common_name: format!("ehrnet operator {namespace}"), organization: None }
}

/// The client certificate with which the operator administers orderers.
pub fn operator_leaf() -> Leaf {
    Leaf { common_name: names::OPERATOR.into(), organization: None, profile: Profile::TlsClient }
}

/// The namespace's Secret with the operator CA (`ca.crt`, `ca.key`) and the operator's client certificate.
pub fn operator(namespace: &str, ca: &Authority, certificate: &Certificate, key: &PrivateKey) -> Secret {
    let meta = names::shared(namespace, names::OPERATOR);
    let mut secret = key_pair(meta, certificate, key, ca.certificate());
    let ca_key = ByteString(ca.key().to_pem().as_bytes().to_vec());
    secret.data.get_or_insert_default().insert(CA_KEY.into(), ca_key);
    secret
}

/// Secret with the user and password of a peer's CouchDB. It lives as long as the database does.
pub fn couchdb(plan: &NodePlan, password: &str) -> Secret {
    let data = [("username", "peer"), ("password", password)];
    Secret {
        metadata: node_meta(plan, names::node_couchdb(&plan.parent.name)),
        type_: Some("kubernetes.io/basic-auth".into()),
        data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).into()),
        ..Secret::default()
    }
}

/// Metadata of what a hospital keeps or loses with its resource.
fn hospital_meta(plan: &HospitalPlan, name: String) -> ObjectMeta {
    labelled(lasting(&plan.parent, plan.deletion_policy, name), &plan.parent.name)
}

/// Metadata of what a node keeps or loses with its resource. Keys go the way of the ledger: a ledger without the key that
/// its channels know is of no use, and neither is the key without the ledger.
pub(super) fn node_meta(plan: &NodePlan, name: String) -> ObjectMeta {
    labelled(lasting(&plan.parent, plan.deletion_policy, name), &plan.hospital)
}

fn lasting(parent: &Parent, policy: DeletionPolicy, name: String) -> ObjectMeta {
    match policy {
        DeletionPolicy::Retain => parent.kept(name),
        DeletionPolicy::Delete => parent.owned(name),
    }
}

/// Adds the label of the hospital.
pub(super) fn labelled(mut meta: ObjectMeta, hospital: &str) -> ObjectMeta {
    meta.labels.get_or_insert_default().insert(names::HOSPITAL.into(), hospital.to_owned());
    meta
}

fn authority(meta: ObjectMeta, ca: &Authority) -> Secret {
    key_pair(meta, ca.certificate(), ca.key(), ca.certificate())
}

fn key_pair(metadata: ObjectMeta, certificate: &Certificate, key: &PrivateKey, issuer: &Certificate) -> Secret {
    let data = BTreeMap::from([
        (TLS_CRT.to_owned(), ByteString(certificate.pem().as_bytes().to_vec())),
        (TLS_KEY.to_owned(), ByteString(key.to_pem().as_bytes().to_vec())),
        (CA_CRT.to_owned(), ByteString(issuer.pem().as_bytes().to_vec())),
    ]);
    Secret { metadata, type_: Some(TLS_TYPE.into()), data: Some(data), ..Secret::default() }
}
