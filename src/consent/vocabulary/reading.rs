//! How a site's documents are to be read: what a policy says of codes, roles and shapes that FHIR leaves open.

#[cfg(feature = "schemars")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provision::{Coding, ProvisionType};
#[cfg(feature = "schemars")]
use super::schema;

/// What an R4 consent means whose root provision has elements and no type: documents of both meanings are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UntypedRoot {
    /// It is refused, unless it has a period only, which is that of the base of `policyRule`, or everything nested in it permits, to which it is a frame then.
    #[default]
    Refuse,
    /// A frame: nested provisions inherit its elements, and it grants nothing itself.
    Frame,
    /// The exception to `policyRule`: the opposite of it.
    Exception,
}

impl UntypedRoot {
    /// Whether it is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A code system that consents, requests and records may use besides those of FHIR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CodeSystemSpec {
    /// URI of the system, for example `urn:oid:2.16.840.1.113883.3.1937.777.24.5.3`.
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub url: String,
    /// Other names of the same system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::alias_list"))]
    pub aliases: Vec<String>,
    /// Its codes. A security label of the system outside of them makes a record as protected as can be. Absent: any code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::known_code_list"))]
    pub codes: Vec<String>,
}

/// What a code of a document means that stands for a whole rule, as in national consents made of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.code.system)", "message": "the code of a module needs its system"},
    {"rule": "has(self.class) || has(self.purpose) || has(self.action)", "message": "a module needs class, purpose or action: it must say what it means"}
])))]
pub struct ModuleSpec {
    /// Element of a document's provisions that the code stands in.
    #[serde(default, skip_serializing_if = "ModuleElement::is_default")]
    pub element: ModuleElement,
    /// The code, as a document has it.
    pub code: Coding,
    /// Kinds of records that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::coding_list"))]
    pub class: Vec<Coding>,
    /// Purposes that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::purpose_list"))]
    pub purpose: Vec<Coding>,
    /// Actions that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::action_list"))]
    pub action: Vec<Coding>,
}

/// Element of a provision that modules stand in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ModuleElement {
    /// `provision.code`.
    #[default]
    Code,
    /// `provision.purpose`.
    Purpose,
    /// `provision.class` (R5: `resourceType`).
    Class,
}

impl ModuleElement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Code, Self::Purpose, Self::Class];

    /// Whether it is what holds where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Purpose => "purpose",
            Self::Class => "class",
        }
    }
}

/// What a role of an actor means that this project does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActorRoleSpec {
    /// The role, as `provision.actor.role` of a document has it.
    pub role: Coding,
    /// What an actor in this role is to a provision.
    #[serde(rename = "as")]
    pub as_: Part,
}

/// What an actor is to a provision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Who asks.
    #[default]
    Recipient,
    /// Whose data it is: the hospital that keeps the record.
    Custodian,
    /// Who wrote the data.
    Author,
    /// Somebody who takes part in the document only, such as a witness. Such an actor opens nothing.
    Bystander,
}

/// A policy that documents cite instead of stating rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.uri) != has(self.code)", "message": "a cited policy is named by uri or by code"},
    {"rule": "!has(self.code) || has(self.code.system)", "message": "the code of a cited policy needs its system"}
])))]
pub struct CitedPolicySpec {
    /// Its URI, as `policy.uri` of a document has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 512)))]
    pub uri: Option<String>,
    /// Its code, as `policyRule` of a document has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Coding>,
    /// What holds for a document that cites it and states no type.
    pub decision: ProvisionType,
}
