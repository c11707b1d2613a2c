//! The state itself. A clone is cheap and does not change any more: every simulation works on its own.

use std::collections::BTreeMap;
use std::ops::Bound;

use rpds::RedBlackTreeMapSync;

use super::updates::{Change, Updates};
use super::{Collection, KeyHash, Version, sha256};

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value; for hashed keys its SHA-256. Never empty: writing nothing deletes.
    pub value: Vec<u8>,
    /// Metadata by name, such as `VALIDATION_PARAMETER`.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// Who wrote it last.
    pub version: Version,
}

/// Keys of one namespace or collection. Shares structure with the spaces it was made from.
pub type Space<K> = RedBlackTreeMapSync<K, Entry>;

/// All keys of a channel.
#[derive(Debug, Clone, Default)]
pub struct State {
    public: BTreeMap<String, Space<String>>,
    hashed: BTreeMap<Collection, Space<KeyHash>>,
    private: BTreeMap<Collection, RedBlackTreeMapSync<String, Vec<u8>>>,
}

impl State {
    /// A public key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&Entry> {
        self.public.get(namespace)?.get(key)
    }

    /// A private key's hash, by the hash of the key.
    pub fn hashed(&self, collection: &Collection, key_hash: &[u8]) -> Option<&Entry> {
        self.hashed.get(collection)?.get(key_hash)
    }

    /// A private key: its value and the version of its hash. What does not fit the hash is an old value.
    ///
    /// # Errors
    /// The key exists, but this peer does not have its value.
    pub fn private(&self, collection: &Collection, key: &str) -> Result<Option<(&[u8], Version)>, Missing> {
        let Some(hashed) = self.hashed(collection, &sha256(key.as_bytes())) else { return Ok(None) };
        let value = self.private.get(collection).and_then(|space| space.get(key));
        match value.filter(|value| sha256(value) == hashed.value) {
            Some(value) => Ok(Some((value, hashed.version))),
            None => Err(Missing { hashed: hashed.version }),
        }
    }

    /// Public keys from `start` on, in order, to `end` (excluded; empty: to the last).
    pub fn range<'a>(
        &'a self,
        namespace: &str,
        start: &str,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Entry)> + use<'a> {
        range(self.public.get(namespace), start, end)
    }

    /// The same for a collection's keys that this peer has, and their values.
    pub fn private_range<'a>(
        &'a self,
        collection: &'a Collection,
        start: &str,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a [u8])> + use<'a> {
        let keys = range(self.private.get(collection), start, end).map(|(key, _)| key);
        keys.filter_map(|key| Some((key, self.private(collection, key).ok()??.0)))
    }

    /// Keep a private value, if it is the one of which the public state has the hash.
    pub fn keep_private(&mut self, collection: &Collection, key: &str, value: &[u8]) {
        let hashed = self.hashed(collection, &sha256(key.as_bytes()));
        if hashed.is_some_and(|entry| entry.value == sha256(value)) {
            self.private.entry(collection.clone()).or_default().insert_mut(key.to_owned(), value.to_vec());
        }
    }

    /// Forget the private value of a key whose hash is gone.
    fn forget_private(&mut self, collection: &Collection, key_hash: &[u8]) {
        let Some(space) = self.private.get_mut(collection) else { return };
        let key = space.keys().find(|key| sha256(key.as_bytes()) == key_hash).cloned();
        if let Some(key) = key {
            space.remove_mut(&key);
        }
    }

    /// Take over what a block changed.
    pub fn apply(&mut self, updates: &Updates) {
        for (namespace, changes) in &updates.public {
            apply(self.public.entry(namespace.clone()).or_default(), changes);
        }
        for (collection, changes) in &updates.hashed {
            apply(self.hashed.entry(collection.clone()).or_default(), changes);
        }
        for (collection, key_hash) in updates.forgotten() {
            self.forget_private(collection, key_hash);
        }
    }
}

/// A private value that this peer should have and has not (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Version of its hash.
    pub hashed: Version,
}

fn range<'a, V>(
    space: Option<&'a RedBlackTreeMapSync<String, V>>,
    start: &str,
    end: &'a str,
) -> impl Iterator<Item = (&'a String, &'a V)> + use<'a, V> {
    let from = Bound::Included(start.to_owned());
    let found = space.map(|space| space.range((from, Bound::<String>::Unbounded)));
    found.into_iter().flatten().take_while(move |(key, _)| end.is_empty() || key.as_str() < end)
}

fn apply<K: Ord + Clone>(space: &mut Space<K>, changes: &BTreeMap<K, Change>) {
    for (key, change) in changes {
        match &change.entry {
            Some((value, metadata)) => {
                let entry = Entry { value: value.clone(), metadata: metadata.clone(), version: change.version };
                space.insert_mut(key.clone(), entry);
            }
            None => {
                space.remove_mut(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(state: &State, start: &str, end: &str) -> Vec<String> {
        state.range("cc", start, end).map(|(key, _)| key.clone()).collect()
    }

    fn write(state: &mut State, keys: &[(&str, Option<&str>)]) {
        let mut updates = Updates::default();
        for (key, value) in keys {
            let entry = value.map(|value| (value.as_bytes().to_vec(), BTreeMap::new()));
            updates.public("cc").insert((*key).into(), Change { entry, version: Version { block: 1, tx: 0 } });
        }
        state.apply(&updates);
    }

    #[test]
    fn ranges_include_their_start_and_exclude_their_end() {
        let mut state = State::default();
        write(&mut state, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]);
        assert_eq!(keys(&state, "a", "c"), ["a", "b"]);
        assert_eq!(keys(&state, "", ""), ["a", "b", "c"]);
        assert_eq!(keys(&state, "c", "a"), Vec::<String>::new());
        assert_eq!(keys(&state, "bb", ""), ["c"]);
    }

    #[test]
    fn an_older_state_stays_as_it_was() {
        let mut state = State::default();
        write(&mut state, &[("a", Some("1"))]);
        let old = state.clone();
        write(&mut state, &[("a", None), ("b", Some("2"))]);
        assert_eq!((keys(&old, "", ""), keys(&state, "", "")), (vec!["a".into()], vec!["b".into()]));
    }
}
