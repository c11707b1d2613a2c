//! Client of a peer's endorser service, mostly its system chaincodes `cscc` and `qscc`.
//!
//! The trap: calls about the peer itself need an admin of the peer's own organization; another hospital's admin is
//! refused whatever the channel says.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::envelope::{Call, Stamp, signed_proposal};
use super::error::LedgerError;
use super::grpc::{Connection, MAX_MESSAGE};
use super::identity::SigningIdentity;
use super::net::{ActKind, Network, Target};
use super::proto::common::{Block, BlockchainInfo, Config};
use super::proto::protos::endorser_client::EndorserClient;
use super::proto::protos::{ChannelQueryResponse, ProposalResponse};

const READ: Duration = Duration::from_secs(15);
const JOIN: Duration = Duration::from_secs(60);

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

    /// Names of the channels that the peer has joined.
    pub async fn channels(&self) -> Result<Vec<String>, LedgerError> {
        let answer: ChannelQueryResponse = self.query(Call::new("", "cscc", args(&[b"GetChannels"]))).await?;
        Ok(answer.channels.into_iter().map(|c| c.channel_id).collect())
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

    /// The latest configuration block of `channel` that the peer has.
    pub async fn config_block(&self, channel: &str) -> Result<Block, LedgerError> {
        self.query(Call::new("", "cscc", args(&[b"GetConfigBlock", channel.as_bytes()]))).await
    }

    async fn query<T: Message + Default>(&self, call: Call<'_>) -> Result<T, LedgerError> {
        let payload = self.evaluate(&call, READ).await?;
        T::decode(payload.as_slice())
            .map_err(|e| LedgerError::Invalid(format!("answer of {} is not readable: {e}", self.node())))
    }

    /// Payload of the chaincode's response to `call`.
    async fn evaluate(&self, call: &Call<'_>, deadline: Duration) -> Result<Vec<u8>, LedgerError> {
        let response = self.propose(call, deadline).await?.response.unwrap_or_default();
        if response.status < 400 {
            return Ok(response.payload);
        }
        let status = u16::try_from(response.status).unwrap_or(500);
        Err(LedgerError::Refused { node: self.node().into(), status, message: response.message })
    }

    async fn propose(&self, call: &Call<'_>, deadline: Duration) -> Result<ProposalResponse, LedgerError> {
        let (proposal, _) = signed_proposal(&self.signer, call, &Stamp::now());
        let send = |channel| async move {
            let mut client = EndorserClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
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
