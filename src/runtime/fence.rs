//! The fence: may this process write right now?
//!
//! Invariant: the answer is computed from clocks at every question. Each renewal of the lease allows writing until a
//! moment before anyone else may take the lease; nothing has to run for the permission to end.
//!
//! The trap: the monotonic clock stands still while a machine sleeps. So the time of day is asked too; if it jumps
//! forward without a sleep, writing pauses until the next renewal, which is harmless.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Why this process may not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// It does not hold the lease yet.
    #[error("this process does not hold the lease; it writes only as the leader")]
    NotHeld,
    /// It could not renew the lease in time. Nobody is known to have taken it.
    #[error("the lease ran out {} ms ago without renewal; nothing is written until it is renewed", .since.as_millis())]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// Somebody else has it.
    #[error("the lease is held by {holder} now; this process must end")]
    Taken {
        /// Identity of the holder, or what became of the lease.
        holder: String,
    },
    /// This process gave it back.
    #[error("the lease was given back: the process is ending")]
    Released,
}

/// Permission to write. Clones share it.
#[derive(Clone, Debug)]
pub struct Fence(Arc<RwLock<Grant>>);

#[derive(Clone, Debug)]
enum Grant {
    Always,
    Until { end: Instant, granted: SystemTime, length: Duration },
    Closed(LeaseLost),
}

impl Fence {
    /// Closed until the lease is held.
    pub fn closed() -> Self {
        Self::from(Grant::Closed(LeaseLost::NotHeld))
    }

    /// Always open: for an operator without leader election.
    pub fn always() -> Self {
        Self::from(Grant::Always)
    }

    fn from(grant: Grant) -> Self {
        Self(Arc::new(RwLock::new(grant)))
    }

    /// Whether writing is allowed now. Cheap: no lock is held while anything waits.
    pub fn check(&self) -> Result<(), LeaseLost> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Grant::Always => Ok(()),
            Grant::Closed(reason) => Err(reason.clone()),
            Grant::Until { end, granted, length } => {
                let by_monotonic_clock = Instant::now().checked_duration_since(*end);
                let by_time_of_day = granted.elapsed().unwrap_or_default().checked_sub(*length);
                match by_monotonic_clock.max(by_time_of_day) {
                    Some(since) => Err(LeaseLost::Expired { since }),
                    None => Ok(()),
                }
            }
        }
    }

    /// When the permission ends unless it is renewed; `None` if it does not end by itself.
    pub fn valid_until(&self) -> Option<Instant> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Grant::Until { end, .. } => Some(*end),
            Grant::Always | Grant::Closed(_) => None,
        }
    }

    /// Allows writing from now for `length`.
    pub(super) fn grant(&self, length: Duration) {
        self.set(Grant::Until { end: Instant::now() + length, granted: SystemTime::now(), length });
    }

    /// Forbids writing until the next grant.
    pub(super) fn close(&self, reason: LeaseLost) {
        self.set(Grant::Closed(reason));
    }

    fn set(&self, grant: Grant) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = grant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_by_itself_and_a_new_one_opens_again() {
        let fence = Fence::closed();
        assert_eq!(fence.check(), Err(LeaseLost::NotHeld));
        fence.grant(LENGTH);
        tokio::time::advance(LENGTH - Duration::from_millis(1)).await;
        assert_eq!(fence.clone().check(), Ok(()));
        tokio::time::advance(Duration::from_millis(11)).await;
        assert_eq!(fence.check(), Err(LeaseLost::Expired { since: Duration::from_millis(10) }));
        fence.grant(LENGTH);
        assert_eq!(fence.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_may_not_write_although_the_monotonic_clock_stood_still() {
        let fence = Fence::closed();
        fence.set(Grant::Until {
            end: Instant::now() + LENGTH,
            granted: SystemTime::now() - LENGTH * 2,
            length: LENGTH,
        });
        assert!(matches!(fence.check(), Err(LeaseLost::Expired { since }) if since >= LENGTH));
    }

    #[test]
    fn closing_says_why() {
        let fence = Fence::always();
        assert_eq!(fence.check(), Ok(()));
        let taken = LeaseLost::Taken { holder: "ehrnet-b".into() };
        fence.close(taken.clone());
        assert_eq!(fence.check(), Err(taken));
    }
}
