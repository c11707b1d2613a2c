//! What a careful person with a script would do: the same objects, written and awaited in the best order.
//!
//! It is what the operator is measured against. The objects are those that the operator made, keys and genesis block
//! included, so the script has less to do than the operator: it issues nothing and reports nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed, Target, TlsIdentity};
use ehrnet_fabric::participation::ChannelStatus;
use ehrnet_fabric::proto::common::Block;
use ehrnet_fabric::{participation, peer};
use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use prost::Message;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::scene::Scene;

const OURS: &str = "app.kubernetes.io/managed-by=ehrnet";
const CHANNEL: &str = "care";

/// A hospital of the network and its nodes, as the benchmark declares them.
pub struct Site {
    pub hospital: &'static str,
    pub msp: &'static str,
}

/// Everything that the operator made in a namespace.
pub struct Script {
    /// What pods need.
    ground: Vec<(ApiResource, DynamicObject)>,
    nodes: Vec<DynamicObject>,
    secrets: BTreeMap<String, BTreeMap<String, ByteString>>,
    genesis: Block,
}

fn made_kinds() -> [ApiResource; 8] {
    [
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ]
}

impl Script {
    /// Writes the script: copies what is there.
    pub async fn write(scene: &Scene) -> Self {
        let (mut ground, mut nodes) = (Vec::new(), Vec::new());
        for kind in made_kinds() {
            for object in of_kind(scene, &kind).list(&ListParams::default().labels(OURS)).await.expect("a list") {
                let object = as_new(object);
                if kind.kind == "StatefulSet" { nodes.push(object) } else { ground.push((kind.clone(), object)) }
            }
        }
        let secrets = scene.api::<Secret>().list(&ListParams::default().labels(OURS)).await.expect("a list");
        let secrets = secrets.into_iter().map(|secret| (secret.name_any(), secret.data.unwrap_or_default())).collect();
        let map = scene.api::<ConfigMap>().get(&format!("{CHANNEL}-genesis")).await.expect("the genesis block");
        let block = map.binary_data.and_then(|mut data| data.remove("genesis.block")).expect("a block");
        Self { ground, nodes, secrets, genesis: Block::decode(block.0.as_slice()).expect("a block") }
    }

    /// Runs the script in an empty namespace; seconds until every node has the channel.
    pub async fn run(&self, scene: &Scene, sites: &[Site]) -> f64 {
        let began = Instant::now();
        let create = |kind: ApiResource, object: DynamicObject| async move {
            let created = of_kind(scene, &kind).create(&PostParams::default(), &object).await;
            created.unwrap_or_else(|error| panic!("creating {} {}: {error}", kind.kind, object.name_any()));
        };
        join_all(self.ground.iter().cloned().map(|(kind, object)| create(kind, object))).await;
        let kind = ApiResource::erase::<StatefulSet>(&());
        join_all(self.nodes.iter().cloned().map(|object| create(kind.clone(), object))).await;
        join_all(self.nodes.iter().map(|node| self.join(scene, sites, node.name_any()))).await;
        began.elapsed().as_secs_f64()
    }

    /// Waits for one node, makes it join and waits until it has.
    async fn join(&self, scene: &Scene, sites: &[Site], node: String) {
        let pod = scene.until(&scene.api::<Pod>(), &format!("{node}-0"), "ready", super::bench::pod_is_ready).await;
        let address = pod.status.and_then(|status| status.pod_ip?.parse().ok()).expect("an address");
        let network: Arc<dyn Network> = Arc::new(At(address));
        let site = sites.iter().find(|site| node.starts_with(site.hospital)).expect("a hospital");
        let target = |port, client_identity| Target {
            host: format!("{node}.{}.svc", scene.namespace),
            port,
            tls_roots: vec![self.text(&format!("{}-tlsca", site.hospital), "tls.crt")],
            client_identity,
        };
        if node.ends_with("-peer") {
            let admin = format!("{}-admin", site.hospital);
            let admin = SigningIdentity::new(site.msp, &self.text(&admin, "tls.crt"), &self.text(&admin, "tls.key"));
            let client = peer::Client::new(network, &target(7051, None), Arc::new(admin.expect("an admin")));
            let client = client.expect("a client");
            client.join(CHANNEL, &self.genesis).await.expect("join");
            assert!(client.chain_info(CHANNEL).await.expect("an answer").height >= 1);
            return;
        }
        let identity = TlsIdentity {
            certificate: self.text("ehrnet-operator", "tls.crt"),
            key: self.text("ehrnet-operator", "tls.key").into(),
        };
        let client = participation::Client::new(network, &target(9443, Some(identity))).expect("a client");
        client.join(CHANNEL, &self.genesis).await.expect("join");
        let info = client.info(CHANNEL).await.expect("an answer").expect("the channel");
        assert_eq!(info.status, ChannelStatus::Active, "{info:?}");
    }

    fn text(&self, secret: &str, key: &str) -> String {
        let value = self.secrets.get(secret).and_then(|data| data.get(key));
        String::from_utf8(value.unwrap_or_else(|| panic!("no {key} in {secret}")).0.clone()).expect("PEM")
    }
}

/// Deletes every child in a namespace whose resources are gone already, and waits until the pods have ended.
pub async fn sweep(scene: &Scene) {
    let ours = ListParams::default().labels(OURS);
    for kind in made_kinds() {
        let api = of_kind(scene, &kind);
        let found = api.list(&ours).await.expect("a list");
        for object in &found {
            match api.delete(&object.name_any(), &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => panic!("deleting {}: {error}", object.name_any()),
            }
        }
    }
    for pod in scene.pods().await.into_keys() {
        scene.until_gone(&scene.api::<Pod>(), &pod).await;
    }
    for claim in scene.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.expect("a list") {
        scene.until_gone(&scene.api::<PersistentVolumeClaim>(), &claim.name_any()).await;
    }
}

fn of_kind(scene: &Scene, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(scene.client.clone(), &scene.namespace, kind)
}

/// The object as somebody would write it: without what the cluster added.
fn as_new(mut object: DynamicObject) -> DynamicObject {
    let meta = &mut object.metadata;
    meta.uid = None;
    meta.resource_version = None;
    meta.creation_timestamp = None;
    meta.generation = None;
    meta.managed_fields = None;
    meta.owner_references = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| !key.contains("kubernetes.io/"));
    }
    meta.finalizers = None;
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
        for assigned in ["volumeName", "clusterIP", "clusterIPs"] {
            spec.remove(assigned);
        }
    }
    object
}

/// One node, whatever it is called.
struct At(IpAddr);

#[async_trait]
impl Network for At {
    async fn dial(&self, _: &str, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect((self.0, port)).await
    }

    async fn before_write(&self, _: &LedgerAct) -> Result<(), NotAllowed> {
        Ok(())
    }

    async fn after_write(&self, _: &LedgerAct) {}
}
