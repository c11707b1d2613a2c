//! `Evaluate`: what a chaincode answers at one peer (Fabric: `gateway/evaluate.go`).

use tonic::{Code, Status};

use super::candidates::Candidate;
use super::{Call, Gateway};
use ehrnet_fabric::gateway::status;
use ehrnet_fabric::proposal::action;
use ehrnet_fabric::proto::gateway::{EvaluateRequest, EvaluateResponse};
use ehrnet_fabric::proto::protos::{ProposalResponse, Response, SignedProposal};

impl Gateway {
    pub(super) async fn evaluated(&self, request: EvaluateRequest) -> Result<EvaluateResponse, Status> {
        let proposal = request.proposed_transaction.unwrap_or_default();
        let call = readable(&proposal)
            .map_err(|e| Status::invalid_argument(format!("failed to unpack transaction proposal: {e}")))?;
        self.bundle(&call.channel).map_err(|e| Status::unavailable(e.message()))?;
        let candidates = self.targets(&call, request.target_organizations)?;
        let mut details = Vec::new();
        let mut last = Code::Unavailable;
        for candidate in candidates {
            match self.ask(&candidate, &proposal).await {
                Ok(answer) => return Ok(EvaluateResponse { result: Some(result(answer)) }),
                Err(refusal) => {
                    details.push(candidate.detail(&refusal.message));
                    if !refusal.retry {
                        let message = format!("evaluate call to endorser returned error: {}", refusal.message);
                        return Err(status(refusal.code, &message, details));
                    }
                    last = refusal.code;
                }
            }
        }
        Err(status(last, "failed to evaluate transaction, see attached details for more info", details))
    }

    /// Peers that may be asked; with transient data and nothing said, those of the own organisation.
    fn targets(&self, call: &Call, mut organisations: Vec<String>) -> Result<Vec<Candidate>, Status> {
        let is_protected = call.has_transient && organisations.is_empty();
        if is_protected {
            organisations.push(self.endorser.local.msp_id.clone());
        }
        let mut candidates = self.candidates(&call.channel, &call.chaincode);
        if !organisations.is_empty() {
            candidates.retain(|candidate| organisations.contains(&candidate.msp_id));
        }
        if !candidates.is_empty() {
            return Ok(candidates);
        }
        let nobody = format!("no peers available to evaluate chaincode {} in channel {}", call.chaincode, call.channel);
        Err(Status::failed_precondition(if is_protected {
            format!(
                "no endorsers found in the gateway's organization; retry specifying target organization(s) to protect \
                 transient data: {nobody}"
            )
        } else {
            nobody
        }))
    }
}

fn readable(proposal: &SignedProposal) -> Result<Call, String> {
    if proposal.proposal_bytes.is_empty() {
        return Err("a signed proposal is required".into());
    }
    let call = Call::read(proposal)?;
    if call.channel.is_empty() {
        return Err("no channel id provided".into());
    }
    if call.chaincode.is_empty() {
        return Err(format!("no chaincode name is provided, channel id [{}]", call.channel));
    }
    Ok(call)
}

/// The chaincode's response, as the endorser signed it.
fn result(answer: ProposalResponse) -> Response {
    let response = answer.response.unwrap_or_default();
    match action(&answer.payload) {
        Ok(action) => Response { payload: action.response.unwrap_or_default().payload, ..response },
        Err(_) => response,
    }
}
