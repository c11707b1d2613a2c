//! How the orderers of a channel talk to each other, on the gRPC port over mutual TLS.
//!
//! The service is our own (`ehrnet.devledger.Cluster`), its rule is Fabric's: a caller is a consenter of the channel if
//! its TLS certificate has the public key that the channel's configuration gives for a consenter, and the callee must
//! present the key of the consenter it is called as.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::dial::{self, Callee, TlsIdentity, same_key};
use crate::faults::{Faults, Operation};
use crate::hosts::Hosts;
use crate::listen::Caller;

/// Fabric's limit for one message.
pub const MAX_MESSAGE: usize = 100 * 1024 * 1024;

/// A consenter as its fellows know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// The TLS certificate it serves with.
    pub server_certificate: CertificateDer<'static>,
    /// The TLS certificate it calls with.
    pub client_certificate: CertificateDer<'static>,
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    /// A raft message; the reply's body answers it.
    Step = 0,
    /// An envelope for the leader to order.
    Submit = 1,
    /// A signature over the block of that number.
    Sign = 2,
    /// How far the raft group is at the callee.
    Probe = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Call {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(enumeration = "Kind", tag = "2")]
    kind: i32,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
    /// Sequence of the configuration (submit) or block number (sign).
    #[prost(uint64, tag = "4")]
    number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
    /// Why the call was refused; empty if it was not.
    #[prost(string, tag = "2")]
    refusal: String,
}

/// Why a fellow did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The channel has no such consenter.
    #[error("node {0} doesn't exist in the channel's membership")]
    Unknown(u64),
    /// It could not be reached, or did not answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered no.
    #[error("{0}")]
    Refused(String),
    /// What it sent makes no sense.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// One channel's consenters by raft id, and the CAs of their TLS certificates.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Consenters.
    pub members: BTreeMap<u64, Member>,
    /// Roots (DER).
    pub tls_roots: Vec<CertificateDer<'static>>,
}

/// Host, port and server certificate: a renewed certificate is another connection.
type Peer = (String, u16, Vec<u8>);

/// Connections to other orderers, and who they are per channel.
pub struct Cluster {
    identity: Option<TlsIdentity>,
    hosts: Hosts,
    channels: RwLock<HashMap<String, Membership>>,
    connections: Mutex<HashMap<Peer, Channel>>,
    /// When a consenter last answered, by channel.
    answered: Mutex<HashMap<(String, u64), Instant>>,
    /// Which consenters answer the leader, by its own account.
    last_active: Mutex<HashMap<String, BTreeSet<u64>>>,
}

impl Cluster {
    /// `identity`: the node's own TLS certificate. Without it (no TLS configured) nobody can be called.
    pub fn new(identity: Option<TlsIdentity>, hosts: Hosts) -> Self {
        Self {
            identity,
            hosts,
            channels: RwLock::default(),
            connections: Mutex::default(),
            answered: Mutex::default(),
            last_active: Mutex::default(),
        }
    }

    /// Set who a channel's consenters are. Those of `voters` that are no longer listed stay known: the raft group still
    /// needs them to agree that they leave.
    pub fn configure(&self, channel: &str, mut membership: Membership, voters: &BTreeSet<u64>) {
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = channels.remove(channel) {
            let leavers = known.members.into_iter().filter(|(id, _)| voters.contains(id));
            for (id, member) in leavers {
                membership.members.entry(id).or_insert(member);
            }
        }
        channels.insert(channel.to_owned(), membership);
    }

    /// Forget a channel.
    pub fn forget(&self, channel: &str) {
        self.channels.write().unwrap_or_else(PoisonError::into_inner).remove(channel);
    }

    /// Consenters that answer now: whom a leader reached within `window`, or what the leader last told the others.
    pub fn active(&self, channel: &str, own: u64, leads: bool, window: Duration) -> BTreeSet<u64> {
        if !leads {
            return self
                .last_active
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(channel)
                .cloned()
                .unwrap_or_default();
        }
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = answered.iter().filter(|((of, _), at)| of == channel && at.elapsed() <= window);
        recent.map(|((_, id), _)| *id).chain([own]).collect()
    }

    /// Note whom the leader reaches.
    pub fn tell(&self, channel: &str, active: BTreeSet<u64>) {
        self.last_active.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.to_owned(), active);
    }

    /// The consenter that has this TLS certificate's key.
    fn sender(&self, channel: &str, certificate: &CertificateDer<'_>) -> Option<u64> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let mut members = channels.get(channel)?.members.iter();
        members.find(|(_, member)| same_key(&member.client_certificate, certificate)).map(|(id, _)| *id)
    }

    /// Send a raft message and wait for its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn step(&self, channel: &str, to: u64, body: Vec<u8>, limit: Duration) -> Result<Vec<u8>, CallError> {
        self.call(to, Call { channel: channel.into(), kind: Kind::Step.into(), body, number: 0 }, limit).await
    }

    /// Give an envelope to the leader.
    ///
    /// # Errors
    /// See [`CallError`]; `Refused` has the leader's words.
    pub async fn submit(
        &self,
        channel: &str,
        to: u64,
        envelope: Vec<u8>,
        config_sequence: u64,
        limit: Duration,
    ) -> Result<(), CallError> {
        let call = Call { channel: channel.into(), kind: Kind::Submit.into(), body: envelope, number: config_sequence };
        self.call(to, call, limit).await.map(drop)
    }

    /// Ask for a signature over block `number`, as an encoded `common.MetadataSignature`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn sign(&self, channel: &str, to: u64, number: u64, limit: Duration) -> Result<Vec<u8>, CallError> {
        let call = Call { channel: channel.into(), kind: Kind::Sign.into(), body: Vec::new(), number };
        self.call(to, call, limit).await
    }

    /// Ask how far the raft group is at another consenter.
    ///
    /// # Errors
    /// See [`CallError`]; `Refused` if it has not joined.
    pub async fn probe(&self, channel: &str, to: u64, limit: Duration) -> Result<Formation, CallError> {
        let call = Call { channel: channel.into(), kind: Kind::Probe.into(), body: Vec::new(), number: 0 };
        match self.call(to, call, limit).await?.as_slice() {
            [0] => Ok(Formation::Waiting),
            [1] => Ok(Formation::Leaderless),
            [2] => Ok(Formation::Led),
            _ => Err(CallError::Malformed("not a state of a raft group".into())),
        }
    }

    async fn call(&self, to: u64, call: Call, limit: Duration) -> Result<Vec<u8>, CallError> {
        let contact = (call.channel.clone(), to);
        let exchange = async {
            let connection = self.connection(&call.channel, to).await?;
            let mut client = tonic::client::Grpc::new(connection)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            let unreachable = |e: &dyn std::fmt::Display| CallError::Unreachable(e.to_string());
            client.ready().await.map_err(|e| unreachable(&e))?;
            let path = http::uri::PathAndQuery::from_static("/ehrnet.devledger.Cluster/Call");
            let codec = tonic_prost::ProstCodec::<Call, Reply>::default();
            client.unary(Request::new(call), path, codec).await.map_err(|e| unreachable(&e.message()))
        };
        let reply = tokio::time::timeout(limit, exchange).await;
        let reply = reply.map_err(|_| CallError::Unreachable(format!("no answer within {limit:?}")))??.into_inner();
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(contact, Instant::now());
        if reply.refusal.is_empty() { Ok(reply.body) } else { Err(CallError::Refused(reply.refusal)) }
    }

    async fn connection(&self, channel: &str, to: u64) -> Result<Channel, CallError> {
        let (member, roots) = {
            let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
            let membership = channels.get(channel).ok_or(CallError::Unknown(to))?;
            let member = membership.members.get(&to).ok_or(CallError::Unknown(to))?;
            (member.clone(), membership.tls_roots.clone())
        };
        let key = (member.host.clone(), member.port, member.server_certificate.to_vec());
        if let Some(open) = self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(open.clone());
        }
        let Member { host, port, server_certificate, .. } = member;
        let callee = Callee { host, port, roots, expected: Some(server_certificate) };
        let connected = dial::connect(&self.hosts, callee, self.identity.as_ref()).await;
        let connection = connected.map_err(|e| CallError::Unreachable(e.to_string()))?;
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(key, connection.clone());
        Ok(connection)
    }
}

/// How far a raft group is at one of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formation {
    /// The node has not heard of the group.
    Waiting = 0,
    /// The group exists but the node knows no leader.
    Leaderless = 1,
    /// There is a leader.
    Led = 2,
}

/// What this node does for its fellows; `from` is the caller's raft id.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answer a raft message.
    async fn step(&self, channel: &str, from: u64, body: &[u8]) -> Result<Vec<u8>, String>;
    /// Order an envelope, found valid under configuration `config_sequence`.
    async fn submit(&self, channel: &str, from: u64, envelope: &[u8], config_sequence: u64) -> Result<(), String>;
    /// Tell how far the raft group is here. That someone asks means that a vote may now succeed.
    async fn probe(&self, channel: &str, from: u64) -> Result<Formation, String>;
    /// Sign a block, once it is there.
    async fn sign(&self, channel: &str, from: u64, number: u64) -> Result<Vec<u8>, String>;
}

/// The gRPC service.
#[derive(Clone)]
pub struct Service {
    cluster: Arc<Cluster>,
    handler: Arc<dyn Handler>,
    faults: Faults,
}

impl Service {
    /// Serve `handler` to the consenters that `cluster` knows.
    pub fn new(cluster: Arc<Cluster>, handler: Arc<dyn Handler>, faults: Faults) -> Self {
        Self { cluster, handler, faults }
    }

    async fn answer(&self, request: Request<Call>) -> Result<Response<Reply>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Call { channel, kind, body, number } = request.into_inner();
        let certificate = caller.as_ref().and_then(|caller| caller.certificates.first());
        let Some(from) = certificate.and_then(|certificate| self.cluster.sender(&channel, certificate)) else {
            tracing::warn!(channel, address = ?caller.map(|c| c.address), "caller is no consenter of the channel");
            return Err(Status::unauthenticated("access denied"));
        };
        let injection = self.faults.inject(Operation::Consensus, &channel).await;
        if let Some(refusal) = injection.refusal {
            return Err(Status::unavailable(refusal.message));
        }
        let result = match Kind::try_from(kind) {
            Ok(Kind::Step) => self.handler.step(&channel, from, &body).await,
            Ok(Kind::Submit) => self.handler.submit(&channel, from, &body, number).await.map(|()| Vec::new()),
            Ok(Kind::Probe) => self.handler.probe(&channel, from).await.map(|formation| vec![formation as u8]),
            Ok(Kind::Sign) => self.handler.sign(&channel, from, number).await,
            Err(_) => Err(format!("unknown kind of call {kind}")),
        };
        if injection.drop_reply {
            return Err(Status::unavailable("reply dropped on request"));
        }
        Ok(Response::new(match result {
            Ok(body) => Reply { body, refusal: String::new() },
            Err(refusal) => Reply { body: Vec::new(), refusal },
        }))
    }
}

impl UnaryService<Call> for Service {
    type Response = Reply;
    type Future = BoxFuture<'static, Result<Response<Reply>, Status>>;

    fn call(&mut self, request: Request<Call>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.answer(request).await })
    }
}

impl NamedService for Service {
    const NAME: &'static str = "ehrnet.devledger.Cluster";
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
            let codec = tonic_prost::ProstCodec::<Reply, Call>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            Ok(grpc.unary(service, request).await)
        })
    }
}
