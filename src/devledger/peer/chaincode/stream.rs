//! The connection to one chaincode: registration, then messages of many transactions side by side (Fabric:
//! `core/chaincode/handler.go`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::requests::reply;
use crate::dial::{self, Callee, TlsIdentity};
use crate::hosts::Hosts;
use crate::orderer::cluster::MAX_MESSAGE;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::duration;
use ehrnet_fabric::package::Connection;
use ehrnet_fabric::proto::protos::chaincode_client::ChaincodeClient;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::{ChaincodeAdditionalParams, ChaincodeId, ChaincodeMessage};

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);
/// How long to try to connect, where the package does not say (Fabric's default).
const DIAL_LIMIT: Duration = Duration::from_secs(3);
/// Messages that wait to be sent.
const OUTGOING: usize = 64;
/// Fabric's limits of a batch of reads or writes.
const BATCH: u32 = 1000;

/// Channel and transaction id.
type Transaction = (String, String);

/// A chaincode that has registered.
pub struct Stream {
    outgoing: mpsc::Sender<ChaincodeMessage>,
    active: Arc<Mutex<Active>>,
}

#[derive(Default)]
struct Active {
    closed: bool,
    transactions: HashMap<Transaction, mpsc::UnboundedSender<ChaincodeMessage>>,
}

/// A transaction's part of the stream. It ends when this is dropped.
pub struct Conversation<'a> {
    stream: &'a Stream,
    transaction: Transaction,
    incoming: mpsc::UnboundedReceiver<ChaincodeMessage>,
}

impl Stream {
    /// Connect to the chaincode of package `id` and let it register, within `limit`.
    ///
    /// # Errors
    /// It cannot be reached, or is not that package's.
    pub async fn connect(
        id: &str,
        connection: &Connection,
        hosts: &Hosts,
        limit: Duration,
    ) -> Result<Arc<Self>, String> {
        let attempt = async {
            let channel = dial(connection, hosts).await.map_err(|e| {
                format!(
                    "connection to {id} failed: error cannot create connection for {id}: error creating grpc \
                     connection to {}: {e}",
                    connection.address
                )
            })?;
            let (outgoing, messages) = mpsc::channel(OUTGOING);
            let mut client = ChaincodeClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            let incoming = client.connect(ReceiverStream::new(messages)).await;
            let mut incoming = incoming
                .map_err(|e| format!("error creating grpc client connection to {id}: {}", e.message()))?
                .into_inner();
            register(id, &outgoing, &mut incoming).await?;
            Ok::<_, String>((outgoing, incoming))
        };
        let (outgoing, incoming) = tokio::time::timeout(limit, attempt)
            .await
            .map_err(|_| format!("timeout expired while starting chaincode {id} for transaction"))??;
        let active = Arc::new(Mutex::new(Active::default()));
        tokio::spawn(receive(id.to_owned(), incoming, outgoing.clone(), active.clone()));
        Ok(Arc::new(Self { outgoing, active }))
    }

    /// Whether the chaincode went away.
    pub fn is_closed(&self) -> bool {
        self.active().closed
    }

    /// Begin a transaction.
    ///
    /// # Errors
    /// The chaincode went away, or already works on a transaction of that id.
    pub fn converse(&self, channel: &str, tx_id: &str) -> Result<Conversation<'_>, String> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let transaction = (channel.to_owned(), tx_id.to_owned());
        let mut active = self.active();
        if active.closed {
            return Err("chaincode stream terminated".into());
        }
        if active.transactions.contains_key(&transaction) {
            return Err(format!("txid: {tx_id}({channel}) exists"));
        }
        active.transactions.insert(transaction.clone(), sender);
        Ok(Conversation { stream: self, transaction, incoming })
    }

    fn active(&self) -> std::sync::MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation<'_> {
    /// Tell the chaincode something.
    ///
    /// # Errors
    /// It went away.
    pub async fn send(&self, message: ChaincodeMessage) -> Result<(), String> {
        self.stream.outgoing.send(message).await.map_err(|_| "chaincode stream terminated".to_owned())
    }

    /// What the chaincode says next.
    ///
    /// # Errors
    /// It went away.
    pub async fn next(&mut self) -> Result<ChaincodeMessage, String> {
        self.incoming.recv().await.ok_or_else(|| "chaincode stream terminated".to_owned())
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        self.stream.active().transactions.remove(&self.transaction);
    }
}

/// Connect, trying again until the package's time for it is up: the chaincode may just be starting.
async fn dial(connection: &Connection, hosts: &Hosts) -> Result<Channel, String> {
    let Endpoint { host, port } = connection.address.parse().map_err(|error| format!("chaincode address {error}"))?;
    let limit = duration::parse(&connection.dial_timeout).filter(|limit| !limit.is_zero());
    let until = tokio::time::Instant::now() + limit.unwrap_or(DIAL_LIMIT);
    loop {
        let attempt = if connection.tls_required {
            let roots = certificates(&connection.root_cert)?;
            let callee = Callee { host: host.clone(), port, roots, expected: None };
            let identity = match connection.client_auth_required {
                true => Some(client_identity(connection)?),
                false => None,
            };
            dial::connect(hosts, callee, identity.as_ref()).await
        } else {
            dial::connect_plain(hosts, &host, port).await
        };
        match attempt {
            Ok(channel) => return Ok(channel),
            Err(error) if tokio::time::Instant::now() + RETRY > until => return Err(error.to_string()),
            Err(error) => {
                tracing::debug!(address = connection.address, %error, "chaincode does not answer yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.map_err(|e| format!("certificate in connection.json is not PEM: {e}"))
}

fn client_identity(connection: &Connection) -> Result<TlsIdentity, String> {
    let key = PrivateKeyDer::from_pem_slice(connection.client_key.as_bytes())
        .map_err(|_| "client_key in connection.json is not a private key in PEM".to_owned())?;
    Ok(TlsIdentity { chain: certificates(&connection.client_cert)?, key })
}

async fn register(
    id: &str,
    outgoing: &mpsc::Sender<ChaincodeMessage>,
    incoming: &mut Streaming<ChaincodeMessage>,
) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("chaincode registration failed: {e}");
    let first = incoming.message().await.map_err(|e| failed(&e.message()))?;
    let first = first.ok_or_else(|| failed(&format!("connection to {id} terminated")))?;
    if first.r#type() != Type::Register {
        return Err(failed(&format!(
            "cannot handle message ({}) while in created state",
            first.r#type().as_str_name()
        )));
    }
    let name = ChaincodeId::decode(first.payload.as_slice()).map_err(|e| failed(&e))?.name;
    if name != id {
        return Err(failed(&format!("the chaincode at this address is {name:?}, not package {id:?}")));
    }
    let abilities = ChaincodeAdditionalParams {
        use_write_batch: true,
        max_size_write_batch: BATCH,
        use_get_multiple_keys: true,
        max_size_get_multiple_keys: BATCH,
    };
    for (kind, payload) in [(Type::Registered, Vec::new()), (Type::Ready, abilities.encode_to_vec())] {
        let message = ChaincodeMessage { r#type: kind.into(), payload, ..Default::default() };
        outgoing.send(message).await.map_err(|_| failed(&format!("connection to {id} terminated")))?;
    }
    tracing::info!(package = id, "a chaincode registered");
    Ok(())
}

/// Hand messages to their transactions until the chaincode goes away.
async fn receive(
    id: String,
    mut incoming: Streaming<ChaincodeMessage>,
    outgoing: mpsc::Sender<ChaincodeMessage>,
    active: Arc<Mutex<Active>>,
) {
    let reason = loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break "it closed the connection".to_owned(),
            Err(status) => break status.message().to_owned(),
        };
        if message.r#type() == Type::Keepalive {
            continue;
        }
        let Err(late) = deliver(&active, message) else { continue };
        tracing::debug!(package = id, tx = late.txid, "a chaincode spoke of a transaction that is over");
        // Whoever waits for an answer there must not wait for ever.
        let asks = !matches!(late.r#type(), Type::Completed | Type::Error);
        if asks && outgoing.send(reply(&late, Err("no ledger context".into()))).await.is_err() {
            break "it closed the connection".to_owned();
        }
    };
    tracing::warn!(package = id, reason, "a chaincode went away");
    let mut active = active.lock().unwrap_or_else(PoisonError::into_inner);
    active.closed = true;
    active.transactions.clear();
}

/// Hand a message to its transaction; back comes what nobody waits for any more.
fn deliver(active: &Mutex<Active>, message: ChaincodeMessage) -> Result<(), Box<ChaincodeMessage>> {
    let transaction = (message.channel_id.clone(), message.txid.clone());
    let active = active.lock().unwrap_or_else(PoisonError::into_inner);
    match active.transactions.get(&transaction) {
        Some(sender) => sender.send(message).map_err(|unsent| Box::new(unsent.0)),
        None => Err(Box::new(message)),
    }
}
