//! Remembers differences that remain after they were written, so that they are not written again and again.
//!
//! An API server may put a value into another form than it was given, or an admission plugin may undo a write. The
//! comparison would find that difference every time. Invariant: the same declaration with the same differences is
//! written once.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::drift::Drift;

/// By UID of the live object. An entry is small and only exists where something refuses to settle.
#[derive(Debug, Default)]
pub struct Unsettled(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    declaration: u64,
    paths: BTreeSet<String>,
}

impl Unsettled {
    /// Whether `drift` is nothing but what an earlier write of `declared` left unsettled.
    pub fn knows(&self, uid: &str, declared: &Value, drift: &Drift) -> bool {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(uid).is_some_and(|entry| {
            entry.declaration == fingerprint(declared) && drift.paths().all(|path| entry.paths.contains(path))
        })
    }

    /// After a write of `declared`, `drift` is left. Returns whether that is news.
    pub fn remember(&self, uid: &str, declared: &Value, drift: &Drift) -> bool {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drift.is_empty() {
            entries.remove(uid);
            return false;
        }
        let entry = Entry { declaration: fingerprint(declared), paths: drift.paths().map(str::to_owned).collect() };
        let news = entries.get(uid).is_none_or(|known| known.paths != entry.paths);
        entries.insert(uid.to_owned(), entry);
        news
    }
}

/// Not a digest: it only tells this process's own declarations apart.
fn fingerprint(declared: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    declared.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_same_declaration_with_the_same_differences_is_known() {
        let unsettled = Unsettled::default();
        let drift = |paths: &[&str]| Drift { missing: paths.iter().map(|p| (*p).to_owned()).collect(), extra: vec![] };
        let declared = json!({"spec": {"a": 1}});
        assert!(unsettled.remember("1", &declared, &drift(&["/spec/a", "/spec/b"])));
        assert!(!unsettled.remember("1", &declared, &drift(&["/spec/a", "/spec/b"])), "said once");
        assert!(unsettled.knows("1", &declared, &drift(&["/spec/a"])));
        assert!(!unsettled.knows("1", &declared, &drift(&["/spec/a", "/spec/c"])), "something else changed");
        assert!(!unsettled.knows("1", &json!({"spec": {"a": 2}}), &drift(&["/spec/a"])), "something else is wanted");
        assert!(!unsettled.knows("2", &declared, &drift(&["/spec/a"])), "another object");
        unsettled.remember("1", &declared, &drift(&[]));
        assert!(!unsettled.knows("1", &declared, &drift(&["/spec/a"])));
    }
}
