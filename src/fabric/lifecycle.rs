//! How hospitals agree on a chaincode (Fabric: the `_lifecycle` chaincode): install, approve, commit.
//!
//! The verbs read first, act if need be and read back, so each can be called again at any time. Installing and approving
//! need an admin of the peer's own organization. An approval is private to its organization; that it is there, and
//! whether it is of the same definition, everybody can check.
//!
//! The trap: what may not be sent again is refused in words only ("unchanged content", "already successfully
//! installed"), so an error of an act is told only if reading back shows that the act did not work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use prost::Message;

use super::authorization::{self, PeerOf};
use super::chaincode::ChaincodeDefinition;
use super::error::LedgerError;
use super::net::ActKind;
use super::package::Package;
use super::proposal::{self, Answer, Call};
use super::proto::common::Config;
use super::proto::lifecycle::chaincode_source::{Local, Type as Source, Unavailable};
use super::proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CheckCommitReadinessArgs, CheckCommitReadinessResult,
    CommitChaincodeDefinitionArgs, InstallChaincodeArgs, QueryApprovedChaincodeDefinitionArgs,
    QueryApprovedChaincodeDefinitionResult, QueryChaincodeDefinitionArgs, QueryChaincodeDefinitionResult,
    QueryInstalledChaincodesArgs, QueryInstalledChaincodesResult,
};
use super::proto::protos::{ApplicationPolicy, CollectionConfigPackage, SignedProposal, TxValidationCode};
use super::view::ChannelView;
use super::{orderer, peer};

/// Path of the policy that a commit must meet.
const POLICY: &str = "/Channel/Application/LifecycleEndorsement";
/// How long an accepted transaction may take to be in a block.
const ORDERING: Duration = Duration::from_secs(60);

/// A definition as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Number of the definition on its channel, from 1.
    pub sequence: i64,
    /// Version of the contract.
    pub version: String,
    /// Endorsement policy, if it can be read.
    pub endorsement: Option<ApplicationPolicy>,
    /// Private data.
    pub collections: CollectionConfigPackage,
    /// Whether it waits for an initialisation.
    pub init_required: bool,
    /// Plugins other than Fabric's own, which nobody here asks for.
    pub foreign_plugins: bool,
}

/// A definition that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The definition.
    pub recorded: Recorded,
    /// By MSP: whether the organization approved exactly this definition.
    pub approvals: BTreeMap<String, bool>,
}

/// What an organization approved.
#[derive(Clone, Debug, PartialEq)]
pub struct Approved {
    /// The definition.
    pub recorded: Recorded,
    /// The package that its peers run for it, if any.
    pub package_id: Option<String>,
}

/// Who approved a definition that is not committed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// By MSP: whether the organization approved exactly this definition.
    pub approvals: BTreeMap<String, bool>,
    /// By MSP: what differs in the definition that it approved, in Fabric's words. Empty if it approved none.
    pub mismatches: BTreeMap<String, Vec<String>>,
}

/// A peer to be asked for an endorsement.
#[derive(Clone, Copy)]
pub struct Endorser<'a> {
    /// MSP of the peer's organization.
    pub msp_id: &'a str,
    /// The peer.
    pub peer: &'a peer::Client,
}

/// What [`ensure_committed`] found or did.
#[derive(Clone, Debug, PartialEq)]
pub enum CommitOutcome {
    /// The definition is in force.
    Committed(Committed),
    /// Too few organizations approved, or too few of those that did can be asked to endorse.
    NotReady(Readiness),
}

/// Whether the peer has the package.
async fn is_installed(peer: &peer::Client, package_id: &str) -> Result<bool, LedgerError> {
    // A query for one package fails with 500 if it is not there, like any other trouble.
    let answer: QueryInstalledChaincodesResult =
        peer.lifecycle("", "QueryInstalledChaincodes", &QueryInstalledChaincodesArgs {}).await?;
    Ok(answer.installed_chaincodes.iter().any(|c| c.package_id == package_id))
}

/// The definition of chaincode `name` that is in force, if there is one.
pub async fn committed(peer: &peer::Client, channel: &str, name: &str) -> Result<Option<Committed>, LedgerError> {
    let arguments = QueryChaincodeDefinitionArgs { name: name.into() };
    let answer = peer.lifecycle(channel, "QueryChaincodeDefinition", &arguments).await;
    match answer.map(|answer: QueryChaincodeDefinitionResult| answer.into()) {
        Ok(committed) => Ok(Some(committed)),
        Err(LedgerError::Refused { status: 404, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What the peer's organization approved for chaincode `name` as definition `sequence`, if it did.
pub async fn approved(
    peer: &peer::Client,
    channel: &str,
    name: &str,
    sequence: i64,
) -> Result<Option<Approved>, LedgerError> {
    let arguments = QueryApprovedChaincodeDefinitionArgs { name: name.into(), sequence };
    let answer = peer.lifecycle(channel, "QueryApprovedChaincodeDefinition", &arguments).await;
    match answer.map(|answer: QueryApprovedChaincodeDefinitionResult| answer.into()) {
        Ok(approved) => Ok(Some(approved)),
        // Fabric has no status for it.
        Err(LedgerError::Refused { message, .. }) if message.contains("could not fetch approved chaincode") => Ok(None),
        Err(e) => Err(e),
    }
}

/// Who approved `definition` as the next one, number `sequence`.
///
/// # Errors
/// `Refused` also if `sequence` is not the next one.
pub async fn readiness(
    peer: &peer::Client,
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> Result<Readiness, LedgerError> {
    let arguments = CheckCommitReadinessArgs {
        sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.validation_parameter(),
        collections: definition.collection_package(),
        init_required: definition.init_required,
        ..Default::default()
    };
    let answer: CheckCommitReadinessResult = peer.lifecycle(channel, "CheckCommitReadiness", &arguments).await?;
    let mismatches = answer.mismatches.into_iter().map(|(msp_id, of)| (msp_id, of.items)).collect();
    Ok(Readiness { approvals: answer.approvals, mismatches })
}

/// The number under which `definition` is, or would be, in force.
pub fn next_sequence(definition: &ChaincodeDefinition, in_force: Option<&Committed>) -> i64 {
    match in_force {
        None => 1,
        Some(in_force) if in_force.recorded.differences(definition).is_empty() => in_force.recorded.sequence,
        Some(in_force) => in_force.recorded.sequence + 1,
    }
}

/// Makes the peer have `package`. Whether it had to be installed.
pub async fn ensure_installed(peer: &peer::Client, package: &Package) -> Result<bool, LedgerError> {
    if is_installed(peer, &package.id).await? {
        return Ok(false);
    }
    let installed = peer.install(&InstallChaincodeArgs { chaincode_install_package: package.bytes.clone() }).await;
    read_back(is_installed(peer, &package.id).await?, installed, || {
        format!("{} accepted package {} and then does not have it", peer.node(), package.id)
    })
}

/// Makes the peer's organization approve `definition` as number `sequence`, run from `package_id` (`None`: its peers do
/// not run it). Whether it had to be approved. Returns when `peer` has the approval in a block.
pub async fn ensure_approved(
    peer: &peer::Client,
    orderers: &[&orderer::Client],
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
    package_id: Option<&str>,
) -> Result<bool, LedgerError> {
    definition.check()?;
    let is_approved = async || match approved(peer, channel, &definition.name, sequence).await {
        Ok(approved) => Ok(approved
            .is_some_and(|a| a.recorded.differences(definition).is_empty() && a.package_id.as_deref() == package_id)),
        Err(lost) if is_lost(&lost) => has_agreed(peer, channel, definition, sequence).await,
        Err(error) => Err(error),
    };
    if is_approved().await? {
        return Ok(false);
    }
    let source = match package_id {
        Some(id) => Source::LocalPackage(Local { package_id: id.into() }),
        None => Source::Unavailable(Unavailable {}),
    };
    let arguments = ApproveChaincodeDefinitionForMyOrgArgs {
        sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.validation_parameter(),
        collections: definition.collection_package(),
        init_required: definition.init_required,
        source: Some(ChaincodeSource { r#type: Some(source) }),
        ..Default::default()
    };
    let call = call(channel, "ApproveChaincodeDefinitionForMyOrg", &arguments);
    let sent = transact(&[peer], orderers, &call).await;
    read_back(is_approved().await?, sent, || {
        format!("{} committed an approval of {} and then does not have it", peer.node(), definition.name)
    })
}

/// Whether an approval was given and its content is nowhere any more. It is private data of the organization's own peers:
/// gone with the volume of the only one (Fabric: `core/ledger/kvledger/txmgmt/txmgr/query_executor.go`).
fn is_lost(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Refused { message, .. } if message.contains("private data matching public hash version is not available"))
}

/// Whether the peer's organization approved what is in force: public hashes say so, though not from which package.
async fn has_agreed(
    peer: &peer::Client,
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> Result<bool, LedgerError> {
    let in_force = committed(peer, channel, &definition.name).await?;
    Ok(in_force.is_some_and(|found| {
        found.recorded.sequence == sequence
            && found.recorded.differences(definition).is_empty()
            && found.approvals.get(peer.signer().msp_id()) == Some(&true)
    }))
}

/// Puts `definition` in force as number `sequence`, if enough organizations approved it. `endorsers` are the peers that
/// can be asked; those whose organization has not approved are not. Returns when the first of them has it in a block.
///
/// # Errors
/// `Disagreement` while peers have not all come to the same block: call again. `Invalid` if another definition is in
/// force under this number.
pub async fn ensure_committed(
    endorsers: &[Endorser<'_>],
    orderers: &[&orderer::Client],
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> Result<CommitOutcome, LedgerError> {
    definition.check()?;
    let name = &definition.name;
    let first = endorsers.first().ok_or_else(|| LedgerError::Invalid(format!("no peer to commit {name} with")))?.peer;
    if let Some(in_force) = in_force(first, channel, definition, sequence).await? {
        return Ok(CommitOutcome::Committed(in_force));
    }
    let (willing, readiness) = willing(endorsers, channel, definition, sequence).await?;
    let config = first.channel_config(channel).await?;
    if !suffices(&config, &willing) {
        return Ok(CommitOutcome::NotReady(readiness));
    }
    let arguments = CommitChaincodeDefinitionArgs {
        sequence,
        name: name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.validation_parameter(),
        collections: definition.collection_package(),
        init_required: definition.init_required,
        ..Default::default()
    };
    let peers: Vec<_> = willing.iter().map(|e| e.peer).collect();
    let sent = transact(&peers, orderers, &call(channel, "CommitChaincodeDefinition", &arguments)).await;
    // Somebody else may have committed the same at the same time.
    match (in_force(peers[0], channel, definition, sequence).await?, sent) {
        (Some(in_force), _) => Ok(CommitOutcome::Committed(in_force)),
        (None, Err(e)) => Err(e),
        (None, Ok(())) => Err(LedgerError::Invalid(format!(
            "{} has the commit of {name} in a block and not in force",
            peers[0].node()
        ))),
    }
}

/// `definition`, if it is in force as number `sequence`.
async fn in_force(
    peer: &peer::Client,
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> Result<Option<Committed>, LedgerError> {
    let Some(found) = committed(peer, channel, &definition.name).await? else { return Ok(None) };
    if found.recorded.sequence < sequence {
        return Ok(None);
    }
    let differences = found.recorded.differences(definition);
    if found.recorded.sequence == sequence && differences.is_empty() {
        return Ok(Some(found));
    }
    Err(LedgerError::Invalid(format!(
        "chaincode {} has definition {} in force on channel {channel}, where {sequence} was to be committed; it differs \
         in: {}",
        definition.name,
        found.recorded.sequence,
        if differences.is_empty() { "sequence".into() } else { differences.join(", ") }
    )))
}

/// Those endorsers that see their own organization's approval, and what the first of all sees.
async fn willing<'a>(
    endorsers: &[Endorser<'a>],
    channel: &str,
    definition: &ChaincodeDefinition,
    sequence: i64,
) -> Result<(Vec<Endorser<'a>>, Readiness), LedgerError> {
    let answers = join_all(endorsers.iter().map(|e| readiness(e.peer, channel, definition, sequence))).await;
    let (mut willing, mut seen, mut failure) = (Vec::new(), None, None);
    for (endorser, answer) in endorsers.iter().zip(answers) {
        match answer {
            Ok(readiness) => {
                if readiness.approvals.get(endorser.msp_id) == Some(&true) {
                    willing.push(*endorser);
                }
                seen.get_or_insert(readiness);
            }
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    match (seen, failure) {
        (Some(readiness), _) => Ok((willing, readiness)),
        (None, Some(e)) => Err(e),
        (None, None) => Ok((willing, Readiness::default())),
    }
}

/// Whether endorsements of all of these can meet the channel's policy for commits.
fn suffices(config: &Config, endorsers: &[Endorser<'_>]) -> bool {
    let organizations: BTreeSet<&str> = endorsers.iter().map(|e| e.msp_id).collect();
    let signers: Vec<_> = organizations.into_iter().map(PeerOf).collect();
    let group = config.channel_group.clone().unwrap_or_default();
    authorization::evaluate(&group, POLICY, &signers).is_ok()
}

fn call<'a>(channel: &'a str, function: &str, arguments: &impl Message) -> Call<'a> {
    Call::new(channel, "_lifecycle", vec![function.into(), arguments.encode_to_vec()])
}

/// Has `call` endorsed by all of `peers`, ordered, and committed at the first of them, whose identity signs.
async fn transact(peers: &[&peer::Client], orderers: &[&orderer::Client], call: &Call<'_>) -> Result<(), LedgerError> {
    let first = peers.first().ok_or_else(|| LedgerError::Invalid("no peer to endorse with".into()))?;
    let config = first.channel_config(call.channel).await?;
    let (proposal, tx_id) = first.proposal(call);
    let envelope = proposal::transaction(&proposal, &endorsements(peers, &proposal).await?)?;
    let envelope = proposal::sign(first.signer(), envelope);
    let from = first.chain_info(call.channel).await?.height;
    let view = ChannelView::of(&config)?;
    orderer::broadcast(orderers, &view, &envelope, ActKind::Transaction, call.channel).await?;
    match first.committed(call.channel, &tx_id, from, ORDERING).await? {
        (_, TxValidationCode::Valid) => Ok(()),
        (block, code) => Err(LedgerError::Rejected { tx_id, block, code }),
    }
}

async fn endorsements(peers: &[&peer::Client], proposal: &SignedProposal) -> Result<Vec<Answer>, LedgerError> {
    join_all(peers.iter().map(|peer| peer.endorse(proposal))).await.into_iter().collect()
}

/// What became of an act: what the node has afterwards counts, not what it answered.
fn read_back(
    is_there: bool,
    act: Result<(), LedgerError>,
    contradiction: impl FnOnce() -> String,
) -> Result<bool, LedgerError> {
    match (is_there, act) {
        (true, _) => Ok(true),
        (false, Err(e)) => Err(e),
        (false, Ok(())) => Err(LedgerError::Invalid(contradiction())),
    }
}

impl Recorded {
    /// What differs from `definition`; nothing if it is the same.
    pub fn differences(&self, definition: &ChaincodeDefinition) -> Vec<&'static str> {
        let collections = definition.collection_package().unwrap_or_default();
        let parts = [
            ("version", self.version == definition.version),
            ("endorsement policy", self.endorsement == Some(definition.endorsement.message())),
            ("collections", self.collections == collections),
            ("whether it must be initialised", self.init_required == definition.init_required),
            ("plugins", !self.foreign_plugins),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// Whether these are Fabric's own plugins.
fn is_foreign(endorsement_plugin: &str, validation_plugin: &str) -> bool {
    !matches!((endorsement_plugin, validation_plugin), ("" | "escc", "" | "vscc"))
}

fn policy(validation_parameter: &[u8]) -> Option<ApplicationPolicy> {
    ApplicationPolicy::decode(validation_parameter).ok()
}

impl From<QueryChaincodeDefinitionResult> for Committed {
    fn from(answer: QueryChaincodeDefinitionResult) -> Self {
        let recorded = Recorded {
            sequence: answer.sequence,
            endorsement: policy(&answer.validation_parameter),
            collections: answer.collections.unwrap_or_default(),
            init_required: answer.init_required,
            foreign_plugins: is_foreign(&answer.endorsement_plugin, &answer.validation_plugin),
            version: answer.version,
        };
        Self { recorded, approvals: answer.approvals }
    }
}

impl From<QueryApprovedChaincodeDefinitionResult> for Approved {
    fn from(answer: QueryApprovedChaincodeDefinitionResult) -> Self {
        let recorded = Recorded {
            sequence: answer.sequence,
            endorsement: policy(&answer.validation_parameter),
            collections: answer.collections.unwrap_or_default(),
            init_required: answer.init_required,
            foreign_plugins: is_foreign(&answer.endorsement_plugin, &answer.validation_plugin),
            version: answer.version,
        };
        let package_id = match answer.source.and_then(|s| s.r#type) {
            Some(Source::LocalPackage(local)) => Some(local.package_id),
            Some(Source::Unavailable(_)) | None => None,
        };
        Self { recorded, package_id }
    }
}
