//! Resources that cannot be read: said once on the object itself; the others go on.

use kube::core::{ApiResource, GroupVersionKind};

use super::context::Context;
use super::pass;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_observe::Target;
use ehrnet_status::{self as status, Finding};

/// Puts a condition on a resource that cannot be read. Its status is a watch event too, so the same error is said once.
pub async fn report(ctx: &Context, target: &Target, uid: &str, error: &str) {
    pass::recognise(ctx, target, Some(uid)).await;
    if ctx.memories.is_known_unreadable(uid, error) {
        return;
    }
    tracing::warn!(%target, error, "this resource cannot be read; it is left alone");
    let message = format!("the resource cannot be read by this version of the operator: {error}");
    let finding = Finding::not(Reason::InvalidSpec, message);
    let conditions = status::conditions(&[], None, (ctx.clock)(), &[(ConditionType::Accepted, finding)]);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(ehrnet_api::GROUP, "v1alpha1", target.kind.as_str()));
    let writer = &ctx.statuses.writer;
    match writer.conditions_of_unreadable(&kind, &target.namespace, &target.name, &conditions).await {
        Ok(()) => ctx.memories.remember_unreadable(uid, error),
        Err(failure) => tracing::warn!(%target, %failure, "the condition could not be written"),
    }
}
