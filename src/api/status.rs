//! What the statuses of all kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::{ChaincodeStatus, ChannelStatus, ConsentPolicyStatus, HospitalStatus, IdentityStatus, NodeStatus};

/// A status with conditions.
pub trait ResourceStatus: Clone + Default + Serialize + Send + Sync {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// Puts conditions in, with the generation of the spec that they describe.
    fn set_conditions(&mut self, generation: Option<i64>, conditions: Vec<Condition>);
}

macro_rules! resource_status {
    ($($status:ty),*) => {$(
        impl ResourceStatus for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn set_conditions(&mut self, generation: Option<i64>, conditions: Vec<Condition>) {
                self.observed_generation = generation;
                self.conditions = conditions;
            }
        }
    )*};
}

resource_status!(HospitalStatus, NodeStatus, ChannelStatus, ChaincodeStatus, ConsentPolicyStatus, IdentityStatus);
