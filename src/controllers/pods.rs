//! How the pods of ledger nodes and contracts are doing. Pure look-ups in the caches.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use ehrnet_api::conditions::Reason;
use ehrnet_observe::World;
use ehrnet_status::Finding;

/// Whether the pod of a node answers, whatever revision it is.
pub fn is_ready(world: &World, namespace: &str, name: &str) -> bool {
    world.stateful_sets.get(namespace, name).is_some_and(|set| ready_replicas(&set) >= 1)
}

/// Whether the pod of a node answers and is of the wanted revision.
pub fn is_settled(world: &World, namespace: &str, name: &str) -> bool {
    world.stateful_sets.get(namespace, name).is_none_or(|set| {
        let status = set.status.clone().unwrap_or_default();
        let observed = status.observed_generation >= set.metadata.generation;
        let updated = status.update_revision.is_none() || status.update_revision == status.current_revision;
        observed && updated && ready_replicas(&set) >= 1
    })
}

/// Whether something other than time keeps the pod of a node from answering.
pub fn is_failing(world: &World, namespace: &str, name: &str) -> bool {
    finding(world, namespace, name).reason == Reason::PodFailing
}

fn ready_replicas(set: &StatefulSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

/// How the pod of a node is doing.
pub struct NodePod {
    /// Whether it answers, whatever revision it is.
    pub is_ready: bool,
    /// Whether it runs as declared, and if not, what keeps it from that.
    pub finding: Finding,
}

/// How the pod of a node is doing now.
pub fn node(world: &World, namespace: &str, name: &str) -> NodePod {
    NodePod { is_ready: is_ready(world, namespace, name), finding: finding(world, namespace, name) }
}

fn finding(world: &World, namespace: &str, name: &str) -> Finding {
    let Some(set) = world.stateful_sets.get(namespace, name) else {
        return Finding::not(Reason::Progressing, format!("StatefulSet {name} is not made yet"));
    };
    if is_settled(world, namespace, name) {
        return Finding::good("the node runs and answers");
    }
    let pod = world.pods.get(namespace, &format!("{name}-0"));
    match pod {
        Some(pod) => pod_problem(&pod)
            .unwrap_or_else(|| Finding::not(Reason::WaitingForPod, format!("pod {} is starting", pod.name_any()))),
        None if set.status.as_ref().is_some_and(|status| status.replicas > 0) => {
            Finding::not(Reason::WaitingForPod, format!("pod {name}-0 is starting"))
        }
        None => Finding::not(
            Reason::WaitingForPod,
            format!("pod {name}-0 is not made yet: if this lasts, see the Events of StatefulSet {name}"),
        ),
    }
}

/// Whether the newest pods of a Deployment run and no old one is left, and if not, what keeps them.
pub fn deployment_finding(world: &World, namespace: &str, name: &str) -> Finding {
    let Some(deployment) = world.deployments.get(namespace, name) else {
        return Finding::not(Reason::Progressing, format!("Deployment {name} is not made yet"));
    };
    let status = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let (all, new) = (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
    let observed = status.observed_generation >= deployment.metadata.generation;
    if observed && new >= wanted && all <= new && status.available_replicas.unwrap_or(0) >= wanted {
        return Finding::good("the contract runs");
    }
    let selector = spec.selector.match_labels.unwrap_or_default();
    let own = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none()
            && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    };
    let pods = world.pods.list(namespace);
    pods.iter().filter(own).find_map(|pod| pod_problem(pod)).unwrap_or_else(|| {
        let message = format!(
            "the pod of Deployment {name} is on its way: if this lasts, see the Events of the Deployment and its ReplicaSet"
        );
        Finding::not(Reason::WaitingForPod, message)
    })
}

/// What keeps a pod from running, if it is more than time.
fn pod_problem(pod: &Pod) -> Option<Finding> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        let why = condition.message.clone().unwrap_or_default();
        return Some(Finding::not(Reason::PodFailing, format!("pod {name} cannot be scheduled: {why}")));
    }
    status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten()).find_map(
        |container| {
            container_problem(container).map(|why| Finding::not(Reason::PodFailing, format!("pod {name}: {why}")))
        },
    )
}

fn container_problem(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone().unwrap_or_default();
        if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let message = waiting.message.clone().unwrap_or_default();
        let hint = match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                format!("image {} cannot be pulled", container.image)
            }
            "CrashLoopBackOff" => {
                format!("container {} keeps stopping: see kubectl logs --previous", container.name)
            }
            _ => format!("container {} waits ({reason})", container.name),
        };
        return Some(if message.is_empty() { hint } else { format!("{hint}: {message}") });
    }
    let ended = state.terminated.as_ref()?;
    Some(format!(
        "container {} ended with exit code {} ({})",
        container.name,
        ended.exit_code,
        ended.reason.clone().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(reason: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "elm-1-0"},
            "status": {"containerStatuses": [{
                "name": "orderer", "image": "nowhere/fabric-orderer:9", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "no such host"}}
            }]}
        }))
        .expect("a pod")
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named() {
        let finding = pod_problem(&waiting("ImagePullBackOff")).expect("a problem");
        assert_eq!(finding.reason, Reason::PodFailing);
        assert!(
            finding.message.contains("nowhere/fabric-orderer:9 cannot be pulled: no such host"),
            "{}",
            finding.message
        );
    }

    #[test]
    fn a_pod_that_only_needs_time_has_no_problem() {
        assert_eq!(pod_problem(&waiting("ContainerCreating")), None);
    }
}
