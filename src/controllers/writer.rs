//! Who may write what is made for a resource, and until when.
//!
//! Invariant: objects are written through a [`Writer`] only, and a resource has one at a time: a pass and a repair never
//! write for it at once. Passes and repairs ask for it (`pass.rs`), no step can; it is lent to the step that makes objects
//! and ends with it, before the ledger is asked, so that a repair never waits for a node.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use ehrnet_apply::Applier;
use ehrnet_observe::Target;

/// Hands out writers.
pub struct Writers {
    applier: Applier,
    resources: Turns<Target>,
    /// By namespace: about one node at a time is decided whether it may stop.
    stops: Turns<String>,
}

impl Writers {
    /// All write through one applier.
    pub fn new(applier: Applier) -> Self {
        Self { applier, resources: Turns::default(), stops: Turns::default() }
    }

    /// Waits for the leave to write for a resource.
    pub async fn writer(&self, target: &Target) -> Writer<'_> {
        Writer { _turn: self.resources.take(target).await, writers: self }
    }
}

/// The leave to write what is made for one resource; it ends when this is dropped.
pub struct Writer<'a> {
    writers: &'a Writers,
    _turn: Turn,
}

impl Writer<'_> {
    /// Waits for the leave to stop a node of a namespace, for good or for a restart.
    pub async fn turn_to_stop(&self, namespace: &str) -> Turn {
        self.writers.stops.take(&namespace.to_owned()).await
    }
}

impl Deref for Writer<'_> {
    type Target = Applier;

    fn deref(&self) -> &Applier {
        &self.writers.applier
    }
}

/// A lock for each key.
struct Turns<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A turn; it ends when this is dropped.
pub type Turn = tokio::sync::OwnedMutexGuard<()>;

impl<K: Clone + Eq + std::hash::Hash> Turns<K> {
    async fn take(&self, key: &K) -> Turn {
        let lock = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody has or waits for need not be kept.
            turns.retain(|_, lock| Arc::strong_count(lock) > 1);
            turns.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
