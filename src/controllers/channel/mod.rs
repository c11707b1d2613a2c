//! Channel: genesis block, orderers, configuration; a table of contents.

mod config;
pub mod definition;
mod facts;
pub mod genesis;
mod orderers;
pub mod participants;
mod report;

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::error::StepError;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::writer::Writer;
use config::ConfigView;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::{Channel, ChannelStatus};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_status::Finding;
use facts::ChannelFacts;
use genesis::Genesis;
use orderers::OrdererView;

/// How often the ledger is looked at without news: heights and configurations change without a trace in the cluster.
const LEDGER_LOOK: Duration = Duration::from_secs(60);
/// How soon a ledger step that is under way is looked at again.
const STEP_LOOK: Duration = Duration::from_millis(500);

impl Declared for Channel {
    const KIND: Kind = Kind::Channel;
    type Facts = ChannelFacts;
    type Provided = Genesis;
    type Answer = ChannelAnswer;

    fn cache(world: &World) -> &Cache<Self> {
        &world.channels
    }

    async fn gather(ctx: &Context, channel: Arc<Self>) -> ChannelFacts {
        ChannelFacts::gather(ctx, channel).await
    }

    /// The genesis block. A channel that lives goes on living when its declaration cannot be written down for a moment.
    async fn provide(ctx: &Context, facts: &ChannelFacts, writer: &Writer<'_>) -> Result<Genesis, StepError> {
        if !facts.accepted().holds() {
            return Err(Finding::comes_after("the declaration is accepted").into());
        }
        match &facts.definition {
            Ok(declared) => genesis::ensure(ctx, writer, facts, declared).await,
            Err(finding) => Ok(facts.genesis.as_deref().and_then(Genesis::read).ok_or_else(|| finding.clone())?),
        }
    }

    /// Every orderer joins, and the configuration takes a step towards the declared one.
    async fn ask(ctx: &Context, facts: &ChannelFacts, genesis: &Result<Genesis, Finding>) -> ChannelAnswer {
        let (Ok(genesis), Ok(declared)) = (genesis, &facts.definition) else {
            return ChannelAnswer::default();
        };
        let orderers = orderers::joined(ctx, &facts.participants, genesis).await;
        let silent = orderers::silent(ctx, &facts.participants).await;
        let config = Some(config::keep(ctx, &facts.participants, declared, &orderers, &silent).await);
        ChannelAnswer { orderers, config }
    }

    fn report(
        facts: &ChannelFacts,
        genesis: &Result<Genesis, Finding>,
        answer: ChannelAnswer,
    ) -> Report<ChannelStatus> {
        let findings = findings(facts, genesis, &answer);
        let look_again = look_again(&findings, &answer);
        Report { status: report::status(&facts.participants, genesis.as_ref().ok(), &answer), findings, look_again }
    }
}

/// What the nodes said of a channel; nothing while they could not be asked.
#[derive(Default)]
pub struct ChannelAnswer {
    orderers: Vec<OrdererView>,
    config: Option<ConfigView>,
}

fn findings(
    facts: &ChannelFacts,
    genesis: &Result<Genesis, Finding>,
    answer: &ChannelAnswer,
) -> Vec<(ConditionType, Finding)> {
    let genesis = match genesis {
        Ok(genesis) => Finding::good(format!("genesis block {}", genesis.hash)),
        Err(finding) => finding.clone(),
    };
    let (orderers, config) = match &answer.config {
        Some(config) => (orderers::finding(&answer.orderers), config.finding.clone()),
        None => (Finding::comes_after("the genesis block"), Finding::comes_after("the orderers have joined")),
    };
    vec![
        (ConditionType::Accepted, facts.accepted()),
        (ConditionType::GenesisReady, genesis),
        (ConditionType::OrderersJoined, orderers),
        (ConditionType::ConfigInSync, config),
        (ConditionType::PeersJoined, report::peers(&facts.participants)),
    ]
}

/// What is waited for shows in the caches; only the ledger must be asked again, and an orderer that waits to join with the
/// others does so for a while only.
fn look_again(findings: &[(ConditionType, Finding)], answer: &ChannelAnswer) -> Outcome {
    let open = findings.iter().find(|(_, finding)| !finding.holds()).map(|(_, finding)| finding.reason);
    let waits = answer.orderers.iter().any(|view| matches!(view.answer, Ok(None)));
    let look = if open == Some(Reason::Progressing) || waits { STEP_LOOK } else { LEDGER_LOOK };
    Outcome::within(look)
}
