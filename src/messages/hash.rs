//! Pseudonyms, digests and salted hashes: what stands on the public ledger instead of what must not.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of a salt.
pub const SALT_LENGTH: usize = 32;

/// A patient's name on the ledger: lower-case hexadecimal HMAC-SHA-256 of the patient's id under the network's secret.
/// Only who holds the secret can tell whose it is; another secret gives everybody another name.
pub fn pseudonym(network_secret: &[u8; 32], patient_id: &str) -> String {
    // RFC 2104: a key that is shorter than a block is filled up with zeros.
    let mut key = [0; 64];
    key[..network_secret.len()].copy_from_slice(network_secret);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&key.into());
    mac.update(patient_id.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// SHA-256 of a document in canonical JSON (RFC 8785), lower-case hexadecimal: the order of members and the spelling of
/// numbers do not change it.
///
/// # Errors
/// The document has a number that JSON cannot carry.
pub fn document_digest(document: &Value) -> Result<String, serde_json::Error> {
    Ok(hex::encode(Sha256::digest(serde_json_canonicalizer::to_vec(document)?)))
}

/// SHA-256 of salt and content, lower-case hexadecimal. Who does not know the salt cannot find the content by trying
/// likely ones; when the salt is gone, nobody can.
pub fn salted(salt: &[u8; SALT_LENGTH], content: &[u8]) -> String {
    hex::encode(Sha256::new().chain_update(salt).chain_update(content).finalize())
}

/// The hash that stands for a person or system on the public ledger: of MSP and [`crate::Person::id`].
/// It hides nothing from who knows the staff: the certificate stands in the transaction itself.
pub fn actor(msp_id: &str, id: &str) -> String {
    hex::encode(Sha256::new().chain_update(msp_id).chain_update([0]).chain_update(id).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pseudonym_is_the_hmac_of_rfc_4231() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(pseudonym(&key, "what do ya want for nothing?"), expected);
    }

    /// C6.
    #[test]
    fn the_order_of_members_does_not_change_a_digest_and_one_byte_does() {
        let digest = |document| document_digest(&document).expect("canonical");
        let (one, same) = (json!({"a": 1.0, "b": "x"}), json!({"b": "x", "a": 1}));
        assert_eq!(digest(one), digest(same));
        assert_ne!(digest(json!({"b": "x"})), digest(json!({"b": "y"})));
    }

    #[test]
    fn an_actor_is_another_at_another_hospital() {
        assert_ne!(actor("A", "Practitioner/7"), actor("B", "Practitioner/7"));
        assert_ne!(actor("A", "BC"), actor("AB", "C"));
    }
}
