//! When a failed reconcile is tried again: per object, exponentially later, with jitter and a cap.
//!
//! Pure: clock and randomness come from outside. Success and a changed spec start over: nobody who fixed a mistake
//! waits for the backoff that the mistake earned.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Pause after the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause.
const CAP: Duration = Duration::from_secs(60);

/// Failures in a row, by object. `K` identifies the object, for example kind, namespace and name.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: HashMap<K, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    generation: i64,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: HashMap::new() }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// The pause after a failure of `object` at this `generation` of its spec. `chance` is a random number in `0.0..1.0`;
    /// `at_least` is how long the API server asked to wait.
    pub fn failed(&mut self, object: K, generation: i64, chance: f64, at_least: Option<Duration>) -> Duration {
        let failures = self.failures.entry(object).or_insert(Failures { count: 0, generation });
        if failures.generation != generation {
            *failures = Failures { count: 0, generation };
        }
        let pause = pause(failures.count, chance).max(at_least.unwrap_or_default());
        failures.count = failures.count.saturating_add(1);
        pause
    }

    /// `object` was reconciled, or is gone.
    pub fn succeeded(&mut self, object: &K) {
        self.failures.remove(object);
    }
}

/// Between half and all of `FIRST * 2^count`, at most [`CAP`]: half of it spreads objects that fail together.
fn pause(count: u32, chance: f64) -> Duration {
    let full =
        2_u32.checked_pow(count).and_then(|factor| FIRST.checked_mul(factor)).map_or(CAP, |pause| pause.min(CAP));
    full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| backoff.failed("peer0", 1, 1.0, None)).collect();
        assert_eq!(pauses[0], FIRST);
        assert_eq!(pauses[1], FIRST * 2);
        assert_eq!(pauses[11], CAP);
        assert!(pauses.is_sorted());
        for _ in 0..100 {
            assert_eq!(backoff.failed("peer0", 1, 1.0, None), CAP, "no overflow");
        }
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        for count in 0..40 {
            assert_eq!(pause(count, 0.0) * 2, pause(count, 1.0));
        }
    }

    #[test]
    fn success_and_a_changed_spec_start_over_for_this_object_only() {
        let mut backoff = Backoff::default();
        for object in ["a", "b", "c"] {
            backoff.failed(object, 1, 1.0, None);
            backoff.failed(object, 1, 1.0, None);
        }
        backoff.succeeded(&"a");
        assert_eq!(backoff.failed("a", 1, 1.0, None), FIRST);
        assert_eq!(backoff.failed("b", 2, 1.0, None), FIRST);
        assert_eq!(backoff.failed("c", 1, 1.0, None), FIRST * 4);
    }

    #[test]
    fn the_servers_wish_is_a_floor() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed("a", 1, 0.0, Some(Duration::from_secs(3))), Duration::from_secs(3));
    }
}
