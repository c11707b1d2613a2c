//! The operator comes and goes; the networks do not notice. These scenarios run alone.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::audit::{Audit, Request};
use crate::cluster::{RELEASE, SYSTEM};
use crate::declared::{clinic, hospital};
use crate::scene::{LIMIT, Scene};

/// Silence can only be heard by listening for a while.
const LISTENING: Duration = Duration::from_secs(5);

/// The operator's pod is deleted: another one leads, and does not touch what is as declared.
pub async fn a_new_leader_changes_nothing(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let pods = scene.pods().await;
    let audit = quiet(&scene).await;
    change_leader(&scene).await;
    settled(&scene).await;
    assert_eq!(scene.pods().await, pods, "a pod was restarted or replaced");
    assert_eq!(but_newcomers(audit.as_ref()), "", "a restart of the operator is no reason to write");
}

/// The chart is uninstalled: definitions, resources and pods stay. Installed again, it takes them back as they are.
pub async fn a_network_outlives_the_chart(scene: Scene) {
    let network = clinic();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let pods = scene.pods().await;
    let audit = quiet(&scene).await;

    scene.cluster.uninstall().expect("uninstall");
    let definitions: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    for definition in ehrnet_api::crds() {
        definitions.get(&definition.name_any()).await.expect("the definition stays");
    }
    scene.ready(&network).await;
    assert_eq!(scene.pods().await, pods);

    scene.cluster.install().expect("install");
    settled(&scene).await;
    assert_eq!(scene.pods().await, pods, "a pod was restarted or replaced");
    assert_eq!(but_newcomers(audit.as_ref()), "", "a new installation is no reason to write");
}

/// In the whole run the API server refused the operator nothing for want of rights.
pub async fn nothing_was_refused_to_its_account(scene: Scene) {
    let Some(log) = scene.cluster.audit_log() else {
        return println!("not checked: this cluster does not show its audit log");
    };
    let requests = Audit::all(log).requests();
    assert!(!requests.is_empty(), "the audit log knows nothing of the operator");
    // A namespace that was deleted took the operator's Role with it, and the chart's end that of the Lease.
    let expected = |request: &&Request| request.namespace == "e2e-gone" || request.resource == "leases";
    let refused = |request: &&Request| request.code == 403 && !expected(request);
    let refused: Vec<_> = requests.iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Deletes the operator's pod and waits until another one leads.
pub async fn change_leader(scene: &Scene) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), SYSTEM);
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), SYSTEM);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let old: Vec<_> = pods.list(&selector).await.expect("pods").iter().map(ResourceExt::name_any).collect();
    for name in &old {
        pods.delete(name, &DeleteParams::default()).await.expect("delete");
    }
    let another = move |lease: Option<&Lease>| {
        let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default();
        !holder.is_empty() && !old.contains(&holder)
    };
    scene.until(&leases, RELEASE, "held by another", another).await;
}

/// Waits until the operator has looked at everything: it answers to something new, and then some.
async fn settled(scene: &Scene) {
    let newcomer = [hospital("newcomer")];
    scene.apply(&newcomer).await;
    scene.ready(&newcomer).await;
    tokio::time::sleep(LISTENING).await;
}

/// Waits until the operator has written nothing for a while, and listens from then on. The networks of scenarios that ran
/// before are still reported on: a peer's height, say, which nobody's change but a transaction made.
async fn quiet(scene: &Scene) -> Option<Audit> {
    let log = scene.cluster.audit_log()?;
    let begin = Instant::now();
    loop {
        let audit = Audit::from_now(log.clone());
        // That nothing is written has no event.
        tokio::time::sleep(LISTENING).await;
        let writes = but_newcomers(Some(&audit));
        if writes.is_empty() {
            return Some(audit);
        }
        assert!(begin.elapsed() < LIMIT, "the operator does not come to rest: {writes}");
    }
}

/// Writes to anything but what [`settled`] declared. The other namespaces are included: nobody changed anything there.
fn but_newcomers(audit: Option<&Audit>) -> String {
    let Some(audit) = audit else { return String::new() };
    let writes =
        audit.requests().into_iter().filter(|request| request.writes() && !request.name.starts_with("newcomer"));
    let writes = writes.filter(|request| !request.resource.contains("events"));
    writes.map(|w| format!("{} {} {}/{}\n", w.verb, w.resource, w.namespace, w.name)).collect()
}
