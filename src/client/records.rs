//! Records: registered with a salted hash, compared with what is at hand, erased.
//!
//! The body stays where it is. A FHIR resource also says what kind it is, how it is labelled and what it is about.

use serde_json::Value;

use super::contract::salt;
use super::object::ObjectHashes;
use super::{ClientError, Contract};
use ehrnet_consent::vocabulary::Coding;
use ehrnet_consent::vocabulary::code_systems::{CONFIDENTIALITY, RESOURCE_TYPES};
use ehrnet_messages::hash::document_digest;
use ehrnet_messages::{Record, RecordSecret, RegisterRecord, Verification, VerifyRecord};

/// The content of a record.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON, for example a FHIR resource: its canonical form (RFC 8785) is hashed.
    Document(Value),
    /// Anything, for example an image series: its bytes are hashed, in chunks.
    Object(ObjectHashes),
}

impl Body {
    /// What the ledger's salted hash is made from.
    ///
    /// # Errors
    /// The document has a number that JSON cannot carry.
    pub fn digest(&self) -> Result<String, ClientError> {
        match self {
            Self::Document(document) => canonical(document_digest(document)),
            Self::Object(object) => Ok(object.digest.clone()),
        }
    }

    fn manifest_root(&self) -> Result<Option<String>, ClientError> {
        match self {
            Self::Document(_) => Ok(None),
            Self::Object(object) => canonical(object.root()).map(Some),
        }
    }

    /// What a FHIR resource says about itself; nothing of anything else.
    pub fn described(&self) -> Description {
        match self {
            Self::Document(document) => Description::of(document),
            Self::Object(_) => Description::default(),
        }
    }
}

fn canonical(digest: Result<String, serde_json::Error>) -> Result<String, ClientError> {
    digest.map_err(|error| ClientError::Input(format!("the body has no canonical JSON (RFC 8785): {error}")))
}

/// What consents can name a record by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Kind: the resource type.
    pub class: Option<Coding>,
    /// v3-Confidentiality code.
    pub confidentiality: Option<String>,
    /// Other security labels.
    pub sensitivity: Vec<Coding>,
    /// Codes of its content.
    pub codes: Option<Vec<Coding>>,
}

impl Description {
    /// Of a FHIR resource: `resourceType`, `meta.security` and `code.coding`.
    pub fn of(resource: &Value) -> Self {
        let codings = |list: &Value| -> Vec<Coding> {
            let entries = list.as_array().into_iter().flatten();
            entries.filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect()
        };
        let labels = codings(&resource["meta"]["security"]);
        let (confidentiality, sensitivity): (Vec<Coding>, Vec<Coding>) =
            labels.into_iter().partition(|label| label.system.as_deref() == Some(CONFIDENTIALITY));
        let class = resource["resourceType"].as_str();
        let class = class.map(|code| Coding { system: Some(RESOURCE_TYPES.into()), code: code.into(), display: None });
        let codes = resource["code"].get("coding").map(codings);
        let [confidentiality] = confidentiality.as_slice() else {
            return Self { class, confidentiality: None, sensitivity, codes };
        };
        Self { class, confidentiality: Some(confidentiality.code.clone()), sensitivity, codes }
    }
}

/// Registers a record: `storage` says where the body is, `codes` what it is about. Both stay private.
///
/// # Errors
/// The ledger refuses or cannot be reached.
pub async fn register(
    contract: &Contract,
    mut record: RegisterRecord,
    body: &Body,
    storage: String,
    codes: Option<Vec<Coding>>,
) -> Result<Record, ClientError> {
    if let Body::Object(object) = body {
        let manifest = object.manifest().ok_or_else(|| {
            ClientError::Input(format!("the object has {} chunks, more than a manifest can count", object.chunks.len()))
        })?;
        record.manifest = Some(manifest);
    }
    let manifest_root = body.manifest_root()?;
    let secret = RecordSecret { salt: salt(), digest: body.digest()?, storage, codes, manifest_root };
    contract.call(&record, Some(&secret)).await
}

/// Compares a body with what was registered.
///
/// # Errors
/// The ledger refuses (there is no such record) or cannot be reached.
pub async fn verify(contract: &Contract, record: String, body: &Body) -> Result<Verification, ClientError> {
    contract
        .call(&VerifyRecord { record, digest: Some(body.digest()?), manifest_root: body.manifest_root()? }, None)
        .await
}

/// Whether `manifest` is the one that was registered with the record.
///
/// # Errors
/// The ledger refuses (there is no such record) or cannot be reached.
pub async fn verify_manifest(
    contract: &Contract,
    record: String,
    manifest: &[String],
) -> Result<Verification, ClientError> {
    let root = canonical(document_digest(&Value::from(manifest.to_vec())))?;
    contract.call(&VerifyRecord { record, digest: None, manifest_root: Some(root) }, None).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resource_describes_itself() {
        let resource = json!({
            "resourceType": "Observation",
            "meta": {"security": [{"system": CONFIDENTIALITY, "code": "R"}, {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]},
            "code": {"coding": [{"system": "http://loinc.org", "code": "44249-1"}]},
        });
        let description = Description::of(&resource);
        assert_eq!(description.class.map(|class| class.code).as_deref(), Some("Observation"));
        assert_eq!(description.confidentiality.as_deref(), Some("R"));
        assert_eq!(description.sensitivity[0].code, "PSY");
        assert_eq!(description.codes.expect("codes")[0].code, "44249-1");
    }

    #[test]
    fn what_is_not_said_or_said_twice_is_left_to_the_caller() {
        assert_eq!(Description::of(&json!({"a": 1})), Description::default());
        let labels = ["N", "R"].map(|code| json!({"system": CONFIDENTIALITY, "code": code}));
        assert_eq!(Description::of(&json!({"meta": {"security": labels}})).confidentiality, None);
    }

    /// C6, on this side.
    #[test]
    fn the_order_of_members_does_not_change_a_digest() {
        let digest = |text: &str| Body::Document(serde_json::from_str(text).expect("JSON")).digest().expect("a digest");
        assert_eq!(digest(r#"{"a":1,"b":[true,"x"]}"#), digest("{ \"b\": [true, \"x\"],\n \"a\": 1.0 }"));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":2}"#));
    }
}
