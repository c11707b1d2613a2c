//! Peers that can be asked for an endorsement, and what their answers mean.

use tonic::Code;

use super::{ENDORSEMENT_LIMIT, Gateway};
use crate::orderer::cluster::MAX_MESSAGE;
use crate::peer::endorser::Failure;
use crate::peer::joined::Joined;
use crate::peer::private::contacts::Contact;
use crate::peer::system;
use ehrnet_fabric::proposal;
use ehrnet_fabric::proto::gateway::ErrorDetail;
use ehrnet_fabric::proto::protos::endorser_client::EndorserClient;
use ehrnet_fabric::proto::protos::{ProposalResponse, SignedProposal};

/// A peer that may endorse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its organisation.
    pub msp_id: String,
    /// `host:port`.
    pub address: String,
    /// Where to call it; `None` for this peer itself.
    pub contact: Option<Contact>,
}

/// A peer did not endorse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of failure it is.
    pub code: Code,
    /// Why.
    pub message: String,
    /// Whether another peer may answer otherwise.
    pub retry: bool,
}

impl Candidate {
    /// What went wrong at this peer, for the client.
    pub fn detail(&self, message: impl Into<String>) -> ErrorDetail {
        ErrorDetail { address: self.address.clone(), msp_id: self.msp_id.clone(), message: message.into() }
    }
}

impl Gateway {
    /// Peers that may have a chaincode: this peer first, then others of its organisation, then the rest. None if the
    /// chaincode is not defined on the channel, or this peer is not on it.
    pub(super) fn candidates(&self, channel: &str, chaincode: &str) -> Vec<Candidate> {
        let Some(joined) = self.endorser.channels.get(channel) else { return vec![] };
        let is_system = system::is_system(chaincode);
        if !is_system && joined.definition(chaincode).is_none() {
            return vec![];
        }
        let own = &self.endorser.local.msp_id;
        let mut candidates = Vec::new();
        if is_system || self.has_contract(&joined, chaincode) {
            let address = joined.node().directory.own.first().cloned().unwrap_or_default();
            candidates.push(Candidate { msp_id: own.clone(), address, contact: None });
        }
        let (kin, others): (Vec<_>, Vec<_>) = joined.peers().into_iter().partition(|peer| peer.msp_id == *own);
        candidates.extend(kin.into_iter().chain(others).map(|contact| Candidate {
            msp_id: contact.msp_id.clone(),
            address: format!("{}:{}", contact.host, contact.port),
            contact: Some(contact),
        }));
        candidates
    }

    /// Whether this peer's organisation approved the definition with a package that is installed here.
    fn has_contract(&self, joined: &Joined, chaincode: &str) -> bool {
        let Some(definition) = joined.definition(chaincode) else { return false };
        let installed = self.endorser.runtime.packages.list();
        let ids = installed.iter().map(|(id, _)| id.as_str());
        let approved = definition.approved_package(&joined.state(), chaincode, &self.endorser.local.msp_id, ids);
        approved.is_ok_and(|package| package.is_some())
    }

    /// Has a peer endorse.
    pub(super) async fn ask(
        &self,
        candidate: &Candidate,
        proposal: &SignedProposal,
    ) -> Result<ProposalResponse, Refusal> {
        let answer = tokio::time::timeout(ENDORSEMENT_LIMIT, self.call(candidate, proposal)).await;
        let late = |_| unreachable(format!("no answer within {ENDORSEMENT_LIMIT:?}"));
        judge(answer.map_err(late)??)
    }

    async fn call(&self, candidate: &Candidate, proposal: &SignedProposal) -> Result<ProposalResponse, Refusal> {
        let Some(contact) = &candidate.contact else {
            let answer = self.endorser.process(proposal.clone()).await;
            // The proposal itself is wrong, here as everywhere.
            let wrong = |Failure(message)| Refusal { code: Code::FailedPrecondition, message, retry: false };
            return answer.map_err(wrong);
        };
        let channel = self.connections().to(&contact.host, contact.port, &contact.roots).await.map_err(unreachable)?;
        let mut client =
            EndorserClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        match client.process_proposal(proposal.clone()).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                self.connections().forget(&contact.host, contact.port);
                Err(unreachable(in_go(&status)))
            }
        }
    }
}

fn unreachable(message: String) -> Refusal {
    Refusal { code: Code::Unavailable, message, retry: true }
}

/// A gRPC error as Go's library prints it.
pub fn in_go(status: &tonic::Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// Whether an answer is an endorsement (Fabric: `responseStatus`).
fn judge(answer: ProposalResponse) -> Result<ProposalResponse, Refusal> {
    let response = answer.response.clone().unwrap_or_default();
    if proposal::succeeded(&response) {
        return Ok(answer);
    }
    if answer.payload.is_empty() && response.status == 500 {
        // The reason is what the peer itself says, not what its chaincode says. A chaincode that crashed may run elsewhere.
        return Err(Refusal { code: Code::Aborted, message: response.message, retry: true });
    }
    let message = format!("chaincode response {}, {}", response.status, response.message);
    Err(Refusal { code: Code::Unknown, message, retry: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::proto::protos::Response;

    fn answer(status: i32, payload: &[u8]) -> ProposalResponse {
        let response = Response { status, message: "words".into(), payload: vec![] };
        ProposalResponse { response: Some(response), payload: payload.to_vec(), ..Default::default() }
    }

    #[test]
    fn a_contracts_refusal_is_final_and_a_peers_is_not() {
        assert!(judge(answer(200, b"p")).is_ok());
        let of_peer = judge(answer(500, b"")).expect_err("refused");
        assert_eq!((of_peer.code, of_peer.message.as_str(), of_peer.retry), (Code::Aborted, "words", true));
        let of_contract = judge(answer(500, b"p")).expect_err("refused");
        assert_eq!((of_contract.code, of_contract.retry), (Code::Unknown, false));
        assert_eq!(of_contract.message, "chaincode response 500, words");
        assert_eq!(judge(answer(404, b"")).expect_err("refused").message, "chaincode response 404, words");
    }
}
