//! `ConsentPolicy`: what the hospitals of a channel agreed on about consent. Its words are the vocabulary of the consent crate.

use std::ops::Deref;

use ehrnet_consent::vocabulary::{LocalRef, PolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the hospitals of a channel agreed on about consent: defaults, overriding law, break-glass, retention.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[serde(transparent)]
pub struct ConsentPolicySpec(pub PolicySpec);

impl Deref for ConsentPolicySpec {
    type Target = PolicySpec;

    fn deref(&self) -> &PolicySpec {
        &self.0
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
