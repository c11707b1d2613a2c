//! A channel as its configuration defines it, and the checks that nodes make against it.
//!
//! ```text
//! config block ──> bundle (organizations, policies, orderer settings) ──> consenters (who they are, how they change)
//! ```
//! Pure: no clock, no disk, no network. Who is who, who may and what may change is judged by `fabric`.

pub mod bundle;
pub mod certificate;
pub mod consenters;

use prost::Message;

use ehrnet_fabric::proto::common::{ChannelHeader, Envelope, Header, Payload, SignatureHeader};

/// An envelope taken apart.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// What it is about.
    pub channel: ChannelHeader,
    /// Who signed.
    pub signature: SignatureHeader,
    /// The message itself.
    pub data: Vec<u8>,
}

/// A signature and what it is said to be over.
#[derive(Debug, Clone)]
pub struct SignedData {
    /// The bytes signed.
    pub data: Vec<u8>,
    /// Who is said to have signed (`msp.SerializedIdentity`).
    pub identity: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignedData {
    /// An envelope's signature.
    ///
    /// # Errors
    /// The envelope is malformed.
    pub fn of_envelope(envelope: &Envelope) -> Result<Self, String> {
        let opened = open(envelope)?;
        Ok(Self {
            data: envelope.payload.clone(),
            identity: opened.signature.creator,
            signature: envelope.signature.clone(),
        })
    }
}

/// Take an envelope apart.
///
/// # Errors
/// Fabric's words for what is missing or malformed.
pub fn open(envelope: &Envelope) -> Result<Opened, String> {
    let payload =
        Payload::decode(envelope.payload.as_slice()).map_err(|e| format!("error unmarshalling Payload: {e}"))?;
    let Some(Header { channel_header, signature_header }) = payload.header else { return Err("missing header".into()) };
    let channel = ChannelHeader::decode(channel_header.as_slice())
        .map_err(|e| format!("error unmarshalling ChannelHeader: {e}"))?;
    let signature = SignatureHeader::decode(signature_header.as_slice())
        .map_err(|e| format!("error unmarshalling SignatureHeader: {e}"))?;
    Ok(Opened { channel, signature, data: payload.data })
}

/// Whether a block holds one configuration, by its channel header.
pub fn is_config_block(block: &ehrnet_fabric::proto::common::Block) -> bool {
    ehrnet_fabric::blocks::config(block).is_ok()
}
