//! The contract, reached through the gateway of a member hospital and as its admin; and the agreement of the others.
//!
//! Exception to "facts are gathered first": the other members are looked up after the ledger has answered
//! ([`Contract::member_now`]), and only where a policy is put or withdrawn. The ledger is asked every few seconds, and nearly
//! always holds what is declared: gathering every member's keys each time would be for nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;

use crate::authorities::{self, Authorities};
use crate::chaincode::definition;
use crate::context::Context;
use crate::ledger::{self, Admin};
use crate::pods;
use ehrnet_api::conditions::{READY, Reason};
use ehrnet_api::{Chaincode, Channel, Hospital, Peer};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::{LedgerError, gateway};
use ehrnet_messages::{ApprovePolicy, Code, Function, PolicyVersion, PutPolicy, WithdrawPolicy};
use ehrnet_status::Finding;

/// How long the peer that puts a policy may take to hear of an approval.
const HEARD: Duration = Duration::from_secs(10);

/// What is known of the way to a contract.
pub struct ContractFacts {
    channel: Arc<Channel>,
    /// Name of the contract on the ledger.
    chaincode: String,
    /// The member hospital that asks and puts.
    member: MemberFacts,
}

/// What is known of the way to a member hospital.
struct MemberFacts {
    hospital: Arc<Hospital>,
    authorities: Authorities,
    /// Who the operator is to its nodes.
    admin: Admin,
    /// A peer of it that has the channel and answers.
    peer: String,
}

impl ContractFacts {
    /// Through the first member hospital whose admin and peer are at hand. Gathers from the caches; only CA Secrets of users
    /// are read from the cluster.
    pub async fn gather(ctx: &Context, chaincode: &Chaincode) -> Result<Self, Finding> {
        let namespace = chaincode.namespace().unwrap_or_default();
        let ready = chaincode.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == READY);
        if ready.is_none_or(|ready| ready.status != "True") {
            return Err(waiting(format!("Chaincode {} is not ready: see its conditions", chaincode.name_any())));
        }
        let channel = ctx.world.channels.get(&namespace, &chaincode.spec.channel_ref.name);
        let channel = channel.ok_or_else(|| waiting(format!("Channel {} is gone", chaincode.spec.channel_ref.name)))?;
        let mut obstacle = None;
        for hospital in &channel.spec.members {
            match MemberFacts::gather(ctx, &channel, hospital).await {
                Ok(member) => return Ok(Self { chaincode: definition::name(chaincode), channel, member }),
                Err(finding) => obstacle = obstacle.or(Some(finding)),
            }
        }
        Err(obstacle.unwrap_or_else(|| waiting("the channel has no members".into())))
    }
}

impl MemberFacts {
    async fn gather(ctx: &Context, channel: &Channel, hospital: &str) -> Result<Self, Finding> {
        let namespace = channel.namespace().unwrap_or_default();
        let found = ctx.world.hospitals.get(&namespace, hospital);
        let found = found.ok_or_else(|| waiting(format!("Hospital {hospital} does not exist")))?;
        let usable = |peer: &Arc<Peer>| {
            peer.spec.hospital_ref.name == hospital
                && peer.status.as_ref().is_some_and(|status| status.has_channel(&channel.spec.channel_name))
                && pods::is_ready(&ctx.world, &namespace, &peer.name_any())
        };
        let peer = ctx.world.peers.list(&namespace).into_iter().find(usable);
        let peer = peer.ok_or_else(|| waiting(format!("no peer of Hospital {hospital} answers")))?;
        let authorities = authorities::of_hospital(ctx, &found).await?;
        let admin = ledger::admin(ctx, &found)?;
        Ok(Self { hospital: found, authorities, admin, peer: peer.name_any() })
    }

    fn gateway(&self, ctx: &Context) -> Result<gateway::Client, Finding> {
        let namespace = self.hospital.namespace().unwrap_or_default();
        ledger::gateway(&ctx.network, &namespace, &self.peer, &self.authorities, self.admin.clone())
    }
}

/// The contract of one Chaincode.
pub struct Contract<'a> {
    ctx: &'a Context,
    facts: &'a ContractFacts,
    client: gateway::Client,
}

impl<'a> Contract<'a> {
    /// The contract as it is known.
    pub fn of(ctx: &'a Context, facts: &'a ContractFacts) -> Result<Self, Finding> {
        Ok(Self { client: facts.member.gateway(ctx)?, ctx, facts })
    }

    /// Asks.
    pub async fn ask<F: Function>(&self, function: &F) -> Result<F::Output, Finding> {
        let answer = async { read::<F>(&self.client.evaluate(&self.call(function)?, &[]).await?) };
        answer.await.map_err(|error| problem(&error))
    }

    /// Puts a policy of this digest, once the other members have agreed to it.
    pub async fn put(&self, put: &PutPolicy, digest: String) -> Result<PolicyVersion, Refusal> {
        self.agree(&ApprovePolicy { name: put.name.clone(), digest, replaces: put.replaces }).await?;
        Ok(self.tell(&self.client, put).await?)
    }

    /// Withdraws a policy, once the other members have agreed to it.
    pub async fn withdraw(&self, withdraw: &WithdrawPolicy) -> Result<PolicyVersion, Refusal> {
        let WithdrawPolicy { name, replaces } = withdraw.clone();
        self.agree(&ApprovePolicy { name, digest: String::new(), replaces }).await?;
        Ok(self.tell(&self.client, withdraw).await?)
    }

    /// Has the other members agree, each as its own admin and through its own peer. Those that cannot are left out as long
    /// as more than half of all agree.
    async fn agree(&self, approval: &ApprovePolicy) -> Result<(), Refusal> {
        let members = &self.facts.channel.spec.members;
        let asking = self.facts.member.hospital.name_any();
        let others = members.iter().filter(|member| **member != asking);
        let approvals = join_all(others.map(|hospital| self.approve(hospital, approval))).await;
        let agreed = 1 + approvals.iter().filter(|approval| approval.is_ok()).count();
        match approvals.into_iter().find_map(Result::err) {
            Some(refusal) if agreed <= members.len() / 2 => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Ends when the peer that puts has heard of the approval, too: it would not count for it before. What the hospital has
    /// agreed to already is not sent again, however long others take to agree.
    async fn approve(&self, hospital: &str, approval: &ApprovePolicy) -> Result<(), Refusal> {
        let client = self.member_now(hospital).await.map_err(Refusal::Waiting)?;
        let known = read::<ApprovePolicy>(&client.evaluate(&self.call(approval)?, &[]).await?)?;
        if known.already {
            return Ok(());
        }
        let approved = client.submit(&self.call(approval)?, &[]).await?;
        self.client.commit_status(&self.facts.channel.spec.channel_name, &approved.tx_id, HEARD).await?;
        Ok(())
    }

    /// The gateway of another member, looked up once it is known that its agreement is needed.
    async fn member_now(&self, hospital: &str) -> Result<gateway::Client, Finding> {
        MemberFacts::gather(self.ctx, &self.facts.channel, hospital).await?.gateway(self.ctx)
    }

    fn call<F: Function>(&self, function: &F) -> Result<Call<'_>, LedgerError> {
        let arguments = function.arguments().map_err(|error| LedgerError::Invalid(error.to_string()))?;
        Ok(Call::new(&self.facts.channel.spec.channel_name, &self.facts.chaincode, arguments))
    }

    async fn tell<F: Function>(&self, client: &gateway::Client, function: &F) -> Result<F::Output, LedgerError> {
        read::<F>(&client.submit(&self.call(function)?, &[]).await?.result)
    }
}

/// Why the ledger did not take a policy.
pub enum Refusal {
    /// A hospital whose agreement is needed cannot give it yet.
    Waiting(Finding),
    /// The ledger's own.
    Ledger(LedgerError),
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Waiting(finding) => finding,
            Refusal::Ledger(error) => problem(&error),
        }
    }
}

fn waiting(message: String) -> Finding {
    Finding::unknown(Reason::WaitingForDependency, message)
}

fn read<F: Function>(answer: &[u8]) -> Result<F::Output, LedgerError> {
    serde_json::from_slice(answer)
        .map_err(|error| LedgerError::Invalid(format!("the contract's answer to {} is not readable: {error}", F::NAME)))
}

fn problem(error: &LedgerError) -> Finding {
    let text = error.to_string();
    if error.is_disagreement() {
        let message =
            format!("the contract answers differently at two hospitals: they must run the same image ({text})");
        return Finding::not(Reason::EndorsersDisagree, message);
    }
    // Each has agreed at its own peer, and another peer may be a block behind; peers may not know each other yet.
    if Code::find(&text) == Some(Code::NotAgreed) || error.lacks_endorsers() {
        return Finding::unknown(Reason::Progressing, text);
    }
    ledger::finding("policy on the ledger", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> LedgerError {
        LedgerError::Refused { node: "p:7051".into(), status: 400, message: message.into() }
    }

    #[test]
    fn contracts_that_answer_differently_are_named_as_such() {
        let mismatch = refused("failed to assemble transaction: ProposalResponsePayloads do not match");
        assert_eq!(problem(&mismatch).reason, Reason::EndorsersDisagree);
        let endorsers = vec![vec!["a:7051".to_owned()], vec!["b:7051".to_owned()]];
        assert_eq!(problem(&LedgerError::Disagreement { endorsers }).reason, Reason::EndorsersDisagree);
        assert_eq!(problem(&refused("access denied")).reason, Reason::LedgerRefused);
    }

    #[test]
    fn peers_that_do_not_know_each_other_yet_are_waited_for() {
        let unknown = refused("no combination of peers can be derived which satisfy the endorsement policy: none");
        assert_eq!(problem(&unknown).reason, Reason::Progressing);
    }

    #[test]
    fn an_agreement_that_a_peer_has_not_heard_of_is_waited_for() {
        assert_eq!(problem(&refused("policy p, version 1: [NotAgreed] 1 of 2")).reason, Reason::Progressing);
    }
}
