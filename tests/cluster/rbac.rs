//! The chart gives the operator exactly the rights it uses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DynamicObject, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::operator::ACCOUNT;
use crate::support::scene::Scene;
use crate::support::server::TestCluster;
use crate::support::{rules, sample, snapshot};

/// API group, resource and verb.
type Right = (String, String, String);

/// A life with everything in it: made, edited, damaged, mended, renewed, deleted; with a second operator that waits.
pub async fn uses_exactly_the_rights_it_has(cluster: Arc<TestCluster>) {
    let scene = Scene::new(&cluster, "rights").await;
    let mut operator = scene.start.clone().with_lease("operator-0").run(Gate::open());
    operator.leading().await;
    let standby = scene.start.clone().with_lease("operator-1").run(Gate::open());
    scene.apply(&sample::two_hospitals()).await;
    scene.apply(&sample::all(CLERK)).await;
    scene.settle(&mut operator).await;
    add_what_nobody_declared(&scene).await;
    scene.settle(&mut operator).await;
    // One hour more than what is left: every certificate of the hospital is due.
    let renewal = json!({"spec": {"pki": {"leaf": {"validity": "9000h", "renewBefore": "8761h"}}}});
    scene.edit("Hospital", "mercy", renewal).await;
    scene.settle(&mut operator).await;
    a_contract_comes_and_goes(&scene).await;
    scene.delete("Peer", "mercy-peer").await;
    scene.delete("Channel", "care").await;
    scene.delete("Orderer", "orderer-1").await;
    // S9 (docs/invariants.md): one writer at a time.
    assert!(standby.gate().writes().is_empty(), "the one that waits wrote: {:#?}", standby.gate().writes());
    operator.stop(Duration::from_secs(10)).await;
    standby.stop(Duration::from_secs(10)).await;

    let used = used(&std::fs::read_to_string(cluster.audit_log()).expect("an audit log"), &scene.namespace);
    let given: BTreeSet<_> = rules::watched().iter().chain(&rules::lease()).flat_map(rights).collect();
    let refused: Vec<_> = used.difference(&given).collect();
    assert!(refused.is_empty(), "used, and not in the chart's Roles: {refused:#?}");
    let unused =
        given.difference(&used).filter(|right| !is_asked_by_admission(right) && !is_for_a_refused_renewal(right));
    let unused: Vec<_> = unused.collect();
    assert!(unused.is_empty(), "in the chart's Roles, and never used: {unused:#?}");
}

/// `OwnerReferencesPermissionEnforcement`, which the test's API server runs, asks for this right without a request of
/// its own, so the audit log cannot show it.
fn is_asked_by_admission((group, resource, verb): &Right) -> bool {
    group == ehrnet_api::GROUP && resource.ends_with("/finalizers") && verb == "update"
}

/// The lease is read only after somebody else has written it.
fn is_for_a_refused_renewal((_, resource, verb): &Right) -> bool {
    resource == "leases" && verb == "get"
}

/// Puts into one child of each kind what server-side apply cannot take away.
async fn add_what_nobody_declared(scene: &Scene) {
    let additions = [
        ("ConfigMap", "mercy-msp", "/data/extra", json!("x")),
        ("Secret", "mercy-connection", "/data/extra", json!("eA==")),
        ("Service", "mercy-peer", "/spec/ports/-", json!({"name": "extra", "port": 99, "targetPort": 99})),
        ("ServiceAccount", "mercy-peer", "/imagePullSecrets", json!([{"name": "extra"}])),
        ("StatefulSet", "mercy-peer", "/spec/template/spec/containers/0/env/-", json!({"name": "EXTRA", "value": "x"})),
        ("NetworkPolicy", "mercy-peer", "/spec/podSelector/matchLabels/extra", json!("x")),
        ("PodDisruptionBudget", "ehrnet-orderers", "/spec/selector/matchLabels/extra", json!("x")),
        ("PersistentVolumeClaim", "mercy-peer-ledger", "/metadata/labels/app.kubernetes.io~1part-of", json!("x")),
    ];
    for (kind, name, path, value) in additions {
        let of = *snapshot::CHILDREN.iter().find(|(_, _, other)| *other == kind).expect("a kind");
        let api = snapshot::api(&scene.client, &scene.namespace, of);
        let mut object =
            serde_json::to_value(api.get(name).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}")))
                .expect("JSON");
        let (parent, last) = path.rsplit_once('/').expect("a pointer");
        match object.pointer_mut(parent).unwrap_or(&mut Value::Null) {
            Value::Array(items) => items.push(value),
            Value::Object(fields) => drop(fields.insert(last.replace("~1", "/"), value)),
            _ => object[last] = value,
        }
        let object = serde_json::from_value(object).expect("an object");
        api.replace(name, &PostParams::default(), &object)
            .await
            .unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }
}

/// Its services are made and mended whatever becomes of it on the ledger.
async fn a_contract_comes_and_goes(scene: &Scene) {
    scene.apply(&sample::all(CONTRACT)).await;
    let of = ("apps", "v1", "Deployment");
    let deployments = snapshot::api(&scene.client, &scene.namespace, of);
    let limit = Duration::from_secs(60);
    let seen = |wanted: fn(Option<&DynamicObject>) -> bool| {
        tokio::time::timeout(limit, await_condition(deployments.clone(), "visit-mercy", wanted))
    };
    seen(|made| made.is_some()).await.expect("a Deployment in time").expect("a watch");
    let mut edited = deployments.get("visit-mercy").await.expect("a Deployment");
    edited.data["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["extra"]);
    deployments.replace("visit-mercy", &PostParams::default(), &edited).await.expect("an edit");
    seen(|mended| mended.is_some_and(|now| now.data["spec"]["template"]["spec"]["containers"][0]["args"].is_null()))
        .await
        .expect("mended in time")
        .expect("a watch");
    scene.delete("Chaincode", "visit").await;
}

const CLERK: &str =
    "{apiVersion: ehrnet.dev/v1alpha1, kind: Identity, metadata: {name: clerk}, spec: {hospitalRef: {name: mercy}}}";
const CONTRACT: &str =
    "{apiVersion: ehrnet.dev/v1alpha1, kind: Chaincode, metadata: {name: visit}, spec: {channelRef: {name: care}}}";

fn rights(rule: &PolicyRule) -> Vec<Right> {
    let mut all = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            all.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
        }
    }
    all
}

/// What the operator's account of that namespace asked for, as the API server saw it.
fn used(log: &str, namespace: &str) -> BTreeSet<Right> {
    let account = format!("system:serviceaccount:{namespace}:{ACCOUNT}");
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("an audit event"));
    let own = events.filter(|event| event["user"]["username"] == account.as_str());
    let mut rights = BTreeSet::new();
    for event in own {
        let of = &event["objectRef"];
        let text = |field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let resource = if of["subresource"].is_string() {
            format!("{}/{}", text("resource"), text("subresource"))
        } else {
            text("resource")
        };
        let verb = event["verb"].as_str().unwrap_or_default().to_owned();
        // A server-side apply that makes an object needs the right to create it as well.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            rights.insert((text("apiGroup"), resource.clone(), "create".to_owned()));
        }
        if !resource.is_empty() {
            rights.insert((text("apiGroup"), resource, verb));
        }
    }
    rights
}
