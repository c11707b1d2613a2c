//! What every controller works with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::time::Instant;

use super::identity::Remembered;
use super::keys::Pair;
use ehrnet_apply::Applier;
use ehrnet_desired::Site;
use ehrnet_fabric::net::Network;
use ehrnet_observe::World;
use ehrnet_observe::cache::Key;
use ehrnet_runtime::Settings;
use ehrnet_runtime::events::Reporter;
use ehrnet_runtime::metrics::Metrics;

/// The present, injected so that tests can move it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Shared by all reconciles.
pub struct Context {
    /// What the operator knows.
    pub world: Arc<World>,
    /// For the few reads that no watch covers.
    pub client: Client,
    /// The only writer.
    pub applier: Applier,
    /// The way to the ledger's nodes.
    pub network: Arc<dyn Network>,
    /// How the operator was started.
    pub settings: Settings,
    /// What the settings mean for every resource.
    pub site: Site,
    /// Publishes Events.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Metrics,
    /// The present.
    pub clock: Clock,
    /// Key pairs as last seen good.
    pub memory: Memory<Pair>,
    /// CA Secrets of users as last read.
    pub given: Memory<Arc<Secret>>,
    /// Identities that were issued, for the time when they go.
    pub identities: Memory<Remembered>,
    /// What was said of resources that cannot be read.
    pub malformed: Memory<String>,
    /// When the status of each resource was written last, under [`status_key`].
    pub published: Memory<Instant>,
    /// One node at a time may be restarted in a namespace.
    pub restarts: Turns,
    /// What is made for a resource is written by one pass or repair at a time.
    pub writers: Turns,
}

/// A small shared map. It lives in the process only: what it holds may be secret.
pub struct Memory<V>(Mutex<HashMap<Key, V>>);

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<V: Clone> Memory<V> {
    /// What is remembered under `key`.
    pub fn get(&self, key: &Key) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Remembers `value`.
    pub fn remember(&self, key: Key, value: V) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    /// Forgets what is remembered under `key`.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Memory<Arc<Secret>> {
    /// Remembers a Secret and returns it.
    pub fn put(&self, key: Key, secret: Secret) -> Arc<Secret> {
        let secret = Arc::new(secret);
        self.remember(key, secret.clone());
        secret
    }
}

/// Under what the time of a resource's status is remembered.
pub fn status_key(kind: &str, namespace: &str, name: &str) -> Key {
    (format!("{kind} {namespace}"), name.to_owned())
}

/// A lock for each name.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// The leave to act; it ends when this is dropped.
pub type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Turns {
    /// Waits for the turn under a name.
    pub async fn take(&self, name: &str) -> Turn {
        let lock = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody has or waits for need not be kept.
            turns.retain(|_, lock| Arc::strong_count(lock) > 1);
            turns.entry(name.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
