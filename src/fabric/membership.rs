//! Who is a member of a channel: certificates checked against the MSPs in its configuration (Fabric: package `msp`).
//!
//! The traps: a chain is judged at the moment after the leaf became valid, not now, so that old transactions stay valid;
//! whether an identity has expired is a separate question, which nothing here asks. And if an MSP has intermediate CAs, a
//! CA above another may not issue identities.

use std::collections::BTreeMap;

use prost::Message;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::config_tree::{APPLICATION, MSP, ORDERER};
use super::identity::{pem_to_der, verify};
use super::msp;
use super::proto::common::msp_principal::Classification;
use super::proto::common::msp_role::MspRoleType;
use super::proto::common::{CombinedPrincipal, ConfigGroup, MspPrincipal, MspRole, OrganizationUnit};
use super::proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig, SerializedIdentity};

/// The MSPs of a channel, or of one node.
#[derive(Debug, Default)]
pub struct Membership {
    msps: BTreeMap<String, Msp>,
}

/// One organization's MSP, ready to check certificates.
#[derive(Debug)]
struct Msp {
    roots: Vec<Vec<u8>>,
    intermediates: Vec<Vec<u8>>,
    admins: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
    node_ous: Option<FabricNodeOUs>,
}

/// A certificate that an MSP vouches for.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its MSP.
    pub msp_id: String,
    /// Its certificate, as it was serialized.
    pub certificate_pem: Vec<u8>,
    der: Vec<u8>,
    role: Option<MspRoleType>,
    units: Vec<String>,
}

impl Membership {
    /// The MSPs of a channel's organizations.
    pub fn of_channel(channel_group: &ConfigGroup) -> Result<Self, String> {
        let mut membership = Self::default();
        for section in [ORDERER, APPLICATION].iter().filter_map(|s| channel_group.groups.get(*s)) {
            for (name, org) in &section.groups {
                let value = org.values.get(MSP).ok_or_else(|| format!("organization {name} has no MSP"))?;
                let config = MspConfig::decode(value.value.as_slice())
                    .map_err(|e| format!("MSP of organization {name} is not readable: {e}"))?;
                membership.add(&msp::decode(&config)?)?;
            }
        }
        Ok(membership)
    }

    /// Adds an MSP; a second one of the same name must be the same.
    pub fn add(&mut self, config: &FabricMspConfig) -> Result<(), String> {
        let msp = Msp::new(config).map_err(|e| format!("MSP {}: {e}", config.name))?;
        self.msps.insert(config.name.clone(), msp);
        Ok(())
    }

    /// Whether there is an MSP of that name.
    pub fn knows(&self, msp_id: &str) -> bool {
        self.msps.contains_key(msp_id)
    }

    /// The identity in a `msp.SerializedIdentity`, if its MSP vouches for it.
    pub fn identity(&self, serialized: &[u8]) -> Result<Identity, String> {
        let id = SerializedIdentity::decode(serialized).map_err(|e| format!("identity is not readable: {e}"))?;
        let msp = self.msps.get(&id.mspid).ok_or_else(|| format!("MSP {} is unknown", id.mspid))?;
        msp.identity(&id.mspid, id.id_bytes).map_err(|e| format!("identity of {} is not valid: {e}", id.mspid))
    }
}

impl Msp {
    fn new(config: &FabricMspConfig) -> Result<Self, String> {
        let ders = |pems: &[Vec<u8>]| pems.iter().map(|p| pem_to_der(p)).collect::<Result<Vec<_>, _>>();
        let roots = ders(&config.root_certs)?;
        if roots.is_empty() {
            return Err("expected at least one CA certificate".into());
        }
        let intermediates = ders(&config.intermediate_certs)?;
        for ca in roots.iter().chain(&intermediates) {
            let ca = parse(ca)?;
            if !ca.is_ca() {
                return Err(format!("CA certificate {} is not a CA's", ca.subject()));
            }
        }
        let node_ous = config.fabric_node_ous.clone().filter(|ous| ous.enable);
        let crls = config.revocation_list.iter().map(|crl| crl_der(crl)).collect::<Result<_, _>>()?;
        Ok(Self { roots, intermediates, admins: ders(&config.admins)?, crls, node_ous })
    }

    fn identity(&self, msp_id: &str, certificate_pem: Vec<u8>) -> Result<Identity, String> {
        let der = pem_to_der(&certificate_pem)?;
        let leaf = parse(&der)?;
        if leaf.is_ca() {
            return Err("a CA certificate cannot be used as an identity".into());
        }
        let chain = self.chain(&leaf)?;
        self.check_revocation(&leaf, chain[0])?;
        let units: Vec<String> =
            leaf.subject().iter_organizational_unit().filter_map(|ou| ou.as_str().ok().map(str::to_owned)).collect();
        let role = match &self.node_ous {
            Some(ous) => Some(role(ous, &units, &chain)?),
            None => self.admins.contains(&der).then_some(MspRoleType::Admin),
        };
        Ok(Identity { msp_id: msp_id.into(), certificate_pem, role, units, der })
    }

    /// The CAs from the leaf's issuer up to a root, as DER.
    fn chain(&self, leaf: &X509Certificate<'_>) -> Result<Vec<&[u8]>, String> {
        let at = leaf.validity().not_before.timestamp() + 1;
        let mut chain: Vec<&[u8]> = Vec::new();
        let mut subject = self.issuer(leaf, at)?;
        if self.intermediates.iter().any(|i| parse(i).is_ok_and(|i| issued(&i, subject))) {
            return Err("it was issued by a CA that has another CA below it".into());
        }
        loop {
            if chain.contains(&subject) {
                return Err("its chain of CAs does not end".into());
            }
            chain.push(subject);
            if self.roots.iter().any(|r| r == subject) {
                return Ok(chain);
            }
            subject = self.issuer(&parse(subject)?, at)?;
        }
    }

    /// The MSP's CA that issued `certificate` and was valid at that time.
    fn issuer(&self, certificate: &X509Certificate<'_>, at: i64) -> Result<&[u8], String> {
        let mut cas = self.intermediates.iter().chain(&self.roots);
        let valid = |ca: &&Vec<u8>| {
            issued(certificate, ca)
                && parse(ca).is_ok_and(|ca| {
                    ca.validity().not_before.timestamp() <= at && at <= ca.validity().not_after.timestamp()
                })
        };
        cas.find(valid).map(Vec::as_slice).ok_or_else(|| {
            format!("{} was not issued by a CA of this MSP that was valid at that time", certificate.subject())
        })
    }

    fn check_revocation(&self, leaf: &X509Certificate<'_>, issuer: &[u8]) -> Result<(), String> {
        let issuer = parse(issuer)?;
        for der in &self.crls {
            let (_, crl) = CertificateRevocationList::from_der(der)
                .map_err(|e| format!("revocation list is not readable: {e}"))?;
            let of_issuer = crl.issuer() == issuer.subject() && crl.verify_signature(issuer.public_key()).is_ok();
            if of_issuer && crl.iter_revoked_certificates().any(|r| r.raw_serial() == leaf.raw_serial()) {
                return Err("its certificate has been revoked".into());
            }
        }
        Ok(())
    }
}

/// The one role that the certificate's organizational units tell.
fn role(ous: &FabricNodeOUs, units: &[String], chain: &[&[u8]]) -> Result<MspRoleType, String> {
    let granted = |ou: &Option<FabricOuIdentifier>| {
        ou.as_ref().is_some_and(|ou| {
            let by = || ou.certificate.is_empty() || pem_to_der(&ou.certificate).is_ok_and(|c| chain.contains(&&c[..]));
            units.contains(&ou.organizational_unit_identifier) && by()
        })
    };
    let roles = [
        (&ous.client_ou_identifier, MspRoleType::Client),
        (&ous.peer_ou_identifier, MspRoleType::Peer),
        (&ous.admin_ou_identifier, MspRoleType::Admin),
        (&ous.orderer_ou_identifier, MspRoleType::Orderer),
    ];
    let mut found = roles.into_iter().filter(|(ou, _)| granted(ou)).map(|(_, role)| role);
    match (found.next(), found.next()) {
        (Some(role), None) => Ok(role),
        (None, _) => Err(format!("its organizational units {units:?} tell no role (client, peer, admin or orderer)")),
        (Some(_), Some(_)) => Err(format!("its organizational units {units:?} tell more than one role")),
    }
}

impl Identity {
    /// Whether the identity belongs to `principal`.
    pub fn satisfies(&self, principal: &MspPrincipal) -> bool {
        let bytes = principal.principal.as_slice();
        match principal.principal_classification() {
            Classification::Role => MspRole::decode(bytes).is_ok_and(|wanted| {
                let member = wanted.role() == MspRoleType::Member;
                wanted.msp_identifier == self.msp_id && (member || self.role == Some(wanted.role()))
            }),
            Classification::OrganizationUnit => OrganizationUnit::decode(bytes).is_ok_and(|wanted| {
                wanted.msp_identifier == self.msp_id && self.units.contains(&wanted.organizational_unit_identifier)
            }),
            Classification::Identity => SerializedIdentity::decode(bytes).is_ok_and(|wanted| {
                wanted.mspid == self.msp_id && pem_to_der(&wanted.id_bytes).is_ok_and(|der| der == self.der)
            }),
            Classification::Combined => CombinedPrincipal::decode(bytes)
                .is_ok_and(|all| !all.principals.is_empty() && all.principals.iter().all(|p| self.satisfies(p))),
            // X.509 identities are never anonymous, and nobody here asks for nominal ones.
            Classification::Anonymity => false,
        }
    }

    /// Whether `signature` is this identity's signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), String> {
        verify(&self.certificate_pem, message, signature)
    }

    /// Whether two are the same certificate of the same MSP.
    pub fn is(&self, other: &Self) -> bool {
        self.msp_id == other.msp_id && self.der == other.der
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der).map(|(_, c)| c).map_err(|e| format!("not an X.509 certificate: {e}"))
}

fn issued(certificate: &X509Certificate<'_>, ca: &[u8]) -> bool {
    parse(ca).is_ok_and(|ca| {
        certificate.issuer() == ca.subject() && certificate.verify_signature(Some(ca.public_key())).is_ok()
    })
}

/// Fabric accepts revocation lists as PEM.
fn crl_der(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| format!("revocation list is not PEM: {e}"))?;
    Ok(block.contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msp::MspDefinition;
    use crate::policy::role_principal;
    use crate::testing::Ca;

    fn membership(ca: &Ca) -> Membership {
        let definition = MspDefinition { id: "OrgMSP".into(), root_certs: vec![ca.pem()], ..Default::default() };
        let mut membership = Membership::default();
        membership.add(&definition.fabric_config()).expect("MSP");
        membership
    }

    fn serialized(msp_id: &str, certificate: &str) -> Vec<u8> {
        SerializedIdentity { mspid: msp_id.into(), id_bytes: certificate.into() }.encode_to_vec()
    }

    #[test]
    fn roles_come_from_the_organizational_unit() {
        let ca = Ca::new("ca");
        let members = membership(&ca);
        for (unit, role) in [
            ("client", MspRoleType::Client),
            ("peer", MspRoleType::Peer),
            ("admin", MspRoleType::Admin),
            ("orderer", MspRoleType::Orderer),
        ] {
            let identity = members.identity(&serialized("OrgMSP", &ca.issue(unit).0)).expect(unit);
            assert!(identity.satisfies(&role_principal("OrgMSP", MspRoleType::Member)));
            assert!(identity.satisfies(&role_principal("OrgMSP", role)));
            assert!(!identity.satisfies(&role_principal("OtherMSP", role)));
            let other = if unit == "admin" { MspRoleType::Peer } else { MspRoleType::Admin };
            assert!(!identity.satisfies(&role_principal("OrgMSP", other)));
        }
    }

    #[test]
    fn strangers_are_refused() {
        let ca = Ca::new("ca");
        let members = membership(&ca);
        // Same name, another key: only the signature tells them apart.
        let forged = members.identity(&serialized("OrgMSP", &Ca::new("ca").issue("admin").0)).expect_err("forged");
        assert!(forged.contains("was not issued by a CA of this MSP"), "{forged}");
        let unknown = members.identity(&serialized("OtherMSP", &ca.issue("admin").0)).expect_err("unknown MSP");
        assert_eq!(unknown, "MSP OtherMSP is unknown");
        let no_role = members.identity(&serialized("OrgMSP", &ca.issue("nurse").0)).expect_err("no role");
        assert!(no_role.contains("tell no role"), "{no_role}");
        let ca_itself = members.identity(&serialized("OrgMSP", &ca.pem())).expect_err("CA");
        assert!(ca_itself.contains("CA certificate"), "{ca_itself}");
    }

    #[test]
    fn expired_identities_still_are_members() {
        let ca = Ca::new("ca");
        let (certificate, _) = ca.issue_between("client", -1, 0);
        membership(&ca).identity(&serialized("OrgMSP", &certificate)).expect("member");
        // Older than its CA: no CA was valid at that time.
        let (certificate, _) = ca.issue_between("client", -5, 1);
        assert!(membership(&ca).identity(&serialized("OrgMSP", &certificate)).is_err());
    }

    #[test]
    fn an_identity_principal_is_that_certificate_only() {
        let ca = Ca::new("ca");
        let members = membership(&ca);
        let (mine, other) =
            (serialized("OrgMSP", &ca.issue("orderer").0), serialized("OrgMSP", &ca.issue("orderer").0));
        let principal =
            MspPrincipal { principal_classification: Classification::Identity.into(), principal: mine.clone() };
        assert!(members.identity(&mine).expect("mine").satisfies(&principal));
        assert!(!members.identity(&other).expect("other").satisfies(&principal));
    }
}
