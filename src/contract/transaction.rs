//! A transaction as functions use it: typed reads, effects that wait for the end, and whose it is.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::caller::Caller;
use super::error::ContractError;
use super::keys::Range;
use super::stub::{ChaincodeStub, Effects, Entry, StubError, Write};
use ehrnet_messages::Members;
use ehrnet_messages::{Event, Page};

/// Entries of a page if the caller does not say.
const PAGE: u16 = 50;
/// Entries of a page at most.
const MAX_PAGE: u16 = 100;

/// A running transaction.
pub struct Transaction<'a> {
    /// What was asked.
    pub call: &'a Call,
    /// Whose agreement policies need.
    pub members: &'a Members,
    ledger: &'a mut dyn ChaincodeStub,
    effects: Effects,
}

/// A part of a range, and the bookmark of the next.
pub type Part<T> = (Vec<T>, Option<String>);

impl From<StubError> for ContractError {
    fn from(failure: StubError) -> Self {
        Self::failed(failure)
    }
}

impl<'a> Transaction<'a> {
    /// The transaction of a call.
    pub fn new(call: &'a Call, members: &'a Members, ledger: &'a mut dyn ChaincodeStub) -> Self {
        Self { call, members, ledger, effects: Effects::default() }
    }

    /// What it leaves behind.
    pub fn into_effects(self) -> Effects {
        self.effects
    }

    /// Who calls.
    pub fn caller(&self) -> &'a Caller {
        &self.call.caller
    }

    /// Its time.
    pub fn now(&self) -> Timestamp {
        self.call.at
    }

    /// The public value of a key.
    pub async fn read<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, ContractError> {
        Ok(self.read_all(&[key.to_owned()]).await?.into_iter().next().flatten())
    }

    /// The public values of keys, in their order.
    pub async fn read_all<T: DeserializeOwned>(&mut self, keys: &[String]) -> Result<Vec<Option<T>>, ContractError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.ledger.get(keys).await?.into_iter().map(read).collect()
    }

    /// The public value of one key, if it is asked for, and those of others of one type, in their order: one question to the
    /// peer.
    pub async fn read_with<A: DeserializeOwned, B: DeserializeOwned>(
        &mut self,
        one: Option<&str>,
        others: &[String],
    ) -> Result<(Option<A>, Vec<Option<B>>), ContractError> {
        let keys: Vec<String> = one.map(str::to_owned).into_iter().chain(others.iter().cloned()).collect();
        let mut values = self.ledger.get(&keys).await?.into_iter();
        let first = one.and_then(|_| values.next()).flatten();
        Ok((read(first)?, values.map(read).collect::<Result<_, _>>()?))
    }

    /// The values of keys of a private data collection, in their order.
    pub async fn read_private<T: DeserializeOwned>(
        &mut self,
        collection: &str,
        keys: &[String],
    ) -> Result<Vec<Option<T>>, ContractError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.ledger.get_private(collection, keys).await?.into_iter().map(read).collect()
    }

    /// All public values of a range.
    pub async fn range<T: DeserializeOwned>(&mut self, range: &Range) -> Result<Vec<T>, ContractError> {
        values(self.ledger.range(range).await?)
    }

    /// A page of the public values of a range.
    pub async fn page<T: DeserializeOwned>(&mut self, range: &Range, page: &Page) -> Result<Part<T>, ContractError> {
        let size = page.size.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&size) {
            return Err(ContractError::malformed(format_args!("page.size must be 1 to {MAX_PAGE}")));
        }
        let start = page.bookmark.as_deref().map(|bookmark| resume(bookmark, range)).transpose()?;
        let range = Range { start: start.unwrap_or_else(|| range.start.clone()), end: range.end.clone() };
        let (entries, next) = self.ledger.page(&range, size).await?;
        Ok((values(entries)?, next.map(hex::encode)))
    }

    /// Writes a public value.
    pub fn put(&mut self, key: String, value: &impl Serialize) -> Result<(), ContractError> {
        let value = write(value)?;
        self.effects.writes.push(Write::Put { key, value });
        Ok(())
    }

    /// Writes a private value.
    pub fn put_private(
        &mut self,
        collection: &'static str,
        key: String,
        value: &impl Serialize,
    ) -> Result<(), ContractError> {
        let value = write(value)?;
        self.effects.writes.push(Write::PutPrivate { collection, key, value });
        Ok(())
    }

    /// Deletes a public value.
    pub fn delete(&mut self, key: String) {
        self.effects.writes.push(Write::Delete { key });
    }

    /// Deletes a private value with its history.
    pub fn purge(&mut self, collection: &'static str, key: String) {
        self.effects.writes.push(Write::Purge { collection, key });
    }

    /// Sets the transaction's event.
    pub fn emit(&mut self, name: &'static str, event: Event) -> Result<(), ContractError> {
        let event = Event { tx_id: self.call.tx_id.clone(), ..event };
        self.effects.event = Some((name, write(&event)?));
        Ok(())
    }
}

/// Where a page begins. A bookmark from elsewhere would let a caller read what is not theirs.
fn resume(bookmark: &str, range: &Range) -> Result<String, ContractError> {
    let key = hex::decode(bookmark).ok().and_then(|key| String::from_utf8(key).ok());
    let key = key.filter(|key| range.contains(key));
    key.ok_or_else(|| ContractError::malformed("page.bookmark is not one that this query answered with"))
}

fn read<T: DeserializeOwned>(value: Option<Vec<u8>>) -> Result<Option<T>, ContractError> {
    value.map(|value| serde_json::from_slice(&value).map_err(|_| unreadable())).transpose()
}

fn values<T: DeserializeOwned>(entries: Vec<Entry>) -> Result<Vec<T>, ContractError> {
    entries.into_iter().map(|(_, value)| serde_json::from_slice(&value).map_err(|_| unreadable())).collect()
}

fn unreadable() -> ContractError {
    ContractError::failed("a value on the ledger is not what this version of the contract writes")
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, ContractError> {
    serde_json::to_vec(value).map_err(|_| ContractError::failed("a value cannot be written as JSON"))
}
