//! Peer: keys, pod, and the channels it joins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::channel::genesis::Genesis;
use super::context::Context;
use super::credentials;
use super::error::StepError;
use super::key_pairs::Slot;
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::ledger::{self, Admin};
use super::nodes::{self, Dependencies, LedgerNode, Needs, NodeAnswer, NodeFacts, NodeProvided, Prepared};
use super::outcome::Outcome;
use super::writer::Writer;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::node::NodeChannel;
use ehrnet_api::{Channel, Hospital, NodeStatus, Peer};
use ehrnet_apply::Owner;
use ehrnet_desired::{self as desired, Material, NodePlan, Objects, PeerPlan, PlanError, Site, names, secret};
use ehrnet_fabric::peer;
use ehrnet_fabric::verbs::ensure_peer_joined;
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_status::Finding;

/// How soon a peer that copies blocks is asked again.
const COPYING_LOOK: Duration = Duration::from_secs(1);

/// Blocks that a peer which had all of them may be short of: on a busy channel the orderers are always a little ahead.
const LAG: u64 = 10;

impl Declared for Peer {
    const KIND: Kind = Kind::Peer;
    type Facts = NodeFacts<Self>;
    type Provided = NodeProvided;
    type Answer = PeerAnswer;

    fn cache(world: &World) -> &Cache<Self> {
        &world.peers
    }

    async fn gather(ctx: &Context, peer: Arc<Self>) -> NodeFacts<Self> {
        NodeFacts::gather(ctx, peer).await
    }

    async fn provide(ctx: &Context, facts: &NodeFacts<Self>, writer: &Writer<'_>) -> Result<NodeProvided, StepError> {
        nodes::provide(ctx, facts, writer).await
    }

    async fn ask(ctx: &Context, facts: &NodeFacts<Self>, provided: &Result<NodeProvided, Finding>) -> PeerAnswer {
        match (&facts.needs, provided) {
            (Ok(needs), Ok(provided)) if provided.pod.is_ready => ask(ctx, &facts.node, needs).await,
            _ => PeerAnswer::later(),
        }
    }

    fn report(
        facts: &NodeFacts<Self>,
        provided: &Result<NodeProvided, Finding>,
        answer: PeerAnswer,
    ) -> Report<NodeStatus> {
        let mut report = nodes::report(facts, provided, answer.node);
        report.findings.push((ConditionType::PeersJoined, answer.finding));
        Report { look_again: report.look_again.or_sooner(answer.look_again), ..report }
    }
}

impl LedgerNode for Peer {
    const PORT: u16 = names::PEER_PORT;
    type Plan = PeerPlan;
    type More = PeerFacts;

    fn hospital(&self) -> &str {
        &self.spec.hospital_ref.name
    }

    fn plan(&self, hospital: &Hospital, site: &Site, outside_ports: BTreeSet<u16>) -> Result<PeerPlan, PlanError> {
        PeerPlan::new(self, hospital, site, outside_ports)
    }

    fn gather_more(&self, ctx: &Context, dependencies: &Dependencies) -> PeerFacts {
        let namespace = &dependencies.owner.namespace;
        PeerFacts {
            chaincode_client: credentials::chaincode_client_slot(ctx, dependencies),
            admin: ledger::admin(ctx, &dependencies.hospital),
            channels: self.spec.channels.iter().map(|name| ChannelFact::gather(ctx, namespace, name)).collect(),
        }
    }

    fn node(plan: &PeerPlan) -> &NodePlan {
        &plan.node
    }

    /// Nothing depends on one peer alone that its hospital did not decide so.
    async fn needed(&self, _: &Context) -> Option<String> {
        None
    }

    /// The other peers of its hospital: together they endorse for it.
    fn companions(&self, world: &World) -> Vec<String> {
        let (namespace, name) = super::place(self);
        let hospital = self.hospital();
        let peers = world.peers.list(&namespace).into_iter().filter(|peer| peer.hospital() == hospital);
        peers.map(|peer| peer.name_any()).filter(|other| *other != name).collect()
    }

    /// A peer is known by its CAs: nobody notices a new key.
    fn replaceable(_: &NodeStatus) -> Replaceable {
        Replaceable::Yes
    }

    /// The certificate that it shows to contracts; and the password of its CouchDB, if it has one.
    async fn prepare(ctx: &Context, writer: &Writer<'_>, needs: &Needs<Self>) -> Result<Prepared, StepError> {
        let Needs { owner, dependencies, plan, more, .. } = needs;
        if plan.couchdb.is_some() {
            let password = hex::encode(rand::random::<[u8; 16]>());
            writer.create_once(owner, &ctx.world.secrets, &secret::couchdb(&plan.node, &password)).await?;
        }
        let client = credentials::of_chaincode_client(ctx, writer, &more.chaincode_client, dependencies).await?;
        Ok(Prepared { certificate: client.certificate.clone(), client })
    }

    fn objects(plan: &PeerPlan, material: &Material) -> Objects {
        desired::peer::resources(plan, material)
    }
}

/// What decisions about a peer need besides.
pub struct PeerFacts {
    /// What is found of the key pair that it shows to contracts.
    chaincode_client: Slot,
    /// Who the operator is to it.
    admin: Result<Admin, Finding>,
    /// The channels that it is to join, in the order of its spec.
    channels: Vec<ChannelFact>,
}

/// A channel that a peer is to join.
struct ChannelFact {
    /// Name of the Channel.
    name: String,
    /// The Channel, if it exists.
    channel: Option<Arc<Channel>>,
    /// Its stored genesis block.
    genesis: Option<Arc<ConfigMap>>,
}

impl ChannelFact {
    fn gather(ctx: &Context, namespace: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            channel: ctx.world.channels.get(namespace, name),
            genesis: ctx.world.config_maps.get(namespace, &names::genesis(name)),
        }
    }

    /// The channel with its genesis block, once peers can join it.
    fn ready(&self) -> Result<(&Channel, Genesis), Finding> {
        let Self { name, channel, genesis } = self;
        let Some(channel) = channel else {
            return Err(Finding::not(Reason::WaitingForReference, format!("Channel {name} does not exist yet")));
        };
        let known = channel.status.as_ref().and_then(|status| status.genesis_hash.as_ref());
        // The hash stands in the status once an orderer has begun with this block, and no other.
        match (genesis.as_deref().and_then(Genesis::read), known) {
            (Some(genesis), Some(hash)) if *hash == genesis.hash => Ok((channel, genesis)),
            _ => Err(Finding::not(
                Reason::WaitingForDependency,
                format!("no orderer serves Channel {name} yet: see its conditions"),
            )),
        }
    }
}

/// The channels of a peer, as it says itself.
pub struct PeerAnswer {
    node: NodeAnswer,
    finding: Finding,
    look_again: Outcome,
}

impl PeerAnswer {
    fn later() -> Self {
        Self::none(Finding::comes_after("the node runs"), Outcome::wait())
    }

    fn none(finding: Finding, look_again: Outcome) -> Self {
        Self { node: NodeAnswer::default(), finding, look_again }
    }
}

/// Joins what is declared and asks the peer what it has.
async fn ask(ctx: &Context, peer: &Peer, needs: &Needs<Peer>) -> PeerAnswer {
    let (Owner { namespace, name, .. }, authorities) = (&needs.owner, &needs.dependencies.authorities);
    let admin = needs.more.admin.clone();
    let client = match admin.and_then(|admin| ledger::peer(&ctx.network, namespace, name, authorities, admin)) {
        Ok(client) => client,
        Err(finding) => return PeerAnswer::none(finding, Outcome::wait()),
    };
    let has = match client.channels().await {
        Ok(has) => has,
        Err(error) => {
            let finding = ledger::finding(&format!("Peer {name}"), &error);
            return PeerAnswer::none(finding, Outcome::wait());
        }
    };
    let mut obstacle = None;
    let (mut joined, mut look_again) = (Vec::new(), Outcome::wait());
    let mut names: Vec<String> = has.clone();
    for declared in &needs.more.channels {
        match join(peer, &client, declared, &has).await {
            Ok(channel) => names.push(channel),
            Err(finding) => {
                obstacle.get_or_insert(finding);
            }
        }
    }
    names.sort();
    names.dedup();
    for channel in names {
        match client.chain_info(&channel).await {
            Ok(info) => joined.push(NodeChannel { name: channel, height: info.height }),
            Err(error) => {
                obstacle.get_or_insert(ledger::finding(&format!("Peer {name}"), &error));
            }
        }
    }
    if let Some(behind) = behind(&needs.more.channels, &joined) {
        look_again = Outcome::within(COPYING_LOOK);
        if !had_all(peer) || behind.missing > LAG {
            obstacle.get_or_insert(behind.finding);
        }
    }
    let version = ledger::version(&ctx.network, namespace, name, names::PEER_OPERATIONS_PORT, authorities).await;
    let finding = obstacle.unwrap_or_else(|| Finding::good(has_joined(&joined)));
    PeerAnswer { node: NodeAnswer { version, channels: Some(joined) }, finding, look_again }
}

fn has_joined(channels: &[NodeChannel]) -> String {
    match NodeChannel::names(channels) {
        Some(names) => format!("channels joined: {names}"),
        None => "no channel to join".into(),
    }
}

/// Makes the peer join a declared channel; returns Fabric's name of it.
async fn join(peer: &Peer, client: &peer::Client, declared: &ChannelFact, has: &[String]) -> Result<String, Finding> {
    let name = peer.name_any();
    let (channel, genesis) = declared.ready()?;
    let channel_name = channel.spec.channel_name.clone();
    if !channel.spec.members.contains(&peer.spec.hospital_ref.name) {
        let hospital = &peer.spec.hospital_ref.name;
        return Err(Finding::not(
            Reason::InvalidSpec,
            format!(
                "Hospital {hospital} is not a member of Channel {}: add it to spec.members there, or remove the channel here",
                declared.name
            ),
        ));
    }
    if !has.contains(&channel_name) {
        let joined = ensure_peer_joined(client, &channel_name, &genesis.block).await;
        let height = joined.map_err(|error| ledger::finding(&format!("Peer {name}"), &error))?;
        tracing::info!(peer = name, channel = channel_name, height, "joined");
    }
    Ok(channel_name)
}

/// Whether the peer had all blocks of its channels when it was asked last.
fn had_all(peer: &Peer) -> bool {
    let mut conditions = peer.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|c| c.type_ == ConditionType::PeersJoined.as_str() && c.status == "True")
}

/// Blocks that a peer does not have yet.
struct Behind {
    missing: u64,
    finding: Finding,
}

/// A channel of which the peer has fewer blocks than the orderers had when they were asked last.
fn behind(declared: &[ChannelFact], joined: &[NodeChannel]) -> Option<Behind> {
    declared.iter().find_map(|declared| {
        let channel = declared.channel.as_ref()?;
        let known = channel.status.as_ref()?.height?;
        let here = joined.iter().find(|here| here.name == channel.spec.channel_name)?;
        let missing = known.checked_sub(here.height).filter(|missing| *missing > 0)?;
        let progress = format!("copying blocks of channel {}: {} of {known}", here.name, here.height);
        Some(Behind { missing, finding: Finding::not(Reason::Progressing, progress) })
    })
}
