//! Scenarios against a mock API server: exactly these requests, and then silence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ApiResource;
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tower_test::mock;

use super::*;
use ehrnet_api::{NodeStatus, Peer};

type Handle = mock::Handle<Request<Body>, Response<Body>>;

/// A cache by name.
struct Cache<K>(Mutex<BTreeMap<String, Arc<K>>>);

impl<K: Child> Cache<K> {
    fn of(objects: impl IntoIterator<Item = Value>) -> Self {
        let parsed = objects.into_iter().map(|object| serde_json::from_value::<K>(object).expect("an object"));
        Self(Mutex::new(parsed.map(|object| (object.name_any(), Arc::new(object))).collect()))
    }
}

impl<K: Child> Live<K> for Cache<K> {
    fn get(&self, _: &str, name: &str) -> Option<Arc<K>> {
        self.0.lock().expect("no panic").get(name).cloned()
    }
    fn wrote(&self, object: Arc<K>) {
        assert_eq!(object.meta().managed_fields, None, "nobody needs them in memory");
        self.0.lock().expect("no panic").insert(object.name_any(), object);
    }
}

/// One expected request and its answer.
struct Exchange {
    method: &'static str,
    path: &'static str,
    /// Fields that the request's body must have, by JSON pointer.
    sends: Vec<(&'static str, Value)>,
    code: u16,
    body: Value,
}

fn expect(method: &'static str, path: &'static str, code: u16, body: Value) -> Exchange {
    Exchange { method, path, sends: Vec::new(), code, body }
}

impl Exchange {
    fn sending(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.sends.push((pointer, value.into()));
        self
    }
}

/// Runs `act` with an applier against a server that answers exactly these requests in this order.
async fn scenario<F, T>(exchanges: Vec<Exchange>, act: impl FnOnce(Applier) -> F) -> T
where
    F: Future<Output = T>,
{
    against(exchanges, |client| act(Applier::new(client))).await
}

/// Runs `act` with a client of a server that answers exactly these requests in this order.
async fn against<F, T>(exchanges: Vec<Exchange>, act: impl FnOnce(Client) -> F) -> T
where
    F: Future<Output = T>,
{
    let (service, handle) = mock::pair();
    let server = tokio::spawn(serve(handle, exchanges));
    let result = act(Client::new(service, "mercy")).await;
    server.await.expect("the requests were as expected");
    result
}

async fn serve(mut handle: Handle, exchanges: Vec<Exchange>) {
    for expected in exchanges {
        let (request, respond) = handle.next_request().await.expect("one more request");
        let line = format!("{} {}", request.method(), request.uri().path());
        let folder = if expected.path.starts_with('/') { "" } else { "/api/v1/namespaces/mercy/" };
        assert_eq!(line, format!("{} {folder}{}", expected.method, expected.path));
        let sent = request.into_body().collect_bytes().await.expect("a body in memory");
        let sent: Value = if sent.is_empty() { Value::Null } else { serde_json::from_slice(&sent).expect("JSON") };
        for (pointer, value) in &expected.sends {
            assert_eq!(sent.pointer(pointer).unwrap_or(&Value::Null), value, "{pointer} of {line}: {sent}");
        }
        let mut answer = expected.body;
        if let Some(metadata) = answer.get_mut("metadata") {
            metadata["managedFields"] = json!([{"manager": "ehrnet", "fieldsV1": {"f:data": {}}}]);
        }
        let body = Body::from(answer.to_string().into_bytes());
        respond.send_response(Response::builder().status(expected.code).body(body).expect("a response"));
    }
    assert!(handle.next_request().await.is_none(), "a request too many");
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": format!("it is {reason}")})
}

fn owner() -> Owner {
    Owner::of(&peer()).expect("from a cluster")
}

fn peer() -> Peer {
    serde_json::from_value(json!({
        "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer",
        "metadata": {"name": "peer0", "namespace": "mercy", "uid": "u1", "resourceVersion": "5"},
        "spec": {"hospitalRef": {"name": "mercy"}}
    }))
    .expect("a peer")
}

fn declared<K: Child>(kind: &str, data: Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": kind, "data": data,
        "metadata": {"name": "peer0", "namespace": "mercy",
            "labels": {"app.kubernetes.io/managed-by": "ehrnet", "app.kubernetes.io/instance": "peer0", "app.kubernetes.io/component": "peer"},
            "ownerReferences": [{"apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer", "name": "peer0", "uid": "u1", "controller": true}]},
    }))
    .expect("an object")
}

/// The declared object as it stands on the server.
fn stored(kind: &str, data: Value, version: &str) -> Value {
    let mut object = match kind {
        "Secret" => serde_json::to_value(declared::<Secret>(kind, data)),
        _ => serde_json::to_value(declared::<ConfigMap>(kind, data)),
    }
    .expect("JSON");
    object["metadata"]["uid"] = "c1".into();
    object["metadata"]["resourceVersion"] = version.into();
    object
}

fn map(data: Value, version: &str) -> Value {
    stored("ConfigMap", data, version)
}

#[tokio::test]
async fn nothing_is_sent_when_nothing_differs() {
    let live = Cache::of([map(json!({"a": "1"}), "7")]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let written = scenario(vec![], async |applier| applier.apply(&owner(), &live, &wanted).await).await;
    assert_eq!(written.expect("nothing to do").change, Change::None);
}

#[tokio::test]
async fn what_is_absent_is_looked_for_made_and_known_from_then_on() {
    let live = Cache::of([]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let requests = vec![
        expect("GET", "configmaps/peer0", 404, failure(404, "NotFound")),
        expect("PATCH", "configmaps/peer0", 201, map(json!({"a": "1"}), "1"))
            .sending("/kind", "ConfigMap")
            .sending("/data/a", "1")
            .sending("/metadata/uid", Value::Null),
    ];
    scenario(requests, async |applier| {
        let written = applier.apply(&owner(), &live, &wanted).await.expect("made");
        assert_eq!(written.change, Change::Created);
        let again = applier.apply(&owner(), &live, &wanted).await.expect("read your own writes");
        assert_eq!(again.change, Change::None);
    })
    .await;
}

#[tokio::test]
async fn a_changed_field_is_brought_back_in_the_object_that_was_seen() {
    let live = Cache::of([map(json!({"a": "2"}), "7")]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let requests = vec![
        expect("PATCH", "configmaps/peer0", 200, map(json!({"a": "1"}), "8"))
            .sending("/metadata/uid", "c1")
            .sending("/data/a", "1"),
    ];
    let written = scenario(requests, async |applier| applier.apply(&owner(), &live, &wanted).await).await;
    assert_eq!(written.expect("repaired").change, Change::Repaired(vec!["/data/a".into()]));
}

#[tokio::test]
async fn a_key_that_nobody_declared_is_removed_and_labels_of_others_stay() {
    let mut edited = map(json!({"a": "1", "evil": "x"}), "7");
    edited["metadata"]["labels"]["theirs"] = "kept".into();
    let live = Cache::of([edited]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let requests = vec![
        expect("PUT", "configmaps/peer0", 200, map(json!({"a": "1"}), "8"))
            .sending("/metadata/resourceVersion", "7")
            .sending("/metadata/uid", "c1")
            .sending("/metadata/labels/theirs", "kept")
            .sending("/data", json!({"a": "1"})),
    ];
    let written = scenario(requests, async |applier| applier.apply(&owner(), &live, &wanted).await).await;
    assert_eq!(written.expect("repaired").change, Change::Repaired(vec!["/data/evil".into()]));
}

#[tokio::test]
async fn an_apply_that_stands_in_the_way_of_what_is_there_becomes_a_replacement() {
    let live = Cache::of([map(json!({"a": "2"}), "7")]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let requests = vec![
        expect("PATCH", "configmaps/peer0", 422, failure(422, "Invalid")),
        expect("PUT", "configmaps/peer0", 200, map(json!({"a": "1"}), "8")).sending("/metadata/resourceVersion", "7"),
    ];
    scenario(requests, async |applier| applier.apply(&owner(), &live, &wanted).await).await.expect("repaired");
}

#[tokio::test]
async fn what_a_write_cannot_settle_is_written_once() {
    let live = Cache::of([map(json!({"a": "2"}), "7")]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let other: ConfigMap = declared("ConfigMap", json!({"a": "3"}));
    let requests = vec![
        expect("PATCH", "configmaps/peer0", 200, map(json!({"a": "2"}), "8")),
        expect("PATCH", "configmaps/peer0", 200, map(json!({"a": "3"}), "9")).sending("/data/a", "3"),
    ];
    scenario(requests, async |applier| {
        applier.apply(&owner(), &live, &wanted).await.expect("written");
        for _ in 0..3 {
            let written = applier.apply(&owner(), &live, &wanted).await.expect("left alone");
            assert_eq!(written.change, Change::None, "no hot loop");
        }
        applier.apply(&owner(), &live, &other).await.expect("another wish is written");
    })
    .await;
}

#[tokio::test]
async fn what_others_made_is_never_touched() {
    let mut foreign = map(json!({"a": "2"}), "7");
    foreign["metadata"]["labels"] = json!({});
    foreign["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "x"}]);
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let live = Cache::of([]);
    let requests = vec![expect("GET", "configmaps/peer0", 200, foreign.clone())];
    let error =
        scenario(requests, async |applier| applier.apply(&owner(), &live, &wanted).await).await.expect_err("taken");
    assert_eq!(
        error.to_string(),
        "ConfigMap peer0 exists already and belongs to Deployment web; rename or delete it, then this goes on by itself"
    );
    let requests = vec![
        expect("POST", "configmaps", 409, failure(409, "AlreadyExists")),
        expect("GET", "configmaps/peer0", 200, foreign),
    ];
    let error = scenario(requests, async |applier| applier.create_once(&owner(), &live, &wanted).await).await;
    assert!(matches!(error, Err(ApplyError::NameTaken { .. })), "{error:?}");
}

#[tokio::test]
async fn what_a_deleted_resource_left_behind_is_waited_for() {
    let mut leftover = map(json!({"a": "1"}), "7");
    leftover["metadata"]["ownerReferences"][0]["uid"] = "u0".into();
    let mut leaving = map(json!({"a": "1"}), "7");
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z".into();
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    for object in [leftover, leaving] {
        let live = Cache::of([object]);
        let result = scenario(vec![], async |applier| applier.apply(&owner(), &live, &wanted).await).await;
        assert!(matches!(result, Err(ApplyError::Leftover { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn keys_are_made_once_and_who_comes_second_gets_the_first_ones() {
    let live = Cache::of([]);
    let wanted: Secret = declared("Secret", json!({"key": "bmV3"}));
    let requests = vec![
        expect("POST", "secrets", 409, failure(409, "AlreadyExists")).sending("/data/key", "bmV3"),
        expect("GET", "secrets/peer0", 200, stored("Secret", json!({"key": "b2xk"}), "3")),
    ];
    let written = scenario(requests, async |applier| applier.create_once(&owner(), &live, &wanted).await).await;
    let written = written.expect("the first ones");
    assert_eq!(written.change, Change::None);
    assert_eq!(
        written.object.data.as_ref().and_then(|data| data.get("key")).map(|key| key.0.as_slice()),
        Some(&b"old"[..])
    );
}

#[tokio::test]
async fn kept_keys_are_taken_back_with_their_content() {
    let mut kept = stored("Secret", json!({"key": "b2xk"}), "3");
    kept["metadata"]["ownerReferences"] = json!([]);
    let live = Cache::of([kept]);
    let wanted: Secret = declared("Secret", json!({"key": "bmV3"}));
    let requests = vec![
        expect("PATCH", "secrets/peer0", 200, stored("Secret", json!({"key": "b2xk"}), "4"))
            .sending("/metadata/resourceVersion", "3")
            .sending("/metadata/uid", "c1")
            .sending("/metadata/ownerReferences/0/uid", "u1")
            .sending("/data", Value::Null),
    ];
    let written = scenario(requests, async |applier| applier.create_once(&owner(), &live, &wanted).await).await;
    assert_eq!(written.expect("taken back").change, Change::Repaired(vec!["/metadata/ownerReferences/0".into()]));
}

#[tokio::test]
async fn keys_that_are_to_be_kept_from_now_on_lose_their_owner() {
    let live = Cache::of([stored("Secret", json!({"key": "b2xk"}), "3")]);
    let mut kept: Secret = declared("Secret", json!({"key": "bmV3"}));
    kept.metadata.owner_references = None;
    let mut freed = stored("Secret", json!({"key": "b2xk"}), "4");
    freed["metadata"]["ownerReferences"] = json!([]);
    let requests = vec![
        expect("PATCH", "secrets/peer0", 200, freed)
            .sending("/metadata/ownerReferences", json!([]))
            .sending("/data", Value::Null),
    ];
    scenario(requests, async |applier| {
        applier.create_once(&owner(), &live, &kept).await.expect("freed");
        let again = applier.create_once(&owner(), &live, &kept).await.expect("nothing to do");
        assert_eq!(again.change, Change::None);
    })
    .await;
}

#[tokio::test]
async fn errors_say_what_is_known_of_the_effect() {
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let mut terminating = failure(403, "Forbidden");
    terminating["details"] = json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]});
    let mut throttled = failure(429, "TooManyRequests");
    throttled["details"] = json!({"retryAfterSeconds": 3});
    for (code, body, expected) in [
        (409, failure(409, "Conflict"), "conflict"),
        (404, failure(404, "NotFound"), "conflict"),
        (403, failure(403, "Forbidden"), "refused"),
        (403, terminating, "namespace_ending"),
        (500, failure(500, "InternalError"), "unavailable"),
        (503, failure(503, "ServiceUnavailable"), "unavailable"),
        (429, throttled, "unavailable"),
    ] {
        let live = Cache::of([map(json!({"a": "2"}), "7")]);
        let requests = vec![expect("PATCH", "configmaps/peer0", code, body)];
        let error = scenario(requests, async |applier| applier.apply(&owner(), &live, &wanted).await)
            .await
            .expect_err("failed");
        assert_eq!(error.name(), expected, "{code}: {error}");
        assert_eq!(error.retry_after(), (code == 429).then_some(Duration::from_secs(3)));
    }
}

#[tokio::test]
async fn a_write_that_took_effect_although_its_answer_says_504_is_not_repeated() {
    let wanted: ConfigMap = declared("ConfigMap", json!({"a": "1"}));
    let live = Cache::of([]);
    let requests = vec![
        expect("GET", "configmaps/peer0", 404, failure(404, "NotFound")),
        expect("PATCH", "configmaps/peer0", 504, failure(504, "Timeout")),
        expect("GET", "configmaps/peer0", 200, map(json!({"a": "1"}), "1")),
    ];
    scenario(requests, async |applier| {
        let error = applier.apply(&owner(), &live, &wanted).await.expect_err("unknown effect");
        assert_eq!(error.name(), "unavailable");
        let written = applier.apply(&owner(), &live, &wanted).await.expect("read first");
        assert_eq!(written.change, Change::None);
    })
    .await;
}

#[tokio::test]
async fn a_replacement_needs_the_state_it_was_made_from() {
    let live: Cache<Secret> = Cache::of([]);
    let renewed: Secret = serde_json::from_value(stored("Secret", json!({"key": "b2xk"}), "3")).expect("a secret");
    let requests = vec![
        expect("PUT", "secrets/peer0", 200, stored("Secret", json!({"key": "b2xk"}), "4"))
            .sending("/metadata/resourceVersion", "3"),
    ];
    scenario(requests, async |applier| {
        applier.update(&live, &renewed).await.expect("replaced");
        let blind: Secret = declared("Secret", json!({}));
        assert!(matches!(applier.update(&live, &blind).await, Err(ApplyError::Malformed { .. })));
    })
    .await;
    assert_eq!(live.get("mercy", "peer0").and_then(|secret| secret.resource_version()).as_deref(), Some("4"));
}

#[tokio::test]
async fn a_status_is_written_only_where_more_than_a_time_differs() {
    let status = |ready: &str, time: &str| -> NodeStatus {
        serde_json::from_value(json!({"observedGeneration": 1, "conditions": [
            {"type": "Ready", "status": ready, "reason": "AsDeclared", "message": "", "lastTransitionTime": time}]}))
        .expect("a status")
    };
    let (then, now) = ("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z");
    let current = status("True", then);
    let path = "/apis/ehrnet.dev/v1alpha1/namespaces/mercy/peers/peer0/status";
    let requests = vec![
        expect("PATCH", path, 200, serde_json::to_value(peer()).expect("JSON"))
            // Only of this very resource.
            .sending("/metadata", json!({"name": "peer0", "uid": "u1"}))
            .sending("/status/conditions/0/status", "False")
            .sending("/spec", Value::Null),
    ];
    against(requests, async |client| {
        let writer = StatusWriter::new(client);
        let same = writer.status(&peer(), Some(&current), &status("True", now)).await.expect("nothing to do");
        assert!(same.is_none());
        let other = writer.status(&peer(), Some(&current), &status("False", now)).await.expect("written");
        assert!(other.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_can_still_be_told_so() {
    let kind = ApiResource::erase::<Peer>(&());
    let odd = json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer", "metadata": {"name": "odd"}, "spec": 7});
    let requests = vec![expect("PATCH", "/apis/ehrnet.dev/v1alpha1/namespaces/mercy/peers/odd/status", 200, odd)];
    let told = against(requests, async |client| {
        StatusWriter::new(client).conditions_of_unreadable(&kind, "mercy", "odd", &[]).await
    })
    .await;
    told.expect("its content does not matter");
}
