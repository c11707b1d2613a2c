//! Private keys: ECDSA P-256, signatures always low-S, wiped from memory when dropped, never shown by `Debug`.

use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rand::RngCore;
use zeroize::{Zeroize, Zeroizing};

/// A P-256 private key with its public point.
#[derive(Clone)]
pub struct PrivateKey {
    secret: SecretKey,
    /// Uncompressed SEC1 point, 65 bytes.
    point: Vec<u8>,
}

/// Why a text is no usable private key. Never holds any of the key.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM private key in it.
    #[error(
        "the private key is not PEM: it must start with -----BEGIN PRIVATE KEY----- (PKCS#8) or -----BEGIN EC PRIVATE KEY----- (SEC 1)"
    )]
    NotPem,
    /// Password protected.
    #[error("the private key is encrypted: store it decrypted, a Secret is what protects it")]
    Encrypted,
    /// A key of another algorithm or curve.
    #[error("the private key is not ECDSA P-256 but {found}: only ECDSA P-256 is accepted")]
    UnsupportedAlgorithm {
        /// What it is.
        found: &'static str,
    },
    /// PEM of the right kind with broken content.
    #[error("the private key cannot be decoded")]
    Malformed,
}

impl PrivateKey {
    /// A new random key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        loop {
            rand::rng().fill_bytes(bytes.as_mut());
            // Fails for zero and for numbers above the group order only: once in 2^32 draws.
            if let Ok(secret) = SecretKey::from_slice(bytes.as_ref()) {
                return Self::from_secret(secret);
            }
        }
    }

    /// Reads a PEM key, PKCS#8 (what this operator writes) or SEC 1 (what `openssl ecparam -genkey` writes, with or without its parameters block).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let label = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
            .find(|label| label.ends_with("PRIVATE KEY"))
            .ok_or(KeyError::NotPem)?;
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let start = text.find(&begin).ok_or(KeyError::NotPem)?;
        let length = text[start..].find(&end).ok_or(KeyError::Malformed)? + end.len();
        let block = &text[start..start + length];
        match label {
            "PRIVATE KEY" => match SecretKey::from_pkcs8_pem(block) {
                Ok(secret) => Ok(Self::from_secret(secret)),
                Err(_) => Err(pkcs8_problem(block)),
            },
            "EC PRIVATE KEY" if block.contains("ENCRYPTED") => Err(KeyError::Encrypted),
            "EC PRIVATE KEY" => match SecretKey::from_sec1_pem(block) {
                Ok(secret) => Ok(Self::from_secret(secret)),
                Err(_) => Err(KeyError::UnsupportedAlgorithm { found: "of another curve, or damaged" }),
            },
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            "RSA PRIVATE KEY" => Err(KeyError::UnsupportedAlgorithm { found: "RSA" }),
            _ => Err(KeyError::UnsupportedAlgorithm { found: "of another kind" }),
        }
    }

    /// PKCS#8 PEM, `-----BEGIN PRIVATE KEY-----`: the form that Fabric's key store reads whatever the file's name.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.secret.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key can always be encoded")
    }

    /// The public key as an uncompressed SEC1 point (65 bytes).
    pub fn public_point(&self) -> &[u8] {
        &self.point
    }

    fn from_secret(secret: SecretKey) -> Self {
        let point = secret.public_key().to_encoded_point(false).as_bytes().to_vec();
        Self { secret, point }
    }
}

/// Says what a PKCS#8 block holds that is no P-256 key.
fn pkcs8_problem(block: &str) -> KeyError {
    let Ok((_, mut pem)) = x509_parser::pem::parse_x509_pem(block.as_bytes()) else {
        return KeyError::Malformed;
    };
    // Object identifiers as they stand in DER: rsaEncryption, id-Ed25519, secp384r1, secp521r1.
    let kinds: [(&[u8], &str); 4] = [
        (&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], "RSA"),
        (&[0x06, 0x03, 0x2b, 0x65, 0x70], "Ed25519"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], "ECDSA P-384"),
        (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], "ECDSA P-521"),
    ];
    // The algorithm stands in the first bytes; looking no further keeps a chance match inside the key out.
    let head = &pem.contents[..pem.contents.len().min(40)];
    let found = kinds.iter().find(|(oid, _)| head.windows(oid.len()).any(|window| window == *oid));
    let error = found.map_or(KeyError::Malformed, |(_, found)| KeyError::UnsupportedAlgorithm { found });
    pem.contents.zeroize();
    error
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = SigningKey::from(&self.secret).sign(message);
        // Fabric rewrites a certificate with a high S before it compares bytes; ours need no rewriting.
        let low = signature.normalize_s().unwrap_or(signature);
        Ok(low.to_der().as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_key_survives_pem() {
        let key = PrivateKey::generate();
        let pem = key.to_pem();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n") && pem.ends_with("-----END PRIVATE KEY-----\n"));
        assert_eq!(PrivateKey::from_pem(&pem).expect("own PEM").public_point(), key.public_point());
    }

    #[test]
    fn sec1_with_and_without_parameters_is_read() {
        let key = PrivateKey::generate();
        let sec1 = key.secret.to_sec1_pem(LineEnding::LF).expect("encodes");
        let with_parameters =
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}", *sec1);
        for text in [sec1.as_str(), &with_parameters] {
            assert_eq!(PrivateKey::from_pem(text).expect("SEC 1").public_point(), key.public_point());
        }
    }

    /// A PKCS#8 block that names `algorithm` (its DER) and holds no key at all.
    fn keyless_pkcs8(algorithm: &[u8]) -> String {
        let mut der = vec![0x30, 0, 0x02, 0x01, 0x00, 0x30, u8::try_from(algorithm.len()).expect("short")];
        der.extend_from_slice(algorithm);
        der.extend_from_slice(&[0x04, 0x00]);
        der[1] = u8::try_from(der.len() - 2).expect("short");
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named() {
        let rsa = keyless_pkcs8(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00]);
        let ed25519 = keyless_pkcs8(&[0x06, 0x03, 0x2b, 0x65, 0x70]);
        let p384 = keyless_pkcs8(&[
            0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22,
        ]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let damaged = PrivateKey::generate().to_pem().replace("MIG", "MIH");
        let unsupported = |found| KeyError::UnsupportedAlgorithm { found };
        for (text, problem) in [
            ("hello", KeyError::NotPem),
            (&rsa, unsupported("RSA")),
            (&ed25519, unsupported("Ed25519")),
            (&p384, unsupported("ECDSA P-384")),
            (encrypted, KeyError::Encrypted),
            (&damaged, KeyError::Malformed),
        ] {
            assert_eq!(PrivateKey::from_pem(text).expect_err("refused"), problem);
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", PrivateKey::generate()), "PrivateKey(redacted)");
    }
}
