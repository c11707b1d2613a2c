//! Reads JSON with a path at hand, so that an error names the field it is about.

use serde_json::{Map, Value};

use super::error::FieldError;

/// Entries that any list of an input may have at most: a bound on the work that an input can ask for.
pub const MAX_ENTRIES: usize = 10_000;

/// A JSON value and where it stands.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its path, for example `Consent.provision.purpose[0]`.
    pub path: String,
}

impl<'a> At<'a> {
    /// `value`, called `path`.
    pub fn root(value: &'a Value, path: &str) -> Self {
        Self { value, path: path.to_owned() }
    }

    /// An error about this field.
    pub fn error(&self, message: impl std::fmt::Display) -> FieldError {
        FieldError::new(&self.path, message)
    }

    /// The member `key`; none if it is absent or null.
    pub fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At { value, path: format!("{}.{key}", self.path) })
    }

    /// The object with all its members.
    pub fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    /// The text, which must not be empty.
    pub fn text(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| self.error("must be a text, and not empty"))
    }

    /// The entries of the list.
    pub fn list(&self) -> Result<Vec<At<'a>>, FieldError> {
        let entries = self.value.as_array().ok_or_else(|| self.error("must be a list"))?;
        if entries.len() > MAX_ENTRIES {
            return Err(self.error(format_args!("has more than {MAX_ENTRIES} entries")));
        }
        Ok(entries.iter().enumerate().map(|(i, value)| At { value, path: format!("{}[{i}]", self.path) }).collect())
    }

    /// Refuses a member that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), FieldError> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(FieldError::new(format!("{}.{key}", self.path), "is not a known field")),
            None => Ok(()),
        }
    }
}
