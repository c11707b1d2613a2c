//! ServiceAccounts: nodes have one of their own, without a token, because they never talk to Kubernetes.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::names;
use super::plan::{ContractPlan, NodePlan};
use super::secret::labelled;

/// The account of a node's pod.
pub fn node(plan: &NodePlan) -> ServiceAccount {
    ServiceAccount {
        metadata: labelled(plan.parent.owned(&plan.parent.name), &plan.hospital),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The account of all services of a contract.
pub fn contract(plan: &ContractPlan) -> ServiceAccount {
    ServiceAccount {
        metadata: plan.parent.owned(names::contract_account(&plan.parent.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
