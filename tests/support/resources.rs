//! The resources of a namespace as somebody who watches them sees them.

use std::collections::BTreeMap;

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};

/// Kind and name of a resource.
pub type Id = (String, String);

/// All that are there.
pub type Resources = BTreeMap<Id, DynamicObject>;

/// Shows the resources of these kinds to `enough` after each change, until it says yes.
pub async fn follow(
    kinds: impl IntoIterator<Item = (String, Api<DynamicObject>)>,
    mut enough: impl FnMut(&Resources) -> bool,
) {
    let watches = kinds.into_iter().map(|(kind, api)| {
        watcher(api, watcher::Config::default()).default_backoff().map(move |event| (kind.clone(), event)).boxed()
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
