//! Certificates for this room's unit tests.

use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::identity::SigningIdentity;

/// A certificate authority in memory.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    /// A self-signed CA.
    pub fn new(name: &str) -> Self {
        let mut params = params(name, None, -2, 365);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA"))
    }

    /// The CA's certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key (PEM) of a new identity with one role OU.
    pub fn issue(&self, role: &str) -> (String, String) {
        self.issue_between(role, -1, 30)
    }

    /// The same, valid between two days counted from now.
    pub fn issue_between(&self, role: &str, from_days: i64, to_days: i64) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = params("leaf", Some(role), from_days, to_days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.signed_by(&key, &self.0).expect("certificate").pem(), key.serialize_pem())
    }

    /// Certificate and key (PEM) of a client called `name`, which states `attributes` where Fabric CA puts them.
    pub fn issue_stating(&self, name: &str, attributes: &[(&str, &str)]) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = params(name, Some("client"), -1, 30);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let pairs: Vec<String> = attributes.iter().map(|(name, value)| format!("{name:?}:{value:?}")).collect();
        let value = format!(r#"{{"attrs":{{{}}}}}"#, pairs.join(",")).into_bytes();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4, 5, 6, 7, 8, 1], value)];
        (params.signed_by(&key, &self.0).expect("certificate").pem(), key.serialize_pem())
    }

    /// A new certificate for the key of an old one.
    pub fn renew(&self, key_pem: &str, role: &str) -> String {
        let key = KeyPair::from_pem(key_pem).expect("key");
        let mut params = params("leaf", Some(role), -1, 60);
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&key, &self.0).expect("certificate").pem()
    }

    /// Certificate and key (PEM) for TLS on `host`, a name or an IP address.
    pub fn issue_tls(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("host");
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
        (params.signed_by(&key, &self.0).expect("certificate").pem(), key.serialize_pem())
    }

    /// A client called `name` with these attributes, that signs.
    pub fn person(&self, msp_id: &str, name: &str, attributes: &[(&str, &str)]) -> SigningIdentity {
        let key = KeyPair::generate().expect("key");
        let mut params = params(name, Some("client"), -1, 30);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let attributes: BTreeMap<_, _> = attributes.iter().copied().collect();
        let value = serde_json::json!({"attrs": attributes}).to_string().into_bytes();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4, 5, 6, 7, 8, 1], value)];
        let certificate = params.signed_by(&key, &self.0).expect("certificate").pem();
        SigningIdentity::new(msp_id, &certificate, &key.serialize_pem()).expect("identity")
    }

    /// An identity that signs.
    pub fn identity(&self, msp_id: &str, role: &str) -> SigningIdentity {
        let (certificate, key) = self.issue(role);
        SigningIdentity::new(msp_id, &certificate, &key).expect("identity")
    }
}

fn params(name: &str, role: Option<&str>, from_days: i64, to_days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(role) = role {
        params.distinguished_name.push(DnType::OrganizationalUnitName, role);
    }
    params.not_before = OffsetDateTime::now_utc() + Duration::days(from_days);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(to_days);
    params
}
