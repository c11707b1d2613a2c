//! The ways into the network from outside the cluster, all through the API server: clients of ledger nodes,
//! people's clients of the contract, and what nodes tell.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use ehrnet_client::Bundle;
use ehrnet_demo::forward::Forward;
use ehrnet_demo::people::{self, ContractClient};
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed, Target};
use ehrnet_fabric::{gateway, peer};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::scene::Scene;
use crate::scrape;

/// Dials pods by the names of their Services.
pub struct Wire {
    scene: Scene,
    /// Ports of pods that lead there.
    open: Mutex<BTreeMap<(String, u16), Forward>>,
}

impl Wire {
    pub fn new(scene: &Scene) -> Arc<Self> {
        Arc::new(Self { scene: scene.clone(), open: Mutex::default() })
    }

    /// A connection to a port of the pod of a node or contract.
    pub async fn connect(&self, node: &str, port: u16) -> io::Result<TcpStream> {
        let pod = self.pod(node).await.ok_or_else(|| io::Error::other(format!("{node} has no pod")))?;
        let mut open = self.open.lock().await;
        let key = (pod.clone(), port);
        if !open.contains_key(&key) {
            let forward = Forward::open(&self.scene.client, &self.scene.namespace, pod, port).await?;
            open.insert(key.clone(), forward);
        }
        let at = &open[&key].at;
        TcpStream::connect((at.host.as_str(), at.port)).await
    }

    /// What a node measures. It says so to whoever has a certificate of its hospital's TLS CA; here it is the node's own.
    pub async fn metrics(&self, node: &str, port: u16) -> io::Result<String> {
        let secret = self.scene.api::<Secret>().get(&format!("{node}-tls")).await.map_err(io::Error::other)?;
        let data = secret.data.unwrap_or_default();
        let pem = |key: &str| data.get(key).map(|text| text.0.clone()).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem("ca.crt")).expect("a CA")).expect("a CA");
        let certificate = CertificateDer::from_pem_slice(&pem("tls.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&pem("tls.key")).expect("a key");
        let tls = ClientConfig::builder().with_root_certificates(roots);
        let tls = tls.with_client_auth_cert(vec![certificate], key).expect("a client");
        let name = ServerName::try_from(format!("{node}.{}.svc", self.scene.namespace)).expect("a name");
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, self.connect(node, port).await?).await?;
        scrape::metrics(stream).await.map_err(io::Error::other)
    }

    /// The pod of a StatefulSet of one, or of a Deployment, if it runs.
    async fn pod(&self, node: &str) -> Option<String> {
        let pods = self.scene.api::<Pod>().list(&ListParams::default()).await.ok()?;
        let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let mut names = pods.items.iter().filter(runs).map(ResourceExt::name_any);
        names.find(|name| name.starts_with(&format!("{node}-")))
    }

    /// The gateway of a bundle's peer, for its holder.
    pub fn gateway(self: &Arc<Self>, bundle: Bundle) -> gateway::Client {
        let target = target(&bundle);
        gateway::Client::new(self.clone(), &target, Arc::new(bundle.identity)).expect("a client")
    }

    /// The peer of a bundle, for its holder.
    pub fn peer(self: &Arc<Self>, bundle: Bundle) -> peer::Client {
        let target = target(&bundle);
        peer::Client::new(self.clone(), &target, Arc::new(bundle.identity)).expect("a client")
    }
}

fn target(bundle: &Bundle) -> Target {
    let (host, port) = (bundle.peer.host.clone(), bundle.peer.port);
    Target { host, port, tls_roots: vec![bundle.tls_roots.clone()], client_identity: None }
}

#[async_trait]
impl Network for Wire {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        self.connect(host.split('.').next().unwrap_or_default(), port).await
    }

    async fn before_write(&self, _: &LedgerAct) -> Result<(), NotAllowed> {
        Ok(())
    }

    async fn after_write(&self, _: &LedgerAct) {}
}

impl Scene {
    /// Makes these Identities.
    pub async fn admit(&self, identities: &[Value]) {
        self.apply(identities).await;
        self.ready(identities).await;
    }

    /// The client bundle of an Identity.
    pub async fn bundle(&self, identity: &str) -> Bundle {
        let secret = format!("{identity}-id");
        people::bundle(&self.client, &self.namespace, &secret).await.unwrap_or_else(|error| panic!("{secret}: {error}"))
    }

    /// The client of the contract of an Identity.
    pub async fn contract_client(&self, identity: &str) -> ContractClient {
        self.contract_client_with(self.bundle(identity).await).await
    }

    /// The client of the contract with this bundle.
    pub async fn contract_client_with(&self, bundle: Bundle) -> ContractClient {
        ContractClient::with(&self.client, &self.namespace, bundle)
            .await
            .unwrap_or_else(|error| panic!("a client: {error}"))
    }
}
