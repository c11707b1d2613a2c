//! Channel: genesis block, orderers, configuration; a table of contents.

pub mod config;
pub mod definition;
pub mod facts;
pub mod genesis;
pub mod orderers;
mod report;

use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, Turn};
use super::outcome::{Outcome, ReconcileError, told};
use ehrnet_api::Channel;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_status::{self as status, Finding};
use facts::ChannelFacts;

/// How often the ledger is looked at without news: heights and configurations change without a trace in the cluster.
const LEDGER_LOOK: Duration = Duration::from_secs(60);
/// How soon a ledger step that is under way is looked at again.
const STEP_LOOK: Duration = Duration::from_millis(500);

/// Brings one channel closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, channel: Arc<Channel>, turn: Turn) -> Result<Outcome, ReconcileError> {
    if channel.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let facts = ChannelFacts::gather(ctx, channel).await;
    let view = advance(ctx, &facts, turn).await?;
    let findings = view.findings();
    let look = look_again(&findings);
    let before = report::previous(&facts);
    let conditions = status::conditions(&before, facts.channel.metadata.generation, (ctx.clock)(), &findings);
    let status = report::status(&facts, &view, conditions.clone());
    let current = facts.channel.status.as_ref();
    let told =
        super::publish(ctx, &ctx.world.channels, &*facts.channel, current, &status, (&before, &conditions)).await?;
    Ok(told.or_sooner(look))
}

/// Stores the genesis block of one channel again.
pub async fn repair(ctx: &Context, channel: Arc<Channel>) -> Result<(), ReconcileError> {
    let facts = ChannelFacts::gather(ctx, channel).await;
    match (facts.accepted().holds(), definition::definition(&facts)) {
        (true, Ok(declared)) => genesis::ensure(ctx, &facts, &declared).await.map(drop),
        _ => Ok(()),
    }
}

/// What a pass found, in the order in which a channel comes up; what comes after the first obstacle stays empty.
pub struct View {
    accepted: Finding,
    genesis: Option<Result<genesis::Genesis, Finding>>,
    orderers: Vec<orderers::OrdererView>,
    config: Option<config::ConfigView>,
    peers: Finding,
}

/// Goes through the steps, each only when the one before it left no obstacle for it.
async fn advance(ctx: &Context, facts: &ChannelFacts, turn: Turn) -> Result<View, ReconcileError> {
    let accepted = facts.accepted();
    let mut view = View { peers: report::peers(facts), accepted, genesis: None, orderers: Vec::new(), config: None };
    if !view.accepted.holds() {
        return Ok(view);
    }
    let declared = match definition::definition(facts) {
        Ok(declared) => declared,
        Err(finding) => {
            view.genesis = Some(stored_or(facts, finding));
            return Ok(view);
        }
    };
    let genesis = told(genesis::ensure(ctx, facts, &declared).await)?;
    drop(turn);
    if let Ok(genesis) = &genesis {
        view.orderers = orderers::joined(ctx, facts, genesis).await;
        view.config = Some(config::keep(ctx, facts, &declared, &view.orderers).await);
    }
    view.genesis = Some(genesis);
    Ok(view)
}

/// A channel that lives goes on living when its declaration cannot be written down for a moment.
fn stored_or(facts: &ChannelFacts, finding: Finding) -> Result<genesis::Genesis, Finding> {
    facts.genesis.as_deref().and_then(genesis::Genesis::read).ok_or(finding)
}

impl View {
    fn findings(&self) -> Vec<(ConditionType, Finding)> {
        let later = |what: &str| Finding::unknown(Reason::Progressing, format!("comes after {what}"));
        let genesis = match &self.genesis {
            Some(Ok(genesis)) => Finding::good(format!("genesis block {}", genesis.hash)),
            Some(Err(finding)) => finding.clone(),
            None => later("the declaration is accepted"),
        };
        let (orderers, config) = match &self.config {
            Some(config) => (orderers::finding(&self.orderers), config.finding.clone()),
            None => (later("the genesis block"), later("the orderers have joined")),
        };
        vec![
            (ConditionType::Accepted, self.accepted.clone()),
            (ConditionType::GenesisReady, genesis),
            (ConditionType::OrderersJoined, orderers),
            (ConditionType::ConfigInSync, config),
            (ConditionType::PeersJoined, self.peers.clone()),
        ]
    }
}

/// What is waited for shows in the caches; only the ledger must be asked again.
fn look_again(findings: &[(ConditionType, Finding)]) -> Outcome {
    let open = findings.iter().find(|(_, finding)| !finding.holds()).map(|(_, finding)| finding.reason);
    let look = if open == Some(Reason::Progressing) { STEP_LOOK } else { LEDGER_LOOK };
    Outcome::within(look).or_sooner(Outcome::of(findings))
}
