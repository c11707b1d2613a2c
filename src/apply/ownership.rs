//! Pure: whose is an object that bears a name we need?
//!
//! An owner reference with our resource's UID makes it ours. Keys and ledgers that outlive their resource have no owner
//! reference; they are ours if they are labelled as made by this operator for a resource of this name, and so a resource
//! created again takes them back. Everything else is somebody else's and is never touched: by UID and not by name,
//! because a resource that was deleted and created again has the same name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// Label that names who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label that names the resource an object was made for.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The resource for which objects are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the resource, and so of every object written for it.
    pub namespace: String,
    kind: String,
    name: String,
    /// `None` for what the resources of a namespace share: nothing owns that.
    uid: Option<String>,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
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

    /// Whether an object has this owner's UID among its owners.
    pub fn owns(&self, object: &ObjectMeta) -> bool {
        let mut owners = object.owner_references.iter().flatten();
        self.uid.as_ref().is_some_and(|uid| owners.any(|owner| owner.uid == *uid))
    }

    /// Whose `object` is, seen from this owner.
    pub fn standing(&self, object: &ObjectMeta) -> Standing {
        if self.owns(object) {
            return Standing::Ours;
        }
        let label = |key: &str| object.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let managed = label(MANAGED_BY) == Some(super::FIELD_MANAGER);
        let owners = object.owner_references.as_deref().unwrap_or_default();
        let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first()) else {
            return match (managed, label(INSTANCE)) {
                (true, Some(instance)) if instance == self.name => Standing::Ours,
                (true, Some(instance)) => Standing::Foreign(format!("was made for {instance}")),
                _ => Standing::Foreign("was not made by this operator".to_owned()),
            };
        };
        if managed && owner.kind == self.kind && owner.name == self.name {
            return Standing::Leftover;
        }
        Standing::Foreign(format!("belongs to {} {}", owner.kind, owner.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Peer;
    use serde_json::json;

    fn owner() -> Owner {
        let peer = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Peer",
            "metadata": {"name": "peer0", "namespace": "mercy", "uid": "new"},
            "spec": {"hospitalRef": {"name": "mercy"}}
        });
        Owner::of(&serde_json::from_value::<Peer>(peer).expect("a peer")).expect("from a cluster")
    }

    fn standing(labels: serde_json::Value, owners: serde_json::Value) -> Standing {
        let meta = json!({"name": "peer0", "labels": labels, "ownerReferences": owners});
        owner().standing(&serde_json::from_value(meta).expect("metadata"))
    }

    fn reference(kind: &str, name: &str, uid: &str) -> serde_json::Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
    }

    #[test]
    fn the_uid_decides_whatever_the_labels_say() {
        assert_eq!(standing(json!({}), reference("Peer", "peer0", "new")), Standing::Ours);
        let labels = json!({MANAGED_BY: "ehrnet", INSTANCE: "peer0"});
        assert_eq!(standing(labels.clone(), reference("Peer", "peer0", "old")), Standing::Leftover);
        assert_eq!(
            standing(labels, reference("Orderer", "peer0", "x")),
            Standing::Foreign("belongs to Orderer peer0".into())
        );
    }

    #[test]
    fn what_outlived_its_resource_is_taken_back_by_one_of_the_same_name() {
        assert_eq!(standing(json!({MANAGED_BY: "ehrnet", INSTANCE: "peer0"}), json!([])), Standing::Ours);
        assert!(matches!(standing(json!({MANAGED_BY: "ehrnet", INSTANCE: "peer1"}), json!([])), Standing::Foreign(_)));
    }

    #[test]
    fn what_others_made_is_foreign() {
        for labels in [json!({}), json!({MANAGED_BY: "Helm", INSTANCE: "peer0"}), json!({INSTANCE: "peer0"})] {
            assert!(matches!(standing(labels, json!([])), Standing::Foreign(_)));
        }
        let theirs = standing(json!({}), reference("Peer", "peer0", "old"));
        assert_eq!(theirs, Standing::Foreign("belongs to Peer peer0".into()));
    }

    #[test]
    fn what_a_namespace_shares_has_no_owner_and_is_known_by_its_labels() {
        let shared = Owner::shared("mercy", "ehrnet-operator");
        let meta = |labels| serde_json::from_value(json!({"labels": labels})).expect("metadata");
        assert_eq!(shared.standing(&meta(json!({MANAGED_BY: "ehrnet", INSTANCE: "ehrnet-operator"}))), Standing::Ours);
        assert!(matches!(shared.standing(&meta(json!({}))), Standing::Foreign(_)));
    }
}
