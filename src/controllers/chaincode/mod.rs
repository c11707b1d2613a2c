//! Chaincode: each member hospital's service, then the agreement on the ledger; a table of contents.
//!
//! Deleting a Chaincode stops the services, which go by owner reference. The definition, the packages on the peers and
//! the data stay: nothing takes them off a ledger.

pub mod definition;
pub mod facts;
mod lifecycle;
mod report;
mod services;

use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, Turn};
use super::outcome::{Outcome, ReconcileError, told};
use ehrnet_api::Chaincode;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_pki::renewal;
use ehrnet_status::{self as status, Finding};
use facts::ChaincodeFacts;
use lifecycle::Agreement;
use services::Service;

/// How often the ledger is looked at without news.
const LEDGER_LOOK: Duration = Duration::from_secs(60);
/// How soon a ledger step that is under way is looked at again.
const STEP_LOOK: Duration = Duration::from_millis(500);

/// Brings one contract closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, chaincode: Arc<Chaincode>, turn: Turn) -> Result<Outcome, ReconcileError> {
    if chaincode.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let facts = ChaincodeFacts::gather(ctx, chaincode).await;
    let view = advance(ctx, &facts, turn).await?;
    let findings = view.findings();
    let current = facts.chaincode.status.as_ref();
    let before = current.map(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = status::conditions(&before, facts.chaincode.metadata.generation, (ctx.clock)(), &findings);
    let status = report::status(ctx, &facts, &view, conditions.clone());
    let told =
        super::publish(ctx, &ctx.world.chaincodes, &*facts.chaincode, current, &status, (&before, &conditions)).await?;
    Ok(told.or_sooner(look_again(ctx, &view, &findings)))
}

/// Brings the services of one contract back to what is declared.
pub async fn repair(ctx: &Context, chaincode: Arc<Chaincode>) -> Result<(), ReconcileError> {
    let facts = ChaincodeFacts::gather(ctx, chaincode).await;
    match facts.accepted().holds() {
        true => services::provide(ctx, &facts).await.map(drop),
        false => Ok(()),
    }
}

/// What a pass found, in the order in which a contract comes up; what comes after the first obstacle stays empty.
struct View {
    accepted: Finding,
    services: Option<Result<Vec<Service>, Finding>>,
    agreement: Option<Agreement>,
    pods: Finding,
}

/// Goes through the steps, each only when the one before it left no obstacle for it.
async fn advance(ctx: &Context, facts: &ChaincodeFacts, turn: Turn) -> Result<View, ReconcileError> {
    let later = Finding::unknown(Reason::Progressing, "comes after the declaration is accepted");
    let mut view = View { accepted: facts.accepted(), services: None, agreement: None, pods: later };
    if !view.accepted.holds() {
        return Ok(view);
    }
    let definition = match definition::definition(&facts.chaincode, facts.channel_name(), &facts.msps()) {
        Ok(definition) => definition,
        Err(finding) => {
            view.accepted = finding;
            return Ok(view);
        }
    };
    let services = told(services::provide(ctx, facts).await)?;
    drop(turn);
    match &services {
        Ok(services) => {
            let agreement = lifecycle::agree(ctx, facts, &definition, services).await;
            view.pods = services::running(ctx, facts);
            if view.pods.holds() && agreement.committed.holds() {
                view.pods = lifecycle::answering(ctx, facts).await;
            }
            view.agreement = Some(agreement);
        }
        Err(finding) => view.pods = finding.clone(),
    }
    view.services = Some(services);
    Ok(view)
}

impl View {
    fn findings(&self) -> Vec<(ConditionType, Finding)> {
        let later = || Finding::unknown(Reason::Progressing, "comes after the services are made");
        let agreement =
            |part: fn(&Agreement) -> &Finding| self.agreement.as_ref().map_or_else(later, |a| part(a).clone());
        vec![
            (ConditionType::Accepted, self.accepted.clone()),
            (ConditionType::Installed, agreement(|a| &a.installed)),
            (ConditionType::Approved, agreement(|a| &a.approved)),
            (ConditionType::Committed, agreement(|a| &a.committed)),
            (ConditionType::PodsReady, self.pods.clone()),
        ]
    }
}

/// What is waited for shows in the caches; only the ledger must be asked again, and certificates renewed.
fn look_again(ctx: &Context, view: &View, findings: &[(ConditionType, Finding)]) -> Outcome {
    let open = findings.iter().find(|(_, finding)| !finding.holds()).map(|(_, finding)| finding.reason);
    let look = if open == Some(Reason::Progressing) { STEP_LOOK } else { LEDGER_LOOK };
    let services = view.services.iter().flatten().flatten();
    let renewal = renewal::next_wake_up(services.filter_map(|service| service.tls.due), (ctx.clock)());
    let renewal = renewal.map_or(Outcome::wait(), Outcome::within);
    Outcome::within(look).or_sooner(renewal).or_sooner(Outcome::of(findings))
}
