//! A provision: one rule about who may do what with which records, in FHIR's words.

#[cfg(feature = "schemars")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::reading::Part;
#[cfg(feature = "schemars")]
use super::schema;

/// How many levels of provisions may lie below a root provision.
pub const MAX_DEPTH: usize = 4;

/// Whether a provision permits or denies (FHIR: consent-provision-type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProvisionType {
    /// What matches is permitted.
    Permit,
    /// What matches is denied.
    Deny,
}

/// A rule: every element that is present must match (AND), any entry within an element is enough (OR). A nested
/// provision inherits the elements that it does not state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Provision {
    /// Permit or deny, under fhirVersion R4.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ProvisionType>,
    /// Permit or deny, at the root under fhirVersion R5; each nested level is the opposite of the one above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ProvisionType>,
    /// When the rule holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Why the record is asked for (v3-ActReason).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::purpose_list"))]
    pub purpose: Vec<Coding>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 16)))]
    pub actor: Vec<Actor>,
    /// What is done with the record (consentaction).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::action_list"))]
    pub action: Vec<Coding>,
    /// Confidentiality (a permit covers what is at or under the highest code, a deny what is at or above the lowest) and sensitivity of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::label_list"))]
    pub security_label: Vec<Coding>,
    /// Kind of record: a FHIR resource type, or a document type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::coding_list"))]
    pub class: Vec<Coding>,
    /// Kind of document (FHIR R5: documentType). Beside class, both must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::coding_list"))]
    pub document_type: Vec<Coding>,
    /// Clinical content of the record, for example a LOINC or SNOMED CT code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::coding_list"))]
    pub code: Vec<Coding>,
    /// When the record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_period: Option<Period>,
    /// Named records, and what hangs on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 32)))]
    pub data: Vec<DataReference>,
    /// Exceptions and additions to this rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(skip))]
    pub provision: Vec<Provision>,
}

/// A span of time, both ends included to their precision (FHIR: Period).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.start) || has(self.end)", "message": "a period needs a start or an end"},
    {"rule": "!has(self.start) || !has(self.end) || (size(self.start) > 10 && size(self.end) > 10 ? timestamp(self.start) <= timestamp(self.end) : size(self.start) < size(self.end) ? self.start <= self.end.substring(0, size(self.start)) : self.start.substring(0, size(self.end)) <= self.end)", "message": "start must not be after end"}
])))]
pub struct Period {
    /// First moment: `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or a full time with zone; unbounded if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            length(min = 4, max = 35),
            regex(
                pattern = "^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?$"
            )
        )
    )]
    pub start: Option<String>,
    /// Last moment, to its precision: a date is the whole day; unbounded if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            length(min = 4, max = 35),
            regex(
                pattern = "^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?$"
            )
        )
    )]
    pub end: Option<String>,
}

/// Who asks. With a role alone: everybody whose certificate has the role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.reference) ? 1 : 0) + (has(self.identifier) ? 1 : 0) + (has(self.mspId) ? 1 : 0) + (has(self.attr) ? 1 : 0) <= 1", "message": "an actor is named in one way: reference, identifier, mspId or attr"},
    {"rule": "has(self.role) || has(self.reference) || has(self.identifier) || has(self.mspId) || has(self.attr)", "message": "an actor needs a role, reference, identifier, mspId or attr"}
])))]
pub struct Actor {
    /// Role in the certificate (a code without system), or how the actor takes part (v3-ParticipationType; says nothing about who it is).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Coding>,
    /// FHIR reference to a person, group, device or organisation, for example `Practitioner/17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 512)))]
    pub reference: Option<String>,
    /// Business identifier of a person or organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// Everybody of this MSP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schemars",
        schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$"))
    )]
    pub msp_id: Option<String>,
    /// Everybody whose certificate has this attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attr: Option<Attribute>,
    /// What the actor is to the provision, as its role says.
    #[serde(skip)]
    pub part: Part,
    /// What of the actor was not understood, in a document that was read: in a permit no matter, a denial is refused for it.
    #[serde(skip)]
    pub doubt: Option<Doubt>,
}

/// An element of an actor that was left out, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Name of the element.
    pub element: &'static str,
    /// Why a denial may not leave it out.
    pub why: &'static str,
}

/// Business identifier (FHIR: Identifier).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Identifier {
    /// Namespace of the value, a URI.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub system: String,
    /// The identifier.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub value: String,
}

/// Attribute of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// Name, for example `ehr.role`.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 128)))]
    pub name: String,
    /// Value.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub value: String,
}

/// A record, and what a rule takes from it (FHIR: Consent.provision.data).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DataReference {
    /// How the reference is meant.
    pub meaning: DataMeaning,
    /// FHIR reference, for example `Encounter/17`.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 512)))]
    pub reference: String,
}

/// How a reference to a record is meant (FHIR: consent-data-meaning).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DataMeaning {
    /// The record itself.
    Instance,
    /// The record and what it is linked to.
    Related,
    /// The record and what depends on it.
    Dependents,
    /// What the referenced person or organisation wrote.
    Authoredby,
}

/// A code of a code system (FHIR: Coding).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Coding {
    /// URI of the code system; the system of the element if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub system: Option<String>,
    /// The code, case-sensitive.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 128), regex(pattern = r"^\S+$")))]
    pub code: String,
    /// The code in words. It has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub display: Option<String>,
}

impl<'de> Deserialize<'de> for Coding {
    /// Reads `{system, code}` and, as the short form on the command line, a bare code.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            system: Option<String>,
            code: String,
            display: Option<String>,
        }
        struct Notation;
        impl<'de> de::Visitor<'de> for Notation {
            type Value = Coding;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a code as {system, code}")
            }
            fn visit_str<E: de::Error>(self, code: &str) -> Result<Coding, E> {
                Ok(Coding { code: code.to_owned(), ..Coding::default() })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Coding, A::Error> {
                let Fields { system, code, display } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Coding { system, code, display })
            }
        }
        deserializer.deserialize_any(Notation)
    }
}
