//! The ledger as the contract sees it: state to read, and effects that are written when a call has ended well.
//!
//! Reads are of committed state only, as Fabric's: what a call writes it does not read again.

use async_trait::async_trait;

use super::keys::Range;

/// Why the ledger did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer did not answer from its ledger: {0}")]
pub struct StubError(pub String);

/// A key and its value.
pub type Entry = (String, Vec<u8>);

/// What a call can read of the channel's state (Fabric: the chaincode stub).
#[async_trait]
pub trait ChaincodeStub: Send {
    /// Public values, in the order of the keys.
    async fn get(&mut self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError>;

    /// Values of a private data collection, in the order of the keys.
    async fn get_private(&mut self, collection: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError>;

    /// All public entries of a range, in order. At commit the peer checks that it still has the same.
    async fn range(&mut self, range: &Range) -> Result<Vec<Entry>, StubError>;

    /// At most `size` public entries of a range, and the first key after them. Fabric allows no write in the same
    /// transaction.
    async fn page(&mut self, range: &Range, size: u16) -> Result<(Vec<Entry>, Option<String>), StubError>;
}

/// A change of the ledger.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Writes a public value.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Writes a value of a private data collection.
    PutPrivate {
        /// Collection.
        collection: &'static str,
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Deletes a public value.
    Delete {
        /// Key.
        key: String,
    },
    /// Deletes a private value with its history, on every peer.
    Purge {
        /// Collection.
        collection: &'static str,
        /// Key.
        key: String,
    },
}

/// What a call leaves behind.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// Changes, in order.
    pub writes: Vec<Write>,
    /// Name and payload of the event; Fabric has one for each transaction.
    pub event: Option<(&'static str, Vec<u8>)>,
}
