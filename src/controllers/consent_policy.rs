//! ConsentPolicy: validated, and projected into a ConfigMap.

use std::sync::Arc;

use super::context::Context;
use super::outcome::{Outcome, ReconcileError};
use crate::api::ConsentPolicy;

/// Brings one policy closer to its declaration and reports how far it is.
pub async fn reconcile(_ctx: &Context, _policy: Arc<ConsentPolicy>) -> Result<Outcome, ReconcileError> {
    Ok(Outcome::wait())
}
