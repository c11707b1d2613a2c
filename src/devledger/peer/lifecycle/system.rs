//! The system chaincode `_lifecycle`: its functions (Fabric: `lifecycle/scc.go`).

use std::collections::BTreeMap;

use prost::Message;

use super::collections;
use super::definition::Definition;
use super::rules::{Approval, DEFAULT_POLICY, Readiness, Rules, approvals};
use crate::channel::bundle::Bundle;
use crate::peer::chaincode::packages::Packages;
use crate::peer::simulate::simulator::Simulator;
use ehrnet_fabric::proto::lifecycle::check_commit_readiness_result::Mismatches;
use ehrnet_fabric::proto::lifecycle::query_approved_chaincode_definitions_result::ApprovedChaincodeDefinition;
use ehrnet_fabric::proto::lifecycle::query_chaincode_definitions_result::ChaincodeDefinition;
use ehrnet_fabric::proto::lifecycle::query_installed_chaincode_result as one;
use ehrnet_fabric::proto::lifecycle::query_installed_chaincodes_result as all;
use ehrnet_fabric::proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ApproveChaincodeDefinitionForMyOrgResult, ChaincodeEndorsementInfo,
    ChaincodeSource, ChaincodeValidationInfo, CheckCommitReadinessArgs, CheckCommitReadinessResult,
    CommitChaincodeDefinitionResult, GetInstalledChaincodePackageArgs, GetInstalledChaincodePackageResult,
    InstallChaincodeArgs, InstallChaincodeResult, QueryApprovedChaincodeDefinitionArgs,
    QueryApprovedChaincodeDefinitionResult, QueryApprovedChaincodeDefinitionsResult, QueryChaincodeDefinitionArgs,
    QueryChaincodeDefinitionResult, QueryChaincodeDefinitionsResult, QueryInstalledChaincodeArgs,
    QueryInstalledChaincodeResult, QueryInstalledChaincodesResult, chaincode_source,
};

/// Names that chaincode may not have.
const SYSTEM: &[&str] = &["cscc", "escc", "lscc", "qscc", "vscc"];

/// Where a package is in use: names and versions of chaincode, by channel.
pub type References = BTreeMap<String, Vec<(String, String)>>;

/// Why a call failed: a status and Fabric's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 404 for chaincode that is not defined, 500 for the rest.
    pub status: i32,
    /// What is wrong.
    pub message: String,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { status: 500, message }
    }
}

/// What the functions need of the peer.
pub struct Peer<'a> {
    /// The peer's organisation.
    pub msp_id: &'a str,
    /// Installed packages.
    pub packages: &'a Packages,
    /// Where a package is in use.
    pub references: &'a (dyn Fn(&str) -> References + Sync),
}

/// A channel and the simulation on it.
pub struct OnChannel<'a> {
    /// The channel's configuration.
    pub bundle: &'a Bundle,
    /// The simulation.
    pub simulator: &'a mut Simulator,
}

/// Call a function; its caller was found to be allowed to.
///
/// # Errors
/// See [`Refusal`].
pub fn invoke(peer: &Peer<'_>, channel: Option<OnChannel<'_>>, name: &str, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let result = match (name, channel) {
        ("InstallChaincode", _) => install(peer, input),
        ("QueryInstalledChaincode", _) => installed(peer, input),
        ("QueryInstalledChaincodes", _) => Ok(all_installed(peer)),
        ("GetInstalledChaincodePackage", _) => package(peer, input),
        (_, None) => Err(format!("could not get channelconfig for channel '' in {name}").into()),
        (_, Some(mut channel)) => match name {
            "ApproveChaincodeDefinitionForMyOrg" => approve(peer, &mut channel, input),
            "QueryApprovedChaincodeDefinition" => approved(peer, &mut channel, input),
            "QueryApprovedChaincodeDefinitions" => all_approved(peer, &mut channel),
            "CheckCommitReadiness" => check_readiness(&mut channel, input),
            "CommitChaincodeDefinition" => commit(peer, &mut channel, input),
            "QueryChaincodeDefinition" => defined(&mut channel, input),
            "QueryChaincodeDefinitions" => all_defined(&mut channel),
            other => Err(format!("receiver *lifecycle.Invocation.{other} does not exist").into()),
        },
    };
    result.map_err(|refusal| match refusal.status {
        404 => refusal,
        _ => format!("failed to invoke backing implementation of '{name}': {}", refusal.message).into(),
    })
}

fn args<T: Message + Default>(input: &[u8]) -> Result<T, Refusal> {
    T::decode(input).map_err(|e| format!("could not decode input arg: {e}").into())
}

fn install(peer: &Peer<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let args: InstallChaincodeArgs = args(input)?;
    let (package_id, label) = peer.packages.install(&args.chaincode_install_package)?;
    Ok(InstallChaincodeResult { package_id, label }.encode_to_vec())
}

fn installed(peer: &Peer<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let QueryInstalledChaincodeArgs { package_id } = args(input)?;
    let found = peer.packages.get(&package_id);
    let label = found.ok_or_else(|| format!("could not find chaincode with package id '{package_id}'"))?.label;
    let references = (peer.references)(&package_id).into_iter().map(|(channel, chaincodes)| {
        let chaincodes = chaincodes.into_iter().map(|(name, version)| one::Chaincode { name, version }).collect();
        (channel, one::References { chaincodes })
    });
    let references = references.collect();
    Ok(QueryInstalledChaincodeResult { package_id, label, references }.encode_to_vec())
}

fn all_installed(peer: &Peer<'_>) -> Vec<u8> {
    let installed = peer.packages.list().into_iter().map(|(package_id, label)| {
        let references = (peer.references)(&package_id).into_iter().map(|(channel, chaincodes)| {
            let chaincodes = chaincodes.into_iter().map(|(name, version)| all::Chaincode { name, version }).collect();
            (channel, all::References { chaincodes })
        });
        all::InstalledChaincode { references: references.collect(), package_id, label }
    });
    QueryInstalledChaincodesResult { installed_chaincodes: installed.collect() }.encode_to_vec()
}

fn package(peer: &Peer<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let GetInstalledChaincodePackageArgs { package_id } = args(input)?;
    let chaincode_install_package = peer.packages.bytes(&package_id)?;
    Ok(GetInstalledChaincodePackageResult { chaincode_install_package }.encode_to_vec())
}

fn rules<'a>(bundle: &'a Bundle) -> Rules<'a> {
    Rules { channel: &bundle.channel, has_default_policy: bundle.has_policy(DEFAULT_POLICY) }
}

fn approve(peer: &Peer<'_>, channel: &mut OnChannel<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let ApproveChaincodeDefinitionForMyOrgArgs { source, .. } = args(input)?;
    let (name, definition) = requested(input)?;
    validate(channel, &name, &definition)?;
    let package_id = match source.and_then(|source| source.r#type) {
        Some(chaincode_source::Type::LocalPackage(local)) => local.package_id,
        Some(chaincode_source::Type::Unavailable(_)) | None => String::new(),
    };
    let approval = Approval { definition, package_id };
    rules(channel.bundle).approve(channel.simulator, &name, approval, peer.msp_id)?;
    Ok(ApproveChaincodeDefinitionForMyOrgResult {}.encode_to_vec())
}

fn approved(peer: &Peer<'_>, channel: &mut OnChannel<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let args: QueryApprovedChaincodeDefinitionArgs = args(input)?;
    let rules = rules(channel.bundle);
    let Approval { definition, package_id } =
        rules.approved(channel.simulator, &args.name, args.sequence, peer.msp_id)?;
    let result = QueryApprovedChaincodeDefinitionResult {
        sequence: definition.sequence,
        version: definition.endorsement.version,
        endorsement_plugin: definition.endorsement.endorsement_plugin,
        validation_plugin: definition.validation.validation_plugin,
        validation_parameter: definition.validation.validation_parameter,
        collections: Some(definition.collections),
        init_required: definition.endorsement.init_required,
        source: Some(source(package_id)),
    };
    Ok(result.encode_to_vec())
}

fn all_approved(peer: &Peer<'_>, channel: &mut OnChannel<'_>) -> Result<Vec<u8>, Refusal> {
    let all = rules(channel.bundle).all_approved(channel.simulator, peer.msp_id)?;
    let approved = all.into_iter().map(|(name, Approval { definition, package_id })| ApprovedChaincodeDefinition {
        name,
        sequence: definition.sequence,
        version: definition.endorsement.version,
        endorsement_plugin: definition.endorsement.endorsement_plugin,
        validation_plugin: definition.validation.validation_plugin,
        validation_parameter: definition.validation.validation_parameter,
        collections: Some(definition.collections),
        init_required: definition.endorsement.init_required,
        source: Some(source(package_id)),
    });
    let approved_chaincode_definitions = approved.collect();
    Ok(QueryApprovedChaincodeDefinitionsResult { approved_chaincode_definitions }.encode_to_vec())
}

fn check_readiness(channel: &mut OnChannel<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (name, mut definition) = requested(input)?;
    let orgs = channel.bundle.application_orgs();
    let readiness = rules(channel.bundle).readiness(channel.simulator, &name, &mut definition, &orgs)?;
    let Readiness { approvals, mismatches } = readiness;
    let mismatches = mismatches.into_iter().map(|(org, items)| (org, Mismatches { items })).collect();
    Ok(CheckCommitReadinessResult { approvals, mismatches }.encode_to_vec())
}

fn commit(peer: &Peer<'_>, channel: &mut OnChannel<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (name, mut definition) = requested(input)?;
    validate(channel, &name, &definition)?;
    let orgs = channel.bundle.application_orgs();
    if !orgs.iter().any(|org| org == peer.msp_id) {
        let what = "impossibly, this peer's org is processing requests for a channel it is not a member of".to_owned();
        return Err(what.into());
    }
    let readiness = rules(channel.bundle).commit(channel.simulator, &name, &mut definition, &orgs)?;
    if readiness.approvals.get(peer.msp_id) != Some(&true) {
        return Err(format!("chaincode definition not agreed to by this org ({})", peer.msp_id).into());
    }
    Ok(CommitChaincodeDefinitionResult {}.encode_to_vec())
}

fn defined(channel: &mut OnChannel<'_>, input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let QueryChaincodeDefinitionArgs { name } = args(input)?;
    let found = Definition::read(channel.simulator, &name)?;
    let missing = || Refusal { status: 404, message: format!("namespace {name} is not defined") };
    let definition = found.ok_or_else(missing)?;
    let orgs = channel.bundle.application_orgs();
    let readiness = approvals(channel.simulator, &name, &definition, &orgs)?;
    let result = QueryChaincodeDefinitionResult {
        sequence: definition.sequence,
        version: definition.endorsement.version,
        endorsement_plugin: definition.endorsement.endorsement_plugin,
        validation_plugin: definition.validation.validation_plugin,
        validation_parameter: definition.validation.validation_parameter,
        collections: Some(definition.collections),
        init_required: definition.endorsement.init_required,
        approvals: readiness.approvals,
    };
    Ok(result.encode_to_vec())
}

fn all_defined(channel: &mut OnChannel<'_>) -> Result<Vec<u8>, Refusal> {
    let mut chaincode_definitions = Vec::new();
    for name in rules(channel.bundle).defined(channel.simulator)? {
        let Some(definition) = Definition::read(channel.simulator, &name)? else { continue };
        chaincode_definitions.push(ChaincodeDefinition {
            name,
            sequence: definition.sequence,
            version: definition.endorsement.version,
            endorsement_plugin: definition.endorsement.endorsement_plugin,
            validation_plugin: definition.validation.validation_plugin,
            validation_parameter: definition.validation.validation_parameter,
            collections: Some(definition.collections),
            init_required: definition.endorsement.init_required,
        });
    }
    Ok(QueryChaincodeDefinitionsResult { chaincode_definitions }.encode_to_vec())
}

/// Name and definition that a request is about: those to approve, to check and to commit have the same fields under the
/// same numbers.
fn requested(input: &[u8]) -> Result<(String, Definition), Refusal> {
    let args: CheckCommitReadinessArgs = args(input)?;
    let definition = Definition {
        sequence: args.sequence,
        endorsement: ChaincodeEndorsementInfo {
            version: args.version,
            init_required: args.init_required,
            endorsement_plugin: args.endorsement_plugin,
        },
        validation: ChaincodeValidationInfo {
            validation_plugin: args.validation_plugin,
            validation_parameter: args.validation_parameter,
        },
        collections: args.collections.unwrap_or_default(),
    };
    Ok((args.name, definition))
}

fn source(package_id: String) -> ChaincodeSource {
    let kind = match package_id.is_empty() {
        true => chaincode_source::Type::Unavailable(chaincode_source::Unavailable {}),
        false => chaincode_source::Type::LocalPackage(chaincode_source::Local { package_id }),
    };
    ChaincodeSource { r#type: Some(kind) }
}

/// Rules for names, versions and collections.
fn validate(channel: &mut OnChannel<'_>, name: &str, definition: &Definition) -> Result<(), String> {
    let context = |e: String| format!("error validating chaincode definition: {e}");
    check_names(name, &definition.endorsement.version).map_err(context)?;
    let committed = Definition::read(channel.simulator, name)
        .map_err(|e| context(format!("could not retrieve committed definition for chaincode '{name}': {e}")))?;
    if committed.is_none() {
        // Fabric then looks whether the old lifecycle knows it, which leaves a trace in the read set.
        channel.simulator.get("lscc", name);
    }
    let committed = committed.map(|definition| definition.collections);
    collections::check(&definition.collections, committed.as_ref(), &channel.bundle.members).map_err(context)
}

fn check_names(name: &str, version: &str) -> Result<(), String> {
    let parts = || name.split(['-', '_']);
    if !parts().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(format!(
            "invalid chaincode name '{name}'. Names can only consist of alphanumerics, '_', and '-' and can only begin \
             with alphanumerics"
        ));
    }
    if SYSTEM.contains(&name) {
        return Err(format!("chaincode name '{name}' is the name of a system chaincode"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    if version.is_empty() || !version.bytes().all(allowed) {
        return Err(format!(
            "invalid chaincode version '{version}'. Versions can only consist of alphanumerics, '_', '-', '+', and '.'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_follow_fabrics_rules() {
        for name in ["ehr", "a-b_c", "1"] {
            assert_eq!(check_names(name, "1.0-rc+1"), Ok(()), "{name}");
        }
        for name in ["", "-a", "a-", "a--b", "a.b", "ü"] {
            assert!(check_names(name, "1").is_err_and(|e| e.starts_with("invalid chaincode name")), "{name}");
        }
        assert!(check_names("qscc", "1").is_err_and(|e| e.ends_with("is the name of a system chaincode")));
        assert!(check_names("a", "1 0").is_err_and(|e| e.starts_with("invalid chaincode version")));
        assert!(check_names("a", "").is_err());
    }
}
