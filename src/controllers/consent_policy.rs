//! ConsentPolicy: validated, and projected into a ConfigMap.
//!
//! Invariant: the ConfigMap is a projection. Nothing decides from it; its digest is what status and ledger are compared
//! with, so an edit by hand is repaired and never read back.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::children;
use super::context::Context;
use super::outcome::{Outcome, ReconcileError, told};
use crate::api::ConsentPolicy;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::consent_policy::ConsentPolicyStatus;
use crate::apply::Owner;
use crate::consent::policy::{self, Policy};
use crate::desired::names::{self, Parent};
use crate::desired::{Objects, Resources, config_map};
use crate::status::{self, Finding};

/// Brings one policy closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, resource: Arc<ConsentPolicy>) -> Result<Outcome, ReconcileError> {
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let validated = validate(&resource);
    let projected = match &validated {
        Ok(policy) => told(project(ctx, &resource, policy).await)?,
        Err(_) => Err(Finding::unknown(Reason::Progressing, "comes after the policy is valid")),
    };
    let findings = findings(&validated, projected);
    let before = resource.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = status::conditions(&before, resource.metadata.generation, (ctx.clock)(), &findings);
    let status = report(&resource, validated.as_ref().ok(), conditions.clone());
    let current = resource.status.as_ref();
    super::publish(ctx, &ctx.world.consent_policies, &*resource, current, &status, (&before, &conditions)).await?;
    Ok(Outcome::of(&findings))
}

/// The policy, or one sentence for each field that is wrong.
fn validate(resource: &ConsentPolicy) -> Result<Policy, Finding> {
    policy::validate(&resource.spec).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Finding::not(Reason::InvalidSpec, errors.join("; "))
    })
}

/// Writes the ConfigMap; returns the digest that stands in it.
async fn project(
    ctx: &Context,
    resource: &ConsentPolicy,
    policy: &Policy,
) -> Result<Result<String, Finding>, ReconcileError> {
    let (Some(parent), Some(owner)) = (Parent::of(resource), Owner::of(resource)) else {
        return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID")));
    };
    let digest = policy.digest();
    let projection = config_map::consent_policy(&parent, policy.canonical_json(), &digest);
    let objects = Objects { config_maps: vec![projection], ..Objects::default() };
    children::apply(ctx, &owner, Resources::prepared(objects)).await?;
    Ok(Ok(digest))
}

fn findings(validated: &Result<Policy, Finding>, projected: Result<String, Finding>) -> Vec<(ConditionType, Finding)> {
    let valid = match validated {
        Ok(_) => Finding::good("every field makes sense"),
        Err(finding) => finding.clone(),
    };
    let projected = match projected {
        Ok(digest) => Finding::good(format!("the ConfigMap holds the policy with digest {digest}")),
        Err(finding) => finding,
    };
    vec![(ConditionType::Validated, valid), (ConditionType::Projected, projected)]
}

fn report(resource: &ConsentPolicy, policy: Option<&Policy>, conditions: Vec<Condition>) -> ConsentPolicyStatus {
    let before = resource.status.clone().unwrap_or_default();
    ConsentPolicyStatus {
        observed_generation: resource.metadata.generation,
        conditions,
        short_digest: policy.map(|policy| policy.digest().chars().take(12).collect()).or(before.short_digest),
        digest: policy.map(Policy::digest).or(before.digest),
        config_map_ref: policy
            .map(|_| crate::api::common::LocalRef::to(names::consent_policy(&resource.name_any())))
            .or(before.config_map_ref),
        ..before
    }
}
