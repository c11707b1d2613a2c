//! StatefulSets: one for each node, with one pod, because each node has keys and a ledger of its own.
//!
//! `Parallel` pod management: with the default, a template that cannot start blocks its own correction until someone
//! deletes the pod (Kubernetes: "forced rollback").

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Affinity, Container, LocalObjectReference, PodAffinityTerm, PodAntiAffinity, PodSpec, PodTemplateSpec, Volume,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::plan::{Material, NodePlan};
use super::pod;
use super::secret::labelled;

/// Seconds that a node has to close its ledger.
const GRACE: i64 = 30;

/// The containers and volumes of a node.
pub struct PodParts {
    /// Containers that start before the node and run beside it.
    pub sidecars: Vec<Container>,
    /// The node.
    pub container: Container,
    /// What they mount.
    pub volumes: Vec<Volume>,
    /// Secrets with registry credentials.
    pub pull_secrets: Vec<String>,
}

/// The StatefulSet of a node.
pub fn node(plan: &NodePlan, material: &Material, parts: PodParts) -> StatefulSet {
    let PodParts { sidecars, container, volumes, pull_secrets } = parts;
    let metadata = labelled(plan.parent.owned(&plan.parent.name), &plan.hospital);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: metadata.labels.clone(),
            annotations: Some(material.annotations()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(plan.parent.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod::pod_security()),
            termination_grace_period_seconds: Some(GRACE),
            init_containers: (!sidecars.is_empty()).then_some(sidecars),
            containers: vec![container],
            volumes: Some(volumes),
            image_pull_secrets: image_pull_secrets(pull_secrets),
            ..scheduled(plan)
        }),
    };
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(plan.parent.name.clone()),
            pod_management_policy: Some("Parallel".into()),
            revision_history_limit: Some(3),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: None,
            }),
            selector: LabelSelector { match_labels: Some(plan.parent.selector()), ..LabelSelector::default() },
            template,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// References to Secrets with registry credentials.
pub(super) fn image_pull_secrets(mut names: Vec<String>) -> Option<Vec<LocalObjectReference>> {
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.into_iter().map(|name| LocalObjectReference { name }).collect())
}

/// A pod spec with the user's wishes about where it runs and nothing else.
fn scheduled(plan: &NodePlan) -> PodSpec {
    let wishes = &plan.scheduling;
    PodSpec {
        node_selector: (!wishes.node_selector.is_empty()).then(|| wishes.node_selector.clone()),
        tolerations: (!wishes.tolerations.is_empty()).then(|| wishes.tolerations.clone()),
        affinity: Some(wishes.affinity.clone().unwrap_or_else(|| apart(plan))),
        topology_spread_constraints: (!wishes.topology_spread_constraints.is_empty())
            .then(|| wishes.topology_spread_constraints.clone()),
        priority_class_name: wishes.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

/// Nodes of one kind prefer to stand on different Kubernetes nodes.
fn apart(plan: &NodePlan) -> Affinity {
    let same_kind = LabelSelector { match_labels: Some(plan.parent.component.selector()), ..LabelSelector::default() };
    let term = PodAffinityTerm {
        label_selector: Some(same_kind),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let preferred = vec![WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term }];
    let anti = PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(preferred),
        ..PodAntiAffinity::default()
    };
    Affinity { pod_anti_affinity: Some(anti), ..Affinity::default() }
}
