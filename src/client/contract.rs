//! Calls of the contract through the gateway of the hospital's peer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rand::RngCore;
use tokio::net::TcpStream;

use super::ClientError;
use super::bundle::Bundle;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::LedgerError;
use ehrnet_fabric::gateway::Client;
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed, Target};
use ehrnet_fabric::proposal::Call;
use ehrnet_messages::hash::SALT_LENGTH;
use ehrnet_messages::{CHAINCODE_NAME, Function};

/// What to connect to, where the bundle does not say it.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Where to connect to instead of the peer's own address, for example a forwarded port. The peer's certificate must
    /// still be that of its own name.
    pub peer: Option<Endpoint>,
    /// Channel; the hospital's only one if absent.
    pub channel: Option<String>,
    /// Name of the contract on the channel.
    pub chaincode: Option<String>,
}

/// The health-record contract on a channel, called as one identity (Fabric Gateway: `Contract`).
pub struct Contract {
    gateway: Client,
    channel: String,
    chaincode: String,
}

impl Contract {
    /// Prepares calls; the connection is made by the first one.
    ///
    /// # Errors
    /// The bundle does not say which channel, or its certificates cannot be used.
    pub fn open(bundle: Bundle, options: ConnectOptions) -> Result<Self, ClientError> {
        let channel = bundle.channel(options.channel.as_deref())?;
        let target = Target {
            host: bundle.peer.host,
            port: bundle.peer.port,
            tls_roots: vec![bundle.tls_roots],
            client_identity: None,
        };
        let gateway = Client::new(Arc::new(Direct { instead: options.peer }), &target, Arc::new(bundle.identity));
        let gateway = gateway.map_err(|error| ClientError::Input(format!("the bundle cannot be used: {error}")))?;
        Ok(Self { gateway, channel, chaincode: options.chaincode.unwrap_or_else(|| CHAINCODE_NAME.to_owned()) })
    }

    /// `channel/chaincode`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.channel, self.chaincode)
    }

    /// Calls a function: submitted and committed if it changes the ledger, evaluated if not.
    ///
    /// # Errors
    /// The ledger refuses or cannot be reached, or its answer cannot be read.
    pub async fn call<F: Function>(
        &self,
        argument: &F,
        secret: Option<&F::Transient>,
    ) -> Result<F::Output, ClientError> {
        let function = F::NAME;
        let input = |error: serde_json::Error| ClientError::Input(format!("{function}: {error}"));
        let mut call = Call::new(&self.channel, &self.chaincode, argument.arguments().map_err(input)?);
        if let (Some(name), Some(secret)) = (F::TRANSIENT, secret) {
            call.transient = BTreeMap::from([(name.to_owned(), serde_json::to_vec(secret).map_err(input)?)]);
        }
        let answered = match F::SUBMIT {
            true => self.gateway.submit(&call, &[]).await.map(|committed| committed.result),
            false => self.gateway.evaluate(&call, &[]).await,
        };
        let answer = answered.map_err(|source| match source.is_disagreement() {
            true => ClientError::Disagreement { function, source: Box::new(source) },
            false => ClientError::Ledger { function, source },
        })?;
        serde_json::from_slice(&answer).map_err(|error| ClientError::Answer { function, problem: error.to_string() })
    }
}

impl ClientError {
    /// Whether the contract has answered, and with a refusal.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Ledger { source: LedgerError::Declined { .. } | LedgerError::Refused { .. }, .. })
    }
}

/// Random bytes that keep what is written privately from being guessed by its hash, in hexadecimal.
pub fn salt() -> String {
    let mut salt = [0; SALT_LENGTH];
    rand::rng().fill_bytes(&mut salt);
    hex::encode(salt)
}

/// Dials without asking anybody for leave: who runs a command has decided.
struct Direct {
    instead: Option<Endpoint>,
}

#[async_trait]
impl Network for Direct {
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        match &self.instead {
            Some(instead) => TcpStream::connect((instead.host.as_str(), instead.port)).await,
            None => TcpStream::connect((host, port)).await,
        }
    }

    async fn before_write(&self, _: &LedgerAct) -> Result<(), NotAllowed> {
        Ok(())
    }

    async fn after_write(&self, _: &LedgerAct) {}
}
