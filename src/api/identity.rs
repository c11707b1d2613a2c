//! `Identity`: somebody or something of a hospital that signs transactions, with what its certificate states of it.
//!
//! For the hospital's systems, officers and test patients. It is no register of patients: those are not resources.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::common::{CertificateStatus, LocalRef};
use super::hospital::Lifetime;

/// An identity of a hospital: a certificate with attributes, its key and a client bundle, in one Secret.
#[derive(CustomResource, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Identity",
    plural = "identities",
    shortname = "ident",
    category = "ehrnet",
    namespaced,
    status = "IdentityStatus",
    derive = "PartialEq",
    doc = "An identity of a hospital: a certificate with attributes, its key and a client bundle, in one Secret. Deleting it removes the Secret and ends renewal; copies of the key stay valid until the certificate ends.",
    printcolumn(name = "Hospital", type_ = "string", json_path = ".spec.hospitalRef.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.certificate.secretName"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.certificate.notAfter"),
    printcolumn(name = "Serial", type_ = "string", json_path = ".status.certificate.serial", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)", "secretName is immutable: the key stays where it is; create a new Identity instead"))]
pub struct IdentitySpec {
    /// The Hospital that vouches for it. Immutable.
    #[x_kube(validation = ("self.name == oldSelf.name", "hospitalRef is immutable: the identity belongs to that hospital"))]
    pub hospital_ref: LocalRef,
    /// What it may do on the ledger (Fabric: NodeOU): a `client` uses channels, an `admin` signs for the hospital. Immutable.
    #[serde(rename = "type", default)]
    #[x_kube(validation = ("self == oldSelf", "type is immutable: create a new Identity instead"))]
    pub type_: IdentityType,
    /// What the certificate states of its holder, where Fabric CA and the official chaincode libraries have it, for example `ehr.role: physician`. Another value makes a new certificate for the same key. Everybody who sees a transaction sees it: no names of people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "attributes")]
    pub attributes: BTreeMap<String, String>,
    /// Name of the Secret that is made; `<name>-id` if absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// Validity and renewal of the certificate; those of the hospital's leaves (`pki.leaf`) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Lifetime>,
}

/// By hand: what is stated of a person is shown in no log.
impl std::fmt::Debug for IdentitySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentitySpec")
            .field("hospital_ref", &self.hospital_ref)
            .field("type_", &self.type_)
            .finish_non_exhaustive()
    }
}

/// Kind of an identity (Fabric: NodeOU role).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityType {
    /// An application or person.
    #[default]
    Client,
    /// Signs for the hospital.
    Admin,
}

/// A short list of short texts: each of them travels with every transaction.
fn attributes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "x-kubernetes-validations": [
            {
                "rule": "self.all(name, name.matches('^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'))",
                "message": "the name of an attribute has letters, digits, '.', '_' and '-', at most 64 of them",
            },
            {
                "rule": "self.all(name, !name.startsWith('hf.'))",
                "message": "attributes that start with hf. are Fabric CA's own",
            },
        ],
    })
}

/// What the operator saw of an Identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The certificate, and the Secret that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}
