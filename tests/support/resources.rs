//! The resources of a namespace: access to them by kind, and how they look to somebody who watches them.

use std::collections::BTreeMap;

use ehrnet_api::Kind;
use futures::StreamExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

/// Kind and name of a resource.
pub type Id = (String, String);

/// All that are there.
pub type Resources = BTreeMap<Id, DynamicObject>;

/// How the server calls a kind of `ehrnet.dev`.
pub fn resource(kind: &str) -> ApiResource {
    Kind::parse(kind).unwrap_or_else(|| panic!("{kind} is no declared kind")).resource()
}

/// Access to a kind of `ehrnet.dev` in a namespace.
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// Shows the resources of all kinds in a namespace to `enough` after each change, until it says yes.
pub async fn follow(client: &Client, namespace: &str, mut enough: impl FnMut(&Resources) -> bool) {
    let watches = Kind::ALL.iter().map(|kind| {
        let events = watcher(api(client, namespace, kind.as_str()), watcher::Config::default()).default_backoff();
        events.map(move |event| (kind.as_str().to_owned(), event)).boxed()
    });
    let mut events = futures::stream::select_all(watches);
    let mut resources = Resources::new();
    while let Some((kind, event)) = events.next().await {
        // After an error the watch begins anew.
        let Ok(event) = event else { continue };
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                drop(resources.insert((kind, object.name_any()), object))
            }
            Event::Delete(object) => drop(resources.remove(&(kind, object.name_any()))),
            Event::Init => resources.retain(|(of, _), _| *of != kind),
            Event::InitDone => {}
        }
        if enough(&resources) {
            return;
        }
    }
}
