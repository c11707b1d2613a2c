//! How a reconcile ends.

use std::time::Duration;

use crate::apply::ApplyError;

/// A reconcile that did all it could for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When to look again even without news; `None` waits for news.
    pub look_again: Option<Duration>,
}

impl Outcome {
    /// Nothing but news can change anything.
    pub fn wait() -> Self {
        Self { look_again: None }
    }

    /// Look again after this time at the latest.
    pub fn within(delay: Duration) -> Self {
        Self { look_again: Some(delay) }
    }

    /// The earlier of the two.
    pub fn or_sooner(self, other: Self) -> Self {
        let look_again = match (self.look_again, other.look_again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { look_again }
    }
}

/// A reconcile that could not do what it wanted; it is tried again with growing delay unless it is final.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A write to the cluster failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl ReconcileError {
    /// Whether trying again without news is pointless.
    pub fn is_final(&self) -> bool {
        let Self::Apply(error) = self;
        matches!(error, ApplyError::NamespaceEnding { .. })
    }

    /// Stable name for metrics and events.
    pub fn label(&self) -> &'static str {
        let Self::Apply(error) = self;
        error.name()
    }

    /// How long the API server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Apply(error) = self;
        error.retry_after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_look_wins_and_never_is_the_latest() {
        let soon = Outcome::within(Duration::from_secs(1));
        assert_eq!(Outcome::wait().or_sooner(soon), soon);
        assert_eq!(Outcome::within(Duration::from_secs(9)).or_sooner(soon), soon);
        assert_eq!(Outcome::wait().or_sooner(Outcome::wait()), Outcome::wait());
    }
}
