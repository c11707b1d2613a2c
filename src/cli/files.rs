//! Files that subcommands read, and what is said of those that cannot be used.

use std::path::Path;

use serde_json::Value;

use super::BadInput;

/// The text of a file.
pub fn read(path: &Path) -> Result<String, BadInput> {
    std::fs::read_to_string(path)
        .map_err(|error| BadInput::one(format_args!("{}: cannot be read: {error}", path.display())))
}

/// The JSON in a file.
pub fn read_json(path: &Path) -> Result<Value, BadInput> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|error| BadInput::one(format_args!("{}: is not JSON: {error}", path.display())))
}
