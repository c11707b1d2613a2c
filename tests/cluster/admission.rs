//! What the API server itself lets in: schemas, defaults and CEL rules of the definitions.

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

const HOSPITAL: &str = "{mspId: MercyMSP}";
const ORDERER: &str = "{hospitalRef: {name: mercy}}";
const PEER: &str = "{hospitalRef: {name: mercy}, channels: [care]}";
const CHANNEL: &str = "{channelName: care, consensus: {type: Raft, orderers: [o1, o2, o3]}, members: [mercy]}";

const IDENTITY: &str = "{hospitalRef: {name: mercy}, attributes: {ehr.role: physician}}";
const CHAINCODE: &str =
    "{channelRef: {name: care}, collections: [{name: records}, {name: trial, members: [mercy], blockToLive: 9}]}";

const CONSENT: &str = "{channelRef: {name: care}, retention: {privateCollection: consents, blockToLive: 10}, overriding: [{type: permit, purpose: [{code: PUBHLTH}]}], \
    template: {type: permit, purpose: [{code: TREAT}], securityLabel: [{code: 'N'}], period: {start: 2026-01-01, end: '2027'}, \
    provision: [{type: permit, purpose: [{code: BTG}], provision: [{type: deny, provision: [{type: permit, provision: [{type: deny}]}]}]}]}}";

/// Kind, spec, field and part of the message of the refusal.
type Refusal = (&'static str, &'static str, &'static str, &'static str);

const REFUSED: &[Refusal] = &[
    ("Hospital", "{mspId: 'mercy msp'}", "spec.mspId", "should match"),
    ("Hospital", "{mspId: ''}", "spec.mspId", "at least 1"),
    ("Hospital", "{displayName: Mercy}", "spec.mspId", "Required"),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 24h, renewBefore: 24h}}}",
        "spec.pki.leaf",
        "renewBefore must be shorter than validity",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {ca: {validity: 24h, renewBefore: 48h}}}",
        "spec.pki.ca",
        "renewBefore must be shorter than validity",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 1y, renewBefore: 1h}}}",
        "spec.pki.leaf.validity",
        "should match",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 1h, renewBefore: 0h}}}",
        "spec.pki.leaf.renewBefore",
        "longer than zero",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}, tlsCa: {secretRef: {name: ca}}}",
        "spec",
        "must be two different key pairs",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca, namespace: other}}}",
        "spec.signingCa.secretRef",
        "references stay within the namespace",
    ),
    ("Hospital", "{mspId: MercyMSP, deletionPolicy: Keep}", "spec.deletionPolicy", "supported values"),
    (
        "Orderer",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Orderer", "{}", "spec.hospitalRef", "Required"),
    (
        "Orderer",
        "{hospitalRef: {name: mercy}, externalEndpoint: mercy.example}",
        "spec.externalEndpoint",
        "should match",
    ),
    (
        "Peer",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Peer", "{hospitalRef: {name: mercy}, couchdb: {}}", "spec", "couchdb is only for stateDatabase: CouchDB"),
    ("Peer", "{hospitalRef: {name: mercy}, channels: [care, care]}", "spec.channels[1]", "Duplicate"),
    ("Peer", "{hospitalRef: {name: mercy}, channels: [Care]}", "spec.channels[0]", "should match"),
    ("Peer", "{hospitalRef: {name: mercy}, stateDatabase: Postgres}", "spec.stateDatabase", "supported values"),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3]}, members: [mercy]}",
        "spec.consensus",
        "BFT needs at least 4 orderers",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3, o4], raft: {}}, members: [mercy]}",
        "spec.consensus",
        "raft options are only for consensus type Raft",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1], bft: {}}, members: [mercy]}",
        "spec.consensus",
        "bft options are only for consensus type BFT",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1], raft: {electionTick: 5, heartbeatTick: 5}}, members: [mercy]}",
        "spec.consensus.raft",
        "electionTick must be larger than heartbeatTick",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3, o4], bft: {leaderHeartbeatTimeout: 1s}}, members: [mercy]}",
        "spec.consensus.bft",
        "leaderHeartbeatTimeout must be longer",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Solo, orderers: [o1]}, members: [mercy]}",
        "spec.consensus.type",
        "supported values",
    ),
    (
        "Channel",
        "{channelName: Care, consensus: {type: Raft, orderers: [o1]}, members: [mercy]}",
        "spec.channelName",
        "should match",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: []}, members: [mercy]}",
        "spec.consensus.orderers",
        "at least 1",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1, o1]}, members: [mercy]}",
        "spec.consensus.orderers[1]",
        "Duplicate",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: []}",
        "spec.members",
        "at least 1",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy, mercy]}",
        "spec.members[1]",
        "Duplicate",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy], batch: {preferredMaxBytes: 4096, absoluteMaxBytes: 2048}}",
        "spec.batch",
        "preferredMaxBytes must not be larger",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy], capabilities: {channel: '3.0'}}",
        "spec.capabilities.channel",
        "should match",
    ),
    (
        "Identity",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Identity", "{hospitalRef: {name: mercy}, type: peer}", "spec.type", "supported values"),
    (
        "Identity",
        "{hospitalRef: {name: mercy}, attributes: {'ehr role': physician}}",
        "spec.attributes",
        "the name of an attribute has letters",
    ),
    ("Identity", "{hospitalRef: {name: mercy}, attributes: {hf.Type: admin}}", "spec.attributes", "Fabric CA's own"),
    ("Identity", "{hospitalRef: {name: mercy}, secretName: Mercy}", "spec.secretName", "should match"),
    (
        "Identity",
        "{hospitalRef: {name: mercy}, certificate: {validity: 24h, renewBefore: 48h}}",
        "spec.certificate",
        "renewBefore must be shorter than validity",
    ),
    (
        "Chaincode",
        "{channelRef: {name: care, namespace: other}}",
        "spec.channelRef",
        "references stay within the namespace",
    ),
    ("Chaincode", "{channelRef: {name: care}, chaincodeName: '-ehr'}", "spec.chaincodeName", "should match"),
    ("Chaincode", "{channelRef: {name: care}, version: '1 0'}", "spec.version", "should match"),
    ("Chaincode", "{channelRef: {name: care}, endorsement: {}}", "spec.endorsement", "exactly one of allOf"),
    (
        "Chaincode",
        "{channelRef: {name: care}, endorsement: {allOf: [mercy], anyOf: [mercy]}}",
        "spec.endorsement",
        "exactly one of allOf",
    ),
    ("Chaincode", "{channelRef: {name: care}, endorsement: {allOf: []}}", "spec.endorsement.allOf", "at least 1"),
    (
        "Chaincode",
        "{channelRef: {name: care}, endorsement: {outOf: {count: 2, hospitals: [mercy]}}}",
        "spec.endorsement.outOf",
        "count must not be larger",
    ),
    ("Chaincode", "{channelRef: {name: care}, collections: [{name: _x}]}", "spec.collections[0].name", "should match"),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: a}, {name: a}]}",
        "spec.collections[1]",
        "Duplicate",
    ),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: a, requiredPeerCount: 4}]}",
        "spec.collections[0]",
        "requiredPeerCount must not be larger",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, purpose: [{code: TRAET}]}}",
        "spec.template.purpose[0].code",
        "should match",
    ),
    (
        "ConsentPolicy",
        "{overriding: [{type: deny, securityLabel: [{system: 'urn:x', code: R}]}]}",
        "spec.overriding[0].securityLabel[0].system",
        "supported values",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{}]}}",
        "spec.template",
        "needs a type under fhirVersion R4",
    ),
    (
        "ConsentPolicy",
        "{fhirVersion: R5, template: {decision: permit, provision: [{type: deny}]}}",
        "spec.template",
        "must have none under R5",
    ),
    ("ConsentPolicy", "{template: {decision: permit}}", "spec", "template needs type under fhirVersion R4"),
    ("ConsentPolicy", "{fhirVersion: R5, overriding: [{type: deny}]}", "spec", "decision under R5"),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{type: deny, decision: deny}]}}",
        "spec.template.provision",
        "decision stands at the root only",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, period: {start: 2026-05-01, end: 2026-04}}}",
        "spec.template.period",
        "start must not be after end",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, dataPeriod: {}}}",
        "spec.template.dataPeriod",
        "needs a start or an end",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{type: deny, provision: [{type: deny, provision: [{type: deny, provision: [{type: deny, provision: [{}]}]}]}]}]}}",
        "spec.template.provision[0].provision[0].provision[0].provision[0].provision",
        "at most 0 items",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, actor: [{mspId: A, reference: Group/b}]}}",
        "spec.template.actor[0]",
        "named in one way",
    ),
    ("ConsentPolicy", "{template: {type: permit, actor: [{}]}}", "spec.template.actor[0]", "needs a role"),
    ("ConsentPolicy", "{breakGlass: {purposes: [GLASS]}}", "spec.breakGlass.purposes[0]", "supported values"),
    ("ConsentPolicy", "{retention: {auditYears: 5}}", "spec.retention.auditYears", "greater than or equal to 6"),
    ("ConsentPolicy", "{retention: {blockToLive: 5}}", "spec.retention", "set privateCollection as well"),
    ("ConsentPolicy", "{timeZone: '../etc'}", "spec.timeZone", "should match"),
];

/// Kind, spec, merge patch, field and part of the message of the refusal.
type RefusedChange = (&'static str, &'static str, &'static str, &'static str, &'static str);

const REFUSED_CHANGES: &[RefusedChange] = &[
    ("Hospital", HOSPITAL, "{mspId: OtherMSP}", "spec.mspId", "mspId is immutable"),
    (
        "Hospital",
        HOSPITAL,
        "{signingCa: {secretRef: {name: ca}}}",
        "spec",
        "signingCa cannot be added or removed later",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}}",
        "{signingCa: null}",
        "spec",
        "signingCa cannot be added or removed later",
    ),
    ("Hospital", HOSPITAL, "{tlsCa: {secretRef: {name: ca}}}", "spec", "tlsCa cannot be added or removed later"),
    ("Orderer", ORDERER, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Orderer", ORDERER, "{storage: {size: 5Gi}}", "spec.storage", "storage cannot shrink"),
    ("Orderer", ORDERER, "{storage: {storageClassName: fast}}", "spec.storage", "storageClassName is immutable"),
    ("Peer", PEER, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Peer", PEER, "{stateDatabase: CouchDB}", "spec.stateDatabase", "stateDatabase is immutable"),
    ("Peer", PEER, "{storage: {size: 1Mi}}", "spec.storage", "storage cannot shrink"),
    (
        "Peer",
        "{hospitalRef: {name: mercy}, stateDatabase: CouchDB, couchdb: {storage: {size: 5Gi}}}",
        "{couchdb: {storage: {size: 4Gi}}}",
        "spec.couchdb.storage",
        "storage cannot shrink",
    ),
    ("Channel", CHANNEL, "{channelName: other}", "spec.channelName", "channelName is immutable"),
    (
        "Channel",
        CHANNEL,
        "{consensus: {type: BFT, orderers: [o1, o2, o3, o4]}}",
        "spec.consensus.type",
        "consensus type is immutable",
    ),
    ("Identity", IDENTITY, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Identity", IDENTITY, "{type: admin}", "spec.type", "type is immutable"),
    ("Identity", IDENTITY, "{secretName: other}", "spec", "secretName is immutable"),
    ("Chaincode", CHAINCODE, "{channelRef: {name: other}}", "spec.channelRef", "channelRef is immutable"),
    ("Chaincode", CHAINCODE, "{chaincodeName: other}", "spec", "chaincodeName is immutable"),
    ("Chaincode", CHAINCODE, "{collections: [{name: records}]}", "spec.collections", "cannot be removed or renamed"),
    (
        "Chaincode",
        CHAINCODE,
        "{collections: [{name: records}, {name: trial, blockToLive: 10}]}",
        "spec.collections[1].blockToLive",
        "blockToLive is immutable",
    ),
    (
        "ConsentPolicy",
        CONSENT,
        "{retention: {privateCollection: other}}",
        "spec.retention",
        "privateCollection is immutable",
    ),
    ("ConsentPolicy", CONSENT, "{retention: {blockToLive: 11}}", "spec.retention", "blockToLive is immutable"),
    ("ConsentPolicy", CONSENT, "{retention: null}", "spec.retention", "privateCollection is immutable"),
];

/// Kind, spec and merge patch of a change that must be possible on a live network.
const ALLOWED_CHANGES: &[(&str, &str, &str)] = &[
    ("Hospital", HOSPITAL, "{displayName: Mercy General}"),
    ("Hospital", HOSPITAL, "{pki: {leaf: {validity: 48h, renewBefore: 24h}}}"),
    ("Hospital", "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}}", "{signingCa: {secretRef: {name: ca-2}}}"),
    ("Orderer", ORDERER, "{storage: {size: 20Gi}}"),
    ("Peer", PEER, "{channels: [care, research], anchor: false}"),
    ("Peer", "{hospitalRef: {name: mercy}, stateDatabase: CouchDB}", "{couchdb: {resources: {limits: {memory: 1Gi}}}}"),
    ("Channel", CHANNEL, "{members: [mercy, clinic], batch: {maxMessageCount: 10}}"),
    ("Channel", CHANNEL, "{consensus: {orderers: [o1, o2, o3, o4, o5]}}"),
    ("Identity", IDENTITY, "{attributes: {ehr.role: nurse}, certificate: {validity: 48h, renewBefore: 24h}}"),
    ("Chaincode", CHAINCODE, "{version: '2.0', endorsement: {anyOf: [mercy]}, image: {reference: 'r/contract:2'}}"),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: records}]}",
        "{collections: [{name: audit, requiredPeerCount: 1}, {name: records, members: [mercy]}]}",
    ),
    ("ConsentPolicy", CONSENT, "{basePolicy: basic-normal, combining: newest-wins, template: null}"),
    ("ConsentPolicy", "{}", "{retention: {privateCollection: consents, blockToLive: 10}}"),
];

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
