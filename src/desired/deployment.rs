//! Deployments: services that keep nothing, so that a new pod may start before the old one goes.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use super::plan::{ContractPlan, ContractRelease};
use super::{pod, stateful_set};

/// Seconds that a contract has to answer what it has begun.
const GRACE: i64 = 10;

/// The Deployment of one hospital's contract.
pub fn contract(
    plan: &ContractPlan,
    release: &ContractRelease,
    container: Container,
    volumes: Vec<Volume>,
) -> Deployment {
    let metadata = plan.metadata(plan.name());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: metadata.labels.clone(),
            annotations: Some(release.material.annotations()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::contract_account(&plan.parent.name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod::pod_security()),
            termination_grace_period_seconds: Some(GRACE),
            containers: vec![container],
            volumes: Some(volumes),
            image_pull_secrets: stateful_set::image_pull_secrets(plan.image.pull_secrets.clone()),
            ..PodSpec::default()
        }),
    };
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(3),
            selector: LabelSelector { match_labels: Some(plan.selector()), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}
