//! When private data ends its life (`blockToLive` of its collection): after so many further blocks it is forgotten, value
//! and hash, unless it was written again.

use std::collections::BTreeMap;

use super::updates::Updates;
use super::world::State;
use super::{Collection, KeyHash, Version};
use crate::peer::rwset::RwSet;

/// Keys by the block that ends their life, with the block that wrote them.
#[derive(Debug, Clone, Default)]
pub struct Expiry(BTreeMap<u64, Vec<(Collection, KeyHash, u64)>>);

impl Expiry {
    /// Note what a valid transaction wrote; `block_to_live` tells a collection's lifetime, 0 for ever.
    pub fn add(&mut self, set: &RwSet, written: u64, block_to_live: impl Fn(&Collection) -> u64) {
        for namespace in &set.namespaces {
            for hashed in &namespace.collections {
                let collection = (namespace.name.clone(), hashed.name.clone());
                let lifetime = block_to_live(&collection);
                if lifetime == 0 {
                    continue;
                }
                let ends = written.saturating_add(lifetime).saturating_add(1);
                let keys = hashed.set.hashed_writes.iter().map(|write| write.key_hash.clone());
                let keys = keys.chain(hashed.set.metadata_writes.iter().map(|write| write.key_hash.clone()));
                self.0.entry(ends).or_default().extend(keys.map(|key| (collection.clone(), key, written)));
            }
        }
    }

    /// Add to a block's changes what ends its life with it, and forget that it does. Tells whether something did.
    pub fn end(&mut self, block: u64, state: &State, updates: &mut Updates) -> bool {
        let ending = self.0.remove(&block).unwrap_or_default();
        let any = !ending.is_empty();
        for (collection, key_hash, written) in ending {
            if state.hashed(&collection, &key_hash).is_some_and(|entry| entry.version.block == written) {
                updates.expire(&collection, &key_hash, Version { block, tx: u64::MAX });
            }
        }
        any
    }
}
