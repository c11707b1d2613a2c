//! The writes of statuses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{ApplyError, Verb};
use super::write::{At, Child};
use ehrnet_desired::names::MANAGER;

/// Writes statuses, and nothing else of an object.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
}

impl StatusWriter {
    /// Writes with this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Writes the status of `resource` where it differs from `current`; `None` if it does not. Transition times of
    /// conditions alone are no difference.
    pub async fn status<K: Child, S: Serialize>(
        &self,
        resource: &K,
        current: Option<&S>,
        declared: &S,
    ) -> Result<Option<K>, ApplyError> {
        let at = At::<K>::of(&self.client, resource)?;
        let declared = at.json(declared)?;
        let current = current.map(|status| at.json(status)).transpose()?;
        if current.map(without_times) == Some(without_times(declared.clone())) {
            return Ok(None);
        }
        let status = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": at.name, "uid": resource.uid()}, "status": declared,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        at.kept(Verb::Patch, at.api.patch_status(&at.name, &parameters, &Patch::Apply(status)).await).map(Some)
    }

    /// Puts conditions on a resource that cannot be read as its kind, and leaves the rest of its status alone.
    pub async fn conditions_of_unreadable(
        &self,
        kind: &ApiResource,
        namespace: &str,
        name: &str,
        conditions: &[Condition],
    ) -> Result<(), ApplyError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let status = Patch::Merge(json!({"status": {"conditions": conditions}}));
        let written = api.patch_status(name, &parameters, &status).await;
        written.map(drop).map_err(|error| ApplyError::from_api(Verb::Patch, &kind.kind, namespace, name, error))
    }
}

/// A status without the transition times of its conditions.
fn without_times(mut status: Value) -> Value {
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    status
}
