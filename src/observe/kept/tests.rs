//! Every kind that is kept packed, filled as the operator fills it, comes out as it went in.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use ehrnet_api::{Chaincode, Channel, Hospital, Peer};
use ehrnet_desired::{
    ContractPlan, ContractRelease, DefaultImage, HospitalPlan, Material, NodeImages, Objects, PeerPlan, Site,
    chaincode, config_map, disruption_budget, peer, secret,
};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::PartialObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Kept, Packed};

fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// As the API server returns what was made with these fields: with what it adds itself.
fn returned<K: Serialize + DeserializeOwned>(object: &K, status: Value) -> K {
    let mut value = serde_json::to_value(object).expect("JSON");
    let metadata = value["metadata"].as_object_mut().expect("metadata");
    metadata.extend([
        ("uid".to_owned(), json!("6f1c")),
        ("resourceVersion".to_owned(), json!("4711")),
        ("generation".to_owned(), json!(2)),
        ("creationTimestamp".to_owned(), json!("2026-11-28T00:00:00Z")),
        ("finalizers".to_owned(), json!(["kubernetes.io/pvc-protection"])),
    ]);
    if !status.is_null() {
        value["status"] = status;
    }
    from(value)
}

/// As it was made, and as the API server returns it.
fn comes_out_as_it_went_in<K>(objects: &[K], status: &Value)
where
    K: Clone + Debug + PartialEq + Serialize + DeserializeOwned + 'static,
{
    assert!(!objects.is_empty(), "none of {}", std::any::type_name::<K>());
    for object in objects {
        for object in [object.clone(), returned(object, status.clone())] {
            assert_eq!(*Packed::keep(Arc::new(object.clone())).open(), object);
        }
    }
}

fn resource(kind: &str, spec: &Value) -> Value {
    let metadata = json!({"name": "oak", "namespace": "ward", "uid": "1", "labels": {"a/b": "c"}});
    json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn site() -> Site {
    let image = || DefaultImage { reference: "registry.example/image:1".into(), command: vec!["/run".into()] };
    let images = NodeImages { orderer: image(), peer: image(), couchdb: image(), contract: image() };
    Site { images, cluster_domain: "cluster.example".into(), operator_namespace: Some("platform".into()) }
}

fn hospital() -> Hospital {
    from(resource("Hospital", &json!({"mspId": "OakMSP", "displayName": "Oak Trust"})))
}

/// What is made for a peer that asks for all there is.
fn of_peer() -> (PeerPlan, Objects) {
    let peer: Peer = from(resource(
        "Peer",
        &json!({
            "hospitalRef": {"name": "oak"},
            "stateDatabase": "CouchDB",
            "couchdb": {"storage": {"size": "7Gi"}, "image": {"pullSecrets": ["registry"]}},
            "image": {"reference": "mirror.example/peer:1", "pullPolicy": "Never", "pullSecrets": ["registry"]},
            "storage": {"size": "33Gi", "storageClassName": "fast"},
            "resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "4Gi"}},
            "externalEndpoint": "ledger.oak.example:31051",
            "scheduling": {
                "nodeSelector": {"disk": "nvme"},
                "tolerations": [{"key": "ledger", "operator": "Exists", "tolerationSeconds": 30}],
                "priorityClassName": "clinical",
                "affinity": {"nodeAffinity": {}},
            },
        }),
    ));
    let plan = PeerPlan::new(&peer, &hospital(), &site(), BTreeSet::from([31050, 31051])).expect("a plan");
    let objects = peer::resources(&plan, &Material::of(["a certificate"]));
    (plan, objects)
}

#[test]
fn what_a_peer_consists_of() {
    let (plan, objects) = of_peer();
    comes_out_as_it_went_in(&objects.service_accounts, &Value::Null);
    comes_out_as_it_went_in(&objects.services, &json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
    comes_out_as_it_went_in(&objects.network_policies, &Value::Null);
    let bound = json!({"phase": "Bound", "capacity": {"storage": "33Gi"}, "accessModes": ["ReadWriteOnce"]});
    comes_out_as_it_went_in(&objects.volume_claims, &bound);
    let ready = json!({"replicas": 1, "readyReplicas": 0, "observedGeneration": 2, "currentRevision": "oak-1"});
    comes_out_as_it_went_in(&objects.stateful_sets, &ready);
    comes_out_as_it_went_in(&[secret::couchdb(&plan.node, "correct horse")], &Value::Null);
}

/// A pod has what its StatefulSet's template says, and what the kubelet found.
#[test]
fn a_pod() {
    let [set]: &[StatefulSet] = &of_peer().1.stateful_sets[..1] else { panic!("a peer is one StatefulSet") };
    let template = &set.spec.as_ref().expect("a spec").template;
    let mut metadata = template.metadata.clone().expect("metadata");
    metadata.name = Some("oak-0".into());
    let pod = Pod { metadata, spec: template.spec.clone(), status: None };
    let running = json!({"state": {"running": {"startedAt": "2026-11-28T00:00:01Z"}}, "name": "peer", "ready": true,
        "restartCount": 3, "image": "peer", "imageID": "sha256:00", "lastState": {"terminated": {"exitCode": 137}}});
    let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-28T00:00:02Z"});
    comes_out_as_it_went_in(
        &[pod],
        &json!({"phase": "Running", "podIP": "192.0.2.7", "conditions": [condition], "containerStatuses": [running]}),
    );
}

#[test]
fn what_a_contract_consists_of() {
    let chaincode: Chaincode = from(resource("Chaincode", &json!({"channelRef": {"name": "trial"}})));
    let members = ["OakMSP", "ElmMSP"].map(str::to_owned).into();
    let plan = ContractPlan::new(&chaincode, &hospital(), &site(), &members).expect("a plan");
    let release = ContractRelease { package_id: "ehr:0123".into(), material: Material::of(["a certificate"]) };
    let objects = chaincode::resources(&[(plan, release)]);
    let ready = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    comes_out_as_it_went_in(&objects.deployments, &ready);
}

#[test]
fn config_maps_and_disruption_budgets() {
    let channel: Channel = from(resource(
        "Channel",
        &json!({"channelName": "trial", "consensus": {"type": "Raft", "orderers": ["oak"]}, "members": ["oak"]}),
    ));
    let plan = HospitalPlan::new(&hospital()).expect("a plan");
    let policy = config_map::consent_policy(&plan.parent, r#"{"rule":"permit"}"#, "0123");
    comes_out_as_it_went_in(&[config_map::genesis(&channel, &[0, 255, 10]), policy], &Value::Null);
    let status = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1});
    comes_out_as_it_went_in(&[disruption_budget::peers(&plan), disruption_budget::orderers("ward")], &status);
}

/// Of a Secret that users made only the metadata are kept.
#[test]
fn secrets() {
    let key = secret::pseudonym("ward", "5eed");
    comes_out_as_it_went_in(std::slice::from_ref(&key), &Value::Null);
    let bytes: Secret = from(json!({"metadata": {"name": "oak"}, "data": {"key": "AP8K"}, "immutable": false}));
    comes_out_as_it_went_in(&[bytes], &Value::Null);
    let kept = |object: &PartialObjectMeta<Secret>| Packed::keep(Arc::new(object.clone())).open();
    let metadata: PartialObjectMeta<Secret> = PartialObjectMeta {
        types: Some(kube::core::TypeMeta::resource::<Secret>()),
        metadata: returned(&key, Value::Null).metadata,
        ..PartialObjectMeta::default()
    };
    let opened = kept(&metadata);
    assert_eq!((&opened.types, &opened.metadata), (&metadata.types, &metadata.metadata));
}
