//! What may be approved and committed, and what was (Fabric: `lifecycle/lifecycle.go`).

use std::collections::BTreeMap;

use prost::Message;

use super::definition::{Definition, sequence};
use super::fields::{NAMESPACES, Place, Record, SOURCES};
use super::{ReadWritableState, implicit_collection};
use ehrnet_fabric::proto::lifecycle::state_data::Type;
use ehrnet_fabric::proto::protos::{ApplicationPolicy, application_policy};

/// The channel's policy for chaincode that names none of its own.
pub const DEFAULT_POLICY: &str = "/Channel/Application/Endorsement";

/// Who approved a definition, and what the others approved differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// By MSP id.
    pub approvals: BTreeMap<String, bool>,
    /// Names of what differs, by MSP id.
    pub mismatches: BTreeMap<String, Vec<String>>,
}

/// An approval with its package; empty if none is to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// What was approved.
    pub definition: Definition,
    /// The package.
    pub package_id: String,
}

/// The rules on one channel.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// Whether the channel has [`DEFAULT_POLICY`].
    pub has_default_policy: bool,
}

impl Rules<'_> {
    /// Who of `orgs` approved `definition`, which has to be the next one.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn readiness(
        &self,
        state: &mut impl ReadWritableState,
        name: &str,
        definition: &mut Definition,
        orgs: &[String],
    ) -> Result<Readiness, String> {
        let current = sequence(state, name).map_err(|e| format!("could not get current sequence: {e}"))?;
        if definition.sequence != current + 1 {
            return Err(format!(
                "requested sequence is {}, but new definition must be sequence {}",
                definition.sequence,
                current + 1
            ));
        }
        self.fill_in(definition)?;
        approvals(state, name, definition, orgs)
    }

    /// Commit a definition, whoever approved it.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn commit(
        &self,
        state: &mut impl ReadWritableState,
        name: &str,
        definition: &mut Definition,
        orgs: &[String],
    ) -> Result<Readiness, String> {
        let readiness = self.readiness(state, name, definition, orgs)?;
        let place = Place { collection: "", section: NAMESPACES, name };
        let written = definition.record().write(state, place);
        written.map_err(|e| format!("could not serialize chaincode definition: {e}"))?;
        Ok(readiness)
    }

    /// Approve a definition for an organisation: the next one, or once more the committed one with another package.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn approve(
        &self,
        state: &mut impl ReadWritableState,
        name: &str,
        mut approval: Approval,
        msp_id: &str,
    ) -> Result<(), String> {
        let current = sequence(state, name).map_err(|e| format!("could not get current sequence: {e}"))?;
        let requested = approval.definition.sequence;
        if current == requested && requested == 0 {
            return Err("requested sequence is 0, but first definable sequence number is 1".into());
        }
        if requested < current {
            return Err(format!("currently defined sequence {current} is larger than requested sequence {requested}"));
        }
        if requested > current + 1 {
            return Err(format!(
                "requested sequence {requested} is larger than the next available sequence number {}",
                current + 1
            ));
        }
        self.fill_in(&mut approval.definition)?;
        if requested == current {
            let committed = Definition::read(state, name)?;
            let committed = committed
                .ok_or_else(|| format!("missing metadata for currently committed sequence number ({current})"))?;
            same(&committed, &approval.definition).map_err(|e| {
                format!(
                    "attempted to redefine the current committed sequence ({current}) for namespace {name} with \
                     different parameters: {e}"
                )
            })?;
        }
        if self.is_unchanged(state, name, &approval, msp_id)? {
            return Err(match requested == current {
                true => {
                    format!("attempted to redefine the current committed sequence ({current}) for namespace {name}")
                }
                false => format!(
                    "attempted to redefine uncommitted sequence ({requested}) for namespace {name} with unchanged content"
                ),
            });
        }
        let (collection, private) = (implicit_collection(msp_id), Definition::approval(name, requested));
        let place = Place { collection: &collection, section: NAMESPACES, name: &private };
        let written = approval.definition.parameters().write(state, place);
        written.map_err(|e| format!("could not serialize chaincode parameters to state: {e}"))?;
        let package = source_record(&approval.package_id);
        let written = package.write(state, Place { section: SOURCES, ..place });
        written.map_err(|e| format!("could not serialize chaincode package info to state: {e}"))
    }

    fn is_unchanged(
        &self,
        state: &mut impl ReadWritableState,
        name: &str,
        approval: &Approval,
        msp_id: &str,
    ) -> Result<bool, String> {
        let collection = implicit_collection(msp_id);
        let private = Definition::approval(name, approval.definition.sequence);
        let place = Place { collection: &collection, section: NAMESPACES, name: &private };
        if place.metadata(state)?.is_none() {
            return Ok(false);
        }
        let approved = Definition::parameters_at(state, place)?;
        if same(&approved, &approval.definition).is_err() {
            return Ok(false);
        }
        let source = Place { section: SOURCES, ..place };
        Ok(source.metadata(state)?.is_some() && source.text(state, "PackageID")? == approval.package_id)
    }

    /// What an organisation approved for a sequence; 0 asks for the newest.
    ///
    /// # Errors
    /// Fabric's words, if there is none.
    pub fn approved(
        &self,
        state: &mut impl ReadWritableState,
        name: &str,
        requested: i64,
        msp_id: &str,
    ) -> Result<Approval, String> {
        let collection = implicit_collection(msp_id);
        let mut requested = requested;
        if requested == 0 {
            requested = sequence(state, name).map_err(|e| format!("could not get current sequence: {e}"))?;
            let next = Definition::approval(name, requested + 1);
            let place = Place { collection: &collection, section: NAMESPACES, name: &next };
            if place.metadata(state)?.is_some() {
                requested += 1;
            }
        }
        let private = Definition::approval(name, requested);
        let place = Place { collection: &collection, section: NAMESPACES, name: &private };
        if place.metadata(state)?.is_none() {
            return Err(format!(
                "could not fetch approved chaincode definition (name: '{name}', sequence: '{requested}') on channel '{}'",
                self.channel
            ));
        }
        read_approval(state, place, requested)
    }

    /// All approvals of an organisation, with the chaincodes' names.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn all_approved(
        &self,
        state: &mut impl ReadWritableState,
        msp_id: &str,
    ) -> Result<Vec<(String, Approval)>, String> {
        let collection = implicit_collection(msp_id);
        let prefix = format!("{NAMESPACES}/metadata/");
        let found = state.with_prefix(&collection, &prefix).map_err(|e| format!("could not fetch metadatas: {e}"))?;
        let mut all = Vec::new();
        for (key, _) in found {
            let private = &key[prefix.len()..];
            let parsed = private.split_once('#').and_then(|(name, n)| Some((name, n.parse::<i64>().ok()?)));
            let (name, number) = parsed.ok_or_else(|| format!("invalid private name format: {private}"))?;
            let place = Place { collection: &collection, section: NAMESPACES, name: private };
            all.push((name.to_owned(), read_approval(state, place, number)?));
        }
        Ok(all)
    }

    /// Names of all chaincodes with a committed definition.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn defined(&self, state: &mut impl ReadWritableState) -> Result<Vec<String>, String> {
        let prefix = format!("{NAMESPACES}/metadata/");
        let found = state.with_prefix("", &prefix).map_err(|e| format!("could not query namespace metadata: {e}"))?;
        Ok(found.into_iter().map(|(key, _)| key[prefix.len()..].to_owned()).collect())
    }

    /// Defaults for what a definition leaves open.
    fn fill_in(&self, definition: &mut Definition) -> Result<(), String> {
        let fill = |text: &mut String, default: &str| {
            if text.is_empty() {
                default.clone_into(text);
            }
        };
        fill(&mut definition.endorsement.endorsement_plugin, "escc");
        fill(&mut definition.validation.validation_plugin, "vscc");
        if definition.validation.validation_parameter.is_empty() {
            if !self.has_default_policy {
                return Err(format!(
                    "could not set defaults for chaincode definition in channel {channel}: policy '{DEFAULT_POLICY}' \
                     must be defined for channel '{channel}' before chaincode operations can be attempted",
                    channel = self.channel
                ));
            }
            definition.validation.validation_parameter = reference(DEFAULT_POLICY).encode_to_vec();
        }
        Ok(())
    }
}

/// Who of `orgs` approved exactly this definition.
///
/// # Errors
/// The state cannot be read.
pub fn approvals(
    state: &mut impl ReadWritableState,
    name: &str,
    definition: &Definition,
    orgs: &[String],
) -> Result<Readiness, String> {
    let private = Definition::approval(name, definition.sequence);
    let mut readiness = Readiness::default();
    for org in orgs {
        let collection = implicit_collection(org);
        let place = Place { collection: &collection, section: NAMESPACES, name: &private };
        let mismatches = definition.parameters().mismatches(state, place);
        let mismatches = mismatches.map_err(|e| format!("serialization check failed for key {private}: {e}"))?;
        readiness.approvals.insert(org.clone(), mismatches.is_empty());
        if !mismatches.is_empty() {
            readiness.mismatches.insert(org.clone(), mismatches);
        }
    }
    Ok(readiness)
}

/// A policy of the channel, by its path.
pub fn reference(path: &str) -> ApplicationPolicy {
    ApplicationPolicy { r#type: Some(application_policy::Type::ChannelConfigPolicyReference(path.to_owned())) }
}

fn source_record(package_id: &str) -> Record {
    Record { kind: "ChaincodeLocalPackage", fields: vec![("PackageID", Type::String(package_id.to_owned()))] }
}

fn read_approval(state: &mut impl ReadWritableState, place: Place<'_>, number: i64) -> Result<Approval, String> {
    let definition = Definition { sequence: number, ..Definition::parameters_at(state, place)? };
    let source = Place { section: SOURCES, ..place };
    if source.metadata(state)?.is_none() {
        return Err(format!("could not fetch chaincode-source metadata for {}", place.name));
    }
    Ok(Approval { definition, package_id: source.text(state, "PackageID")? })
}

/// Whether two definitions agree but for their sequence.
fn same(expected: &Definition, passed: &Definition) -> Result<(), String> {
    let differ = |what: &str, expected: &dyn std::fmt::Display, passed: &dyn std::fmt::Display| {
        Err(format!("expected {what} '{expected}' does not match passed {what} '{passed}'"))
    };
    let ((e, p), (ev, pv)) = ((&expected.endorsement, &passed.endorsement), (&expected.validation, &passed.validation));
    if e.version != p.version {
        differ("Version", &e.version, &p.version)
    } else if e.endorsement_plugin != p.endorsement_plugin {
        differ("EndorsementPlugin", &e.endorsement_plugin, &p.endorsement_plugin)
    } else if e.init_required != p.init_required {
        differ("InitRequired", &e.init_required, &p.init_required)
    } else if ev.validation_plugin != pv.validation_plugin {
        differ("ValidationPlugin", &ev.validation_plugin, &pv.validation_plugin)
    } else if ev.validation_parameter != pv.validation_parameter {
        let hex = hex::encode;
        differ("ValidationParameter", &hex(&ev.validation_parameter), &hex(&pv.validation_parameter))
    } else if expected.collections != passed.collections {
        Err("Collections do not match".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::lifecycle::ReadableState;
    use crate::peer::state::sha256;
    use ehrnet_fabric::proto::lifecycle::ChaincodeEndorsementInfo;

    /// State of all collections by name and key; writes count at once.
    #[derive(Default)]
    struct Memory {
        state: BTreeMap<(String, String), Vec<u8>>,
        written: usize,
    }

    impl ReadableState for Memory {
        fn get(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
            Ok(self.state.get(&(collection.into(), key.into())).cloned())
        }
    }

    impl ReadWritableState for Memory {
        fn put(&mut self, collection: &str, key: &str, value: &[u8]) -> Result<(), String> {
            self.written += 1;
            self.state.insert((collection.into(), key.into()), value.to_vec());
            Ok(())
        }
        fn hash(&mut self, collection: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
            Ok(self.get(collection, key)?.map(|value| sha256(&value)))
        }
        fn with_prefix(&mut self, collection: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
            let found = self.state.iter().filter(|((c, key), _)| c == collection && key.starts_with(prefix));
            Ok(found.map(|((_, key), value)| (key.clone(), value.clone())).collect())
        }
    }

    const RULES: Rules<'_> = Rules { channel: "ch", has_default_policy: true };

    fn definition(sequence: i64, version: &str) -> Definition {
        let endorsement = ChaincodeEndorsementInfo { version: version.into(), ..Default::default() };
        Definition { sequence, endorsement, ..Default::default() }
    }

    fn approve(state: &mut Memory, sequence: i64, version: &str, package: &str, org: &str) -> Result<(), String> {
        let approval = Approval { definition: definition(sequence, version), package_id: package.into() };
        RULES.approve(state, "cc", approval, org)
    }

    fn orgs() -> Vec<String> {
        vec!["A".into(), "B".into()]
    }

    #[test]
    fn a_definition_is_approved_committed_and_read_back() {
        let mut state = Memory::default();
        approve(&mut state, 1, "1.0", "p:1", "A").expect("approved");
        let ready = RULES.readiness(&mut state, "cc", &mut definition(1, "1.0"), &orgs()).expect("readiness");
        assert_eq!(ready.approvals, [("A".into(), true), ("B".into(), false)].into());
        assert_eq!(ready.mismatches, [("B".into(), vec!["ChaincodeParameters".into()])].into());
        RULES.commit(&mut state, "cc", &mut definition(1, "1.0"), &orgs()).expect("committed");
        let found = Definition::read(&mut state, "cc").expect("read").expect("defined");
        assert_eq!((found.sequence, found.validation.validation_plugin.as_str()), (1, "vscc"));
        assert_eq!(found.validation.validation_parameter, reference(DEFAULT_POLICY).encode_to_vec());
        assert_eq!(RULES.defined(&mut state).expect("defined"), ["cc"]);
    }

    #[test]
    fn a_difference_is_named() {
        let mut state = Memory::default();
        approve(&mut state, 1, "1.0", "p:1", "A").expect("approved");
        let ready = RULES.readiness(&mut state, "cc", &mut definition(1, "1.1"), &orgs()[..1]).expect("readiness");
        assert_eq!(ready.mismatches, [("A".into(), vec!["EndorsementInfo".into()])].into());
    }

    #[test]
    fn sequences_are_kept() {
        let mut state = Memory::default();
        assert_eq!(
            approve(&mut state, 0, "1.0", "p", "A"),
            Err("requested sequence is 0, but first definable sequence number is 1".into())
        );
        assert_eq!(
            approve(&mut state, 2, "1.0", "p", "A"),
            Err("requested sequence 2 is larger than the next available sequence number 1".into())
        );
        let commit = RULES.commit(&mut state, "cc", &mut definition(2, "1.0"), &orgs());
        assert_eq!(commit, Err("requested sequence is 2, but new definition must be sequence 1".into()));
        RULES.commit(&mut state, "cc", &mut definition(1, "1.0"), &orgs()).expect("committed");
        RULES.commit(&mut state, "cc", &mut definition(2, "1.1"), &orgs()).expect("committed");
        assert_eq!(
            approve(&mut state, 1, "1.0", "p", "A"),
            Err("currently defined sequence 2 is larger than requested sequence 1".into())
        );
    }

    #[test]
    fn the_same_approval_twice_is_refused_but_another_package_is_taken() {
        let mut state = Memory::default();
        approve(&mut state, 1, "1.0", "p:1", "A").expect("approved");
        assert_eq!(
            approve(&mut state, 1, "1.0", "p:1", "A"),
            Err("attempted to redefine uncommitted sequence (1) for namespace cc with unchanged content".into())
        );
        RULES.commit(&mut state, "cc", &mut definition(1, "1.0"), &orgs()).expect("committed");
        assert_eq!(
            approve(&mut state, 1, "1.0", "p:1", "A"),
            Err("attempted to redefine the current committed sequence (1) for namespace cc".into())
        );
        let other = approve(&mut state, 1, "1.1", "p:1", "A").expect_err("refused");
        assert!(other.ends_with("expected Version '1.0' does not match passed Version '1.1'"), "{other}");
        state.written = 0;
        approve(&mut state, 1, "1.0", "p:2", "A").expect("approved");
        assert_eq!(state.written, 1, "only what changes is written");
        assert_eq!(RULES.approved(&mut state, "cc", 0, "A").expect("approval").package_id, "p:2");
    }

    #[test]
    fn what_was_not_approved_is_not_found() {
        let mut state = Memory::default();
        assert_eq!(
            RULES.approved(&mut state, "cc", 1, "A").map(drop),
            Err("could not fetch approved chaincode definition (name: 'cc', sequence: '1') on channel 'ch'".into())
        );
        approve(&mut state, 1, "1.0", "", "A").expect("approved");
        let all = RULES.all_approved(&mut state, "A").expect("approvals");
        assert_eq!(all.iter().map(|(name, a)| (name.as_str(), a.definition.sequence)).collect::<Vec<_>>(), [("cc", 1)]);
    }
}
