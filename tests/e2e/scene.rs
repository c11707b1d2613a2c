//! What a scenario works with: its namespace, and waiting that says what it waited for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use ehrnet_api::Kind;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use crate::cluster::{Cluster, SYSTEM};
use crate::declared::{self, kind_of, name_of};
use crate::resources::{self, Resources};

/// Nothing may take longer. A loaded machine is slow, and only what hangs should fail.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The rest of a scenario runs under its leave to run.
enum Leave {
    Shared(#[allow(dead_code)] OwnedRwLockReadGuard<()>),
    Alone(#[allow(dead_code)] OwnedRwLockWriteGuard<()>),
}

/// Asks again every 200 ms until the answer is yes: for ledgers, which cannot be watched.
pub async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| panic!("{LIMIT:?} passed before {what}"));
}

/// A namespace with nothing in it.
#[derive(Clone)]
pub struct Scene {
    pub cluster: Arc<Cluster>,
    pub client: Client,
    pub namespace: String,
    _leave: Arc<Leave>,
}

impl Scene {
    pub async fn open(cluster: Arc<Cluster>, namespace: &str, alone: bool) -> Self {
        let gate = cluster.gate.clone();
        let leave = if alone { Leave::Alone(gate.write_owned().await) } else { Leave::Shared(gate.read_owned().await) };
        let client = cluster.client().await;
        Self { client, namespace: namespace.to_owned(), cluster, _leave: Arc::new(leave) }
    }

    /// Ends the networks of a scenario that is done, so that others have the machine. What has not ended when the
    /// cluster goes down ends then.
    pub async fn close(self) {
        // An orderer is not let go while its channel needs it.
        for kind in ["Channel", "Peer", "Orderer"] {
            let ended = self.of_kind(kind).delete_collection(&DeleteParams::default(), &ListParams::default()).await;
            if let Err(error) = ended {
                println!("{}: cannot delete every {kind}: {error}", self.namespace);
            }
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn of_kind(&self, kind: &str) -> Api<DynamicObject> {
        resources::api(&self.client, &self.namespace, kind)
    }

    /// Applies everything at the same time.
    pub async fn apply(&self, objects: &[Value]) {
        join_all(objects.iter().map(|object| declared::apply(&self.client, &self.namespace, object))).await;
    }

    /// Changes fields of a resource as `kubectl patch --type merge` does.
    pub async fn change(&self, kind: &str, name: &str, fields: Value) -> DynamicObject {
        let patched = self.of_kind(kind).patch(name, &PatchParams::default(), &Patch::Merge(fields)).await;
        patched.unwrap_or_else(|error| panic!("changing {kind} {name}: {error}"))
    }

    pub async fn get(&self, kind: &str, name: &str) -> DynamicObject {
        self.of_kind(kind).get(name).await.unwrap_or_else(|error| panic!("reading {kind} {name}: {error}"))
    }

    /// Waits until all of these are ready as they are declared now.
    pub async fn ready(&self, objects: &[Value]) {
        join_all(objects.iter().map(|object| self.one_ready(kind_of(object), name_of(object)))).await;
    }

    /// Shows all declared resources to `enough` after each change, until it says yes.
    pub async fn follow(&self, enough: impl FnMut(&Resources) -> bool) {
        let seen = resources::follow(&self.client, &self.namespace, enough);
        if tokio::time::timeout(LIMIT, seen).await.is_err() {
            panic!("not seen within {LIMIT:?}\n{}", self.situation().await);
        }
    }

    pub async fn one_ready(&self, kind: &str, name: &str) -> DynamicObject {
        self.until(&self.of_kind(kind), name, "Ready", |o: Option<&DynamicObject>| o.is_some_and(is_ready)).await
    }

    /// Waits for a condition of an object that exists, and returns that object.
    pub async fn until<K>(&self, api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> K
    where
        K: Clone + std::fmt::Debug + Send + DeserializeOwned + kube::Resource + 'static,
    {
        match tokio::time::timeout(LIMIT, await_condition(api.clone(), name, condition)).await {
            Ok(Ok(Some(object))) => object,
            Ok(Ok(None)) => panic!("{name} is gone"),
            Ok(Err(error)) => panic!("watching {name}: {error}"),
            Err(_) => panic!("{name} is not {what} after {LIMIT:?}\n{}", self.situation().await),
        }
    }

    /// Waits until an object is gone.
    pub async fn until_gone<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + std::fmt::Debug + Send + DeserializeOwned + kube::Resource + 'static,
    {
        let gone = await_condition(api.clone(), name, |found: Option<&K>| found.is_none());
        match tokio::time::timeout(LIMIT, gone).await {
            Ok(seen) => drop(seen.expect("the watch")),
            Err(_) => panic!("{name} is still there after {LIMIT:?}\n{}", self.situation().await),
        }
    }

    /// Name, UID and restarts of each pod of the namespace.
    pub async fn pods(&self) -> BTreeMap<String, (String, i32)> {
        let pods = self.api::<Pod>().list(&ListParams::default()).await.expect("pods");
        pods.into_iter().map(|pod| (pod.name_any(), (pod.uid().expect("a UID"), restarts(&pod)))).collect()
    }

    /// Ends a pod without giving it time to end by itself; its UID.
    pub async fn kill(&self, pod: &str) -> Option<String> {
        let pods = self.api::<Pod>();
        let uid = pods.get(pod).await.expect("the pod").uid();
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete(pod, &at_once).await.expect("deleted");
        uid
    }

    /// From now on a pod that goes does not come back.
    pub async fn no_new_pods(&self) {
        let quotas = self.api::<ResourceQuota>();
        let none = serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}));
        quotas.create(&PostParams::default(), &none.expect("a quota")).await.expect("created");
        let in_force =
            |quota: Option<&ResourceQuota>| quota.and_then(|quota| quota.status.as_ref()?.hard.as_ref()).is_some();
        self.until(&quotas, "none", "in force", in_force).await;
    }

    /// The end of [`Scene::no_new_pods`].
    pub async fn new_pods_again(&self) {
        self.api::<ResourceQuota>().delete("none", &DeleteParams::default()).await.expect("deleted");
    }

    /// What is known of the namespace, for a failure.
    pub async fn situation(&self) -> String {
        let mut text = String::new();
        for kind in Kind::ALL.iter().map(|kind| kind.as_str()) {
            for object in self.of_kind(kind).list(&ListParams::default()).await.expect("a list") {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{kind} {}: {}", object.name_any(), open_conditions(&object));
            }
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await.expect("pods") {
            let status = serde_json::to_value(&pod.status).expect("JSON");
            let _ = writeln!(text, "Pod {}: {}", pod.name_any(), status["containerStatuses"][0]["state"]);
        }
        text + &self.operator_log().await
    }

    /// What the operator said of this namespace last.
    async fn operator_log(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let mut text = String::new();
        for pod in pods.list(&ListParams::default().labels("app.kubernetes.io/name=ehrnet")).await.expect("pods") {
            let log = pods.logs(&pod.name_any(), &LogParams::default()).await.unwrap_or_else(|error| error.to_string());
            let ours: Vec<_> = log.lines().filter(|line| line.contains(&self.namespace)).collect();
            let _ = writeln!(text, "log of {}:\n{}", pod.name_any(), ours[ours.len().saturating_sub(30)..].join("\n"));
        }
        text
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

/// A condition of a resource as its operator wrote it.
pub fn condition<'a>(object: &'a DynamicObject, type_: &str) -> Option<&'a Value> {
    object.data.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Ready, by a condition about the present spec.
pub fn is_ready(object: &DynamicObject) -> bool {
    condition(object, "Ready").is_some_and(|ready| {
        ready["status"] == "True" && ready["observedGeneration"].as_i64() == object.metadata.generation
    })
}

fn open_conditions(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let open = conditions.iter().filter(|condition| condition["status"] != "True");
    let open: Vec<_> = open.map(|c| format!("{} {}: {}", c["type"], c["reason"], c["message"])).collect();
    if conditions.is_empty() { "no conditions".into() } else { open.join("; ") }
}

/// The part of an object's status under `pointer`.
pub fn status<'a>(object: &'a DynamicObject, pointer: &str) -> &'a Value {
    object.data.pointer(&format!("/status{pointer}")).unwrap_or(&Value::Null)
}
