//! Who may have a collection's data.

use std::collections::BTreeMap;

use crate::peer::lifecycle::collections;
use crate::peer::lifecycle::definition::{Committed, Definition};
use crate::peer::lifecycle::{self};
use crate::peer::state::Collection;
use crate::peer::state::world::State;
use ehrnet_fabric::authorization::evaluate_signature_policy;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::proto::protos::StaticCollectionConfig;

/// A collection's configuration as committed; `None` if there is no such collection.
pub fn config(state: &State, (namespace, name): &Collection) -> Option<StaticCollectionConfig> {
    if namespace == lifecycle::NAMESPACE {
        return lifecycle::implicit_org(name).map(collections::implicit);
    }
    Definition::read(&mut Committed(state), namespace).ok()??.collection(name)
}

/// Whether an identity is one of a collection's members.
pub fn is_member(config: &StaticCollectionConfig, identity: &Identity) -> bool {
    let policy = collections::members(config);
    policy.is_some_and(|policy| evaluate_signature_policy(policy, std::slice::from_ref(identity)).is_ok())
}

/// The collections that one identity is a member of; each is judged once.
pub struct Eligible<'a> {
    state: &'a State,
    identity: Option<&'a Identity>,
    known: BTreeMap<Collection, bool>,
}

impl<'a> Eligible<'a> {
    /// By the definitions in `state`. Nobody is a member of nothing.
    pub fn new(state: &'a State, identity: Option<&'a Identity>) -> Self {
        Self { state, identity, known: BTreeMap::new() }
    }

    /// Whether the identity is a member.
    pub fn is_member(&mut self, collection: &Collection) -> bool {
        if let Some(known) = self.known.get(collection) {
            return *known;
        }
        let config = self.identity.and_then(|identity| Some((identity, config(self.state, collection)?)));
        let judged = config.is_some_and(|(identity, config)| is_member(&config, identity));
        self.known.insert(collection.clone(), judged);
        judged
    }
}

/// Lifetime of a collection's data in blocks; 0 for ever.
pub fn block_to_live(state: &State, collection: &Collection) -> u64 {
    config(state, collection).map_or(0, |config| config.block_to_live)
}
