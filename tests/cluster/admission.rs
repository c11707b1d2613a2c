//! What the API server itself lets in: schemas, defaults and CEL rules of the definitions.

mod cases;

use std::sync::Arc;

use ehrnet_api as api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::objects;
use crate::support::server::TestCluster;
use cases::{ALLOWED_CHANGES, CHANNEL, HOSPITAL, ORDERER, PEER, REFUSED, REFUSED_CHANGES};

/// The server establishes every definition and serves the columns that `kubectl get` prints.
pub async fn accepts_the_definitions_with_their_columns(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    for definition in api::crds() {
        let names = &definition.spec.names;
        let path = format!("/apis/{}/v1alpha1/namespaces/default/{}", api::GROUP, names.plural);
        let request = http::Request::get(path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .expect("a request");
        let table: Value = client.request(request).await.expect("the server prints a table");
        let columns: Vec<_> =
            table["columnDefinitions"].as_array().expect("columns").iter().filter_map(|c| c["name"].as_str()).collect();
        for wanted in ["Name", "Ready", "Reason", "Age"] {
            assert!(columns.contains(&wanted), "{}: no column {wanted} in {columns:?}", names.kind);
        }
    }
}

/// `kubectl explain` has a text for every field, at any depth, as the server stores the schema.
pub async fn documents_every_field(cluster: Arc<TestCluster>) {
    let stored = Api::<CustomResourceDefinition>::all(cluster.client().await);
    let mut missing = Vec::new();
    for definition in api::crds() {
        let definition = stored.get(definition.metadata.name.as_deref().expect("a name")).await.expect("a definition");
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
            undocumented(schema, &definition.spec.names.kind, &mut missing);
        }
    }
    assert!(missing.is_empty(), "fields without a description: {missing:#?}");
}

fn undocumented(schema: &JSONSchemaProps, path: &str, missing: &mut Vec<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        if field.description.as_deref().is_none_or(|text| text.trim().is_empty()) && name != "metadata" {
            missing.push(path.clone());
        }
        undocumented(field, &path, missing);
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => undocumented(items, &format!("{path}[]"), missing),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter().for_each(|items| undocumented(items, path, missing)),
        None => {}
    }
}

/// A collection with all that is left out.
fn collection(name: &str) -> Value {
    json!({
        "name": name, "requiredPeerCount": 0, "maxPeerCount": 3, "blockToLive": 0,
        "memberOnlyRead": true, "memberOnlyWrite": true,
    })
}

/// What is left out stands in the stored object, so that a reader of the object needs no manual.
pub async fn fills_in_the_defaults(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "defaults").await;
    let expected = [
        (
            "Hospital",
            HOSPITAL,
            json!({"pki": {"ca": {"validity": "87600h", "renewBefore": "8760h"}, "leaf": {"validity": "8760h", "renewBefore": "2160h"}}, "deletionPolicy": "Retain"}),
        ),
        ("Orderer", ORDERER, json!({"storage": {"size": "10Gi"}, "deletionPolicy": "Retain"})),
        (
            "Peer",
            PEER,
            json!({"storage": {"size": "10Gi"}, "stateDatabase": "LevelDB", "anchor": true, "deletionPolicy": "Retain"}),
        ),
        (
            "Channel",
            CHANNEL,
            json!({
                "batch": {"timeout": "500ms", "maxMessageCount": 500, "absoluteMaxBytes": 10_485_760, "preferredMaxBytes": 2_097_152},
                "policies": {"lifecycleEndorsement": "MAJORITY"},
                "capabilities": {"channel": "V3_0", "orderer": "V2_0", "application": "V2_5"},
            }),
        ),
        ("Identity", "{hospitalRef: {name: mercy}}", json!({"type": "client"})),
        (
            "Chaincode",
            "{channelRef: {name: care}}",
            json!({"version": "1.0", "initRequired": false, "collections": [
                collection("audit"), collection("consents"), collection("records"),
            ]}),
        ),
        (
            "ConsentPolicy",
            "{}",
            json!({
                "fhirVersion": "R4", "basePolicy": "deny", "combining": "deny-overrides", "timeZone": "UTC",
                "breakGlass": {"mode": "consent-only", "purposes": ["BTG"], "maxTTL": "4h", "reviewWithin": "72h"},
                "labels": {"requireConfidentiality": true}, "retention": {"auditYears": 6},
            }),
        ),
    ];
    for (kind, spec, defaults) in expected {
        let made = create(&client, &namespace, kind, "one", spec).await.expect(kind);
        assert_contains(&made.data["spec"], &defaults, kind);
    }
}

/// Every rule that one object can break is broken once, and the refusal names the field and says what to do.
pub async fn refuses_what_one_object_can_get_wrong(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "refused").await;
    let mut wrong = Vec::new();
    for (kind, spec, field, message) in REFUSED {
        let answer = create(&client, &namespace, kind, "bad", spec).await;
        wrong.extend(not_refused(answer, field, message).map(|why| format!("{kind} {spec}: {why}")));
    }
    for name in ["0mercy", "mercy.general", &"m".repeat(41)] {
        for (kind, spec) in [("Hospital", HOSPITAL), ("Orderer", ORDERER), ("Peer", PEER), ("Channel", CHANNEL)] {
            let answer = create(&client, &namespace, kind, name, spec).await;
            wrong.extend(
                not_refused(answer, "", "metadata.name must be a DNS label").map(|why| format!("{kind} {name}: {why}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What stands on the ledger or on a volume cannot be edited away.
pub async fn refuses_changes_to_what_cannot_change(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let mut wrong = Vec::new();
    let namespace = cluster.namespace(&client, "immutable").await;
    for (index, (kind, spec, change, field, message)) in REFUSED_CHANGES.iter().enumerate() {
        let answer = change_of(&client, &namespace, kind, &format!("o{index}"), spec, change).await;
        wrong.extend(not_refused(answer, field, message).map(|why| format!("{kind} {spec} -> {change}: {why}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a live network needs to change can be changed.
pub async fn admits_changes_that_are_allowed(cluster: Arc<TestCluster>) {
    let client = cluster.client().await;
    let namespace = cluster.namespace(&client, "allowed").await;
    for (index, (kind, spec, change)) in ALLOWED_CHANGES.iter().enumerate() {
        let answer = change_of(&client, &namespace, kind, &format!("o{index}"), spec, change).await;
        let made = answer.unwrap_or_else(|refusal| panic!("{kind} {spec} -> {change}: {}", refusal.message));
        assert_contains(&made.data["spec"], &yaml(change), kind);
    }
}

async fn create(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
    spec: &str,
) -> Result<DynamicObject, Box<Status>> {
    let object =
        json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": yaml(spec)});
    refusal(objects::create(client, namespace, &object).await)
}

async fn change_of(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
    spec: &str,
    change: &str,
) -> Result<DynamicObject, Box<Status>> {
    create(client, namespace, kind, name, spec)
        .await
        .unwrap_or_else(|status| panic!("{kind} {spec}: {}", status.message));
    let patch = Patch::Merge(json!({"spec": yaml(change)}));
    refusal(objects::api(client, namespace, kind).patch(name, &PatchParams::default(), &patch).await)
}

fn refusal<T>(answer: kube::Result<T>) -> Result<T, Box<Status>> {
    answer.map_err(|error| match error {
        kube::Error::Api(status) => status,
        other => panic!("the server did not answer: {other}"),
    })
}

/// Why the answer is not the expected refusal, if it is not.
fn not_refused(answer: Result<DynamicObject, Box<Status>>, field: &str, message: &str) -> Option<String> {
    let status = match answer {
        Ok(_) => return Some("admitted".into()),
        Err(status) => status,
    };
    let causes = status.details.as_ref().map(|d| d.causes.clone()).unwrap_or_default();
    let hit = causes.iter().any(|cause| {
        (field.is_empty() || cause.field == field) && format!("{} {}", cause.reason, cause.message).contains(message)
    });
    (!hit || !status.is_invalid()).then(|| format!("expected {field}: {message}, got {}", status.message))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Every field of `part` stands in `whole`.
fn assert_contains(whole: &Value, part: &Value, at: &str) {
    match part {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| assert_contains(&whole[name], value, &format!("{at}.{name}")))
        }
        Value::Array(items) => {
            assert_eq!(whole.as_array().map(Vec::len), Some(items.len()), "{at}");
            items.iter().enumerate().for_each(|(i, item)| assert_contains(&whole[i], item, &format!("{at}[{i}]")));
        }
        _ => assert_eq!(whole, part, "{at}"),
    }
}
