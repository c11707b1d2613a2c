//! One peer's stream: handshake, then transactions beside each other until the peer goes or the contract stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::stub::{Limits, PeerStub};
use super::unpack;
use crate::{ContractError, invoke};
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::{
    ChaincodeAdditionalParams, ChaincodeEvent, ChaincodeId, ChaincodeMessage, Response,
};
use ehrnet_messages::Members;

/// How long running transactions may take to end when the contract stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Status of a response that is a result.
const OK: i32 = 200;

/// Where messages to the peer go.
pub type Outgoing = mpsc::Sender<Result<ChaincodeMessage, Status>>;
/// Channel and transaction.
type TransactionKey = (String, String);

/// One peer's stream.
pub struct Session {
    id: String,
    members: Arc<Members>,
    outgoing: Outgoing,
    stop: watch::Receiver<bool>,
    limits: Limits,
    /// Where the peer's answers to a running transaction go.
    answers: BTreeMap<TransactionKey, mpsc::Sender<ChaincodeMessage>>,
    running: JoinSet<TransactionKey>,
}

/// Why a stream ends before the peer ends it.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the peer sent {got:?} where {wanted} comes")]
    Unexpected { got: Type, wanted: &'static str },
    #[error("the stream failed: {0}")]
    Stream(#[from] Status),
    #[error("the peer went away")]
    Gone,
}

impl Session {
    /// The stream of a peer that knows the contract as `id`.
    pub fn new(id: String, members: Arc<Members>, outgoing: Outgoing, stop: watch::Receiver<bool>) -> Self {
        Self {
            id,
            members,
            outgoing,
            stop,
            limits: Limits::default(),
            answers: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Serves the stream to its end.
    pub async fn run(mut self, peer: String, mut incoming: Streaming<ChaincodeMessage>) {
        info!(%peer, "a peer connected");
        let ended = match self.register(&mut incoming).await {
            Ok(()) => self.serve(&mut incoming).await,
            Err(broken) => Err(broken),
        };
        match ended {
            Ok(()) => info!(%peer, "the stream ended"),
            Err(broken) => warn!(%peer, "the stream ended: {broken}"),
        }
    }

    async fn register(&mut self, incoming: &mut Streaming<ChaincodeMessage>) -> Result<(), Broken> {
        let id = ChaincodeId { name: self.id.clone(), ..Default::default() };
        self.send(ChaincodeMessage { payload: id.encode_to_vec(), ..message(Type::Register) }).await?;
        let mut next = async || incoming.message().await?.ok_or(Broken::Gone);
        expect(&next().await?, Type::Registered, "REGISTERED")?;
        let ready = next().await?;
        expect(&ready, Type::Ready, "READY")?;
        // Peers before 3.1 say nothing here, which offers nothing.
        let offered = ChaincodeAdditionalParams::decode(ready.payload.as_slice()).unwrap_or_default();
        self.limits = Limits::of(&offered);
        Ok(())
    }

    async fn serve(&mut self, incoming: &mut Streaming<ChaincodeMessage>) -> Result<(), Broken> {
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                message = incoming.message() => match message? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(()),
                },
                Some(ended) = self.running.join_next() => self.forget(ended),
                () = stopped(&mut stop) => break,
            }
        }
        match tokio::time::timeout(DRAIN, self.drain(incoming)).await {
            Ok(drained) => drained,
            Err(_) => {
                warn!(running = self.running.len(), "transactions did not end in time");
                Ok(())
            }
        }
    }

    /// Serves until nothing runs.
    async fn drain(&mut self, incoming: &mut Streaming<ChaincodeMessage>) -> Result<(), Broken> {
        loop {
            tokio::select! {
                ended = self.running.join_next() => match ended {
                    Some(ended) => self.forget(ended),
                    None => return Ok(()),
                },
                message = incoming.message() => match message? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn forget(&mut self, ended: Result<TransactionKey, tokio::task::JoinError>) {
        match ended {
            Ok(key) => drop(self.answers.remove(&key)),
            Err(error) => warn!("a transaction ended badly: {error}"),
        }
    }

    async fn take(&mut self, message: ChaincodeMessage) -> Result<(), Broken> {
        match message.r#type() {
            Type::Keepalive => self.send(message).await,
            Type::Transaction | Type::Init => {
                self.start(message);
                Ok(())
            }
            Type::Response | Type::Error => {
                self.answer(message);
                Ok(())
            }
            got => Err(Broken::Unexpected { got, wanted: "a transaction or an answer" }),
        }
    }

    fn start(&mut self, message: ChaincodeMessage) {
        let key = (message.channel_id.clone(), message.txid.clone());
        // Of one transaction, one question at a time waits for its answer.
        let (answers, receiver) = mpsc::channel(1);
        self.answers.insert(key.clone(), answers);
        let stub = PeerStub::new(key.clone(), self.outgoing.clone(), receiver, self.limits);
        let (outgoing, members) = (self.outgoing.clone(), self.members.clone());
        self.running.spawn(async move {
            let completed = complete(message, &members, stub).await;
            if outgoing.send(Ok(completed)).await.is_err() {
                warn!(tx = %key.1, "the peer went away before the transaction ended");
            }
            key
        });
    }

    /// Never waits: a peer that answers twice must not hold up the transactions beside.
    fn answer(&self, message: ChaincodeMessage) {
        let key = (message.channel_id.clone(), message.txid.clone());
        let taken = self.answers.get(&key).is_some_and(|waiting| waiting.try_send(message).is_ok());
        if !taken {
            // The peer may have given up on the transaction (executetimeout).
            info!(tx = %key.1, "an answer came that nobody waits for");
        }
    }

    async fn send(&self, message: ChaincodeMessage) -> Result<(), Broken> {
        self.outgoing.send(Ok(message)).await.map_err(|_| Broken::Gone)
    }
}

/// Returns once stopping was asked for; a switch that is gone asks as well.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

fn expect(message: &ChaincodeMessage, r#type: Type, wanted: &'static str) -> Result<(), Broken> {
    let got = message.r#type();
    (got == r#type).then_some(()).ok_or(Broken::Unexpected { got, wanted })
}

fn message(r#type: Type) -> ChaincodeMessage {
    ChaincodeMessage { r#type: r#type.into(), ..Default::default() }
}

/// Runs a transaction: its last message.
async fn complete(request: ChaincodeMessage, members: &Members, mut stub: PeerStub) -> ChaincodeMessage {
    let (response, event) = match execute(&request, members, &mut stub).await {
        Ok((payload, event)) => (Response { status: OK, payload, ..Default::default() }, event),
        Err(ContractError { status, message }) => {
            info!(tx = %request.txid, status, "not answered: {message}");
            (Response { status, message, ..Default::default() }, None)
        }
    };
    let chaincode_event = event.map(|(name, payload)| ChaincodeEvent {
        tx_id: request.txid.clone(),
        event_name: name.to_owned(),
        payload,
        ..Default::default()
    });
    ChaincodeMessage {
        payload: response.encode_to_vec(),
        txid: request.txid,
        channel_id: request.channel_id,
        chaincode_event,
        ..message(Type::Completed)
    }
}

/// The answer, and the event.
type Executed = (Vec<u8>, Option<(&'static str, Vec<u8>)>);

async fn execute(
    request: &ChaincodeMessage,
    members: &Members,
    stub: &mut PeerStub,
) -> Result<Executed, ContractError> {
    if request.r#type() == Type::Init {
        // The contract has nothing to set up; a chaincode with initRequired asks all the same.
        return Ok((Vec::new(), None));
    }
    let call = unpack::call(request)?;
    let (payload, effects) = invoke(&call, members, stub).await?;
    stub.write(effects.writes).await?;
    Ok((payload, effects.event))
}
