//! The verdicts on a block's transactions, and what the valid ones change.

use std::collections::HashSet;

use super::conflicts;
use super::endorsement::{Changed, Policies};
use super::transaction::{self, Endorsed};
use crate::channel::bundle::Bundle;
use crate::peer::state::Version;
use crate::peer::state::updates::Updates;
use crate::peer::state::world::State;
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::{Block, BlockMetadataIndex};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;

/// A valid transaction and its place in the block.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid {
    /// Block and place.
    pub version: Version,
    /// The transaction.
    pub transaction: Endorsed,
}

/// What became of a block.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A verdict for each transaction, as in the block's metadata.
    pub flags: Vec<u8>,
    /// The transactions that count.
    pub valid: Vec<Valid>,
    /// What they change.
    pub updates: Updates,
}

/// Judge a block of transactions. `is_known` tells whether a transaction id is in an earlier block.
pub fn validate(block: &Block, bundle: &Bundle, state: &State, is_known: impl Fn(&str) -> bool) -> Outcome {
    let policies = Policies { bundle, state };
    let (mut changed, mut seen) = (Changed::default(), HashSet::new());
    let judge = |envelope: &Vec<u8>| -> Result<Endorsed, Code> {
        let transaction = transaction::read(envelope, bundle, &is_known)?;
        policies.check(&transaction, &mut changed)?;
        Ok(transaction)
    };
    // Fabric looks for a repeated id among those that are valid so far only.
    let mut judged: Vec<_> = envelopes(block).iter().map(judge).collect();
    for verdict in &mut judged {
        if verdict.as_ref().is_ok_and(|transaction| !seen.insert(transaction.tx_id.clone())) {
            *verdict = Err(Code::DuplicateTxid);
        }
    }
    let mut outcome = Outcome::default();
    for (tx, verdict) in (0..).zip(judged) {
        let version = Version { block: blocks::number(block), tx };
        let verdict = verdict.and_then(|transaction| {
            conflicts::check(&transaction.set, state, &outcome.updates)?;
            Ok(transaction)
        });
        match verdict {
            Ok(transaction) => {
                outcome.flags.push(flag(Code::Valid));
                outcome.updates.add(&transaction.set, version, state);
                outcome.valid.push(Valid { version, transaction });
            }
            Err(code) => {
                tracing::warn!(block = version.block, tx, code = code.as_str_name(), "a transaction is invalid");
                outcome.flags.push(flag(code));
            }
        }
    }
    outcome
}

/// The outcome of a block that was judged before.
pub fn replay(block: &Block, state: &State) -> Outcome {
    let mut outcome = Outcome { flags: flags(block).to_vec(), ..Default::default() };
    for ((tx, envelope), flag) in (0..).zip(envelopes(block)).zip(outcome.flags.clone()) {
        let Some(transaction) = transaction::reread(envelope).filter(|_| flag == self::flag(Code::Valid)) else {
            continue;
        };
        let version = Version { block: blocks::number(block), tx };
        outcome.updates.add(&transaction.set, version, state);
        outcome.valid.push(Valid { version, transaction });
    }
    outcome
}

/// A block's transactions.
pub fn envelopes(block: &Block) -> &[Vec<u8>] {
    block.data.as_ref().map(|data| data.data.as_slice()).unwrap_or_default()
}

/// The verdicts in a block's metadata.
pub fn flags(block: &Block) -> &[u8] {
    let entries = block.metadata.as_ref().map(|metadata| metadata.metadata.as_slice()).unwrap_or_default();
    entries.get(BlockMetadataIndex::TransactionsFilter as usize).map(Vec::as_slice).unwrap_or_default()
}

/// A verdict as a block's metadata has it.
pub fn flag(code: Code) -> u8 {
    u8::try_from(i32::from(code)).unwrap_or(u8::MAX)
}
