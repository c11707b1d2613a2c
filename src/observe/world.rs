//! The one reader of the cluster: a watch for each kind, and the caches that they fill.
//!
//! Invariant: one watch for one kind and namespace, shared by all controllers; after the start nothing is listed again
//! unless a watch breaks. Children are watched by the label that the operator gives them, never all of a namespace.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::object::HasStatus;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::cache::{Cache, Cached, Change};
use super::kept::{Kept, Packed};
use super::target::{Kind, Target};
use ehrnet_api::{Chaincode, Channel, ConsentPolicy, Hospital, Identity, Orderer, Peer, Status};
use ehrnet_apply::slim;

/// Selects the children that the operator made.
const MANAGED: &str = "app.kubernetes.io/managed-by=ehrnet";

/// Everything the operator knows of the cluster.
#[derive(Default)]
pub struct World {
    /// Declared hospitals.
    pub hospitals: Cache<Hospital>,
    /// Declared orderers.
    pub orderers: Cache<Orderer>,
    /// Declared peers.
    pub peers: Cache<Peer>,
    /// Declared channels.
    pub channels: Cache<Channel>,
    /// Declared contracts.
    pub chaincodes: Cache<Chaincode>,
    /// Declared consent policies.
    pub consent_policies: Cache<ConsentPolicy>,
    /// Declared identities.
    pub identities: Cache<Identity>,
    /// Secrets made by the operator.
    pub secrets: Cache<Secret, Packed<Secret>>,
    /// TLS Secrets of users, without their contents: they may be a hospital's CA.
    pub tls_secrets: Cache<PartialObjectMeta<Secret>, Packed<PartialObjectMeta<Secret>>>,
    /// ConfigMaps made by the operator.
    pub config_maps: Cache<ConfigMap, Packed<ConfigMap>>,
    /// Services made by the operator.
    pub services: Cache<Service, Packed<Service>>,
    /// Service accounts made by the operator.
    pub service_accounts: Cache<ServiceAccount, Packed<ServiceAccount>>,
    /// Network policies made by the operator.
    pub network_policies: Cache<NetworkPolicy, Packed<NetworkPolicy>>,
    /// Disruption budgets made by the operator.
    pub disruption_budgets: Cache<PodDisruptionBudget, Packed<PodDisruptionBudget>>,
    /// Volume claims made by the operator.
    pub volume_claims: Cache<PersistentVolumeClaim, Packed<PersistentVolumeClaim>>,
    /// StatefulSets made by the operator.
    pub stateful_sets: Cache<StatefulSet, Packed<StatefulSet>>,
    /// Deployments made by the operator.
    pub deployments: Cache<Deployment, Packed<Deployment>>,
    /// Pods of the operator's StatefulSets and Deployments.
    pub pods: Cache<Pod, Packed<Pod>>,
}

/// News from the watches.
#[derive(Debug)]
pub enum News {
    /// These resources may have something to do.
    Affected(Vec<Target>),
    /// Somebody else changed or deleted what was made for these resources, which are among the affected ones, too.
    Drifted(Vec<Target>),
    /// An object cannot be read; it is left alone, the others go on.
    Malformed {
        /// Which one.
        target: Target,
        /// Its UID: metadata can be read where the rest cannot.
        uid: String,
        /// Why.
        error: String,
    },
}

/// Where to send news of a change, and how to read what it means.
struct Feed<K: 'static, S: 'static> {
    world: Arc<World>,
    cache: fn(&World) -> &Cache<K, S>,
    affected: fn(&World, &K) -> Vec<Target>,
    /// Whether a change concerns nobody else, for kinds that have such changes.
    private: Option<fn(&K, &K) -> bool>,
    origin: Origin,
    news: mpsc::UnboundedSender<News>,
    progress: watch::Sender<Progress>,
}

/// Who writes the objects of a watch.
#[derive(Clone, Copy)]
enum Origin {
    /// Users write the spec, the pass of the resource its status.
    Declared(Kind),
    /// The pass of the owner.
    Made,
    /// Others.
    Foreign,
}

/// How the first listings went, by namespace (empty: the whole cluster).
#[derive(Default)]
struct Progress(BTreeMap<String, Listings>);

/// First listings in one namespace, one per watch.
#[derive(Default)]
struct Listings {
    complete: usize,
    denied: usize,
}

impl Progress {
    /// Whether a namespace with so many watches needs no more waiting: all of it is known, or it is closed to us as a
    /// whole. A watched namespace that was deleted took our Role with it, and must not keep the others waiting. Known
    /// in part, it would mislead: what looks absent may only be unseen.
    fn settled(&self, shard: &str, watches: usize) -> bool {
        self.0
            .get(shard)
            .is_some_and(|listings| listings.complete == watches || (!shard.is_empty() && listings.denied == watches))
    }
}

impl World {
    /// Starts all watches. `namespaces` empty means the whole cluster.
    pub fn start(client: &Client, namespaces: &[String], news: mpsc::UnboundedSender<News>) -> (Arc<Self>, Watches) {
        let world = Arc::new(Self::default());
        let (progress, done) = watch::channel(Progress::default());
        let mut watches = Watches { tasks: JoinSet::new(), done, expected: BTreeMap::new() };
        let mut starter =
            Starter { client, namespaces, world: &world, news: &news, progress: &progress, watches: &mut watches };
        starter.declared(|w| &w.hospitals, Kind::Hospital, super::affected::by_hospital);
        starter.declared(|w| &w.orderers, Kind::Orderer, super::affected::by_orderer);
        starter.declared(|w| &w.peers, Kind::Peer, super::affected::by_peer);
        starter.declared(|w| &w.channels, Kind::Channel, super::affected::by_channel);
        starter.declared(|w| &w.chaincodes, Kind::Chaincode, super::affected::by_chaincode);
        starter.declared(|w| &w.consent_policies, Kind::ConsentPolicy, super::affected::by_consent_policy);
        starter.declared(|w| &w.identities, Kind::Identity, super::affected::by_identity);
        starter.children(|w| &w.secrets, super::affected::by_shared_child::<Secret>);
        starter.children(|w| &w.config_maps, super::affected::by_shared_child::<ConfigMap>);
        starter.children(|w| &w.services, super::affected::by_child::<Service>);
        starter.children(|w| &w.service_accounts, super::affected::by_child::<ServiceAccount>);
        starter.children(|w| &w.network_policies, super::affected::by_child::<NetworkPolicy>);
        starter.children(|w| &w.disruption_budgets, super::affected::by_shared_child::<PodDisruptionBudget>);
        starter.children(|w| &w.volume_claims, super::affected::by_child::<PersistentVolumeClaim>);
        starter.children(|w| &w.stateful_sets, super::affected::by_child::<StatefulSet>);
        starter.children(|w| &w.deployments, super::affected::by_child::<Deployment>);
        starter.pods();
        starter.referenced_secrets();
        (world, watches)
    }
}

/// The running watches.
pub struct Watches {
    tasks: JoinSet<()>,
    done: watch::Receiver<Progress>,
    /// Watches of each namespace.
    expected: BTreeMap<String, usize>,
}

impl Watches {
    /// Waits until every first listing is complete; a namespace that is closed to us as a whole is not waited for.
    pub async fn ready(&mut self) {
        let settled = |done: &Progress| self.expected.iter().all(|(shard, watches)| done.settled(shard, *watches));
        // The senders live as long as the watch tasks, so an error means the process is going down.
        if self.done.wait_for(settled).await.is_err() {
            tracing::debug!("watches ended before they were complete");
        }
    }

    /// Ends all watches.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Starter<'a> {
    client: &'a Client,
    namespaces: &'a [String],
    world: &'a Arc<World>,
    news: &'a mpsc::UnboundedSender<News>,
    progress: &'a watch::Sender<Progress>,
    watches: &'a mut Watches,
}

impl Starter<'_> {
    fn shards<K>(&self) -> Vec<(String, Api<K>)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        if self.namespaces.is_empty() {
            return vec![(String::new(), Api::all(self.client.clone()))];
        }
        self.namespaces.iter().map(|ns| (ns.clone(), Api::namespaced(self.client.clone(), ns))).collect()
    }

    fn feed<K: 'static, S: 'static>(
        &self,
        cache: fn(&World) -> &Cache<K, S>,
        affected: fn(&World, &K) -> Vec<Target>,
        origin: Origin,
    ) -> Feed<K, S> {
        let (world, news, progress) = (self.world.clone(), self.news.clone(), self.progress.clone());
        Feed { world, cache, affected, private: None, origin, news, progress }
    }

    fn declared<K>(&mut self, cache: fn(&World) -> &Cache<K>, kind: Kind, affected: fn(&World, &K) -> Vec<Target>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + HasStatus<Status: Status>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let private: Option<fn(&K, &K) -> bool> = match kind {
            Kind::Channel | Kind::Orderer | Kind::Peer => Some(super::affected::is_progress),
            _ => None,
        };
        for (shard, api) in self.shards::<DeserializeGuard<K>>() {
            let feed = Feed { private, ..self.feed(cache, affected, Origin::Declared(kind)) };
            let events = watcher::watcher(api, selection()).default_backoff().modify(slim);
            *self.watches.expected.entry(shard.clone()).or_default() += 1;
            self.watches.tasks.spawn(async move {
                let valid = events.filter_map(|event| {
                    let event = event.map(|event| feed.readable(kind, event));
                    std::future::ready(event.transpose())
                });
                feed.run(&shard, valid).await;
            });
        }
    }

    fn children<K>(&mut self, cache: fn(&World) -> &Cache<K, Packed<K>>, affected: fn(&World, &K) -> Vec<Target>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        self.watch(cache, selection().labels(MANAGED), affected, Origin::Made);
    }

    fn pods(&mut self) {
        let config = selection().labels(MANAGED);
        self.watch(|w| &w.pods, config, super::affected::by_pod, Origin::Foreign);
    }

    fn referenced_secrets(&mut self) {
        let config = selection().fields("type=kubernetes.io/tls");
        self.watch(|w| &w.tls_secrets, config, super::affected::by_referenced_secret, Origin::Foreign);
    }

    fn watch<K>(
        &mut self,
        cache: fn(&World) -> &Cache<K, Packed<K>>,
        config: watcher::Config,
        affected: fn(&World, &K) -> Vec<Target>,
        origin: Origin,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        for (shard, api) in self.shards::<K>() {
            let feed = self.feed(cache, affected, origin);
            let events = watcher::watcher(api, config.clone()).default_backoff().modify(slim);
            *self.watches.expected.entry(shard.clone()).or_default() += 1;
            self.watches.tasks.spawn(async move { feed.run(&shard, events).await });
        }
    }
}

impl<K: Cached + Resource<DynamicType = ()>, S: Kept<K>> Feed<K, S> {
    async fn run(&self, shard: &str, events: impl Stream<Item = watcher::Result<Event<K>>> + Send) {
        let mut events = std::pin::pin!(events);
        let (mut complete, mut denied) = (false, false);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let first = matches!(event, Event::InitDone) && !complete;
                    self.take(shard, event);
                    if first {
                        complete = true;
                        self.count(shard, |listings| {
                            listings.complete += 1;
                            listings.denied -= usize::from(denied);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), namespace = shard, %error, "watch interrupted; it is tried again");
                    if !complete && !denied && is_denied(&error) {
                        denied = true;
                        self.count(shard, |listings| listings.denied += 1);
                    }
                }
            }
        }
    }

    fn count(&self, shard: &str, change: impl FnOnce(&mut Listings)) {
        self.progress.send_modify(|done| change(done.0.entry(shard.to_owned()).or_default()));
    }

    fn take(&self, shard: &str, event: Event<K>) {
        for change in (self.cache)(&self.world).observe(shard, event) {
            self.announce(&change);
        }
    }

    fn announce(&self, change: &Change<K, S>) {
        let states = || change.before.iter().chain(&change.after);
        let writers: Vec<Target> = states().flat_map(|object| self.writers(object)).collect();
        if matches!(self.origin, Origin::Made) && change.is_drift() {
            // A closed receiver means that the process is going down.
            let _ = self.news.send(News::Drifted(writers.clone()));
        }
        let mut targets: Vec<Target> = states().flat_map(|object| (self.affected)(&self.world, object)).collect();
        targets.sort_unstable();
        targets.dedup();
        if let (Some(private), Some(before), Some(after)) = (self.private, &change.watched, &change.after)
            && private(&before.open(), after)
        {
            targets.retain(|target| writers.contains(target));
        }
        if change.is_echo() || change.while_written {
            // Whoever wrote it went on from there, or will when its write ends.
            targets.retain(|target| !writers.contains(target));
        }
        if matches!(self.origin, Origin::Declared(_)) {
            targets.extend(writers.iter().flat_map(|changed| super::affected::outdated(&self.world, changed)));
        }
        if !targets.is_empty() {
            let name = states().next().map(|object| object.name_any());
            tracing::trace!(kind = %K::kind(&()), name, ?targets, "news");
            // A closed receiver means that the process is going down.
            let _ = self.news.send(News::Affected(targets));
        }
    }

    /// Whose passes write an object.
    fn writers(&self, object: &K) -> Vec<Target> {
        match self.origin {
            Origin::Declared(kind) => {
                let (namespace, name) = namespace_and_name(object);
                vec![Target::new(kind, namespace, name)]
            }
            Origin::Made => super::affected::owner(object),
            Origin::Foreign => Vec::new(),
        }
    }

    /// Passes readable objects on; an unreadable one is kept as it was last known, and reported.
    fn readable(&self, kind: Kind, event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
        let malformed = |error: kube::core::error_boundary::InvalidObject, listed: bool| {
            let namespace = error.metadata.namespace.clone().unwrap_or_default();
            let target = Target::new(kind, namespace, error.metadata.name.clone().unwrap_or_default());
            if listed {
                (self.cache)(&self.world).keep_listed(&target.namespace, &target.name);
            }
            let uid = error.metadata.uid.unwrap_or_default();
            let _ = self.news.send(News::Malformed { target, uid, error: error.error });
            None
        };
        match event {
            Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
            Event::InitApply(DeserializeGuard(Ok(object))) => Some(Event::InitApply(object)),
            Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
            Event::Apply(DeserializeGuard(Err(error))) => malformed(error, false),
            Event::InitApply(DeserializeGuard(Err(error))) => malformed(error, true),
            Event::Delete(DeserializeGuard(Err(error))) => {
                let (namespace, name) =
                    (error.metadata.namespace.unwrap_or_default(), error.metadata.name.unwrap_or_default());
                match (self.cache)(&self.world).forget(&namespace, &name) {
                    Some(change) => self.announce(&change),
                    // It never was readable. A pass that finds it gone forgets what is remembered of it.
                    None => drop(self.news.send(News::Affected(vec![Target::new(kind, namespace, name)]))),
                }
                None
            }
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
        }
    }
}

/// How many objects the API server gives at a time. An answer and what is read from it are in memory together, and what a
/// large one took is not given back: with 40 networks, pages of 500 left 16 MB more behind.
const PAGE: u32 = 50;

/// Everything of a kind, in pages.
fn selection() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Whether the API server refused a listing for want of rights.
fn is_denied(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_forbidden())
}

/// `namespace` and `name` of an object, for messages and look-ups.
pub fn namespace_and_name<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(complete: usize, denied: usize) -> Progress {
        Progress(BTreeMap::from([("ward".to_owned(), Listings { complete, denied })]))
    }

    #[test]
    fn a_namespace_is_waited_for_until_all_of_it_is_known_or_all_of_it_is_closed() {
        assert!(!Progress::default().settled("ward", 3));
        assert!(!progress(2, 0).settled("ward", 3));
        assert!(!progress(1, 2).settled("ward", 3), "what is closed in part would look absent");
        assert!(progress(3, 0).settled("ward", 3));
        assert!(progress(0, 3).settled("ward", 3));
    }

    #[test]
    fn a_whole_cluster_that_is_closed_is_waited_for() {
        let closed = Progress(BTreeMap::from([(String::new(), Listings { complete: 0, denied: 3 })]));
        assert!(!closed.settled("", 3));
    }
}
