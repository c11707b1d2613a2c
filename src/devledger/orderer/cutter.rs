//! Cuts a stream of envelopes into batches by count and size, as the channel's batch settings say.

use ehrnet_fabric::proto::orderer::BatchSize;

/// Envelopes that wait for their batch to be full, encoded.
#[derive(Debug, Default)]
pub struct Cutter {
    pending: Vec<Vec<u8>>,
    bytes: usize,
}

impl Cutter {
    /// Take an envelope; the batches that are full now, in order.
    pub fn add(&mut self, envelope: Vec<u8>, limits: &BatchSize) -> Vec<Vec<Vec<u8>>> {
        let preferred = limits.preferred_max_bytes as usize;
        let mut full = Vec::new();
        if envelope.len() > preferred {
            full.extend(self.cut());
            full.push(vec![envelope]);
            return full;
        }
        if self.bytes + envelope.len() > preferred {
            full.extend(self.cut());
        }
        self.bytes += envelope.len();
        self.pending.push(envelope);
        if self.pending.len() >= limits.max_message_count as usize {
            full.extend(self.cut());
        }
        full
    }

    /// The envelopes that wait, if any.
    pub fn cut(&mut self) -> Option<Vec<Vec<u8>>> {
        self.bytes = 0;
        Some(std::mem::take(&mut self.pending)).filter(|batch| !batch.is_empty())
    }

    /// Whether any envelope waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchSize = BatchSize { max_message_count: 3, absolute_max_bytes: 100, preferred_max_bytes: 10 };

    fn sizes(batches: &[Vec<Vec<u8>>]) -> Vec<Vec<usize>> {
        batches.iter().map(|batch| batch.iter().map(Vec::len).collect()).collect()
    }

    #[test]
    fn cuts_by_count_by_size_and_isolates_large_envelopes() {
        let mut cutter = Cutter::default();
        assert!(cutter.add(vec![0; 4], &LIMITS).is_empty());
        assert_eq!(sizes(&cutter.add(vec![0; 7], &LIMITS)), [[4]]);
        assert_eq!(sizes(&cutter.add(vec![0; 50], &LIMITS)), [[7], [50]]);
        assert!(cutter.is_empty());
        assert!(cutter.add(vec![1], &LIMITS).is_empty() && cutter.add(vec![1], &LIMITS).is_empty());
        assert_eq!(sizes(&cutter.add(vec![1], &LIMITS)), [[1, 1, 1]]);
        assert_eq!(cutter.cut(), None);
    }
}
