//! Objects of any kind by `apiVersion` and `kind`.

use kube::Client;
use kube::api::{DynamicObject, PostParams};
use serde_json::Value;

pub use crate::resources::{api, resource};

/// Creates an object of `ehrnet.dev`.
pub async fn create(client: &Client, namespace: &str, object: &Value) -> kube::Result<DynamicObject> {
    let kind = object["kind"].as_str().expect("an object has a kind");
    let object = serde_json::from_value(object.clone()).expect("an object");
    api(client, namespace, kind).create(&PostParams::default(), &object).await
}
