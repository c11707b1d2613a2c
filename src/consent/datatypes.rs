//! The data types of FHIR that documents are made of: Coding, CodeableConcept, Period, Reference, Identifier.
//!
//! Each is read with all its members. One that the type does not have may be a misspelled one that restricts, so it is refused:
//! a period without the end that somebody wrote never ends.

use super::error::FieldError;
use super::json::At;
use super::reference;
use crate::vocabulary::{Coding, Identifier, Period};

const CODING: &[&str] = &["id", "extension", "system", "version", "code", "display", "userSelected"];
const CONCEPT: &[&str] = &["id", "extension", "coding", "text"];
const PERIOD: &[&str] = &["id", "extension", "start", "end"];
const REFERENCE: &[&str] = &["id", "extension", "reference", "type", "identifier", "display"];
const IDENTIFIER: &[&str] = &["id", "extension", "use", "type", "system", "value", "period", "assigner"];

/// Refuses elements that are neither evaluated nor allowed to be ignored. `_x` carries extensions of the primitive `x`.
pub fn known(at: &At, lists: &[&[&str]]) -> Result<(), FieldError> {
    let is_known = |key: &&String| key.starts_with('_') || lists.iter().any(|list| list.contains(&key.as_str()));
    match at.object()?.keys().find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => Err(FieldError::new(
            format!("{}.{key}", at.path),
            "is not an element that is evaluated here, and ignoring it could permit too much",
        )),
    }
}

/// The entries of a list that, if it is there, has some.
pub fn filled_list<'a>(at: &At<'a>, name: &str) -> Result<Vec<At<'a>>, FieldError> {
    let Some(list) = at.get(name) else { return Ok(Vec::new()) };
    let entries = list.list()?;
    if entries.is_empty() { Err(list.error("must not be empty: leave it out instead")) } else { Ok(entries) }
}

fn token(at: &At, name: &str) -> Result<Option<String>, FieldError> {
    at.get(name).map(|at| at.token().map(str::to_owned)).transpose()
}

fn required(at: &At, name: &str) -> Result<String, FieldError> {
    token(at, name)?.ok_or_else(|| FieldError::new(format!("{}.{name}", at.path), "is required"))
}

/// A coding, with its code.
pub fn read_coding(at: &At) -> Result<Coding, FieldError> {
    known(at, &[CODING])?;
    let code = token(at, "code")?.ok_or_else(|| {
        FieldError::new(format!("{}.code", at.path), "is required: without it nothing can be compared")
    })?;
    let display = at.get("display").map(|at| at.text().map(str::to_owned)).transpose()?;
    Ok(Coding { system: token(at, "system")?, code, display })
}

/// The codings of a concept, which may be a text only, each with where it stands.
pub fn read_codings<'a>(at: &At<'a>) -> Result<Vec<(At<'a>, Coding)>, FieldError> {
    known(at, &[CONCEPT])?;
    filled_list(at, "coding")?.into_iter().map(|at| read_coding(&at).map(|coding| (at, coding))).collect()
}

/// The codings of a concept that decides. They are translations of each other: each stands for it.
pub fn read_concept(at: &At) -> Result<Vec<Coding>, FieldError> {
    match read_codings(at)? {
        codings if codings.is_empty() => {
            Err(FieldError::new(format!("{}.coding", at.path), "is required: a text cannot be compared"))
        }
        codings => Ok(codings.into_iter().map(|(_, coding)| coding).collect()),
    }
}

/// A period as it is written.
pub fn read_period(at: &At) -> Result<Period, FieldError> {
    known(at, &[PERIOD])?;
    let text = |name: &str| at.get(name).map(|at| at.text().map(str::to_owned)).transpose();
    Ok(Period { start: text("start")?, end: text("end")? })
}

/// The text of a reference, if it has one: one that can be compared is of the type that is said.
pub fn reference_text(at: &At) -> Result<Option<String>, FieldError> {
    known(at, &[REFERENCE])?;
    let text = token(at, "reference")?;
    let said = at.get("type").map(|said| said.token().map(|text| (said.clone(), text))).transpose()?;
    match (text.as_deref().and_then(reference::kind), said) {
        (Some(kind), Some((said, text))) if text.rsplit('/').next() != Some(kind) => {
            Err(said.error(format_args!("is another type than the {kind} that is referred to")))
        }
        _ => Ok(text),
    }
}

/// An identifier. One that is no longer in use, or only for some time, may be somebody else's.
pub fn read_identifier(at: &At) -> Result<Identifier, FieldError> {
    known(at, &[IDENTIFIER])?;
    match over(at) {
        Some(element) => Err(element.error("may be over: name the actor by an identifier that holds without end")),
        None => Ok(Identifier { system: required(at, "system")?, value: required(at, "value")? }),
    }
}

/// Uses of identifiers that are not over (FHIR: IdentifierUse).
const IN_USE: &[&str] = &["usual", "official", "temp", "secondary"];

/// What says that an identifier may be over.
fn over<'a>(at: &At<'a>) -> Option<At<'a>> {
    let in_use = |at: &At| at.value.as_str().is_some_and(|used| IN_USE.contains(&used));
    let used = at.get("use").filter(|at| !in_use(at));
    used.or_else(|| ["period", "_use", "_period"].iter().find_map(|name| at.get(name)))
}

/// An identifier of a resource, if it names that one for sure: what is not whole, or may be over, does not.
///
/// # Errors
/// Nobody can see what it is.
pub fn whole_identifier(at: &At) -> Result<Option<Identifier>, FieldError> {
    let text = |name: &str| at.get(name).filter(|at| at.value.as_str().is_some_and(|text| !text.is_empty()));
    let (Some(system), Some(value)) = (text("system"), text("value")) else { return Ok(None) };
    let identifier = Identifier { system: system.token()?.to_owned(), value: value.token()?.to_owned() };
    Ok(Some(identifier).filter(|_| known(at, &[IDENTIFIER]).is_ok() && over(at).is_none()))
}
