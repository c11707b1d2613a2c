//! Writes everything that one resource stands for: what pods need before the pods.

use futures::future::join_all;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::context::Context;
use super::error::StepError;
use super::writer::Writer;
use ehrnet_apply::{Child, Live, Owner};
use ehrnet_desired::Objects;

/// Writes what pods mount and what stands around them, all at the same time, and then what makes the pods.
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
    let around = futures::join!(
        each(writer, owner, &world.service_accounts, &service_accounts),
        each(writer, owner, &world.config_maps, &config_maps),
        each(writer, owner, &world.secrets, &secrets),
        each(writer, owner, &world.services, &services),
        each(writer, owner, &world.network_policies, &network_policies),
        budgets(ctx, writer, owner, &disruption_budgets),
        each(writer, owner, &world.volume_claims, &volume_claims),
    );
    <[_; 7]>::from(around).into_iter().collect::<Result<(), StepError>>()?;
    each(writer, owner, &world.stateful_sets, &stateful_sets).await?;
    each(writer, owner, &world.deployments, &deployments).await
}

async fn each<K: Child>(
    writer: &Writer<'_>,
    owner: &Owner,
    live: &dyn Live<K>,
    declared: &[K],
) -> Result<(), StepError> {
    // Each is tried, also where another one cannot be written.
    let written = join_all(declared.iter().map(|object| writer.apply(owner, live, object))).await;
    written.into_iter().try_for_each(|written| Ok(written.map(drop)?))
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
