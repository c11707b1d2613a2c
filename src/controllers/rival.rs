//! Two resources that claim one thing: the older one has it, whichever is seen first.

use kube::{Resource, ResourceExt};

use ehrnet_observe::cache::{Cache, Cached};

/// Name of an older resource of the same namespace that claims the same thing.
pub fn older<K>(cache: &Cache<K>, resource: &K, claims_same: impl Fn(&K) -> bool) -> Option<String>
where
    K: Clone + Resource + Cached,
{
    // Those of one second are told apart by their UIDs.
    let age = |one: &K| (one.meta().creation_timestamp.clone().map(|time| time.0), one.uid());
    let all = cache.list(&resource.namespace().unwrap_or_default());
    let mut older = all.into_iter().filter(|other| age(other) < age(resource) && claims_same(other));
    older.next().map(|other| other.name_any())
}
