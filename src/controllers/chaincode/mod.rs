//! Chaincode: each member hospital's service, then the agreement on the ledger; a table of contents.
//!
//! Deleting a Chaincode stops the services, which go by owner reference. The definition, the packages on the peers and
//! the data stay: nothing takes them off a ledger.

pub mod definition;
mod facts;
mod lifecycle;
mod report;
mod services;

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::error::StepError;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::writer::Writer;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::{Chaincode, ChaincodeStatus};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_pki::renewal;
use ehrnet_status::Finding;
use facts::ChaincodeFacts;
use lifecycle::Agreement;
use services::{Pods, Service};

/// How often the ledger is looked at without news.
const LEDGER_LOOK: Duration = Duration::from_secs(60);
/// How soon a ledger step that is under way is looked at again.
const STEP_LOOK: Duration = Duration::from_millis(500);

impl Declared for Chaincode {
    const KIND: Kind = Kind::Chaincode;
    type Facts = ChaincodeFacts;
    type Provided = Vec<Service>;
    type Answer = Option<ChaincodeAnswer>;

    fn cache(world: &World) -> &Cache<Self> {
        &world.chaincodes
    }

    async fn gather(ctx: &Context, chaincode: Arc<Self>) -> ChaincodeFacts {
        ChaincodeFacts::gather(ctx, chaincode).await
    }

    async fn provide(ctx: &Context, facts: &ChaincodeFacts, writer: &Writer<'_>) -> Result<Vec<Service>, StepError> {
        if !facts.accepted().holds() {
            return Err(Finding::comes_after("the declaration is accepted").into());
        }
        services::provide(ctx, writer, facts).await
    }

    async fn ask(
        ctx: &Context,
        facts: &ChaincodeFacts,
        services: &Result<Vec<Service>, Finding>,
    ) -> Option<ChaincodeAnswer> {
        let (Ok(services), Ok(definition)) = (services, &facts.definition) else { return None };
        let agreement = lifecycle::agree(ctx, facts, definition, services).await;
        let pods = services::pods_now(ctx, facts);
        let running = services::running(facts, &pods);
        let serving = match running.holds() && agreement.committed.holds() {
            true => lifecycle::answering(ctx, facts).await,
            false => running,
        };
        Some(ChaincodeAnswer { agreement, pods, serving })
    }

    fn report(
        facts: &ChaincodeFacts,
        services: &Result<Vec<Service>, Finding>,
        answer: Option<ChaincodeAnswer>,
    ) -> Report<ChaincodeStatus> {
        let agreement = answer.as_ref().map(|answer| &answer.agreement);
        let later = || Finding::comes_after("the services are made");
        let part = |part: fn(&Agreement) -> &Finding| agreement.map_or_else(later, |agreement| part(agreement).clone());
        let serving = answer.as_ref().map(|answer| answer.serving.clone());
        let findings = vec![
            (ConditionType::Accepted, facts.accepted()),
            (ConditionType::Installed, part(|agreement| &agreement.installed)),
            (ConditionType::Approved, part(|agreement| &agreement.approved)),
            (ConditionType::Committed, part(|agreement| &agreement.committed)),
            (ConditionType::PodsReady, serving.or_else(|| services.as_ref().err().cloned()).unwrap_or_else(later)),
        ];
        let services = services.as_deref().unwrap_or_default();
        let look_again = look_again(facts, services, &findings);
        Report { status: report::status(facts, services, answer.as_ref()), findings, look_again }
    }
}

/// What the ledger and the services answered.
pub struct ChaincodeAnswer {
    agreement: Agreement,
    /// How the pods of the services are doing.
    pods: Pods,
    /// Whether the services run and answer.
    serving: Finding,
}

/// What is waited for shows in the caches; only the ledger must be asked again, and certificates renewed.
fn look_again(facts: &ChaincodeFacts, services: &[Service], findings: &[(ConditionType, Finding)]) -> Outcome {
    let open = findings.iter().find(|(_, finding)| !finding.holds()).map(|(_, finding)| finding.reason);
    let look = if open == Some(Reason::Progressing) { STEP_LOOK } else { LEDGER_LOOK };
    let due = services.iter().filter_map(|service| service.tls.due);
    let renewal = renewal::next_wake_up(due, facts.now).map_or(Outcome::wait(), Outcome::within);
    Outcome::within(look).or_sooner(renewal)
}
