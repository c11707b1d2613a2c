//! The endorser: from a signed proposal to a response, endorsed or not (Fabric: `core/endorser/endorser.go`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;

use super::Node;
use super::chaincode::runtime::Runtime;
use super::channels::Channels;
use super::execute::Invocation;
use super::joined::Joined;
use super::proposal::Unpacked;
use super::simulate::interest::interest;
use super::simulate::simulator::Simulator;
use super::{lifecycle, system};
use crate::channel::certificate;
use crate::deliver::{now_seconds, within};
use crate::faults::{Faults, Operation};
use crate::node::LocalMembers;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::proto::protos::{
    ChaincodeAction, ChaincodeEvent, ChaincodeId, ChaincodeInterest, Endorsement, ProposalResponse,
    ProposalResponsePayload, Response, SignedProposal,
};

/// Version of the peer's own chaincodes.
const SYSTEM_VERSION: &str = "syscc";
/// From here on a response is a failure, and not endorsed.
const FAILURE: i32 = 400;
/// From here on it is an error.
const ERROR: i32 = 500;

/// The endorser.
pub struct Endorser {
    /// What all channels share.
    pub node: Arc<Node>,
    /// The peer's channels.
    pub channels: Arc<Channels>,
    /// The peer's own organisation.
    pub local: LocalMembers,
    /// Contracts.
    pub runtime: Runtime,
    /// How long one call of a chaincode may take.
    pub execute_limit: Duration,
    /// How far a proposal's timestamp may be off.
    pub time_window: Duration,
    /// Faults to play.
    pub faults: Faults,
}

/// How a request ends without a response: Fabric's words, as a gRPC error of code Unknown.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// What a call gave.
#[derive(Default)]
pub(super) struct Answer {
    pub version: String,
    pub response: Response,
    pub event: Option<ChaincodeEvent>,
    /// The read-write set (`rwset.TxReadWriteSet`).
    pub results: Vec<u8>,
    pub interest: Option<ChaincodeInterest>,
}

impl Endorser {
    /// Answer a proposal.
    ///
    /// # Errors
    /// What is wrong with the proposal itself; what goes wrong later is in the response.
    pub async fn process(&self, signed: SignedProposal) -> Result<ProposalResponse, Failure> {
        let call = Unpacked::new(signed)?;
        let injection = self.faults.inject(Operation::Propose, &system::target(&call)).await;
        if let Some(refusal) = injection.refusal {
            return Ok(failed(i32::from(refusal.status), refusal.message));
        }
        if certificate::expires_at(&call.signature.creator).is_some_and(|end| end < now_seconds()) {
            return Err(Failure("proposal client identity expired".into()));
        }
        self.check_time(&call)?;
        let joined = match call.channel_id() {
            "" => None,
            name => match self.channels.get(name) {
                Some(joined) => Some(joined),
                None => return Ok(failed(ERROR, format!("channel '{name}' not found"))),
            },
        };
        let creator = self.check(&call, joined.as_deref())?;
        let answer = self.call(&call, joined, creator).await;
        if injection.drop_reply {
            return Err(Failure("connection broken on request".into()));
        }
        Ok(match answer {
            Ok(answer) => self.respond(&call, answer),
            Err(message) => failed(ERROR, message),
        })
    }

    /// Everything that can be wrong with a proposal itself.
    fn check(&self, call: &Unpacked, joined: Option<&Joined>) -> Result<Identity, String> {
        let bundle = joined.and_then(|joined| joined.bundle());
        let members = bundle.as_ref().map_or(&self.local.members, |bundle| &bundle.members);
        let creator = call.check(members).map_err(|e| format!("error validating proposal: {e}"))?;
        let Some(joined) = joined else { return Ok(creator) };
        if joined.transaction(call.tx_id()).is_some() {
            let creator = hex::encode(&call.signature.creator);
            return Err(format!("duplicate transaction found [{}]. Creator [{creator}]", call.tx_id()));
        }
        if !system::is_system(&call.chaincode) {
            self.check_access(call, "peer/Propose", call.channel_id())?;
        }
        Ok(creator)
    }

    async fn call(&self, call: &Unpacked, joined: Option<Arc<Joined>>, creator: Identity) -> Result<Answer, String> {
        match (call.chaincode.as_str(), joined) {
            ("cscc" | "qscc", _) => {
                let response = system::invoke(self, call).await;
                Ok(Answer { version: SYSTEM_VERSION.into(), response, ..Default::default() })
            }
            (lifecycle::NAMESPACE, None) => {
                let response = self.lifecycle(call, &call.input.args, None);
                Ok(Answer { version: SYSTEM_VERSION.into(), response, ..Default::default() })
            }
            (name, None) => Err(format!(
                "make sure the chaincode {name} has been successfully defined on channel  and try again: could not get \
                 channel config for channel ''"
            )),
            (_, Some(joined)) => self.simulate(call, joined, creator).await,
        }
    }

    async fn simulate(&self, call: &Unpacked, joined: Arc<Joined>, creator: Identity) -> Result<Answer, String> {
        let bundle = joined.bundle().ok_or("the channel has no configuration")?;
        let state = joined.state();
        let name = call.chaincode.as_str();
        let mut simulator = Simulator::new(joined.name(), call.tx_id(), bundle.application_orgs(), state.clone());
        let (version, response, event) = if name == lifecycle::NAMESPACE {
            let response = self.lifecycle(call, &call.input.args, Some((&bundle, &mut simulator)));
            (SYSTEM_VERSION.to_owned(), response, None)
        } else {
            let version = self.runnable(&mut simulator, name).map(|chaincode| chaincode.version).map_err(|e| {
                format!(
                    "make sure the chaincode {name} has been successfully defined on channel {} and try again: {e}",
                    joined.name()
                )
            })?;
            let invocation = Invocation { call, joined: joined.clone(), creator: &creator };
            let called = self.execute(&invocation, &mut simulator, name, call.input.clone()).await;
            let (response, event) = called.map_err(|e| format!("error in simulation: {e}"))?;
            (version, response, event)
        };
        let simulated = simulator.finish();
        if response.status < FAILURE && !simulated.results.private.ns_pvt_rwset.is_empty() {
            let given = joined.distribute(&state, call.tx_id(), &simulated.results.private).await;
            given.map_err(|e| format!("error in simulation: {e}"))?;
        }
        let interest = interest(&simulated.touched).map_err(|e| format!("error in simulation: {e}"))?;
        let results = simulated.results.public.encode_to_vec();
        Ok(Answer { version, response, event, results, interest: Some(interest) })
    }

    fn respond(&self, call: &Unpacked, answer: Answer) -> ProposalResponse {
        let Answer { version, response, event, results, interest } = answer;
        let action = ChaincodeAction {
            results,
            events: event.map(|event| event.encode_to_vec()).unwrap_or_default(),
            response: Some(response.clone()),
            chaincode_id: Some(ChaincodeId { name: call.chaincode.clone(), version, ..Default::default() }),
        };
        let payload = ProposalResponsePayload { proposal_hash: call.hash.clone(), extension: action.encode_to_vec() };
        let payload = payload.encode_to_vec();
        let status = response.status;
        let plain = ProposalResponse { response: Some(response), ..Default::default() };
        if status >= ERROR {
            return ProposalResponse { payload, interest, ..plain };
        }
        if status >= FAILURE || call.channel_id().is_empty() {
            return plain;
        }
        let endorser = self.node.signer.serialized().to_vec();
        let signature = self.node.signer.sign(&[payload.as_slice(), &endorser].concat());
        ProposalResponse {
            version: 1,
            endorsement: Some(Endorsement { endorser, signature }),
            payload,
            interest,
            ..plain
        }
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
            ehrnet_fabric::duration::format(self.time_window)
        )))
    }
}

fn failed(status: i32, message: String) -> ProposalResponse {
    ProposalResponse { response: Some(Response { status, message, payload: Vec::new() }), ..Default::default() }
}
