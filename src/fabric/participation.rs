//! Client of an orderer's channel participation API (REST over mutual TLS): which channels an orderer has.
//!
//! The traps: an orderer answers 404 for whatever it cannot do about a channel, and its `PUT` (3.1.2) can lock the
//! orderer up; so reads decide, and configuration updates go through broadcast only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prost::Message;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::LedgerError;
use super::http::{send, success};
use super::net::{ActKind, Dialer, Network, Target};
use super::proto::common::Block;

const CHANNELS: &str = "/participation/v1/channels";
const READ: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(30);

/// A client of one orderer's admin port.
pub struct Client {
    dialer: Dialer,
}

/// What an orderer says about a channel it has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelInfo {
    /// Name of the channel.
    pub name: String,
    /// Whether this orderer is one of the channel's consenters.
    pub consensus_relation: ConsensusRelation,
    /// How far it is.
    pub status: ChannelStatus,
    /// Number of blocks it has.
    pub height: u64,
}

/// An orderer's part in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsensusRelation {
    /// It orders blocks.
    Consenter,
    /// It only copies blocks, until the configuration makes it a consenter.
    Follower,
    /// It only follows configurations.
    ConfigTracker,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// How far an orderer is with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelStatus {
    /// At work.
    Active,
    /// Copying the blocks up to the one it joined with.
    Onboarding,
    /// Does not serve the channel.
    Inactive,
    /// Its last operation on the channel failed.
    Failed,
    /// A status this client does not know.
    #[serde(other)]
    Unknown,
}

impl Client {
    /// A client; it connects anew for each request.
    pub fn new(network: Arc<dyn Network>, target: &Target) -> Result<Self, LedgerError> {
        Ok(Self { dialer: Dialer::new(network, target, b"http/1.1")? })
    }

    /// Names of the channels that the orderer has, in order.
    pub async fn list(&self) -> Result<Vec<String>, LedgerError> {
        #[derive(Deserialize)]
        struct List {
            channels: Option<Vec<Name>>,
        }
        #[derive(Deserialize)]
        struct Name {
            name: String,
        }
        let body = success(&self.dialer.node, self.get(CHANNELS).await?)?;
        let list: List = self.json(&body)?;
        let mut names: Vec<String> = list.channels.unwrap_or_default().into_iter().map(|c| c.name).collect();
        // Fabric keeps them in a map, and lists them in another order each time.
        names.sort_unstable();
        Ok(names)
    }

    /// What the orderer says about `channel`; `None` if it answers that it does not have it.
    pub async fn info(&self, channel: &str) -> Result<Option<ChannelInfo>, LedgerError> {
        let response = self.get(&format!("{CHANNELS}/{channel}")).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.json(&success(&self.dialer.node, response)?).map(Some)
    }

    /// Joins with the channel's genesis block, or with its latest configuration block to join a running channel.
    ///
    /// # Errors
    /// `Refused` with status 405 if the orderer has the channel already.
    pub async fn join(&self, channel: &str, block: &Block) -> Result<ChannelInfo, LedgerError> {
        let (content_type, body) = multipart("config-block", "config.block", &block.encode_to_vec());
        let request = Request::post(CHANNELS).header(header::CONTENT_TYPE, content_type);
        let body = self.write(ActKind::OrdererJoin, channel, self.build(request, body)?).await?;
        self.json(&body)
    }

    /// Makes the orderer forget `channel`, its blocks included; it happens in the background. Only the tests of real nodes
    /// call it so far.
    pub async fn remove(&self, channel: &str) -> Result<(), LedgerError> {
        let request = Request::delete(format!("{CHANNELS}/{channel}"));
        match self.write(ActKind::OrdererRemove, channel, self.build(request, Bytes::new())?).await {
            Err(LedgerError::Refused { node, status: 404, .. }) => {
                Err(LedgerError::NotFound { node, what: format!("channel {channel}") })
            }
            other => other.map(drop),
        }
    }

    /// The channel's latest configuration block, from an orderer that is a consenter of it. Only the tests of real nodes
    /// call it so far.
    ///
    /// # Errors
    /// `NotFound` also if the orderer is only a follower, or older than Fabric 3.1.2.
    pub async fn config_block(&self, channel: &str) -> Result<Block, LedgerError> {
        let response = self.get(&format!("{CHANNELS}/{channel}/blocks/config")).await?;
        if response.status() == StatusCode::NOT_FOUND {
            let what = format!("configuration block of channel {channel}");
            return Err(LedgerError::NotFound { node: self.dialer.node.clone(), what });
        }
        let body = success(&self.dialer.node, response)?;
        Block::decode(body).map_err(|e| self.unreadable(&e))
    }

    /// `host:port` of the orderer.
    pub fn node(&self) -> &str {
        &self.dialer.node
    }

    async fn get(&self, path: &str) -> Result<Response<Bytes>, LedgerError> {
        let request = self.build(Request::builder().method(Method::GET).uri(path), Bytes::new())?;
        self.dialer.within(READ, self.exchange(request)).await
    }

    async fn write(&self, kind: ActKind, channel: &str, request: Request<Full<Bytes>>) -> Result<Bytes, LedgerError> {
        let call = self.dialer.within(WRITE, async { success(&self.dialer.node, self.exchange(request).await?) });
        self.dialer.write(kind, channel, call).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, LedgerError> {
        let io = self.dialer.connect().await.map_err(|e| LedgerError::unreachable(&self.dialer.node, e))?;
        send(io, &self.dialer.node, request).await
    }

    fn build(&self, request: http::request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, LedgerError> {
        request
            .header(header::ACCEPT, "*/*")
            .body(Full::new(body))
            .map_err(|e| LedgerError::Invalid(format!("request to {}: {e}", self.dialer.node)))
    }

    fn json<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, LedgerError> {
        serde_json::from_slice(body).map_err(|e| self.unreadable(&e))
    }

    fn unreadable(&self, error: &dyn std::error::Error) -> LedgerError {
        LedgerError::Invalid(format!("answer of {} is not readable: {error}", self.dialer.node))
    }
}

/// Content type and body of a form with one file. The boundary is the file's hash, which the file cannot contain.
fn multipart(field: &str, file_name: &str, file: &[u8]) -> (String, Bytes) {
    let boundary = hex::encode(Sha256::digest(file));
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file_name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body.into())
}
