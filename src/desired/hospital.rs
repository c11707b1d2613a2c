//! A hospital: its public MSP, its client bundle, and the disruption budget of its peers.
//!
//! Its CAs and admin identity are not here: they are made once (`secret`).

use super::connection::{self, Identities, Reachable};
use super::plan::HospitalPlan;
use super::resources::Objects;
use super::{config_map, disruption_budget};

/// Every object of a hospital but its key pairs.
pub fn resources(plan: &HospitalPlan, identities: &Identities<'_>, reachable: &Reachable) -> Objects {
    Objects {
        config_maps: vec![config_map::msp(plan, identities.signing_ca, identities.tls_ca)],
        secrets: vec![connection::bundle(plan, identities, reachable)],
        disruption_budgets: vec![disruption_budget::peers(plan)],
        ..Objects::default()
    }
}
