//! The services of a contract: for each member hospital its key pair, its package, its pod and what lies around it.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{ChaincodeFacts, Member};
use crate::context::Context;
use crate::key_pairs::{self, Issued, Slot, Want};
use crate::keys::Replaceable;
use crate::nodes::Ground;
use crate::outcome::ReconcileError;
use crate::{children, credentials, node};
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_desired::plan::{ContractPlan, material};
use ehrnet_desired::{self as desired, names, secret};
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
pub async fn provide(ctx: &Context, facts: &ChaincodeFacts) -> Result<Result<Vec<Service>, Finding>, ReconcileError> {
    let Some(owner) = Owner::of(&*facts.chaincode) else {
        return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID")));
    };
    let (mut services, mut plans) = (Vec::new(), Vec::new());
    for member in &facts.members {
        let ground = match &member.ground {
            Ok(ground) => ground,
            Err(finding) => return Ok(Err(finding.clone())),
        };
        match service(ctx, facts, &owner, member, ground).await? {
            Ok((service, plan)) => {
                services.push(service);
                plans.push(plan);
            }
            Err(finding) => return Ok(Err(finding)),
        }
    }
    children::apply(ctx, &owner, desired::chaincode::resources(&plans)).await?;
    Ok(Ok(services))
}

async fn service(
    ctx: &Context,
    facts: &ChaincodeFacts,
    owner: &Owner,
    member: &Member,
    ground: &Ground,
) -> Result<Result<(Service, ContractPlan), Finding>, ReconcileError> {
    let client = match credentials::of_chaincode_client(ctx, ground).await? {
        Ok(client) => client,
        Err(finding) => return Ok(Err(finding)),
    };
    let mut plan = match ContractPlan::new(&facts.chaincode, &ground.hospital, &ctx.site) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
    };
    let issuer = &ground.authorities.tls;
    let known = facts.chaincode.status.iter().flat_map(|status| &status.hospitals);
    let existed = known.into_iter().any(|known| known.name == member.name && known.tls.is_some());
    let slot = Slot { owner, name: &names::node_tls(&plan.name()), existed };
    let want = Want { leaf: &plan.tls_leaf(), issuer, window: ground.window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::contract_tls(&plan, certificate, key, issuer.certificate());
    let tls = match key_pairs::leaf(ctx, &slot, &want, &build).await? {
        Ok(tls) => tls,
        Err(finding) => return Ok(Err(finding)),
    };
    let connection = desired::chaincode::connection(&plan, issuer.certificate(), &client.certificate);
    let package = match Package::ccaas(&facts.name(), &connection, &BTreeMap::new()) {
        Ok(package) => package,
        Err(error) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
    };
    plan.members = facts.msps().into_values().collect::<BTreeSet<_>>().into_iter().collect();
    plan.package_id = package.id.clone();
    plan.material = material([tls.pair.certificate.as_str(), issuer.certificate().pem()]);
    Ok(Ok((Service { hospital: member.name.clone(), package, tls }, plan)))
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
    node::deployment_finding(&ctx.world, &facts.namespace, &name)
}
