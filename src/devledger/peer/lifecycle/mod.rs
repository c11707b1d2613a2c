//! The lifecycle of chaincode: installing packages, approving definitions, committing them (`_lifecycle`).
//!
//! ```text
//!   system (the calls) ──> rules (sequence, approvals) ──> fields (how records lie in the state) ──> ReadWritableState
//!        │                     └── collections (what may be defined)
//!        └──> packages on disk (room `chaincode`)
//! ```
//! Definitions are public state; an organisation's approval lies in its implicit collection `_implicit_org_<MSP id>`, so
//! that others see only its hash.

pub mod collections;
pub mod definition;
pub mod fields;
pub mod rules;
pub mod system;

/// Namespace of the lifecycle's own state, and the system chaincode's name.
pub const NAMESPACE: &str = "_lifecycle";

/// State of the lifecycle's namespace, to read; collection "" is the public part.
pub trait ReadableState {
    /// Value of a key.
    ///
    /// # Errors
    /// It cannot be read.
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String>;
}

/// The same, to read and write within a simulation.
pub trait ReadWritableState: ReadableState {
    /// Write a key; an empty value deletes.
    ///
    /// # Errors
    /// Writes are not allowed.
    fn put(&mut self, collection: &str, key: &str, value: &[u8]) -> Result<(), String>;

    /// Hash of a private value.
    ///
    /// # Errors
    /// It cannot be read.
    fn hash(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String>;

    /// Keys with a prefix, and their values.
    ///
    /// # Errors
    /// They cannot be read.
    fn with_prefix(&mut self, collection: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, String>;
}

/// Name of an organisation's implicit collection.
pub fn implicit_collection(msp_id: &str) -> String {
    format!("{IMPLICIT}{msp_id}")
}

/// The organisation, if the collection is an implicit one.
pub fn implicit_org(collection: &str) -> Option<&str> {
    collection.strip_prefix(IMPLICIT)
}

const IMPLICIT: &str = "_implicit_org_";
