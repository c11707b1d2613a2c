//! Client of a peer's endorser and deliver services, mostly its system chaincodes.
//!
//! The traps: calls about the peer itself need an admin of the peer's own organization; another hospital's admin is
//! refused whatever the channel says. And an endorsed, ordered transaction counts only if the peers find it valid.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use prost::Message;
use tonic::Streaming;

use super::envelope::{Stamp, signed};
use super::error::LedgerError;
use super::grpc::{Connection, MAX_ANSWER, MAX_SENT};
use super::identity::SigningIdentity;
use super::net::{ActKind, Network, Target};
use super::proposal::{Answer, Call, signed_proposal, succeeded};
use super::proto::common::{Block, BlockchainInfo, Config, HeaderType};
use super::proto::orderer::seek_position::Type as Position;
use super::proto::orderer::{SeekInfo, SeekPosition, SeekSpecified};
use super::proto::protos::deliver_client::DeliverClient;
use super::proto::protos::deliver_response::Type as Delivered;
use super::proto::protos::endorser_client::EndorserClient;
use super::proto::protos::{ChannelQueryResponse, DeliverResponse, ProposalResponse, SignedProposal, TxValidationCode};

const READ: Duration = Duration::from_secs(15);
const JOIN: Duration = Duration::from_secs(60);
/// A contract may take Fabric's `chaincode.executetimeout`, and starts with its first call.
const ENDORSE: Duration = Duration::from_secs(45);
/// Installing includes the peer's build.
const INSTALL: Duration = Duration::from_secs(120);

/// A client of one peer's gRPC port, as one identity.
pub struct Client {
    connection: Connection,
    signer: Arc<SigningIdentity>,
}

impl Client {
    /// A client; it connects with its first call and keeps the connection.
    pub fn new(network: Arc<dyn Network>, target: &Target, signer: Arc<SigningIdentity>) -> Result<Self, LedgerError> {
        Ok(Self { connection: Connection::new(network, target)?, signer })
    }

    /// Names of the channels that the peer has joined, in order.
    pub async fn channels(&self) -> Result<Vec<String>, LedgerError> {
        let answer: ChannelQueryResponse = self.query(Call::new("", "cscc", args(&[b"GetChannels"]))).await?;
        let mut names: Vec<String> = answer.channels.into_iter().map(|c| c.channel_id).collect();
        // Fabric keeps them in a map, and lists them in another order each time.
        names.sort_unstable();
        Ok(names)
    }

    /// Joins the channel of this genesis block (block 0). The peer fetches the other blocks from the orderers that the
    /// block names.
    pub async fn join(&self, channel: &str, genesis: &Block) -> Result<(), LedgerError> {
        let call = Call::new("", "cscc", args(&[b"JoinChain", &genesis.encode_to_vec()]));
        self.connection.dialer.write(ActKind::PeerJoin, channel, self.evaluate(&call, JOIN)).await.map(drop)
    }

    /// Height and hashes of the peer's copy of `channel`.
    pub async fn chain_info(&self, channel: &str) -> Result<BlockchainInfo, LedgerError> {
        self.query(Call::new("", "qscc", args(&[b"GetChainInfo", channel.as_bytes()]))).await
    }

    /// The configuration of `channel` that the peer goes by.
    pub async fn channel_config(&self, channel: &str) -> Result<Config, LedgerError> {
        self.query(Call::new("", "cscc", args(&[b"GetChannelConfig", channel.as_bytes()]))).await
    }

    /// The latest configuration block of `channel` that the peer has. Only the tests of real nodes call it so far.
    pub async fn config_block(&self, channel: &str) -> Result<Block, LedgerError> {
        self.query(Call::new("", "cscc", args(&[b"GetConfigBlock", channel.as_bytes()]))).await
    }

    /// Endorses a proposal that this client's identity, or another, has signed.
    ///
    /// # Errors
    /// `Refused` also if the contract refuses.
    pub async fn endorse(&self, proposal: &SignedProposal) -> Result<Answer, LedgerError> {
        let response = self.process(proposal.clone(), ENDORSE).await?;
        self.payload(&response)?;
        Ok(Answer { node: self.node().into(), response })
    }

    /// A proposal of `call`, signed by this client's identity, and its transaction id.
    pub fn proposal(&self, call: &Call<'_>) -> (SignedProposal, String) {
        signed_proposal(&self.signer, call, &Stamp::now())
    }

    /// The identity that the client acts as.
    pub fn signer(&self) -> &SigningIdentity {
        &self.signer
    }

    /// Waits until the peer has committed transaction `tx_id`, looking at blocks from number `from` on: the block it is
    /// in, and whether it counts.
    ///
    /// # Errors
    /// `Unreachable` also if `patience` ends before the transaction is seen.
    pub async fn committed(
        &self,
        channel: &str,
        tx_id: &str,
        from: u64,
        patience: Duration,
    ) -> Result<(u64, TxValidationCode), LedgerError> {
        let position = |number| Some(SeekPosition { r#type: Some(Position::Specified(SeekSpecified { number })) });
        let seek = SeekInfo { start: position(from), stop: position(u64::MAX), ..Default::default() };
        let request = signed(&self.signer, HeaderType::DeliverSeekInfo, channel, seek.encode_to_vec(), &Stamp::now());
        let watch = |transport| async move {
            let mut client = DeliverClient::new(transport).max_decoding_message_size(MAX_ANSWER);
            // The request must stay open: its end is the end of the delivery.
            let requests = futures::StreamExt::chain(stream::iter([request]), stream::pending());
            let blocks = client.deliver_filtered(requests).await;
            let blocks = blocks.map_err(|s| LedgerError::from_status(self.node(), s))?.into_inner();
            self.find(channel, tx_id, blocks).await
        };
        self.connection.call(patience, watch).await
    }

    async fn find(
        &self,
        channel: &str,
        tx_id: &str,
        mut blocks: Streaming<DeliverResponse>,
    ) -> Result<(u64, TxValidationCode), LedgerError> {
        loop {
            let answer = blocks.message().await.map_err(|s| LedgerError::from_status(self.node(), s))?;
            match answer.and_then(|a| a.r#type) {
                Some(Delivered::FilteredBlock(block)) => {
                    if let Some(found) = block.filtered_transactions.iter().find(|t| t.txid == tx_id) {
                        return Ok((block.number, found.tx_validation_code()));
                    }
                }
                Some(Delivered::Status(status)) => {
                    let status = u16::try_from(status).unwrap_or(500);
                    let message = format!("delivery of channel {channel}");
                    return Err(LedgerError::Refused { node: self.node().into(), status, message });
                }
                Some(_) => {}
                None => return Err(LedgerError::unreachable(self.node(), "the delivery ended without an answer")),
            }
        }
    }

    /// Calls `_lifecycle` for something that changes nothing but an answer.
    pub(super) async fn lifecycle<T: Message + Default>(
        &self,
        channel: &str,
        function: &str,
        arguments: &impl Message,
    ) -> Result<T, LedgerError> {
        self.query(Call::new(channel, "_lifecycle", args(&[function.as_bytes(), &arguments.encode_to_vec()]))).await
    }

    /// Installs a chaincode package.
    pub(super) async fn install(&self, arguments: &impl Message) -> Result<(), LedgerError> {
        let call = Call::new("", "_lifecycle", args(&[b"InstallChaincode", &arguments.encode_to_vec()]));
        self.connection.dialer.write(ActKind::ChaincodeInstall, "", self.evaluate(&call, INSTALL)).await.map(drop)
    }

    async fn query<T: Message + Default>(&self, call: Call<'_>) -> Result<T, LedgerError> {
        let payload = self.evaluate(&call, READ).await?;
        T::decode(payload.as_slice())
            .map_err(|e| LedgerError::Invalid(format!("answer of {} is not readable: {e}", self.node())))
    }

    /// Payload of the chaincode's response to `call`.
    async fn evaluate(&self, call: &Call<'_>, deadline: Duration) -> Result<Vec<u8>, LedgerError> {
        let (proposal, _) = self.proposal(call);
        let response = self.process(proposal, deadline).await?;
        self.payload(&response)
    }

    /// The payload of a response that is not a refusal.
    fn payload(&self, response: &ProposalResponse) -> Result<Vec<u8>, LedgerError> {
        let response = response.response.clone().unwrap_or_default();
        if succeeded(&response) {
            return Ok(response.payload);
        }
        let status = u16::try_from(response.status).unwrap_or(500);
        Err(LedgerError::Refused { node: self.node().into(), status, message: response.message })
    }

    async fn process(&self, proposal: SignedProposal, deadline: Duration) -> Result<ProposalResponse, LedgerError> {
        let send = |channel| async move {
            let mut client =
                EndorserClient::new(channel).max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_SENT);
            let answer = client.process_proposal(proposal).await;
            answer.map(tonic::Response::into_inner).map_err(|s| LedgerError::from_status(self.node(), s))
        };
        self.connection.call(deadline, send).await
    }

    /// `host:port` of the peer.
    pub fn node(&self) -> &str {
        &self.connection.dialer.node
    }
}

fn args(args: &[&[u8]]) -> Vec<Vec<u8>> {
    args.iter().map(|a| a.to_vec()).collect()
}
