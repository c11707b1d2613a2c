//! `Hospital`: an organisation of the network (Fabric: an MSP) with its certificate authorities and admin identity.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{CertificateStatus, DeletionPolicy, LocalRef};
use ehrnet_consent::vocabulary::GoDuration;

/// A hospital: one organisation of the ledger network, with its own signing CA, TLS CA and admin identity.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ehrnet.dev",
    version = "v1alpha1",
    kind = "Hospital",
    plural = "hospitals",
    shortname = "hosp",
    category = "ehrnet",
    namespaced,
    status = "HospitalStatus",
    derive = "PartialEq",
    doc = "A hospital: one organisation of the ledger network, with its own signing CA, TLS CA and admin identity.",
    printcolumn(name = "MSP", type_ = "string", json_path = ".spec.mspId"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "CA-Expires", type_ = "string", json_path = ".status.signingCa.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40", "metadata.name must be a DNS label that starts with a letter, at most 40 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.signingCa) == has(oldSelf.signingCa)", "signingCa cannot be added or removed later: every identity of the hospital hangs on it"))]
#[x_kube(validation = ("has(self.tlsCa) == has(oldSelf.tlsCa)", "tlsCa cannot be added or removed later: every TLS certificate of the hospital hangs on it"))]
#[x_kube(validation = ("!has(self.signingCa) || !has(self.tlsCa) || self.signingCa.secretRef.name != self.tlsCa.secretRef.name", "signingCa and tlsCa must be two different key pairs"))]
pub struct HospitalSpec {
    /// Fabric MSP identifier of the hospital, for example `MercyMSP`: letters, digits, `.` and `-`. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "mspId is immutable: it is written into every block and certificate; create a new Hospital instead"))]
    pub msp_id: String,
    /// Name for people. It becomes the organisation name (O) of the certificates issued from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub display_name: Option<String>,
    /// Validity and renewal of certificates.
    #[serde(default)]
    pub pki: PkiSpec,
    /// Existing signing CA to use instead of one made by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_ca: Option<ExistingCa>,
    /// Existing TLS CA to use instead of one made by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<ExistingCa>,
    /// What happens to the CA key pairs when the Hospital is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A CA key pair in a Secret of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExistingCa {
    /// Secret of type `kubernetes.io/tls`: `tls.crt` (the CA certificate, PEM) and `tls.key` (its private key, PKCS#8 PEM, ECDSA P-256).
    pub secret_ref: LocalRef,
}

/// Validity and renewal of a hospital's certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PkiSpec {
    /// Certificate authorities made by the operator.
    #[serde(default = "Lifetime::ca")]
    pub ca: Lifetime,
    /// Node, admin and TLS certificates.
    #[serde(default)]
    pub leaf: Lifetime,
}

impl Default for PkiSpec {
    /// Not derived: a CA must not get the short life of a leaf.
    fn default() -> Self {
        Self { ca: Lifetime::ca(), leaf: Lifetime::default() }
    }
}

/// Validity of a certificate and the window before its end in which it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("duration(self.renewBefore) < duration(self.validity)", "renewBefore must be shorter than validity"))]
pub struct Lifetime {
    /// How long a certificate is valid, for example `8760h`.
    pub validity: GoDuration,
    /// How long before its end it is renewed, for example `2160h`. The key stays the same.
    pub renew_before: GoDuration,
}

impl Lifetime {
    /// Ten years, and a warning from one year before the end.
    pub fn ca() -> Self {
        Self { validity: GoDuration::hours(87_600), renew_before: GoDuration::hours(8_760) }
    }
}

impl Default for Lifetime {
    /// One year, renewed a quarter before the end.
    fn default() -> Self {
        Self { validity: GoDuration::hours(8_760), renew_before: GoDuration::hours(2_160) }
    }
}

/// What the operator saw of a Hospital.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HospitalStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and what it is made of.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The CA that signs identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_ca: Option<CertificateStatus>,
    /// The CA that signs TLS certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<CertificateStatus>,
    /// The hospital's admin identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<CertificateStatus>,
    /// Secret with the client bundle: MSP folder, connection profile and gateway settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_bundle_secret: Option<String>,
}
