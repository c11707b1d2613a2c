//! What a contract's status says. Pure.

use super::ChaincodeAnswer;
use super::definition;
use super::facts::{ChaincodeFacts, Member};
use super::services::Service;
use ehrnet_api::ChaincodeStatus;
use ehrnet_api::chaincode::ChaincodeHospital;
use ehrnet_status::Finding;

/// The whole status. What could not be asked this time keeps its last known value.
pub fn status(facts: &ChaincodeFacts, services: &[Service], answer: Option<&ChaincodeAnswer>) -> ChaincodeStatus {
    let before = facts.chaincode.status.clone().unwrap_or_default();
    let in_force = answer.and_then(|answer| answer.agreement.in_force.as_ref());
    let hospitals: Vec<_> = match answer {
        Some(answer) => facts.members.iter().map(|member| hospital(facts, services, answer, member)).collect(),
        None => before.hospitals,
    };
    let approved = hospitals.iter().filter(|hospital| hospital.approved).count();
    ChaincodeStatus {
        sequence: in_force.map(|in_force| in_force.recorded.sequence).or(before.sequence),
        version: in_force.map(|in_force| in_force.recorded.version.clone()).or(before.version),
        endorsement: Some(definition::endorsement_in_words(facts)),
        approvals: (!hospitals.is_empty()).then(|| format!("{approved}/{}", hospitals.len())),
        hospitals,
        ..ChaincodeStatus::default()
    }
}

fn hospital(
    facts: &ChaincodeFacts,
    services: &[Service],
    answer: &ChaincodeAnswer,
    member: &Member,
) -> ChaincodeHospital {
    let service = services.iter().find(|service| service.hospital == member.name);
    let known =
        facts.chaincode.status.iter().flat_map(|status| &status.hospitals).find(|known| known.name == member.name);
    let agreement = &answer.agreement;
    let asked = agreement.approvals.get(&member.name).copied();
    ChaincodeHospital {
        name: member.name.clone(),
        package_id: service.map(|service| service.package.id.clone()),
        installed: agreement.peers.get(&member.name).cloned().unwrap_or_default(),
        approved: asked.unwrap_or_else(|| known.is_some_and(|known| known.approved)),
        ready: answer.pods.get(&member.name).is_some_and(Finding::holds),
        tls: service.map(|service| service.tls.status()),
    }
}
