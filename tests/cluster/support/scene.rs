//! A namespace with its nodes, and the declared resources as everybody sees them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::gate::Gate;
use super::kubelet::FakeKubelet;
use super::objects;
use super::operator::{OperatorUnderTest, Start};
use super::server::TestCluster;
use crate::resources::{self, Id, Resources};

/// How long nothing may be written before a network counts as settled.
pub const QUIET: Duration = Duration::from_millis(600);

/// How often stillness is looked for.
const TICK: Duration = Duration::from_millis(20);

/// How long a test waits for a network before it says what is missing.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A namespace under test.
pub struct Scene {
    /// The administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Its nodes.
    pub kubelet: FakeKubelet,
    /// How operators are started in it.
    pub start: Start,
    resources: watch::Receiver<Resources>,
    watching: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Scene {
    /// An empty namespace with nodes.
    pub async fn new(cluster: &Arc<TestCluster>, prefix: &str) -> Self {
        let client = cluster.client().await;
        let namespace = cluster.namespace(&client, prefix).await;
        let kubelet = FakeKubelet::start(cluster, &namespace).await;
        let start = Start::new(cluster, &kubelet, &namespace).await;
        let (sender, resources) = watch::channel(Resources::new());
        let watching = tokio::spawn(follow(client.clone(), namespace.clone(), sender));
        Self { client, namespace, kubelet, start, resources, watching }
    }

    /// Starts an operator that nothing disturbs.
    pub fn operator(&self) -> OperatorUnderTest {
        self.start.run(Gate::open())
    }

    /// Applies resources in the given order, as `kubectl apply` would.
    pub async fn apply(&self, resources: &[Value]) {
        for resource in resources {
            let (kind, name) = id(resource);
            let parameters = PatchParams::apply("kubectl").force().validation_strict();
            let applied = objects::api(&self.client, &self.namespace, &kind)
                .patch(&name, &parameters, &Patch::Apply(resource))
                .await;
            applied.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        }
    }

    /// Changes a resource by a merge patch.
    pub async fn edit(&self, kind: &str, name: &str, patch: Value) -> DynamicObject {
        let api = objects::api(&self.client, &self.namespace, kind);
        let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        changed.unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
    }

    /// Deletes a resource and waits until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        let api = objects::api(&self.client, &self.namespace, kind);
        api.delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        let key = (kind.to_owned(), name.to_owned());
        self.until(LIMIT, &format!("{kind} {name} to go"), |resources| !resources.contains_key(&key)).await;
    }

    /// Waits until the operator has looked at every resource, every one is Ready for its present spec, and for a while
    /// nothing was written, reconciled or changed. Says how long it took until then.
    pub async fn settle(&self, operator: &mut OperatorUnderTest) -> Duration {
        let begin = Instant::now();
        let mut resources = self.resources.clone();
        let (mut still_since, mut before) = (begin, None);
        loop {
            let looked = operator.passes().filter(|passes| *passes >= resources.borrow().len() as u64);
            let changed = resources.has_changed().expect("the watch lives as long as the scene");
            let ready = resources.borrow_and_update().values().all(is_ready);
            let now = (looked, operator.gate().writes().len());
            if changed || before != Some(now) || looked.is_none() || !ready {
                (still_since, before) = (Instant::now(), Some(now));
            }
            if still_since.elapsed() >= QUIET {
                return still_since - begin;
            }
            if begin.elapsed() > LIMIT {
                operator.check().await;
                panic!("not settled after {LIMIT:?}:\n{}", self.describe());
            }
            // Stillness has no event.
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until any resource changes, for a while at most.
    pub async fn changed(&self) {
        let mut resources = self.resources.clone();
        resources.borrow_and_update();
        // Nothing changed is an answer, too: the caller looks again.
        let _ = tokio::time::timeout(QUIET, resources.changed()).await;
    }

    /// Waits until the resources are as wanted.
    pub async fn until(&self, limit: Duration, what: &str, wanted: impl Fn(&BTreeMap<Id, DynamicObject>) -> bool) {
        let mut resources = self.resources.clone();
        let seen = tokio::time::timeout(limit, resources.wait_for(|resources| wanted(resources))).await.is_ok();
        assert!(seen, "waited {limit:?} for {what}:\n{}", self.describe());
    }

    /// Waits until a condition of a resource has this status and reason; returns its message.
    pub async fn condition(&self, kind: &str, name: &str, condition: &str, status: &str, reason: &str) -> String {
        let key = (kind.to_owned(), name.to_owned());
        let what = format!("{kind} {name} with {condition}={status} ({reason})");
        let found = |resources: &Resources| {
            resources
                .get(&key)
                .and_then(|o| condition_of(o, condition))
                .filter(|c| c["status"] == status && c["reason"] == reason)
        };
        self.until(LIMIT, &what, |resources| found(resources).is_some()).await;
        found(&self.resources.borrow()).and_then(|c| Some(c["message"].as_str()?.to_owned())).unwrap_or_default()
    }

    /// Waits until one of a resource's conditions is as wanted; returns its message.
    pub async fn until_condition(&self, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> String {
        let key = (kind.to_owned(), name.to_owned());
        let found = |resources: &Resources| {
            let conditions = resources.get(&key).and_then(|o| o.data["status"]["conditions"].as_array().cloned());
            conditions.into_iter().flatten().find(|condition| wanted(condition))
        };
        self.until(LIMIT, &format!("a condition of {kind} {name}"), |resources| found(resources).is_some()).await;
        found(&self.resources.borrow()).and_then(|c| Some(c["message"].as_str()?.to_owned())).unwrap_or_default()
    }

    /// Waits until the pods of these nodes are gone.
    pub async fn until_gone(&self, nodes: &[&str]) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        for node in nodes {
            let name = format!("{node}-0");
            let gone = await_condition(pods.clone(), &name, |pod: Option<&Pod>| pod.is_none());
            let seen = tokio::time::timeout(LIMIT, gone).await;
            seen.unwrap_or_else(|_| panic!("{node} still runs")).expect("the watch");
        }
    }

    /// A resource as it is now.
    pub fn get(&self, kind: &str, name: &str) -> DynamicObject {
        let key = (kind.to_owned(), name.to_owned());
        self.resources.borrow().get(&key).unwrap_or_else(|| panic!("there is no {kind} {name}")).clone()
    }

    /// All resources as they are now.
    pub fn resources(&self) -> BTreeMap<Id, DynamicObject> {
        self.resources.borrow().clone()
    }

    /// What each resource says, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for ((kind, name), object) in self.resources.borrow().iter() {
            let ready = condition_of(object, "Ready").unwrap_or_default();
            writeln!(text, "{kind} {name}: {} {} {}", ready["status"], ready["reason"], ready["message"])
                .expect("text");
            for condition in
                object.data["status"]["conditions"].as_array().into_iter().flatten().filter(|c| c["status"] != "True")
            {
                writeln!(
                    text,
                    "    {}: {} {} {}",
                    condition["type"], condition["status"], condition["reason"], condition["message"]
                )
                .expect("text");
            }
        }
        for ((kind, name), object) in self.resources.borrow().iter() {
            if (kind == "Orderer" || kind == "Peer") && !is_ready(object) {
                writeln!(text, "--- {name} printed:\n{}", self.kubelet.log(name)).expect("text");
            }
        }
        for refusal in self.kubelet.refusals() {
            writeln!(text, "not admitted: {refusal}").expect("text");
        }
        text
    }
}

/// Kind and name in a manifest.
pub fn id(resource: &Value) -> Id {
    let text = |value: &Value| value.as_str().expect("kind and name").to_owned();
    (text(&resource["kind"]), text(&resource["metadata"]["name"]))
}

/// The condition of that type.
pub fn condition_of(object: &DynamicObject, kind: &str) -> Option<Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind).cloned()
}

/// Ready, for the spec as it is now.
pub fn is_ready(object: &DynamicObject) -> bool {
    let current = json!(object.metadata.generation);
    condition_of(object, "Ready").is_some_and(|c| c["status"] == "True" && c["observedGeneration"] == current)
        && object.data["status"]["observedGeneration"] == current
}

async fn follow(client: Client, namespace: String, resources: watch::Sender<Resources>) {
    let show = |now: &Resources| {
        resources.send_replace(now.clone());
        false
    };
    resources::follow(&client, &namespace, show).await;
}
