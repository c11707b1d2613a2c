//! Why a step of a pass did not come to its end.

use std::time::Duration;

use ehrnet_api::conditions::Reason;
use ehrnet_apply::ApplyError;
use ehrnet_desired::PlanError;
use ehrnet_status::Finding;

/// What ends a step. What people must know of becomes a condition and the pass goes on without the step; the rest ends the
/// pass, and it is tried again.
#[derive(Debug)]
pub enum StepError {
    /// Something is in the way: for the conditions.
    Obstacle(Finding),
    /// The cluster could not be written.
    Failed(ReconcileError),
}

impl From<Finding> for StepError {
    fn from(finding: Finding) -> Self {
        Self::Obstacle(finding)
    }
}

impl From<PlanError> for StepError {
    fn from(error: PlanError) -> Self {
        Self::Obstacle(unplannable(&error))
    }
}

/// What people are told of a resource that cannot be planned.
pub fn unplannable(error: &PlanError) -> Finding {
    Finding::not(Reason::InvalidSpec, error.to_string())
}

/// Refusals that people must know of are obstacles; conflicts and an API server that does not answer pass by themselves.
impl From<ApplyError> for StepError {
    fn from(error: ApplyError) -> Self {
        let reason = match &error {
            ApplyError::NameTaken { .. } => Reason::NameTaken,
            ApplyError::Refused { .. } | ApplyError::Malformed { .. } => Reason::ApiRefused,
            _ => return Self::Failed(error.into()),
        };
        Self::Obstacle(Finding::not(reason, error.to_string()))
    }
}

/// A pass that could not do what it wanted; it is tried again with growing delay unless it is final.
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
    fn what_people_must_know_of_becomes_a_finding_and_the_rest_is_tried_again() {
        let taken = ApplyError::NameTaken { kind: "Secret".into(), name: "a".into(), holder: "belongs to b".into() };
        assert!(matches!(taken.into(), StepError::Obstacle(finding) if finding.reason == Reason::NameTaken));
        let leftover = ApplyError::Leftover { kind: "Secret".into(), name: "a".into() };
        assert!(matches!(leftover.into(), StepError::Failed(_)));
    }
}
