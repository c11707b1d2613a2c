//! Client of a peer's gateway: transactions without knowing the network.
//!
//! The traps: `Submit` means accepted for ordering, and only a commit status of `VALID` means that it happened; and the
//! gateway answers for other nodes, whose words are in the details of its errors ([`LedgerError::Declined`]).

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use super::envelope::Stamp;
use super::error::{LedgerError, NodeRefusal, http};
use super::grpc::{Connection, MAX_ANSWER, MAX_SENT};
use super::identity::SigningIdentity;
use super::net::{ActKind, Network, Target};
use super::proposal::{self, Call, response_of, signed_proposal};
use super::proto::common::Envelope;
use super::proto::gateway::gateway_client::GatewayClient;
use super::proto::gateway::{
    CommitStatusRequest, EndorseRequest, ErrorDetail, EvaluateRequest, SignedCommitStatusRequest, SubmitRequest,
};
use super::proto::google::rpc;
use super::proto::protos::TxValidationCode;

/// Endorsing, as the gateway limits it, and a little for the way there.
const ENDORSE: Duration = Duration::from_secs(35);
const SUBMIT: Duration = Duration::from_secs(35);
/// How long a transaction that was accepted may take to be in a block.
const COMMIT: Duration = Duration::from_secs(60);
/// How long peers get to come to the same results.
const AGREEMENT: Duration = Duration::from_secs(3);
/// Pause before a call is endorsed again.
const AGAIN: Duration = Duration::from_millis(200);
/// Type of a detail of the gateway's errors.
const DETAIL: &str = "type.googleapis.com/gateway.ErrorDetail";

/// A client of one peer's gateway, as one identity.
pub struct Client {
    connection: Connection,
    signer: Arc<SigningIdentity>,
}

/// A transaction that was endorsed and signed, and has not been sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Endorsed {
    /// Id of the transaction.
    pub tx_id: String,
    /// What the contract returned.
    pub result: Vec<u8>,
    channel: String,
    envelope: Envelope,
}

/// A transaction that is in a block and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Id of the transaction.
    pub tx_id: String,
    /// What the contract returned.
    pub result: Vec<u8>,
    /// Number of the block.
    pub block: u64,
}

impl Client {
    /// A client; it connects with its first call and keeps the connection.
    pub fn new(network: Arc<dyn Network>, target: &Target, signer: Arc<SigningIdentity>) -> Result<Self, LedgerError> {
        Ok(Self { connection: Connection::new(network, target)?, signer })
    }

    /// What the contract answers, at one peer and without consequences. `organizations` (MSPs) limits whose peers may be
    /// asked; empty for any.
    pub async fn evaluate(&self, call: &Call<'_>, organizations: &[String]) -> Result<Vec<u8>, LedgerError> {
        let (proposal, tx_id) = signed_proposal(&self.signer, call, &Stamp::now());
        let request = EvaluateRequest {
            transaction_id: tx_id,
            channel_id: call.channel.into(),
            proposed_transaction: Some(proposal),
            target_organizations: organizations.to_vec(),
        };
        let ask = |mut gateway: Gateway| async move { gateway.evaluate(request).await };
        let answer = self.call(ENDORSE, ask).await?;
        Ok(answer.result.unwrap_or_default().payload)
    }

    /// Has `call` endorsed by as many peers as the policies ask for, and signs the transaction. `organizations` (MSPs) says
    /// whose peers must endorse, if the gateway is not to choose.
    pub async fn endorse(&self, call: &Call<'_>, organizations: &[String]) -> Result<Endorsed, LedgerError> {
        let (proposal, tx_id) = signed_proposal(&self.signer, call, &Stamp::now());
        let request = EndorseRequest {
            transaction_id: tx_id.clone(),
            channel_id: call.channel.into(),
            proposed_transaction: Some(proposal),
            endorsing_organizations: organizations.to_vec(),
        };
        let ask = |mut gateway: Gateway| async move { gateway.endorse(request).await };
        let prepared = self.call(ENDORSE, ask).await?.prepared_transaction.unwrap_or_default();
        let result = response_of(&prepared)?.payload;
        let envelope = proposal::sign(&self.signer, prepared);
        Ok(Endorsed { tx_id, result, channel: call.channel.into(), envelope })
    }

    /// Sends an endorsed transaction to be ordered. It has happened only when [`Self::committed`] says so.
    pub async fn send(&self, endorsed: &Endorsed) -> Result<(), LedgerError> {
        let request = SubmitRequest {
            transaction_id: endorsed.tx_id.clone(),
            channel_id: endorsed.channel.clone(),
            prepared_transaction: Some(endorsed.envelope.clone()),
        };
        let ask = |mut gateway: Gateway| async move { gateway.submit(request).await };
        let sent = self.call(SUBMIT, ask);
        self.connection.dialer.write(ActKind::Transaction, &endorsed.channel, sent).await.map(drop)
    }

    /// Has `call` endorsed, ordered and committed. Peers that are a block apart answer differently for a moment, so it is
    /// endorsed again for a while until they agree.
    ///
    /// # Errors
    /// `Declined` with each endorser's words; `Rejected` if it is in a block and does not count.
    pub async fn submit(&self, call: &Call<'_>, organizations: &[String]) -> Result<Committed, LedgerError> {
        let end = Instant::now() + AGREEMENT;
        let endorsed = loop {
            match self.endorse(call, organizations).await {
                Err(error) if error.is_disagreement() && Instant::now() < end => {
                    // Nothing tells when a peer has caught up.
                    tokio::time::sleep(AGAIN).await;
                }
                answer => break answer?,
            }
        };
        self.send(&endorsed).await?;
        self.committed(endorsed).await
    }

    /// Waits until an accepted transaction is in a block.
    ///
    /// # Errors
    /// `Rejected` if it does not count.
    pub async fn committed(&self, endorsed: Endorsed) -> Result<Committed, LedgerError> {
        let Endorsed { tx_id, result, channel, .. } = endorsed;
        match self.commit_status(&channel, &tx_id, COMMIT).await? {
            (block, TxValidationCode::Valid) => Ok(Committed { tx_id, result, block }),
            (block, code) => Err(LedgerError::Rejected { tx_id, block, code }),
        }
    }

    /// The block that a transaction is in, and whether it counts; waits for it.
    ///
    /// # Errors
    /// `Unreachable` also if `patience` ends first.
    pub async fn commit_status(
        &self,
        channel: &str,
        tx_id: &str,
        patience: Duration,
    ) -> Result<(u64, TxValidationCode), LedgerError> {
        let request = CommitStatusRequest {
            transaction_id: tx_id.into(),
            channel_id: channel.into(),
            identity: self.signer.serialized().to_vec(),
        };
        let request = request.encode_to_vec();
        let request = SignedCommitStatusRequest { signature: self.signer.sign(&request), request };
        let ask = |mut gateway: Gateway| async move { gateway.commit_status(request).await };
        let answer = self.call(patience, ask).await?;
        Ok((answer.block_number, answer.result()))
    }

    async fn call<T, F>(&self, deadline: Duration, ask: impl FnOnce(Gateway) -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let send = |transport| async move {
            let answer = ask(gateway(transport)).await;
            answer.map(tonic::Response::into_inner).map_err(|status| refusal(self.node(), status))
        };
        self.connection.call(deadline, send).await
    }

    /// `host:port` of the peer.
    pub fn node(&self) -> &str {
        &self.connection.dialer.node
    }
}

type Gateway = GatewayClient<tonic::transport::Channel>;

fn gateway(transport: tonic::transport::Channel) -> Gateway {
    GatewayClient::new(transport).max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_SENT)
}

/// What an error of the gateway means. With details, it is other nodes' answer and not the gateway's.
fn refusal(node: &str, status: tonic::Status) -> LedgerError {
    let details = details(status.details());
    if details.is_empty() {
        return LedgerError::from_status(node, status);
    }
    LedgerError::Declined { node: node.into(), status: http(status.code()), message: status.message().into(), details }
}

/// What other nodes said, out of a status's details; nothing if there is nothing of that kind.
fn details(details: &[u8]) -> Vec<NodeRefusal> {
    let status = rpc::Status::decode(details).unwrap_or_default();
    let of_nodes = status.details.iter().filter(|any| any.type_url == DETAIL);
    of_nodes.filter_map(|any| ErrorDetail::decode(any.value.as_slice()).ok()).map(NodeRefusal::from).collect()
}

/// A status with what other nodes said, as gateways send it.
pub fn status(code: tonic::Code, message: &str, nodes: Vec<ErrorDetail>) -> tonic::Status {
    if nodes.is_empty() {
        return tonic::Status::new(code, message);
    }
    let any = |detail: ErrorDetail| prost_types::Any { type_url: DETAIL.into(), value: detail.encode_to_vec() };
    let details = nodes.into_iter().map(any).collect();
    let details = rpc::Status { code: code.into(), message: message.into(), details };
    tonic::Status::with_details(code, message, details.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_endorsers_said_is_told() {
        let said = ErrorDetail {
            address: "peer0.b:7051".into(),
            msp_id: "HospitalB".into(),
            message: "chaincode response 500, CONSENT_REVOKED".into(),
        };
        let sent = status(tonic::Code::Aborted, "failed to endorse transaction", vec![said]);
        assert_eq!(
            refusal("peer0.a:7051", sent).to_string(),
            "peer0.a:7051 refused with status 400: failed to endorse transaction (peer0.b:7051 of HospitalB: chaincode \
             response 500, CONSENT_REVOKED)"
        );
    }

    #[test]
    fn a_gateway_without_orderers_has_answered() {
        let said = ErrorDetail { address: "o:7050".into(), ..Default::default() };
        let error = refusal("p:7051", status(tonic::Code::Unavailable, "no orderers", vec![said]));
        assert!(matches!(error, LedgerError::Declined { status: 503, .. }), "{error:?}");
        let gone = refusal("p:7051", tonic::Status::unavailable("connection refused"));
        assert!(matches!(gone, LedgerError::Unreachable { .. }), "{gone:?}");
    }
}
