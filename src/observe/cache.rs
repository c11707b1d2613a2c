//! A cache of one kind, fed by watches and by what this process wrote itself.
//!
//! Invariant: an entry never goes back in time. What a write returned is put in at once, so that the next decision sees
//! it (read your own writes, KEP-5647); a watch event that is older than the entry is ignored. The trap: resource
//! versions of one kind are ordered numbers (KEP-5504), those of different kinds must not be compared.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;

use super::kept::Kept;
use ehrnet_apply::Live;

/// Namespace and name.
pub type Key = (String, String);

/// A thing with metadata, readable or not.
pub trait Cached: Send + Sync + 'static {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
}

impl<K> Cached for K
where
    K: kube::Resource + Send + Sync + 'static,
{
    fn metadata(&self) -> &ObjectMeta {
        self.meta()
    }
}

/// The objects of one kind, each kept as `S`.
pub struct Cache<K, S = Arc<K>> {
    inner: RwLock<Inner<S>>,
    kind: PhantomData<fn() -> K>,
}

struct Inner<S> {
    objects: BTreeMap<Key, Entry<S>>,
    /// Objects that we wrote, as they were before: the watch has not shown the writes yet.
    awaiting_echo: BTreeMap<Key, S>,
    /// Objects that are being written now, with the versions that the watch has shown meanwhile.
    writing: BTreeMap<Key, Vec<Option<u64>>>,
    /// Keys seen since a watch of this shard (a namespace, or everything) began anew.
    relist: BTreeMap<String, BTreeSet<Key>>,
    /// Versions at which objects were seen to go. The answer to a write may come after the news that its object is gone.
    gone: BTreeMap<Key, u64>,
}

/// Deletions that are remembered: more than can happen while one write is under way.
const GONE: usize = 1024;

/// What is known of one object.
#[derive(Clone)]
struct Entry<S> {
    version: Option<u64>,
    uid: Option<Box<str>>,
    object: S,
}

impl<S> Entry<S> {
    fn of<K: Cached>(object: Arc<K>) -> Self
    where
        S: Kept<K>,
    {
        let meta = object.metadata();
        let (version, uid) = (version(meta), meta.uid.as_deref().map(Box::from));
        Self { version, uid, object: S::keep(object) }
    }

    /// How it stands to another state of the object; nothing if one of them has no version.
    fn against(&self, other: &ObjectMeta) -> Option<Ordering> {
        Some(self.version?.cmp(&version(other)?))
    }
}

impl<K, S> Default for Cache<K, S> {
    fn default() -> Self {
        let (objects, awaiting_echo, writing, relist, gone) = Default::default();
        Self { inner: RwLock::new(Inner { objects, awaiting_echo, writing, relist, gone }), kind: PhantomData }
    }
}

/// What a watch event changed.
pub struct Change<K, S = Arc<K>> {
    /// The object before, if it was known.
    pub before: Option<Arc<K>>,
    /// The object now; absent when it is gone.
    pub after: Option<Arc<K>>,
    /// The object as the watch showed it before: without what we have written to it since. Few ask, so it is opened then.
    pub watched: Option<S>,
    /// Whether its writer has a write under way that this may be the echo of: see [`Cache::writing`].
    pub while_written: bool,
}

/// A write that is under way.
pub struct Writing<'a, K: Cached, S: Kept<K>> {
    cache: &'a Cache<K, S>,
    key: Key,
}

impl<K: Cached, S: Kept<K>> Writing<'_, K, S> {
    /// It came to its end; `written` is what it returned, if it changed something. Whether the watch showed anything else
    /// meanwhile, of which the writer was not told.
    pub fn end(self, written: Option<Arc<K>>) -> bool {
        let returned = written.as_ref().and_then(|object| version(object.metadata()));
        written.into_iter().for_each(|object| self.cache.wrote(object));
        let shown = self.cache.write().writing.remove(&self.key).unwrap_or_default();
        shown.iter().any(|shown| shown.is_none() || *shown != returned)
    }
}

impl<K: Cached, S: Kept<K>> Drop for Writing<'_, K, S> {
    fn drop(&mut self) {
        self.cache.write().writing.remove(&self.key);
    }
}

impl<K: Cached, S> Change<K, S> {
    /// Whether this is what a write of ours returned already, shown once more by the watch.
    pub fn is_echo(&self) -> bool {
        let version = |object: &Option<Arc<K>>| object.as_ref().and_then(|object| version(object.metadata()));
        version(&self.before).is_some() && version(&self.before) == version(&self.after)
    }

    /// Whether somebody else took the object away or changed more of it than its status. Of an object that has no
    /// generation, any change may be one of its content.
    pub fn is_drift(&self) -> bool {
        let Some(before) = self.before.as_ref().map(|object| object.metadata()) else { return false };
        let Some(after) = self.after.as_ref().map(|object| object.metadata()) else { return true };
        let generation = after.generation.is_none() || after.generation != before.generation;
        let metadata = (&after.labels, &after.annotations, &after.owner_references)
            != (&before.labels, &before.annotations, &before.owner_references);
        !self.is_echo() && (generation || metadata)
    }
}

fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

impl<K: Cached, S: Kept<K>> Cache<K, S> {
    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let kept =
            self.read().objects.get(&(namespace.to_owned(), name.to_owned())).map(|entry| entry.object.clone())?;
        Some(kept.open())
    }

    /// All objects of a namespace, by name.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = (namespace.to_owned(), String::new());
        let inner = self.read();
        let found = inner.objects.range(from..).take_while(|((ns, _), _)| ns == namespace);
        let kept: Vec<S> = found.map(|(_, entry)| entry.object.clone()).collect();
        drop(inner);
        kept.iter().map(S::open).collect()
    }

    /// Keeps an entry through the listing under way although its new state cannot be read.
    pub fn keep_listed(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.write().relist.values_mut().for_each(|seen| {
            seen.insert(key.clone());
        });
    }

    /// Removes an entry whatever its state, and says what that changed.
    pub fn forget(&self, namespace: &str, name: &str) -> Option<Change<K, S>> {
        self.write().take_out(&(namespace.to_owned(), name.to_owned()))
    }

    /// A write of ours begins. The watch may show what it made before its answer is here: until it ends, its writer is not
    /// told of what the watch shows, or each write would make him look once more, and a height that moves for ever.
    pub fn writing(&self, namespace: &str, name: &str) -> Writing<'_, K, S> {
        let key = (namespace.to_owned(), name.to_owned());
        self.write().writing.insert(key.clone(), Vec::new());
        Writing { cache: self, key }
    }

    /// Takes in what a write of ours returned, unless the watch was faster.
    pub fn wrote(&self, object: Arc<K>) {
        let (key, entry) = (key(object.metadata()), Entry::of(object.clone()));
        let mut inner = self.write();
        let went = version(object.metadata()) < inner.gone.get(&key).copied();
        if went || inner.objects.get(&key).is_some_and(|known| known.against(object.metadata()) != Some(Ordering::Less))
        {
            return;
        }
        let before = inner.objects.insert(key.clone(), entry);
        before.map(|before| inner.awaiting_echo.entry(key).or_insert(before.object));
    }

    /// Takes in a watch event of one shard and says what it changed; nothing if it is older than what is known.
    pub fn observe(&self, shard: &str, event: Event<K>) -> Vec<Change<K, S>> {
        match event {
            Event::Init => {
                self.write().relist.insert(shard.to_owned(), BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = key(object.metadata());
                self.write().relist.get_mut(shard).map(|seen| seen.insert(key));
                self.put(object).into_iter().collect()
            }
            Event::InitDone => self.write().forget_unlisted(shard),
            Event::Apply(object) => self.put(object).into_iter().collect(),
            Event::Delete(object) => self.write().remove(&object).into_iter().collect(),
        }
    }

    fn put(&self, object: K) -> Option<Change<K, S>> {
        let after = Arc::new(object);
        let key = key(after.metadata());
        let same = |known: &&Entry<S>| known.against(after.metadata()) == Some(Ordering::Equal);
        let echoed = self.read().objects.get(&key).filter(same).cloned();
        // Packing takes time that readers need not wait. What a write of ours returned is packed already.
        let entry = echoed.unwrap_or_else(|| Entry::of(after.clone()));
        let mut inner = self.write();
        if inner.objects.get(&key).is_some_and(|known| known.against(after.metadata()) == Some(Ordering::Greater)) {
            return None;
        }
        let while_written = inner.writing.get_mut(&key).map(|shown| shown.push(version(after.metadata()))).is_some();
        let unwritten = inner.awaiting_echo.remove(&key);
        let before = inner.objects.insert(key, entry);
        drop(inner);
        let watched = unwritten.or_else(|| before.as_ref().map(|known| known.object.clone()));
        let before = before.map(|known| if same(&&known) { after.clone() } else { known.object.open() });
        Some(Change { before, after: Some(after), watched, while_written })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner<S>> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner<S>> {
        self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<K: Cached, S: Kept<K>> Live<K> for Cache<K, S> {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(namespace, name)
    }

    fn wrote(&self, object: Arc<K>) {
        self.wrote(object);
    }
}

impl<S> Inner<S> {
    fn remove<K: Cached>(&mut self, object: &K) -> Option<Change<K, S>>
    where
        S: Kept<K>,
    {
        let key = key(object.metadata());
        self.bury(&key, object.metadata());
        let known = self.objects.get(&key)?;
        // Our own re-creation may be known before the deletion of its predecessor arrives.
        if known.uid.as_deref() != object.metadata().uid.as_deref()
            && known.against(object.metadata()) == Some(Ordering::Greater)
        {
            return None;
        }
        self.take_out(&key)
    }

    fn take_out<K: Cached>(&mut self, key: &Key) -> Option<Change<K, S>>
    where
        S: Kept<K>,
    {
        let unwritten = self.awaiting_echo.remove(key);
        let before = self.objects.remove(key)?.object;
        Some(Change {
            before: Some(before.open()),
            after: None,
            watched: unwritten.or(Some(before)),
            while_written: false,
        })
    }

    fn bury(&mut self, key: &Key, meta: &ObjectMeta) {
        self.gone.extend(version(meta).map(|version| (key.clone(), version)));
        if self.gone.len() > GONE {
            let oldest = self.gone.iter().min_by_key(|(_, version)| **version).map(|(key, _)| key.clone());
            oldest.map(|key| self.gone.remove(&key));
        }
    }

    /// What was written while the listing was under way goes, too, if it is not in it: whether it was written after the
    /// listing or deleted before it, nobody can tell. In the first case the watch that follows brings it back at once; in
    /// the second nothing would ever take it away.
    fn forget_unlisted<K: Cached>(&mut self, shard: &str) -> Vec<Change<K, S>>
    where
        S: Kept<K>,
    {
        let Some(listed) = self.relist.remove(shard) else { return Vec::new() };
        let gone: Vec<Key> = self
            .objects
            .keys()
            .filter(|key| (shard.is_empty() || key.0 == shard) && !listed.contains(*key))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| self.take_out(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Packed;
    use k8s_openapi::api::core::v1::ConfigMap;

    type Packs = Cache<ConfigMap, Packed<ConfigMap>>;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("ward".into()),
                name: Some(name.into()),
                uid: Some(uid.into()),
                resource_version: Some(version.to_string()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn version_of(cache: &Packs, name: &str) -> Option<String> {
        cache.get("ward", name).and_then(|o| o.metadata.resource_version.clone())
    }

    fn change(before: ConfigMap, after: Option<ConfigMap>) -> Change<ConfigMap> {
        let before = Some(Arc::new(before));
        Change { watched: before.clone(), before, after: after.map(Arc::new), while_written: false }
    }

    #[test]
    fn an_echo_that_is_faster_than_its_answer_is_no_news_and_anything_else_is_missed() {
        let cache = Packs::default();
        let apply = |version| cache.observe("", Event::Apply(object("a", "1", version))).pop().expect("a change");
        assert!(!apply(1).while_written);
        let writing = cache.writing("ward", "a");
        assert!(apply(2).while_written);
        assert!(!writing.end(Some(Arc::new(object("a", "1", 2)))), "the echo alone");
        assert!(!apply(3).while_written, "the write is over");
        let writing = cache.writing("ward", "a");
        assert!(apply(4).while_written, "somebody else's");
        assert!(writing.end(Some(Arc::new(object("a", "1", 5)))));
        let writing = cache.writing("ward", "a");
        assert!(apply(6).while_written);
        assert!(writing.end(None), "nothing was to be written, so it was somebody else's");
        drop(cache.writing("ward", "a"));
        assert!(!apply(7).while_written, "a write that failed is over, too");
    }

    #[test]
    fn what_others_do_to_an_object_is_drift_and_what_we_wrote_is_an_echo() {
        let known = || object("a", "1", 10);
        let echo = change(known(), Some(known()));
        assert!(echo.is_echo() && !echo.is_drift());
        assert!(change(known(), None).is_drift(), "deleted");
        assert!(change(known(), Some(object("a", "1", 11))).is_drift(), "it has no generation");
        let generation = |version, generation| {
            let mut object = object("a", "1", version);
            object.metadata.generation = Some(generation);
            object
        };
        assert!(change(generation(10, 1), Some(generation(11, 2))).is_drift(), "another spec");
        let status = change(generation(10, 1), Some(generation(11, 1)));
        assert!(!status.is_drift() && !status.is_echo(), "another status");
        let mut labelled = generation(11, 1);
        labelled.metadata.labels = Some([("part-of".to_owned(), "else".to_owned())].into());
        assert!(change(generation(10, 1), Some(labelled)).is_drift(), "other labels");
    }

    #[test]
    fn an_older_watch_event_does_not_undo_a_write() {
        let cache = Packs::default();
        cache.wrote(Arc::new(object("a", "1", 10)));
        assert!(cache.observe("ward", Event::Apply(object("a", "1", 9))).is_empty());
        assert_eq!(version_of(&cache, "a").as_deref(), Some("10"));
        assert_eq!(cache.observe("ward", Event::Apply(object("a", "1", 11))).len(), 1);
        assert_eq!(version_of(&cache, "a").as_deref(), Some("11"));
    }

    #[test]
    fn what_the_watch_shows_is_compared_with_what_it_showed_before() {
        let cache = Packs::default();
        let watched = |changes: Vec<Change<ConfigMap, Packed<ConfigMap>>>| {
            changes[0].watched.as_ref().and_then(|object| object.open().metadata.resource_version.clone())
        };
        assert_eq!(watched(cache.observe("ward", Event::Apply(object("a", "1", 10)))), None);
        cache.wrote(Arc::new(object("a", "1", 11)));
        cache.wrote(Arc::new(object("a", "1", 12)));
        assert_eq!(watched(cache.observe("ward", Event::Apply(object("a", "1", 12)))).as_deref(), Some("10"));
        // The answer to a write may come after the watch has shown it.
        cache.observe("ward", Event::Apply(object("a", "1", 13)));
        cache.wrote(Arc::new(object("a", "1", 13)));
        assert_eq!(watched(cache.observe("ward", Event::Apply(object("a", "1", 14)))).as_deref(), Some("13"));
        assert!(cache.read().awaiting_echo.is_empty(), "nothing is kept twice");
    }

    /// Counts how often objects were packed for it.
    #[derive(Clone)]
    struct Counted(Packed<ConfigMap>);

    thread_local!(static PACKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    impl Kept<ConfigMap> for Counted {
        fn keep(object: Arc<ConfigMap>) -> Self {
            PACKED.set(PACKED.get() + 1);
            Self(Packed::keep(object))
        }

        fn open(&self) -> Arc<ConfigMap> {
            self.0.open()
        }
    }

    #[test]
    fn what_we_wrote_is_not_packed_again_when_the_watch_shows_it() {
        let cache = Cache::<ConfigMap, Counted>::default();
        cache.wrote(Arc::new(object("a", "1", 10)));
        assert!(cache.observe("ward", Event::Apply(object("a", "1", 10)))[0].is_echo());
        assert_eq!(PACKED.get(), 1);
        assert!(!cache.observe("ward", Event::Apply(object("a", "1", 11)))[0].is_echo());
        assert_eq!(PACKED.get(), 2, "what others wrote is another object");
    }

    #[test]
    fn the_deletion_of_a_predecessor_does_not_remove_what_took_its_place() {
        let cache = Packs::default();
        cache.wrote(Arc::new(object("a", "2", 20)));
        assert!(cache.observe("ward", Event::Delete(object("a", "1", 19))).is_empty());
        assert!(cache.get("ward", "a").is_some());
        assert_eq!(cache.observe("ward", Event::Delete(object("a", "2", 21))).len(), 1);
        assert!(cache.get("ward", "a").is_none());
    }

    #[test]
    fn the_answer_to_a_write_does_not_bring_back_what_is_gone() {
        let cache = Packs::default();
        cache.observe("ward", Event::Apply(object("a", "1", 10)));
        cache.observe("ward", Event::Delete(object("a", "1", 12)));
        cache.wrote(Arc::new(object("a", "1", 11)));
        assert!(cache.get("ward", "a").is_none(), "deleted at 12, written at 11");
        cache.wrote(Arc::new(object("a", "2", 13)));
        assert!(cache.get("ward", "a").is_some(), "made again at 13");
    }

    #[test]
    fn a_new_listing_removes_what_is_gone_in_its_own_namespace_only() {
        let cache = Packs::default();
        cache.wrote(Arc::new(object("gone", "1", 1)));
        cache.wrote(Arc::new(object("kept", "2", 2)));
        let mut elsewhere = object("other", "3", 3);
        elsewhere.metadata.namespace = Some("theatre".into());
        cache.wrote(Arc::new(elsewhere));
        cache.observe("ward", Event::Init);
        cache.observe("ward", Event::InitApply(object("kept", "2", 2)));
        let changes = cache.observe("ward", Event::InitDone);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].after.is_none());
        assert!(cache.get("ward", "gone").is_none() && cache.get("ward", "kept").is_some());
        assert!(cache.get("theatre", "other").is_some());
    }
}
