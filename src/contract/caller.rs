//! Who calls: what the certificate says, and nothing else.
//!
//! The peer has checked the signature and the chain of the creator before the contract is asked. A hospital vouches
//! for the names, roles and groups of its own people: a consent that means somebody of one hospital for sure names them
//! by identifier ([`MSP_SYSTEM`]).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use serde_json::{Value, json};

use super::error::ContractError;
use ehrnet_consent::context::MSP_SYSTEM;
use ehrnet_consent::reference::names_somebody;
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_messages::hash;
use ehrnet_messages::{Person, attribute, role};
use ehrnet_pki::Certificate;

/// Role of administrators, as NodeOU.
const ADMIN: &str = "admin";

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// MSP, name and role.
    pub person: Person,
    common_name: String,
    admin: bool,
    patients: BTreeSet<String>,
    groups: Vec<String>,
    attributes: BTreeMap<String, String>,
}

impl Caller {
    /// Reads the creator of a transaction (`msp.SerializedIdentity`).
    ///
    /// # Errors
    /// The certificate cannot be read, or has no common name.
    pub fn from_creator(creator: &[u8]) -> Result<Self, ContractError> {
        let unusable = |why: &dyn std::fmt::Display| {
            ContractError::forbidden(format_args!("the caller's certificate cannot be used: {why}"))
        };
        let identity = SerializedIdentity::decode(creator).map_err(|error| unusable(&error))?;
        let pem = String::from_utf8(identity.id_bytes).map_err(|_| unusable(&"it is not PEM"))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
        let common_name = certificate.common_name().filter(|name| !name.is_empty());
        let common_name = common_name.ok_or_else(|| unusable(&"it has no common name"))?.to_owned();
        let stated = certificate.attributes().iter().filter(|(_, value)| !value.is_empty());
        let attributes: BTreeMap<String, String> =
            stated.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let list = |name: &str| attributes.get(name).into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let list = |name| list(name).filter(|entry| !entry.is_empty()).map(str::to_owned);
        let role = attributes.get(attribute::ROLE).filter(|role| is_role(role)).cloned();
        let person = Person { msp_id: identity.mspid, id: name(&common_name, role.as_deref()), role };
        Ok(Self {
            admin: certificate.organizational_units().iter().any(|unit| unit == ADMIN),
            patients: list(attribute::PATIENT).collect(),
            groups: list(attribute::GROUPS).collect(),
            person,
            common_name,
            attributes,
        })
    }

    /// The hash that stands for the caller on the public ledger.
    pub fn hash(&self) -> String {
        hash::actor(&self.person.msp_id, &self.person.id)
    }

    /// Whether the certificate states this role.
    pub fn is(&self, role: &str) -> bool {
        self.person.role.as_deref() == Some(role)
    }

    /// Whether the caller is the patient, or a delegate of the patient.
    pub fn acts_for(&self, patient: &str) -> bool {
        (self.is(role::PATIENT) || self.is(role::DELEGATE)) && self.is_bound_to(patient)
    }

    /// Whether the certificate is bound to this patient.
    pub fn is_bound_to(&self, patient: &str) -> bool {
        self.patients.contains(patient)
    }

    /// Refuses everybody who is no administrator of a hospital.
    pub fn must_be_admin(&self) -> Result<(), ContractError> {
        self.admin.then_some(()).ok_or_else(|| self.may_not("is for administrators (OU admin)"))
    }

    /// Refuses everybody without one of these roles.
    pub fn must_be(&self, roles: &[&str]) -> Result<(), ContractError> {
        let held = roles.iter().any(|role| self.is(role));
        held.then_some(()).ok_or_else(|| self.may_not(format_args!("is for role {}", roles.join(" or "))))
    }

    /// Whether the caller is an administrator.
    pub fn is_admin(&self) -> bool {
        self.admin
    }

    /// Refuses everybody but the patient and their delegates.
    pub fn must_act_for(&self, patient: &str) -> Result<(), ContractError> {
        let why = "is for the patient and registered delegates (attribute ehr.patient of the certificate)";
        self.acts_for(patient).then_some(()).ok_or_else(|| self.may_not(why))
    }

    /// Refuses everybody but the patient, their delegates and privacy officers.
    pub fn must_oversee(&self, patient: &str) -> Result<(), ContractError> {
        let why = "is for the patient, registered delegates and privacy officers";
        (self.acts_for(patient) || self.is(role::PRIVACY_OFFICER)).then_some(()).ok_or_else(|| self.may_not(why))
    }

    fn may_not(&self, why: impl std::fmt::Display) -> ContractError {
        let role = self.person.role.as_deref().unwrap_or("none");
        ContractError::forbidden(format_args!("this {why}; the certificate's role is {role}"))
    }

    /// The caller in the evaluator's words. A name that is none of FHIR's is no id, and then groups are not known either: what
    /// is unknown earns no permit and evades no denial.
    pub fn as_actor(&self) -> Value {
        json!({
            "id": Some(&self.person.id).filter(|id| names_somebody(id)),
            "mspId": self.person.msp_id,
            "role": self.person.role,
            "groups": Some(&self.groups).filter(|groups| groups.iter().all(|group| names_somebody(group))),
            "identifiers": [{"system": format!("{MSP_SYSTEM}{}", self.person.msp_id), "value": self.common_name}],
            "attributes": self.attributes,
        })
    }
}

/// A role is a lower-case code; anything else could be taken for the name of somebody or of an MSP.
fn is_role(role: &str) -> bool {
    role.starts_with(|c: char| c.is_ascii_lowercase())
        && role.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The common name as a FHIR reference.
fn name(common_name: &str, held: Option<&str>) -> String {
    let kind = match held {
        _ if common_name.contains('/') => return common_name.to_owned(),
        Some(role::PATIENT) => "Patient",
        Some(role::DELEGATE) => "RelatedPerson",
        Some(role::DEVICE) => "Device",
        _ => "Practitioner",
    };
    format!("{kind}/{common_name}")
}
