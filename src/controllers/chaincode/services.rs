//! The services of a contract: for each member hospital its key pair, its package, its pod and what lies around it.
//!
//! Exception to "facts are gathered first": how the pods are doing is read after the ledger has answered ([`pods_now`]).
//! They start while hospitals install and approve, and what was gathered before would tell of it one pass late.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::facts::{ChaincodeFacts, Member};
use crate::context::Context;
use crate::error::StepError;
use crate::key_pairs::{self, Issued, Want};
use crate::keys::Replaceable;
use crate::writer::Writer;
use crate::{credentials, pods, write};
use ehrnet_api::conditions::Reason;
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
        let (service, plan) = service(ctx, writer, facts, member).await?;
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
    member: &Member,
) -> Result<(Service, (ContractPlan, ContractRelease)), StepError> {
    let dependencies = member.dependencies.as_ref().map_err(Clone::clone)?;
    let slots = member.slots.as_ref().map_err(Clone::clone)?;
    let client = credentials::of_chaincode_client(ctx, writer, &slots.client, dependencies).await?;
    let plan = ContractPlan::new(&facts.chaincode, &dependencies.hospital, &ctx.site, &facts.msp_ids())?;
    let issuer = &dependencies.authorities.tls;
    let want = Want { leaf: &plan.tls_leaf(), issuer, window: dependencies.window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::contract_tls(&plan, certificate, key, issuer.certificate());
    let tls = key_pairs::leaf(ctx, writer, &slots.tls, &want, &build).await?;
    let connection = desired::chaincode::connection(&plan, issuer.certificate(), &client.certificate);
    let package = Package::ccaas(&facts.name(), &connection, &BTreeMap::new())
        .map_err(|error| Finding::not(Reason::InvalidSpec, error.to_string()))?;
    let release = ContractRelease {
        package_id: package.id.clone(),
        material: Material::of([tls.pair.certificate.as_str(), issuer.certificate().pem()]),
    };
    Ok((Service { hospital: member.name.clone(), package, tls }, (plan, release)))
}

/// How the services are doing now, by hospital.
pub type Pods = BTreeMap<String, Finding>;

/// Reads how the pods of all services are doing, once the ledger has answered.
pub fn pods_now(ctx: &Context, facts: &ChaincodeFacts) -> Pods {
    let chaincode = facts.chaincode.name_any();
    let of_hospital = |member: &Member| {
        let deployment = names::contract(&chaincode, &member.name);
        (member.name.clone(), pods::deployment_finding(&ctx.world, &facts.namespace, &deployment))
    };
    facts.members.iter().map(of_hospital).collect()
}

/// Whether the pods of all services run, and what keeps the first that does not. Pure.
pub fn running(facts: &ChaincodeFacts, pods: &Pods) -> Finding {
    let mut findings = facts.members.iter().filter_map(|member| pods.get(&member.name));
    findings
        .find(|finding| !finding.holds())
        .cloned()
        .unwrap_or_else(|| Finding::good(format!("{} services are ready", facts.members.len())))
}
