//! Validation of identities against an organisation's MSP, as Fabric's X.509 MSP does it.
//!
//! The trap: validity is judged at the certificate's own NotBefore, not now. An expired identity is still a valid one;
//! that a *message* of an expired creator is refused is a separate check of each node.

use prost::Message;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::fabric::identity;
use crate::fabric::proto::common::msp_principal::Classification;
use crate::fabric::proto::common::msp_role::MspRoleType;
use crate::fabric::proto::common::{CombinedPrincipal, MspPrincipal, MspRole, OrganizationUnit};
use crate::fabric::proto::msp::{FabricMspConfig, FabricOuIdentifier, SerializedIdentity};

/// Someone who signed: not necessarily a valid identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The MSP it claims to be of.
    pub msp_id: String,
    /// Certificate as sent.
    pub pem: Vec<u8>,
    /// The same, DER.
    pub der: Vec<u8>,
}

impl Identity {
    /// Read a serialized identity.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(serialized: &[u8]) -> Result<Self, String> {
        let SerializedIdentity { mspid, id_bytes } = SerializedIdentity::decode(serialized)
            .map_err(|e| format!("could not deserialize a SerializedIdentity: {e}"))?;
        let der = der(&id_bytes).ok_or("could not decode the PEM structure")?;
        parse(&der)?;
        Ok(Self { msp_id: mspid, pem: id_bytes, der })
    }

    /// Whether `signature` is this identity's over `message`.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), String> {
        identity::verify(&self.pem, message, signature)
    }

    /// The end of its certificate's validity, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        parse(&self.der).ok().map(|certificate| certificate.validity().not_after.timestamp())
    }
}

/// When the creator of a message expires; `None` for what is no X.509 identity.
pub fn expires_at(creator: &[u8]) -> Option<i64> {
    Identity::parse(creator).ok()?.expires_at()
}

/// An organisation as others verify it.
#[derive(Debug, Clone)]
pub struct Msp {
    name: String,
    roots: Vec<Vec<u8>>,
    intermediates: Vec<Vec<u8>>,
    admins: Vec<Vec<u8>>,
    revocations: Vec<Vec<u8>>,
    roles: Option<Roles>,
    required_units: Vec<String>,
    /// TLS CAs, root and intermediate, PEM.
    pub tls_roots: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Roles {
    client: Option<Unit>,
    peer: Option<Unit>,
    admin: Option<Unit>,
    orderer: Option<Unit>,
}

#[derive(Debug, Clone)]
struct Unit {
    name: String,
    /// DER of the CA below which the unit counts; absent: any of the MSP.
    certifier: Option<Vec<u8>>,
}

impl Msp {
    /// Set up the MSP.
    ///
    /// # Errors
    /// What Fabric would refuse: no or unusable CA certificates, no way to name admins.
    pub fn new(config: &FabricMspConfig) -> Result<Self, String> {
        let ders = |pems: &[Vec<u8>], what: &str| -> Result<Vec<Vec<u8>>, String> {
            pems.iter().map(|pem| der(pem).ok_or_else(|| format!("{what} is not a PEM certificate"))).collect()
        };
        let roots = ders(&config.root_certs, "root certificate")?;
        if roots.is_empty() {
            return Err("expected at least one CA certificate".into());
        }
        let intermediates = ders(&config.intermediate_certs, "intermediate certificate")?;
        for ca in roots.iter().chain(&intermediates) {
            check_ca(ca)?;
        }
        let units = config.fabric_node_ous.as_ref().filter(|units| units.enable);
        let roles = units.map(|units| -> Result<Roles, String> {
            Ok(Roles {
                client: unit(units.client_ou_identifier.as_ref())?,
                peer: unit(units.peer_ou_identifier.as_ref())?,
                admin: unit(units.admin_ou_identifier.as_ref())?,
                orderer: unit(units.orderer_ou_identifier.as_ref())?,
            })
        });
        let roles = roles.transpose()?;
        let admins = ders(&config.admins, "admin certificate")?;
        if admins.is_empty() && roles.as_ref().is_none_or(|roles| roles.admin.is_none()) {
            return Err("administrators must be declared when no admin ou classification is set".into());
        }
        Ok(Self {
            name: config.name.clone(),
            roots,
            intermediates,
            admins,
            revocations: config.revocation_list.iter().filter_map(|pem| pem_block(pem)).collect(),
            roles,
            required_units: config
                .organizational_unit_identifiers
                .iter()
                .map(|ou| ou.organizational_unit_identifier.clone())
                .collect(),
            tls_roots: config.tls_root_certs.iter().chain(&config.tls_intermediate_certs).cloned().collect(),
        })
    }

    /// The MSP's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the identity is one of this MSP.
    ///
    /// # Errors
    /// Why not, in Fabric's words.
    pub fn validate(&self, identity: &Identity) -> Result<(), String> {
        let certificate = parse(&identity.der)?;
        if certificate.is_ca() {
            return Err("An X509 certificate with Basic Constraint: Certificate Authority equals true \
                        cannot be used as an identity"
                .into());
        }
        let chain = self.chain(&certificate)?;
        self.check_revocation(&certificate, chain[0])?;
        self.check_units(&certificate, &chain)
    }

    /// The CAs above the certificate, nearest first.
    fn chain(&self, leaf: &X509Certificate<'_>) -> Result<Vec<&[u8]>, String> {
        let not_valid = |why: &str| format!("the supplied identity is not valid: x509: {why}");
        let moment = leaf.validity().not_before.timestamp() + 1;
        let moment = ASN1Time::from_timestamp(moment).map_err(|e| not_valid(&e.to_string()))?;
        let mut chains = self.chains(leaf, moment, 8);
        if chains.is_empty() {
            return Err(not_valid("certificate signed by unknown authority"));
        }
        if !usable_as_server(leaf) {
            return Err(not_valid("certificate specifies an incompatible key usage"));
        }
        if chains.len() > 1 {
            return Err(format!("this MSP only supports a single validation chain, got {}", chains.len()));
        }
        let chain = chains.remove(0);
        let has_children = self.intermediates.iter().any(|ca| {
            ca != chain[0] && parse(ca).is_ok_and(|ca| parse(chain[0]).is_ok_and(|parent| issued(&parent, &ca)))
        });
        if has_children {
            return Err(
                "invalid validation chain. Parent certificate should be a leaf of the certification tree".into()
            );
        }
        Ok(chain)
    }

    fn chains(&self, below: &X509Certificate<'_>, moment: ASN1Time, depth: usize) -> Vec<Vec<&[u8]>> {
        let mut found = Vec::new();
        let usable = |ca: &&Vec<u8>| parse(ca).is_ok_and(|ca| issued(&ca, below) && ca.validity().is_valid_at(moment));
        found.extend(self.roots.iter().filter(usable).map(|root| vec![root.as_slice()]));
        if depth > 0 && below.validity().is_valid_at(moment) {
            for intermediate in self.intermediates.iter().filter(usable) {
                let Ok(parsed) = parse(intermediate) else { continue };
                for above in self.chains(&parsed, moment, depth - 1) {
                    found.push([vec![intermediate.as_slice()], above].concat());
                }
            }
        }
        found
    }

    fn check_revocation(&self, certificate: &X509Certificate<'_>, issuer: &[u8]) -> Result<(), String> {
        let issuer = parse(issuer)?;
        for list in &self.revocations {
            let Ok((_, list)) = CertificateRevocationList::from_der(list) else { continue };
            let named =
                list.iter_revoked_certificates().any(|r| r.user_certificate == certificate.tbs_certificate.serial);
            if named && list.issuer() == issuer.subject() && list.verify_signature(issuer.public_key()).is_ok() {
                return Err("The certificate has been revoked".into());
            }
        }
        Ok(())
    }

    /// With NodeOUs, a certificate has exactly one role.
    fn check_units(&self, certificate: &X509Certificate<'_>, chain: &[&[u8]]) -> Result<(), String> {
        let units = units(certificate);
        if !self.required_units.is_empty() && !units.iter().any(|unit| self.required_units.contains(unit)) {
            return Err(format!("none of the identity's organizational units {units:?} are in MSP {}", self.name));
        }
        let Some(roles) = &self.roles else { return Ok(()) };
        let known = [&roles.client, &roles.peer, &roles.admin, &roles.orderer];
        let mut count = 0;
        for name in &units {
            let Some(role) = known.into_iter().flatten().find(|role| role.name == *name) else { continue };
            if role.certifier.as_ref().is_some_and(|ca| !chain.contains(&ca.as_slice())) {
                return Err(format!("certifiersIdentifier does not match: {units:?}, MSP: [{}]", self.name));
            }
            count += 1;
        }
        let where_ = format!("OUs: {units:?}, MSP: [{}]", self.name);
        match count {
            0 => Err(format!(
                "the identity does not have an OU that resolves to client, peer, orderer, or admin role. {where_}"
            )),
            1 => Ok(()),
            _ => Err(format!(
                "the identity must have a client, a peer, an orderer, or an admin OU role to be valid, \
                 not a combination of them. {where_}"
            )),
        }
    }

    /// Whether the identity is what the principal asks for.
    ///
    /// # Errors
    /// Why not, in Fabric's words.
    pub fn satisfies(&self, identity: &Identity, principal: &MspPrincipal) -> Result<(), String> {
        let bytes = principal.principal.as_slice();
        match Classification::try_from(principal.principal_classification) {
            Ok(Classification::Role) => {
                let role =
                    MspRole::decode(bytes).map_err(|e| format!("could not unmarshal MSPRole from principal: {e}"))?;
                self.has_role(identity, &role)
            }
            Ok(Classification::Identity) => {
                let named = Identity::parse(bytes).map_err(|e| format!("invalid identity principal: {e}"))?;
                if named.msp_id == self.name && named.der == identity.der {
                    self.validate(identity)
                } else {
                    Err("The identities do not match".into())
                }
            }
            Ok(Classification::OrganizationUnit) => {
                let unit = OrganizationUnit::decode(bytes)
                    .map_err(|e| format!("could not unmarshal OrganizationUnit from principal: {e}"))?;
                self.same_msp(&unit.msp_identifier)?;
                self.validate(identity)?;
                let held = units(&parse(&identity.der)?);
                if held.contains(&unit.organizational_unit_identifier) {
                    Ok(())
                } else {
                    Err("The identities do not match".into())
                }
            }
            Ok(Classification::Combined) => {
                let all = CombinedPrincipal::decode(bytes)
                    .map_err(|e| format!("could not unmarshal CombinedPrincipal from principal: {e}"))?;
                if all.principals.is_empty() {
                    return Err("No principals in CombinedPrincipal".into());
                }
                all.principals.iter().try_for_each(|principal| self.satisfies(identity, principal))
            }
            _ => Err(format!("invalid principal type {}", principal.principal_classification)),
        }
    }

    fn same_msp(&self, expected: &str) -> Result<(), String> {
        if expected == self.name {
            Ok(())
        } else {
            Err(format!("the identity is a member of a different MSP (expected {expected}, got {})", self.name))
        }
    }

    fn has_role(&self, identity: &Identity, wanted: &MspRole) -> Result<(), String> {
        self.same_msp(&wanted.msp_identifier)?;
        let role = MspRoleType::try_from(wanted.role).map_err(|_| format!("invalid MSP role type {}", wanted.role))?;
        if role == MspRoleType::Admin && self.admins.contains(&identity.der) {
            return Ok(());
        }
        if role == MspRoleType::Member {
            return self.validate(identity);
        }
        let valid = self.validate(identity);
        valid.map_err(|e| format!("The identity is not valid under this MSP [{}]: {e}", self.name))?;
        let unit = self.roles.as_ref().and_then(|roles| match role {
            MspRoleType::Client => roles.client.as_ref(),
            MspRoleType::Peer => roles.peer.as_ref(),
            MspRoleType::Admin => roles.admin.as_ref(),
            MspRoleType::Orderer => roles.orderer.as_ref(),
            MspRoleType::Member => None,
        });
        let held = units(&parse(&identity.der)?);
        match unit {
            Some(unit) if held.contains(&unit.name) => Ok(()),
            _ => Err(format!(
                "The identity is not a [{name}] under this MSP [{msp}]: The identity does not contain OU [{name}], MSP: [{msp}]",
                name = role.as_str_name(),
                msp = self.name,
            )),
        }
    }
}

fn unit(identifier: Option<&FabricOuIdentifier>) -> Result<Option<Unit>, String> {
    let Some(identifier) = identifier else { return Ok(None) };
    let certifier = match identifier.certificate.as_slice() {
        [] => None,
        pem => Some(der(pem).ok_or("the certificate of a node OU is not PEM")?),
    };
    Ok(Some(Unit { name: identifier.organizational_unit_identifier.clone(), certifier }))
}

fn check_ca(der: &[u8]) -> Result<(), String> {
    let certificate = parse(der)?;
    let serial = certificate.raw_serial_as_string();
    if !certificate.is_ca() {
        return Err(format!("CA Certificate did not have the CA attribute, (SN: {serial})"));
    }
    let has_ski = certificate
        .extensions()
        .iter()
        .any(|x| matches!(x.parsed_extension(), ParsedExtension::SubjectKeyIdentifier(_)));
    if !has_ski {
        return Err(format!(
            "CA Certificate problem with Subject Key Identifier extension, (SN: {serial}): \
             subjectKeyIdentifier not found in certificate"
        ));
    }
    Ok(())
}

/// Go's rule for an empty list of wanted usages: the certificate is unrestricted or allows server authentication.
fn usable_as_server(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
        _ => true,
    }
}

/// Whether `ca` signed `below`.
pub(crate) fn issued(ca: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
    ca.subject() == below.issuer() && below.verify_signature(Some(ca.public_key())).is_ok()
}

fn units(certificate: &X509Certificate<'_>) -> Vec<String> {
    certificate.subject().iter_organizational_unit().filter_map(|ou| ou.as_str().ok().map(str::to_owned)).collect()
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| format!("parseCertificate failed: {e}"))
}

/// DER of the first certificate in a PEM text.
pub(crate) fn der(pem: &[u8]) -> Option<Vec<u8>> {
    pem_block(pem).filter(|der| parse(der).is_ok())
}

fn pem_block(pem: &[u8]) -> Option<Vec<u8>> {
    x509_parser::pem::parse_x509_pem(pem).ok().map(|(_, block)| block.contents)
}
