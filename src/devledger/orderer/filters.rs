//! What an orderer checks before it orders a message.

use std::collections::BTreeSet;

use prost::Message;

use crate::channel::bundle::Bundle;
use crate::channel::{self, SignedData, certificate, consenters};
use ehrnet_fabric::config_rules;
use ehrnet_fabric::envelope::{self, Stamp};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::proto::common::{ConfigEnvelope, Envelope, HeaderType, Status};
use ehrnet_fabric::proto::etcdraft::BlockMetadata;

/// Why a message is not ordered: a broadcast status and Fabric's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What the client gets.
    pub status: Status,
    /// Why.
    pub reason: String,
}

impl Rejection {
    fn bad(reason: impl Into<String>) -> Self {
        Self { status: Status::BadRequest, reason: reason.into() }
    }

    fn within(self, context: &str) -> Self {
        Self { reason: format!("{context}: {}", self.reason), ..self }
    }
}

/// What a message is processed by.
pub struct MessageProcessor<'a> {
    /// The configuration in force.
    pub bundle: &'a Bundle,
    /// Consenter ids of the last block.
    pub metadata: &'a BlockMetadata,
    /// Consenters that answer now.
    pub active: BTreeSet<u64>,
    /// Signs the configurations this node proposes.
    pub signer: &'a SigningIdentity,
    /// Expired creators are taken.
    pub no_expiration_checks: bool,
    /// Seconds since 1970.
    pub now: i64,
}

impl MessageProcessor<'_> {
    /// Whether a transaction may be ordered.
    ///
    /// # Errors
    /// The rejection to answer with.
    pub fn transaction(&self, message: &Envelope) -> Result<(), Rejection> {
        if self.bundle.orderer.in_maintenance() {
            let reason = "normal transactions are rejected: maintenance mode".into();
            return Err(Rejection { status: Status::ServiceUnavailable, reason });
        }
        self.filter(message)
    }

    /// The CONFIG message that a config update becomes.
    ///
    /// # Errors
    /// The rejection to answer with.
    pub fn config_update(&self, message: &Envelope) -> Result<Envelope, Rejection> {
        let name = &self.bundle.channel;
        self.filter(message).map_err(|r| r.within("config update for existing channel did not pass initial checks"))?;
        let config = self
            .propose(message)
            .map_err(|e| Rejection::bad(format!("error applying config update to existing channel '{name}': {e}")))?;
        let data = config.encode_to_vec();
        let config = envelope::signed(self.signer, HeaderType::Config, name, data, &Stamp::now());
        self.filter(&config).map_err(|r| r.within("config update for existing channel did not pass final checks"))?;
        Ok(config)
    }

    /// The same for a CONFIG message that another orderer made under an older configuration.
    ///
    /// # Errors
    /// The rejection to answer with.
    pub fn config(&self, message: &Envelope) -> Result<Envelope, Rejection> {
        let opened = channel::open(message).map_err(Rejection::bad)?;
        let config = ConfigEnvelope::decode(opened.data.as_slice()).map_err(|e| Rejection::bad(e.to_string()))?;
        self.config_update(&config.last_update.unwrap_or_default())
    }

    fn propose(&self, message: &Envelope) -> Result<ConfigEnvelope, String> {
        let proposed = self.bundle.propose(message)?;
        let next = Bundle::new(&self.bundle.channel, proposed.config.clone().unwrap_or_default())?;
        config_rules::check_change(self.bundle.root(), next.root())?;
        consenters::check_update(&self.bundle.orderer, &next, self.metadata, &self.active, self.now)
            .map_err(|e| format!("consensus metadata update for channel config update is invalid: {e}"))?;
        Ok(proposed)
    }

    fn filter(&self, message: &Envelope) -> Result<(), Rejection> {
        if message.payload.is_empty() {
            return Err(Rejection::bad("Message was empty"));
        }
        let size = message.payload.len() + message.signature.len();
        let limit = self.bundle.orderer.batch_size.absolute_max_bytes as usize;
        if size > limit {
            return Err(Rejection::bad(format!(
                "message payload is {size} bytes and exceeds maximum allowed {limit} bytes"
            )));
        }
        let signed = SignedData::of_envelope(message)
            .map_err(|e| Rejection::bad(format!("could not convert message to signedData: {e}")))?;
        if !self.no_expiration_checks && certificate::expires_at(&signed.identity).is_some_and(|end| end <= self.now) {
            return Err(Rejection::bad("broadcast client identity expired"));
        }
        let policy = if self.bundle.orderer.in_maintenance() { "/Channel/Orderer/Writers" } else { "/Channel/Writers" };
        self.bundle
            .check(policy, &[signed])
            .map_err(|reason| Rejection { status: Status::Forbidden, reason: format!("{reason}: permission denied") })
    }
}
