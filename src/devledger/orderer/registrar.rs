//! All channels of this orderer: join, remove, list, and where they are on disk.
//!
//! Invariant: a channel's folder exists before the join is answered, so that a restart finds it. A join block is kept in
//! `pendingops/join` until the ledger has reached it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use prost::Message;
use tokio::sync::watch;

use super::chain;
use super::channel::{Channel, HALT_LIMIT, JoinBlock, Progress, Relation};
use super::cluster::{Formation, Handler};
use super::{Node, channel};
use crate::channel::SignedData;
use crate::channel::bundle::Bundle;
use crate::deliver::Library;
use crate::ledger::ChannelLedger;
use crate::operations::Gauge;
use crate::raft::network;
use crate::store::records::replace_file;
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::Block;

/// Why a channel was not joined, removed or found; the texts are Fabric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Joined before.
    #[error("channel already exists")]
    Exists,
    /// Never joined.
    #[error("channel does not exist")]
    Unknown,
    /// Its files are being removed.
    #[error("channel pending removal")]
    Removing,
    /// Its files could not be removed.
    #[error("channel removal failure")]
    RemovalFailed,
    /// This node only follows it.
    #[error("channel is not ready, he is a follower")]
    Follower,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A channel as the participation API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: String,
    /// This node's part in it.
    pub relation: Relation,
    /// How far it is.
    pub progress: Progress,
    /// Number of blocks.
    pub height: u64,
}

/// The channels.
pub struct Registrar {
    node: Arc<Node>,
    channels: RwLock<BTreeMap<String, Arc<Channel>>>,
    removing: RwLock<BTreeMap<String, (Relation, Progress)>>,
    /// Joins and removals one after the other.
    changing: tokio::sync::Mutex<()>,
}

impl Registrar {
    /// Start every channel found on disk.
    ///
    /// # Errors
    /// A damaged ledger or join block; the text names it.
    pub async fn open(node: Arc<Node>) -> Result<Arc<Self>, String> {
        let this = Arc::new(Self {
            node,
            channels: RwLock::default(),
            removing: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
        });
        for folder in [this.chains_folder(), this.joins_folder()] {
            std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        for (name, _) in entries(&this.chains_folder())? {
            let join = this.read_join_block(&name)?;
            let ledger = this.open_ledger(&name)?;
            if ledger.height() == 0 && join.is_none() {
                tracing::warn!(channel = name, "removing an empty ledger without a join block");
                this.remove_files(&name)?;
                continue;
            }
            this.start(ledger, join).await?;
        }
        Ok(this)
    }

    /// Names of all channels.
    pub fn list(&self) -> Vec<String> {
        let mut names: Vec<_> = self.read().keys().cloned().collect();
        names.extend(self.removing.read().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        names
    }

    /// One channel.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn info(&self, name: &str) -> Result<ChannelInfo, ChannelError> {
        if let Some(channel) = self.get(name) {
            return Ok(info(name, &channel));
        }
        let removing = self.removing.read().unwrap_or_else(PoisonError::into_inner);
        let (relation, progress) = *removing.get(name).ok_or(ChannelError::Unknown)?;
        Ok(ChannelInfo { name: name.to_owned(), relation, progress, height: 0 })
    }

    /// A channel, if this node has it.
    pub fn get(&self, name: &str) -> Option<Arc<Channel>> {
        self.read().get(name).cloned()
    }

    /// A channel of which this node is a consenter.
    ///
    /// # Errors
    /// Why it is not at hand.
    pub fn consenter(&self, name: &str) -> Result<Arc<chain::Chain>, ChannelError> {
        self.not_removing(name)?;
        self.get(name).ok_or(ChannelError::Unknown)?.chain().ok_or(ChannelError::Follower)
    }

    /// Join a channel with a configuration block, found valid before.
    ///
    /// # Errors
    /// See [`ChannelError`]; nothing is left behind.
    pub async fn join(self: &Arc<Self>, bundle: Bundle, block: Block) -> Result<ChannelInfo, ChannelError> {
        let _one = self.changing.lock().await;
        let name = bundle.channel.clone();
        self.not_removing(&name)?;
        if self.get(&name).is_some() {
            return Err(ChannelError::Exists);
        }
        let joined = self.create(bundle, block).await;
        if joined.is_err()
            && let Err(error) = self.remove_files(&name)
        {
            tracing::warn!(channel = name, error, "cannot clean up after a join that failed");
        }
        joined.map_err(ChannelError::Other)
    }

    async fn create(self: &Arc<Self>, bundle: Bundle, block: Block) -> Result<ChannelInfo, String> {
        let name = bundle.channel.clone();
        let member = self.node.position(&bundle).is_some();
        let path = self.join_file(&name);
        replace_file(&path, &block.encode_to_vec())
            .map_err(|e| format!("failed saving joinblock to file repo for channel {name}: {e}"))?;
        let ledger = self.open_ledger(&name)?;
        let join = if blocks::number(&block) == 0 && member {
            ledger.append(&block).map_err(|e| format!("failed to append join block to the ledger: {e}"))?;
            None
        } else {
            Some(JoinBlock { block, bundle })
        };
        let channel = self.start(ledger, join).await?;
        let info = info(&name, &channel);
        tracing::info!(channel = name, relation = info.relation.as_str(), status = info.progress.as_str(), "joined");
        Ok(info)
    }

    /// Leave a channel; its files are removed after this returns.
    ///
    /// # Errors
    /// `Unknown` or `Removing`.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), ChannelError> {
        let _one = self.changing.lock().await;
        self.not_removing(name).or_else(|e| if e == ChannelError::RemovalFailed { Ok(()) } else { Err(e) })?;
        let channel = self.write().remove(name).ok_or(ChannelError::Unknown)?;
        let (relation, progress) = channel.status();
        self.set_removing(name, Some((relation, progress)));
        let (this, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            channel.halt().await;
            this.node.cluster.forget(&name);
            match this.remove_files(&name) {
                Ok(()) => this.set_removing(&name, None),
                Err(error) => {
                    tracing::error!(channel = name, error, "cannot remove the channel's files");
                    this.set_removing(&name, Some((relation, Progress::Failed)));
                }
            }
        });
        Ok(())
    }

    /// Stop all channels.
    pub async fn halt(&self) {
        let channels = std::mem::take(&mut *self.write());
        let halted = futures::future::join_all(channels.values().map(|channel| channel.halt()));
        if tokio::time::timeout(HALT_LIMIT, halted).await.is_err() {
            tracing::warn!("some channels did not stop in time");
        }
    }

    /// Numbers for `/metrics`, under Fabric's names.
    pub fn gauges(&self) -> Vec<Gauge> {
        let mut gauges = Vec::new();
        for (name, channel) in self.read().iter() {
            let mut add = |gauge, value| gauges.push(Gauge { name: gauge, channel: name.clone(), value });
            let (relation, progress) = channel.status();
            add(
                "participation_consensus_relation",
                match relation {
                    Relation::Consenter => 1,
                    Relation::Follower => 2,
                },
            );
            add(
                "participation_status",
                match progress {
                    Progress::Active => 1,
                    Progress::Onboarding => 2,
                    Progress::Failed => 3,
                },
            );
            let Some(chain) = channel.chain() else { continue };
            let metrics = chain.metrics();
            let voters = metrics.membership_config.membership().voter_ids().count() as u64;
            add("consensus_etcdraft_cluster_size", voters);
            add("consensus_etcdraft_active_nodes", chain.active().len() as u64);
            add("consensus_etcdraft_is_leader", u64::from(metrics.current_leader == Some(metrics.id)));
            add("consensus_etcdraft_committed_block_number", channel.ledger().height().saturating_sub(1));
        }
        gauges
    }

    async fn start(self: &Arc<Self>, ledger: ChannelLedger, join: Option<JoinBlock>) -> Result<Arc<Channel>, String> {
        let name = ledger.channel().to_owned();
        let join_file = self.join_file(&name);
        let joined = Box::new(move || match std::fs::remove_file(&join_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %join_file.display(), "cannot remove a join block");
            }
            _ => {}
        });
        let channel = Channel::start(self.node.clone(), Arc::new(ledger), join, joined).await?;
        self.write().insert(name, channel.clone());
        Ok(channel)
    }

    fn read_join_block(&self, name: &str) -> Result<Option<JoinBlock>, String> {
        let path = self.join_file(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        let read = |bytes: &[u8]| -> Result<JoinBlock, String> {
            let block = Block::decode(bytes).map_err(|e| e.to_string())?;
            Ok(JoinBlock { bundle: Bundle::of_block(&block)?, block })
        };
        read(&bytes).map(Some).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn open_ledger(&self, name: &str) -> Result<ChannelLedger, String> {
        ChannelLedger::open(name, &self.chains_folder().join(name), |_| {}).map_err(|e| e.to_string())
    }

    fn remove_files(&self, name: &str) -> Result<(), String> {
        let [log, snapshot] = chain::folders(&self.node, name);
        for folder in [self.chains_folder().join(name), log, snapshot] {
            absent_is_fine(std::fs::remove_dir_all(&folder)).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let file = self.join_file(name);
        absent_is_fine(std::fs::remove_file(&file)).map_err(|e| format!("{}: {e}", file.display()))
    }

    fn chains_folder(&self) -> PathBuf {
        self.node.settings.ledger_dir.join("chains")
    }

    fn joins_folder(&self) -> PathBuf {
        self.node.settings.ledger_dir.join("pendingops").join("join")
    }

    fn join_file(&self, name: &str) -> PathBuf {
        self.joins_folder().join(format!("{name}.join"))
    }

    fn not_removing(&self, name: &str) -> Result<(), ChannelError> {
        match self.removing.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            None => Ok(()),
            Some((_, Progress::Failed)) => Err(ChannelError::RemovalFailed),
            Some(_) => Err(ChannelError::Removing),
        }
    }

    fn set_removing(&self, name: &str, state: Option<(Relation, Progress)>) {
        let mut removing = self.removing.write().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => removing.insert(name.to_owned(), state),
            None => removing.remove(name),
        };
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Channel>>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Channel>>> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn info(name: &str, channel: &channel::Channel) -> ChannelInfo {
    let (relation, progress) = channel.status();
    ChannelInfo { name: name.to_owned(), relation, progress, height: channel.ledger().height() }
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(entries.into_iter().filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect())
}

fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

impl Library for Registrar {
    /// As in Fabric, a follower delivers nothing.
    fn ledger(&self, channel: &str) -> Option<Arc<ChannelLedger>> {
        self.consenter(channel).ok().map(|chain| chain.ledger().clone())
    }

    fn may_read(&self, ledger: &ChannelLedger, request: SignedData) -> Result<(), String> {
        let bundle = ledger.bundle().ok_or("the channel has no configuration")?;
        let policy = if bundle.orderer.in_maintenance() { "/Channel/Orderer/Readers" } else { "/Channel/Readers" };
        bundle.check(policy, &[request])
    }

    fn errored(&self, channel: &str) -> Option<watch::Receiver<bool>> {
        self.consenter(channel).ok().map(|chain| chain.errored())
    }
}

#[async_trait]
impl Handler for Registrar {
    async fn step(&self, channel: &str, _from: u64, body: &[u8]) -> Result<Vec<u8>, String> {
        let chain = self.consenter(channel).map_err(|e| e.to_string())?;
        network::receive(chain.raft(), &self.node.cluster, channel, body).await.map_err(|e| e.to_string())
    }

    async fn submit(&self, channel: &str, _from: u64, envelope: &[u8], config_sequence: u64) -> Result<(), String> {
        let chain = self.consenter(channel).map_err(|e| e.to_string())?;
        chain.order(envelope.to_vec(), config_sequence).await
    }

    async fn probe(&self, channel: &str, _from: u64) -> Result<Formation, String> {
        let chain = self.consenter(channel).map_err(|e| e.to_string())?;
        Ok(chain.probed().await)
    }

    async fn sign(&self, channel: &str, _from: u64, number: u64) -> Result<Vec<u8>, String> {
        let chain = self.consenter(channel).map_err(|e| e.to_string())?;
        chain.writer().countersign(number).await
    }
}
