//! Objects of any kind by `apiVersion` and `kind`.

use ehrnet_api::Kind;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

/// Access to a kind of `ehrnet.dev` in a namespace.
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// How the server calls a kind of `ehrnet.dev`.
pub fn resource(kind: &str) -> ApiResource {
    Kind::parse(kind).unwrap_or_else(|| panic!("{kind} is no declared kind")).resource()
}

/// Creates an object of `ehrnet.dev`.
pub async fn create(client: &Client, namespace: &str, object: &Value) -> kube::Result<DynamicObject> {
    let kind = object["kind"].as_str().expect("an object has a kind");
    let object = serde_json::from_value(object.clone()).expect("an object");
    api(client, namespace, kind).create(&PostParams::default(), &object).await
}
