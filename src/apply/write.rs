//! The writes of objects.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Live;
use super::drift::drift;
use super::error::{ApplyError, Verb};
use super::ownership::Owner;
use super::unsettled::Unsettled;
use ehrnet_desired::names::MANAGER;

/// A namespaced kind that the operator writes.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What became of a write.
#[derive(Clone, Debug)]
pub struct Written<K> {
    /// The object as it is now.
    pub object: Arc<K>,
    /// What was done: for tests, where "nothing" cannot be seen in the object.
    pub change: Change,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: all was as declared. No request was sent.
    None,
    /// The object was made.
    Created,
    /// These fields, as JSON pointers, were brought back or removed.
    Repaired(Vec<String>),
}

/// Writes objects. It is no `Clone`: who is lent one for a while cannot keep it.
pub struct Applier {
    client: Client,
    unsettled: Unsettled,
}

impl Applier {
    /// Writes with this client.
    pub fn new(client: Client) -> Self {
        Self { client, unsettled: Unsettled::default() }
    }

    /// Makes the live object as `declared`: creates it, repairs what differs, or does nothing.
    pub async fn apply<K: Child>(
        &self,
        owner: &Owner,
        live: &dyn Live<K>,
        declared: &K,
    ) -> Result<Written<K>, ApplyError> {
        let at = At::<K>::of(&self.client, declared)?;
        let wanted = at.json(declared)?;
        let current = match live.get(&at.namespace, &at.name) {
            Some(known) => known,
            None => match at.read().await? {
                Some(found) => Arc::new(found),
                None => {
                    let object = Arc::new(at.server_side_apply(wanted, None).await?);
                    live.wrote(object.clone());
                    tracing::debug!(kind = at.kind, namespace = at.namespace, name = at.name, "made");
                    return Ok(Written { object, change: Change::Created });
                }
            },
        };
        owner.must_own(&*current)?;
        let found = drift(&at.json(&*current)?, &wanted);
        let uid = current.uid().unwrap_or_default();
        if found.is_empty() || self.unsettled.knows(&uid, &wanted, &found) {
            return Ok(Written { object: current, change: Change::None });
        }
        let object = Arc::new(at.repair(&current, declared, &wanted, &found.missing).await?);
        live.wrote(object.clone());
        tracing::info!(kind = at.kind, namespace = at.namespace, name = at.name, fields = ?found.paths().collect::<Vec<_>>(), "brought to what is declared");
        let left = drift(&at.json(&*object)?, &wanted);
        if self.unsettled.remember(&uid, &wanted, &left) {
            let fields: Vec<_> = left.paths().collect();
            tracing::warn!(kind = %K::kind(&()), namespace = at.namespace, name = at.name, ?fields,
                "something keeps these fields from being as declared; they are left alone until something else changes");
        }
        Ok(Written { object, change: Change::Repaired(found.paths().map(str::to_owned).collect()) })
    }

    /// Makes an object that must never be overwritten: keys, genesis blocks. If it exists, its content is left alone and
    /// only lost labels, annotations and owner references are put back.
    pub async fn create_once<K: Child>(
        &self,
        owner: &Owner,
        live: &dyn Live<K>,
        declared: &K,
    ) -> Result<Written<K>, ApplyError> {
        let at = At::<K>::of(&self.client, declared)?;
        let existing = match live.get(&at.namespace, &at.name) {
            Some(known) => known,
            None => match at.create(declared).await {
                Ok(object) => {
                    let object = Arc::new(object);
                    live.wrote(object.clone());
                    return Ok(Written { object, change: Change::Created });
                }
                // Somebody was first, perhaps this process with an answer that was lost: what stands there counts.
                Err(ApplyError::Conflict { .. }) => {
                    Arc::new(at.read().await?.ok_or_else(|| at.conflict(Verb::Create))?)
                }
                Err(error) => return Err(error),
            },
        };
        owner.must_own(&*existing)?;
        let metadata = json!({"metadata": at.json(declared)?["metadata"]});
        let found = drift(&at.json(&*existing)?, &metadata);
        if found.is_empty() {
            return Ok(Written { object: existing, change: Change::None });
        }
        let ObjectMeta { labels, annotations, owner_references, .. } = declared.meta().clone();
        let fields = json!({"metadata": {
            "labels": labels.unwrap_or_default(), "annotations": annotations.unwrap_or_default(),
            "ownerReferences": owner_references.unwrap_or_default(),
        }});
        let object = Arc::new(at.merge(&*existing, fields).await?);
        live.wrote(object.clone());
        Ok(Written { object, change: Change::Repaired(found.paths().map(str::to_owned).collect()) })
    }

    /// Puts `object` in the place of the state that it was made from: its `resourceVersion` must be unchanged.
    pub async fn update<K: Child>(&self, live: &dyn Live<K>, object: &K) -> Result<Arc<K>, ApplyError> {
        let at = At::<K>::of(&self.client, object)?;
        if object.resource_version().is_none() {
            return Err(at.malformed("it has no resourceVersion, so a replacement could lose a change"));
        }
        let object = Arc::new(at.update(object).await?);
        live.wrote(object.clone());
        Ok(object)
    }

    /// Sets the finalizers of `resource`, if nobody changed it since it was read.
    pub async fn finalizers<K: Child>(&self, resource: &K, finalizers: &[String]) -> Result<K, ApplyError> {
        At::<K>::of(&self.client, resource)?.merge(resource, json!({"metadata": {"finalizers": finalizers}})).await
    }
}

/// One object's place in the API.
pub(super) struct At<K> {
    pub(super) api: Api<K>,
    kind: String,
    namespace: String,
    pub(super) name: String,
}

impl<K: Child> At<K> {
    pub(super) fn of(client: &Client, object: &K) -> Result<Self, ApplyError> {
        let kind = K::kind(&()).into_owned();
        match (object.namespace(), object.meta().name.clone()) {
            (Some(namespace), Some(name)) => {
                let api = Api::namespaced(client.clone(), &namespace);
                Ok(Self { api, kind, namespace, name })
            }
            (_, name) => {
                let name = name.unwrap_or_default();
                Err(ApplyError::Malformed { kind, name, what: "it has no name or no namespace".to_owned() })
            }
        }
    }

    async fn read(&self) -> Result<Option<K>, ApplyError> {
        match self.api.get_opt(&self.name).await.transpose() {
            Some(found) => self.kept(Verb::Get, found).map(Some),
            None => Ok(None),
        }
    }

    async fn create(&self, object: &K) -> Result<K, ApplyError> {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.kept(Verb::Create, self.api.create(&parameters, object).await)
    }

    /// Applies to the object with that UID, or makes the object.
    async fn server_side_apply(&self, mut wanted: Value, uid: Option<String>) -> Result<K, ApplyError> {
        if let Some(uid) = uid {
            wanted["metadata"]["uid"] = uid.into();
        }
        let parameters = PatchParams::apply(MANAGER).force();
        self.kept(Verb::Patch, self.api.patch(&self.name, &parameters, &Patch::Apply(wanted)).await)
    }

    /// Server-side apply for what is missing; replacement for what nobody declared, and where both stand in each other's
    /// way (a volume that was given another source).
    async fn repair(&self, current: &K, declared: &K, wanted: &Value, missing: &[String]) -> Result<K, ApplyError> {
        let applied = if missing.is_empty() {
            None
        } else {
            match self.server_side_apply(wanted.clone(), current.uid()).await {
                Ok(object) => Some(object),
                Err(ApplyError::Refused { code: 422, .. }) => return self.overwrite(current, declared).await,
                Err(error) => return Err(error),
            }
        };
        let object = applied.as_ref().unwrap_or(current);
        if drift(&self.json(object)?, wanted).extra.is_empty() {
            return Ok(applied.unwrap_or_else(|| current.clone()));
        }
        self.overwrite(object, declared).await
    }

    /// Replaces `current` by what is declared, but keeps labels and annotations of others.
    async fn overwrite(&self, current: &K, declared: &K) -> Result<K, ApplyError> {
        let mut object = declared.clone();
        let meta = object.meta_mut();
        meta.uid = current.uid();
        meta.resource_version = current.resource_version();
        for (key, value) in current.labels() {
            meta.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in current.annotations() {
            meta.annotations.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
        }
        self.update(&object).await
    }

    async fn update(&self, object: &K) -> Result<K, ApplyError> {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.kept(Verb::Update, self.api.replace(&self.name, &parameters, object).await)
    }

    /// Merges some fields into exactly this state of the object.
    async fn merge(&self, object: &K, mut fields: Value) -> Result<K, ApplyError> {
        fields["metadata"]["uid"] = json!(object.uid());
        fields["metadata"]["resourceVersion"] = json!(object.resource_version());
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.kept(Verb::Patch, self.api.patch(&self.name, &parameters, &Patch::Merge(fields)).await)
    }

    pub(super) fn json<T: Serialize>(&self, object: &T) -> Result<Value, ApplyError> {
        serde_json::to_value(object).map_err(|error| self.malformed(&error.to_string()))
    }

    /// What the server answered, as the caches keep it.
    pub(super) fn kept(&self, verb: Verb, answer: kube::Result<K>) -> Result<K, ApplyError> {
        let mut object = answer.map_err(|error| self.failed(verb, error))?;
        super::slim(&mut object);
        Ok(object)
    }

    fn failed(&self, verb: Verb, error: kube::Error) -> ApplyError {
        ApplyError::from_api(verb, &self.kind, &self.namespace, &self.name, error)
    }

    fn conflict(&self, verb: Verb) -> ApplyError {
        ApplyError::Conflict { verb, kind: self.kind.clone(), name: self.name.clone() }
    }

    fn malformed(&self, what: &str) -> ApplyError {
        ApplyError::Malformed { kind: self.kind.clone(), name: self.name.clone(), what: what.to_owned() }
    }
}
