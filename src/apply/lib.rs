//! The only writer of Kubernetes objects.
//!
//! Invariants:
//! - It writes only where the live object differs from the declared one ([`drift`]); when all is settled, nothing.
//! - It never takes over what somebody else made: a foreign object with a name of ours is [`ApplyError::NameTaken`], what
//!   a deleted resource of the same name left behind is [`ApplyError::Leftover`] until it is gone ([`ownership`]).
//! - Every write to an existing object carries its UID; every one that could lose something (replace, metadata of keys)
//!   its `resourceVersion` too.
//! - It deletes nothing, and has no right to: what belongs to a deleted resource goes by owner reference.
//! - Who writes objects ([`Applier`]) and who tells of them ([`StatusWriter`]) are two: what may write a status cannot
//!   write an object.
//! - What a write returned goes into the cache at once ([`Live::wrote`]): the next decision sees it.
//!
//! The trap: the cache holds only objects with our label. An object that is not in it may still exist, so absence is
//! confirmed by one read before something is made.

pub mod drift;
mod error;
pub mod ownership;
mod quantity;
mod status;
mod unsettled;
mod write;

use std::sync::Arc;

use kube::Resource;

pub use error::{ApplyError, Verb};
pub use ownership::Owner;
pub use status::StatusWriter;
pub use write::{Applier, Change, Child, Written};

/// What is known of the live objects of one kind: a cache of those with our `managed-by` label.
pub trait Live<K>: Send + Sync {
    /// The object of that name, if it is known.
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>>;
    /// A write of this process returned `object`: what is asked next must see it.
    fn wrote(&self, object: Arc<K>);
}

/// Takes the managed fields out of an object that is to be kept: nobody asks for them, and they are often larger than the
/// rest.
pub fn slim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

#[cfg(test)]
mod tests;
