//! A channel of which this node is a consenter: its raft group, and the queue in front of it.
//!
//! Invariant: the leader has at most one batch under way, so what it proposes is always judged by the configuration that
//! will be in force when it is applied, and a change of consenters is finished before the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{EmptyNode, RaftMetrics, ServerState};
use prost::Message;
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Node;
use super::cluster::{Formation, Member, Membership};
use super::cutter::Cutter;
use super::filters::{MessageProcessor, Rejection};
use super::writer::{Writer, consenter_ids, last_metadata};
use crate::channel::{self, bundle::Bundle, certificate as certs};
use crate::deliver::now_seconds;
use crate::ledger::ChannelLedger;
use crate::raft::log::LogStore;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::{Batch, Raft};
use crate::stop::{Stop, Stopper, switch};
use ehrnet_fabric::proto::common::{Envelope, HeaderType};

/// A consenter that does not answer so soon is taken for absent.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// As long as Fabric waits for the leader to take a forwarded message.
const FORWARD_LIMIT: Duration = Duration::from_secs(7);

/// A running consenter.
pub struct Chain {
    node: Arc<Node>,
    ledger: Arc<ChannelLedger>,
    writer: Arc<Writer>,
    raft: Raft,
    id: u64,
    queue: mpsc::Sender<Submission>,
    stopper: Stopper,
    /// One change of the group's members at a time.
    changing: tokio::sync::Mutex<()>,
    /// Whether there is no leader to order, as clients that wait for blocks are told.
    errored: watch::Sender<bool>,
    /// Turns true when this node is no longer a consenter.
    evicted: watch::Receiver<bool>,
}

struct Submission {
    envelope: Vec<u8>,
    config_sequence: u64,
}

impl Chain {
    /// Start the raft group of a channel in which this node has the id `id`.
    ///
    /// # Errors
    /// The log cannot be used, or the channel's options contradict each other.
    pub async fn start(node: Arc<Node>, ledger: Arc<ChannelLedger>, id: u64) -> Result<Arc<Self>, String> {
        let bundle = ledger.bundle().ok_or("the ledger has no configuration")?;
        let channel = ledger.channel().to_owned();
        let text = |e: &dyn std::fmt::Display| e.to_string();
        configure(&node, &ledger, &bundle, &BTreeSet::new()).map_err(|e| text(&e))?;
        let (stopper, stop) = switch();
        let writer = Arc::new(Writer {
            ledger: ledger.clone(),
            signer: node.signer.clone(),
            id,
            cluster: node.cluster.clone(),
            puller: node.puller.clone(),
            stop: stop.clone(),
            pending: watch::Sender::new(None),
            writing: Default::default(),
        });
        let [log_folder, snapshot_folder] = folders(&node, &channel);
        for folder in [&log_folder, &snapshot_folder] {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let log = LogStore::open(&log_folder).map_err(|e| text(&e))?;
        let (pristine, first) = (log.is_pristine(), ledger.height() == 1);
        let machine = Machine::open(snapshot_folder.join("snapshot.json"), writer.clone()).map_err(|e| text(&e))?;
        let network = Network { channel: channel.clone(), cluster: node.cluster.clone(), id };
        let config = bundle.orderer.consenters.timing().config(&channel)?;
        let raft = Raft::new(id, config, network, log, machine).await.map_err(|e| text(&e))?;
        let (queue, submissions) = mpsc::channel(64);
        let (evict, evicted) = watch::channel(false);
        let (changing, errored) = (Default::default(), watch::Sender::new(true));
        let chain = Arc::new(Self { node, ledger, writer, raft, id, queue, stopper, changing, errored, evicted });
        tokio::spawn(chain.clone().lead(submissions, stop.clone()));
        tokio::spawn(chain.clone().watch_configuration(evict, stop.clone()));
        if pristine && first {
            tokio::spawn(chain.clone().form(stop));
        }
        tracing::info!(channel, id, "started as consenter");
        Ok(chain)
    }

    /// Make a new channel's raft group, unless another consenter did. Two who do so at once would unseat each other, so
    /// the one with the smallest id among those present does it.
    async fn form(self: Arc<Self>, mut stop: Stop) {
        let channel = self.ledger.channel();
        let patience = self.ledger.bundle().map(|b| b.orderer.consenters.timing().election_timeout());
        let mut metrics = self.raft.metrics();
        loop {
            let Ok(ids) = consenter_ids(&self.ledger) else { return };
            let cluster = &self.node.cluster;
            let others = ids.iter().copied().filter(|id| *id != self.id);
            let probes = others.map(|id| async move { (id, cluster.probe(channel, id, PROBE_LIMIT).await.ok()) });
            let answers = futures::future::join_all(probes).await;
            let exists = |(_, answer): &(u64, _)| matches!(answer, Some(Formation::Leaderless | Formation::Led));
            let smaller = |(id, answer): &(u64, _)| *id < self.id && *answer == Some(Formation::Waiting);
            if !answers.iter().any(|answer| exists(answer) || smaller(answer)) {
                let members: BTreeMap<u64, EmptyNode> = ids.into_iter().map(|id| (id, EmptyNode {})).collect();
                if let Err(error) = self.raft.initialize(members).await {
                    tracing::debug!(channel, %error, "another consenter made the raft group meanwhile");
                }
                return;
            }
            let heard = async { metrics.wait_for(|metrics| metrics.last_log_index.is_some()).await.is_ok() };
            tokio::select! {
                () = stop.requested() => return,
                _ = heard => return,
                () = tokio::time::sleep(patience.unwrap_or(FORWARD_LIMIT)) => {}
            }
        }
    }

    /// Tell another consenter how far the group is, and try for a leader if there is none: the asker can vote now.
    pub async fn probed(&self) -> Formation {
        let metrics = self.metrics();
        if metrics.current_leader.is_some() {
            return Formation::Led;
        }
        if metrics.last_log_index.is_none() {
            return Formation::Waiting;
        }
        if let Err(error) = self.raft.trigger().elect().await {
            tracing::debug!(channel = self.ledger.channel(), %error, "no election");
        }
        Formation::Leaderless
    }

    /// Stop the raft group; returns when nothing is written any more.
    pub async fn halt(&self) {
        self.stopper.stop();
        self.errored.send_replace(true);
        self.writer.pending.send_replace(None);
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(channel = self.ledger.channel(), %error, "raft did not end well");
        }
    }

    /// Returns when this node is no longer a consenter, or the chain was halted.
    pub async fn evicted(&self) {
        let mut evicted = self.evicted.clone();
        let _ended = evicted.wait_for(|evicted| *evicted).await.is_err();
    }

    /// Whether there is no leader to order, as it changes.
    pub fn errored(&self) -> watch::Receiver<bool> {
        self.errored.subscribe()
    }

    /// As Fabric's `etcdraft` chain: true from the start until there is a leader, and again when there is none, but not in
    /// a group of two, which could not grow from one otherwise.
    fn note_leader(&self, consenters: usize) {
        let found = self.leader().is_some();
        self.errored.send_if_modified(|errored| {
            let before = *errored;
            *errored = !found && (before || consenters > 2);
            *errored != before
        });
    }

    /// The raft group's state.
    pub fn metrics(&self) -> RaftMetrics<u64, EmptyNode> {
        self.raft.metrics().borrow().clone()
    }

    /// The channel's ledger.
    pub fn ledger(&self) -> &Arc<ChannelLedger> {
        &self.ledger
    }

    /// Signs blocks for other consenters.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The raft group, for messages of others.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Consenters that answer now, this one included.
    pub fn active(&self) -> BTreeSet<u64> {
        let timing = self.ledger.bundle().map(|b| b.orderer.consenters.timing().election_timeout());
        let leads = self.metrics().state == ServerState::Leader;
        self.node.cluster.active(self.ledger.channel(), self.id, leads, timing.unwrap_or(FORWARD_LIMIT))
    }

    fn leader(&self) -> Option<u64> {
        let metrics = self.metrics();
        let leader = metrics.current_leader?;
        let patience = self.ledger.bundle()?.orderer.consenters.timing().election_timeout();
        // A leader that a majority no longer answers is none.
        let silent = metrics.millis_since_quorum_ack.is_none_or(|ms| Duration::from_millis(ms) > patience * 2);
        (leader != self.id || !silent).then_some(leader)
    }

    /// Process a message by the configuration in force.
    ///
    /// # Errors
    /// What `process` refuses, or the ledger cannot be read.
    pub fn process<T>(
        &self,
        process: impl FnOnce(&MessageProcessor<'_>) -> Result<T, Rejection>,
    ) -> Result<(T, u64), Rejection> {
        let unavailable =
            |reason: String| Rejection { status: ehrnet_fabric::proto::common::Status::ServiceUnavailable, reason };
        let bundle = self.ledger.bundle().ok_or_else(|| unavailable("chain is not started".into()))?;
        let metadata = last_metadata(&self.ledger).map_err(|e| unavailable(e.to_string()))?;
        let judged = process(&MessageProcessor {
            bundle: &bundle,
            metadata: &metadata,
            active: self.active(),
            signer: &self.node.signer,
            no_expiration_checks: self.node.settings.no_expiration_checks,
            now: now_seconds(),
        })?;
        Ok((judged, bundle.sequence()))
    }

    /// Give a message to the leader, found valid under configuration `config_sequence`.
    ///
    /// # Errors
    /// Fabric's words: no leader, or the leader could not take it.
    pub async fn order(&self, envelope: Vec<u8>, config_sequence: u64) -> Result<(), String> {
        let leader = self.leader().ok_or("no Raft leader")?;
        if leader == self.id {
            let submission = Submission { envelope, config_sequence };
            return self.queue.send(submission).await.map_err(|_| "chain is stopped".to_owned());
        }
        let cluster = &self.node.cluster;
        let sent = cluster.submit(self.ledger.channel(), leader, envelope, config_sequence, FORWARD_LIMIT).await;
        sent.map_err(|e| e.to_string())
    }

    /// The leader's loop; on other nodes the queue stays empty.
    async fn lead(self: Arc<Self>, mut submissions: mpsc::Receiver<Submission>, mut stop: Stop) {
        let mut cutter = Cutter::default();
        let mut cut_at = None;
        loop {
            let timer = async {
                match cut_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.requested() => return,
                () = timer => self.propose(cutter.cut()).await,
                submission = submissions.recv() => match submission {
                    Some(submission) => self.take(submission, &mut cutter).await,
                    None => return,
                },
            }
            let timeout = self.ledger.bundle().map(|bundle| bundle.orderer.batch_timeout).unwrap_or_default();
            cut_at = match cutter.is_empty() {
                true => None,
                false => cut_at.filter(|at| *at > Instant::now()).or_else(|| Some(Instant::now() + timeout)),
            };
        }
    }

    async fn take(&self, submission: Submission, cutter: &mut Cutter) {
        let Some((envelope, is_config)) = self.check_again(submission) else { return };
        if is_config {
            self.propose(cutter.cut()).await;
            self.propose(Some(vec![envelope])).await;
            return;
        }
        let Some(bundle) = self.ledger.bundle() else { return };
        for batch in cutter.add(envelope, &bundle.orderer.batch_size) {
            self.propose(Some(batch)).await;
        }
    }

    /// A message that was judged by an older configuration is judged anew.
    fn check_again(&self, submission: Submission) -> Option<(Vec<u8>, bool)> {
        let envelope = Envelope::decode(submission.envelope.as_slice()).ok()?;
        let is_config = channel::open(&envelope).ok()?.channel.r#type == i32::from(HeaderType::Config);
        let current = self.ledger.bundle()?.sequence();
        if submission.config_sequence == current {
            return Some((submission.envelope, is_config));
        }
        let judged = self.process(|processor| match is_config {
            true => processor.config(&envelope).map(|config| config.encode_to_vec()),
            false => processor.transaction(&envelope).map(|()| submission.envelope.clone()),
        });
        match judged {
            Ok((envelope, _)) => Some((envelope, is_config)),
            Err(rejection) => {
                tracing::warn!(channel = self.ledger.channel(), reason = rejection.reason, "dropping a message");
                None
            }
        }
    }

    /// Replicate a batch and wait until it is applied here.
    async fn propose(&self, batch: Option<Vec<Vec<u8>>>) {
        let (Some(envelopes), Some(bundle)) = (batch, self.ledger.bundle()) else { return };
        if let Err(error) = self.settle_membership().await {
            tracing::warn!(channel = self.ledger.channel(), error, "dropping a batch");
            return;
        }
        let batch = Batch { config_sequence: bundle.sequence(), envelopes };
        if let Err(error) = self.raft.client_write(batch).await {
            tracing::warn!(channel = self.ledger.channel(), %error, "dropping a batch");
            return;
        }
        if let Err(error) = self.settle_membership().await {
            tracing::warn!(channel = self.ledger.channel(), error, "consenters will be changed later");
        }
    }

    /// Make the raft group's voters those of the configuration, if this node leads.
    async fn settle_membership(&self) -> Result<(), String> {
        let _one = self.changing.lock().await;
        let wanted = consenter_ids(&self.ledger).map_err(|e| e.to_string())?;
        let metrics = self.metrics();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        if metrics.state != ServerState::Leader || voters == wanted {
            return Ok(());
        }
        tracing::info!(channel = self.ledger.channel(), ?voters, ?wanted, "changing the consenters of the raft group");
        self.let_leavers_catch_up(&voters, &wanted).await;
        for id in wanted.difference(&voters) {
            self.raft.add_learner(*id, EmptyNode {}, false).await.map_err(|e| e.to_string())?;
        }
        self.raft.change_membership(wanted, false).await.map(drop).map_err(|e| e.to_string())
    }

    /// Give a consenter that is removed the time to learn of it.
    async fn let_leavers_catch_up(&self, voters: &BTreeSet<u64>, wanted: &BTreeSet<u64>) {
        let leavers: Vec<u64> = voters.difference(wanted).copied().filter(|id| *id != self.id).collect();
        if leavers.is_empty() {
            return;
        }
        let mut metrics = self.raft.metrics();
        let target = metrics.borrow().last_applied;
        let caught_up = metrics.wait_for(|metrics| {
            let replication = metrics.replication.as_ref();
            leavers.iter().all(|id| replication.is_some_and(|r| r.get(id).is_some_and(|at| *at >= target)))
        });
        if tokio::time::timeout(Duration::from_secs(2), caught_up).await.is_err() {
            tracing::info!(channel = self.ledger.channel(), ?leavers, "a removed consenter has not caught up");
        }
    }

    /// Follow the configuration: whom to talk to, and whether this node still belongs.
    async fn watch_configuration(self: Arc<Self>, evict: watch::Sender<bool>, mut stop: Stop) {
        let mut heights = self.ledger.watch_height();
        let mut metrics = self.raft.metrics();
        let mut known = (None, BTreeSet::new());
        let mut leader = None;
        let mut left_at = None;
        loop {
            let now = metrics.borrow_and_update().clone();
            let voters: BTreeSet<u64> = now.membership_config.membership().voter_ids().collect();
            if now.current_leader != leader {
                leader = now.current_leader;
                tracing::info!(channel = self.ledger.channel(), ?leader, "leader changed");
            }
            self.note_leader(voters.len());
            let voter = voters.contains(&self.id);
            let bundle = self.ledger.bundle();
            let state = (bundle.as_ref().map(|bundle| bundle.sequence()), voters);
            if let Some(bundle) = bundle.filter(|_| state != known) {
                if let Err(error) = configure(&self.node, &self.ledger, &bundle, &state.1) {
                    tracing::error!(channel = self.ledger.channel(), %error, "cannot follow the configuration");
                }
                known = state;
                let belongs = self.node.position(&bundle).is_some();
                left_at = if belongs { None } else { left_at.or(Some(Instant::now())) };
            }
            // A removed node stays until the group did without it, but not for ever: nobody may tell it.
            let patience = Duration::from_secs(10);
            if left_at.is_some_and(|at| !voter || at.elapsed() > patience) {
                tracing::info!(channel = self.ledger.channel(), "this node is no longer a consenter");
                evict.send_replace(true);
                return;
            }
            // Only now: a newcomer that this node has not been told of cannot agree to be one.
            if now.state == ServerState::Leader
                && let Err(error) = self.settle_membership().await
            {
                tracing::debug!(channel = self.ledger.channel(), error, "consenters will be changed later");
            }
            tokio::select! {
                () = stop.requested() => return,
                grown = heights.changed() => if grown.is_err() { return },
                changed = metrics.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(patience), if left_at.is_some() => {}
            }
        }
    }
}

/// Where a channel's raft log and snapshot are.
pub fn folders(node: &Node, channel: &str) -> [PathBuf; 2] {
    [node.settings.wal_dir.join(channel), node.settings.snap_dir.join(channel)]
}

fn configure(node: &Node, ledger: &ChannelLedger, bundle: &Bundle, voters: &BTreeSet<u64>) -> Result<(), String> {
    let last = last_metadata(ledger).map_err(|e| e.to_string())?;
    let consenters = &bundle.orderer.consenters;
    let certificate =
        |pem: &[u8]| certs::der(pem).map(CertificateDer::from).ok_or("a consenter's TLS certificate is no PEM");
    let mut members = BTreeMap::new();
    for (id, consenter) in consenters.ids(&last).into_iter().zip(consenters.nodes()) {
        let member = Member {
            host: consenter.host.to_owned(),
            port: u16::try_from(consenter.port).map_err(|_| format!("{} is no port", consenter.port))?,
            server_certificate: certificate(consenter.server_tls)?,
            client_certificate: certificate(consenter.client_tls)?,
        };
        members.insert(id, member);
    }
    let roots = bundle.orderer.organizations.iter().flat_map(|org| &org.tls_roots);
    let tls_roots = roots.filter_map(|pem| certs::der(pem)).map(CertificateDer::from).collect();
    node.cluster.configure(ledger.channel(), Membership { members, tls_roots }, voters);
    Ok(())
}
