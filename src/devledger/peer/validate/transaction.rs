//! A transaction's form and creator (Fabric: `core/common/validation/msgvalidation.go` and the first part of the plugin
//! dispatcher).

use prost::Message;
use sha2::{Digest, Sha256};

use crate::channel::bundle::Bundle;
use crate::peer::rwset::RwSet;
use ehrnet_fabric::envelope::tx_id;
use ehrnet_fabric::proto::common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;
use ehrnet_fabric::proto::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEvent, ChaincodeHeaderExtension, Endorsement,
    ProposalResponsePayload, Transaction,
};

/// A transaction that is what it should be, as far as its form goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Endorsed {
    /// Its id.
    pub tx_id: String,
    /// When its creator made it.
    pub timestamp: Option<prost_types::Timestamp>,
    /// The chaincode called.
    pub chaincode: String,
    /// What it read and wrote.
    pub set: RwSet,
    /// What the chaincode announced.
    pub event: Option<ChaincodeEvent>,
    /// What endorsers signed (`protos.ProposalResponsePayload`).
    pub response: Vec<u8>,
    /// Their signatures.
    pub endorsements: Vec<Endorsement>,
}

/// A transaction whose envelope and creator are right.
struct Signed {
    channel: ChannelHeader,
    action: ChaincodeActionPayload,
}

/// Read a transaction of the channel. `is_known` tells whether a transaction id is on the ledger already.
///
/// # Errors
/// Fabric's verdict.
pub fn read(envelope: &[u8], bundle: &Bundle, is_known: impl Fn(&str) -> bool) -> Result<Endorsed, Code> {
    let Signed { channel, action } = signed(envelope, bundle)?;
    if channel.channel_id != bundle.channel {
        return Err(Code::TargetChainNotFound);
    }
    if is_known(&channel.tx_id) {
        return Err(Code::DuplicateTxid);
    }
    content(&channel, &action)
}

/// The same without any check, for transactions found valid before.
pub fn reread(envelope: &[u8]) -> Option<Endorsed> {
    let payload = Payload::decode(Envelope::decode(envelope).ok()?.payload.as_slice()).ok()?;
    let channel = ChannelHeader::decode(payload.header?.channel_header.as_slice()).ok()?;
    if channel.r#type != i32::from(HeaderType::EndorserTransaction) {
        return None;
    }
    let transaction = Transaction::decode(payload.data.as_slice()).ok()?;
    let action = ChaincodeActionPayload::decode(transaction.actions.first()?.payload.as_slice()).ok()?;
    content(&channel, &action).ok()
}

fn signed(envelope: &[u8], bundle: &Bundle) -> Result<Signed, Code> {
    let envelope = Envelope::decode(envelope).map_err(|_| Code::InvalidOtherReason)?;
    let payload = Payload::decode(envelope.payload.as_slice()).map_err(|_| Code::BadPayload)?;
    let header = payload.header.ok_or(Code::BadCommonHeader)?;
    let (channel, signature) = headers(&header).ok_or(Code::BadCommonHeader)?;
    let creator = bundle.members.identity(&signature.creator);
    let creator = creator.and_then(|creator| creator.verify(&envelope.payload, &envelope.signature));
    creator.map_err(|reason| {
        tracing::warn!(reason, tx = channel.tx_id, "a transaction's creator did not sign it");
        Code::BadCreatorSignature
    })?;
    if channel.r#type != i32::from(HeaderType::EndorserTransaction) {
        return Err(Code::UnsupportedTxPayload);
    }
    if channel.tx_id != tx_id(&signature.nonce, &signature.creator) {
        return Err(Code::BadProposalTxid);
    }
    let action = action(&payload.data, &header).ok_or(Code::InvalidEndorserTransaction)?;
    Ok(Signed { channel, action })
}

fn headers(header: &Header) -> Option<(ChannelHeader, SignatureHeader)> {
    let channel = ChannelHeader::decode(header.channel_header.as_slice()).ok()?;
    let signature = SignatureHeader::decode(header.signature_header.as_slice()).ok()?;
    let kinds = [HeaderType::EndorserTransaction, HeaderType::ConfigUpdate, HeaderType::Config];
    let right = kinds.iter().any(|kind| channel.r#type == i32::from(*kind)) && channel.epoch == 0;
    (right && !signature.nonce.is_empty() && !signature.creator.is_empty()).then_some((channel, signature))
}

/// The one action of a transaction, if it belongs to the proposal in the header.
fn action(data: &[u8], header: &Header) -> Option<ChaincodeActionPayload> {
    let transaction = Transaction::decode(data).ok()?;
    let [action] = transaction.actions.as_slice() else { return None };
    let signature = SignatureHeader::decode(action.header.as_slice()).ok()?;
    if signature.nonce.is_empty() || signature.creator.is_empty() {
        return None;
    }
    let payload = ChaincodeActionPayload::decode(action.payload.as_slice()).ok()?;
    let response = payload.action.as_ref()?.proposal_response_payload.as_slice();
    let response = ProposalResponsePayload::decode(response).ok()?;
    let hash = proposal_hash(&header.channel_header, &action.header, &payload.chaincode_proposal_payload);
    (response.proposal_hash == hash).then_some(payload)
}

/// What binds an endorsement to its proposal: SHA-256 over both headers and the payload without its transient part.
pub fn proposal_hash(channel_header: &[u8], signature_header: &[u8], payload: &[u8]) -> Vec<u8> {
    let hash = Sha256::new().chain_update(channel_header).chain_update(signature_header).chain_update(payload);
    hash.finalize().to_vec()
}

fn content(channel: &ChannelHeader, payload: &ChaincodeActionPayload) -> Result<Endorsed, Code> {
    let extension = ChaincodeHeaderExtension::decode(channel.extension.as_slice());
    let called = extension.map_err(|_| Code::BadHeaderExtension)?.chaincode_id;
    let endorsed = payload.action.clone().unwrap_or_default();
    let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload.as_slice())
        .map_err(|_| Code::BadResponsePayload)?;
    let action = ChaincodeAction::decode(response.extension.as_slice()).map_err(|_| Code::BadResponsePayload)?;
    let set = RwSet::decode(&action.results).map_err(|_| Code::BadRwset)?;
    let (called, answered) = called.zip(action.chaincode_id).ok_or(Code::InvalidOtherReason)?;
    if called.name.is_empty() || called.name != answered.name || answered.version.is_empty() {
        return Err(Code::InvalidChaincode);
    }
    let event = match action.events.as_slice() {
        [] => None,
        bytes => Some(ChaincodeEvent::decode(bytes).map_err(|_| Code::InvalidOtherReason)?),
    };
    if event.as_ref().is_some_and(|event| event.chaincode_id != called.name) {
        return Err(Code::InvalidOtherReason);
    }
    let mut names: Vec<&str> = set.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Code::IllegalWriteset);
    }
    Ok(Endorsed {
        tx_id: channel.tx_id.clone(),
        timestamp: channel.timestamp,
        chaincode: called.name,
        set,
        event,
        response: endorsed.proposal_response_payload,
        endorsements: endorsed.endorsements,
    })
}
