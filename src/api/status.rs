//! What all statuses have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::node::NodeChannel;
use super::{ChaincodeStatus, ChannelStatus, ConsentPolicyStatus, HospitalStatus, IdentityStatus, NodeStatus};

/// What the operator saw of a resource.
pub trait Status: Clone + Default + PartialEq + Serialize + Send + Sync {
    /// `Ready`, and what it is made of.
    fn conditions(&self) -> &[Condition];

    /// Puts conditions in, with the generation of the spec that they describe.
    fn set_conditions(&mut self, generation: Option<i64>, conditions: Vec<Condition>);

    /// The same without what only tells how far something is, and that nothing waits for: conditions, heights, plans.
    fn facts(&self) -> Self;
}

macro_rules! statuses {
    ($($status:ident: $before:ident => { $($field:ident: $value:expr),* },)*) => {
        $(impl Status for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn set_conditions(&mut self, generation: Option<i64>, conditions: Vec<Condition>) {
                self.observed_generation = generation;
                self.conditions = conditions;
            }

            fn facts(&self) -> Self {
                let $before = self;
                Self { conditions: Vec::new(), $($field: $value,)* ..self.clone() }
            }
        })*
    };
}

statuses! {
    HospitalStatus: _status => {},
    NodeStatus: status => {
        ledger: None,
        channels: status.channels.iter().map(|channel| NodeChannel { height: 0, ..channel.clone() }).collect()
    },
    ChannelStatus: _status => { height: None, plan: Vec::new(), nodes: Vec::new() },
    ChaincodeStatus: _status => {},
    ConsentPolicyStatus: _status => {},
    IdentityStatus: _status => {},
}
