//! What a hospital shows to others: its public MSP and the bundle for its clients.

use crate::desired::{Objects, Prepared, Resources, config_map, disruption_budget};

use super::context::Context;
use super::hospital::Material;
use crate::api::Hospital;

/// The objects of a hospital that follow from its keys and from its nodes.
pub fn resources(_ctx: &Context, _hospital: &Hospital, material: &Material) -> Resources<Prepared> {
    let (signing, tls) = (material.authorities.signing.certificate(), material.authorities.tls.certificate());
    Resources::prepared(Objects {
        config_maps: vec![config_map::msp(&material.plan, signing, tls)],
        disruption_budgets: vec![disruption_budget::peers(&material.plan)],
        ..Objects::default()
    })
}
