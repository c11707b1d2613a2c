//! A channel that the peer has joined: its ledger, its state, its private data, and what others may ask of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

use super::Node;
use super::chaincode::requests::ChannelHistory;
use super::commit;
use super::lifecycle::definition::{Committed, Definition};
use super::lifecycle::{self, fields};
use super::private::contacts::Contact;
use super::private::members::Eligible;
use super::private::parts::{Part, Purged};
use super::private::store::PrivateStore;
use super::private::transient::Transient;
use super::rwset;
use super::state::expiry::Expiry;
use super::state::history::History;
use super::state::world::State;
use super::state::{Collection, Version};
use super::validate::block::envelopes;
use super::validate::transaction::{self, Endorsed};
use crate::channel::bundle::Bundle;
use crate::ledger::ChannelLedger;
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::policy::role_principal;
use ehrnet_fabric::proto::common::msp_role::MspRoleType;
use ehrnet_fabric::proto::kvrwset::KvrwSet;
use ehrnet_fabric::proto::protos::TxValidationCode;
use ehrnet_fabric::proto::queryresult::KeyModification;

/// One channel.
pub struct Joined {
    node: Arc<Node>,
    ledger: Arc<ChannelLedger>,
    view: RwLock<View>,
    store: Mutex<PrivateStore>,
    transient: Transient,
    lacking: Notify,
}

/// What the blocks so far amount to. Changed at one place only, when a block is committed.
#[derive(Default)]
pub(super) struct View {
    pub state: State,
    pub transactions: HashMap<String, Placed>,
    pub history: History,
    pub expiry: Expiry,
    pub purged: Purged,
    /// Private parts of which this peer has no data, its own to have or not.
    pub missing: BTreeSet<Part>,
    pub commit_hash: Vec<u8>,
}

/// Where a transaction is, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The block.
    pub block: u64,
    /// Its place in the block.
    pub at: usize,
    /// The verdict.
    pub code: TxValidationCode,
}

impl Joined {
    /// Open a channel's ledger and make its state of it.
    ///
    /// # Errors
    /// Something is damaged; the text says what.
    pub fn open(node: Arc<Node>, name: &str) -> Result<Self, String> {
        let folder = node.ledger_dir.join(name);
        let mut view = View::default();
        let ledger = ChannelLedger::open(name, &folder, |block| commit::replay(&mut view, block));
        let ledger = Arc::new(ledger.map_err(|e| e.to_string())?);
        let mut store = PrivateStore::open(&folder).map_err(|e| e.to_string())?;
        commit::restore_private(&mut view, &mut store, ledger.height()).map_err(|e| e.to_string())?;
        let transient = Transient::open(node.transient_dir.join(name))?;
        let lacking = Notify::new();
        Ok(Self { node, ledger, view: RwLock::new(view), store: Mutex::new(store), transient, lacking })
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        self.ledger.channel()
    }

    /// The channel's ledger. Whoever waits for its height sees a block's effects in the state as well.
    pub fn ledger(&self) -> &Arc<ChannelLedger> {
        &self.ledger
    }

    /// What all channels share.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The configuration in force.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.ledger.bundle()
    }

    /// The state as it is now; it will not change under the caller.
    pub fn state(&self) -> State {
        self.view().state.clone()
    }

    /// What became of a transaction, if it has been committed.
    pub fn transaction(&self, id: &str) -> Option<Placed> {
        self.view().transactions.get(id).copied()
    }

    /// Wait until a transaction is committed, and tell what became of it. `None` if the channel is closed before.
    pub async fn committed(&self, id: &str) -> Option<Placed> {
        let mut heights = self.ledger.watch_height();
        loop {
            heights.borrow_and_update();
            if let Some(placed) = self.transaction(id) {
                return Some(placed);
            }
            heights.changed().await.ok()?;
        }
    }

    /// The committed definition of a chaincode: its endorsement policy and collections.
    pub fn definition(&self, chaincode: &str) -> Option<Definition> {
        Definition::read(&mut Committed(&self.view().state), chaincode).unwrap_or_else(|error| {
            tracing::error!(channel = self.name(), chaincode, error, "a definition is not readable");
            None
        })
    }

    /// Names of all chaincodes with a committed definition.
    pub fn defined(&self) -> Vec<String> {
        let prefix = format!("{}/metadata/", fields::NAMESPACES);
        let end = format!("{prefix}\x7f");
        let view = self.view();
        let keys = view.state.range(lifecycle::NAMESPACE, &prefix, &end);
        keys.filter_map(|(key, _)| key.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The other peers of the channel's organisations that are known here.
    pub fn peers(&self) -> Vec<Contact> {
        self.bundle().map(|bundle| self.node.directory.contacts(&bundle)).unwrap_or_default()
    }

    /// Take private data that another peer endorsed, until its block comes.
    ///
    /// # Errors
    /// It is not for this peer, or cannot be kept.
    pub fn accept_private(&self, tx_id: &str, collection: &Collection, data: &[u8], height: u64) -> Result<(), String> {
        if !Eligible::new(&self.state(), self.own().as_ref()).is_member(collection) {
            return Err(format!("this peer is no member of collection {}/{}", collection.0, collection.1));
        }
        if self.transaction(tx_id).is_some() {
            return Ok(());
        }
        self.transient.put(tx_id, collection, data, height)
    }

    /// Private data for another peer; `hash` is what the block says of it.
    ///
    /// # Errors
    /// It is not for that peer, or cannot be read.
    pub fn give_private(
        &self,
        asker: &Identity,
        tx_id: &str,
        part: &Part,
        hash: &[u8],
    ) -> Result<Option<Vec<u8>>, String> {
        use prost::Message;
        let (namespace, name) = &part.collection;
        if !Eligible::new(&self.state(), Some(asker)).is_member(&part.collection) {
            return Err(format!("{} is no member of collection {namespace}/{name}", asker.msp_id));
        }
        if let Some(data) = self.transient.get(tx_id, &part.collection, hash)? {
            return Ok(Some(data));
        }
        Ok(self.stored(part).map(|set| set.encode_to_vec()))
    }

    /// This peer as the channel knows it.
    pub(super) fn own(&self) -> Option<Identity> {
        self.bundle().and_then(|bundle| bundle.members.identity(self.node.signer.serialized()).ok())
    }

    /// A committed part's data, if it is here.
    pub(super) fn stored(&self, part: &Part) -> Option<KvrwSet> {
        self.store().get(part).unwrap_or_else(|error| {
            tracing::error!(channel = self.name(), %error, "private data cannot be read");
            None
        })
    }

    /// Data of endorsed transactions.
    pub(super) fn transient(&self) -> &Transient {
        &self.transient
    }

    /// What was purged.
    pub(super) fn purged(&self) -> Purged {
        self.view().purged.clone()
    }

    /// Parts that this peer is to have and has not.
    pub(super) fn missing(&self) -> Vec<Part> {
        let (view, own) = (self.view(), self.own());
        let mut eligible = Eligible::new(&view.state, own.as_ref());
        view.missing.iter().filter(|part| eligible.is_member(&part.collection)).cloned().collect()
    }

    /// Returns when a block came of which data is missing.
    pub(super) async fn something_missing(&self) {
        self.lacking.notified().await;
    }

    /// Wake those who look for missing data.
    pub(super) fn note_missing(&self) {
        self.lacking.notify_one();
    }

    /// The transaction of a private part, and the places of its namespace and collection in the read-write set.
    pub(super) fn hashed_part(&self, part: &Part) -> Option<(Endorsed, (usize, usize))> {
        let transaction = self.committed_transaction(part.version)?;
        let namespace = transaction.set.namespaces.iter().position(|n| n.name == part.collection.0)?;
        let collections = &transaction.set.namespaces[namespace].collections;
        let collection = collections.iter().position(|c| c.name == part.collection.1)?;
        Some((transaction, (namespace, collection)))
    }

    fn committed_transaction(&self, version: Version) -> Option<Endorsed> {
        let block = self.ledger.block(version.block).unwrap_or_else(|error| {
            tracing::error!(channel = self.name(), %error, "a block cannot be read");
            None
        })?;
        transaction::reread(envelopes(&block).get(usize::try_from(version.tx).ok()?)?)
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> MutexGuard<'_, PrivateStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelHistory for Joined {
    fn writers(&self, namespace: &str, key: &str) -> Vec<Version> {
        self.view().history.of(namespace, key)
    }

    fn modification(&self, namespace: &str, key: &str, version: Version) -> Result<KeyModification, String> {
        let missing = || format!("no namespace or key is found for namespace {namespace} and key {key}");
        let transaction = self.committed_transaction(version).ok_or_else(missing)?;
        let mut written = transaction.set.namespaces.iter().filter(|n| n.name == namespace).flat_map(|n| &n.kv.writes);
        let write = written.find(|write| write.key == key).ok_or_else(missing)?;
        Ok(KeyModification {
            tx_id: transaction.tx_id,
            value: write.value.clone(),
            timestamp: transaction.timestamp,
            is_delete: rwset::deletes(write),
        })
    }
}

/// Whether an identity is a peer of its organisation.
pub fn is_peer(identity: &Identity) -> bool {
    identity.satisfies(&role_principal(&identity.msp_id, MspRoleType::Peer))
}
