//! Tests of the simulated node itself (`support/kubelet`), because all others rely on it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::kubelet::{FakeKubelet, is_ready};
use crate::support::server::TestCluster;

const LIMIT: Duration = Duration::from_secs(20);

/// A pod sees its volumes, its environment and its user as the spec says, and keeps its claim over restarts.
pub async fn runs_a_pod_as_its_spec_says(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "node").await;
    let kubelet = FakeKubelet::start(&cluster, &namespace).await;
    prepare(&client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let script = "id -u; id -g; id -G; cat /etc/keys/tls.key; cat /config/a.yaml; stat -L -c %a /etc/keys/tls.key; \
        touch /cannot 2>/dev/null && echo WRITABLE ROOT; echo started >> /data/starts; cat /data/starts; touch /scratch/x; \
        echo $GREETING; echo $ADDRESS 0.0.0.0:7050; grep -c seven /etc/hosts; exec sleep 1000";
    let set = stateful_set("seven", script);
    sets.create(&PostParams::default(), &set).await.expect("create");
    let pod = wait(&pods, "seven-0", |pod: Option<&Pod>| pod.is_some_and(is_ready)).await.expect("a pod");
    let address = pod.status.and_then(|s| s.pod_ip).expect("an address");
    let greeting = format!("hello from seven-0\n{address} {address}:7050");
    let mut expected = vec!["secret key\na: 1", "640\nstarted\n", greeting.as_str(), "\n1"];
    if rustix::process::geteuid().is_root() {
        expected.push("7051\n7051\n7051 7052");
    }
    let log = wait_for_log(&kubelet, "seven", "hello from seven-0").await;
    expected.iter().for_each(|part| assert!(log.contains(part), "{part:?} is not in {log}"));
    assert!(!log.contains("WRITABLE ROOT"), "{log}");

    let first = kubelet.pid("seven");
    sets.patch(
        "seven",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {"new": "yes"}}}}})),
    )
    .await
    .expect("patch");
    wait(&pods, "seven-0", move |new: Option<&Pod>| {
        new.is_some_and(|new| is_ready(new) && new.metadata.uid != pod.metadata.uid)
    })
    .await;
    let log = wait_for_log(&kubelet, "seven", "hello from seven-0").await;
    assert!(log.contains("started\nstarted\n"), "the claim is not the one of before: {log}");
    assert_ne!(kubelet.pid("seven"), first);
    wait(&sets, "seven", |set: Option<&StatefulSet>| {
        let status = set.and_then(|set| set.status.clone()).unwrap_or_default();
        status.ready_replicas == Some(1) && status.current_revision == status.update_revision
    })
    .await;
}

/// A pod that breaks `restricted` is refused, and the refusal is kept for the test to see.
pub async fn refuses_a_pod_that_is_not_restricted(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "node").await;
    let kubelet = FakeKubelet::start(&cluster, &namespace).await;
    prepare(&client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let mut set = stateful_set("loose", "exec sleep 1000");
    set.spec.as_mut().expect("a spec").template.spec.as_mut().expect("a spec").security_context = None;
    sets.create(&PostParams::default(), &set).await.expect("create");
    wait(&sets, "loose", |set: Option<&StatefulSet>| {
        set.is_some_and(|set| set.status.as_ref().is_some_and(|s| s.observed_generation.is_some()))
    })
    .await;
    let refusals = kubelet.refusals();
    assert!(
        refusals.iter().any(|r| r.contains("violates PodSecurity \"restricted") && r.contains("runAsNonRoot")),
        "{refusals:?}"
    );
}

/// What a held or crashed node looks like, and that owned objects go with their owner while claims stay.
pub async fn reports_crashes_and_collects_garbage(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "node").await;
    let kubelet = FakeKubelet::start(&cluster, &namespace).await;
    prepare(&client, &namespace).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    sets.create(&PostParams::default(), &stateful_set("one", "exec sleep 1000")).await.expect("create");
    let made = wait(&pods, "one-0", |pod: Option<&Pod>| pod.is_some_and(is_ready)).await.expect("a pod");
    kubelet.kill("one");
    wait(&pods, "one-0", |pod: Option<&Pod>| pod.is_some_and(|pod| is_ready(pod) && restarts(pod) == 1)).await;
    kubelet.hold("one");
    wait(&pods, "one-0", |pod: Option<&Pod>| pod.is_some_and(|pod| !is_ready(pod) && restarts(pod) == 2)).await;
    kubelet.release("one");
    let same = wait(&pods, "one-0", |pod: Option<&Pod>| pod.is_some_and(is_ready)).await.expect("a pod");
    assert_eq!(same.metadata.uid, made.metadata.uid, "a crash does not replace the pod");
    sets.delete("one", &DeleteParams::default()).await.expect("delete");
    wait(&pods, "one-0", |pod: Option<&Pod>| pod.is_none()).await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    claims.get("data-one-0").await.expect("the claim outlives the set");
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|s| s.restart_count).sum()
}

async fn wait<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + serde::Serialize + 'static + kube::Resource,
{
    match tokio::time::timeout(LIMIT, await_condition(api.clone(), name, condition)).await {
        Ok(seen) => seen.expect("the watch"),
        Err(_) => panic!(
            "{name} is {}",
            serde_json::to_value(api.get_opt(name).await.expect("read")).expect("JSON")["status"]
        ),
    }
}

async fn wait_for_log(kubelet: &FakeKubelet, node: &str, text: &str) -> String {
    let begin = std::time::Instant::now();
    loop {
        let log = kubelet.log(node);
        if log.contains(text) || begin.elapsed() > LIMIT {
            return log;
        }
        // A file has no watch here; the process writes it within milliseconds.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn prepare(client: &Client, namespace: &str) {
    let account: ServiceAccount = object(json!({"metadata": {"name": "seven"}}));
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &account).await.expect("create");
    let secret: Secret =
        object(json!({"metadata": {"name": "keys"}, "stringData": {"tls.key": "secret key\n", "other": ""}}));
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &secret).await.expect("create");
    let map: ConfigMap = object(json!({"metadata": {"name": "config"}, "data": {"a.yaml": "a: 1\n"}}));
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &map).await.expect("create");
}

fn stateful_set(name: &str, script: &str) -> StatefulSet {
    object(json!({
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "serviceAccountName": "seven",
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 7051, "runAsGroup": 7051, "fsGroup": 7052,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "main",
                        "image": "test",
                        "command": ["sh", "-c", script],
                        "env": [
                            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "GREETING", "value": "hello from $(NAME)"},
                            {"name": "ADDRESS", "value": "0.0.0.0"},
                        ],
                        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [
                            {"name": "keys", "mountPath": "/etc/keys", "readOnly": true},
                            {"name": "config", "mountPath": "/config"},
                            {"name": "scratch", "mountPath": "/scratch"},
                            {"name": "data", "mountPath": "/data"},
                        ],
                    }],
                    "volumes": [
                        {"name": "keys", "projected": {"defaultMode": 0o440, "sources": [{"secret": {"name": "keys", "items": [{"key": "tls.key", "path": "tls.key", "mode": 0o600}]}}]}},
                        {"name": "config", "configMap": {"name": "config"}},
                        {"name": "scratch", "emptyDir": {}},
                    ],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    }))
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}
