//! Envelopes: headers, transaction ids and signatures.
//!
//! Everything that differs between two equal requests (nonce, time) is a [`Stamp`], made in one place and passed in.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::identity::SigningIdentity;
use super::proto::common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader};

/// What makes a message unique: a nonce and the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Random bytes, used once.
    pub nonce: [u8; 24],
    /// Time of the message; nodes refuse what is more than 15 minutes off.
    pub timestamp: prost_types::Timestamp,
}

impl Stamp {
    /// A fresh nonce from the operating system, and the time now.
    pub fn now() -> Self {
        let mut nonce = [0; 24];
        OsRng.try_fill_bytes(&mut nonce).expect("the operating system provides randomness");
        Self { nonce, timestamp: timestamp(SystemTime::now()) }
    }
}

/// Time as protobuf has it; times before 1970 become 1970.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 }
}

/// Transaction id: lower-case hex SHA-256 of nonce and creator.
pub fn tx_id(nonce: &[u8], creator: &[u8]) -> String {
    hex::encode(Sha256::new().chain_update(nonce).chain_update(creator).finalize())
}

/// A channel header for a message of `creator` (empty for nobody).
pub fn channel_header(r#type: HeaderType, channel: &str, creator: &[u8], stamp: &Stamp) -> ChannelHeader {
    ChannelHeader {
        r#type: r#type.into(),
        timestamp: Some(stamp.timestamp),
        channel_id: channel.into(),
        tx_id: tx_id(&stamp.nonce, creator),
        ..Default::default()
    }
}

/// Both headers as bytes.
pub fn header(channel_header: &ChannelHeader, creator: &[u8], stamp: &Stamp) -> Header {
    let signature_header = SignatureHeader { creator: creator.to_vec(), nonce: stamp.nonce.to_vec() };
    Header { channel_header: channel_header.encode_to_vec(), signature_header: signature_header.encode_to_vec() }
}

/// An envelope that `signer` signs.
pub fn signed(signer: &SigningIdentity, r#type: HeaderType, channel: &str, data: Vec<u8>, stamp: &Stamp) -> Envelope {
    let channel_header = channel_header(r#type, channel, signer.serialized(), stamp);
    let payload = Payload { header: Some(header(&channel_header, signer.serialized(), stamp)), data }.encode_to_vec();
    Envelope { signature: signer.sign(&payload), payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tx_id_is_the_hash_of_nonce_and_creator() {
        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(tx_id(b"a", b"bc"), abc);
    }

    #[test]
    fn stamps_differ() {
        assert_ne!(Stamp::now().nonce, Stamp::now().nonce);
    }
}
