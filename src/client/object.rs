//! Large objects, for example image series: read once, in chunks, with a hash for each, so that damage has a place.
//!
//! The list of chunk hashes (the manifest) stays with the object; the ledger holds the salted hash of the list's digest.
//! An object of 1 GiB costs the reader one chunk of memory and the ledger a few hundred bytes.

use std::io::{self, Read};

use serde_json::Value;
use sha2::{Digest, Sha256};

use ehrnet_messages::Manifest;
use ehrnet_messages::hash::document_digest;

/// Bytes of a chunk unless another size is asked for.
pub const CHUNK_SIZE: u64 = 4 * 1024 * 1024;

/// The hashes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHashes {
    /// SHA-256 of the whole, lower-case hexadecimal.
    pub digest: String,
    /// Bytes of each chunk but the last.
    pub chunk_size: u64,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<String>,
}

impl ObjectHashes {
    /// Reads the object to its end.
    ///
    /// # Errors
    /// Reading fails, or there is nothing to read.
    pub fn read(mut object: impl Read, chunk_size: u64) -> io::Result<Self> {
        let mut whole = Sha256::new();
        let mut chunks = Vec::new();
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            if object.by_ref().take(chunk_size).read_to_end(&mut chunk)? == 0 {
                break;
            }
            whole.update(&chunk);
            chunks.push(hex::encode(Sha256::digest(&chunk)));
        }
        if chunks.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "is empty"));
        }
        Ok(Self { digest: hex::encode(whole.finalize()), chunk_size, chunks })
    }

    /// What the ledger says about how the object is cut; none if there are more chunks than it can count.
    pub fn manifest(&self) -> Option<Manifest> {
        Some(Manifest { chunks: u32::try_from(self.chunks.len()).ok()?, chunk_size: self.chunk_size })
    }

    /// The manifest's digest.
    ///
    /// # Errors
    /// Never for a list of texts; the type is that of canonical JSON.
    pub fn root(&self) -> Result<String, serde_json::Error> {
        document_digest(&Value::from(self.chunks.clone()))
    }

    /// The chunks, counted from 0, that are not what `manifest` says. One that only one side has counts as well.
    pub fn damaged(&self, manifest: &[String]) -> Vec<usize> {
        let most = self.chunks.len().max(manifest.len());
        (0..most).filter(|i| self.chunks.get(*i) != manifest.get(*i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(bytes: &[u8]) -> ObjectHashes {
        ObjectHashes::read(bytes, 4).expect("read")
    }

    #[test]
    fn each_chunk_has_a_hash_and_the_last_may_be_short() {
        let hashes = hashes(b"abcdefghij");
        assert_eq!(hashes.manifest(), Some(Manifest { chunks: 3, chunk_size: 4 }));
        assert_eq!(hashes.chunks[2], hex::encode(Sha256::digest(b"ij")));
        assert_eq!(hashes.digest, hex::encode(Sha256::digest(b"abcdefghij")));
    }

    #[test]
    fn a_damaged_chunk_is_found_by_its_index() {
        let manifest = hashes(b"abcdefghij").chunks;
        assert!(hashes(b"abcdefghij").damaged(&manifest).is_empty());
        assert_eq!(hashes(b"abcdeXghij").damaged(&manifest), [1]);
        assert_eq!(hashes(b"abcdefgh").damaged(&manifest), [2]);
        assert_ne!(hashes(b"abcdeXghij").root().expect("root"), hashes(b"abcdefghij").root().expect("root"));
    }

    /// C25.
    #[test]
    fn a_large_object_is_never_in_memory_as_a_whole() {
        struct Counted {
            left: u64,
            largest: usize,
        }
        impl Read for Counted {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.largest = self.largest.max(into.len());
                let length = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= length as u64;
                Ok(length)
            }
        }
        let chunk_size = 64 * 1024;
        let mut object = Counted { left: 100 * chunk_size + 1, largest: 0 };
        let hashes = ObjectHashes::read(&mut object, chunk_size).expect("read");
        assert_eq!(hashes.chunks.len(), 101);
        assert!(object.largest as u64 <= 2 * chunk_size);
    }

    #[test]
    fn nothing_is_no_object() {
        assert_eq!(ObjectHashes::read(io::empty(), 4).expect_err("empty").to_string(), "is empty");
    }
}
