//! ConfigMaps: what everyone may read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube_core::ResourceExt;
use sha2::{Digest, Sha256};

use ehrnet_api::Channel;
use ehrnet_pki::Certificate;

use super::names::{self, Parent};
use super::plan::HospitalPlan;
use super::secret::labelled;

/// MSP folder: its configuration. Keys of files are their path with `.` for `/`, because a key has no slash.
pub const MSP_CONFIG: &str = "config.yaml";
/// MSP folder: the signing CA, `cacerts/ca.pem`.
pub const MSP_CACERT: &str = "cacerts.ca.pem";
/// MSP folder: the TLS CA, `tlscacerts/ca.pem`.
pub const MSP_TLSCACERT: &str = "tlscacerts.ca.pem";

/// NodeOUs on, no certificate named: any chain of the MSP counts, so a CA that is issued again needs no edit here
/// (Fabric: `msp/configbuilder.go`, `setupNodeOUsV142`).
pub const NODE_OUS: &str = "\
NodeOUs:
  Enable: true
  ClientOUIdentifier:
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    OrganizationalUnitIdentifier: admin
  OrdererOUIdentifier:
    OrganizationalUnitIdentifier: orderer
";

/// The public MSP of a hospital: what its nodes mount, and what others need to know it by.
pub fn msp(plan: &HospitalPlan, signing_ca: &Certificate, tls_ca: &Certificate) -> ConfigMap {
    let mut metadata = labelled(plan.parent.owned(names::msp(&plan.parent.name)), &plan.parent.name);
    metadata.annotations = Some(BTreeMap::from([(names::MSP_ID.to_owned(), plan.msp_id.clone())]));
    let data = [(MSP_CONFIG, NODE_OUS), (MSP_CACERT, signing_ca.pem()), (MSP_TLSCACERT, tls_ca.pem())];
    ConfigMap {
        metadata,
        data: Some(data.map(|(key, text)| (key.to_owned(), text.to_owned())).into()),
        ..ConfigMap::default()
    }
}

/// The genesis block of a channel: made once, immutable, and without an owner, because the ledgers that began with it
/// outlive the Channel as well.
pub fn genesis(channel: &Channel, block: &[u8]) -> ConfigMap {
    let name = channel.name_any();
    let mut metadata = names::kept(names::Component::Channel, channel.namespace(), &name, names::genesis(&name));
    metadata.labels.get_or_insert_default().insert(names::CHANNEL.into(), name);
    metadata.annotations = Some(BTreeMap::from([
        (names::CHANNEL_NAME.to_owned(), channel.spec.channel_name.clone()),
        (names::DIGEST.to_owned(), hex::encode(Sha256::digest(block))),
    ]));
    ConfigMap {
        metadata,
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(names::GENESIS_BLOCK.to_owned(), ByteString(block.to_vec()))])),
        ..ConfigMap::default()
    }
}

/// The projection of a consent policy: its canonical text, and the digest that status and ledger carry as well.
pub fn consent_policy(parent: &Parent, canonical_json: &str, digest: &str) -> ConfigMap {
    let mut metadata = parent.owned(names::consent_policy(&parent.name));
    metadata.annotations = Some(BTreeMap::from([(names::DIGEST.to_owned(), digest.to_owned())]));
    ConfigMap {
        metadata,
        immutable: Some(false),
        data: Some(BTreeMap::from([(names::POLICY_JSON.to_owned(), canonical_json.to_owned())])),
        ..ConfigMap::default()
    }
}
