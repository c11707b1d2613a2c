//! The services of a contract: for each member hospital its key pair, its package, its pod and what lies around it.

use std::collections::BTreeMap;

use super::facts::{ChaincodeFacts, Member};
use crate::context::Context;
use crate::error::StepError;
use crate::key_pairs::{self, Issued, Slot, Want};
use crate::keys::Replaceable;
use crate::writer::Writer;
use crate::{credentials, pods, write};
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_desired::{self as desired, ContractPlan, ContractRelease, Material, names, secret};
use ehrnet_fabric::package::Package;
use ehrnet_status::Finding;

/// A contract at one hospital.
pub struct Service {
    /// Name of the Hospital.
    pub hospital: String,
    /// What its peers install.
    pub package: Package,
    /// TLS certificate of its server.
    pub tls: Issued,
}

/// Makes the services of all member hospitals, or says what keeps the first of them.
pub async fn provide(ctx: &Context, writer: &Writer<'_>, facts: &ChaincodeFacts) -> Result<Vec<Service>, StepError> {
    let owner = crate::owner(&*facts.chaincode)?;
    let (mut services, mut plans) = (Vec::new(), Vec::new());
    for member in &facts.members {
        let (service, plan) = service(ctx, writer, facts, &owner, member).await?;
        services.push(service);
        plans.push(plan);
    }
    write::objects(ctx, writer, &owner, desired::chaincode::resources(&plans)).await?;
    Ok(services)
}

async fn service(
    ctx: &Context,
    writer: &Writer<'_>,
    facts: &ChaincodeFacts,
    owner: &Owner,
    member: &Member,
) -> Result<(Service, (ContractPlan, ContractRelease)), StepError> {
    let dependencies = member.dependencies.as_ref().map_err(Clone::clone)?;
    let client = credentials::of_chaincode_client(ctx, writer, dependencies).await?;
    let plan = ContractPlan::new(&facts.chaincode, &dependencies.hospital, &ctx.site, &facts.msp_ids())?;
    let issuer = &dependencies.authorities.tls;
    let known = facts.chaincode.status.iter().flat_map(|status| &status.hospitals);
    let existed = known.into_iter().any(|known| known.name == member.name && known.tls.is_some());
    let slot = Slot { owner, name: &names::node_tls(&plan.name()), existed };
    let want = Want { leaf: &plan.tls_leaf(), issuer, window: dependencies.window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::contract_tls(&plan, certificate, key, issuer.certificate());
    let tls = key_pairs::leaf(ctx, writer, &slot, &want, &build).await?;
    let connection = desired::chaincode::connection(&plan, issuer.certificate(), &client.certificate);
    let package = Package::ccaas(&facts.name(), &connection, &BTreeMap::new())
        .map_err(|error| Finding::not(Reason::InvalidSpec, error.to_string()))?;
    let release = ContractRelease {
        package_id: package.id.clone(),
        material: Material::of([tls.pair.certificate.as_str(), issuer.certificate().pem()]),
    };
    Ok((Service { hospital: member.name.clone(), package, tls }, (plan, release)))
}

/// Whether the pods of all services run, and what keeps the first that does not.
pub fn running(ctx: &Context, facts: &ChaincodeFacts) -> Finding {
    let findings = facts.members.iter().map(|member| of_hospital(ctx, facts, &member.name));
    findings
        .into_iter()
        .find(|finding| !finding.holds())
        .unwrap_or_else(|| Finding::good(format!("{} services are ready", facts.members.len())))
}

/// How the service of a hospital is doing.
pub fn of_hospital(ctx: &Context, facts: &ChaincodeFacts, hospital: &str) -> Finding {
    let name = names::contract(&facts.chaincode.metadata.name.clone().unwrap_or_default(), hospital);
    pods::deployment_finding(&ctx.world, &facts.namespace, &name)
}
