//! How a reconcile ends.

use std::time::Duration;

use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_apply::ApplyError;
use ehrnet_status::Finding;

/// A reconcile that did all it could for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When to look again even without news; `None` waits for news.
    pub look_again: Option<Duration>,
    /// Whether something stands in the way that no watch tells the end of: look again with growing delay.
    pub retry: bool,
}

impl Outcome {
    /// Nothing but news can change anything.
    pub fn wait() -> Self {
        Self::default()
    }

    /// Look again after this time at the latest.
    pub fn within(delay: Duration) -> Self {
        Self { look_again: Some(delay.min(LONGEST)), retry: false }
    }

    /// Look again soon, and later and later while nothing changes.
    pub fn retry() -> Self {
        Self { look_again: None, retry: true }
    }

    /// What the findings of a pass call for: news of foreign objects, refusals and silent nodes come from no watch.
    pub fn of(findings: &[(ConditionType, Finding)]) -> Self {
        let blind = |reason| {
            matches!(
                reason,
                Reason::NameTaken
                    | Reason::ApiRefused
                    | Reason::NodeUnreachable
                    | Reason::LedgerRefused
                    | Reason::EndorsersDisagree
                    | Reason::SignaturesMissing
            )
        };
        if findings.iter().any(|(_, finding)| !finding.holds() && blind(finding.reason)) {
            Self::retry()
        } else {
            Self::wait()
        }
    }

    /// The earlier of the two.
    pub fn or_sooner(self, other: Self) -> Self {
        let look_again = match (self.look_again, other.look_again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { look_again, retry: self.retry || other.retry }
    }
}

/// Timers are set for at most this long; what comes later is looked at again then.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Turns a refusal that people must know of into a finding; the rest stays an error.
pub fn told<T>(result: Result<Result<T, Finding>, ReconcileError>) -> Result<Result<T, Finding>, ReconcileError> {
    result.or_else(|ReconcileError::Apply(error)| {
        let reason = match &error {
            ApplyError::NameTaken { .. } => Reason::NameTaken,
            ApplyError::Refused { .. } | ApplyError::Malformed { .. } => Reason::ApiRefused,
            _ => return Err(ReconcileError::Apply(error)),
        };
        Ok(Err(Finding::not(reason, error.to_string())))
    })
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
