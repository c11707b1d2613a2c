//! What the process remembers of resources. It lives in the process only: keys are among it.
//!
//! Invariant: what is remembered belongs to one resource by its UID and goes with it. Another resource of the same name
//! begins with nothing, above all without the other one's keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::runtime::events::Event;
use tokio::time::Instant;

use super::keys::Pair;
use ehrnet_apply::Owner;
use ehrnet_observe::Target;

/// What is remembered of one resource.
#[derive(Default)]
struct Memory {
    /// Key pairs as last seen good, by the name of their Secret.
    key_pairs: HashMap<String, Pair>,
    /// The Secrets of users that hold the CAs of a hospital, as last read, by name.
    given: HashMap<String, Arc<Secret>>,
    /// When the status was written last.
    published: Option<Instant>,
    /// What its restart waits for, and since when it is just these.
    waits_for: Option<(Vec<String>, Instant)>,
    /// What is told when the resource goes.
    farewell: Option<Farewell>,
    /// Why the resource cannot be read, as last told.
    unreadable: Option<String>,
}

/// An Event about a resource that went, prepared while it was there.
pub struct Farewell {
    /// The resource.
    pub reference: ObjectReference,
    /// What is told.
    pub event: Event,
}

#[derive(Default)]
struct Inner {
    /// The UID under which each resource was seen last.
    present: HashMap<Target, String>,
    by_uid: HashMap<String, Memory>,
    /// Key pairs that all resources of a namespace share, by namespace and name of their Secret.
    shared: HashMap<(String, String), Pair>,
}

/// What the process remembers of resources.
#[derive(Default)]
pub struct Memories(Mutex<Inner>);

impl Memories {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resource is looked at under this UID; `None` if there is none. What was remembered of another one of its name is
    /// forgotten; what was to be told when it goes is returned.
    pub fn present(&self, target: &Target, uid: Option<&str>) -> Option<Farewell> {
        let mut inner = self.inner();
        let before = match uid {
            Some(uid) if inner.present.get(target).is_some_and(|before| before == uid) => return None,
            Some(uid) => {
                inner.by_uid.entry(uid.to_owned()).or_default();
                inner.present.insert(target.clone(), uid.to_owned())
            }
            None => inner.present.remove(target),
        };
        inner.by_uid.remove(&before?)?.farewell
    }

    /// The key pair that an owner's Secret held when it was last seen good.
    pub fn key_pair(&self, owner: &Owner, secret: &str) -> Option<Pair> {
        let inner = self.inner();
        match owner.uid() {
            Some(uid) => inner.by_uid.get(uid)?.key_pairs.get(secret).cloned(),
            None => inner.shared.get(&(owner.namespace.clone(), secret.to_owned())).cloned(),
        }
    }

    /// Remembers a good key pair, unless its owner is gone.
    pub fn remember_key_pair(&self, owner: &Owner, secret: &str, pair: Pair) {
        let mut inner = self.inner();
        match owner.uid() {
            Some(uid) => {
                if let Some(memory) = inner.by_uid.get_mut(uid) {
                    memory.key_pairs.insert(secret.to_owned(), pair);
                }
            }
            None => drop(inner.shared.insert((owner.namespace.clone(), secret.to_owned()), pair)),
        }
    }

    /// A user's Secret with a CA of the hospital with this UID, as last read.
    pub fn given(&self, uid: &str, secret: &str) -> Option<Arc<Secret>> {
        self.inner().by_uid.get(uid)?.given.get(secret).cloned()
    }

    /// Remembers a user's Secret with a CA of a hospital as it was read, unless the hospital is gone.
    pub fn remember_given(&self, uid: &str, name: &str, secret: Arc<Secret>) {
        if let Some(memory) = self.inner().by_uid.get_mut(uid) {
            memory.given.insert(name.to_owned(), secret);
        }
    }

    /// Forgets a user's Secret that is gone.
    pub fn forget_given(&self, uid: &str, name: &str) {
        if let Some(memory) = self.inner().by_uid.get_mut(uid) {
            memory.given.remove(name);
        }
    }

    /// When the status of the resource with this UID was written last.
    pub fn published(&self, uid: &str) -> Option<Instant> {
        self.inner().by_uid.get(uid)?.published
    }

    /// Remembers that a status was written now.
    pub fn remember_published(&self, uid: &str) {
        if let Some(memory) = self.inner().by_uid.get_mut(uid) {
            memory.published = Some(Instant::now());
        }
    }

    /// For how long the restart of the resource with this UID has been waiting for just these others.
    pub fn waited_for(&self, uid: &str, others: &[String]) -> Duration {
        let mut inner = self.inner();
        let Some(memory) = inner.by_uid.get_mut(uid) else { return Duration::ZERO };
        match &memory.waits_for {
            Some((known, since)) if known == others => since.elapsed(),
            _ => {
                memory.waits_for = Some((others.to_vec(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Remembers what is told when the resource goes.
    pub fn remember_farewell(&self, uid: &str, farewell: Farewell) {
        if let Some(memory) = self.inner().by_uid.get_mut(uid) {
            memory.farewell = Some(farewell);
        }
    }

    /// Whether it was told already why the resource with this UID cannot be read.
    pub fn is_known_unreadable(&self, uid: &str, error: &str) -> bool {
        let inner = self.inner();
        inner.by_uid.get(uid).and_then(|memory| memory.unreadable.as_deref()).is_some_and(|known| known == error)
    }

    /// Remembers that it was told why a resource cannot be read.
    pub fn remember_unreadable(&self, uid: &str, error: &str) {
        if let Some(memory) = self.inner().by_uid.get_mut(uid) {
            memory.unreadable = Some(error.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use ehrnet_api::Hospital;
    use ehrnet_observe::Kind;
    use kube::runtime::events::EventType;
    use serde_json::json;

    use super::*;

    fn hospital(uid: &str) -> (Target, Owner) {
        let object = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Hospital", "spec": {"mspId": "ElmMSP"},
            "metadata": {"name": "elm", "namespace": "ward", "uid": uid},
        });
        let resource: Hospital = serde_json::from_value(object).expect("a hospital");
        (Target::new(Kind::Hospital, "ward", "elm"), Owner::of(&resource).expect("an owner"))
    }

    fn pair() -> Pair {
        Pair { certificate: "certificate".into(), key: "key".to_owned().into() }
    }

    #[test]
    fn another_resource_of_the_same_name_does_not_get_the_keys() {
        let memories = Memories::default();
        let ((target, first), (_, second)) = (hospital("1"), hospital("2"));
        memories.present(&target, Some("1"));
        memories.remember_key_pair(&first, "elm-ca", pair());
        assert!(memories.key_pair(&first, "elm-ca").is_some());
        memories.present(&target, Some("2"));
        assert!(memories.key_pair(&second, "elm-ca").is_none());
        assert!(memories.key_pair(&first, "elm-ca").is_none(), "nothing is left of the first");
    }

    #[test]
    fn nothing_is_remembered_of_a_resource_that_is_gone() {
        let memories = Memories::default();
        let (target, owner) = hospital("1");
        memories.present(&target, Some("1"));
        let event = Event {
            type_: EventType::Normal,
            reason: "StaysValid".into(),
            note: None,
            action: "Delete".into(),
            secondary: None,
        };
        memories.remember_farewell("1", Farewell { reference: ObjectReference::default(), event });
        assert_eq!(memories.present(&target, None).expect("a farewell").event.reason, "StaysValid");
        assert!(memories.present(&target, None).is_none(), "it is told once");
        memories.remember_key_pair(&owner, "elm-ca", pair());
        memories.remember_given("1", "root", Arc::default());
        assert!(memories.key_pair(&owner, "elm-ca").is_none(), "a pass that ends late leaves nothing behind");
        assert!(memories.given("1", "root").is_none(), "neither of the keys of users");
    }

    #[test]
    fn the_ca_of_a_user_is_forgotten_with_the_hospital() {
        let memories = Memories::default();
        let (target, _) = hospital("1");
        memories.present(&target, Some("1"));
        memories.remember_given("1", "root", Arc::default());
        assert!(memories.given("1", "root").is_some());
        memories.present(&target, Some("2"));
        assert!(memories.given("1", "root").is_none());
    }

    #[test]
    fn another_unreadable_resource_of_the_same_name_is_told_so_too() {
        let memories = Memories::default();
        let (target, _) = hospital("1");
        memories.present(&target, Some("1"));
        memories.remember_unreadable("1", "no mspId");
        assert!(memories.is_known_unreadable("1", "no mspId") && !memories.is_known_unreadable("1", "no spec"));
        memories.present(&target, Some("2"));
        assert!(!memories.is_known_unreadable("2", "no mspId"));
    }
}
