//! Leaf certificates: what kinds there are, and how a CA issues them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::attributes::{self, Attributes};
use super::authority::{Authority, end, own, set_validity, subject};
use super::certificate::Certificate;
use super::key::PrivateKey;
use super::{KeyPairError, PkiError};

/// How far a leaf starts before now, so that a node whose clock runs behind accepts it.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// A NodeOU role (Fabric: `msp/mspimplsetup.go`): an identity has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An application or person.
    Client,
    /// A peer.
    Peer,
    /// Signs for the hospital.
    Admin,
    /// An orderer.
    Orderer,
}

impl Role {
    /// The organizational unit that stands for the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Orderer => "orderer",
        }
    }
}

/// DNS names and IP addresses under which a TLS server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectAltNames(BTreeSet<String>);

impl SubjectAltNames {
    /// Collects names; IP addresses are recognised by their form and written in their usual notation.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let normal = |name: String| name.parse::<IpAddr>().map_or(name, |address| address.to_string());
        Self(names.into_iter().map(Into::into).map(normal).collect())
    }

    /// The names, sorted.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.0
    }

    fn encode(&self) -> Result<Vec<SanType>, PkiError> {
        let encode = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ia5String::try_from(name.as_str())
                .map(SanType::DnsName)
                .map_err(|error| PkiError::Name { name: name.clone(), cause: error.to_string() }),
        };
        self.0.iter().map(encode).collect()
    }
}

/// What a leaf is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// An identity of the MSP: one role, `digitalSignature`, no extended key usage.
    Enrolment {
        /// Its NodeOU role.
        role: Role,
        /// What the certificate states of its holder.
        attributes: Attributes,
    },
    /// TLS of a node: server and client at once, because orderers dial each other with it.
    Tls {
        /// Every name it is reached by.
        names: SubjectAltNames,
    },
    /// TLS client only.
    TlsClient,
}

/// A leaf to issue, or to compare an existing one with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Common name, at most 64 characters.
    pub common_name: String,
    /// Organisation name, for people: a change of it alone renews nothing.
    pub organization: Option<String>,
    /// What it is for.
    pub profile: Profile,
}

impl Profile {
    /// An identity that states its role and nothing else.
    pub fn enrolment(role: Role) -> Self {
        Self::Enrolment { role, attributes: Attributes::default() }
    }
}

impl Leaf {
    /// The role that the certificate must state, if any.
    pub fn role(&self) -> Option<Role> {
        match self.profile {
            Profile::Enrolment { role, .. } => Some(role),
            Profile::Tls { .. } | Profile::TlsClient => None,
        }
    }
}

impl Authority {
    /// Issues `leaf` for `key`. A new pair and a renewal are the same call: renewal passes the key that exists.
    ///
    /// Valid from `BACKDATE` before `now` until `validity` after it, both cut to the CA's own validity.
    ///
    /// # Errors
    /// The CA is expired or not yet valid, or a name does not fit.
    pub fn issue(
        &self,
        leaf: &Leaf,
        key: &PrivateKey,
        validity: Duration,
        now: Timestamp,
    ) -> Result<Certificate, PkiError> {
        self.check_dates(now)?;
        let start = now.checked_sub(BACKDATE).map_err(|_| PkiError::Validity(BACKDATE))?;
        let start = start.max(self.certificate().not_before());
        let end = end(now, validity)?.min(self.certificate().not_after());

        let mut params = CertificateParams::default();
        let unit = leaf.role().map(Role::as_str);
        params.distinguished_name = subject(&leaf.common_name, unit, leaf.organization.as_deref())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match &leaf.profile {
            Profile::Enrolment { attributes, .. } => {
                let value = attributes.encode().map_err(|error| PkiError::Encoding(error.to_string()))?;
                params.custom_extensions = value
                    .map(|value| CustomExtension::from_oid_content(&attributes::EXTENSION, value))
                    .into_iter()
                    .collect();
            }
            Profile::Tls { names } => {
                params.subject_alt_names = names.encode()?;
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            }
            Profile::TlsClient => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        set_validity(&mut params, start, end)?;

        let certificate = own(params.signed_by(key, &self.issuer()?)?.pem())?;
        if certificate.issuer() != self.certificate().subject() {
            return Err(KeyPairError::UnsupportedSubject.into());
        }
        Ok(certificate)
    }
}
