//! The writer of objects on a real API server: its defaults are no drift, and what people do to our objects is undone.

use std::sync::{Arc, Mutex};

use ehrnet_apply::{Applier, Change, Child, Live, Owner};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::support::server::TestCluster;

/// A cache of one object, which the test fills.
struct Seen<K>(Mutex<Option<Arc<K>>>);

impl<K: Child> Live<K> for Seen<K> {
    fn get(&self, _: &str, _: &str) -> Option<Arc<K>> {
        self.0.lock().expect("no panic").clone()
    }
    fn wrote(&self, object: Arc<K>) {
        *self.0.lock().expect("no panic") = Some(object);
    }
}

/// Applies `declared`, twice; then makes each of the `edits` (merge patches) and sees it undone.
async fn settles<K: Child>(client: &Client, namespace: &str, mut declared: Value, edits: &[Value]) {
    declared["metadata"] = json!({
        "name": "node", "namespace": namespace,
        "labels": {
            "app.kubernetes.io/managed-by": "ehrnet", "app.kubernetes.io/instance": "node",
            "app.kubernetes.io/component": "peer",
        },
    });
    let declared: K = serde_json::from_value(declared).expect("an object");
    let (applier, owner) = (Applier::new(client.clone()), Owner::shared(namespace, "node"));
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let live = Seen(Mutex::new(None));
    let kind = K::kind(&());
    let made = applier.apply(&owner, &live, &declared).await.expect("made");
    assert_eq!(made.change, Change::Created, "{kind}");
    let again = applier.apply(&owner, &live, &declared).await.expect("as declared");
    assert_eq!(again.change, Change::None, "what the server filled in is no drift of a {kind}");
    for edit in edits {
        let edited = api.patch("node", &PatchParams::default(), &Patch::Merge(edit)).await.expect("an edit");
        live.wrote(Arc::new(edited));
        let repaired = applier.apply(&owner, &live, &declared).await.expect("repaired");
        assert!(matches!(repaired.change, Change::Repaired(_)), "{kind}: {edit} was not seen");
        live.wrote(Arc::new(api.get("node").await.expect("it exists")));
        let settled = applier.apply(&owner, &live, &declared).await.expect("as declared");
        assert_eq!(settled.change, Change::None, "{kind}: {edit} was not undone");
    }
}

pub async fn undoes_what_people_do_to_small_objects(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = &cluster.namespace(&client, "apply").await;
    let labels = json!({"metadata": {"labels": {"app.kubernetes.io/component": null}}});
    let config_map = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "1"}});
    let edits =
        [json!({"data": {"a": "2"}}), json!({"data": {"b": "x"}}), json!({"binaryData": {"c": "AA=="}}), labels];
    settles::<ConfigMap>(&client, namespace, config_map, &edits).await;
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "automountServiceAccountToken": false});
    let edits = [json!({"automountServiceAccountToken": true}), json!({"automountServiceAccountToken": null})];
    settles::<ServiceAccount>(&client, namespace, account, &edits).await;
    let selector = json!({"app": "node"});
    let service = json!({"kind": "Service", "apiVersion": "v1", "spec": {
        "clusterIP": "None", "publishNotReadyAddresses": false, "selector": selector,
        "ports": [{"name": "grpc", "port": 7051, "targetPort": "grpc"}, {"name": "operations", "port": 9443}]}});
    let edits = [
        json!({"spec": {"selector": {"more": "x"}}}),
        json!({"spec": {"ports": [{"name": "grpc", "port": 7051, "targetPort": 22}]}}),
        json!({"spec": {"externalIPs": ["192.0.2.1"]}}),
    ];
    settles::<Service>(&client, namespace, service, &edits).await;
    let budget = json!({"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "spec": {
        "maxUnavailable": 1, "selector": {"matchLabels": selector}}});
    let edits =
        [json!({"spec": {"maxUnavailable": "100%"}}), json!({"spec": {"selector": {"matchLabels": {"more": "x"}}}})];
    settles::<PodDisruptionBudget>(&client, namespace, budget, &edits).await;
    let claim = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
    settles::<PersistentVolumeClaim>(&client, namespace, claim, &[]).await;
}

pub async fn undoes_every_hole_in_a_network_policy(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = &cluster.namespace(&client, "apply").await;
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 7051}]});
    let policy = json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "spec": {
        "podSelector": {"matchLabels": {"app": "node"}}, "policyTypes": ["Ingress", "Egress"], "ingress": [rule], "egress": []}});
    let edits = [
        json!({"spec": {"ingress": [rule, {}]}}),
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 7051}]}]}}),
        json!({"spec": {"ingress": [{"from": rule["from"], "ports": [{"port": 7051, "endPort": 9000}]}]}}),
        json!({"spec": {"egress": [{}]}}),
        json!({"spec": {"policyTypes": ["Ingress"]}}),
        json!({"spec": {"podSelector": {"matchLabels": {"never": "matches"}}}}),
    ];
    settles::<NetworkPolicy>(&client, namespace, policy, &edits).await;
}

pub async fn undoes_what_people_do_to_a_pod_template(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = &cluster.namespace(&client, "apply").await;
    let labels = json!({"app": "node"});
    let container = json!({
        "name": "peer", "image": "peer:1", "env": [{"name": "A", "value": ""}, {"name": "B", "value": "2"}],
        "ports": [{"name": "grpc", "containerPort": 7051}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 9443}, "initialDelaySeconds": 0, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tls", "mountPath": "/tls", "readOnly": true}],
    });
    let volumes = json!([
        {"name": "tmp", "emptyDir": {}},
        {"name": "tls", "projected": {"sources": [{"secret": {"name": "node-tls", "items": [{"key": "tls.crt", "path": "tls.crt"}]}}]}},
    ]);
    let set = json!({"kind": "StatefulSet", "apiVersion": "apps/v1", "spec": {
        "replicas": 1, "serviceName": "node", "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "automountServiceAccountToken": false, "hostNetwork": false, "containers": [container], "volumes": volumes}}}});
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let with = |field: &str, value: Value| {
        let mut edited = container.clone();
        edited[field] = value;
        template(json!({"containers": [edited]}))
    };
    let edits = [
        json!({"spec": {"replicas": 0}}),
        with("image", json!("peer:2")),
        with("env", json!([{"name": "A", "value": ""}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}])),
        with(
            "env",
            json!([{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ),
        with("command", json!(["sh"])),
        with("securityContext", json!({"allowPrivilegeEscalation": true})),
        with("resources", json!({})),
        template(json!({"containers": [container, {"name": "miner", "image": "miner:1"}]})),
        template(json!({"hostNetwork": true})),
        template(json!({"automountServiceAccountToken": true})),
        template(json!({"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}, volumes[1]]})),
        template(json!({"initContainers": [{"name": "first", "image": "miner:1"}]})),
    ];
    settles::<StatefulSet>(&client, namespace, set, &edits).await;
}
