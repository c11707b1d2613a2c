//! Names, labels, ports and owner references of everything the operator makes: the only place that spells them.
//!
//! Invariant: a child's name follows from its parent's name alone, so it can be found without asking, and a selector
//! (`Parent::selector`) never matches another resource's pods.
//!
//! What must outlive its resource (keys and ledgers under `deletionPolicy: Retain`, genesis blocks) has no owner
//! reference; its labels say what it was made for, and a resource created again under the same name takes it back.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource;

/// gRPC of an orderer.
pub const ORDERER_PORT: u16 = 7050;
/// Channel participation REST of an orderer, mutual TLS for the operator alone.
pub const ORDERER_ADMIN_PORT: u16 = 9443;
/// Health, version and metrics of an orderer.
pub const ORDERER_OPERATIONS_PORT: u16 = 8443;
/// gRPC of a peer.
pub const PEER_PORT: u16 = 7051;
/// Health, version and metrics of a peer.
pub const PEER_OPERATIONS_PORT: u16 = 9443;
/// CouchDB, on the loopback address of its peer's pod.
pub const COUCHDB_PORT: u16 = 5984;
/// A chaincode server.
pub const CHAINCODE_PORT: u16 = 9999;

/// Secret key of a certificate, in every Secret with a key pair.
pub const TLS_CRT: &str = "tls.crt";
/// Secret key of the private key, in every Secret with a key pair.
pub const TLS_KEY: &str = "tls.key";
/// Secret key of the certificate of the CA that issued `tls.crt`; in the operator's Secret the CA itself.
pub const CA_CRT: &str = "ca.crt";
/// Secret key of the operator CA's private key.
pub const CA_KEY: &str = "ca.key";
/// ConfigMap key of a genesis block.
pub const GENESIS_BLOCK: &str = "genesis.block";
/// Secret key of the key of pseudonyms, lower-case hexadecimal, in its own Secret and in client bundles.
pub const PSEUDONYM_KEY: &str = "pseudonym.key";
/// Secret key of what Fabric's chaincode builder on a hospital's peers fills into packages (JSON).
pub const BUILDER_JSON: &str = "builder.json";
/// ConfigMap key of a consent policy.
pub const POLICY_JSON: &str = "policy.json";

/// Label: who manages the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: name of the resource it was made for.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: what sort of thing it is, see [`Component`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label: the software.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label: the greater whole.
const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label: the Hospital it belongs to.
pub const HOSPITAL: &str = "ehrnet.dev/hospital";
/// Label: the Channel it belongs to.
pub const CHANNEL: &str = "ehrnet.dev/channel";
/// Label that a user sets to `true` on pods of the same namespace, or on another namespace, that may call the nodes.
pub const LEDGER_CLIENT: &str = "ehrnet.dev/ledger-client";
/// Label that a user sets to `true` on pods of the same namespace, or on another namespace, that may read metrics.
pub const METRICS_CLIENT: &str = "ehrnet.dev/metrics-client";
/// Annotation of a pod template: digest of the certificates it was started with.
pub const MATERIAL: &str = "ehrnet.dev/material";
/// Annotation of a pod template: when the first of the node's own certificates ends (RFC 3339).
pub const CERTIFICATES_END: &str = "ehrnet.dev/certificates-end";
/// Annotation: SHA-256 of the content, lower-case hexadecimal.
pub const DIGEST: &str = "ehrnet.dev/digest";
/// Annotation: Fabric's name of a channel.
pub const CHANNEL_NAME: &str = "ehrnet.dev/channel-name";
/// Annotation: Fabric's name of a hospital.
pub const MSP_ID: &str = "ehrnet.dev/msp-id";

/// Value of `managed-by`, and field manager of every write.
pub const MANAGER: &str = "ehrnet";
/// Secret, one in a namespace: operator CA and client certificate for the orderers' admin endpoint.
pub const OPERATOR: &str = "ehrnet-operator";
/// Secret, one in a namespace: the key that turns patient identifiers into pseudonyms.
pub const PSEUDONYM: &str = "ehrnet-pseudonym";
/// PodDisruptionBudget, one in a namespace, of all its orderers.
pub const ORDERERS: &str = "ehrnet-orderers";

/// What an object is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Children of a Hospital.
    Hospital,
    /// Children of an Orderer.
    Orderer,
    /// Children of a Peer.
    Peer,
    /// Children of a Channel.
    Channel,
    /// Children of a ConsentPolicy.
    ConsentPolicy,
    /// Children of an Identity.
    Identity,
    /// Children of a Chaincode.
    Chaincode,
    /// The operator itself, and what it keeps for itself.
    Operator,
}

impl Component {
    const DECLARED: [Self; 7] = [
        Self::Hospital,
        Self::Orderer,
        Self::Peer,
        Self::Channel,
        Self::Chaincode,
        Self::ConsentPolicy,
        Self::Identity,
    ];

    /// Value of the component label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hospital => "hospital",
            Self::Orderer => "orderer",
            Self::Peer => "peer",
            Self::Channel => "channel",
            Self::ConsentPolicy => "consent-policy",
            Self::Identity => "identity",
            Self::Chaincode => "chaincode",
            Self::Operator => "operator",
        }
    }

    /// Kind of the resource; `None` for the operator.
    pub fn kind(self) -> Option<&'static str> {
        match self {
            Self::Hospital => Some("Hospital"),
            Self::Orderer => Some("Orderer"),
            Self::Peer => Some("Peer"),
            Self::Channel => Some("Channel"),
            Self::ConsentPolicy => Some("ConsentPolicy"),
            Self::Identity => Some("Identity"),
            Self::Chaincode => Some("Chaincode"),
            Self::Operator => None,
        }
    }

    /// The software, as `app.kubernetes.io/name` has it.
    fn software(self) -> &'static str {
        match self {
            Self::Orderer => "fabric-orderer",
            Self::Peer => "fabric-peer",
            Self::Chaincode => "chaincode",
            Self::Hospital | Self::Channel | Self::ConsentPolicy | Self::Identity | Self::Operator => MANAGER,
        }
    }

    fn of_kind(kind: &str) -> Option<Self> {
        Self::DECLARED.into_iter().find(|component| component.kind() == Some(kind))
    }

    /// Labels that select all pods of the component.
    pub fn selector(self) -> BTreeMap<String, String> {
        let labels = [(NAME, self.software()), (COMPONENT, self.as_str())];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// The declared resource whose children are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Namespace of the resource and of its children.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// What it is.
    pub component: Component,
    api_version: String,
    uid: String,
}

impl Parent {
    /// The parent for a resource as read from a cluster; `None` for one that has no UID, name or namespace.
    pub fn of<K: Resource<DynamicType = ()>>(resource: &K) -> Option<Self> {
        let meta = resource.meta();
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            component: Component::of_kind(&K::kind(&()))?,
            api_version: K::api_version(&()).into_owned(),
            uid: meta.uid.clone()?,
        })
    }

    /// Labels that match the pods of this resource and no others.
    pub fn selector(&self) -> BTreeMap<String, String> {
        let mut selector = self.component.selector();
        selector.insert(INSTANCE.into(), self.name.clone());
        selector
    }

    /// Metadata of a child that is deleted with its parent.
    pub fn owned(&self, name: impl Into<String>) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: self.api_version.clone(),
            kind: self.component.kind().unwrap_or_default().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta { owner_references: Some(vec![owner]), ..self.kept(name) }
    }

    /// Metadata of a child that outlives its parent.
    pub fn kept(&self, name: impl Into<String>) -> ObjectMeta {
        kept(self.component, Some(self.namespace.clone()), &self.name, name)
    }
}

/// Metadata of an object that outlives the resource `instance` that it is made for.
pub fn kept(component: Component, namespace: Option<String>, instance: &str, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace,
        labels: Some(labels(component, instance)),
        ..ObjectMeta::default()
    }
}

/// Metadata of an object that the resources of a namespace share: nothing owns it.
pub fn shared(namespace: &str, name: &str) -> ObjectMeta {
    kept(Component::Operator, Some(namespace.to_owned()), name, name)
}

fn labels(component: Component, instance: &str) -> BTreeMap<String, String> {
    let mut labels = component.selector();
    let common = [(INSTANCE, instance), (MANAGED_BY, MANAGER), (PART_OF, MANAGER)];
    labels.extend(common.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

/// Kind and name of the resource that an object of ours was made for, by its labels.
pub fn made_for<K: Resource>(object: &K) -> Option<(&'static str, String)> {
    let labels = object.meta().labels.as_ref()?;
    let label = |key: &str| labels.get(key).map(String::as_str);
    if label(MANAGED_BY) != Some(MANAGER) {
        return None;
    }
    let component = label(COMPONENT)?;
    let component = Component::DECLARED.into_iter().find(|known| known.as_str() == component)?;
    Some((component.kind()?, label(INSTANCE)?.to_owned()))
}

/// Secret with a hospital's signing CA.
pub fn signing_ca(hospital: &str) -> String {
    format!("{hospital}-ca")
}

/// Secret with a hospital's TLS CA.
pub fn tls_ca(hospital: &str) -> String {
    format!("{hospital}-tlsca")
}

/// Secret with a hospital's admin identity.
pub fn admin(hospital: &str) -> String {
    format!("{hospital}-admin")
}

/// ConfigMap with a hospital's public MSP.
pub fn msp(hospital: &str) -> String {
    format!("{hospital}-msp")
}

/// Secret with a hospital's client bundle and connection profile.
pub fn connection(hospital: &str) -> String {
    format!("{hospital}-connection")
}

/// PodDisruptionBudget of a hospital's peers.
pub fn peers(hospital: &str) -> String {
    format!("{hospital}-peers")
}

/// A hospital's service of a contract: Deployment, Service and NetworkPolicy. The schemas keep it within 63 characters.
pub fn contract(chaincode: &str, hospital: &str) -> String {
    format!("{chaincode}-{hospital}")
}

/// ServiceAccount of all services of a contract.
pub fn contract_account(chaincode: &str) -> String {
    format!("{chaincode}-chaincode")
}

/// Secret with the key pair by which a hospital's peers are known to its contracts.
pub fn chaincode_client(hospital: &str) -> String {
    format!("{hospital}-chaincode")
}

/// Secret of an Identity that names none.
pub fn identity(identity: &str) -> String {
    format!("{identity}-id")
}

/// Secret with a node's identity.
pub fn node_identity(node: &str) -> String {
    format!("{node}-identity")
}

/// Secret with a node's TLS key pair.
pub fn node_tls(node: &str) -> String {
    format!("{node}-tls")
}

/// PersistentVolumeClaim of a node's ledger.
pub fn node_ledger(node: &str) -> String {
    format!("{node}-ledger")
}

/// Secret with the password of a peer's CouchDB, and PersistentVolumeClaim of its data.
pub fn node_couchdb(node: &str) -> String {
    format!("{node}-couchdb")
}

/// ConfigMap with a channel's genesis block.
pub fn genesis(channel: &str) -> String {
    format!("{channel}-genesis")
}

/// ConfigMap with the projection of a consent policy.
pub fn consent_policy(policy: &str) -> String {
    format!("{policy}-consent")
}

/// The name under which everyone in the cluster reaches a node.
pub fn host(node: &str, namespace: &str) -> String {
    format!("{node}.{namespace}.svc")
}

/// Every name of a node inside the cluster, for its TLS certificate.
pub fn hosts(node: &str, namespace: &str, cluster_domain: &str) -> BTreeSet<String> {
    let host = host(node, namespace);
    BTreeSet::from([node.to_owned(), format!("{node}.{namespace}"), format!("{host}.{cluster_domain}"), host])
}
