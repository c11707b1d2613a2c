//! Checks of proposals, and who may ask what: the front of the peer.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;

use super::channels::Channels;
use super::system;
use crate::devledger::channel::{SignedData, certificate};
use crate::devledger::deliver::{now_seconds, within};
use crate::devledger::faults::{Faults, Operation};
use crate::devledger::node::LocalMembers;
use crate::fabric::envelope::tx_id;
use crate::fabric::membership::Membership;
use crate::fabric::policy::role_principal;
use crate::fabric::proto::common::{ChannelHeader, Header, HeaderType, SignatureHeader, msp_role::MspRoleType};
use crate::fabric::proto::msp::SerializedIdentity;
use crate::fabric::proto::protos::{
    ChaincodeHeaderExtension, ChaincodeInvocationSpec, ChaincodeProposalPayload, Proposal, ProposalResponse, Response,
    SignedProposal,
};

/// The endorser.
pub struct Endorser {
    /// The peer's channels.
    pub channels: Arc<Channels>,
    /// The peer's own organisation.
    pub local: LocalMembers,
    /// How far a proposal's timestamp may be off.
    pub time_window: Duration,
    /// Faults to play.
    pub faults: Faults,
}

/// A proposal taken apart.
pub struct Unpacked {
    channel: ChannelHeader,
    signature: SignatureHeader,
    chaincode: String,
    /// Arguments of the call.
    pub args: Vec<Vec<u8>>,
    signed: SignedProposal,
}

/// How a request ends without a response: Fabric's words, as a gRPC error of code Unknown.
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl Endorser {
    /// Answer a proposal.
    ///
    /// # Errors
    /// What is wrong with the proposal itself; what goes wrong later is in the response.
    pub async fn process(&self, signed: SignedProposal) -> Result<ProposalResponse, Failure> {
        let call = unpack(signed)?;
        let name = call.target();
        let verdict = self.faults.meet(Operation::Propose, &name).await;
        if let Some(refusal) = verdict.refusal {
            return Ok(response(Err((i32::from(refusal.status), refusal.message))));
        }
        if certificate::expires_at(&call.signature.creator).is_some_and(|end| end < now_seconds()) {
            return Err(Failure("proposal client identity expired".into()));
        }
        self.check_time(&call)?;
        let bundle = match call.channel.channel_id.as_str() {
            "" => None,
            name => match self.channels.get(name).and_then(|joined| joined.bundle()) {
                Some(bundle) => Some(bundle),
                None => return Ok(response(Err((500, format!("channel '{name}' not found"))))),
            },
        };
        let members = bundle.as_ref().map_or(&self.local.members, |bundle| &bundle.members);
        check(&call, members).map_err(|e| format!("error validating proposal: {e}"))?;
        let id = &call.channel.tx_id;
        if self.channels.get(&call.channel.channel_id).is_some_and(|joined| joined.transaction(id).is_some()) {
            let creator = hex::encode(&call.signature.creator);
            return Err(Failure(format!("duplicate transaction found [{id}]. Creator [{creator}]")));
        }
        let result = match call.chaincode.as_str() {
            "cscc" => system::configuration(self, &call).await,
            "qscc" => system::query(self, &call),
            other => Err(format!(
                "make sure the chaincode {other} has been successfully defined on channel {} and try again: \
                 chaincode {other} not found",
                call.channel.channel_id
            )),
        };
        if verdict.drop_reply {
            return Err(Failure("connection broken on request".into()));
        }
        Ok(response(result.map_err(|message| (500, message))))
    }

    fn check_time(&self, call: &Unpacked) -> Result<(), Failure> {
        let sent = call.channel.timestamp.unwrap_or_default().seconds;
        if within(sent, self.time_window) {
            return Ok(());
        }
        let text = |seconds| Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
        Err(Failure(format!(
            "request unauthorized due to incorrect timestamp {}, peer time {}, peer.authentication.timewindow {}",
            text(sent),
            text(now_seconds()),
            crate::fabric::duration::format(self.time_window)
        )))
    }

    /// Whether the caller has a role in the peer's own organisation.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn check_local(&self, call: &Unpacked, role: MspRoleType, policy: &str) -> Result<(), String> {
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

    /// Whether the caller may read a channel.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn check_reader(&self, call: &Unpacked, channel: &str) -> Result<(), String> {
        const POLICY: &str = "/Channel/Application/Readers";
        let bundle = self.channels.get(channel).and_then(|joined| joined.bundle());
        let bundle = bundle.ok_or_else(|| format!("Failed to get policy manager for channel [{channel}]"))?;
        let signed = SignedData {
            data: call.signed.proposal_bytes.clone(),
            identity: call.signature.creator.clone(),
            signature: call.signed.signature.clone(),
        };
        bundle.check(POLICY, &[signed]).map_err(|e| {
            format!(
                "Failed evaluating policy on signed data during check policy on channel [{channel}] \
                 with policy [{POLICY}]: [{e}]"
            )
        })
    }
}

impl Unpacked {
    /// The channel the call is about, for matching faults.
    fn target(&self) -> String {
        if !self.channel.channel_id.is_empty() {
            return self.channel.channel_id.clone();
        }
        let block = self.args.get(1).and_then(|arg| system::channel_of_block(arg));
        let text = self.args.get(1).and_then(|arg| String::from_utf8(arg.clone()).ok());
        block.or(text).unwrap_or_default()
    }
}

fn unpack(signed: SignedProposal) -> Result<Unpacked, String> {
    let unreadable = |what: &str, e: prost::DecodeError| format!("error unmarshalling {what}: {e}");
    let proposal = Proposal::decode(signed.proposal_bytes.as_slice()).map_err(|e| unreadable("Proposal", e))?;
    let header = Header::decode(proposal.header.as_slice()).map_err(|e| unreadable("Header", e))?;
    let channel =
        ChannelHeader::decode(header.channel_header.as_slice()).map_err(|e| unreadable("ChannelHeader", e))?;
    let signature =
        SignatureHeader::decode(header.signature_header.as_slice()).map_err(|e| unreadable("SignatureHeader", e))?;
    let extension = ChaincodeHeaderExtension::decode(channel.extension.as_slice())
        .map_err(|e| unreadable("ChaincodeHeaderExtension", e))?;
    let chaincode = extension.chaincode_id.ok_or("ChaincodeHeaderExtension.ChaincodeId is nil")?.name;
    if chaincode.is_empty() {
        return Err("ChaincodeHeaderExtension.ChaincodeId.Name is empty".into());
    }
    let payload = ChaincodeProposalPayload::decode(proposal.payload.as_slice())
        .map_err(|e| unreadable("ChaincodeProposalPayload", e))?;
    let invocation = ChaincodeInvocationSpec::decode(payload.input.as_slice())
        .map_err(|e| unreadable("ChaincodeInvocationSpec", e))?;
    let spec = invocation.chaincode_spec.ok_or("chaincode invocation spec did not contain chaincode spec")?;
    let args = spec.input.ok_or("chaincode input did not contain any input")?.args;
    Ok(Unpacked { channel, signature, chaincode, args, signed })
}

fn check(call: &Unpacked, members: &Membership) -> Result<(), String> {
    let Unpacked { channel, signature, signed, .. } = call;
    match HeaderType::try_from(channel.r#type) {
        Ok(HeaderType::EndorserTransaction | HeaderType::Config) => {}
        Ok(other) => return Err(format!("invalid header type {}", other.as_str_name())),
        Err(_) => return Err(format!("invalid header type {}", channel.r#type)),
    }
    if channel.epoch != 0 {
        return Err("epoch is non-zero".into());
    }
    if signature.nonce.is_empty() {
        return Err("nonce is empty".into());
    }
    if signature.creator.is_empty() {
        return Err("creator is empty".into());
    }
    let expected = tx_id(&signature.nonce, &signature.creator);
    if channel.tx_id != expected {
        return Err(format!("incorrectly computed txid '{}' -- expected '{expected}'", channel.tx_id));
    }
    if signed.signature.is_empty() {
        return Err("empty signature bytes".into());
    }
    let denied = format!("access denied: channel [{}] creator org", channel.channel_id);
    let claimed = SerializedIdentity::decode(signature.creator.as_slice()).ok();
    let claimed = claimed.filter(|id| members.knows(&id.mspid) && certificate::der(&id.id_bytes).is_some());
    let claimed = claimed.ok_or_else(|| format!("{denied} unknown, creator is malformed"))?;
    let valid = members.identity(&signature.creator);
    let valid = valid.and_then(|identity| identity.verify(&signed.proposal_bytes, &signed.signature));
    valid.map_err(|reason| {
        tracing::warn!(reason, "access denied");
        format!("{denied} [{}]", claimed.mspid)
    })
}

fn response(result: Result<Vec<u8>, (i32, String)>) -> ProposalResponse {
    let response = match result {
        Ok(payload) => Response { status: 200, message: String::new(), payload },
        Err((status, message)) => Response { status, message, payload: Vec::new() },
    };
    ProposalResponse { response: Some(response), ..Default::default() }
}
