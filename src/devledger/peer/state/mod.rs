//! The world state: what all valid transactions so far have made of the channel's keys.
//!
//! ```text
//!   block ──> updates (what one block changes) ──> world (the state; old ones stay readable)
//!                 └──> commit hash                   └──> simulators, validators, system chaincodes
//! ```
//! Pure and in memory: it is rebuilt from the blocks and the private data store when the peer starts. Semantics are those
//! of Fabric's LevelDB state: ordered keys, no rich queries.

pub mod expiry;
pub mod history;
pub mod updates;
pub mod world;

use ehrnet_fabric::proto::kvrwset;

/// Where a value was written: number of the block and place of the transaction in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Block number.
    pub block: u64,
    /// Place in the block, from 0.
    pub tx: u64,
}

impl Version {
    /// As read sets have it.
    pub fn to_proto(self) -> kvrwset::Version {
        kvrwset::Version { block_num: self.block, tx_num: self.tx }
    }

    /// From a read set.
    pub fn of_proto(version: &kvrwset::Version) -> Self {
        Self { block: version.block_num, tx: version.tx_num }
    }

    /// Fabric's order-preserving encoding, which commit hashes are made of: for each number its length in bytes, then
    /// its bytes without leading zeros.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.block, self.tx] {
            let bytes = number.to_be_bytes();
            let significant = &bytes[usize::try_from(number.leading_zeros() / 8).unwrap_or(8)..];
            out.push(u8::try_from(significant.len()).unwrap_or(8));
            out.extend_from_slice(significant);
        }
        out
    }
}

/// Key of private data, hashed, as the public state knows it.
pub type KeyHash = Vec<u8>;

/// Name of a collection: its chaincode and its own name.
pub type Collection = (String, String);

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_encode_as_fabrics() {
        let bytes = |block, tx| Version { block, tx }.to_bytes();
        assert_eq!(bytes(0, 0), [0, 0]);
        assert_eq!(bytes(1, 255), [1, 1, 1, 255]);
        assert_eq!(bytes(256, 65536), [2, 1, 0, 3, 1, 0, 0]);
        assert_eq!(bytes(u64::MAX, 0)[..2], [8, 255]);
    }
}
