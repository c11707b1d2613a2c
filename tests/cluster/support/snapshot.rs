//! Everything in a namespace, without what may differ between two runs that ended in the same state.

use std::collections::BTreeMap;
use std::time::Instant;

use ehrnet_api::Kind;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::objects;
use super::operator::ACCOUNT;
use super::scene::{LIMIT, Scene};

/// Kinds that the operator makes.
pub const CHILDREN: &[(&str, &str, &str)] = &[
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "PersistentVolumeClaim"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "Deployment"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
];

/// Access to a kind in a namespace.
pub fn api(client: &Client, namespace: &str, (group, version, kind): (&str, &str, &str)) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The children in a namespace, by kind and name.
pub async fn children(client: &Client, namespace: &str) -> BTreeMap<(String, String), DynamicObject> {
    let mut all = BTreeMap::new();
    for kind in CHILDREN {
        let list = api(client, namespace, *kind).list(&ListParams::default()).await.expect("list");
        // The operator's own account is the test's.
        let made =
            list.items.into_iter().filter(|object| !(kind.2 == "ServiceAccount" && object.name_any() == ACCOUNT));
        all.extend(made.map(|object| ((kind.2.to_owned(), object.name_any()), object)));
    }
    all
}

/// The children and the declared resources, comparable between runs.
pub async fn normalised(client: &Client, namespace: &str) -> BTreeMap<String, Value> {
    let mut state = BTreeMap::new();
    for ((kind, name), object) in children(client, namespace).await {
        state.insert(format!("{kind} {name}"), normal(&object, namespace));
    }
    for kind in Kind::ALL.iter().map(|kind| kind.as_str()) {
        let list = objects::api(client, namespace, kind).list(&ListParams::default()).await.expect("list");
        state.extend(
            list.items.iter().map(|object| (format!("{kind} {}", object.name_any()), normal(object, namespace))),
        );
    }
    state
}

fn normal(object: &DynamicObject, namespace: &str) -> Value {
    let owners: Vec<_> = object.owner_references().iter().map(|o| format!("{} {}", o.kind, o.name)).collect();
    let mut state = json!({
        "labels": object.labels(),
        "annotations": object.annotations(),
        "owners": owners,
        "finalizers": object.finalizers(),
        "content": object.data,
    });
    for data in ["data", "binaryData"] {
        // Keys and certificates are other ones in each run; which there are must not differ.
        if let Some(Value::Object(entries)) = state["content"].get_mut(data) {
            entries.values_mut().for_each(|value| *value = json!("<content>"));
        }
    }
    if let Some(content) = state["content"].as_object_mut() {
        content.remove("apiVersion");
        // What the server or the stand-in controllers fill in.
        if matches!(content.get("status"), Some(status) if status.get("conditions").is_none() || status.get("replicas").is_some())
        {
            content.remove("status");
        }
    }
    mask(&mut state, namespace);
    state
}

/// Keys whose values are chosen anew in each run.
const CHOSEN: &[&str] = &[
    "clusterIP",
    "clusterIPs",
    "ehrnet.dev/certificates-end",
    "serial",
    "uid",
    "lastTransitionTime",
    "height",
    "notAfter",
    "renewalTime",
    "volumeName",
];

fn mask(value: &mut Value, namespace: &str) {
    match value {
        Value::Object(fields) => {
            mask_chosen(fields);
            fields.values_mut().for_each(|field| mask(field, namespace));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, namespace)),
        Value::String(text) => *text = masked(text).replace(namespace, "<namespace>"),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn mask_chosen(fields: &mut Map<String, Value>) {
    for name in CHOSEN {
        if let Some(value) = fields.get_mut(*name) {
            *value = json!("<chosen>");
        }
    }
    // A condition's text may count attempts or name times; its type, status and reason are the contract.
    if fields.contains_key("type") && fields.contains_key("reason") {
        fields.remove("message");
    }
    fields.remove("observedGeneration");
}

/// Digests, wherever they stand.
fn masked(text: &str) -> String {
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.split_inclusive(|c| !hexadecimal(c))
        .map(|part| {
            let digits = part.trim_end_matches(|c| !hexadecimal(c));
            if digits.len() >= 32 { format!("<digest>{}", &part[digits.len()..]) } else { part.to_owned() }
        })
        .collect()
}

/// What differs, for people; empty if nothing does.
pub fn difference(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
        match (expected.get(name), found.get(name)) {
            (Some(left), Some(right)) => compare(name, left, right, &mut lines),
            (Some(_), None) => lines.push(format!("{name} is missing")),
            (None, _) => lines.push(format!("{name} is not expected")),
        }
    }
    lines
}

/// How the scene's state differs from the expected one, if it goes on to differ: a node may be away for a moment because
/// its pod is replaced, or because a probe came too late on a busy machine.
pub async fn lasting_difference(scene: &Scene, expected: &BTreeMap<String, Value>) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let difference = difference(expected, &normalised(&scene.client, &scene.namespace).await);
        if difference.is_empty() || begin.elapsed() > LIMIT {
            return difference;
        }
        scene.changed().await;
    }
}

fn compare(at: &str, left: &Value, right: &Value, lines: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for name in l.keys().chain(r.keys().filter(|name| !l.contains_key(*name))) {
                compare(&format!("{at}.{name}"), &left[name], &right[name], lines);
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            l.iter().zip(r).enumerate().for_each(|(index, (l, r))| compare(&format!("{at}[{index}]"), l, r, lines));
        }
        _ if left == right => {}
        _ => lines.push(format!("{at}: expected {left}, found {right}")),
    }
}
