//! Definitions of chaincode, as they lie in the state and as validators and endorsers use them.

use prost::Message;

use super::fields::{NAMESPACES, Place, Record, SOURCES, encode};
use super::{NAMESPACE, ReadableState, collections, implicit_collection, implicit_org};
use crate::peer::state::{sha256, world::State};
use ehrnet_fabric::proto::lifecycle::{ChaincodeEndorsementInfo, ChaincodeValidationInfo, state_data::Type};
use ehrnet_fabric::proto::protos::{CollectionConfigPackage, StaticCollectionConfig};

/// A definition with its sequence; without, what organisations approve.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// Counts the definitions of a chaincode, from 1.
    pub sequence: i64,
    /// Version, whether it must be initialised, endorsement plugin.
    pub endorsement: ChaincodeEndorsementInfo,
    /// Validation plugin and endorsement policy (`protos.ApplicationPolicy`).
    pub validation: ChaincodeValidationInfo,
    /// Collections.
    pub collections: CollectionConfigPackage,
}

/// Committed state of `_lifecycle`, without recording what is read.
pub struct Committed<'a>(pub &'a State);

impl ReadableState for Committed<'_> {
    fn get(&mut self, _collection: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(NAMESPACE, key).map(|entry| entry.value.clone()))
    }
}

/// Where a chaincode's definition lies.
fn place(name: &str) -> Place<'_> {
    Place { collection: "", section: NAMESPACES, name }
}

/// Sequence of a chaincode's definition; 0 if there is none.
///
/// # Errors
/// The state cannot be read.
pub fn sequence(state: &mut impl ReadableState, name: &str) -> Result<i64, String> {
    place(name).number(state, "Sequence")
}

impl Definition {
    /// Kind of a definition in the state.
    pub const KIND: &'static str = "ChaincodeDefinition";
    /// Kind of an approval in the state.
    pub const PARAMETERS: &'static str = "ChaincodeParameters";

    /// The committed definition of a chaincode.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn read(state: &mut impl ReadableState, name: &str) -> Result<Option<Self>, String> {
        let place = place(name);
        let context = |e: String| format!("could not deserialize metadata for chaincode {name}: {e}");
        let Some(metadata) = place.metadata(state).map_err(context)? else { return Ok(None) };
        if metadata.datatype != Self::KIND {
            return Err(format!("not a chaincode type: {}", metadata.datatype));
        }
        let sequence = place.number(state, "Sequence")?;
        Self::parameters_at(state, place).map(|parameters| Some(Self { sequence, ..parameters }))
    }

    /// An organisation's approval of a sequence, without checking its kind.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn parameters_at(state: &mut impl ReadableState, place: Place<'_>) -> Result<Self, String> {
        Ok(Self {
            sequence: 0,
            endorsement: place.message(state, "EndorsementInfo")?,
            validation: place.message(state, "ValidationInfo")?,
            collections: place.message(state, "Collections")?,
        })
    }

    /// The record of a committed definition.
    pub fn record(&self) -> Record {
        let mut record = self.parameters();
        record.fields.insert(0, ("Sequence", Type::Int64(self.sequence)));
        Record { kind: Self::KIND, ..record }
    }

    /// The record of an approval.
    pub fn parameters(&self) -> Record {
        Record {
            kind: Self::PARAMETERS,
            fields: vec![
                ("EndorsementInfo", Type::Bytes(self.endorsement.encode_to_vec())),
                ("ValidationInfo", Type::Bytes(self.validation.encode_to_vec())),
                ("Collections", Type::Bytes(self.collections.encode_to_vec())),
            ],
        }
    }

    /// A collection's configuration; an implicit collection has one without being defined.
    pub fn collection(&self, name: &str) -> Option<StaticCollectionConfig> {
        match implicit_org(name) {
            Some(org) => Some(collections::implicit(org)),
            None => collections::configs(&self.collections).find(|config| config.name == name).cloned(),
        }
    }

    /// Name of an approval: chaincode and sequence.
    pub fn approval(name: &str, sequence: i64) -> String {
        format!("{name}#{sequence}")
    }

    /// Which of `packages` the organisation approved for this definition; seen from the hashes in the public state.
    ///
    /// # Errors
    /// The organisation has not approved the definition.
    pub fn approved_package<'a>(
        &self,
        state: &State,
        name: &str,
        msp_id: &str,
        packages: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<&'a str>, NotApproved> {
        let collection = (NAMESPACE.to_owned(), implicit_collection(msp_id));
        let approval = Self::approval(name, self.sequence);
        let hash = |key: &str| state.hashed(&collection, &sha256(key.as_bytes())).map(|entry| entry.value.clone());
        let record = self.parameters();
        let place = Place { collection: &collection.1, section: NAMESPACES, name: &approval };
        let hashes: Vec<_> = record.fields.iter().map(|(field, _)| hash(&place.field_key(field))).collect();
        if !record.differences(hash(&place.metadata_key()).as_deref(), &hashes).is_empty() {
            return Err(NotApproved);
        }
        let source = Place { collection: &collection.1, section: SOURCES, name: &approval };
        let approved = hash(&source.field_key("PackageID"));
        let is_approved = |id: &&str| approved == Some(sha256(&encode(&Type::String((*id).to_owned()))));
        Ok(packages.into_iter().find(is_approved))
    }
}

/// An organisation has not approved a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotApproved;
