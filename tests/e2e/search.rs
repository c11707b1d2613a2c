//! Looks for texts in everything that a network keeps, shows or says.
//!
//! | Where | how it is read |
//! | --- | --- |
//! | volumes of orderers and peers: blocks, state, private data | as files of the local cluster's node |
//! | every object of every kind that can be listed, Events included | through the API server |
//! | the API server's record of requests | as a file |
//! | metrics of every node and of the operator | through forwarded ports |
//! | logs of every pod of the network and of the operator | through the API server |
//!
//! A text is also found as hexadecimal and as base64, which is how Secrets hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ehrnet_demo::forward::Forward;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, ResourceExt};
use tokio::net::TcpStream;

use crate::cluster::SYSTEM;
use crate::scene::Scene;
use crate::scrape;
use crate::wire::Wire;

/// Places, and which texts are there.
pub type Found = BTreeMap<String, BTreeSet<usize>>;

/// Texts that are looked for.
pub struct Search {
    spellings: AhoCorasick,
    /// Which text each spelling is of.
    of: Vec<usize>,
}

impl Search {
    /// For texts, which are named by their place in the list.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let spelled =
            texts.into_iter().enumerate().flat_map(|(n, text)| spellings(text).into_iter().map(move |s| (n, s)));
        let (of, spellings): (Vec<usize>, Vec<Vec<u8>>) = spelled.unzip();
        Self { spellings: AhoCorasick::new(spellings).expect("not too many texts"), of }
    }

    fn texts_in(&self, bytes: &[u8]) -> BTreeSet<usize> {
        self.spellings.find_overlapping_iter(bytes).map(|found| self.of[found.pattern().as_usize()]).collect()
    }

    /// Everywhere.
    pub async fn everywhere(&self, scene: &Scene) -> Found {
        let mut found = self.in_volumes(scene).await;
        found.extend(self.in_objects(scene).await);
        found.extend(self.in_what_pods_say(scene).await);
        if let Some(log) = scene.cluster.audit_log() {
            self.note(&mut found, "the API server's audit log".into(), &std::fs::read(log).expect("the audit log"));
        }
        found
    }

    fn note(&self, found: &mut Found, place: String, bytes: &[u8]) {
        let texts = self.texts_in(bytes);
        if !texts.is_empty() {
            found.entry(place).or_default().extend(texts);
        }
    }

    /// In every file of the network's volumes; places are `<claim>/<path>`. Nothing where the volumes are elsewhere.
    pub async fn in_volumes(&self, scene: &Scene) -> Found {
        let mut found = Found::new();
        for (claim, folder) in volumes(scene).await {
            for file in files(&folder) {
                let path = file.strip_prefix(&folder).expect("a file of the volume").display();
                // A database that runs makes and removes files.
                let Ok(bytes) = std::fs::read(&file) else { continue };
                self.note(&mut found, format!("{claim}/{path}"), &bytes);
            }
        }
        found
    }

    async fn in_objects(&self, scene: &Scene) -> Found {
        let mut found = Found::new();
        let mut looked_at = BTreeSet::new();
        let discovery = Discovery::new(scene.client.clone()).run().await.expect("the server's kinds");
        let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
        for (resource, _) in kinds.filter(|(_, known)| known.supports_operation(verbs::LIST)) {
            let objects = Api::<DynamicObject>::all_with(scene.client.clone(), &resource);
            for object in objects.list(&ListParams::default()).await.expect("a list") {
                let text = serde_json::to_vec(&object).expect("JSON");
                let namespace = object.namespace().unwrap_or_default();
                self.note(&mut found, format!("{} {namespace}/{}", resource.kind, object.name_any()), &text);
                looked_at.insert(resource.kind.clone());
            }
        }
        for kind in ["Channel", "ConfigMap", "Event", "Identity", "Secret", "StatefulSet"] {
            assert!(looked_at.contains(kind), "no {kind} was looked at: {looked_at:?}");
        }
        found
    }

    async fn in_what_pods_say(&self, scene: &Scene) -> Found {
        let mut found = Found::new();
        let wire = Wire::new(scene);
        for namespace in [scene.namespace.as_str(), SYSTEM] {
            let pods: Api<Pod> = Api::namespaced(scene.client.clone(), namespace);
            for pod in pods.list(&ListParams::default()).await.expect("pods") {
                let name = pod.name_any();
                let log = pods.logs(&name, &LogParams::default()).await.expect("a log");
                assert!(!log.is_empty(), "{name} says nothing");
                self.note(&mut found, format!("the log of {name}"), log.as_bytes());
                let Some((port, name_of_port)) = metrics_port(&pod) else { continue };
                let metrics = match name_of_port.as_str() {
                    "operations" => wire.metrics(name.trim_end_matches("-0"), port).await.expect("metrics"),
                    _ => {
                        let open = Forward::open(&scene.client, namespace, name.clone(), port).await.expect("a port");
                        let stream = TcpStream::connect((open.at.host.as_str(), open.at.port)).await;
                        scrape::metrics(stream.expect("a connection")).await.expect("metrics")
                    }
                };
                assert!(metrics.contains("# TYPE"), "{name}: {metrics}");
                self.note(&mut found, format!("the metrics of {name}"), metrics.as_bytes());
            }
        }
        found
    }
}

/// Where a pod tells what it measures: a node with TLS, the operator without.
fn metrics_port(pod: &Pod) -> Option<(u16, String)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| matches!(port.name.as_deref(), Some("metrics" | "operations")))?;
    Some((u16::try_from(named.container_port).ok()?, named.name.clone()?))
}

/// A text as it is, as hexadecimal, and as the part of any base64 that it alone decides, wherever it begins.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let base64 = (0..3).map(|before| {
        let shifted = [&[0; 2][..before], text.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(&shifted);
        // A character of base64 is 6 bits: those that bytes before or after share are left out.
        let (from, until) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        encoded.as_bytes()[from..until].to_vec()
    });
    [text.as_bytes().to_vec(), hex::encode(text).into_bytes()].into_iter().chain(base64).collect()
}

/// The folders of the network's volumes by their claims, where the node is this machine.
async fn volumes(scene: &Scene) -> Vec<(String, PathBuf)> {
    if scene.cluster.audit_log().is_none() {
        println!("not searched: the volumes of this cluster are on another machine");
        return Vec::new();
    }
    let volumes =
        Api::<PersistentVolume>::all(scene.client.clone()).list(&ListParams::default()).await.expect("volumes");
    let specs = volumes.into_iter().filter_map(|volume| volume.spec);
    let ours = specs.filter_map(|spec| {
        let claim = spec.claim_ref.filter(|claim| claim.namespace.as_ref() == Some(&scene.namespace))?;
        Some((claim.name?, PathBuf::from(spec.local?.path)))
    });
    ours.collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}
