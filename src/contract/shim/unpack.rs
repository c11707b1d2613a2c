//! From the peer's message to a call: arguments, and out of the signed proposal the creator, time and private input.

use jiff::Timestamp;
use prost::Message;

use crate::caller::Caller;
use crate::{Call, ContractError};
use ehrnet_fabric::proto::common::{ChannelHeader, Header, SignatureHeader};
use ehrnet_fabric::proto::protos::{ChaincodeInput, ChaincodeMessage, ChaincodeProposalPayload, Proposal};

/// The call that the peer asks to run. The peer has checked the proposal's signature and the creator's certificate.
pub fn call(message: &ChaincodeMessage) -> Result<Call, ContractError> {
    let signed = message.proposal.as_ref().ok_or_else(|| unreadable("proposal"))?;
    let proposal: Proposal = decode(&signed.proposal_bytes, "proposal")?;
    let header: Header = decode(&proposal.header, "header")?;
    let channel: ChannelHeader = decode(&header.channel_header, "channel header")?;
    let signature: SignatureHeader = decode(&header.signature_header, "signature header")?;
    let payload: ChaincodeProposalPayload = decode(&proposal.payload, "payload")?;
    let input: ChaincodeInput = decode(&message.payload, "input")?;
    let time = channel.timestamp.ok_or_else(|| unreadable("timestamp"))?;
    Ok(Call {
        tx_id: message.txid.clone(),
        at: Timestamp::new(time.seconds, time.nanos).map_err(|_| unreadable("timestamp"))?,
        caller: Caller::from_creator(&signature.creator)?,
        args: input.args,
        transient: payload.transient_map,
    })
}

fn decode<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M, ContractError> {
    M::decode(bytes).map_err(|_| unreadable(what))
}

fn unreadable(what: &str) -> ContractError {
    ContractError::malformed(format_args!("the proposal's {what} is missing or cannot be read"))
}
