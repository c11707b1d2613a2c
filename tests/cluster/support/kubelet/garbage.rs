//! The garbage collector and the namespace controller: what lost its owner, or its namespace, is deleted.

use std::collections::BTreeSet;

use ehrnet_api::Kind;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::oneshot;

use crate::support::operator::ACCOUNT;

/// Kinds that are made for others, StatefulSets and Deployments among them, which own pods.
fn kinds() -> Vec<ApiResource> {
    let built_in = [
        ("", "v1", "Secret"),
        ("", "v1", "ConfigMap"),
        ("", "v1", "Service"),
        ("", "v1", "ServiceAccount"),
        ("", "v1", "PersistentVolumeClaim"),
        ("", "v1", "Pod"),
        ("apps", "v1", "StatefulSet"),
        ("apps", "v1", "Deployment"),
        ("policy", "v1", "PodDisruptionBudget"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
    ];
    let built_in =
        built_in.map(|(group, version, kind)| ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)));
    built_in.into_iter().chain(own_kinds()).collect()
}

fn own_kinds() -> Vec<ApiResource> {
    Kind::ALL.iter().map(|kind| kind.resource()).collect()
}

/// Deletes the dependents of owners as they go, until it is dropped. Says when it sees every owner.
pub async fn run(client: Client, namespace: String, ready: oneshot::Sender<()>) {
    let of_pods =
        ["StatefulSet", "Deployment"].map(|kind| ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind)));
    let owners: Vec<_> = own_kinds().into_iter().chain(of_pods).collect();
    let mut to_come = owners.len();
    let mut ready = Some(ready);
    let watches = owners.into_iter().map(|kind| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
        watcher(api, watcher::Config::default()).default_backoff().boxed()
    });
    let mut events = futures::stream::select_all(watches);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Delete(owner)) => collect(&client, &namespace, &owner.uid().unwrap_or_default()).await,
            Ok(watcher::Event::InitDone) => {
                to_come = to_come.saturating_sub(1);
                if to_come == 0
                    && let Some(ready) = ready.take()
                {
                    // Nobody waits any more if the test has ended.
                    let _ = ready.send(());
                }
            }
            _ => {}
        }
    }
}

async fn collect(client: &Client, namespace: &str, owner: &str) {
    for kind in kinds() {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        // An error here means that the test is over and its connection gone.
        let Ok(dependents) = api.list_metadata(&ListParams::default()).await else { return };
        for dependent in dependents {
            let owners: BTreeSet<_> = dependent.owner_references().iter().map(|o| o.uid.clone()).collect();
            if owners.len() == 1 && owners.contains(owner) {
                let only_this = Preconditions { uid: dependent.uid(), resource_version: None };
                delete(
                    &api,
                    &dependent.name_any(),
                    DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() },
                )
                .await;
            }
        }
    }
}

async fn delete(api: &Api<DynamicObject>, name: &str, parameters: DeleteParams) {
    match api.delete(name, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => panic!("delete {name}: {error}"),
    }
}

/// Deletes a namespace with everything in it, as the namespace controller does; returns when it is gone.
///
/// Finalizers are not touched: what holds one has to let go of it by itself.
pub async fn terminate_namespace(client: &Client, namespace: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(namespace, &DeleteParams::default()).await.expect("delete the namespace");
    loop {
        let mut left = 0;
        for kind in kinds() {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
            let mut objects = api.list_metadata(&ListParams::default()).await.expect("list").items;
            // The operator lives in another namespace, as a rule; here its account must outlive what it looks after.
            objects.retain(|object| object.name_any() != ACCOUNT || kind.kind != "ServiceAccount");
            left += objects.len();
            for object in objects.iter().filter(|o| o.metadata.deletion_timestamp.is_none()) {
                delete(&api, &object.name_any(), DeleteParams::default()).await;
            }
        }
        if left == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut terminating = namespaces.get(namespace).await.expect("it is still there");
    terminating.spec.get_or_insert_default().finalizers = None;
    let body = serde_json::to_vec(&terminating).expect("a namespace is JSON");
    let request = http::Request::put(format!("/api/v1/namespaces/{namespace}/finalize"));
    let request = request.header("content-type", "application/json").body(body).expect("a request");
    client.request::<Namespace>(request).await.expect("finalize the namespace");
}
