//! Attributes of an identity, in the certificate extension in which Fabric CA puts them and in which the official
//! chaincode libraries look (fabric-ca: `lib/attrmgr`; the value is plain JSON, not DER).
//!
//! What they say of a person is nobody's business but the contract's: no text made for people shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Object identifier of the extension.
pub const EXTENSION: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 1];
/// The same as text.
pub(super) const EXTENSION_TEXT: &str = "1.2.3.4.5.6.7.8.1";

/// Names and values that a certificate states of its holder.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, String>);

/// The extension's JSON.
#[derive(Serialize, Deserialize)]
struct Extension {
    attrs: BTreeMap<String, String>,
}

impl Attributes {
    /// These attributes.
    pub fn new(attributes: BTreeMap<String, String>) -> Self {
        Self(attributes)
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The extension's value; `None` where there is nothing to state.
    pub(super) fn encode(&self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        serde_json::to_vec(&Extension { attrs: self.0.clone() }).map(Some)
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// That it is not such JSON, without quoting it.
    pub(super) fn decode(value: &[u8]) -> Result<Self, &'static str> {
        serde_json::from_slice(value)
            .map(|extension: Extension| Self(extension.attrs))
            .map_err(|_| "its attribute extension is not the JSON that Fabric CA writes")
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({})", self.0.len())
    }
}
