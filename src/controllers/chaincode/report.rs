//! What a contract's status says. Pure look-ups.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::View;
use super::facts::{ChaincodeFacts, Member};
use super::{definition, services};
use crate::context::Context;
use ehrnet_api::ChaincodeStatus;
use ehrnet_api::chaincode::ChaincodeHospital;

/// The whole status. What could not be asked this time keeps its last known value.
pub fn status(ctx: &Context, facts: &ChaincodeFacts, view: &View, conditions: Vec<Condition>) -> ChaincodeStatus {
    let before = facts.chaincode.status.clone().unwrap_or_default();
    let in_force = view.agreement.as_ref().and_then(|agreement| agreement.in_force.as_ref());
    let hospitals: Vec<_> = match &view.agreement {
        Some(_) => facts.members.iter().map(|member| hospital(ctx, facts, view, member)).collect(),
        None => before.hospitals,
    };
    let approved = hospitals.iter().filter(|hospital| hospital.approved).count();
    ChaincodeStatus {
        observed_generation: facts.chaincode.metadata.generation,
        conditions,
        sequence: in_force.map(|in_force| in_force.recorded.sequence).or(before.sequence),
        version: in_force.map(|in_force| in_force.recorded.version.clone()).or(before.version),
        endorsement: Some(definition::endorsement_in_words(facts)),
        approvals: (!hospitals.is_empty()).then(|| format!("{approved}/{}", hospitals.len())),
        hospitals,
    }
}

fn hospital(ctx: &Context, facts: &ChaincodeFacts, view: &View, member: &Member) -> ChaincodeHospital {
    let services = view.services.iter().flatten().flatten();
    let service = services.into_iter().find(|service| service.hospital == member.name);
    let agreement = view.agreement.as_ref();
    let known =
        facts.chaincode.status.iter().flat_map(|status| &status.hospitals).find(|known| known.name == member.name);
    let asked = agreement.and_then(|agreement| agreement.approvals.get(&member.name).copied());
    ChaincodeHospital {
        name: member.name.clone(),
        package_id: service.map(|service| service.package.id.clone()),
        installed: agreement.and_then(|agreement| agreement.peers.get(&member.name).cloned()).unwrap_or_default(),
        approved: asked.unwrap_or_else(|| known.is_some_and(|known| known.approved)),
        ready: services::of_hospital(ctx, facts, &member.name).holds(),
        tls: service.map(|service| service.tls.status()),
    }
}
