//! Blocks as a peer has them, with its verdicts.

use std::collections::BTreeMap;

use ehrnet_fabric::peer;
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex, ChannelHeader, Envelope, Payload};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;
use prost::Message;

/// A block of a peer (`qscc`).
pub async fn block(peer: &peer::Client, channel: &str, number: u64) -> Block {
    let args = vec![b"GetBlockByNumber".to_vec(), channel.into(), number.to_string().into()];
    let (signed, _) = peer.proposal(&Call::new("", "qscc", args));
    let answer = peer.endorse(&signed).await.expect("block").response.response.unwrap_or_default();
    Block::decode(answer.payload.as_slice()).expect("block")
}

/// An entry of a block's metadata.
pub fn metadata(block: &Block, entry: BlockMetadataIndex) -> Vec<u8> {
    block.metadata.as_ref().expect("metadata").metadata[entry as usize].clone()
}

/// The transactions of a block, and whether each counts.
pub fn verdicts(block: &Block) -> Vec<(String, Code)> {
    let ids = block.data.iter().flat_map(|data| &data.data).map(|envelope| {
        let envelope = Envelope::decode(envelope.as_slice()).expect("an envelope");
        let header = Payload::decode(envelope.payload.as_slice()).expect("a payload").header.expect("a header");
        ChannelHeader::decode(header.channel_header.as_slice()).expect("a header").tx_id
    });
    let flags = metadata(block, BlockMetadataIndex::TransactionsFilter);
    ids.zip(flags.into_iter().map(|flag| Code::try_from(i32::from(flag)).expect("a code"))).collect()
}

/// How often each transaction of a list is on the ledger and counts.
pub fn count(blocks: &[Block]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (id, _) in blocks.iter().flat_map(verdicts).filter(|(_, code)| *code == Code::Valid) {
        *counts.entry(id).or_default() += 1;
    }
    counts
}
