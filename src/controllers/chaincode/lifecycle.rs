//! The agreement on the ledger: installed at each peer, approved by each hospital, committed once.
//!
//! Every verb reads first and reads back, so a pass over a contract that is in force writes nothing. A hospital that
//! lags behind does not keep the others from going on.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::facts::{ChaincodeFacts, Member};
use super::services::Service;
use crate::context::Context;
use crate::{ledger, together};
use ehrnet_api::conditions::Reason;
use ehrnet_fabric::chaincode::ChaincodeDefinition;
use ehrnet_fabric::lifecycle::{
    self, CommitOutcome, Committed, Endorser, Readiness, ensure_approved, ensure_committed, ensure_installed,
};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::{LedgerError, orderer, peer};
use ehrnet_status::{Finding, State};

/// How far the hospitals have agreed.
pub struct Agreement {
    /// Whether every peer of the channel has its package.
    pub installed: Finding,
    /// Whether every hospital has approved.
    pub approved: Finding,
    /// Whether the definition is in force.
    pub committed: Finding,
    /// The definition in force, if it could be read and there is one.
    pub in_force: Option<Committed>,
    /// Peers with the package, by hospital.
    pub peers: BTreeMap<String, Vec<String>>,
    /// Whether each hospital that could be asked has approved the declared definition with its package.
    pub approvals: BTreeMap<String, bool>,
}

/// A hospital with the clients of its peers.
struct Party<'a> {
    member: &'a Member,
    service: &'a Service,
    msp_id: String,
    peers: Vec<(String, peer::Client)>,
    /// Why not all of its peers can be asked.
    obstacle: Option<Finding>,
}

/// Takes all steps that can be taken now.
pub async fn agree(
    ctx: &Context,
    facts: &ChaincodeFacts,
    definition: &ChaincodeDefinition,
    services: &[Service],
) -> Agreement {
    let mut parties: Vec<_> =
        facts.members.iter().zip(services).filter_map(|(member, service)| party(ctx, facts, member, service)).collect();
    join_all(parties.iter_mut().map(install)).await;
    let installed = first_obstacle(&parties)
        .unwrap_or_else(|| Finding::good(format!("{} peers have the package", count(&parties))));
    let peers = parties.iter().map(|party| (party.member.name.clone(), names(party))).collect();
    let mut agreement = Agreement {
        installed,
        approved: Finding::comes_after("the package is installed"),
        committed: Finding::comes_after("the hospitals have approved"),
        in_force: None,
        peers,
        approvals: BTreeMap::new(),
    };
    if let Err(finding) = negotiate(ctx, facts, definition, &parties, &mut agreement).await {
        agreement.committed = finding;
    }
    agreement
}

/// Approvals, then the commit. An error is what keeps the commit.
async fn negotiate(
    ctx: &Context,
    facts: &ChaincodeFacts,
    definition: &ChaincodeDefinition,
    parties: &[Party<'_>],
    agreement: &mut Agreement,
) -> Result<(), Finding> {
    let Some((_, first)) = parties.iter().find_map(|party| party.peers.first()) else { return Ok(()) };
    let channel = facts.channel_name();
    let known = lifecycle::committed(first, channel, &definition.name).await.map_err(|error| problem(&error))?;
    let sequence = lifecycle::next_sequence(definition, known.as_ref());
    if known.is_none()
        && let Some(finding) = hold(facts, parties)
    {
        agreement.approved = finding;
        return Ok(());
    }
    agreement.in_force = known;
    // None are needed where all is done.
    let orderers = orderers(ctx, facts)?;
    let orderers: Vec<&orderer::Client> = orderers.iter().collect();
    let ready = parties.iter().filter(|party| !party.peers.is_empty());
    let answers = join_all(ready.map(|party| approve(party, &orderers, channel, definition, sequence))).await;
    let mut obstacle = None;
    for (hospital, answer) in answers {
        match answer {
            Ok(()) => drop(agreement.approvals.insert(hospital, true)),
            Err(finding) => {
                if finding.state == State::False {
                    agreement.approvals.insert(hospital, false);
                }
                obstacle = obstacle.or(Some(finding));
            }
        }
    }
    let approving: Vec<_> = agreement.approvals.iter().filter(|(_, yes)| **yes).map(|(name, _)| name.clone()).collect();
    let waiting = || parties.iter().find(|party| party.peers.is_empty()).and_then(|party| party.obstacle.clone());
    agreement.approved = obstacle
        .or_else(waiting)
        .unwrap_or_else(|| Finding::good(format!("approved as sequence {sequence} by {}", approving.join(", "))));
    let endorsers: Vec<_> = parties
        .iter()
        .filter(|party| approving.contains(&party.member.name))
        .filter_map(|party| Some(Endorser { msp_id: &party.msp_id, peer: &party.peers.first()?.1 }))
        .collect();
    if endorsers.is_empty() {
        return Ok(());
    }
    let outcome = ensure_committed(&endorsers, &orderers, channel, definition, sequence).await;
    agreement.committed = match outcome.map_err(|error| problem(&error))? {
        CommitOutcome::Committed(in_force) => {
            let sequence = in_force.recorded.sequence;
            agreement.in_force = Some(in_force);
            Finding::good(format!("definition {sequence} is in force"))
        }
        CommitOutcome::NotReady(readiness) => short(&readiness),
    };
    Ok(())
}

/// What the first approvals still wait for: where all hospitals approve at once, one block holds all approvals. A hospital
/// whose peer does not come keeps the others for a while only.
fn hold(facts: &ChaincodeFacts, parties: &[Party<'_>]) -> Option<Finding> {
    let awaited = parties.iter().find(|party| party.peers.is_empty() && party.member.has_peers)?;
    together::waits(&*facts.chaincode, facts.now).then(|| awaited.obstacle.clone()).flatten()
}

fn party<'a>(ctx: &Context, facts: &ChaincodeFacts, member: &'a Member, service: &'a Service) -> Option<Party<'a>> {
    let dependencies = member.dependencies.as_ref().ok()?;
    let (mut peers, mut obstacle) = (Vec::new(), None);
    for name in &member.peers {
        match client(ctx, facts, member, name) {
            Ok(client) => peers.push((name.clone(), client)),
            Err(finding) => obstacle = obstacle.or(Some(finding)),
        }
    }
    if member.peers.is_empty() {
        obstacle = Some(no_peer(facts, member));
    }
    Some(Party { member, service, msp_id: dependencies.hospital.spec.msp_id.clone(), peers, obstacle })
}

fn client(ctx: &Context, facts: &ChaincodeFacts, member: &Member, peer: &str) -> Result<peer::Client, Finding> {
    let dependencies = member.dependencies.as_ref().map_err(Clone::clone)?;
    ledger::peer(&ctx.network, &facts.namespace, peer, &dependencies.authorities, member.admin.clone()?)
}

fn no_peer(facts: &ChaincodeFacts, member: &Member) -> Finding {
    let channel = &facts.chaincode.spec.channel_ref.name;
    if member.has_peers {
        let message = format!("no peer of Hospital {} answers for Channel {channel} yet", member.name);
        return Finding::not(Reason::WaitingForDependency, message);
    }
    let message = format!("Hospital {} has no Peer with Channel {channel} in its spec.channels yet", member.name);
    Finding::not(Reason::WaitingForReference, message)
}

/// Installs the package at each peer; those that have it stay in the party.
async fn install(party: &mut Party<'_>) {
    let clients = std::mem::take(&mut party.peers);
    let answers = join_all(clients.iter().map(|(_, client)| ensure_installed(client, &party.service.package))).await;
    for ((name, client), answer) in clients.into_iter().zip(answers) {
        match answer {
            Ok(_) => party.peers.push((name, client)),
            Err(error) => {
                party.obstacle.get_or_insert(ledger::finding(&format!("Peer {name}"), &error));
            }
        }
    }
}

async fn approve(
    party: &Party<'_>,
    orderers: &[&orderer::Client],
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> (String, Result<(), Finding>) {
    let hospital = &party.member.name;
    let package = Some(party.service.package.id.as_str());
    let Some((_, peer)) = party.peers.first() else {
        return (hospital.clone(), Err(Finding::unknown(Reason::Progressing, "no peer to approve with")));
    };
    let answer = ensure_approved(peer, orderers, channel, definition, sequence, package).await;
    let answer = answer.map(drop).map_err(|error| match orderers.is_empty() {
        true => Finding::unknown(Reason::WaitingForDependency, "no orderer of the channel is ready"),
        false => ledger::finding(&format!("approval of Hospital {hospital}"), &error),
    });
    (hospital.clone(), answer)
}

/// Clients of the channel's orderers that run.
fn orderers(ctx: &Context, facts: &ChaincodeFacts) -> Result<Vec<orderer::Client>, Finding> {
    let Some(channel) = &facts.channel else { return Ok(Vec::new()) };
    let ready = channel.orderers.iter().filter(|orderer| orderer.ready);
    ready.map(|orderer| ledger::orderer(&ctx.network, channel, orderer)).collect()
}

fn problem(error: &LedgerError) -> Finding {
    match error {
        // The peers have not all come to the same block: that passes.
        LedgerError::Disagreement { .. } => Finding::not(Reason::Progressing, error.to_string()),
        _ => ledger::finding("chaincode definition", error),
    }
}

/// What the channel's lifecycle policy still lacks, and which approvals are of something else.
fn short(readiness: &Readiness) -> Finding {
    let missing: Vec<_> =
        readiness.approvals.iter().filter(|(_, given)| !**given).map(|(msp, _)| msp.clone()).collect();
    let differing: Vec<_> = readiness
        .mismatches
        .iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(msp, items)| format!("{msp} approved another definition ({})", items.join(", ")))
        .collect();
    let message = format!("approvals are missing from {}", missing.join(", "));
    let parts: Vec<_> = std::iter::once(message).chain(differing).collect();
    Finding::not(Reason::SignaturesMissing, parts.join("; "))
}

fn first_obstacle(parties: &[Party<'_>]) -> Option<Finding> {
    parties.iter().find_map(|party| party.obstacle.clone())
}

fn names(party: &Party<'_>) -> Vec<String> {
    party.peers.iter().map(|(name, _)| name.clone()).collect()
}

fn count(parties: &[Party<'_>]) -> usize {
    parties.iter().map(|party| party.peers.len()).sum()
}

/// How long a service may take to answer: longer than its peer tries to connect (`dial_timeout` of the package), and no
/// longer, because other resources wait for their turn.
const PROBE: Duration = Duration::from_secs(12);
/// A function that the libraries for contracts answer, and that changes nothing; others answer that they do not know it.
const METADATA: &str = "org.hyperledger.fabric:GetMetadata";

/// Whether the service of each hospital answers its peers. A pod may run and still be no service of this contract: its
/// image may register under another package id.
pub async fn answering(ctx: &Context, facts: &ChaincodeFacts) -> Finding {
    let asked = facts.members.iter().filter_map(|member| Some((member, member.peers.first()?)));
    let findings = join_all(asked.map(|(member, peer)| answers(ctx, facts, member, peer))).await;
    findings
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_else(|| Finding::good(format!("{} services are ready", facts.members.len())))
}

async fn answers(ctx: &Context, facts: &ChaincodeFacts, member: &Member, peer: &str) -> Option<Finding> {
    let client = match client(ctx, facts, member, peer) {
        Ok(client) => client,
        Err(finding) => return Some(finding),
    };
    let name = facts.name();
    let (proposal, _) = client.proposal(&Call::new(facts.channel_name(), &name, vec![METADATA.into()]));
    let answer = tokio::time::timeout(PROBE, client.endorse(&proposal)).await;
    let error =
        answer.unwrap_or_else(|_| Err(LedgerError::unreachable(&name, format!("no answer within {PROBE:?}")))).err()?;
    unreached(&error).then(|| {
        let message = format!(
            "Peer {peer} does not reach the contract of Hospital {}: {error}; its image must serve the TLS files and register under the package id that its environment names",
            member.name
        );
        Finding::not(Reason::PodFailing, message)
    })
}

/// Whether an answer is the peer's own, for want of one from the contract (Fabric: `core/chaincode/chaincode_support.go`).
fn unreached(error: &LedgerError) -> bool {
    match error {
        LedgerError::Refused { message, .. } => {
            message.contains("could not launch chaincode") || message.contains("failed to execute transaction")
        }
        LedgerError::Unreachable { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_lacks_is_named_hospital_by_hospital() {
        let readiness = Readiness {
            approvals: [("ElmMSP", false), ("MercyMSP", true), ("OakMSP", false)]
                .map(|(m, a)| (m.to_owned(), a))
                .into(),
            mismatches: [("OakMSP".to_owned(), vec!["Collections".to_owned()]), ("ElmMSP".to_owned(), vec![])].into(),
        };
        let finding = short(&readiness);
        assert_eq!(finding.reason, Reason::SignaturesMissing);
        assert_eq!(
            finding.message,
            "approvals are missing from ElmMSP, OakMSP; OakMSP approved another definition (Collections)"
        );
    }

    #[test]
    fn a_contract_that_refuses_a_call_has_answered_it() {
        let refused =
            |message: &str| LedgerError::Refused { node: "p:7051".into(), status: 500, message: message.into() };
        assert!(!unreached(&refused("unknown function org.hyperledger.fabric:GetMetadata")));
        assert!(unreached(&refused(
            "error in simulation: failed to execute transaction 1a: could not launch chaincode ehr:2b: connection to ehr failed"
        )));
        assert!(unreached(&LedgerError::unreachable("p:7051", "no answer within 35s")));
    }
}
