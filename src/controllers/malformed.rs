//! Resources that cannot be read: said once on the object itself; the others go on.

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::context::Context;
use crate::api::conditions::{ConditionType, Reason};
use crate::observe::Target;
use crate::status::{self, Finding};

/// Puts a condition on a resource that cannot be read. Its status is a watch event too, so the same error is said once.
pub async fn report(ctx: &Context, target: &Target, error: &str) {
    let key = (target.kind.as_str().to_owned(), format!("{}/{}", target.namespace, target.name));
    if ctx.malformed.get(&key).as_deref() == Some(error) {
        return;
    }
    tracing::warn!(%target, error, "this resource cannot be read; it is left alone");
    let message = format!("the resource cannot be read by this version of the operator: {error}");
    let finding = Finding::not(Reason::InvalidSpec, message);
    let conditions = status::conditions(&[], None, (ctx.clock)(), &[(ConditionType::Accepted, finding)]);
    let kind = GroupVersionKind::gvk(crate::api::GROUP, "v1alpha1", target.kind.as_str());
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &target.namespace, &ApiResource::from_gvk(&kind));
    let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
    match api.patch_status(&target.name, &PatchParams::default(), &patch).await {
        Ok(written) => {
            tracing::debug!(%target, version = ?written.resource_version(), "condition written");
            ctx.malformed.remember(key, error.to_owned());
        }
        Err(failure) => tracing::warn!(%target, %failure, "the condition could not be written"),
    }
}
