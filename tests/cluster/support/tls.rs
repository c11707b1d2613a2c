//! Certificates of the test control plane (not of the ledger: those are what is under test).

use std::net::Ipv4Addr;

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// A certificate, or a bare public key, and its private key.
pub struct Pair {
    /// Certificate or public key, PEM.
    pub certificate: String,
    /// Private key, PKCS#8 PEM.
    pub key: String,
}

/// A new authority.
pub fn authority(name: &str) -> Pair {
    let key = KeyPair::generate().expect("generate a key");
    let certificate = authority_parameters(name).self_signed(&key).expect("sign");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// A bare key pair.
pub fn key_pair() -> Pair {
    let key = KeyPair::generate().expect("generate a key");
    Pair { certificate: key.public_key_pem(), key: key.serialize_pem() }
}

/// Base64 as kubeconfig files want it.
pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

impl Pair {
    /// A client certificate for the user `name` in `group`.
    pub fn client(&self, name: &str, group: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.distinguished_name.push(DnType::OrganizationName, group);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters)
    }

    /// A server certificate for `address`.
    pub fn server(&self, address: Ipv4Addr) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        parameters.subject_alt_names = vec![SanType::IpAddress(address.into())];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(parameters)
    }

    fn sign(&self, parameters: CertificateParams) -> Self {
        let authority_key = KeyPair::from_pem(&self.key).expect("our own key");
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, authority_key).expect("our own authority");
        let key = KeyPair::generate().expect("generate a key");
        let certificate = parameters.signed_by(&key, &issuer).expect("sign");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
