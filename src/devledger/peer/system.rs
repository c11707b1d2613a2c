//! The system chaincodes: `cscc` (which channels, which configuration) and `qscc` (blocks and transactions).

use prost::Message;

use super::endorser::Endorser;
use super::joined::Joined;
use super::lifecycle;
use super::proposal::Unpacked;
use crate::channel::{self, bundle::Bundle};
use ehrnet_fabric::blocks::{self, header_hash};
use ehrnet_fabric::proto::common::{Block, BlockchainInfo, Envelope};
use ehrnet_fabric::proto::protos::{
    ChannelInfo, ChannelQueryResponse, JoinBySnapshotStatus, ProcessedTransaction, Response,
};

/// What Fabric says of a genesis block that is no message.
const UNREADABLE: &str = "Failed to reconstruct the genesis block, error unmarshalling Block: proto: cannot parse \
                          invalid wire-format data";

/// Whether a chaincode is one of the peer's own.
pub fn is_system(name: &str) -> bool {
    matches!(name, "cscc" | "qscc" | lifecycle::NAMESPACE)
}

/// The channel a call is about, for matching faults.
pub fn target(call: &Unpacked) -> String {
    if !call.channel_id().is_empty() {
        return call.channel_id().to_owned();
    }
    let block = call.input.args.get(1).and_then(|arg| channel_of_block(arg));
    let text = call.input.args.get(1).and_then(|arg| String::from_utf8(arg.clone()).ok());
    block.or(text).unwrap_or_default()
}

/// Call `cscc` or `qscc`.
pub async fn invoke(endorser: &Endorser, call: &Unpacked) -> Response {
    let result = match call.chaincode.as_str() {
        "cscc" => configuration(endorser, call).await,
        _ => query(endorser, call),
    };
    match result {
        Ok(payload) => Response { status: 200, message: String::new(), payload },
        Err(message) => Response { status: 500, message, payload: Vec::new() },
    }
}

/// Call `cscc`.
///
/// # Errors
/// Fabric's words, for the response's message.
async fn configuration(endorser: &Endorser, call: &Unpacked) -> Result<Vec<u8>, String> {
    let function = function(call)?;
    if function != "GetChannels" && function != "JoinBySnapshotStatus" && call.input.args.len() < 2 {
        return Err(wrong_count(call));
    }
    let local = || {
        let resource = format!("cscc/{function}");
        endorser.check_access(call, &resource, "").map_err(|e| format!("access denied for [{function}]: [{e}]"))
    };
    match function.as_str() {
        "JoinChain" => join(endorser, call).await,
        "GetChannels" => {
            local()?;
            let channels = endorser.channels.names().into_iter().map(|channel_id| ChannelInfo { channel_id }).collect();
            Ok(ChannelQueryResponse { channels }.encode_to_vec())
        }
        "GetConfigBlock" | "GetChannelConfig" => {
            let name = text(call, 1);
            if name.is_empty() {
                return Err("empty channel name provided".into());
            }
            endorser
                .check_access(call, &format!("cscc/{function}"), &name)
                .map_err(|e| format!("access denied for [{function}][{name}]: {e}"))?;
            let joined = endorser.channels.get(&name).ok_or_else(|| format!("unknown channel ID, {name}"))?;
            if function == "GetChannelConfig" {
                let bundle = joined.bundle().ok_or("the channel has no configuration")?;
                return Ok(bundle.config.encode_to_vec());
            }
            let block = joined.ledger().config_block().map_err(|e| e.to_string())?;
            Ok(block.unwrap_or_default().encode_to_vec())
        }
        "JoinBySnapshotStatus" => {
            local()?;
            Ok(JoinBySnapshotStatus::default().encode_to_vec())
        }
        "JoinChainBySnapshot" => {
            local()?;
            Err("the embedded ledger has no snapshots to join by".into())
        }
        other => Err(format!("Requested function {other} not found.")),
    }
}

async fn join(endorser: &Endorser, call: &Unpacked) -> Result<Vec<u8>, String> {
    let bytes = call.input.args.get(1).map(Vec::as_slice).unwrap_or_default();
    let block = Block::decode(bytes).map_err(|_| UNREADABLE)?;
    let name = channel_of(&block)
        .map_err(|e| format!("\"JoinChain\" request failed to extract channel id from the block due to [{e}]"))?;
    let refused = |e: String| {
        format!(
            "\"JoinChain\" for channelID = {name} failed because of validation of configuration block, because of {e}"
        )
    };
    let bundle = Bundle::of_block(&block).map_err(refused)?;
    if bundle.application.is_none() {
        return Err(refused("Invalid configuration block, missing Application configuration group".into()));
    }
    endorser
        .check_access(call, "cscc/JoinChain", "")
        .map_err(|e| format!("access denied for [JoinChain][{name}]: [{e}]"))?;
    endorser.channels.join(&name, &block).await.map(|()| Vec::new())
}

/// Call `qscc`.
///
/// # Errors
/// Fabric's words, for the response's message.
fn query(endorser: &Endorser, call: &Unpacked) -> Result<Vec<u8>, String> {
    if call.input.args.len() < 2 {
        return Err(wrong_count(call));
    }
    let (function, name) = (function(call)?, text(call, 1));
    if function != "GetChainInfo" && call.input.args.len() < 3 {
        return Err(format!("missing 3rd argument for {function}"));
    }
    let joined = endorser.channels.get(&name).ok_or_else(|| format!("Invalid chain ID, {name}"))?;
    endorser
        .check_access(call, &format!("qscc/{function}"), &name)
        .map_err(|e| format!("access denied for [{function}][{name}]: [{e}]"))?;
    match function.as_str() {
        "GetChainInfo" => {
            let tip = joined.ledger().tip();
            let info = BlockchainInfo {
                height: tip.height,
                current_block_hash: tip.hash,
                previous_block_hash: tip.previous_hash,
                ..Default::default()
            };
            Ok(info.encode_to_vec())
        }
        "GetBlockByNumber" => {
            let wanted = text(call, 2);
            let number = wanted.parse().map_err(|_| {
                format!("Failed to parse block number with error strconv.ParseUint: parsing {wanted:?}: invalid syntax")
            })?;
            let failed = |e: String| format!("Failed to get block number {number}, error {e}");
            Ok(block(&joined, number).map_err(failed)?.encode_to_vec())
        }
        "GetBlockByHash" => {
            let hash = &call.input.args[2];
            let hex = hex::encode(hash);
            let missing = || format!("Failed to get block hash {hex}, error no such block hash [{hex}] in index");
            let heights = 0..joined.ledger().height();
            let mut found = heights.rev().filter_map(|number| block(&joined, number).ok());
            let same =
                |block: &Block| block.header.as_ref().is_some_and(|header| header_hash(header) == hash.as_slice());
            Ok(found.find(same).ok_or_else(missing)?.encode_to_vec())
        }
        "GetBlockByTxID" => {
            let id = text(call, 2);
            let placed = joined.transaction(&id).ok_or_else(|| {
                format!("Failed to get block for txID {id}, error no such transaction ID [{id}] in index")
            })?;
            Ok(block(&joined, placed.block)?.encode_to_vec())
        }
        "GetTransactionByID" => transaction(&joined, &text(call, 2)),
        other => Err(format!("Requested function {other} not found.")),
    }
}

fn transaction(joined: &Joined, id: &str) -> Result<Vec<u8>, String> {
    let missing = || format!("Failed to get transaction with id {id}, error no such transaction ID [{id}] in index");
    let placed = joined.transaction(id).ok_or_else(missing)?;
    let block = block(joined, placed.block)?;
    let envelope = block.data.and_then(|data| data.data.get(placed.at).cloned()).ok_or_else(missing)?;
    let processed = ProcessedTransaction {
        transaction_envelope: Some(Envelope::decode(envelope.as_slice()).map_err(|e| e.to_string())?),
        validation_code: placed.code.into(),
    };
    Ok(processed.encode_to_vec())
}

fn block(joined: &Joined, number: u64) -> Result<Block, String> {
    let found = joined.ledger().block(number).map_err(|e| e.to_string())?;
    found.ok_or_else(|| format!("no such block number [{number}] in index"))
}

/// The channel of a configuration block given as an argument.
fn channel_of_block(bytes: &[u8]) -> Option<String> {
    channel_of(&Block::decode(bytes).ok()?).ok()
}

fn channel_of(block: &Block) -> Result<String, String> {
    let first = block.data.as_ref().and_then(|data| data.data.first());
    let first = first.ok_or("failed to retrieve channel id - block is empty")?;
    let envelope = Envelope::decode(first.as_slice()).map_err(|e| format!("error unmarshalling Envelope: {e}"))?;
    let name = channel::open(&envelope)?.channel.channel_id;
    if blocks::number(block) == 0 || !name.is_empty() { Ok(name) } else { Err("the block names no channel".into()) }
}

fn function(call: &Unpacked) -> Result<String, String> {
    if call.input.args.is_empty() { Err(wrong_count(call)) } else { Ok(text(call, 0)) }
}

fn wrong_count(call: &Unpacked) -> String {
    format!("Incorrect number of arguments, {}", call.input.args.len())
}

fn text(call: &Unpacked, at: usize) -> String {
    call.input.args.get(at).map(|arg| String::from_utf8_lossy(arg).into_owned()).unwrap_or_default()
}
