//! Getting private data from other members, and giving it to them.

use std::sync::Arc;
use std::time::Duration;

use super::contacts::{Contact, spread};
use super::members::{self, Eligible};
use super::parts::{Part, fit};
use crate::peer::joined::Joined;
use crate::peer::lifecycle::{collections, implicit_org};
use crate::peer::rwset::HashedCollection;
use crate::peer::state::Collection;
use crate::peer::state::world::State;
use crate::peer::validate::block::Valid;
use crate::stop::Stop;
use ehrnet_fabric::proto::kvrwset::KvrwSet;
use ehrnet_fabric::proto::rwset::TxPvtReadWriteSet;

/// Pause between two rounds of asking everybody for a block's data.
const RETRY: Duration = Duration::from_millis(500);

/// A block's private data, as far as it could be had.
pub(in crate::peer) struct Gathered {
    /// The data.
    pub parts: Vec<(Part, KvrwSet)>,
    /// Whether it is all that this peer is to have.
    pub is_complete: bool,
}

/// What asking all members for a part's data gave.
enum Fetched {
    Found(KvrwSet),
    /// Everybody answered, and nobody has it.
    Absent,
    /// Somebody who may have it did not answer.
    Unreached,
}

impl Joined {
    /// The private parts of a block that this peer is to have. They are waited for, if a member that may have them does
    /// not answer yet.
    pub(in crate::peer) async fn gather(&self, state: &State, valid: &[Valid]) -> Gathered {
        let own = self.own();
        let mut eligible = Eligible::new(state, own.as_ref());
        let mut wanted: Vec<_> = wanted(valid).filter(|(part, _, _)| eligible.is_member(&part.collection)).collect();
        let mut parts = Vec::new();
        wanted.retain(|(part, hashed, tx_id)| match self.local(part, hashed, tx_id) {
            Some(set) => {
                parts.push((part.clone(), set));
                false
            }
            None => true,
        });
        let until = tokio::time::Instant::now() + self.node().limits.pull;
        let mut is_complete = true;
        while !wanted.is_empty() {
            let mut unreached = Vec::new();
            for (part, hashed, tx_id) in wanted {
                match self.fetch(state, &part, hashed, tx_id).await {
                    Fetched::Found(set) => parts.push((part, set)),
                    Fetched::Unreached if tokio::time::Instant::now() + RETRY <= until => {
                        unreached.push((part, hashed, tx_id));
                    }
                    Fetched::Absent | Fetched::Unreached => {
                        let collection = format!("{}/{}", part.collection.0, part.collection.1);
                        tracing::warn!(channel = self.name(), tx = tx_id, collection, "private data is missing");
                        is_complete = false;
                    }
                }
            }
            wanted = unreached;
            if !wanted.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
        }
        Gathered { parts, is_complete }
    }

    /// What is here already: of the time before a crash, or from its endorsement.
    fn local(&self, part: &Part, hashed: &HashedCollection, tx_id: &str) -> Option<KvrwSet> {
        if let Some(stored) = self.stored(part) {
            return Some(stored);
        }
        let data = self.transient().get(tx_id, &part.collection, &hashed.private_hash);
        let data = data.unwrap_or_else(|error| {
            tracing::error!(error, "transient private data cannot be read");
            None
        })?;
        fit(part, hashed, &data, &self.purged()).ok()
    }

    /// Ask the members' peers, one after the other.
    async fn fetch(&self, state: &State, part: &Part, hashed: &HashedCollection, tx_id: &str) -> Fetched {
        let mut outcome = Fetched::Absent;
        for contact in self.members_peers(state, &part.collection) {
            let exchange = &self.node().exchange;
            let pulled = exchange.pull(&contact, self.name(), tx_id, part, &hashed.private_hash).await;
            let refused = match pulled {
                Ok(None) => continue,
                Ok(Some(data)) => match fit(part, hashed, &data, &self.purged()) {
                    Ok(set) => return Fetched::Found(set),
                    Err(reason) => reason,
                },
                Err(reason) => {
                    outcome = Fetched::Unreached;
                    reason
                }
            };
            tracing::debug!(refused, peer = contact.host, "private data not got from a member");
        }
        outcome
    }

    /// Get what is missing, every time something is and then from time to time, until `stop`.
    pub(in crate::peer) async fn reconcile(self: Arc<Self>, mut stop: Stop) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = self.something_missing() => {}
                () = tokio::time::sleep(self.node().limits.reconcile) => {}
            }
            let state = self.state();
            for part in self.missing() {
                if stop.is_requested() {
                    return;
                }
                let Some((transaction, at)) = self.hashed_part(&part) else { continue };
                let (namespace, collection) = at;
                let hashed = &transaction.set.namespaces[namespace].collections[collection];
                if let Fetched::Found(set) = self.fetch(&state, &part, hashed, &transaction.tx_id).await
                    && let Err(error) = self.complete(part, &set)
                {
                    tracing::error!(channel = self.name(), error, "reconciled private data cannot be stored");
                }
            }
        }
    }

    /// Keep an endorsed transaction's private data, and give it to as many members as its collections ask for.
    ///
    /// # Errors
    /// Fabric's words, if fewer than required took it.
    pub(in crate::peer) async fn distribute(
        &self,
        state: &State,
        tx_id: &str,
        data: &TxPvtReadWriteSet,
    ) -> Result<(), String> {
        let height = self.ledger().height();
        for namespace in &data.ns_pvt_rwset {
            for part in &namespace.collection_pvt_rwset {
                let collection = (namespace.namespace.clone(), part.collection_name.clone());
                self.transient().put(tx_id, &collection, &part.rwset, height)?;
                self.spread_out(state, tx_id, &collection, &part.rwset, height).await?;
            }
        }
        Ok(())
    }

    async fn spread_out(
        &self,
        state: &State,
        tx_id: &str,
        collection: &Collection,
        data: &[u8],
        height: u64,
    ) -> Result<(), String> {
        let no_config = || format!("collection config for {}/{} not found", collection.0, collection.1);
        let config = members::config(state, collection).ok_or_else(no_config)?;
        let required = usize::try_from(config.required_peer_count).unwrap_or(0);
        // Fabric's default for an organisation's own collection is one other peer.
        let most = match implicit_org(&collection.1) {
            Some(org) => usize::from(org == self.node().directory.msp_id),
            None => usize::try_from(config.maximum_peer_count).unwrap_or(0),
        };
        let contacts = spread(self.members_peers(state, collection));
        if contacts.len() < required {
            return Err(format!(
                "could not build private data dissemination plan for chaincode {} and collection {}: required to \
                 disseminate to at least {required} peers, but know of only {} eligible peers",
                collection.0,
                collection.1,
                contacts.len()
            ));
        }
        let mut acknowledged = 0;
        let mut contacts = contacts.into_iter();
        while acknowledged < most {
            let batch: Vec<Contact> = contacts.by_ref().take(most - acknowledged).collect();
            if batch.is_empty() {
                break;
            }
            let pushes =
                batch.iter().map(|to| self.node().exchange.push(to, self.name(), tx_id, collection, data, height));
            for outcome in futures::future::join_all(pushes).await {
                match outcome {
                    Ok(()) => acknowledged += 1,
                    Err(reason) => tracing::warn!(channel = self.name(), reason, "a member did not take private data"),
                }
            }
        }
        if acknowledged < required {
            let failed = required - acknowledged;
            return Err(format!("Failed disseminating {failed} out of {required} private dissemination plans"));
        }
        Ok(())
    }

    /// Peers of a collection's member organisations.
    fn members_peers(&self, state: &State, collection: &Collection) -> Vec<Contact> {
        let Some(config) = members::config(state, collection) else { return Vec::new() };
        let orgs = collections::member_orgs(&config);
        let contacts = self.bundle().map(|bundle| self.node().directory.contacts(&bundle)).unwrap_or_default();
        contacts.into_iter().filter(|contact| orgs.contains(&contact.msp_id)).collect()
    }
}

/// The private parts of a block's valid transactions.
pub(in crate::peer) fn wanted(valid: &[Valid]) -> impl Iterator<Item = (Part, &HashedCollection, &str)> {
    valid.iter().flat_map(|valid| {
        valid.transaction.set.private_parts().map(|(namespace, hashed)| {
            let part = Part { version: valid.version, collection: (namespace.to_owned(), hashed.name.clone()) };
            (part, hashed, valid.transaction.tx_id.as_str())
        })
    })
}
