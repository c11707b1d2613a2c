//! Which transactions wrote a key: the index behind `GetHistoryForKey`. The values are in the blocks.

use std::collections::HashMap;

use super::Version;
use crate::peer::rwset::RwSet;

/// Writers of every public key, oldest first.
#[derive(Debug, Default)]
pub struct History(HashMap<(String, String), Vec<Version>>);

impl History {
    /// Note what a valid transaction wrote.
    pub fn add(&mut self, set: &RwSet, version: Version) {
        for namespace in &set.namespaces {
            for write in &namespace.kv.writes {
                self.0.entry((namespace.name.clone(), write.key.clone())).or_default().push(version);
            }
        }
    }

    /// Writers of a key, newest first.
    pub fn of(&self, namespace: &str, key: &str) -> Vec<Version> {
        let writers = self.0.get(&(namespace.to_owned(), key.to_owned()));
        writers.into_iter().flatten().rev().copied().collect()
    }
}
