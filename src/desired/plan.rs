//! Validated input of the builders: what remains of a spec once defaults, references and addresses are resolved.
//!
//! Builders see nothing else, so a spec that makes no sense never reaches them, and they cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use ehrnet_api::common::{DeletionPolicy, Image, PullPolicy, Resources, Scheduling, Storage};
use ehrnet_api::hospital::Lifetime;
use ehrnet_api::identity::IdentityType;
use ehrnet_api::node::{NodeSpec, StateDatabase};
use ehrnet_api::{Chaincode, Hospital, Identity, Orderer, Peer};
use ehrnet_fabric::{Endpoint, NotAnEndpoint};
use ehrnet_pki::{Attributes, AuthorityName, Leaf, Profile, Role, SubjectAltNames, Window};

use super::names::{self, Parent};

/// Why a resource cannot be planned.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The object is not one that a cluster returned.
    #[error("the resource has no UID, name or namespace: it was not read from a cluster")]
    NotFromCluster,
    /// An external endpoint that is none.
    #[error("externalEndpoint {0}")]
    Endpoint(#[from] NotAnEndpoint),
}

/// What is the same for every resource: the operator's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Default images.
    pub images: NodeImages,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Namespace in which the operator runs; `None` outside a cluster.
    pub operator_namespace: Option<String>,
}

/// Image and command of each sort of node, where its resource names no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImages {
    /// Orderers.
    pub orderer: DefaultImage,
    /// Peers.
    pub peer: DefaultImage,
    /// CouchDB.
    pub couchdb: DefaultImage,
    /// Contracts.
    pub contract: DefaultImage,
}

/// An image, and the command that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultImage {
    /// Image reference.
    pub reference: String,
    /// Command; empty for the image's own.
    pub command: Vec<String>,
}

/// Image of one container, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImage {
    /// Image reference.
    pub reference: String,
    /// Command; empty for the image's own.
    pub command: Vec<String>,
    /// When to pull; Kubernetes' default if absent.
    pub pull_policy: Option<PullPolicy>,
    /// Secrets with registry credentials.
    pub pull_secrets: Vec<String>,
}

impl ContainerImage {
    /// A resource that names an image brings that image's own command as well.
    fn resolve(image: &Image, default: &DefaultImage) -> Self {
        let (reference, command) = match &image.reference {
            Some(reference) => (reference.clone(), Vec::new()),
            None => (default.reference.clone(), default.command.clone()),
        };
        Self { reference, command, pull_policy: image.pull_policy, pull_secrets: image.pull_secrets.clone() }
    }
}

/// Where clients and other nodes find a node: its external endpoint if it has one, else its Service.
///
/// `port` is the node's gRPC port inside the cluster.
pub fn endpoint(name: &str, namespace: &str, external: Option<&str>, port: u16) -> Result<Endpoint, NotAnEndpoint> {
    match external {
        Some(text) => text.parse(),
        None => Ok(Endpoint::new(names::host(name, namespace), port)),
    }
}

/// A hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HospitalPlan {
    /// The Hospital.
    pub parent: Parent,
    /// Fabric's name of it.
    pub msp_id: String,
    /// Name for people, the organisation of its certificates.
    pub organization: Option<String>,
    /// Whether keys outlive the resource.
    pub deletion_policy: DeletionPolicy,
    /// Validity and renewal of its CAs.
    pub ca_window: Window,
    /// Validity and renewal of its leaves.
    pub leaf_window: Window,
}

impl HospitalPlan {
    /// Plans a Hospital.
    pub fn new(hospital: &Hospital) -> Result<Self, PlanError> {
        let spec = &hospital.spec;
        Ok(Self {
            parent: Parent::of(hospital).ok_or(PlanError::NotFromCluster)?,
            msp_id: spec.msp_id.clone(),
            organization: spec.display_name.clone(),
            deletion_policy: spec.deletion_policy,
            ca_window: window(&spec.pki.ca),
            leaf_window: window(&spec.pki.leaf),
        })
    }

    /// Subject of the signing CA that is made for it.
    pub fn signing_ca_name(&self) -> AuthorityName {
        self.ca_name("CA")
    }

    /// Subject of the TLS CA that is made for it.
    pub fn tls_ca_name(&self) -> AuthorityName {
        self.ca_name("TLS CA")
    }

    fn ca_name(&self, purpose: &str) -> AuthorityName {
        let common_name = format!("{} {purpose}", self.msp_id.chars().take(48).collect::<String>());
        AuthorityName { common_name, organization: self.organization.clone() }
    }

    /// The certificate of its admin.
    pub fn admin_leaf(&self) -> Leaf {
        self.leaf(format!("{}-admin", self.parent.name), Profile::enrolment(Role::Admin))
    }

    /// The certificate that its peers show to its contracts.
    pub fn chaincode_client_leaf(&self) -> Leaf {
        self.leaf(names::chaincode_client(&self.parent.name), Profile::TlsClient)
    }

    /// Validity and renewal of that certificate: as long as the CA's, because it stands in packages, whose ids hang on it.
    pub fn chaincode_client_window(&self) -> Window {
        self.ca_window
    }

    fn leaf(&self, common_name: String, profile: Profile) -> Leaf {
        Leaf { common_name, organization: self.organization.clone(), profile }
    }
}

fn window(lifetime: &Lifetime) -> Window {
    Window { validity: lifetime.validity.0, renew_before: lifetime.renew_before.0 }
}

/// An identity of a hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPlan {
    /// The Identity.
    pub parent: Parent,
    /// Its hospital.
    pub hospital: HospitalPlan,
    /// Where it is kept.
    pub secret_name: String,
    /// Its certificate.
    pub leaf: Leaf,
    /// Validity and renewal of its certificate.
    pub window: Window,
}

impl IdentityPlan {
    /// Plans an Identity.
    pub fn new(identity: &Identity, hospital: &Hospital) -> Result<Self, PlanError> {
        let spec = &identity.spec;
        let parent = Parent::of(identity).ok_or(PlanError::NotFromCluster)?;
        let hospital = HospitalPlan::new(hospital)?;
        let role = match spec.type_ {
            IdentityType::Client => Role::Client,
            IdentityType::Admin => Role::Admin,
        };
        let attributes = Attributes::new(spec.attributes.clone());
        Ok(Self {
            secret_name: spec.secret_name.clone().unwrap_or_else(|| names::identity(&parent.name)),
            leaf: hospital.leaf(parent.name.clone(), Profile::Enrolment { role, attributes }),
            window: spec.certificate.as_ref().map_or(hospital.leaf_window, window),
            parent,
            hospital,
        })
    }
}

/// An orderer or peer.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePlan {
    /// The Orderer or Peer.
    pub parent: Parent,
    /// Name of its Hospital.
    pub hospital: String,
    /// Fabric's name of its hospital.
    pub msp_id: String,
    /// Organisation of its certificates.
    pub organization: Option<String>,
    /// Its container.
    pub image: ContainerImage,
    /// Volume of the ledger.
    pub storage: Storage,
    /// CPU and memory; empty for the defaults.
    pub resources: Resources,
    /// Where its pod may run.
    pub scheduling: Scheduling,
    /// Address for those outside the cluster.
    pub external_endpoint: Option<Endpoint>,
    /// Whether its keys and volume outlive the resource.
    pub deletion_policy: DeletionPolicy,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Namespace of the operator, which may call the node; `None` outside a cluster.
    pub operator_namespace: Option<String>,
    /// Ports of nodes outside the cluster that it must be able to reach.
    pub outside_ports: BTreeSet<u16>,
}

impl NodePlan {
    fn new(
        parent: Option<Parent>,
        hospital: &Hospital,
        node: &NodeSpec,
        default_image: &DefaultImage,
        site: &Site,
        outside_ports: BTreeSet<u16>,
    ) -> Result<Self, PlanError> {
        let parent = parent.ok_or(PlanError::NotFromCluster)?;
        let hospital_name = hospital.metadata.name.clone().ok_or(PlanError::NotFromCluster)?;
        let external_endpoint = node.external_endpoint.as_deref().map(str::parse::<Endpoint>).transpose()?;
        Ok(Self {
            hospital: hospital_name,
            msp_id: hospital.spec.msp_id.clone(),
            organization: hospital.spec.display_name.clone(),
            image: ContainerImage::resolve(&node.image, default_image),
            storage: node.storage.clone(),
            resources: node.resources.clone(),
            scheduling: node.scheduling.clone(),
            deletion_policy: node.deletion_policy,
            cluster_domain: site.cluster_domain.clone(),
            operator_namespace: site.operator_namespace.clone(),
            outside_ports,
            external_endpoint,
            parent,
        })
    }

    /// The name under which everyone in the cluster reaches it.
    pub fn host(&self) -> String {
        names::host(&self.parent.name, &self.parent.namespace)
    }

    /// Its TLS certificate: every name inside the cluster, and the host outside.
    pub fn tls_leaf(&self) -> Leaf {
        let mut hosts = names::hosts(&self.parent.name, &self.parent.namespace, &self.cluster_domain);
        hosts.extend(self.external_endpoint.iter().map(|endpoint| endpoint.host.clone()));
        self.leaf(Profile::Tls { names: SubjectAltNames::new(hosts) })
    }

    /// Its identity in the MSP.
    pub fn identity_leaf(&self) -> Leaf {
        let role = match self.parent.component {
            names::Component::Orderer => Role::Orderer,
            _ => Role::Peer,
        };
        self.leaf(Profile::enrolment(role))
    }

    fn leaf(&self, profile: Profile) -> Leaf {
        Leaf { common_name: self.parent.name.clone(), organization: self.organization.clone(), profile }
    }
}

/// An orderer.
#[derive(Clone, Debug, PartialEq)]
pub struct OrdererPlan {
    /// What every node has.
    pub node: NodePlan,
}

impl OrdererPlan {
    /// Plans an Orderer. `outside_ports` are those of nodes outside the cluster.
    pub fn new(
        orderer: &Orderer,
        hospital: &Hospital,
        site: &Site,
        outside_ports: BTreeSet<u16>,
    ) -> Result<Self, PlanError> {
        let (node, image) = (&orderer.spec.node, &site.images.orderer);
        Ok(Self { node: NodePlan::new(Parent::of(orderer), hospital, node, image, site, outside_ports)? })
    }
}

/// A peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerPlan {
    /// What every node has.
    pub node: NodePlan,
    /// Its CouchDB, if its state is kept there.
    pub couchdb: Option<CouchDbPlan>,
}

/// The CouchDB of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct CouchDbPlan {
    /// Its container.
    pub image: ContainerImage,
    /// Volume of the database.
    pub storage: Storage,
    /// CPU and memory; empty for the defaults.
    pub resources: Resources,
}

impl PeerPlan {
    /// Plans a Peer. `outside_ports` are those of nodes outside the cluster.
    pub fn new(peer: &Peer, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<Self, PlanError> {
        let spec = &peer.spec;
        let couchdb = spec.couchdb.clone().unwrap_or_default();
        let couchdb = (spec.state_database == StateDatabase::CouchDB).then(|| CouchDbPlan {
            image: ContainerImage::resolve(&couchdb.image, &site.images.couchdb),
            storage: couchdb.storage,
            resources: couchdb.resources,
        });
        let (node, image) = (&spec.node, &site.images.peer);
        Ok(Self { node: NodePlan::new(Parent::of(peer), hospital, node, image, site, outside_ports)?, couchdb })
    }
}

/// A hospital's service of a contract.
#[derive(Clone, Debug, PartialEq)]
pub struct ContractPlan {
    /// The Chaincode.
    pub parent: Parent,
    /// Name of the Hospital that runs it.
    pub hospital: String,
    /// Organisation of its certificate.
    pub organization: Option<String>,
    /// Its container.
    pub image: ContainerImage,
    /// CPU and memory; empty for the defaults.
    pub resources: Resources,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// MSP ids of the member hospitals of the channel, in order.
    pub members: Vec<String>,
}

/// What a service of a contract is started with, once its certificate is issued and its package is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRelease {
    /// Id of the package that it is known by; it registers under it.
    pub package_id: String,
    /// The certificates that it reads.
    pub material: Material,
}

impl ContractPlan {
    /// Plans a hospital's service of a Chaincode. `members` are the MSP ids of the channel's member hospitals.
    pub fn new(
        chaincode: &Chaincode,
        hospital: &Hospital,
        site: &Site,
        members: &BTreeSet<String>,
    ) -> Result<Self, PlanError> {
        let spec = &chaincode.spec;
        Ok(Self {
            parent: Parent::of(chaincode).ok_or(PlanError::NotFromCluster)?,
            hospital: hospital.metadata.name.clone().ok_or(PlanError::NotFromCluster)?,
            organization: hospital.spec.display_name.clone(),
            image: ContainerImage::resolve(&spec.image, &site.images.contract),
            resources: spec.resources.clone(),
            cluster_domain: site.cluster_domain.clone(),
            members: members.iter().cloned().collect(),
        })
    }

    /// Name of the service.
    pub fn name(&self) -> String {
        names::contract(&self.parent.name, &self.hospital)
    }

    /// `host:port` under which the hospital's peers find it.
    pub fn address(&self) -> String {
        format!("{}:{}", names::host(&self.name(), &self.parent.namespace), names::CHAINCODE_PORT)
    }

    /// Its TLS certificate: every name inside the cluster.
    pub fn tls_leaf(&self) -> Leaf {
        let hosts = names::hosts(&self.name(), &self.parent.namespace, &self.cluster_domain);
        let profile = Profile::Tls { names: SubjectAltNames::new(hosts) };
        Leaf { common_name: self.name(), organization: self.organization.clone(), profile }
    }

    /// Labels that match its pods and no others.
    pub fn selector(&self) -> BTreeMap<String, String> {
        let mut selector = self.parent.selector();
        selector.insert(names::HOSPITAL.into(), self.hospital.clone());
        selector
    }

    /// Metadata of one of its objects.
    pub(super) fn metadata(&self, name: String) -> ObjectMeta {
        super::secret::labelled(self.parent.owned(name), &self.hospital)
    }
}

/// Digest of what a pod reads once, at its start: certificates, never keys (a new key comes with a new certificate). Another
/// digest restarts the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// SHA-256, lower-case hexadecimal.
    digest: String,
    /// When the first of the pod's own certificates ends.
    ends: Option<Timestamp>,
}

impl Material {
    /// The digest of these certificates (PEM), in their order.
    pub fn of<'a>(certificates: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for certificate in certificates {
            hash.update((certificate.len() as u64).to_be_bytes());
            hash.update(certificate.as_bytes());
        }
        Self { digest: hex::encode(hash.finalize()), ends: None }
    }

    /// The same for a pod whose own certificates are valid until `ends`, so that it can be told what it runs with.
    pub fn ending(self, ends: Timestamp) -> Self {
        Self { ends: Some(ends), ..self }
    }

    /// The annotations of a pod template that say so.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let digest = (names::MATERIAL.to_owned(), self.digest.clone());
        let ends = self.ends.map(|ends| (names::CERTIFICATES_END.to_owned(), ends.to_string()));
        [Some(digest), ends].into_iter().flatten().collect()
    }
}
