//! Range queries of a simulation: results one by one, and what they leave in the read set.

use crate::peer::rwset::builder::Builder;
use crate::peer::rwset::merkle::{MAX_DEGREE, Reads};
use crate::peer::state::world::State;
use ehrnet_fabric::proto::kvrwset::KvRead;
use ehrnet_fabric::proto::queryresult::Kv;

/// One query and how far it was read.
#[derive(Debug)]
pub struct RangeRead {
    namespace: String,
    start: String,
    end: String,
    /// Where the next result is looked for.
    next: String,
    /// Results left to give.
    left: Option<usize>,
    /// The last key given, or the end asked for once there was nothing more.
    seen: String,
    exhausted: bool,
    reads: Reads,
}

impl RangeRead {
    /// A query from `start` to `end` (excluded; empty: to the last key), of at most `limit` results.
    pub fn new(namespace: &str, start: &str, end: &str, limit: Option<usize>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            start: start.to_owned(),
            end: end.to_owned(),
            next: start.to_owned(),
            left: limit,
            seen: String::new(),
            exhausted: false,
            reads: Reads::new(MAX_DEGREE),
        }
    }

    /// The next result.
    pub fn next(&mut self, state: &State) -> Option<Kv> {
        let found = match self.left {
            Some(0) => None,
            _ => state.range(&self.namespace, &self.next, &self.end).next(),
        };
        let Some((key, entry)) = found else {
            self.exhausted = true;
            self.seen.clone_from(&self.end);
            return None;
        };
        self.left = self.left.map(|left| left - 1);
        self.reads.push(KvRead { key: key.clone(), version: Some(entry.version.to_proto()) });
        self.seen.clone_from(key);
        // The smallest string after the key.
        self.next = format!("{key}\0");
        Some(Kv { namespace: self.namespace.clone(), key: key.clone(), value: entry.value.clone() })
    }

    /// The key after the last result; empty if there is none.
    pub fn bookmark(&self, state: &State) -> String {
        state.range(&self.namespace, &self.next, &self.end).next().map(|(key, _)| key.clone()).unwrap_or_default()
    }

    /// Write the query down.
    pub fn note(self, builder: &mut Builder) {
        builder.range(&self.namespace, &self.start, &self.seen, self.exhausted, self.reads.finish());
    }
}
