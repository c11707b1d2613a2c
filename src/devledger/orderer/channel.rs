//! One channel of this orderer: consenter or follower, and the change between the two.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Node;
use super::chain::Chain;
use super::writer::last_metadata;
use crate::channel::bundle::Bundle;
use crate::ledger::ChannelLedger;
use crate::pull::Next;
use crate::stop::{Stop, Stopper, switch};
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::Block;

/// What this node is in the channel, with Fabric's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// In the list of consenters.
    Consenter,
    /// Not in it: it only pulls.
    Follower,
}

impl Relation {
    /// As the participation API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consenter => "consenter",
            Self::Follower => "follower",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has the block it joined with.
    Active,
    /// It still pulls blocks up to the one it joined with.
    Onboarding,
    /// It could not go on.
    Failed,
}

impl Progress {
    /// As the participation API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Onboarding => "onboarding",
            Self::Failed => "failed",
        }
    }
}

/// The block a node joined with, when it is not block 0 of its own channel.
pub struct JoinBlock {
    /// The block.
    pub block: Block,
    /// Its configuration.
    pub bundle: Bundle,
}

/// One channel.
pub struct Channel {
    node: Arc<Node>,
    ledger: Arc<ChannelLedger>,
    join: Option<JoinBlock>,
    role: RwLock<(Relation, Progress, Option<Arc<Chain>>)>,
    stopper: Stopper,
    task: RwLock<Option<JoinHandle<()>>>,
    /// Told when the join block is no longer needed.
    joined: Box<dyn Fn() + Send + Sync>,
}

impl Channel {
    /// Start with what the ledger and the join block say; returns when the role is taken up.
    ///
    /// # Errors
    /// The raft group cannot start.
    pub async fn start(
        node: Arc<Node>,
        ledger: Arc<ChannelLedger>,
        join: Option<JoinBlock>,
        joined: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Arc<Self>, String> {
        let (stopper, stop) = switch();
        let role = RwLock::new((Relation::Follower, Progress::Onboarding, None));
        let channel = Arc::new(Self { node, ledger, join, role, stopper, task: RwLock::default(), joined });
        let chain = channel.take_role().await?;
        let task = tokio::spawn(channel.clone().run(chain, stop));
        *channel.task.write().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(channel)
    }

    /// Stop; returns when nothing is written any more.
    pub async fn halt(&self) {
        self.stopper.stop();
        let task = self.task.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(channel = self.ledger.channel(), %error, "the channel's task did not end well");
        }
    }

    /// The channel's ledger.
    pub fn ledger(&self) -> &Arc<ChannelLedger> {
        &self.ledger
    }

    /// What this node is in the channel, and how far.
    pub fn status(&self) -> (Relation, Progress) {
        let role = self.role.read().unwrap_or_else(PoisonError::into_inner);
        (role.0, role.1)
    }

    /// The raft group, if this node is a consenter that is up to date.
    pub fn chain(&self) -> Option<Arc<Chain>> {
        self.role.read().unwrap_or_else(PoisonError::into_inner).2.clone()
    }

    fn set(&self, relation: Relation, progress: Progress, chain: Option<Arc<Chain>>) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = (relation, progress, chain);
    }

    fn onboarding(&self) -> Option<&JoinBlock> {
        self.join.as_ref().filter(|join| self.ledger.height() <= blocks::number(&join.block))
    }

    /// Become what the newest known configuration says.
    async fn take_role(&self) -> Result<Option<Arc<Chain>>, String> {
        if let Some(join) = self.onboarding() {
            let listed = self.node.position(&join.bundle).is_some();
            let relation = if listed { Relation::Consenter } else { Relation::Follower };
            self.set(relation, Progress::Onboarding, None);
            return Ok(None);
        }
        (self.joined)();
        let position = self.ledger.bundle().and_then(|bundle| Some((self.node.position(&bundle)?, bundle)));
        let Some((position, bundle)) = position else {
            self.set(Relation::Follower, Progress::Active, None);
            return Ok(None);
        };
        let last = last_metadata(&self.ledger).map_err(|e| e.to_string())?;
        let id = bundle.orderer.consenters.ids(&last).get(position).copied();
        let id = id.ok_or("the last block gives this consenter no id")?;
        let chain = Chain::start(self.node.clone(), self.ledger.clone(), id).await?;
        self.set(Relation::Consenter, Progress::Active, Some(chain.clone()));
        Ok(Some(chain))
    }

    async fn run(self: Arc<Self>, mut chain: Option<Arc<Chain>>, mut stop: Stop) {
        let name = self.ledger.channel();
        loop {
            match &chain {
                Some(chain) => {
                    tokio::select! {
                        () = stop.requested() => {}
                        () = chain.evicted() => {}
                    }
                    chain.halt().await;
                }
                None => self.pull(stop.clone()).await,
            }
            if stop.is_requested() {
                return;
            }
            chain = match self.take_role().await {
                Ok(chain) => chain,
                Err(error) => {
                    tracing::error!(channel = name, error, "cannot go on in this channel");
                    self.set(self.status().0, Progress::Failed, None);
                    stop.requested().await;
                    return;
                }
            };
        }
    }

    /// Pull until the join block is reached or a configuration makes this node a consenter.
    async fn pull(&self, stop: Stop) {
        let onboarding = self.onboarding();
        let join = onboarding.map(|join| (&join.bundle, blocks::number(&join.block)));
        tracing::info!(channel = self.ledger.channel(), up_to = ?join.map(|j| j.1), "following");
        let take = |block: Block| -> Result<Next, String> {
            let number = blocks::number(&block);
            self.ledger.verify(&block).map_err(|e| e.to_string())?;
            if let Some(join) = onboarding.filter(|join| blocks::number(&join.block) == number)
                && join.block.header != block.header
            {
                return Err(format!(
                    "block header mismatch between the block we pulled and the block we joined with, sequence {number}"
                ));
            }
            self.ledger.append(&block).map_err(|e| e.to_string())?;
            let reached = onboarding.is_some_and(|join| number >= blocks::number(&join.block));
            let member = onboarding.is_none() && self.ledger.bundle().is_some_and(|b| self.node.position(&b).is_some());
            Ok(if reached || member { Next::Done } else { Next::Continue })
        };
        let take = |block| std::future::ready(take(block));
        self.node.puller.follow(&self.ledger, join, stop, take).await;
    }
}

/// How long a stopping node waits for its channels.
pub const HALT_LIMIT: Duration = Duration::from_secs(10);
