//! What a committed block announces to clients: filtered transactions, chaincode events, private data.

use super::joined::Joined;
use super::private::members::Eligible;
use super::private::reconcile::wanted;
use super::state::Version;
use super::validate::block::{Valid, envelopes, flag, flags};
use super::validate::transaction;
use crate::channel;
use ehrnet_fabric::blocks;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::proto::common::{Block, Envelope, HeaderType};
use ehrnet_fabric::proto::protos::filtered_transaction::Data;
use ehrnet_fabric::proto::protos::{
    BlockAndPrivateData, ChaincodeEvent, FilteredBlock, FilteredChaincodeAction, FilteredTransaction,
    FilteredTransactionActions, TxValidationCode,
};
use ehrnet_fabric::proto::rwset::{CollectionPvtReadWriteSet, NsPvtReadWriteSet, TxPvtReadWriteSet};
use prost::Message;

/// Events of a block's valid transactions, in their order.
pub fn chaincode_events(block: &Block) -> Vec<ChaincodeEvent> {
    valid(block).into_iter().filter_map(|valid| valid.transaction.event).collect()
}

fn valid(block: &Block) -> Vec<Valid> {
    let judged = (0..).zip(envelopes(block)).zip(flags(block));
    let valid = judged.filter(|(_, code)| **code == flag(TxValidationCode::Valid));
    let read = valid.filter_map(|((tx, envelope), _)| {
        let transaction = transaction::reread(envelope)?;
        Some(Valid { version: Version { block: blocks::number(block), tx }, transaction })
    });
    read.collect()
}

/// A block without content: which transactions, whether they count, and what they announce, without payload.
pub fn filtered(channel_id: String, block: &Block) -> FilteredBlock {
    let flags = flags(block);
    let transaction = |(at, envelope): (usize, &Vec<u8>)| {
        let opened = channel::open(&Envelope::decode(envelope.as_slice()).ok()?).ok()?;
        let is_endorsed = opened.channel.r#type == i32::from(HeaderType::EndorserTransaction);
        Some(FilteredTransaction {
            txid: opened.channel.tx_id,
            r#type: opened.channel.r#type,
            tx_validation_code: flags.get(at).copied().map_or(0, i32::from),
            data: is_endorsed.then(|| Data::TransactionActions(actions(envelope))),
        })
    };
    let filtered_transactions = envelopes(block).iter().enumerate().filter_map(transaction).collect();
    FilteredBlock { channel_id, number: blocks::number(block), filtered_transactions }
}

fn actions(envelope: &[u8]) -> FilteredTransactionActions {
    let event = transaction::reread(envelope).and_then(|transaction| transaction.event);
    let action = event.map(|event| FilteredChaincodeAction {
        chaincode_event: Some(ChaincodeEvent { payload: Vec::new(), ..event }),
    });
    FilteredTransactionActions { chaincode_actions: action.into_iter().collect() }
}

impl Joined {
    /// A block with the private data that a reader may see, as far as it is here.
    pub fn with_private_data(&self, block: Block, reader: &Identity) -> BlockAndPrivateData {
        let state = self.state();
        let mut private: BlockAndPrivateData = BlockAndPrivateData::default();
        let valid = valid(&block);
        let mut eligible = Eligible::new(&state, Some(reader));
        for (part, _, _) in wanted(&valid) {
            if !eligible.is_member(&part.collection) {
                continue;
            }
            let Some(set) = self.stored(&part) else { continue };
            let (namespace, collection_name) = part.collection;
            let data: &mut TxPvtReadWriteSet = private.private_data_map.entry(part.version.tx).or_default();
            let at = data.ns_pvt_rwset.iter().position(|known| known.namespace == namespace);
            let at = at.unwrap_or_else(|| {
                data.ns_pvt_rwset.push(NsPvtReadWriteSet { namespace, ..Default::default() });
                data.ns_pvt_rwset.len() - 1
            });
            let rwset = set.encode_to_vec();
            data.ns_pvt_rwset[at].collection_pvt_rwset.push(CollectionPvtReadWriteSet { collection_name, rwset });
        }
        BlockAndPrivateData { block: Some(block), ..private }
    }
}
