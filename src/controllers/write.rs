//! Writes everything that one resource stands for, in order.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::context::Context;
use super::error::StepError;
use super::writer::Writer;
use ehrnet_apply::{Child, Live, Owner};
use ehrnet_desired::Objects;

/// Writes all objects in the order of the fields: what a pod mounts before the pod.
pub async fn objects(ctx: &Context, writer: &Writer<'_>, owner: &Owner, objects: Objects) -> Result<(), StepError> {
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
    } = objects;
    each(writer, owner, &world.service_accounts, &service_accounts).await?;
    each(writer, owner, &world.config_maps, &config_maps).await?;
    each(writer, owner, &world.secrets, &secrets).await?;
    each(writer, owner, &world.services, &services).await?;
    each(writer, owner, &world.network_policies, &network_policies).await?;
    budgets(ctx, writer, owner, &disruption_budgets).await?;
    each(writer, owner, &world.volume_claims, &volume_claims).await?;
    each(writer, owner, &world.stateful_sets, &stateful_sets).await?;
    each(writer, owner, &world.deployments, &deployments).await
}

async fn each<K: Child>(
    writer: &Writer<'_>,
    owner: &Owner,
    live: &dyn Live<K>,
    declared: &[K],
) -> Result<(), StepError> {
    for object in declared {
        writer.apply(owner, live, object).await?;
    }
    Ok(())
}

/// A budget may belong to all resources of a namespace instead of to one.
async fn budgets(
    ctx: &Context,
    writer: &Writer<'_>,
    owner: &Owner,
    declared: &[PodDisruptionBudget],
) -> Result<(), StepError> {
    for budget in declared {
        let shared = budget.metadata.owner_references.is_none().then(|| {
            let name = budget.metadata.name.as_deref().unwrap_or_default();
            Owner::shared(&owner.namespace, name)
        });
        writer.apply(shared.as_ref().unwrap_or(owner), &ctx.world.disruption_budgets, budget).await?;
    }
    Ok(())
}
