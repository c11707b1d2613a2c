//! How peers hand private data to each other: a service of our own (`ehrnet.devledger.PrivateData`) on the gRPC port.
//!
//! Every request is signed with the peer's identity, names the organisation that it is meant for, so that nobody can use
//! it at somebody else's, and is only good for the time window of proposals. Data is given to peers of a collection's
//! member organisations only.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{NamedService, UnaryService};
use tonic::{Request, Response, Status};

use super::contacts::Contact;
use super::parts::Part;
use crate::channel;
use crate::connections::Connections;
use crate::deliver::within;
use crate::faults::{Faults, Operation};
use crate::orderer::cluster::MAX_MESSAGE;
use crate::peer::channels::Channels;
use crate::peer::joined::is_peer;
use crate::peer::state::{Collection, Version};
use ehrnet_fabric::envelope::{self, Stamp};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::proto::common::{Envelope, HeaderType};

/// How long another peer may take to answer (Fabric: `pvtData.pushAckTimeout`).
const LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    /// Keep this until its block comes.
    Push = 0,
    /// Give me that.
    Pull = 1,
}

/// Signed, in an envelope of its channel.
#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    /// MSP id of the organisation asked.
    #[prost(string, tag = "2")]
    to: String,
    #[prost(string, tag = "3")]
    tx_id: String,
    #[prost(string, tag = "4")]
    namespace: String,
    #[prost(string, tag = "5")]
    collection: String,
    /// The data pushed, or the hash of the data wanted.
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    /// Height at endorsement, or the block of the data wanted.
    #[prost(uint64, tag = "7")]
    block: u64,
    #[prost(uint64, tag = "8")]
    tx: u64,
}

/// What another peer says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The data asked for, if it is there.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub data: Option<Vec<u8>>,
    /// Why not; empty if there is no reason.
    #[prost(string, tag = "2")]
    pub refusal: String,
}

/// Speaks to other peers.
pub struct Exchange {
    signer: Arc<SigningIdentity>,
    connections: Arc<Connections>,
}

impl Exchange {
    /// For the peer that signs so.
    pub fn new(signer: Arc<SigningIdentity>, connections: Arc<Connections>) -> Self {
        Self { signer, connections }
    }

    /// Give a transaction's data to a member's peer, before its block comes.
    ///
    /// # Errors
    /// It did not take it.
    pub async fn push(
        &self,
        to: &Contact,
        channel: &str,
        tx_id: &str,
        collection: &Collection,
        data: &[u8],
        height: u64,
    ) -> Result<(), String> {
        let (namespace, name) = collection.clone();
        let ask = Ask {
            kind: Kind::Push.into(),
            to: to.msp_id.clone(),
            tx_id: tx_id.to_owned(),
            namespace,
            collection: name,
            data: data.to_vec(),
            block: height,
            tx: 0,
        };
        self.ask(to, channel, ask).await.map(drop)
    }

    /// Ask a member's peer for a transaction's data.
    ///
    /// # Errors
    /// It did not answer, or refused.
    pub async fn pull(
        &self,
        from: &Contact,
        channel: &str,
        tx_id: &str,
        part: &Part,
        hash: &[u8],
    ) -> Result<Option<Vec<u8>>, String> {
        let (namespace, name) = part.collection.clone();
        let ask = Ask {
            kind: Kind::Pull.into(),
            to: from.msp_id.clone(),
            tx_id: tx_id.to_owned(),
            namespace,
            collection: name,
            data: hash.to_vec(),
            block: part.version.block,
            tx: part.version.tx,
        };
        self.ask(from, channel, ask).await
    }

    async fn ask(&self, to: &Contact, channel: &str, ask: Ask) -> Result<Option<Vec<u8>>, String> {
        let data = ask.encode_to_vec();
        let envelope = envelope::signed(&self.signer, HeaderType::Message, channel, data, &Stamp::now());
        let exchange = async {
            let connection = self.connections.to(&to.host, to.port, &to.roots).await?;
            let mut client = tonic::client::Grpc::new(connection)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            client.ready().await.map_err(|e| e.to_string())?;
            let path = http::uri::PathAndQuery::from_static("/ehrnet.devledger.PrivateData/Ask");
            let codec = tonic_prost::ProstCodec::<Envelope, Answer>::default();
            client.unary(Request::new(envelope), path, codec).await.map_err(|e| e.message().to_owned())
        };
        let answer = tokio::time::timeout(LIMIT, exchange).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        let Answer { data, refusal } = answer
            .inspect_err(|_| self.connections.forget(&to.host, to.port))
            .map_err(|e| format!("{}:{}: {e}", to.host, to.port))?
            .into_inner();
        if refusal.is_empty() { Ok(data) } else { Err(format!("{}:{}: {refusal}", to.host, to.port)) }
    }
}

/// Answers other peers.
#[derive(Clone)]
pub struct Service {
    /// The peer's channels.
    pub channels: Arc<Channels>,
    /// The peer's organisation.
    pub msp_id: String,
    /// How far a request's timestamp may be off.
    pub time_window: Duration,
    /// Faults to play.
    pub faults: Faults,
}

impl Service {
    async fn answer(&self, envelope: Envelope) -> Result<Option<Vec<u8>>, String> {
        let opened = channel::open(&envelope)?;
        let name = opened.channel.channel_id.as_str();
        let injection = self.faults.inject(Operation::PrivateData, name).await;
        if let Some(refusal) = injection.refusal {
            return Err(refusal.message);
        }
        if !within(opened.channel.timestamp.unwrap_or_default().seconds, self.time_window) {
            return Err("the request's timestamp is too far from this peer's clock".into());
        }
        let ask = Ask::decode(opened.data.as_slice()).map_err(|e| format!("request is not readable: {e}"))?;
        if ask.to != self.msp_id {
            return Err(format!("the request is meant for a peer of {}", ask.to));
        }
        let unknown = || format!("channel {name} not found");
        let joined = self.channels.get(name).ok_or_else(unknown)?;
        let bundle = joined.bundle().ok_or_else(unknown)?;
        let asker = bundle.members.identity(&opened.signature.creator)?;
        asker.verify(&envelope.payload, &envelope.signature)?;
        if !is_peer(&asker) {
            return Err("private data is exchanged between peers only".into());
        }
        let collection = (ask.namespace.clone(), ask.collection.clone());
        match ask.kind() {
            Kind::Push => joined.accept_private(&ask.tx_id, &collection, &ask.data, ask.block).map(|()| None),
            Kind::Pull => {
                let part = Part { version: Version { block: ask.block, tx: ask.tx }, collection };
                joined.give_private(&asker, &ask.tx_id, &part, &ask.data)
            }
        }
    }
}

impl UnaryService<Envelope> for Service {
    type Response = Answer;
    type Future = BoxFuture<'static, Result<Response<Answer>, Status>>;

    fn call(&mut self, request: Request<Envelope>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let answer = match service.answer(request.into_inner()).await {
                Ok(data) => Answer { data, refusal: String::new() },
                Err(refusal) => {
                    tracing::warn!(refusal, "refusing a request for private data");
                    Answer { data: None, refusal }
                }
            };
            Ok(Response::new(answer))
        })
    }
}

impl NamedService for Service {
    const NAME: &'static str = "ehrnet.devledger.PrivateData";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<Answer, Envelope>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            Ok(grpc.unary(service, request).await)
        })
    }
}
