//! What is wrong with an input, and in which field.

use std::fmt;

/// One wrong field: a path as Kubernetes and FHIR write it, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// For example `spec.template.provision[0].purpose[1]` or `Consent.provision.period`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl FieldError {
    /// `message` about `field`.
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}
