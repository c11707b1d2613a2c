//! PersistentVolumeClaims: objects of their own, not templates of the StatefulSet.
//!
//! A template cannot be changed once the StatefulSet exists, so a volume could not grow; and a StatefulSet of one needs
//! no numbering. Under `deletionPolicy: Retain` the claim has no owner and stays.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};

use ehrnet_api::common::Storage;

use super::plan::NodePlan;
use super::secret::node_meta;

/// A volume of a node.
pub fn node(plan: &NodePlan, name: String, storage: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: node_meta(plan, name),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
