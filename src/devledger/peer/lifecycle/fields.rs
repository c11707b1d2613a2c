//! How records lie in the lifecycle's state (Fabric: `lifecycle/serializer.go`): one key per field, so that a transaction
//! only writes what changes, and one key with the record's kind and the names of its fields.

use prost::Message;

use super::{ReadWritableState, ReadableState};
use crate::peer::state::sha256;
use ehrnet_fabric::proto::lifecycle::{StateData, StateMetadata, state_data::Type};

/// Section of definitions and approvals.
pub const NAMESPACES: &str = "namespaces";
/// Section of approvals' packages.
pub const SOURCES: &str = "chaincode-sources";

/// A record to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Name of its kind.
    pub kind: &'static str,
    /// Its fields.
    pub fields: Vec<(&'static str, Type)>,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Collection; "" is public.
    pub collection: &'a str,
    /// `namespaces` or `chaincode-sources`.
    pub section: &'a str,
    /// The record's name.
    pub name: &'a str,
}

impl Place<'_> {
    /// Key of the record's kind.
    pub fn metadata_key(&self) -> String {
        format!("{}/metadata/{}", self.section, self.name)
    }

    /// Key of a field.
    pub fn field_key(&self, field: &str) -> String {
        format!("{}/fields/{}/{field}", self.section, self.name)
    }

    /// The record's kind and fields; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn metadata(&self, state: &mut impl ReadableState) -> Result<Option<StateMetadata>, String> {
        let context = |e: String| format!("could not query metadata for namespace {}/{}: {e}", self.section, self.name);
        let Some(bytes) = state.get(self.collection, &self.metadata_key()).map_err(context)? else { return Ok(None) };
        let decoded = StateMetadata::decode(bytes.as_slice());
        decoded
            .map(Some)
            .map_err(|e| format!("could not unmarshal metadata for namespace {}/{}: {e}", self.section, self.name))
    }

    /// A field; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn field(&self, state: &mut impl ReadableState, field: &str) -> Result<Option<Type>, String> {
        let key = self.field_key(field);
        let value = state.get(self.collection, &key).map_err(|e| format!("could not get state for key {key}: {e}"))?;
        let data = StateData::decode(value.unwrap_or_default().as_slice());
        data.map(|data| data.r#type).map_err(|e| format!("could not unmarshal state for key {key}: {e}"))
    }

    /// A number; 0 if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn number(&self, state: &mut impl ReadableState, field: &str) -> Result<i64, String> {
        match self.field(state, field)? {
            None => Ok(0),
            Some(Type::Int64(number)) => Ok(number),
            Some(_) => Err(format!("expected key {} to encode a value of type Int64", self.field_key(field))),
        }
    }

    /// A text; empty if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn text(&self, state: &mut impl ReadableState, field: &str) -> Result<String, String> {
        match self.field(state, field)? {
            None => Ok(String::new()),
            Some(Type::String(text)) => Ok(text),
            Some(_) => Err(format!("expected key {} to encode a value of type String", self.field_key(field))),
        }
    }

    /// A message; empty if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn message<T: Message + Default>(&self, state: &mut impl ReadableState, field: &str) -> Result<T, String> {
        let bytes = match self.field(state, field)? {
            None => Vec::new(),
            Some(Type::Bytes(bytes)) => bytes,
            Some(_) => return Err(format!("expected key {} to encode a value of type []byte", self.field_key(field))),
        };
        T::decode(bytes.as_slice()).map_err(|e| format!("could not unmarshal key {}: {e}", self.field_key(field)))
    }
}

impl Record {
    /// Write what differs from what is there.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub fn write(&self, state: &mut impl ReadWritableState, place: Place<'_>) -> Result<(), String> {
        let found = place.metadata(state)?.unwrap_or_default();
        let mut existing = std::collections::BTreeMap::new();
        for field in &found.fields {
            let key = place.field_key(field);
            let value = state.get(place.collection, &key)?;
            existing.insert(key, value.unwrap_or_default());
        }
        for (field, value) in &self.fields {
            let key = place.field_key(field);
            let bytes = encode(value);
            if existing.remove(&key).is_none_or(|old| old != bytes) {
                state.put(place.collection, &key, &bytes)?;
            }
        }
        if !existing.is_empty() || found.datatype != self.kind || found.fields.len() != self.fields.len() {
            state.put(place.collection, &place.metadata_key(), &self.metadata())?;
        }
        existing.keys().try_for_each(|key| state.put(place.collection, key, &[]))
    }

    /// Names of what differs from the record there, of which only hashes are known. A record of another kind, or none,
    /// differs in its kind.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn mismatches(&self, state: &mut impl ReadWritableState, place: Place<'_>) -> Result<Vec<String>, String> {
        // All keys are read first: read sets tell which.
        let metadata = state.hash(place.collection, &place.metadata_key())?;
        let mut hashes = Vec::new();
        for (field, _) in &self.fields {
            hashes.push(state.hash(place.collection, &place.field_key(field))?);
        }
        Ok(self.differences(metadata.as_deref(), &hashes))
    }

    /// The same over hashes already read, in the order of the fields.
    pub fn differences(&self, metadata: Option<&[u8]>, hashes: &[Option<Vec<u8>>]) -> Vec<String> {
        if metadata != Some(&sha256(&self.metadata())) {
            return vec![self.kind.to_owned()];
        }
        let fields = self.fields.iter().zip(hashes);
        let differ = fields.filter(|((_, value), hash)| hash.as_ref() != Some(&sha256(&encode(value))));
        differ.map(|((field, _), _)| (*field).to_owned()).collect()
    }

    fn metadata(&self) -> Vec<u8> {
        let fields = self.fields.iter().map(|(field, _)| (*field).to_owned()).collect();
        StateMetadata { datatype: self.kind.to_owned(), fields }.encode_to_vec()
    }
}

/// A field's bytes in the state.
pub fn encode(value: &Type) -> Vec<u8> {
    StateData { r#type: Some(value.clone()) }.encode_to_vec()
}
