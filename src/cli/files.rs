//! Files that subcommands read, and what is said of those that cannot be used.

use std::path::Path;

use serde_json::Value;

use super::BadInput;
use ehrnet_consent::{json, said};

/// A path as it is told: a name of a file may hold what a terminal obeys.
pub fn shown(path: &Path) -> String {
    said(&path.display().to_string())
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, BadInput> {
    std::fs::read(path).map_err(|error| BadInput::one(format_args!("{}: cannot be read: {error}", shown(path))))
}

/// The JSON in a file.
pub fn read_json(path: &Path) -> Result<Value, BadInput> {
    let parsed = serde_json::from_slice(&read(path)?);
    parsed.map_err(|error| BadInput::one(format_args!("{}: is not JSON: {error}", shown(path))))
}

/// The document in a file, called `name`, in which everything is said once.
pub fn read_document(path: &Path, name: &str) -> Result<Value, BadInput> {
    let parsed = json::parse(&read(path)?, name);
    parsed.map_err(|error| BadInput::one(format_args!("{}: {error}", shown(path))))
}
