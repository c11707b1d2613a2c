//! Network policies hold: the kernel refuses what they do not allow.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{SHELL_IMAGE, SYSTEM};
use crate::declared::clinic;
use crate::scene::Scene;

/// Who knocks.
struct Visitor<'a> {
    name: &'a str,
    namespace: &'a str,
    labels: serde_json::Value,
}

/// The admin port of an orderer is the operator's alone; the gRPC port is open to pods that are marked as clients.
pub async fn a_stranger_does_not_reach_an_orderers_admin_port(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let host = format!("mercy-orderer.{}.svc.cluster.local", scene.namespace);
    let stranger = Visitor { name: "stranger", namespace: &scene.namespace, labels: json!({"app": "stranger"}) };
    let client =
        Visitor { name: "client", namespace: &scene.namespace, labels: json!({"ehrnet.dev/ledger-client": "true"}) };
    // Not under the labels of the operator's Deployment, which would count it as its own.
    let operator = json!({"app.kubernetes.io/name": "ehrnet", "app.kubernetes.io/component": "operator"});
    let operator = Visitor { name: "e2e-visitor", namespace: SYSTEM, labels: operator };

    let (stranger, client, operator) = tokio::join!(
        knock(&scene, &stranger, &host, [9443, 7050]),
        knock(&scene, &client, &host, [9443, 7050]),
        knock(&scene, &operator, &host, [9443, 7050]),
    );
    // Those who are let in show that the others would have been, were it not for the policy.
    assert_eq!(operator, "9443=open 7050=open");
    assert_eq!(client, "9443=closed 7050=open");
    assert_eq!(stranger, "9443=closed 7050=closed");
}

/// Runs a pod that tries to connect, and returns what it found. A closed port is tried for some seconds: the rules of a
/// new pod take a moment to be in force.
async fn knock(scene: &Scene, visitor: &Visitor<'_>, host: &str, ports: [u16; 2]) -> String {
    let script = r#"
        for port in $PORTS; do
          found=closed
          for attempt in 1 2 3 4 5; do
            if timeout 2 bash -c "exec 3<>/dev/tcp/$HOST/$port" 2>/dev/null; then found=open; break; fi
            sleep 1
          done
          said="$said$port=$found "
        done
        printf '%s' "${said% }" >/dev/termination-log"#;
    let pod = serde_json::from_value(json!({
        "metadata": {"name": visitor.name, "labels": visitor.labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "knock", "image": SHELL_IMAGE, "imagePullPolicy": "Never",
                "command": ["/bin/bash", "-c", script],
                "env": [
                    {"name": "HOST", "value": host},
                    {"name": "PORTS", "value": ports.map(|port| port.to_string()).join(" ")},
                    {"name": "PATH", "value": "/bin:/usr/bin"},
                ],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }));
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), visitor.namespace);
    pods.create(&PostParams::default(), &pod.expect("a pod")).await.expect("create");
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.clone());
        phase.is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
    };
    let pod = scene.until(&pods, visitor.name, "done", ended).await;
    pods.delete(visitor.name, &kube::api::DeleteParams::default()).await.expect("delete");
    let status = serde_json::to_value(pod.status).expect("JSON");
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    ended["message"].as_str().unwrap_or_else(|| panic!("{} found out nothing: {ended}", visitor.name)).to_owned()
}
