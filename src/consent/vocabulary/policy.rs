//! What the hospitals of a channel agreed on about consent, as a manifest says it. A class of consents, never a patient's.

#[cfg(feature = "schemars")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GoDuration;
use super::provision::{Coding, Provision};
use super::reading::{ActorRoleSpec, CitedPolicySpec, CodeSystemSpec, ModuleSpec, UntypedRoot};
#[cfg(feature = "schemars")]
use super::schema;

/// What the hospitals of a channel agreed on about consent: defaults, overriding law, break-glass, retention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.template) || (self.fhirVersion == 'R4' ? has(self.template.type) && !has(self.template.decision) : has(self.template.decision) && !has(self.template.type))", "message": "template needs type under fhirVersion R4, decision under R5"},
    {"rule": "!has(self.overriding) || self.overriding.all(p, self.fhirVersion == 'R4' ? has(p.type) && !has(p.decision) : has(p.decision) && !has(p.type))", "message": "every overriding provision needs type under fhirVersion R4, decision under R5"}
])))]
pub struct PolicySpec {
    /// FHIR release whose way of nesting the provisions here follow: `R4` gives every provision a type, `R5` nests exceptions, each level the opposite of the one above.
    #[serde(default)]
    pub fhir_version: FhirVersion,
    /// The Channel on whose ledger the policy is anchored, by its Chaincode if that is the only one there. Without channelRef and contractRef the policy is checked and projected only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_ref: Option<LocalRef>,
    /// The Chaincode that keeps the policy and decides from it: two policies of one scope cannot share it. Deleting the resource leaves the policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_ref: Option<LocalRef>,
    /// Permits count only from consents of this scope (in the consent's `scope`, or among its categories); of patient-privacy and research if absent. Denials count whatever the scope. On the ledger the policy decides requests of this scope only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ConsentScope>,
    /// Permits count only from consents that have one of these categories; if absent, of the categories that are known as those of consents to the disclosure of records. Denials count whatever the category.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::category_list"))]
    pub category: Vec<Coding>,
    /// What holds where no consent decides (IHE PCF, implicit policies).
    #[serde(default)]
    pub base_policy: BasePolicy,
    /// How several consents of one patient are combined.
    #[serde(default)]
    pub combining: Combining,
    /// Emergency access against the patient's consent.
    #[serde(default)]
    pub break_glass: BreakGlassSpec,
    /// Rules of law or organisation that stand above the patient's consent. A rule that does not match decides nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::overriding_list"))]
    pub overriding: Vec<Provision>,
    /// The consent that patients are offered. Each patient's own Consent decides, not this text of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::template_provision"))]
    pub template: Option<Provision>,
    /// What labels records must have.
    #[serde(default)]
    pub labels: LabelSpec,
    /// How long what is kept.
    #[serde(default)]
    pub retention: RetentionSpec,
    /// Time zone in which a date without time is a whole day: an IANA name, for example `Europe/Berlin`.
    #[serde(default = "utc")]
    #[cfg_attr(
        feature = "schemars",
        schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"))
    )]
    pub time_zone: String,
    /// Which MSP an organisation named in a consent is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub organizations: Vec<OrganizationMapping>,
    /// What an R4 consent means whose root provision has elements and no type.
    #[serde(default, skip_serializing_if = "UntypedRoot::is_default")]
    pub untyped_root: UntypedRoot,
    /// Code systems that consents, requests and records may use besides those of FHIR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 64)))]
    pub code_systems: Vec<CodeSystemSpec>,
    /// Codes of documents that stand for whole rules. A denial of any other code of the same system is refused, and a permit of one, or of a code whose system is not known, permits nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 256)))]
    pub modules: Vec<ModuleSpec>,
    /// What roles of actors mean that are not known here (recipients, custodians, authors and those who take part in documents only are, by their HL7 codes). A consent with any other role is refused, unless the role is a lower-case word, which is one of certificates, or stands beside a role that is known in a permit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 64)))]
    pub actor_roles: Vec<ActorRoleSpec>,
    /// Policies that documents cite instead of stating rules. A consent that states none and cites only others is refused, and so is one that cites another beside one that permits. What a consent states itself outweighs what it cites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 64)))]
    pub cited_policies: Vec<CitedPolicySpec>,
}

fn utc() -> String {
    "UTC".into()
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            fhir_version: FhirVersion::default(),
            channel_ref: None,
            contract_ref: None,
            scope: None,
            category: Vec::new(),
            base_policy: BasePolicy::default(),
            combining: Combining::default(),
            break_glass: BreakGlassSpec::default(),
            overriding: Vec::new(),
            template: None,
            labels: LabelSpec::default(),
            retention: RetentionSpec::default(),
            time_zone: utc(),
            organizations: Vec::new(),
            untyped_root: UntypedRoot::default(),
            code_systems: Vec::new(),
            modules: Vec::new(),
            actor_roles: Vec::new(),
            cited_policies: Vec::new(),
        }
    }
}

/// Release of FHIR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
pub enum FhirVersion {
    /// Typed provisions.
    #[default]
    R4,
    /// Exceptions: each level the opposite of the one above.
    R5,
}

/// Scope of a consent (FHIR: code system consentscope).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ConsentScope {
    /// Collection, access, use and disclosure of information.
    PatientPrivacy,
    /// Research.
    Research,
}

impl ConsentScope {
    /// The code, as FHIR writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::PatientPrivacy => "patient-privacy",
            Self::Research => "research",
        }
    }
}

/// What holds where no consent decides (IHE PCF 1:53.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BasePolicy {
    /// Nothing is permitted.
    #[default]
    Deny,
    /// Treatment is permitted.
    BasicNormal,
    /// Every purpose but break-glass is permitted.
    AllNormal,
    /// Only break-glass is permitted.
    BreakGlassOnly,
}

/// How several consents of one patient are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Combining {
    /// One consent that denies outweighs all that permit.
    #[default]
    DenyOverrides,
    /// The consent with the latest date that decides at all.
    NewestWins,
}

/// Emergency access against the patient's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BreakGlassSpec {
    /// Where break-glass is possible.
    #[serde(default)]
    pub mode: BreakGlassMode,
    /// Purposes of use (v3-ActReason) that mean break-glass.
    #[serde(default = "break_glass_purposes")]
    #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::purpose_code_list"))]
    pub purposes: Vec<String>,
    /// Group whose members may break the glass; holders of the certificate attribute `ehr.breakglass=true` always may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 253)))]
    pub group: Option<String>,
    /// How long a grant holds.
    #[serde(default = "break_glass_ttl", rename = "maxTTL")]
    pub max_ttl: GoDuration,
    /// How soon a use must have been reviewed.
    #[serde(default = "review_within")]
    pub review_within: GoDuration,
}

fn break_glass_purposes() -> Vec<String> {
    vec!["BTG".into()]
}
fn break_glass_ttl() -> GoDuration {
    GoDuration::hours(4)
}
fn review_within() -> GoDuration {
    GoDuration::hours(72)
}

impl Default for BreakGlassSpec {
    fn default() -> Self {
        Self {
            mode: BreakGlassMode::default(),
            purposes: break_glass_purposes(),
            group: None,
            max_ttl: break_glass_ttl(),
            review_within: review_within(),
        }
    }
}

/// Where break-glass is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BreakGlassMode {
    /// Everywhere, unless a provision that denies names the break-glass purpose itself.
    Allow,
    /// Only where a provision that permits names the break-glass purpose.
    #[default]
    ConsentOnly,
    /// Nowhere.
    Forbid,
}

/// What labels records must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LabelSpec {
    /// Whether a record without a confidentiality code is read as V, the most protected. (The contract registers none without one.)
    #[serde(default = "yes")]
    pub require_confidentiality: bool,
}

fn yes() -> bool {
    true
}

impl Default for LabelSpec {
    fn default() -> Self {
        Self { require_confidentiality: yes() }
    }
}

/// How long what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(oldSelf.privateCollection) || (has(self.privateCollection) && self.privateCollection == oldSelf.privateCollection)", "message": "privateCollection is immutable: Fabric neither renames nor deletes a collection"},
    {"rule": "!has(oldSelf.privateCollection) || (has(self.blockToLive) == has(oldSelf.blockToLive) && (!has(self.blockToLive) || self.blockToLive == oldSelf.blockToLive))", "message": "blockToLive is immutable once privateCollection is set: Fabric does not change it"},
    {"rule": "!has(self.blockToLive) || has(self.privateCollection)", "message": "blockToLive belongs to a collection: set privateCollection as well"}
])))]
pub struct RetentionSpec {
    /// Years for which audit entries are kept: at least six (45 CFR 164.316(b)(2)(i)).
    #[serde(default = "audit_years")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 6, max = 100)))]
    pub audit_years: u32,
    /// Private data collection that holds the patients' consents. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$")))]
    pub private_collection: Option<String>,
    /// Blocks (not a time) after which private data of the collection is purged; 0 or absent keeps it. Immutable once privateCollection is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 0, max = 9_007_199_254_740_991_i64)))]
    pub block_to_live: Option<i64>,
}

fn audit_years() -> u32 {
    6
}

impl Default for RetentionSpec {
    fn default() -> Self {
        Self { audit_years: audit_years(), private_collection: None, block_to_live: None }
    }
}

/// Which MSP an organisation named in a consent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OrganizationMapping {
    /// FHIR reference, for example `Organization/mercy`.
    #[cfg_attr(feature = "schemars", schemars(length(min = 3, max = 512)))]
    pub reference: String,
    /// Fabric MSP identifier of the Hospital.
    #[cfg_attr(
        feature = "schemars",
        schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$"))
    )]
    pub msp_id: String,
}

/// Reference to a resource in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schemars", schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.namespace)", "message": "references stay within the namespace: remove namespace and create the resource beside this one"}
])))]
pub struct LocalRef {
    /// Name of the resource, in the namespace of the resource that refers to it.
    #[cfg_attr(
        feature = "schemars",
        schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub name: String,
    /// Not allowed: it is here only so that a reference to another namespace is refused instead of silently pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl LocalRef {
    /// A reference to `name`.
    pub fn to(name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: None }
    }
}
