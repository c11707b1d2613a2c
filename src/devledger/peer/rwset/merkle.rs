//! What a range query saw, in the short form that read sets have of many results (Fabric:
//! `rwsetutil/query_results_helper.go`): up to 50 results as they are, more as hashes of a tree.

use std::collections::BTreeMap;

use prost::Message;

use crate::peer::state::sha256;
use ehrnet_fabric::proto::kvrwset::range_query_info::ReadsInfo;
use ehrnet_fabric::proto::kvrwset::{KvRead, QueryReads, QueryReadsMerkleSummary};

/// Fabric's number of results, and of hashes, that one hash is made of (less one).
pub const MAX_DEGREE: usize = 50;

/// Collects the results of one query.
#[derive(Debug, Clone)]
pub struct Reads {
    degree: usize,
    pending: Vec<KvRead>,
    /// Hashes by level, leaves at 1.
    levels: BTreeMap<u32, Vec<Vec<u8>>>,
    top: u32,
}

impl Reads {
    /// No results yet. `degree` is at least 2.
    pub fn new(degree: usize) -> Self {
        Self { degree: degree.max(2), pending: Vec::new(), levels: BTreeMap::new(), top: 1 }
    }

    /// One more result.
    pub fn push(&mut self, read: KvRead) {
        self.pending.push(read);
        if self.pending.len() > self.degree {
            self.hash_pending();
        }
    }

    /// All results. `None` if there were none.
    pub fn finish(mut self) -> Option<ReadsInfo> {
        if self.levels.is_empty() {
            let kv_reads = self.pending;
            return (!kv_reads.is_empty()).then_some(ReadsInfo::RawReads(QueryReads { kv_reads }));
        }
        if !self.pending.is_empty() {
            self.hash_pending();
        }
        self.close();
        Some(ReadsInfo::ReadsMerkleHashes(QueryReadsMerkleSummary {
            max_degree: u32::try_from(self.degree).unwrap_or(u32::MAX),
            max_level: self.top,
            max_level_hashes: self.levels.remove(&self.top).unwrap_or_default(),
        }))
    }

    fn hash_pending(&mut self) {
        let kv_reads = std::mem::take(&mut self.pending);
        let mut hash = sha256(&QueryReads { kv_reads }.encode_to_vec());
        let mut level = 1;
        loop {
            let hashes = self.levels.entry(level).or_default();
            hashes.push(hash);
            self.top = self.top.max(level);
            if hashes.len() <= self.degree {
                return;
            }
            hash = sha256(&hashes.concat());
            self.levels.remove(&level);
            level += 1;
        }
    }

    /// Carry what is left below the top up to it.
    fn close(&mut self) {
        for level in 1..self.top {
            let Some(mut hashes) = self.levels.remove(&level) else { continue };
            let hash = if hashes.len() == 1 { hashes.remove(0) } else { sha256(&hashes.concat()) };
            self.levels.entry(level + 1).or_default().push(hash);
        }
        if let Some(hashes) = self.levels.get(&self.top).filter(|hashes| hashes.len() > self.degree) {
            let hash = sha256(&hashes.concat());
            self.levels.remove(&self.top);
            self.top += 1;
            self.levels.insert(self.top, vec![hash]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(count: usize, degree: usize) -> Option<ReadsInfo> {
        let mut reads = Reads::new(degree);
        (0..count).for_each(|n| reads.push(KvRead { key: format!("k{n}"), version: None }));
        reads.finish()
    }

    fn leaf(range: std::ops::Range<usize>) -> Vec<u8> {
        let kv_reads = range.map(|n| KvRead { key: format!("k{n}"), version: None }).collect();
        sha256(&QueryReads { kv_reads }.encode_to_vec())
    }

    #[test]
    fn few_results_stay_as_they_are() {
        assert_eq!(reads(0, 50), None);
        let Some(ReadsInfo::RawReads(raw)) = reads(50, 50) else { panic!("not raw") };
        assert_eq!(raw.kv_reads.len(), 50);
        assert!(matches!(reads(51, 50), Some(ReadsInfo::ReadsMerkleHashes(_))));
    }

    #[test]
    fn many_become_hashes_of_the_highest_level() {
        // Degree 2: three results make a leaf, three leaves a node above.
        let summary = |count| match reads(count, 2) {
            Some(ReadsInfo::ReadsMerkleHashes(summary)) => (summary.max_level, summary.max_level_hashes),
            other => panic!("not hashed: {other:?}"),
        };
        assert_eq!(summary(6), (1, vec![leaf(0..3), leaf(3..6)]));
        let node = sha256(&[leaf(0..3), leaf(3..6), leaf(6..7)].concat());
        assert_eq!(summary(7), (2, vec![node.clone()]));
        assert_eq!(summary(10), (2, vec![node_of(0..9), leaf(9..10)]));
    }

    fn node_of(range: std::ops::Range<usize>) -> Vec<u8> {
        let leaves: Vec<_> = range.clone().step_by(3).map(|n| leaf(n..(n + 3).min(range.end))).collect();
        sha256(&leaves.concat())
    }
}
