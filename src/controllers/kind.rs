//! What a kind of resource says of itself, so that one pass serves all of them.
//!
//! ```text
//!  gather ──> provide (with the Writer) ──> ask (the ledger) ──> report ──> status
//! ```

use std::sync::Arc;
use std::time::Duration;

use kube::core::object::HasStatus;

use super::context::Context;
use super::error::{ReconcileError, StepError};
use super::outcome::Outcome;
use super::writer::Writer;
use ehrnet_api::Status;
use ehrnet_api::conditions::ConditionType;
use ehrnet_apply::Child;
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_status::Finding;

/// How soon a deletion that is held up is looked at again: what the ledger says changes without news.
const HELD_LOOK: Duration = Duration::from_secs(2);

/// A kind of resource that users declare.
pub trait Declared: Child + HasStatus<Status: Status> {
    /// Its name.
    const KIND: Kind;
    /// Whether what others do to its objects is undone at once, beside the passes.
    const REPAIRED: bool = true;
    /// What decisions need.
    type Facts: Send + Sync;
    /// What stands in the cluster once the resource is provided for.
    type Provided: Send + Sync;
    /// What the ledger answered.
    type Answer: Send;

    /// The resources of this kind.
    fn cache(world: &World) -> &Cache<Self>;

    /// Sees to a resource that is being deleted, and to what holds its deletion up.
    fn deletion(
        _ctx: &Context,
        resource: &Arc<Self>,
        _writer: &Writer<'_>,
    ) -> impl Future<Output = Result<Deletion, ReconcileError>> + Send {
        let deletion = if resource.meta().deletion_timestamp.is_some() { Deletion::LetGo } else { Deletion::None };
        std::future::ready(Ok(deletion))
    }

    /// Reads what decisions need: the caches, what is remembered, the clock.
    fn gather(ctx: &Context, resource: Arc<Self>) -> impl Future<Output = Self::Facts> + Send;

    /// Makes the keys and objects that the resource stands for. The only step that writes objects.
    fn provide(
        ctx: &Context,
        facts: &Self::Facts,
        writer: &Writer<'_>,
    ) -> impl Future<Output = Result<Self::Provided, StepError>> + Send;

    /// Asks the ledger, and brings it closer to what is declared.
    fn ask(
        ctx: &Context,
        facts: &Self::Facts,
        provided: &Result<Self::Provided, Finding>,
    ) -> impl Future<Output = Self::Answer> + Send;

    /// What people are told. Pure: whatever it tells of was read by a step before.
    fn report(
        facts: &Self::Facts,
        provided: &Result<Self::Provided, Finding>,
        answer: Self::Answer,
    ) -> Report<Self::Status>;
}

/// Where the deletion of a resource stands.
pub enum Deletion {
    /// Nobody wants it deleted.
    None,
    /// It goes.
    LetGo,
    /// It stays for now, and why.
    Held(Finding),
}

/// What a pass found.
pub struct Report<S> {
    /// One finding for each condition, in the order in which things happen.
    pub findings: Vec<(ConditionType, Finding)>,
    /// The status without its conditions.
    pub status: S,
    /// When to look again.
    pub look_again: Outcome,
}

impl<S> Report<S> {
    /// The same of a resource whose deletion is held up: it is kept as before, and says what it waits for.
    pub fn held(mut self, finding: Finding) -> Self {
        self.findings.retain(|(condition, _)| *condition != ConditionType::Accepted);
        self.findings.insert(0, (ConditionType::Accepted, finding));
        Self { look_again: self.look_again.or_sooner(Outcome::within(HELD_LOOK)), ..self }
    }
}
