//! Calls of chaincode within a simulation: which package, whether it is initialised, and the talk with it (Fabric:
//! `core/chaincode/chaincode_support.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;

use super::chaincode::requests::{Context, reply};
use super::endorser::Endorser;
use super::joined::Joined;
use super::lifecycle::definition::{Definition, NotApproved, sequence};
use super::lifecycle::system::{OnChannel, Peer, References, invoke};
use super::proposal::Unpacked;
use super::simulate::simulator::Simulator;
use super::{lifecycle, system};
use crate::channel::bundle::Bundle;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::{ChaincodeEvent, ChaincodeInput, ChaincodeMessage, ChaincodeSpec, Response};

/// Key under which Fabric notes the version that a chaincode was initialised for.
const INITIALIZED: &str = "\0\u{10ffff}initialized";

/// A proposal on its way.
pub(super) struct Invocation<'a> {
    /// The proposal.
    pub call: &'a Unpacked,
    /// The channel that is called on.
    pub joined: Arc<Joined>,
    /// Who called.
    pub creator: &'a Identity,
}

/// A chaincode as this peer can run it.
pub(super) struct RunnableChaincode {
    /// Version of its definition.
    pub version: String,
    init_required: bool,
    package_id: String,
}

impl Endorser {
    /// What runs a chaincode, approved by the own organisation and installed here. The lookup is part of the
    /// simulation: a new definition is a conflict.
    ///
    /// # Errors
    /// Fabric's words.
    pub(super) fn runnable(&self, simulator: &mut Simulator, name: &str) -> Result<RunnableChaincode, String> {
        let channel = simulator.channel().to_owned();
        let number = sequence(simulator, name).map_err(|e| {
            format!("could not get current sequence for chaincode '{name}' on channel '{channel}': {e}")
        })?;
        if number == 0 {
            return Err(format!("chaincode {name} not found"));
        }
        let state = simulator.state();
        let definition = Definition::read(&mut lifecycle::definition::Committed(state), name)?;
        let definition = definition.ok_or_else(|| format!("chaincode {name} not found"))?;
        let installed = self.runtime.packages.list();
        let ids = installed.iter().map(|(id, _)| id.as_str());
        let package = definition.approved_package(state, name, &self.local.msp_id, ids).map_err(|NotApproved| {
            format!(
                "chaincode definition for '{name}' at sequence {number} on channel '{channel}' has not yet been approved \
                 by this org"
            )
        })?;
        let package = package
            .ok_or_else(|| format!("chaincode definition for '{name}' exists, but chaincode is not installed"))?;
        Ok(RunnableChaincode {
            version: definition.endorsement.version,
            init_required: definition.endorsement.init_required,
            package_id: package.to_owned(),
        })
    }

    /// Call a chaincode, and return what it answers and announces.
    ///
    /// # Errors
    /// Fabric's words, if there is no answer.
    pub(super) async fn execute(
        &self,
        invocation: &Invocation<'_>,
        simulator: &mut Simulator,
        name: &str,
        input: ChaincodeInput,
    ) -> Result<(Response, Option<ChaincodeEvent>), String> {
        let tx_id = invocation.call.tx_id();
        let called = self.talk(invocation, simulator, name, input).await;
        let message = called.map_err(|e| format!("failed to execute transaction {tx_id}: {e}"))?;
        if message.r#type() == Type::Error {
            return Err(format!("transaction returned with failure: {}", String::from_utf8_lossy(&message.payload)));
        }
        let response = Response::decode(message.payload.as_slice())
            .map_err(|e| format!("failed to unmarshal response for transaction {tx_id}: {e}"))?;
        let own = |event| ChaincodeEvent { chaincode_id: name.to_owned(), tx_id: tx_id.to_owned(), ..event };
        let event = message.chaincode_event.map(own).filter(|_| response.status < 400);
        Ok((response, event))
    }

    /// The chaincode's last word: COMPLETED or ERROR.
    fn talk<'a>(
        &'a self,
        invocation: &'a Invocation<'a>,
        simulator: &'a mut Simulator,
        name: &'a str,
        mut input: ChaincodeInput,
    ) -> BoxFuture<'a, Result<ChaincodeMessage, String>> {
        Box::pin(async move {
            let chaincode = self.runnable(simulator, name).map_err(|e| {
                let channel = simulator.channel();
                format!(
                    "invalid invocation: [channel {channel}] failed to get chaincode container info for {name}: {e}"
                )
            })?;
            initialize(simulator, name, &chaincode, input.is_init).map_err(|e| format!("invalid invocation: {e}"))?;
            let stream = self.runtime.launch(&chaincode.package_id).await?;
            let channel = simulator.channel().to_owned();
            let failed = |e: String| format!("error sending: {e}");
            let mut conversation = stream.converse(&channel, invocation.call.tx_id()).map_err(failed)?;
            input.decorations.clear();
            let is_init = input.is_init;
            let first = ChaincodeMessage {
                r#type: if is_init { Type::Init } else { Type::Transaction }.into(),
                payload: input.encode_to_vec(),
                txid: invocation.call.tx_id().to_owned(),
                channel_id: channel,
                proposal: Some(invocation.call.signed.clone()),
                ..Default::default()
            };
            conversation.send(first).await.map_err(failed)?;
            let may_purge = invocation.joined.bundle().is_some_and(|b| b.has_application_capability("V2_5"));
            let past = &*invocation.joined;
            let mut context = Context::new(simulator, name, is_init, invocation.creator, past, may_purge);
            let until = tokio::time::Instant::now() + self.execute_limit;
            loop {
                let said = tokio::time::timeout_at(until, conversation.next()).await;
                let said = said.map_err(|_| failed("timeout expired while executing transaction".into()))?;
                let message = said.map_err(failed)?;
                let answer = match message.r#type() {
                    Type::Completed | Type::Error => return Ok(message),
                    Type::InvokeChaincode => {
                        let called = self.call_other(invocation, context.simulator, &message.payload).await;
                        reply(&message, called)
                    }
                    _ => context.answer(&message),
                };
                conversation.send(answer).await.map_err(failed)?;
            }
        })
    }

    /// A chaincode's call of another: in the same simulation on the same channel, otherwise read only.
    async fn call_other(
        &self,
        invocation: &Invocation<'_>,
        simulator: &mut Simulator,
        payload: &[u8],
    ) -> Result<Vec<u8>, String> {
        let spec = ChaincodeSpec::decode(payload).map_err(|e| format!("unmarshal failed: {e}"))?;
        let target = spec.chaincode_id.unwrap_or_default().name;
        let (name, channel) = target.split_once('/').unwrap_or((&target, ""));
        let name = name.split(':').next().unwrap_or_default();
        let channel = if channel.is_empty() { simulator.channel().to_owned() } else { channel.to_owned() };
        let input = spec.input.unwrap_or_default();
        if system::is_system(name) {
            let call = invocation.call.with_input(name, input);
            let response = match name {
                lifecycle::NAMESPACE => {
                    let bundle = invocation.joined.bundle().ok_or("the channel has no configuration")?;
                    self.lifecycle(&call, &call.input.args, Some((&bundle, simulator)))
                }
                _ => system::invoke(self, &call).await,
            };
            let message = ChaincodeMessage {
                r#type: Type::Completed.into(),
                payload: response.encode_to_vec(),
                ..Default::default()
            };
            return Ok(message.encode_to_vec());
        }
        self.check_access(invocation.call, "peer/ChaincodeToChaincode", &channel)?;
        let called = if channel == simulator.channel() {
            self.talk(invocation, simulator, name, input).await
        } else {
            let missing = || format!("failed to find ledger for channel: {channel}");
            let joined = self.channels.get(&channel).ok_or_else(missing)?;
            let bundle = joined.bundle().ok_or_else(missing)?;
            let call = invocation.call;
            let mut other = Simulator::new(&channel, call.tx_id(), bundle.application_orgs(), joined.state());
            let elsewhere = Invocation { call, joined, creator: invocation.creator };
            self.talk(&elsewhere, &mut other, name, input).await
        };
        called.map(|message| message.encode_to_vec()).map_err(|e| format!("execute failed: {e}"))
    }

    /// Call `_lifecycle`.
    pub(super) fn lifecycle(
        &self,
        call: &Unpacked,
        args: &[Vec<u8>],
        channel: Option<(&Bundle, &mut Simulator)>,
    ) -> Response {
        let failed = |status, message| Response { status, message, payload: Vec::new() };
        let [function, input] = args else {
            return failed(
                500,
                match args.len() {
                    0 => "lifecycle scc must be invoked with arguments".into(),
                    n => format!("lifecycle scc operations require exactly two arguments but received {n}"),
                },
            );
        };
        let function = String::from_utf8_lossy(function);
        let resource = format!("{}/{function}", lifecycle::NAMESPACE);
        if let Err(reason) = self.check_access(call, &resource, call.channel_id()) {
            return failed(500, format!("Failed to authorize invocation due to failed ACL check: {reason}"));
        }
        let references = |package_id: &str| self.references(package_id);
        let peer = Peer { msp_id: &self.local.msp_id, packages: &self.runtime.packages, references: &references };
        let channel = channel.map(|(bundle, simulator)| OnChannel { bundle, simulator });
        match invoke(&peer, channel, &function, input) {
            Ok(payload) => Response { status: 200, message: String::new(), payload },
            Err(refusal) => failed(refusal.status, refusal.message),
        }
    }

    /// Where an installed package is in use.
    fn references(&self, package_id: &str) -> References {
        let mut references = BTreeMap::new();
        for channel in self.channels.names() {
            let Some(joined) = self.channels.get(&channel) else { continue };
            let state = joined.state();
            let used = joined.defined().into_iter().filter_map(|name| {
                let definition = joined.definition(&name)?;
                let approved = definition.approved_package(&state, &name, &self.local.msp_id, [package_id]);
                approved.ok().flatten().map(|_| (name, definition.endorsement.version))
            });
            let used: Vec<_> = used.collect();
            if !used.is_empty() {
                references.insert(channel, used);
            }
        }
        references
    }
}

/// A chaincode that has to be initialised is so exactly once for each version.
fn initialize(
    simulator: &mut Simulator,
    name: &str,
    chaincode: &RunnableChaincode,
    is_init: bool,
) -> Result<(), String> {
    let version = chaincode.version.as_bytes();
    let needed = chaincode.init_required && simulator.get(name, INITIALIZED).is_none_or(|done| done != version);
    match (is_init, needed) {
        (true, _) if !chaincode.init_required => {
            Err(format!("chaincode '{name}' does not require initialization but called as init"))
        }
        (true, false) => Err(format!("chaincode '{name}' is already initialized but called as init")),
        (true, true) => {
            simulator.put(name, INITIALIZED, version).map_err(|e| format!("could not set 'initialized' key: {e}"))
        }
        (false, true) => {
            Err(format!("chaincode '{name}' has not been initialized for this version, must call as init first"))
        }
        (false, false) => Ok(()),
    }
}
