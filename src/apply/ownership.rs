//! Pure: whose is an object that bears a name we need?
//!
//! An owner reference with our resource's UID makes it ours. Keys and ledgers that outlive their resource have no owner
//! reference; they are ours if they are labelled as made by this operator for a resource of this name, and so a resource
//! created again takes them back. Everything else is somebody else's and is never touched: by UID and not by name,
//! because a resource that was deleted and created again has the same name.

use kube::{Resource, ResourceExt};

use super::error::ApplyError;
use ehrnet_desired::names;

/// The resource for which objects are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the resource, and so of every object written for it.
    pub namespace: String,
    /// Kind of the resource; empty for what the resources of a namespace share.
    pub kind: String,
    /// Name of the resource.
    pub name: String,
    /// `None` for what the resources of a namespace share: nothing owns that.
    uid: Option<String>,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The owner's.
    Ours,
    /// Of a deleted resource with the owner's kind and name; garbage collection removes it.
    Leftover,
    /// Somebody else's, with the end of a sentence "it ...".
    Foreign(String),
}

impl Owner {
    /// The owner of a resource's children; `None` if it has no UID, namespace or name, that is, is not from a cluster.
    pub fn of<K: Resource<DynamicType = ()>>(resource: &K) -> Option<Self> {
        let meta = resource.meta();
        Some(Self {
            namespace: meta.namespace.clone()?,
            kind: K::kind(&()).into_owned(),
            name: meta.name.clone()?,
            uid: Some(meta.uid.clone()?),
        })
    }

    /// What all resources of a namespace share, labelled with `instance`.
    pub fn shared(namespace: &str, instance: &str) -> Self {
        Self { namespace: namespace.to_owned(), kind: String::new(), name: instance.to_owned(), uid: None }
    }

    /// UID of the resource; `None` for what the resources of a namespace share.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Whether an object has this owner's UID among its owners.
    fn owns<K: Resource>(&self, object: &K) -> bool {
        let mut owners = object.owner_references().iter();
        self.uid.as_ref().is_some_and(|uid| owners.any(|owner| owner.uid == *uid))
    }

    /// Whose `object` is, seen from this owner.
    pub fn ownership<K: Resource>(&self, object: &K) -> Ownership {
        if self.owns(object) {
            return Ownership::Ours;
        }
        let label = |key: &str| object.labels().get(key).map(String::as_str);
        let managed = label(names::MANAGED_BY) == Some(names::MANAGER);
        let owners = object.owner_references();
        let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first()) else {
            return match (managed, label(names::INSTANCE)) {
                (true, Some(instance)) if instance == self.name && self.is_kind_of(object) => Ownership::Ours,
                (true, Some(instance)) => Ownership::Foreign(format!("was made for another resource, {instance}")),
                _ => Ownership::Foreign("was not made by this operator".to_owned()),
            };
        };
        if managed && owner.kind == self.kind && owner.name == self.name {
            return Ownership::Leftover;
        }
        Ownership::Foreign(format!("belongs to {} {}", owner.kind, owner.name))
    }

    /// Refuses an object that is not this owner's or on its way out.
    pub fn must_own<K: Resource<DynamicType = ()>>(&self, object: &K) -> Result<(), ApplyError> {
        let (kind, name) = (K::kind(&()).into_owned(), object.name_any());
        match self.ownership(object) {
            Ownership::Ours if object.meta().deletion_timestamp.is_none() => Ok(()),
            Ownership::Ours | Ownership::Leftover => Err(ApplyError::Leftover { kind, name }),
            Ownership::Foreign(holder) => Err(ApplyError::NameTaken { kind, name, holder }),
        }
    }

    /// What is shared is of no kind.
    fn is_kind_of<K: Resource>(&self, object: &K) -> bool {
        self.uid.is_none() || names::made_for(object).is_some_and(|(kind, _)| kind == self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_api::Peer;
    use k8s_openapi::api::core::v1::Secret;
    use names::{COMPONENT, INSTANCE, MANAGED_BY};
    use serde_json::json;

    fn owner() -> Owner {
        let peer = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer",
            "metadata": {"name": "peer0", "namespace": "mercy", "uid": "new"},
            "spec": {"hospitalRef": {"name": "mercy"}}
        });
        Owner::of(&serde_json::from_value::<Peer>(peer).expect("a peer")).expect("from a cluster")
    }

    fn secret(labels: serde_json::Value, owners: serde_json::Value) -> Secret {
        serde_json::from_value(json!({"metadata": {"name": "peer0", "labels": labels, "ownerReferences": owners}}))
            .expect("a secret")
    }

    fn ownership(labels: serde_json::Value, owners: serde_json::Value) -> Ownership {
        owner().ownership(&secret(labels, owners))
    }

    fn reference(kind: &str, name: &str, uid: &str) -> serde_json::Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
    }

    #[test]
    fn the_uid_decides_whatever_the_labels_say() {
        assert_eq!(ownership(json!({}), reference("Peer", "peer0", "new")), Ownership::Ours);
        let labels = json!({MANAGED_BY: "ehrnet", INSTANCE: "peer0", COMPONENT: "peer"});
        assert_eq!(ownership(labels.clone(), reference("Peer", "peer0", "old")), Ownership::Leftover);
        assert_eq!(
            ownership(labels, reference("Orderer", "peer0", "x")),
            Ownership::Foreign("belongs to Orderer peer0".into())
        );
    }

    #[test]
    fn what_outlived_its_resource_is_taken_back_by_one_of_the_same_kind_and_name() {
        let labels =
            |instance: &str, component: &str| json!({MANAGED_BY: "ehrnet", INSTANCE: instance, COMPONENT: component});
        assert_eq!(ownership(labels("peer0", "peer"), json!([])), Ownership::Ours);
        for (instance, component) in [("peer1", "peer"), ("peer0", "orderer")] {
            assert!(matches!(ownership(labels(instance, component), json!([])), Ownership::Foreign(_)));
        }
    }

    #[test]
    fn what_others_made_is_foreign() {
        for labels in [json!({}), json!({MANAGED_BY: "Helm", INSTANCE: "peer0", COMPONENT: "peer"})] {
            assert!(matches!(ownership(labels, json!([])), Ownership::Foreign(_)));
        }
        let theirs = ownership(json!({}), reference("Peer", "peer0", "old"));
        assert_eq!(theirs, Ownership::Foreign("belongs to Peer peer0".into()));
    }

    #[test]
    fn what_a_namespace_shares_has_no_owner_and_is_known_by_its_labels() {
        let shared = Owner::shared("mercy", "ehrnet-operator");
        let ours = json!({MANAGED_BY: "ehrnet", INSTANCE: "ehrnet-operator", COMPONENT: "operator"});
        assert_eq!(shared.ownership(&secret(ours, json!([]))), Ownership::Ours);
        assert!(matches!(shared.ownership(&secret(json!({}), json!([]))), Ownership::Foreign(_)));
    }
}
