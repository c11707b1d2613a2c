//! Who may call what (Fabric: `core/aclmgmt`): for calls about the peer, roles in its own organisation; for calls about a
//! channel, policies of the channel, which its configuration may replace.

use super::endorser::Endorser;
use super::proposal::Unpacked;
use crate::channel::SignedData;
use crate::channel::bundle::Bundle;
use ehrnet_fabric::policy::role_principal;
use ehrnet_fabric::proto::common::msp_role::MspRoleType;

const READERS: &str = "/Channel/Application/Readers";
const WRITERS: &str = "/Channel/Application/Writers";

/// What a resource asks for.
enum Rule {
    /// A role in the peer's own organisation.
    Local(MspRoleType, &'static str),
    /// A policy of the channel.
    Channel(&'static str),
}

fn rule(resource: &str) -> Option<Rule> {
    let admins = Rule::Local(MspRoleType::Admin, "Admins");
    Some(match resource {
        "_lifecycle/InstallChaincode"
        | "_lifecycle/QueryInstalledChaincode"
        | "_lifecycle/QueryInstalledChaincodes"
        | "_lifecycle/GetInstalledChaincodePackage"
        | "_lifecycle/ApproveChaincodeDefinitionForMyOrg"
        | "_lifecycle/QueryApprovedChaincodeDefinition"
        | "_lifecycle/QueryApprovedChaincodeDefinitions"
        | "cscc/JoinChain"
        | "cscc/JoinChainBySnapshot"
        | "cscc/JoinBySnapshotStatus" => admins,
        "cscc/GetChannels" => Rule::Local(MspRoleType::Member, "Members"),
        "_lifecycle/CheckCommitReadiness"
        | "_lifecycle/CommitChaincodeDefinition"
        | "_lifecycle/QueryChaincodeDefinition"
        | "_lifecycle/QueryChaincodeDefinitions"
        | "peer/Propose"
        | "peer/ChaincodeToChaincode" => Rule::Channel(WRITERS),
        _ if resource.starts_with("qscc/") => Rule::Channel(READERS),
        "cscc/GetConfigBlock" | "cscc/GetChannelConfig" => Rule::Channel(READERS),
        "gateway/CommitStatus" | "gateway/ChaincodeEvents" => Rule::Channel(READERS),
        _ => return None,
    })
}

impl Endorser {
    /// Whether the caller may use a resource such as `peer/Propose`, on a channel where it is one of a channel.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn check_access(&self, call: &Unpacked, resource: &str, channel: &str) -> Result<(), String> {
        match rule(resource).ok_or_else(|| format!("Unmapped policy for {resource}"))? {
            Rule::Local(role, policy) => self.check_local(call, role, policy),
            Rule::Channel(default) => {
                let bundle = self.channels.get(channel).and_then(|joined| joined.bundle());
                let bundle = bundle.ok_or_else(|| format!("Failed to get policy manager for channel [{channel}]"))?;
                check_channel(call.signed_data(), &bundle, resource, default)
            }
        }
    }

    fn check_local(&self, call: &Unpacked, role: MspRoleType, policy: &str) -> Result<(), String> {
        let context = "during channelless check policy with policy";
        let identity = self.local.members.identity(&call.signature.creator);
        let identity =
            identity.map_err(|e| format!("Failed deserializing proposal creator {context} [{policy}]: [{e}]"))?;
        let msp = &self.local.msp_id;
        if identity.satisfies(&role_principal(msp, role)) {
            return Ok(());
        }
        // A valid member of the organisation always satisfies Members: only administrators are told apart here.
        Err(format!(
            "Failed verifying that proposal's creator satisfies local MSP principal {context} [{policy}]: [The identity \
             is not an admin under this MSP [{msp}]: The identity does not contain OU [ADMIN], MSP: [{msp}]]"
        ))
    }
}

/// Whether the signer of a request may use a resource of a channel, such as `gateway/CommitStatus`.
///
/// # Errors
/// Fabric's words.
pub fn check_signed(signed: SignedData, bundle: &Bundle, resource: &str) -> Result<(), String> {
    match rule(resource) {
        Some(Rule::Channel(default)) => check_channel(signed, bundle, resource, default),
        _ => Err(format!("Unmapped policy for {resource}")),
    }
}

fn check_channel(signed: SignedData, bundle: &Bundle, resource: &str, default: &str) -> Result<(), String> {
    let policy = bundle.acl(resource).unwrap_or_else(|| default.to_owned());
    bundle.check(&policy, &[signed]).map_err(|e| {
        format!(
            "Failed evaluating policy on signed data during check policy on channel [{}] with policy [{policy}]: [{e}]",
            bundle.channel
        )
    })
}
