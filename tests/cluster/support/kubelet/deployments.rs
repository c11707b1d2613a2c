//! The Deployment and ReplicaSet controllers in one, as far as Deployments of one pod need them.
//!
//! Not as in a cluster: there is no ReplicaSet, and the old pod goes before the new one comes, because both have one
//! address here. Pods are created as `kube-system/replicaset-controller`, with that account's own rights.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Shared;
use super::statefulsets::is_ready;
use super::workloads::{self, Controller, owner};

const REVISION: &str = "pod-template-hash";

/// Runs until it is dropped. `creator` is the account that creates pods.
pub async fn run(shared: Arc<Shared>, creator: Client) {
    let deployments: Api<Deployment> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let control = Control { shared, creator, deployments: deployments.clone(), pods: pods.clone() };
    workloads::run(deployments, pods, control).await;
}

struct Control {
    shared: Arc<Shared>,
    creator: Client,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
}

impl Controller<Deployment> for Control {
    async fn reconcile(&self, deployment: &Deployment) -> kube::Result<bool> {
        let spec = deployment.spec.as_ref().expect("the server requires it");
        assert_eq!(spec.replicas.unwrap_or(1), 1, "{}: a contract is one pod", deployment.name_any());
        let template = serde_json::to_vec(&spec.template).expect("a template is JSON");
        let name = format!("{}-{}", deployment.name_any(), &hex::encode(Sha256::digest(template))[..10]);
        let all = self.pods.list(&Default::default()).await?.items;
        let own: Vec<_> =
            all.into_iter().filter(|pod| owner::<Deployment>(pod) == Some(deployment.name_any())).collect();
        for old in own.iter().filter(|pod| pod.name_any() != name && pod.metadata.deletion_timestamp.is_none()) {
            let only_this = Preconditions { uid: old.uid(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            self.pods.delete(&old.name_any(), &parameters).await?;
        }
        if own.is_empty() {
            self.create(deployment, &name).await?;
        }
        let new = own.iter().find(|pod| pod.name_any() == name);
        self.report(deployment, own.len(), new).await?;
        Ok(true)
    }
}

impl Control {
    async fn create(&self, deployment: &Deployment, name: &str) -> kube::Result<()> {
        let template = deployment.spec.as_ref().expect("the server requires it").template.clone();
        let mut pod_spec = template.spec.unwrap_or_default();
        // The scheduler's part.
        pod_spec.node_name = Some("test-node".to_owned());
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(name.to_owned());
        metadata.owner_references = Some(vec![deployment.controller_owner_ref(&()).expect("a stored object")]);
        metadata.labels.get_or_insert_default().insert(REVISION.to_owned(), name.to_owned());
        let pod = Pod { metadata, spec: Some(pod_spec), status: None };
        let pods: Api<Pod> = Api::namespaced(self.creator.clone(), &self.shared.namespace);
        match pods.create(&PostParams::default(), &pod).await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.shared.refused(&deployment.name_any(), &status.message);
                Err(kube::Error::Api(status))
            }
            other => other.map(drop),
        }
    }

    async fn report(&self, deployment: &Deployment, pods: usize, new: Option<&Pod>) -> kube::Result<()> {
        let ready = i32::from(new.is_some_and(is_ready));
        let status = DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: Some(i32::try_from(pods).expect("a handful")),
            updated_replicas: Some(i32::from(new.is_some())),
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            ..DeploymentStatus::default()
        };
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"status": status}));
        self.deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }
}
