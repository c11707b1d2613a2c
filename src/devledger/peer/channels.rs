//! The channels this peer has joined, their ledgers and where transactions are in them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use prost::Message;
use tokio::task::JoinHandle;

use crate::devledger::channel::{self, SignedData, bundle::Bundle};
use crate::devledger::deliver::Library;
use crate::devledger::ledger::ChannelLedger;
use crate::devledger::operations::Gauge;
use crate::devledger::pull::{Next, Puller};
use crate::devledger::stop::{Stopper, switch};
use crate::fabric::blocks;
use crate::fabric::proto::common::{Block, BlockMetadataIndex, ConfigEnvelope, Envelope};
use crate::fabric::proto::protos::TxValidationCode;

/// Blocks per transaction id, and the transaction's place in its block.
type Transactions = HashMap<String, (u64, usize)>;

/// One channel.
pub struct Joined {
    ledger: Arc<ChannelLedger>,
    transactions: RwLock<Transactions>,
    stopper: Stopper,
    task: RwLock<Option<JoinHandle<()>>>,
}

/// All channels.
pub struct Channels {
    folder: PathBuf,
    puller: Arc<Puller>,
    joined: RwLock<BTreeMap<String, Arc<Joined>>>,
    joining: tokio::sync::Mutex<()>,
}

impl Channels {
    /// Open every ledger in `folder` and follow its orderers.
    ///
    /// # Errors
    /// A damaged ledger; the text names it.
    pub fn open(folder: PathBuf, puller: Arc<Puller>) -> Result<Arc<Self>, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let entries = std::fs::read_dir(&folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let this = Self { folder: folder.clone(), puller, joined: RwLock::default(), joining: Default::default() };
        for name in names {
            let joined = this.open_ledger(&name)?;
            if joined.ledger.height() == 0 {
                // A crash between making the folder and storing the first block: never joined.
                std::fs::remove_dir_all(this.folder.join(&name)).map_err(failed)?;
                continue;
            }
            this.follow(joined);
        }
        Ok(Arc::new(this))
    }

    /// Names of the channels.
    pub fn names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// A channel, if joined.
    pub fn get(&self, name: &str) -> Option<Arc<Joined>> {
        self.read().get(name).cloned()
    }

    /// Join with the channel's first block, found valid before.
    ///
    /// # Errors
    /// Fabric's words.
    pub async fn join(&self, name: &str, block: &Block) -> Result<(), String> {
        let _one = self.joining.lock().await;
        if self.get(name).is_some() {
            return Err(format!(
                "cannot create ledger from genesis block: ledger [{name}] already exists with state [ACTIVE]"
            ));
        }
        let joined = self.open_ledger(name)?;
        let block = validated(block.clone());
        let stored = joined.ledger.append(&block).map_err(|e| format!("cannot create ledger from genesis block: {e}"));
        if let Err(reason) = stored {
            if let Err(error) = std::fs::remove_dir_all(self.folder.join(name)) {
                tracing::warn!(channel = name, %error, "cannot clean up after a join that failed");
            }
            return Err(reason);
        }
        joined.index(&block);
        self.follow(joined);
        tracing::info!(channel = name, "joined");
        Ok(())
    }

    /// Stop following.
    pub async fn halt(&self) {
        let joined = std::mem::take(&mut *self.joined.write().unwrap_or_else(PoisonError::into_inner));
        for (name, channel) in joined {
            channel.stopper.stop();
            let task = channel.task.write().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task
                && let Err(error) = task.await
            {
                tracing::error!(channel = name, %error, "the channel's task did not end well");
            }
        }
    }

    /// Numbers for `/metrics`, under Fabric's names.
    pub fn gauges(&self) -> Vec<Gauge> {
        let gauge = |(name, joined): (&String, &Arc<Joined>)| Gauge {
            name: "ledger_blockchain_height",
            channel: name.clone(),
            value: joined.ledger.height(),
        };
        self.read().iter().map(gauge).collect()
    }

    fn open_ledger(&self, name: &str) -> Result<Joined, String> {
        let mut transactions = Transactions::new();
        let ledger = ChannelLedger::open(name, &self.folder.join(name), |block| collect(&mut transactions, block));
        let ledger = Arc::new(ledger.map_err(|e| e.to_string())?);
        let (stopper, _) = switch();
        Ok(Joined { ledger, transactions: RwLock::new(transactions), stopper, task: RwLock::default() })
    }

    fn follow(&self, joined: Joined) {
        let joined = Arc::new(joined);
        let name = joined.ledger.channel().to_owned();
        let (puller, following, stop) = (self.puller.clone(), joined.clone(), joined.stopper.stop_handle());
        let task = tokio::spawn(async move {
            let take = |block| following.take(block).map(|()| Next::Continue);
            puller.follow(&following.ledger, None, stop, take).await;
        });
        *joined.task.write().unwrap_or_else(PoisonError::into_inner) = Some(task);
        self.joined.write().unwrap_or_else(PoisonError::into_inner).insert(name, joined);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Joined>>> {
        self.joined.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// The channel's ledger.
    pub fn ledger(&self) -> &Arc<ChannelLedger> {
        &self.ledger
    }

    /// The configuration in force.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.ledger.bundle()
    }

    /// Block and place of a transaction.
    pub fn transaction(&self, id: &str) -> Option<(u64, usize)> {
        self.transactions.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Check and store a block that an orderer delivered.
    fn take(&self, block: Block) -> Result<(), String> {
        self.ledger.verify(&block).map_err(|e| e.to_string())?;
        self.check_config(&block)?;
        let block = validated(block);
        self.ledger.append(&block).map_err(|e| e.to_string())?;
        self.index(&block);
        tracing::debug!(channel = self.ledger.channel(), number = blocks::number(&block), "stored a block");
        Ok(())
    }

    /// Do not take the orderers' word that a configuration was signed by those concerned.
    fn check_config(&self, block: &Block) -> Result<(), String> {
        let Some(bundle) = self.bundle().filter(|_| channel::is_config_block(block)) else { return Ok(()) };
        let envelope = block.data.as_ref().and_then(|data| data.data.first()).map(Vec::as_slice).unwrap_or_default();
        let envelope = Envelope::decode(envelope).map_err(|e| e.to_string())?;
        let config = channel::open(&envelope)?.data;
        let config = ConfigEnvelope::decode(config.as_slice()).map_err(|e| e.to_string())?;
        bundle.validate(&config)
    }

    fn index(&self, block: &Block) {
        collect(&mut self.transactions.write().unwrap_or_else(PoisonError::into_inner), block);
    }
}

fn collect(transactions: &mut Transactions, block: &Block) {
    let data = block.data.as_ref().map(|data| data.data.as_slice()).unwrap_or_default();
    for (at, envelope) in data.iter().enumerate() {
        let opened = Envelope::decode(envelope.as_slice()).ok().and_then(|envelope| channel::open(&envelope).ok());
        let id = opened.map(|opened| opened.channel.tx_id).unwrap_or_default();
        if !id.is_empty() {
            // A repeated id keeps its first place, as in Fabric.
            transactions.entry(id).or_insert((blocks::number(block), at));
        }
    }
}

/// Note for each transaction whether it counts.
fn validated(mut block: Block) -> Block {
    let count = block.data.as_ref().map_or(0, |data| data.data.len());
    let code = if channel::is_config_block(&block) { TxValidationCode::Valid } else { TxValidationCode::NotValidated };
    let flags = vec![u8::try_from(i32::from(code)).unwrap_or(u8::MAX); count];
    let entries = &mut block.metadata.get_or_insert_default().metadata;
    entries.resize(entries.len().max(blocks::METADATA_ENTRIES), Vec::new());
    entries[BlockMetadataIndex::TransactionsFilter as usize] = flags;
    block
}

impl Library for Channels {
    fn ledger(&self, channel: &str) -> Option<Arc<ChannelLedger>> {
        self.get(channel).map(|joined| joined.ledger.clone())
    }

    fn may_read(&self, ledger: &ChannelLedger, request: SignedData) -> Result<(), String> {
        let bundle = ledger.bundle().ok_or("the channel has no configuration")?;
        bundle.check("/Channel/Application/Readers", &[request])
    }
}
