//! From the configuration a channel has to the one it is declared to have: ordered steps, each one update.
//!
//! Read first: what is compared is what values mean, not their bytes, and what already means the right thing keeps its
//! bytes; what no definition speaks about (access lists, policies of organizations) is left alone. Consenters change one
//! at a time, since that is all Raft allows and all a live quorum should be asked to bear.

mod consenters;
mod edits;

use std::collections::BTreeSet;
use std::fmt;

use super::authorization::Need;
use super::config_rules::check_change;
use super::config_update::{compute, guards, outcome};
use super::definition::ChannelDefinition;
use super::endpoint::Endpoint;
use super::error::LedgerError;
use super::membership::Identity;
use super::proto::common::{Config, ConfigGroup, ConfigUpdate};

/// Steps from the actual to the declared configuration; none if they mean the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order to take them. Each relies on the ones before it.
    pub steps: Vec<Step>,
}

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// One sentence for people, such as `add hospital HospitalB`.
    pub description: String,
    /// The update.
    pub update: ConfigUpdate,
    /// Whose signatures it needs.
    pub signers: SignatureNeed,
    /// The consenter it adds, changes or removes, if any: the consenters' quorum must bear that.
    pub consenter: Option<Endpoint>,
}

/// Policies that must all be satisfied by an update's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureNeed {
    /// The policies.
    pub policies: Vec<Need>,
}

/// A policy that the signatures at hand do not satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsatisfiedPolicy {
    /// Path of the policy.
    pub policy: String,
    /// How many organizations must sign.
    pub needed: usize,
    /// Organizations that could sign and whose signature is not at hand.
    pub organizations: Vec<String>,
}

/// What can be done now, with the keys at hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The configuration is as declared.
    Converged,
    /// The first step that the keys at hand suffice for.
    Step(Box<Step>),
    /// There are steps, but each of them lacks signatures.
    SignaturesMissing(Vec<UnsignedStep>),
}

/// A step that lacks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedStep {
    /// The step's description.
    pub description: String,
    /// What it lacks.
    pub missing: Vec<UnsatisfiedPolicy>,
}

/// The whole way from `current` to `desired`.
///
/// # Errors
/// `Invalid` if the definition cannot be a channel's, or orderers would refuse a step.
pub fn plan(current: &Config, desired: &ChannelDefinition) -> Result<Plan, LedgerError> {
    let mut group = channel_group(current)?.clone();
    let mut steps = Vec::new();
    for edit in edits::edits(&group, desired, &[])? {
        if let Some((step, after)) = step(&group, desired, &edit)? {
            steps.push(step);
            group = after;
        }
    }
    Ok(Plan { steps })
}

/// The first step from `current` towards `desired` that `identities` can sign.
///
/// Steps that lack signatures do not hold up others: each is tried from the configuration as it is. Of the consenters that
/// leave, those at the addresses in `silent`, which do not answer, go first: what is left must be a quorum after each step.
pub fn next(
    current: &Config,
    desired: &ChannelDefinition,
    identities: &[Identity],
    silent: &[Endpoint],
) -> Result<Next, LedgerError> {
    let group = channel_group(current)?;
    let mut short = Vec::new();
    for edit in edits::edits(group, desired, silent)? {
        let tried = match step(group, desired, &edit) {
            // It may only be refused for want of a step before it that lacks signatures.
            Err(_) if !short.is_empty() => continue,
            other => other?,
        };
        let Some((step, _)) = tried else { continue };
        let missing = step.signers.missing(group, identities);
        if missing.is_empty() {
            return Ok(Next::Step(Box::new(step)));
        }
        short.push(UnsignedStep { description: step.description, missing });
    }
    Ok(if short.is_empty() { Next::Converged } else { Next::SignaturesMissing(short) })
}

/// The step an edit makes, and the tree after it; `None` if the edit changes nothing.
fn step(
    group: &ConfigGroup,
    desired: &ChannelDefinition,
    edit: &edits::Edit<'_>,
) -> Result<Option<(Step, ConfigGroup)>, LedgerError> {
    let invalid =
        |e: String| LedgerError::Invalid(format!("channel {}: cannot {}: {e}", desired.channel_name, edit.description));
    let mut edited = group.clone();
    (edit.apply)(&mut edited).map_err(invalid)?;
    let Some(update) = compute(&desired.channel_name, group, &edited) else { return Ok(None) };
    let after = outcome(group, &update).map_err(|e| invalid(e.0))?;
    check_change(group, &after).map_err(invalid)?;
    let policies = guards(group, &update).map_err(|e| invalid(e.0))?;
    let step = Step {
        description: edit.description.clone(),
        update,
        signers: SignatureNeed { policies },
        consenter: edit.consenter.clone(),
    };
    Ok(Some((step, after)))
}

fn channel_group(config: &Config) -> Result<&ConfigGroup, LedgerError> {
    config.channel_group.as_ref().ok_or_else(|| LedgerError::Invalid("configuration has no channel group".into()))
}

impl SignatureNeed {
    /// Policies that signatures of `identities` do not satisfy; none if they suffice.
    pub fn missing(&self, channel_group: &ConfigGroup, identities: &[Identity]) -> Vec<UnsatisfiedPolicy> {
        let short = self.policies.iter().map(|need| (need, need.short_of(channel_group, identities)));
        let short = short.filter(|(_, policies)| !policies.is_empty());
        short
            .map(|(need, policies)| UnsatisfiedPolicy {
                policy: need.policy.clone(),
                needed: need.needed,
                organizations: policies.iter().map(|p| organization(p)).collect::<BTreeSet<_>>().into_iter().collect(),
            })
            .collect()
    }

    /// Positions of the identities whose signature counts for one of the policies.
    pub fn useful(&self, channel_group: &ConfigGroup, identities: &[Identity]) -> Vec<usize> {
        let helps = |i: &Identity| self.policies.iter().any(|need| need.is_helped_by(channel_group, i));
        (0..identities.len()).filter(|at| helps(&identities[*at])).collect()
    }
}

/// Name of the organization in `/Channel/Application/HospitalB/Admins`.
fn organization(policy: &str) -> String {
    policy.rsplit('/').nth(1).unwrap_or(policy).to_owned()
}

impl fmt::Display for UnsatisfiedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, needed, organizations } = self;
        write!(f, "policy {policy} needs {needed}, and a signature is missing from {}", organizations.join(" or "))
    }
}

impl fmt::Display for UnsignedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> = self.missing.iter().map(ToString::to_string).collect();
        write!(f, "to {}: {}", self.description, missing.join("; "))
    }
}

#[cfg(test)]
mod tests;
