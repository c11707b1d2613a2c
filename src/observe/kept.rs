//! How a cache keeps an object between two looks at it.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A form in which objects of one kind are kept.
pub trait Kept<K>: Clone + Send + Sync + 'static {
    /// Keeps this object.
    fn keep(object: Arc<K>) -> Self;
    /// The object as it was when it was kept.
    fn open(&self) -> Arc<K>;
}

/// As it is, for what is looked at all the time. The copy does not have the room that reading took beyond what is needed.
impl<K: Clone + Send + Sync + 'static> Kept<K> for Arc<K> {
    fn keep(object: Arc<K>) -> Self {
        Arc::new(K::clone(&object))
    }

    fn open(&self) -> Arc<K> {
        self.clone()
    }
}

/// As compressed JSON, for what is looked at when a pass compares it with what is declared. The types of Kubernetes name
/// every field that there could be: the StatefulSet of one node takes 35 KB of memory in them.
#[derive(Debug)]
pub struct Packed<K> {
    bytes: Arc<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), kind: PhantomData }
    }
}

impl<K: Serialize + DeserializeOwned + 'static> Kept<K> for Packed<K> {
    fn keep(object: Arc<K>) -> Self {
        let json = serde_json::to_vec(&*object).expect("what was read as JSON can be written as JSON");
        Self { bytes: lz4_flex::compress_prepend_size(&json).into(), kind: PhantomData }
    }

    fn open(&self) -> Arc<K> {
        let json = lz4_flex::decompress_size_prepended(&self.bytes).expect("what this process compressed");
        // From text, as the client reads answers: the same reading code serves both.
        let json = String::from_utf8(json).expect("JSON is text");
        Arc::new(serde_json::from_str(&json).expect("what this process wrote as JSON"))
    }
}

#[cfg(test)]
mod tests;
