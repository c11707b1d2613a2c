//! The configuration on the ledger is the declared one: read, plan, take a step, read again.
//!
//! Invariant: at most one step in a pass, and one that changes consenters only while every other orderer is well
//! (S3 in docs/invariants.md).

use super::definition;
use super::orderers::OrdererView;
use super::participants::Participants;
use crate::consenters;
use crate::context::Context;
use crate::ledger::{self, Admin};
use ehrnet_api::conditions::Reason;
use ehrnet_fabric::definition::ChannelDefinition;
use ehrnet_fabric::orderer;
use ehrnet_fabric::participation::ChannelStatus;
use ehrnet_fabric::plan::{Step, UnsignedStep, plan};
use ehrnet_fabric::proto::common::Config;
use ehrnet_fabric::verbs::{ConfigOutcome, ensure_config};
use ehrnet_fabric::view::ChannelView;
use ehrnet_fabric::{Endpoint, LedgerError};
use ehrnet_status::Finding;

/// The configuration on the ledger, compared with the declared one.
pub struct ConfigView {
    /// Its sequence number, if it could be read.
    pub sequence: Option<u64>,
    /// The consenters that it names, if it could be read.
    pub consenters: Option<Vec<String>>,
    /// Steps that are still to be taken, in order.
    pub plan: Vec<String>,
    /// Whether they agree.
    pub finding: Finding,
}

/// Reads the configuration and takes one step towards the declared one, if there is one to take.
pub async fn keep(
    ctx: &Context,
    participants: &Participants,
    declared: &ChannelDefinition,
    views: &[OrdererView],
    silent: &[Endpoint],
) -> ConfigView {
    let lost = views.iter().filter(|view| view.lost_blocks);
    let lost: Vec<Endpoint> = lost.map(|view| definition::internal_endpoint(participants, &view.name)).collect();
    let declared = &declared.without_consenters(&lost);
    let silent = [silent, &lost].concat();
    match step(ctx, participants, declared, views, &silent).await {
        Ok(outcome) => {
            let config = outcome.config();
            let view = ChannelView::of(config).ok();
            let sequence = Some(config.sequence);
            let consenters = view.map(|view| consenters::names_of(&view.consenters, &participants.namespace));
            let (plan, finding) = told(declared, outcome);
            ConfigView { sequence, consenters, plan, finding }
        }
        Err(finding) => ConfigView { sequence: None, consenters: None, plan: Vec::new(), finding },
    }
}

async fn step(
    ctx: &Context,
    participants: &Participants,
    declared: &ChannelDefinition,
    views: &[OrdererView],
    silent: &[Endpoint],
) -> Result<ConfigOutcome, Finding> {
    let clients = clients(ctx, participants, views)?;
    let clients: Vec<&orderer::Client> = clients.iter().collect();
    let identities = identities(participants);
    let may = async |step: &Step, _: &Config| bearable(participants, step, views);
    ensure_config(&clients, declared, &identities, silent, may).await.map_err(|error| problem(&error))
}

/// Clients of the orderers that have the channel.
fn clients(ctx: &Context, participants: &Participants, views: &[OrdererView]) -> Result<Vec<orderer::Client>, Finding> {
    let members = participants.orderers.iter().zip(views).filter(|(_, view)| matches!(view.answer, Ok(Some(_))));
    let clients: Vec<_> =
        members.map(|(orderer, _)| ledger::orderer(&ctx.network, participants, orderer)).collect::<Result<_, _>>()?;
    if clients.is_empty() {
        return Err(Finding::not(Reason::WaitingForDependency, "no orderer of the channel answers yet"));
    }
    Ok(clients)
}

/// The admin identities at hand: those of the hospitals that this operator looks after. Others sign elsewhere.
fn identities(participants: &Participants) -> Vec<Admin> {
    let hospitals = participants.hospitals.values().flatten();
    hospitals.filter_map(|organisation| organisation.admin.clone().ok()).collect()
}

/// Whether the others can bear that one of the consenters changes now.
fn bearable(participants: &Participants, step: &Step, views: &[OrdererView]) -> Result<(), String> {
    let Some(changing) = &step.consenter else { return Ok(()) };
    let mut others = views
        .iter()
        .filter(|view| definition::internal_endpoint(participants, &view.name) != *changing || !view.lost_blocks);
    let ill = others.find(|view| !matches!(&view.answer, Ok(Some(info)) if info.status == ChannelStatus::Active));
    match ill {
        Some(view) => Err(format!("orderers change one at a time, and Orderer {} is not well", view.name)),
        None => Ok(()),
    }
}

fn problem(error: &LedgerError) -> Finding {
    match error {
        // Somebody else changed the configuration meanwhile, or there is no leader yet: both pass.
        LedgerError::Refused { status: 503, .. } => Finding::not(Reason::Progressing, error.to_string()),
        _ => ledger::finding("Channel configuration", error),
    }
}

/// What is left to do after a pass, and what people are told. Pure.
fn told(declared: &ChannelDefinition, outcome: ConfigOutcome) -> (Vec<String>, Finding) {
    let as_declared = |config: &Config| Finding::good(format!("configuration {} is as declared", config.sequence));
    match outcome {
        ConfigOutcome::Converged(config) => (Vec::new(), as_declared(&config)),
        ConfigOutcome::Stepped { description, config } => {
            let rest = remaining(declared, &config);
            let finding = match rest.first() {
                None => as_declared(&config),
                Some(next) => Finding::not(Reason::Progressing, format!("done: {description}; next: {next}")),
            };
            (rest, finding)
        }
        ConfigOutcome::SignaturesMissing { steps, .. } => (
            steps.iter().map(|short| short.description.clone()).collect(),
            Finding::not(Reason::SignaturesMissing, sentences(&steps)),
        ),
        ConfigOutcome::Held { description, reason, .. } => {
            let finding = Finding::not(Reason::WaitingForDependency, format!("to {description}: {reason}"));
            (vec![description], finding)
        }
    }
}

fn remaining(declared: &ChannelDefinition, config: &Config) -> Vec<String> {
    match plan(config, declared) {
        Ok(plan) => plan.steps.into_iter().map(|step| step.description).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn sentences(short: &[UnsignedStep]) -> String {
    short.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
