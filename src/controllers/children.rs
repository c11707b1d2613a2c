//! Writes everything that one resource stands for, in order.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::context::Context;
use ehrnet_apply::{ApplyError, Child, Live, Owner};
use ehrnet_desired::resources::{Applied, Objects, Prepared, Resources};

/// Applies all objects in the order of the fields: what a pod mounts before the pod.
pub async fn apply(
    ctx: &Context,
    owner: &Owner,
    resources: Resources<Prepared>,
) -> Result<Resources<Applied>, ApplyError> {
    let world = &ctx.world;
    let Objects {
        service_accounts,
        config_maps,
        secrets,
        services,
        network_policies,
        disruption_budgets,
        volume_claims,
        stateful_sets,
        deployments,
    } = resources.objects;
    Ok(Resources::applied(Objects {
        service_accounts: each(ctx, owner, &world.service_accounts, service_accounts).await?,
        config_maps: each(ctx, owner, &world.config_maps, config_maps).await?,
        secrets: each(ctx, owner, &world.secrets, secrets).await?,
        services: each(ctx, owner, &world.services, services).await?,
        network_policies: each(ctx, owner, &world.network_policies, network_policies).await?,
        disruption_budgets: budgets(ctx, owner, disruption_budgets).await?,
        volume_claims: each(ctx, owner, &world.volume_claims, volume_claims).await?,
        stateful_sets: each(ctx, owner, &world.stateful_sets, stateful_sets).await?,
        deployments: each(ctx, owner, &world.deployments, deployments).await?,
    }))
}

async fn each<K: Child>(
    ctx: &Context,
    owner: &Owner,
    live: &dyn Live<K>,
    declared: Vec<K>,
) -> Result<Vec<K>, ApplyError> {
    let mut applied = Vec::with_capacity(declared.len());
    for object in &declared {
        let written = ctx.applier.apply(owner, live, object).await?;
        applied.push((*written.object).clone());
    }
    Ok(applied)
}

/// A budget may belong to all resources of a namespace instead of to one.
async fn budgets(
    ctx: &Context,
    owner: &Owner,
    declared: Vec<PodDisruptionBudget>,
) -> Result<Vec<PodDisruptionBudget>, ApplyError> {
    let (shared, own): (Vec<_>, Vec<_>) =
        declared.into_iter().partition(|budget| budget.metadata.owner_references.is_none());
    let mut applied = each(ctx, owner, &ctx.world.disruption_budgets, own).await?;
    for budget in shared {
        let name = budget.metadata.name.clone().unwrap_or_default();
        let owner = Owner::shared(&owner.namespace, &name);
        applied.extend(each(ctx, &owner, &ctx.world.disruption_budgets, vec![budget]).await?);
    }
    Ok(applied)
}
