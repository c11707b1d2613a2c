//! Tests of the comparison, as tables: a live object, the declared one, and the difference that must be found.

use super::*;
use serde_json::json;

#[track_caller]
fn check(live: Value, declared: Value, missing: &[&str], extra: &[&str]) {
    let found = drift(&live, &declared);
    assert_eq!(found.missing, missing, "missing of {declared} in {live}");
    assert_eq!(found.extra, extra, "extra over {declared} in {live}");
}

#[track_caller]
fn settled(live: Value, declared: Value) {
    check(live, declared, &[], &[]);
}

fn set(container: Value) -> Value {
    json!({"kind": "StatefulSet", "spec": {"template": {"spec": {"containers": [container]}}}})
}

const CONTAINER: &str = "/spec/template/spec/containers/0";

#[test]
fn what_the_server_fills_in_is_no_drift() {
    settled(
        json!({
            "kind": "StatefulSet",
            "metadata": {"name": "peer0", "uid": "1", "labels": {"a": "b", "theirs": "x"}, "annotations": {"x": "y"}},
            "spec": {
                "replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "containers": [{"name": "peer", "image": "i", "terminationMessagePath": "/dev/termination-log",
                        "ports": [{"containerPort": 7051, "name": "grpc", "protocol": "TCP"}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 9443, "scheme": "HTTP"}, "timeoutSeconds": 1}}],
                    "volumes": [{"name": "tls", "secret": {"secretName": "peer0-tls", "defaultMode": 420}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "ledger"}, "status": {"phase": "Pending"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}}]},
            "status": {"replicas": 1}
        }),
        json!({
            "kind": "StatefulSet",
            "metadata": {"name": "peer0", "labels": {"a": "b"}},
            "spec": {
                "replicas": 1,
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [{"name": "peer", "image": "i",
                        "ports": [{"containerPort": 7051, "name": "grpc"}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 9443}}}],
                    "volumes": [{"name": "tls", "secret": {"secretName": "peer0-tls"}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "ledger"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}}]}
        }),
    );
}

#[test]
fn a_declared_field_that_is_absent_or_different_is_missing() {
    let declared = set(json!({"name": "peer", "image": "i", "securityContext": {"allowPrivilegeEscalation": false}}));
    let image = format!("{CONTAINER}/image");
    let escalation = format!("{CONTAINER}/securityContext/allowPrivilegeEscalation");
    check(
        set(json!({"name": "peer", "image": "other", "securityContext": {}})),
        declared.clone(),
        &[&image, &escalation],
        &[],
    );
    check(set(json!({"name": "stranger"})), declared, &[CONTAINER], &[CONTAINER]);
    check(json!({"metadata": {}}), json!({"metadata": {"labels": {"a/b": "c"}}}), &["/metadata/labels"], &[]);
    check(
        json!({"metadata": {"labels": {"a/b": "d"}}}),
        json!({"metadata": {"labels": {"a/b": "c"}}}),
        &["/metadata/labels/a~1b"],
        &[],
    );
}

#[test]
fn lists_with_keys_are_compared_by_key_and_not_by_place() {
    let declared = set(json!({"name": "peer", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}));
    settled(
        set(json!({"name": "peer", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]})),
        declared.clone(),
    );
    let second = format!("{CONTAINER}/env/2");
    check(
        set(
            json!({"name": "peer", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}, {"name": "EVIL", "value": "x"}]}),
        ),
        declared,
        &[],
        &[&second],
    );
}

#[test]
fn ports_of_one_number_and_two_protocols_are_two() {
    let service = |ports: Value| json!({"kind": "Service", "spec": {"ports": ports}});
    settled(
        service(json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "targetPort": 53}])),
        service(json!([{"port": 53}, {"port": 53, "protocol": "UDP"}])),
    );
    check(
        service(json!([{"port": 53, "protocol": "TCP"}])),
        service(json!([{"port": 53, "protocol": "UDP"}])),
        &["/spec/ports/0"],
        &["/spec/ports/0"],
    );
}

#[test]
fn lists_without_keys_are_compared_as_a_whole() {
    let declared = set(json!({"name": "peer", "command": ["peer", "node", "start"]}));
    settled(set(json!({"name": "peer", "command": ["peer", "node", "start"]})), declared.clone());
    let command = format!("{CONTAINER}/command");
    check(set(json!({"name": "peer", "command": ["peer"]})), declared.clone(), &[&command], &[]);
    let third = format!("{CONTAINER}/command/2");
    check(set(json!({"name": "peer", "command": ["peer", "node", "stop"]})), declared, &[&third], &[]);
}

#[test]
fn a_pod_made_weaker_by_a_field_nobody_declared_is_drift() {
    for (field, value) in [
        ("command", json!(["sh"])),
        ("env", json!([{"name": "X", "value": "y"}])),
        ("envFrom", json!([{"secretRef": {"name": "s"}}])),
        ("volumeMounts", json!([{"mountPath": "/host", "name": "h"}])),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["sh"]}}})),
    ] {
        let path = format!("{CONTAINER}/{field}");
        check(set(json!({"name": "peer", field: value})), set(json!({"name": "peer"})), &[], &[&path]);
    }
    check(
        json!({"kind": "StatefulSet", "spec": {"template": {"spec": {"hostNetwork": true, "hostPID": false}}}}),
        json!({"kind": "StatefulSet", "spec": {"template": {"spec": {}}}}),
        &[],
        &["/spec/template/spec/hostNetwork"],
    );
}

#[test]
fn every_key_of_data_counts() {
    let declared = json!({"kind": "ConfigMap", "data": {"a": "1"}});
    settled(json!({"kind": "ConfigMap", "data": {"a": "1"}}), declared.clone());
    check(
        json!({"kind": "ConfigMap", "data": {"a": "2", "b": "3"}, "binaryData": {"c": "AA=="}}),
        declared.clone(),
        &["/data/a"],
        &["/data/b", "/binaryData/c"],
    );
    check(json!({"kind": "ConfigMap"}), declared, &["/data"], &[]);
    settled(json!({"kind": "Secret"}), json!({"kind": "Secret", "data": {}}));
}

#[test]
fn a_network_policy_is_exact() {
    let declared = json!({"kind": "NetworkPolicy", "spec": {
        "podSelector": {"matchLabels": {"app": "peer0"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 7051}]}], "egress": []}});
    let live = |ingress: Value, egress: Value, labels: Value| {
        json!({"kind": "NetworkPolicy", "spec": {
            "podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress}})
    };
    let rule = json!({"from": [{"podSelector": {}}], "ports": [{"port": 7051, "protocol": "TCP"}]});
    let label = json!({"app": "peer0"});
    settled(live(json!([rule]), Value::Null, label.clone()), declared.clone());
    check(live(json!([rule, {}]), json!([]), label.clone()), declared.clone(), &["/spec/ingress"], &[]);
    check(live(json!([rule]), json!([{}]), label.clone()), declared.clone(), &["/spec/egress"], &[]);
    check(
        live(json!([rule]), json!([]), json!({"app": "peer0", "never": "matches"})),
        declared.clone(),
        &[],
        &["/spec/podSelector/matchLabels/never"],
    );
    let wider = json!({"from": [{"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 7051}]});
    check(live(json!([wider]), json!([]), label), declared, &[], &["/spec/ingress/0/from/0/namespaceSelector"]);
}

#[test]
fn a_selector_is_exact() {
    check(
        json!({"kind": "Service", "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "peer0", "more": "x"}}}),
        json!({"kind": "Service", "spec": {"selector": {"app": "peer0"}}}),
        &[],
        &["/spec/selector/more"],
    );
}

#[test]
fn quantities_are_compared_by_value() {
    let resources = |cpu: &str, memory: &str| {
        set(json!({"name": "peer", "resources": {"requests": {"cpu": cpu, "memory": memory}}}))
    };
    settled(resources("1", "1Gi"), resources("1000m", "1024Mi"));
    let memory = format!("{CONTAINER}/resources/requests/memory");
    check(resources("1", "1G"), resources("1", "1Gi"), &[&memory], &[]);
    // Elsewhere text is text.
    check(json!({"data": {"a": "1"}}), json!({"data": {"a": "1000m"}}), &["/data/a"], &[]);
}

#[test]
fn a_zero_that_is_not_stored_is_no_drift_and_one_that_is_stored_is() {
    settled(
        json!({"kind": "Service", "spec": {}}),
        json!({"kind": "Service", "spec": {"publishNotReadyAddresses": false, "externalIPs": []}}),
    );
    settled(
        set(json!({"name": "peer", "env": [{"name": "A"}]})),
        set(json!({"name": "peer", "env": [{"name": "A", "value": ""}]})),
    );
    check(
        json!({"kind": "ConfigMap", "data": {"a": "1"}}),
        json!({"kind": "ConfigMap", "data": {"a": "1", "value": ""}}),
        &["/data/value"],
        &[],
    );
    check(
        json!({"kind": "ServiceAccount"}),
        json!({"kind": "ServiceAccount", "automountServiceAccountToken": false}),
        &["/automountServiceAccountToken"],
        &[],
    );
    // A volume of another sort is missing its own.
    let volumes = |volume: Value| json!({"kind": "StatefulSet", "spec": {"template": {"spec": {"volumes": [volume]}}}});
    check(
        volumes(json!({"name": "tmp", "hostPath": {"path": "/"}})),
        volumes(json!({"name": "tmp", "emptyDir": {}})),
        &["/spec/template/spec/volumes/0/emptyDir"],
        &[],
    );
}

#[test]
fn an_owner_that_is_gone_or_added_is_drift() {
    let owner = |uid: &str| json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer", "name": "peer0", "uid": uid});
    let declared = json!({"metadata": {"ownerReferences": [owner("1")]}});
    check(json!({"metadata": {}}), declared.clone(), &["/metadata/ownerReferences"], &[]);
    check(
        json!({"metadata": {"ownerReferences": [owner("1"), owner("2")]}}),
        declared,
        &[],
        &["/metadata/ownerReferences/1"],
    );
    check(
        json!({"metadata": {"ownerReferences": [owner("1")]}}),
        json!({"metadata": {}}),
        &[],
        &["/metadata/ownerReferences/0"],
    );
}
