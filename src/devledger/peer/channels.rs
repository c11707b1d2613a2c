//! The channels that this peer has joined.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Node;
use super::joined::Joined;
use crate::channel::SignedData;
use crate::deliver::Library;
use crate::ledger::ChannelLedger;
use crate::operations::Gauge;
use crate::pull::Next;
use crate::stop::{Stopper, switch};
use ehrnet_fabric::proto::common::Block;

/// All channels.
pub struct Channels {
    node: Arc<Node>,
    followed: RwLock<BTreeMap<String, Followed>>,
    joining: tokio::sync::Mutex<()>,
}

/// A channel and the tasks that keep it up to date.
struct Followed {
    joined: Arc<Joined>,
    stopper: Stopper,
    tasks: Vec<JoinHandle<()>>,
}

impl Channels {
    /// Open every ledger and follow its orderers.
    ///
    /// # Errors
    /// A damaged ledger; the text names it.
    pub fn open(node: Arc<Node>) -> Result<Arc<Self>, String> {
        let folder = node.ledger_dir.clone();
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let entries = std::fs::read_dir(&folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let this = Self { node, followed: RwLock::default(), joining: Default::default() };
        for name in names {
            let joined = Joined::open(this.node.clone(), &name)?;
            if joined.ledger().height() == 0 {
                // A crash between making the folder and storing the first block: never joined.
                std::fs::remove_dir_all(folder.join(&name)).map_err(failed)?;
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
        self.read().get(name).map(|followed| followed.joined.clone())
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
        let joined = Joined::open(self.node.clone(), name)?;
        if let Err(reason) = joined.begin(block.clone()) {
            if let Err(error) = std::fs::remove_dir_all(self.node.ledger_dir.join(name)) {
                tracing::warn!(channel = name, %error, "cannot clean up after a join that failed");
            }
            return Err(format!("cannot create ledger from genesis block: {reason}"));
        }
        self.follow(joined);
        tracing::info!(channel = name, "joined");
        Ok(())
    }

    /// Stop following.
    pub async fn halt(&self) {
        let followed = std::mem::take(&mut *self.followed.write().unwrap_or_else(PoisonError::into_inner));
        for (name, channel) in followed {
            channel.stopper.stop();
            for task in channel.tasks {
                if let Err(error) = task.await {
                    tracing::error!(channel = name, %error, "a task of the channel did not end well");
                }
            }
        }
    }

    /// Numbers for `/metrics`, under Fabric's names.
    pub fn gauges(&self) -> Vec<Gauge> {
        let gauge = |(name, followed): (&String, &Followed)| Gauge {
            name: "ledger_blockchain_height",
            channel: name.clone(),
            value: followed.joined.ledger().height(),
        };
        self.read().iter().map(gauge).collect()
    }

    fn follow(&self, joined: Joined) {
        let joined = Arc::new(joined);
        let (stopper, stop) = switch();
        let reconciling = tokio::spawn(joined.clone().reconcile(stop.clone()));
        let (node, following) = (self.node.clone(), joined.clone());
        let following = tokio::spawn(async move {
            let take = |block| {
                let joined = following.clone();
                async move { joined.take(block).await.map(|()| Next::Continue) }
            };
            node.puller.follow(following.ledger(), None, stop, take).await;
        });
        let name = joined.name().to_owned();
        let followed = Followed { joined, stopper, tasks: vec![following, reconciling] };
        self.followed.write().unwrap_or_else(PoisonError::into_inner).insert(name, followed);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Followed>> {
        self.followed.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Library for Channels {
    fn ledger(&self, channel: &str) -> Option<Arc<ChannelLedger>> {
        self.get(channel).map(|joined| joined.ledger().clone())
    }

    fn may_read(&self, ledger: &ChannelLedger, request: SignedData) -> Result<(), String> {
        let bundle = ledger.bundle().ok_or("the channel has no configuration")?;
        let policy = bundle.acl("event/Block").unwrap_or_else(|| "/Channel/Application/Readers".into());
        bundle.check(&policy, &[request])
    }

    fn errored(&self, _: &str) -> Option<watch::Receiver<bool>> {
        None
    }
}
