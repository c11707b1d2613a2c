//! `ConsentPolicy`: what the hospitals of a channel agreed on about consent. A class of consents, never a patient's.
//!
//! The words are FHIR's (Consent, R4 or R5). The rules of a policy form a tree; Rust says so with one recursive type,
//! a Kubernetes schema cannot, so `consent_schema` writes the tree out down to [`MAX_DEPTH`]. Closed code sets are enums in
//! the schema: an enum costs nothing against the budget of CEL, a rule on a deep node does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::common::LocalRef;
use super::consent_schema as schema;
use super::duration::GoDuration;

/// How many levels of provisions may lie below a root provision.
pub const MAX_DEPTH: usize = 4;

/// What the hospitals of a channel agreed on about consent: defaults, overriding law, break-glass, retention.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "ConsentPolicy",
    plural = "consentpolicies",
    shortname = "consent",
    category = "ehrnet",
    namespaced,
    status = "ConsentPolicyStatus",
    derive = "PartialEq",
    doc = "What the hospitals of a channel agreed on about consent: defaults, overriding law, break-glass, retention.",
    printcolumn(name = "FHIR", type_ = "string", json_path = ".spec.fhirVersion"),
    printcolumn(name = "Base", type_ = "string", json_path = ".spec.basePolicy"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.shortDigest"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.ledgerVersion"),
    printcolumn(name = "Full-Digest", type_ = "string", json_path = ".status.digest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.template) || (self.fhirVersion == 'R4' ? has(self.template.type) && !has(self.template.decision) : has(self.template.decision) && !has(self.template.type))", "template needs type under fhirVersion R4, decision under R5"))]
#[x_kube(validation = ("!has(self.overriding) || self.overriding.all(p, self.fhirVersion == 'R4' ? has(p.type) && !has(p.decision) : has(p.decision) && !has(p.type))", "every overriding provision needs type under fhirVersion R4, decision under R5"))]
pub struct ConsentPolicySpec {
    /// FHIR release whose way of nesting the provisions here follow: `R4` gives every provision a type, `R5` nests exceptions, each level the opposite of the one above.
    #[serde(default)]
    pub fhir_version: FhirVersion,
    /// The Channel on whose ledger the policy is anchored, by its Chaincode if that is the only one there. Without channelRef and contractRef the policy is checked and projected only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_ref: Option<LocalRef>,
    /// The Chaincode that keeps the policy and decides from it: two policies of one scope cannot share it. Deleting the resource leaves the policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_ref: Option<LocalRef>,
    /// Take only consents of this scope (in the consent's `scope`, or among its categories); any scope if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ConsentScope>,
    /// Take only consents that have one of these categories; any category if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), schema_with = "schema::category_list")]
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
    #[schemars(schema_with = "schema::overriding_list")]
    pub overriding: Vec<Provision>,
    /// The consent that patients are offered. Each patient's own Consent decides, not this text of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::template_provision")]
    pub template: Option<Provision>,
    /// What labels records must have.
    #[serde(default)]
    pub labels: LabelSpec,
    /// How long what is kept.
    #[serde(default)]
    pub retention: RetentionSpec,
    /// Time zone in which a date without time is a whole day: an IANA name, for example `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"))]
    pub time_zone: String,
    /// Which MSP an organisation named in a consent is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub organizations: Vec<OrganizationMapping>,
}

fn utc() -> String {
    "UTC".into()
}

impl Default for ConsentPolicySpec {
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
        }
    }
}

/// Release of FHIR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FhirVersion {
    /// Typed provisions.
    #[default]
    R4,
    /// Exceptions: each level the opposite of the one above.
    R5,
}

/// Scope of a consent (FHIR: code system consentscope).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combining {
    /// One consent that denies outweighs all that permit.
    #[default]
    DenyOverrides,
    /// The consent with the latest date that decides at all.
    NewestWins,
}

/// Emergency access against the patient's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlassSpec {
    /// Where break-glass is possible.
    #[serde(default)]
    pub mode: BreakGlassMode,
    /// Purposes of use (v3-ActReason) that mean break-glass.
    #[serde(default = "break_glass_purposes")]
    #[schemars(schema_with = "schema::purpose_code_list")]
    pub purposes: Vec<String>,
    /// Group whose members may break the glass; holders of the certificate attribute `ehr.breakglass=true` always may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSpec {
    /// Whether the contract refuses to register a record without a confidentiality code.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(oldSelf.privateCollection) || (has(self.privateCollection) && self.privateCollection == oldSelf.privateCollection)", "privateCollection is immutable: Fabric neither renames nor deletes a collection"))]
#[x_kube(validation = ("!has(oldSelf.privateCollection) || (has(self.blockToLive) == has(oldSelf.blockToLive) && (!has(self.blockToLive) || self.blockToLive == oldSelf.blockToLive))", "blockToLive is immutable once privateCollection is set: Fabric does not change it"))]
#[x_kube(validation = ("!has(self.blockToLive) || has(self.privateCollection)", "blockToLive belongs to a collection: set privateCollection as well"))]
pub struct RetentionSpec {
    /// Years for which audit entries are kept: at least six (45 CFR 164.316(b)(2)(i)).
    #[serde(default = "audit_years")]
    #[schemars(range(min = 6, max = 100))]
    pub audit_years: u32,
    /// Private data collection that holds the patients' consents. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub private_collection: Option<String>,
    /// Blocks (not a time) after which private data of the collection is purged; 0 or absent keeps it. Immutable once privateCollection is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationMapping {
    /// FHIR reference, for example `Organization/mercy`.
    #[schemars(length(min = 3, max = 512))]
    pub reference: String,
    /// Fabric MSP identifier of the Hospital.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$"))]
    pub msp_id: String,
}

/// Whether a provision permits or denies (FHIR: consent-provision-type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProvisionType {
    /// What matches is permitted.
    Permit,
    /// What matches is denied.
    Deny,
}

/// A rule: every element that is present must match (AND), any entry within an element is enough (OR). A nested
/// provision inherits the elements that it does not state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    #[schemars(schema_with = "schema::purpose_list")]
    pub purpose: Vec<Coding>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub actor: Vec<Actor>,
    /// What is done with the record (consentaction).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::action_list")]
    pub action: Vec<Coding>,
    /// Confidentiality (a permit covers what is at or under the highest code, a deny what is at or above the lowest) and sensitivity of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_list")]
    pub security_label: Vec<Coding>,
    /// Kind of record: a FHIR resource type, or a document type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::coding_list")]
    pub class: Vec<Coding>,
    /// Clinical content of the record, for example a LOINC or SNOMED CT code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::coding_list")]
    pub code: Vec<Coding>,
    /// When the record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_period: Option<Period>,
    /// Named records, and what hangs on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub data: Vec<DataReference>,
    /// Exceptions and additions to this rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub provision: Vec<Provision>,
}

/// A span of time, both ends included to their precision (FHIR: Period).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.start) || has(self.end)", "a period needs a start or an end"))]
#[x_kube(validation = ("!has(self.start) || !has(self.end) || (size(self.start) > 10 && size(self.end) > 10 ? timestamp(self.start) <= timestamp(self.end) : size(self.start) < size(self.end) ? self.start <= self.end.substring(0, size(self.start)) : self.start.substring(0, size(self.end)) <= self.end)", "start must not be after end"))]
pub struct Period {
    /// First moment: `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or a full time with zone; unbounded if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 4, max = 35),
        regex(
            pattern = "^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?$"
        )
    )]
    pub start: Option<String>,
    /// Last moment, to its precision: a date is the whole day; unbounded if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 4, max = 35),
        regex(
            pattern = "^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?$"
        )
    )]
    pub end: Option<String>,
}

/// Who asks. With a role alone: everybody whose certificate has the role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.reference) ? 1 : 0) + (has(self.identifier) ? 1 : 0) + (has(self.mspId) ? 1 : 0) + (has(self.attr) ? 1 : 0) <= 1", "an actor is named in one way: reference, identifier, mspId or attr"))]
#[x_kube(validation = ("has(self.role) || has(self.reference) || has(self.identifier) || has(self.mspId) || has(self.attr)", "an actor needs a role, reference, identifier, mspId or attr"))]
pub struct Actor {
    /// Role in the certificate (a code without system), or how the actor takes part (v3-ParticipationType; says nothing about who it is).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Coding>,
    /// FHIR reference to a person, group, device or organisation, for example `Practitioner/17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub reference: Option<String>,
    /// Business identifier of a person or organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,
    /// Everybody of this MSP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$"))]
    pub msp_id: Option<String>,
    /// Everybody whose certificate has this attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attr: Option<Attribute>,
}

/// Business identifier (FHIR: Identifier).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identifier {
    /// Namespace of the value, a URI.
    #[schemars(length(min = 1, max = 256))]
    pub system: String,
    /// The identifier.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,
}

/// Attribute of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// Name, for example `ehr.role`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Value.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,
}

/// A record, and what a rule takes from it (FHIR: Consent.provision.data).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataReference {
    /// How the reference is meant.
    pub meaning: DataMeaning,
    /// FHIR reference, for example `Encounter/17`.
    #[schemars(length(min = 1, max = 512))]
    pub reference: String,
}

/// How a reference to a record is meant (FHIR: consent-data-meaning).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coding {
    /// URI of the code system; the system of the element if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub system: Option<String>,
    /// The code, case-sensitive.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^\S+$"))]
    pub code: String,
    /// The code in words. It has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
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

/// What the operator saw of a ConsentPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsentPolicyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// SHA-256 of the policy's canonical JSON (RFC 8785), lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The first twelve characters of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_digest: Option<String>,
    /// ConfigMap with the policy's canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
    /// Version of the policy on the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<u64>,
    /// Digest of the policy on the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_digest: Option<String>,
}
