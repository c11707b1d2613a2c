//! PodDisruptionBudgets: how many nodes a drain may stop at once.
//!
//! A quorum is not one node's affair: a budget for each node would let a drain stop all of them. Nor can there be one
//! for each channel: the eviction API refuses a pod that two budgets select, and an orderer may serve many channels.
//! So there is one for all orderers of a namespace, which is stricter than any channel's need, and one for the peers of
//! each hospital. `maxUnavailable: 1` also lets a drain of a single node proceed, where `minAvailable` would block it
//! for ever.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use super::plan::HospitalPlan;
use super::secret::labelled;

/// The budget of all orderers of a namespace. Shared: nothing owns it.
pub fn orderers(namespace: &str) -> PodDisruptionBudget {
    one_at_a_time(names::shared(namespace, names::ORDERERS), Component::Orderer.selector())
}

/// The budget of a hospital's peers.
pub fn peers(plan: &HospitalPlan) -> PodDisruptionBudget {
    let mut selector = Component::Peer.selector();
    selector.insert(names::HOSPITAL.into(), plan.parent.name.clone());
    one_at_a_time(labelled(plan.parent.owned(names::peers(&plan.parent.name)), &plan.parent.name), selector)
}

fn one_at_a_time(metadata: ObjectMeta, selector: BTreeMap<String, String>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }),
            // A pod that never became ready helps no quorum and must not hold up a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
