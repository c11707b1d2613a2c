//! One call: what came in, checked before any function sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::error::ContractError;
use ehrnet_consent::json::{Unread, strictly};
use ehrnet_messages::hash::SALT_LENGTH;
use ehrnet_messages::{Function, MAX_TRANSIENT};

/// Bytes that the argument may have.
const MAX_ARGUMENT: usize = 256 * 1024;

/// A call of the contract.
pub struct Call {
    /// Transaction.
    pub tx_id: String,
    /// Time of the transaction: the client's clock, which peers hold to 15 minutes around theirs (`TimeWindowCheck`).
    /// There is no other time here.
    pub at: Timestamp,
    /// Who calls.
    pub caller: Caller,
    /// Name of the function, then its argument.
    pub args: Vec<Vec<u8>>,
    /// Private input.
    pub transient: BTreeMap<String, Vec<u8>>,
}

impl Call {
    /// Name of the function.
    pub fn function(&self) -> Result<&str, ContractError> {
        let name = self.args.first().ok_or_else(|| ContractError::malformed("argument 0 is the function's name"))?;
        std::str::from_utf8(name).map_err(|_| ContractError::malformed("argument 0 is not a function's name"))
    }

    /// The argument and the transient entry of a call of `F`.
    pub fn input<F: Function>(&self) -> Result<(F, Option<F::Transient>), ContractError> {
        let [_, argument] = self.args.as_slice() else {
            let given = self.args.len().saturating_sub(1);
            let message = format!("{} takes one argument, a JSON object; {given} were given", F::NAME);
            return Err(ContractError::malformed(message));
        };
        if argument.len() > MAX_ARGUMENT {
            return Err(ContractError::malformed(format_args!("the argument has more than {MAX_ARGUMENT} bytes")));
        }
        let size: usize = self.transient.values().map(Vec::len).sum();
        if size > MAX_TRANSIENT {
            let message = format!("the transient map has {size} bytes, at most {MAX_TRANSIENT} are allowed");
            return Err(ContractError::malformed(message));
        }
        if self.transient.keys().any(|entry| Some(entry.as_str()) != F::TRANSIENT) {
            let takes = F::TRANSIENT.map_or("none".to_owned(), |entry| format!("only `{entry}`"));
            return Err(ContractError::malformed(format_args!("{} takes {takes} of the transient entries", F::NAME)));
        }
        let secret = F::TRANSIENT.and_then(|entry| self.transient.get(entry).map(|value| (entry, value)));
        let secret =
            secret.map(|(entry, value)| parse(value, format_args!("transient entry `{entry}`"))).transpose()?;
        Ok((parse(argument, "the argument")?, secret))
    }

    /// The same, for a function that needs its transient entry.
    pub fn private_input<F: Function>(&self) -> Result<(F, F::Transient), ContractError> {
        let (argument, secret) = self.input::<F>()?;
        let missing = || {
            let entry = F::TRANSIENT.unwrap_or_default();
            ContractError::malformed(format_args!("{} needs the transient entry `{entry}`", F::NAME))
        };
        Ok((argument, secret.ok_or_else(missing)?))
    }
}

/// Reads JSON. The error names the field, not what stands in it.
fn parse<T: DeserializeOwned>(json: &[u8], what: impl std::fmt::Display) -> Result<T, ContractError> {
    // A name that is given twice would be read as the last one by some and as the first by others.
    if let Err(Unread::Field(error)) = strictly(&mut serde_json::Deserializer::from_slice(json), "") {
        let error = error.to_string();
        return Err(ContractError::malformed(format_args!("{what}: {}", error.trim_start_matches('.'))));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (line, column) = (error.inner().line(), error.inner().column());
        let why = match error.inner().classify() {
            serde_json::error::Category::Data => "a field is missing, unknown or of another kind than asked for",
            _ => "it is not JSON",
        };
        ContractError::malformed(format_args!("{what}, at `{}` (line {line}, column {column}): {why}", error.path()))
    })
}

/// Refuses an id that is not 1 to 64 of `a-z 0-9 -`.
pub fn check_id(field: &str, id: &str) -> Result<(), ContractError> {
    let fits =
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let message = || ContractError::malformed(format_args!("{field} must be 1 to 64 of a-z, 0-9 and -"));
    fits.then_some(()).ok_or_else(message)
}

/// Refuses what is no pseudonym.
pub fn check_patient(patient: &str) -> Result<(), ContractError> {
    let message = || {
        ContractError::malformed(
            "patient must be a pseudonym, 64 lower-case hexadecimal digits: never the patient's own id",
        )
    };
    is_digest(patient).then_some(()).ok_or_else(message)
}

/// Refuses what is no SHA-256 in lower-case hexadecimal.
pub fn check_digest(field: &str, digest: &str) -> Result<[u8; 32], ContractError> {
    let mut bytes = [0; 32];
    let read = is_digest(digest) && hex::decode_to_slice(digest, &mut bytes).is_ok();
    let message = || ContractError::malformed(format_args!("{field} must be 64 lower-case hexadecimal digits"));
    read.then_some(bytes).ok_or_else(message)
}

/// Refuses what is no salt.
pub fn check_salt(salt: &str) -> Result<[u8; SALT_LENGTH], ContractError> {
    check_digest("salt", salt)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
