//! Proposals to endorsers, and the transaction that their answers make (Fabric: `protoutil/proputils.go`, `txutils.go`).
//!
//! The trap: the transient map goes to endorsers and must not reach the ledger. It is left out of the transaction, and
//! out of the hash that endorsers sign.

use std::collections::BTreeMap;

use prost::Message;

use super::envelope::{Stamp, channel_header, header};
use super::error::LedgerError;
use super::identity::SigningIdentity;
use super::proto::common::{Envelope, Header, HeaderType, Payload};
use super::proto::protos::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension, ChaincodeId,
    ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec, Endorsement, Proposal,
    ProposalResponse, ProposalResponsePayload, Response, SignedProposal, Transaction, TransactionAction,
    chaincode_spec,
};

/// A call of a chaincode. `channel` is empty for calls about the peer itself.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Channel, or empty.
    pub channel: &'a str,
    /// Name of the chaincode.
    pub chaincode: &'a str,
    /// Name of the function, then its arguments.
    pub args: Vec<Vec<u8>>,
    /// Data for the endorsers only, which never reaches the ledger.
    pub transient: BTreeMap<String, Vec<u8>>,
    /// Whether this is the call that a chaincode with `initRequired` waits for.
    pub is_init: bool,
}

impl<'a> Call<'a> {
    /// A call without transient data.
    pub fn new(channel: &'a str, chaincode: &'a str, args: Vec<Vec<u8>>) -> Self {
        Self { channel, chaincode, args, transient: Default::default(), is_init: false }
    }
}

/// The proposal of a call, and its transaction id.
pub fn proposal(creator: &[u8], call: &Call<'_>, stamp: &Stamp) -> (Proposal, String) {
    let chaincode_id = ChaincodeId { name: call.chaincode.into(), ..Default::default() };
    let mut channel_header = channel_header(HeaderType::EndorserTransaction, call.channel, creator, stamp);
    channel_header.extension = ChaincodeHeaderExtension { chaincode_id: Some(chaincode_id.clone()) }.encode_to_vec();
    let invocation = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            r#type: chaincode_spec::Type::Golang.into(),
            chaincode_id: Some(chaincode_id),
            input: Some(ChaincodeInput { args: call.args.clone(), is_init: call.is_init, ..Default::default() }),
            timeout: 0,
        }),
    };
    let payload = ChaincodeProposalPayload { input: invocation.encode_to_vec(), transient_map: call.transient.clone() };
    let proposal = Proposal {
        header: header(&channel_header, creator, stamp).encode_to_vec(),
        payload: payload.encode_to_vec(),
        extension: vec![],
    };
    (proposal, channel_header.tx_id)
}

/// The proposal of a call, signed, and its transaction id.
pub fn signed_proposal(signer: &SigningIdentity, call: &Call<'_>, stamp: &Stamp) -> (SignedProposal, String) {
    let (proposal, tx_id) = proposal(signer.serialized(), call, stamp);
    let proposal_bytes = proposal.encode_to_vec();
    (SignedProposal { signature: signer.sign(&proposal_bytes), proposal_bytes }, tx_id)
}

/// What one endorser answered to a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The endorser, as errors should name it.
    pub node: String,
    /// Its answer.
    pub response: ProposalResponse,
}

/// The transaction that `answers` to `proposal` make, not yet signed by the proposal's creator.
///
/// # Errors
/// `Disagreement` if the answers are not of one result, byte for byte. `Refused` if an endorser did not endorse.
/// `Invalid` if there is no answer, or the proposal is not readable.
pub fn transaction(proposal: &SignedProposal, answers: &[Answer]) -> Result<Envelope, LedgerError> {
    let unreadable = |e: prost::DecodeError| LedgerError::Invalid(format!("proposal is not readable: {e}"));
    let proposal = Proposal::decode(proposal.proposal_bytes.as_slice()).map_err(unreadable)?;
    let header = Header::decode(proposal.header.as_slice()).map_err(unreadable)?;
    let payload = ChaincodeProposalPayload::decode(proposal.payload.as_slice()).map_err(unreadable)?;
    let action = ChaincodeActionPayload {
        chaincode_proposal_payload: without_transient(payload).encode_to_vec(),
        action: Some(endorsed(answers)?),
    };
    let action = TransactionAction { header: header.signature_header.clone(), payload: action.encode_to_vec() };
    let data = Transaction { actions: vec![action] }.encode_to_vec();
    Ok(Envelope { payload: Payload { header: Some(header), data }.encode_to_vec(), signature: vec![] })
}

/// The part of a proposal's payload that everybody may see.
fn without_transient(payload: ChaincodeProposalPayload) -> ChaincodeProposalPayload {
    ChaincodeProposalPayload { transient_map: BTreeMap::new(), ..payload }
}

/// `envelope` with `signer`'s signature.
pub fn sign(signer: &SigningIdentity, envelope: Envelope) -> Envelope {
    Envelope { signature: signer.sign(&envelope.payload), ..envelope }
}

/// The one result of all answers, with each endorser's signature once.
fn endorsed(answers: &[Answer]) -> Result<ChaincodeEndorsedAction, LedgerError> {
    let first = answers.first().ok_or_else(|| LedgerError::Invalid("no endorser was asked".into()))?;
    let mut endorsements: Vec<Endorsement> = Vec::new();
    for answer in answers {
        let endorsement = endorsement(answer)?;
        if !endorsements.iter().any(|e| e.endorser == endorsement.endorser) {
            endorsements.push(endorsement.clone());
        }
    }
    if answers.iter().any(|a| a.response.payload != first.response.payload) {
        return Err(LedgerError::Disagreement { endorsers: by_result(answers) });
    }
    Ok(ChaincodeEndorsedAction { proposal_response_payload: first.response.payload.clone(), endorsements })
}

fn endorsement(answer: &Answer) -> Result<&Endorsement, LedgerError> {
    let response = answer.response.response.clone().unwrap_or_default();
    if !succeeded(&response) {
        let status = u16::try_from(response.status).unwrap_or(500);
        return Err(LedgerError::Refused { node: answer.node.clone(), status, message: response.message });
    }
    answer.response.endorsement.as_ref().ok_or_else(|| {
        LedgerError::Invalid(format!("{} answered the proposal and did not sign its answer", answer.node))
    })
}

/// Whether a response is one that can become part of a transaction.
pub fn succeeded(response: &Response) -> bool {
    (200..400).contains(&response.status)
}

/// Names of the endorsers, those with the same result together; the result of most of them first.
fn by_result(answers: &[Answer]) -> Vec<Vec<String>> {
    let mut results: Vec<(&[u8], Vec<String>)> = Vec::new();
    for answer in answers {
        match results.iter_mut().find(|(payload, _)| *payload == answer.response.payload) {
            Some((_, nodes)) => nodes.push(answer.node.clone()),
            None => results.push((&answer.response.payload, vec![answer.node.clone()])),
        }
    }
    results.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    results.into_iter().map(|(_, nodes)| nodes).collect()
}

/// What the chaincode did, out of an endorser's signed payload (`ProposalResponsePayload`).
pub fn action(proposal_response_payload: &[u8]) -> Result<ChaincodeAction, prost::DecodeError> {
    let payload = ProposalResponsePayload::decode(proposal_response_payload)?;
    ChaincodeAction::decode(payload.extension.as_slice())
}

/// The response of the chaincode in a transaction (signed or not).
pub fn response_of(envelope: &Envelope) -> Result<Response, LedgerError> {
    read_response(envelope).map_err(|e| LedgerError::Invalid(format!("transaction is not readable: {e}")))
}

fn read_response(envelope: &Envelope) -> Result<Response, prost::DecodeError> {
    let payload = Payload::decode(envelope.payload.as_slice())?;
    let transaction = Transaction::decode(payload.data.as_slice())?;
    let actions = transaction.actions.into_iter().next().unwrap_or_default();
    let endorsed = ChaincodeActionPayload::decode(actions.payload.as_slice())?.action.unwrap_or_default();
    Ok(action(&endorsed.proposal_response_payload)?.response.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::common::ChannelHeader;
    use crate::testing::Ca;

    fn asked() -> (SignedProposal, String, SigningIdentity) {
        let signer = Ca::new("ca").identity("OrgMSP", "client");
        let mut call = Call::new("records", "ehr", vec![b"PutConsent".to_vec(), b"{}".to_vec()]);
        call.transient.insert("consent".into(), b"private words".to_vec());
        let (proposal, tx_id) = signed_proposal(&signer, &call, &Stamp::now());
        (proposal, tx_id, signer)
    }

    fn answer(node: &str, result: &[u8]) -> Answer {
        let action = ChaincodeAction {
            response: Some(Response { status: 200, message: String::new(), payload: result.to_vec() }),
            ..Default::default()
        };
        let payload = ProposalResponsePayload { proposal_hash: vec![1], extension: action.encode_to_vec() };
        let endorsement = Endorsement { endorser: node.as_bytes().to_vec(), signature: vec![2] };
        let response = ProposalResponse {
            response: Some(Response { status: 200, ..Default::default() }),
            payload: payload.encode_to_vec(),
            endorsement: Some(endorsement),
            ..Default::default()
        };
        Answer { node: node.into(), response }
    }

    #[test]
    fn a_transaction_has_the_proposals_headers_and_everything_but_its_transient_data() {
        let (proposal, tx_id, signer) = asked();
        assert!(find(&proposal.proposal_bytes, b"private words"), "endorsers get it");
        let unsigned = transaction(&proposal, &[answer("a:7051", b"ok"), answer("b:7051", b"ok")]).expect("assembled");
        let envelope = sign(&signer, unsigned);
        assert!(!find(&envelope.payload, b"private words"), "the ledger does not");
        assert!(find(&envelope.payload, b"PutConsent"));
        let certificate = signer.certificate_pem().as_bytes();
        assert_eq!(crate::identity::verify(certificate, &envelope.payload, &envelope.signature), Ok(()));
        let header = Payload::decode(envelope.payload.as_slice()).expect("payload").header.expect("header");
        let channel = ChannelHeader::decode(header.channel_header.as_slice()).expect("channel header");
        assert_eq!((channel.tx_id, channel.channel_id.as_str()), (tx_id, "records"));
        assert_eq!(response_of(&envelope).expect("response").payload, b"ok");
    }

    #[test]
    fn an_endorser_counts_once() {
        let (proposal, ..) = asked();
        let envelope = transaction(&proposal, &[answer("a:7051", b"ok"), answer("a:7051", b"ok")]).expect("assembled");
        let payload = Payload::decode(envelope.payload.as_slice()).expect("payload");
        let transaction = Transaction::decode(payload.data.as_slice()).expect("transaction");
        let action = ChaincodeActionPayload::decode(transaction.actions[0].payload.as_slice()).expect("action");
        assert_eq!(action.action.expect("endorsed").endorsements.len(), 1);
    }

    #[test]
    fn who_differs_is_named() {
        let (proposal, ..) = asked();
        let answers = [answer("c:7051", b"permit"), answer("a:7051", b"deny"), answer("b:7051", b"deny")];
        let error = transaction(&proposal, &answers).expect_err("different results");
        assert_eq!(
            error.to_string(),
            "endorsers do not agree on the result: a:7051 and b:7051 have one, c:7051 another"
        );
    }

    #[test]
    fn a_refusal_is_no_endorsement() {
        let (proposal, ..) = asked();
        let mut refusal = answer("a:7051", b"");
        refusal.response.response = Some(Response { status: 500, message: "no".into(), ..Default::default() });
        let error = transaction(&proposal, &[refusal]).expect_err("refused");
        assert_eq!(error.to_string(), "a:7051 refused with status 500: no");
        let mut unsigned = answer("a:7051", b"");
        unsigned.response.endorsement = None;
        let error = transaction(&proposal, &[unsigned]).expect_err("unsigned");
        assert_eq!(error.to_string(), "a:7051 answered the proposal and did not sign its answer");
        assert!(matches!(transaction(&proposal, &[]), Err(LedgerError::Invalid(_))));
    }

    fn find(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }
}
