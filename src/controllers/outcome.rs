//! How a reconcile ends.

use std::time::Duration;

use ehrnet_api::conditions::{ConditionType, Reason};
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
                    | Reason::BlocksLost
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
