//! The gateway: transactions for clients that know one peer only (Fabric: `internal/pkg/gateway`).
//!
//! ```text
//!  Evaluate ──> candidates ──────────────────────────────> one peer
//!  Endorse ───> candidates ──> first answer ──> plan ──> as many peers as the policies need
//!  Submit ────> orderers (one for Raft, all for BFT)
//!  CommitStatus, ChaincodeEvents ──> the channel's ledger
//! ```
//! There is no gossip here: peers of other organisations are those that the channel's configuration names as anchor
//! peers. Which of them has a chaincode is found out by asking; everything else, status codes and words included, is as
//! Fabric has it.

mod candidates;
mod endorse;
mod evaluate;
mod plan;
mod submit;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::endorser::Endorser;
use crate::connections::Connections;
use crate::faults::Operation;
use crate::stop::Stop;
use ehrnet_fabric::proto::common::{ChannelHeader, Header};
use ehrnet_fabric::proto::gateway::gateway_server::Gateway as Service;
use ehrnet_fabric::proto::gateway::{
    ChaincodeEventsResponse, CommitStatusResponse, EndorseRequest, EndorseResponse, EvaluateRequest, EvaluateResponse,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest, SubmitResponse,
};
use ehrnet_fabric::proto::protos::{ChaincodeInvocationSpec, ChaincodeProposalPayload, Proposal, SignedProposal};

/// How long one peer may take to endorse (Fabric: `peer.gateway.endorsementTimeout`).
const ENDORSEMENT_LIMIT: Duration = Duration::from_secs(30);
/// How long an orderer may take to accept (Fabric: `peer.gateway.broadcastTimeout`).
const BROADCAST_LIMIT: Duration = Duration::from_secs(30);

/// The gateway of a peer.
#[derive(Clone)]
pub struct Gateway {
    endorser: Arc<Endorser>,
    stop: Stop,
}

impl Gateway {
    /// The gateway of the peer with this endorser.
    pub fn new(endorser: Arc<Endorser>, stop: Stop) -> Self {
        Self { endorser, stop }
    }

    fn connections(&self) -> &Connections {
        &self.endorser.node.connections
    }

    /// Answers a call, and plays the faults that are asked for.
    async fn answer<T>(
        &self,
        operation: Operation,
        channel: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let injection = self.endorser.faults.inject(operation, channel).await;
        if let Some(refusal) = injection.refusal {
            return Err(Status::unavailable(refusal.message));
        }
        let answer = call.await;
        if injection.drop_reply {
            return Err(Status::unavailable("connection broken on request"));
        }
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl Service for Gateway {
    type ChaincodeEventsStream = ReceiverStream<Result<ChaincodeEventsResponse, Status>>;

    async fn endorse(&self, request: Request<EndorseRequest>) -> Result<Response<EndorseResponse>, Status> {
        let request = request.into_inner();
        let channel = request.channel_id.clone();
        self.answer(Operation::Endorse, &channel, self.endorsed(request)).await
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        let channel = request.channel_id.clone();
        self.answer(Operation::Submit, &channel, self.submitted(request)).await
    }

    async fn commit_status(
        &self,
        request: Request<SignedCommitStatusRequest>,
    ) -> Result<Response<CommitStatusResponse>, Status> {
        self.status_of(request.into_inner()).await.map(Response::new)
    }

    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Result<Response<EvaluateResponse>, Status> {
        let request = request.into_inner();
        let channel = request.channel_id.clone();
        self.answer(Operation::Evaluate, &channel, self.evaluated(request)).await
    }

    async fn chaincode_events(
        &self,
        request: Request<SignedChaincodeEventsRequest>,
    ) -> Result<Response<Self::ChaincodeEventsStream>, Status> {
        self.events(request.into_inner()).map(Response::new)
    }
}

/// What the gateway has to know of a proposal.
struct Call {
    channel: String,
    chaincode: String,
    has_transient: bool,
}

impl Call {
    /// Reads a proposal.
    ///
    /// # Errors
    /// Fabric's words for what is not readable.
    fn read(proposal: &SignedProposal) -> Result<Self, String> {
        let unreadable = |what: &str, e: prost::DecodeError| format!("error unmarshalling {what}: {e}");
        let bytes = proposal.proposal_bytes.as_slice();
        let proposal = Proposal::decode(bytes).map_err(|e| unreadable("Proposal", e))?;
        let header = Header::decode(proposal.header.as_slice()).map_err(|e| unreadable("Header", e))?;
        let header =
            ChannelHeader::decode(header.channel_header.as_slice()).map_err(|e| unreadable("ChannelHeader", e))?;
        let payload = ChaincodeProposalPayload::decode(proposal.payload.as_slice())
            .map_err(|e| unreadable("ChaincodeProposalPayload", e))?;
        let invocation = ChaincodeInvocationSpec::decode(payload.input.as_slice())
            .map_err(|e| unreadable("ChaincodeInvocationSpec", e))?;
        let chaincode = invocation.chaincode_spec.and_then(|spec| spec.chaincode_id).unwrap_or_default().name;
        Ok(Self { channel: header.channel_id, chaincode, has_transient: !payload.transient_map.is_empty() })
    }
}
