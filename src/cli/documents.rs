//! Consents in files and folders, also in Bundles; and what there is besides, so that nothing is left out without being said.

use std::path::{Path, PathBuf};

use ehrnet_consent::{FieldError, fhir, json};
use serde::Serialize;
use serde_json::Value;

use super::BadInput;
use super::files::{read, shown};

/// A file that was not looked at.
#[derive(Serialize)]
pub struct Skipped {
    /// Its path.
    pub file: String,
    /// Why.
    pub why: &'static str,
}

/// Calls `each` with every document of these files and folders, in the order of their names: where it stands, and what it is or why
/// it cannot be read. What is returned was not looked at.
///
/// # Errors
/// A file or folder cannot be read.
pub fn visit(
    paths: &[PathBuf],
    each: &mut dyn FnMut(String, Result<Value, FieldError>),
) -> Result<Vec<Skipped>, BadInput> {
    let mut visit = Visit { each, found: 0, skipped: Vec::new() };
    for path in paths {
        if path.is_dir() { visit.folder(path)? } else { visit.file(path)? }
    }
    Ok(visit.skipped)
}

struct Visit<'e> {
    each: &'e mut dyn FnMut(String, Result<Value, FieldError>),
    found: usize,
    skipped: Vec<Skipped>,
}

impl Visit<'_> {
    fn find(&mut self, place: String, document: Result<Value, FieldError>) {
        self.found += 1;
        (self.each)(place, document);
    }

    fn folder(&mut self, path: &Path) -> Result<(), BadInput> {
        let wrong = |error: std::io::Error| BadInput::one(format_args!("{}: cannot be read: {error}", shown(path)));
        let entries = std::fs::read_dir(path).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let mut entries: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            match (entry.is_dir(), entry.is_symlink(), ending(&entry).as_str()) {
                // A link may lead back to where it stands.
                (true, true, _) => self.skip(&entry, "is a link to a folder"),
                (true, false, _) => self.folder(&entry)?,
                (false, _, "json" | "xml") => self.file(&entry)?,
                (false, _, "ndjson") => self.skip(&entry, "is not .json: split it into files of one resource each"),
                (false, ..) => self.skip(&entry, "is neither .json nor .xml"),
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, why: &'static str) {
        self.skipped.push(Skipped { file: shown(path), why });
    }

    fn file(&mut self, path: &Path) -> Result<(), BadInput> {
        let document = match json::parse(&read(path)?, "Consent") {
            Ok(document) if document["resourceType"] == "Bundle" => document,
            other => {
                self.find(shown(path), other);
                return Ok(());
            }
        };
        let before = self.found;
        self.bundle(&format!("{} ", shown(path)), document);
        if self.found == before {
            self.skip(path, "is a Bundle without a Consent");
        }
        Ok(())
    }

    /// The Consents of a Bundle, and of the Bundles in it. What changes the meaning of one is refused with all that it holds.
    fn bundle(&mut self, path: &str, mut bundle: Value) {
        let entries = match (fhir::refuse_change_of_meaning(&bundle, "Bundle"), bundle["entry"].take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Value::Array(entries)) => Ok(entries),
            (Ok(()), Value::Null) => Ok(Vec::new()),
            (Ok(()), _) => Err(FieldError::new("Bundle.entry", "must be a list")),
        };
        match entries {
            Ok(entries) => entries.into_iter().enumerate().for_each(|(i, entry)| {
                self.entry(&format!("{path}entry[{i}]"), entry);
            }),
            Err(error) => self.find(path.trim_end_matches(['.', ' ']).to_owned(), Err(error)),
        }
    }

    fn entry(&mut self, place: &str, mut entry: Value) {
        let changed = fhir::refuse_change_of_meaning(&entry, "Bundle.entry");
        let resource = entry["resource"].take();
        match (resource["resourceType"].as_str(), changed) {
            (Some("Consent" | "Bundle"), Err(error)) => self.find(place.to_owned(), Err(error)),
            (Some("Consent"), Ok(())) => self.find(place.to_owned(), Ok(resource)),
            (Some("Bundle"), Ok(())) => self.bundle(&format!("{place}.resource."), resource),
            (Some(_) | None, _) => {}
        }
    }
}

/// What the name of a file ends in, in small letters.
fn ending(path: &Path) -> String {
    path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}
