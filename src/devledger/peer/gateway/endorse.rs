//! `Endorse`: the first answer tells what the transaction touches; the policies of that tell who else has to endorse
//! (Fabric: `gateway/endorse.go`).

use std::sync::Arc;

use futures::future::join_all;
use tonic::{Code, Status};

use super::candidates::Candidate;
use super::plan::{Needs, may_see, protected};
use super::{Call, Gateway};
use crate::channel::bundle::Bundle;
use crate::peer::lifecycle::{self, definition::Definition, rules::reference};
use ehrnet_fabric::gateway::status;
use ehrnet_fabric::proposal::{Answer, transaction};
use ehrnet_fabric::proto::gateway::{EndorseRequest, EndorseResponse, ErrorDetail};
use ehrnet_fabric::proto::protos::{ChaincodeCall, ChaincodeInterest, ProposalResponse, SignedProposal};

const NO_PLAN: &str = "no combination of peers can be derived which satisfy the endorsement policy";

/// Endorsements being collected.
struct Collection {
    bundle: Arc<Bundle>,
    needs: Needs,
    have: Vec<(Candidate, ProposalResponse)>,
    untried: Vec<Candidate>,
    details: Vec<ErrorDetail>,
}

impl Gateway {
    pub(super) async fn endorsed(&self, request: EndorseRequest) -> Result<EndorseResponse, Status> {
        let proposal = request.proposed_transaction.filter(|proposal| !proposal.proposal_bytes.is_empty());
        let proposal = proposal
            .ok_or_else(|| Status::invalid_argument("the proposed transaction must contain a signed proposal"))?;
        let call = Call::read(&proposal).map_err(Status::invalid_argument)?;
        let candidates = self.candidates(&call.channel, &call.chaincode);
        let collection = if request.endorsing_organizations.is_empty() {
            self.by_policies(&call, &proposal, candidates).await?
        } else {
            self.by_organisations(&call, &request.endorsing_organizations, candidates)?
        };
        let answers = self.collect(collection, &proposal).await?;
        let prepared = transaction(&proposal, &answers)
            .map_err(|e| Status::aborted(format!("failed to assemble transaction: {e}")))?;
        Ok(EndorseResponse { prepared_transaction: Some(prepared) })
    }

    /// The client chose, and answers for the policies.
    fn by_organisations(
        &self,
        call: &Call,
        msp_ids: &[String],
        mut candidates: Vec<Candidate>,
    ) -> Result<Collection, Status> {
        candidates.retain(|candidate| msp_ids.contains(&candidate.msp_id));
        let is_missing = |msp_id: &&String| !candidates.iter().any(|candidate| candidate.msp_id == **msp_id);
        let missing: Vec<_> = msp_ids.iter().filter(is_missing).map(String::as_str).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Status::unavailable(format!("failed to find any endorsing peers for org(s): {missing}")));
        }
        let bundle = self.bundle(&call.channel)?;
        let mut distinct = msp_ids.to_vec();
        distinct.sort();
        distinct.dedup();
        let needs = Needs::of_organisations(&distinct);
        Ok(Collection { bundle, needs, have: vec![], untried: candidates, details: vec![] })
    }

    /// The gateway chooses, after a first endorsement, preferably of the own organisation.
    async fn by_policies(
        &self,
        call: &Call,
        proposal: &SignedProposal,
        mut candidates: Vec<Candidate>,
    ) -> Result<Collection, Status> {
        let untouched = ChaincodeInterest {
            chaincodes: vec![ChaincodeCall { name: call.chaincode.clone(), ..Default::default() }],
        };
        let own = &self.endorser.local.msp_id;
        let first = if candidates.iter().any(|candidate| candidate.msp_id == *own) {
            candidates.iter().filter(|candidate| candidate.msp_id == *own).cloned().collect()
        } else if call.has_transient {
            return Err(Status::failed_precondition(
                "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to protect \
                 transient data",
            ));
        } else {
            self.plan(call, &untouched, &[], &candidates)?;
            candidates.clone()
        };
        let (first, answer, details) = self.first(first, proposal).await?;
        let touched = answer.interest.clone().filter(|interest| !interest.chaincodes.is_empty());
        let touched = touched.unwrap_or(untouched);
        candidates.retain(|candidate| *candidate != first && !tried(&details, candidate));
        let (needs, untried) = self.protecting_plan(call, &touched, &first, &candidates)?;
        let bundle = self.bundle(&call.channel)?;
        Ok(Collection { bundle, needs, have: vec![(first, answer)], untried, details })
    }

    /// The first endorsement to be had.
    async fn first(
        &self,
        candidates: Vec<Candidate>,
        proposal: &SignedProposal,
    ) -> Result<(Candidate, ProposalResponse, Vec<ErrorDetail>), Status> {
        let mut details = Vec::new();
        for candidate in candidates {
            match self.ask(&candidate, proposal).await {
                Ok(answer) => return Ok((candidate, answer, details)),
                Err(refusal) => details.push(candidate.detail(refusal.message)),
            }
        }
        let message = "failed to endorse transaction, see attached details for more info";
        Err(status(Code::Aborted, message, details))
    }

    /// The plan; transient data that becomes part of collections is kept from those who are no members of them.
    fn protecting_plan(
        &self,
        call: &Call,
        touched: &ChaincodeInterest,
        first: &Candidate,
        others: &[Candidate],
    ) -> Result<(Needs, Vec<Candidate>), Status> {
        let first = std::slice::from_ref(first);
        if !call.has_transient {
            return self.plan(call, touched, first, others);
        }
        let (cautious, names) = protected(touched);
        let planned = self.plan(call, &cautious, first, others);
        if planned.is_err() && !names.is_empty() && self.plan(call, touched, first, others).is_ok() {
            return Err(Status::failed_precondition(format!(
                "requires endorsement from organisation(s) that are not in the distribution policy of the private data \
                 collection(s): [{}]; retry specifying trusted endorsing organizations to protect transient data",
                names.join(" ")
            )));
        }
        planned
    }

    /// What has to be met, and who of `others` may be asked for it besides those who have endorsed.
    fn plan(
        &self,
        call: &Call,
        interest: &ChaincodeInterest,
        have: &[Candidate],
        others: &[Candidate],
    ) -> Result<(Needs, Vec<Candidate>), Status> {
        let failed = |reason: &str| Status::failed_precondition(format!("{NO_PLAN}: {reason}"));
        let find = |name: &str| self.definition(&call.channel, name);
        let needs = Needs::of_interest(interest, find).map_err(|name| {
            failed(&format!("No metadata was found for chaincode {name} in channel {}", call.channel))
        })?;
        let others: Vec<_> = others.iter().filter(|other| may_see(&other.msp_id, interest, find)).cloned().collect();
        let msp_ids: Vec<_> = have.iter().chain(&others).map(|candidate| candidate.msp_id.as_str()).collect();
        match needs.choose(self.bundle(&call.channel)?.root(), &msp_ids) {
            Some(_) => Ok((needs, others)),
            None => Err(failed("no peer combination can satisfy the endorsement policy")),
        }
    }

    /// Asks until what is needed is there, or cannot be had any more.
    async fn collect(&self, mut from: Collection, proposal: &SignedProposal) -> Result<Vec<Answer>, Status> {
        loop {
            let known = from.have.iter().map(|(candidate, _)| candidate).chain(&from.untried);
            let msp_ids: Vec<_> = known.map(|candidate| candidate.msp_id.as_str()).collect();
            let Some(chosen) = from.needs.choose(from.bundle.root(), &msp_ids) else {
                let message = "failed to collect enough transaction endorsements, see attached details for more info";
                return Err(status(Code::Aborted, message, from.details));
            };
            let (have, missing): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|at| *at < from.have.len());
            if missing.is_empty() {
                let answer = |(candidate, response): &(Candidate, _)| Answer {
                    node: candidate.address.clone(),
                    response: Clone::clone(response),
                };
                return Ok(have.into_iter().map(|at| answer(&from.have[at])).collect());
            }
            let asked: Vec<_> = missing.iter().map(|at| from.untried[at - from.have.len()].clone()).collect();
            from.untried.retain(|candidate| !asked.contains(candidate));
            let answers = join_all(asked.iter().map(|candidate| self.ask(candidate, proposal))).await;
            for (candidate, answer) in asked.into_iter().zip(answers) {
                match answer {
                    Ok(answer) => from.take(candidate, answer),
                    Err(refusal) => from.details.push(candidate.detail(refusal.message)),
                }
            }
        }
    }

    /// A chaincode's definition on a channel; of `_lifecycle`, the policy that agreements on chaincodes have to meet.
    fn definition(&self, channel: &str, name: &str) -> Option<Definition> {
        use prost::Message;
        if name == lifecycle::NAMESPACE {
            let mut definition = Definition::default();
            let policy = reference("/Channel/Application/LifecycleEndorsement");
            definition.validation.validation_parameter = policy.encode_to_vec();
            return Some(definition);
        }
        self.endorser.channels.get(channel)?.definition(name)
    }

    /// The configuration of a channel.
    pub(super) fn bundle(&self, channel: &str) -> Result<Arc<Bundle>, Status> {
        let bundle = self.endorser.channels.get(channel).and_then(|joined| joined.bundle());
        bundle.ok_or_else(|| {
            Status::failed_precondition(format!(
                "failed to get config for channel [{channel}]: could not get last config for channel {channel}"
            ))
        })
    }
}

impl Collection {
    /// Keeps an endorsement, if it is of the same result as the first.
    fn take(&mut self, candidate: Candidate, answer: ProposalResponse) {
        match self.have.first() {
            Some((_, first)) if first.payload != answer.payload => {
                self.details.push(candidate.detail("ProposalResponsePayloads do not match"));
            }
            _ => self.have.push((candidate, answer)),
        }
    }
}

fn tried(details: &[ErrorDetail], candidate: &Candidate) -> bool {
    details.iter().any(|detail| detail.address == candidate.address)
}
