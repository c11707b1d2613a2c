//! The StatefulSet controller, as far as sets of at most one pod need it.
//!
//! Pods are created as `kube-system/statefulset-controller` with that account's own rights, so that Pod Security and
//! the ServiceAccount admission judge them as in a cluster.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Shared;
use super::workloads::{self, Controller};

const REVISION: &str = "controller-revision-hash";

/// Runs until it is dropped. `creator` is the account that creates pods.
pub async fn run(shared: Arc<Shared>, creator: Client) {
    let sets: Api<StatefulSet> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let control = Control { shared, creator, sets: sets.clone(), pods: pods.clone() };
    workloads::run(sets, pods, control).await;
}

struct Control {
    shared: Arc<Shared>,
    creator: Client,
    sets: Api<StatefulSet>,
    pods: Api<Pod>,
}

impl Controller<StatefulSet> for Control {
    async fn reconcile(&self, set: &StatefulSet) -> kube::Result<bool> {
        let spec = set.spec.as_ref().expect("the server requires it");
        let wanted = spec.replicas.unwrap_or(1);
        assert!(wanted <= 1, "{}: a ledger node is a set of one", set.name_any());
        let revision = revision(set);
        let name = format!("{}-0", set.name_any());
        let pod = self.pods.get_opt(&name).await?;
        let pod = match pod {
            None if wanted == 1 => self.create(set, &name, &revision).await?,
            Some(pod)
                if pod.metadata.deletion_timestamp.is_none()
                    && (wanted == 0 || self.is_outdated(set, &pod, &revision)) =>
            {
                self.delete(&pod).await?;
                Some(pod)
            }
            other => other,
        };
        self.report(set, pod.as_ref(), &revision).await?;
        Ok(wanted == 0 || pod.is_some())
    }
}

impl Control {
    fn is_outdated(&self, set: &StatefulSet, pod: &Pod, revision: &str) -> bool {
        let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref()?.type_.as_deref());
        strategy != Some("OnDelete") && pod.labels().get(REVISION).map(String::as_str) != Some(revision)
    }

    async fn delete(&self, pod: &Pod) -> kube::Result<()> {
        let only_this = Preconditions { uid: pod.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        self.pods.delete(&pod.name_any(), &parameters).await.map(drop)
    }

    async fn create(&self, set: &StatefulSet, name: &str, revision: &str) -> kube::Result<Option<Pod>> {
        let spec = set.spec.as_ref().expect("the server requires it");
        let template = &spec.template;
        let mut pod_spec: PodSpec = template.spec.clone().unwrap_or_default();
        for claim in spec.volume_claim_templates.iter().flatten() {
            let volume = self.claim(set, claim).await?;
            let volumes = pod_spec.volumes.get_or_insert_default();
            volumes.retain(|other| other.name != volume.name);
            volumes.push(volume);
        }
        pod_spec.hostname = Some(name.to_owned());
        pod_spec.subdomain = spec.service_name.clone();
        // The scheduler's part.
        pod_spec.node_name = Some("test-node".to_owned());
        let mut metadata = template.metadata.clone().unwrap_or_default();
        metadata.name = Some(name.to_owned());
        metadata.owner_references = Some(vec![set.controller_owner_ref(&()).expect("a stored object")]);
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(REVISION.into(), revision.into());
        labels.insert("statefulset.kubernetes.io/pod-name".into(), name.into());
        labels.insert("apps.kubernetes.io/pod-index".into(), "0".into());
        let pod = Pod { metadata, spec: Some(pod_spec), status: None };
        match Api::<Pod>::namespaced(self.creator.clone(), &self.shared.namespace)
            .create(&PostParams::default(), &pod)
            .await
        {
            Ok(pod) => Ok(Some(pod)),
            // Forbidden: by Pod Security, or because the ServiceAccount does not exist (yet).
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.shared.refused(&set.name_any(), &status.message);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, set: &StatefulSet, template: &PersistentVolumeClaim) -> kube::Result<Volume> {
        let volume = template.name_any();
        let name = format!("{volume}-{}-0", set.name_any());
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.shared.client.clone(), &self.shared.namespace);
        let spec = set.spec.as_ref().expect("the server requires it");
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let goes_with_set = policy.and_then(|p| p.when_deleted.as_deref()) == Some("Delete");
        let owner = OwnerReference {
            controller: None,
            block_owner_deletion: None,
            ..set.controller_owner_ref(&()).expect("a stored object")
        };
        let mut claim = template.clone();
        claim.metadata.name = Some(name.clone());
        claim.metadata.labels.get_or_insert_default().extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.metadata.owner_references = goes_with_set.then(|| vec![owner.clone()]);
        claim.status = None;
        if claims.get_opt(&name).await?.is_none() {
            claims.create(&PostParams::default(), &claim).await?;
        } else {
            let owners = if goes_with_set { json!([owner]) } else { json!(null) };
            claims
                .patch_metadata(
                    &name,
                    &PatchParams::default(),
                    &Patch::Merge(json!({"metadata": {"ownerReferences": owners}})),
                )
                .await?;
        }
        let volume_source = json!({"name": volume, "persistentVolumeClaim": {"claimName": name}});
        Ok(serde_json::from_value(volume_source).expect("a volume"))
    }

    async fn report(&self, set: &StatefulSet, pod: Option<&Pod>, revision: &str) -> kube::Result<()> {
        let current = pod.and_then(|pod| pod.labels().get(REVISION).cloned());
        let ready = i32::from(pod.is_some_and(is_ready));
        let status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            replicas: i32::from(pod.is_some()),
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            current_replicas: Some(i32::from(current.as_deref() == Some(revision))),
            updated_replicas: Some(i32::from(current.as_deref() == Some(revision))),
            current_revision: current.or_else(|| Some(revision.to_owned())),
            update_revision: Some(revision.to_owned()),
            ..StatefulSetStatus::default()
        };
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let patch = json!({"status": status});
        self.sets.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}

/// Whether the pod's `Ready` condition is true and it is not going away.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn revision(set: &StatefulSet) -> String {
    let template = serde_json::to_vec(&set.spec.as_ref().map(|s| &s.template)).expect("a template is JSON");
    format!("{}-{}", set.name_any(), &hex::encode(Sha256::digest(template))[..10])
}
