//! Proposals taken apart, and what must be right about each (Fabric: `core/endorser/msgvalidation.go`).

use prost::Message;

use super::validate::transaction::proposal_hash;
use crate::channel::{SignedData, certificate};
use ehrnet_fabric::envelope::tx_id;
use ehrnet_fabric::membership::{Identity, Membership};
use ehrnet_fabric::proto::common::{ChannelHeader, Header, HeaderType, SignatureHeader};
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_fabric::proto::protos::{
    ChaincodeHeaderExtension, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload, Proposal,
    SignedProposal,
};

/// A proposal taken apart.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// What it is about.
    pub channel: ChannelHeader,
    /// Who made it.
    pub signature: SignatureHeader,
    /// The chaincode called.
    pub chaincode: String,
    /// The call.
    pub input: ChaincodeInput,
    /// What an endorsement is bound to.
    pub hash: Vec<u8>,
    /// As it came.
    pub signed: SignedProposal,
}

impl Unpacked {
    /// Take a proposal apart.
    ///
    /// # Errors
    /// Fabric's words for what is missing or malformed.
    pub fn new(signed: SignedProposal) -> Result<Self, String> {
        let unreadable = |what: &str, e: prost::DecodeError| format!("error unmarshalling {what}: {e}");
        let proposal = Proposal::decode(signed.proposal_bytes.as_slice()).map_err(|e| unreadable("Proposal", e))?;
        let header = Header::decode(proposal.header.as_slice()).map_err(|e| unreadable("Header", e))?;
        let channel =
            ChannelHeader::decode(header.channel_header.as_slice()).map_err(|e| unreadable("ChannelHeader", e))?;
        let signature = SignatureHeader::decode(header.signature_header.as_slice())
            .map_err(|e| unreadable("SignatureHeader", e))?;
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
        let input = spec.input.ok_or("chaincode input did not contain any input")?;
        let public = ChaincodeProposalPayload { input: payload.input, ..Default::default() }.encode_to_vec();
        let hash = proposal_hash(&header.channel_header, &header.signature_header, &public);
        Ok(Self { channel, signature, chaincode, input, hash, signed })
    }

    /// The channel; empty for calls about the peer itself.
    pub fn channel_id(&self) -> &str {
        &self.channel.channel_id
    }

    /// The transaction's id.
    pub fn tx_id(&self) -> &str {
        &self.channel.tx_id
    }

    /// Its signature.
    pub fn signed_data(&self) -> SignedData {
        SignedData {
            data: self.signed.proposal_bytes.clone(),
            identity: self.signature.creator.clone(),
            signature: self.signed.signature.clone(),
        }
    }

    /// The same proposal with other arguments, for calls of a chaincode by another.
    pub fn with_input(&self, chaincode: &str, input: ChaincodeInput) -> Self {
        Self { chaincode: chaincode.to_owned(), input, ..self.clone() }
    }

    /// Who made it, if headers and signature are as they should be and `members` vouch for the creator.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn check(&self, members: &Membership) -> Result<Identity, String> {
        let Self { channel, signature, signed, .. } = self;
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
        let valid = members.identity(&signature.creator).and_then(|identity| {
            identity.verify(&signed.proposal_bytes, &signed.signature)?;
            Ok(identity)
        });
        valid.map_err(|reason| {
            tracing::warn!(reason, "access denied");
            format!("{denied} [{}]", claimed.mspid)
        })
    }
}
