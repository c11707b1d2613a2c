//! Peer: keys, pod, and the channels it joins.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::channel::genesis::Genesis;
use super::context::{Context, Turn};
use super::credentials::{self, Credentials};
use super::keys::Replaceable;
use super::nodes::{self, Ground, Said};
use super::outcome::{Outcome, ReconcileError, told};
use super::{ledger, node};
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::node::{NodeChannel, StateDatabase};
use ehrnet_api::{Channel, Peer};
use ehrnet_apply::Owner;
use ehrnet_desired::plan::{PeerPlan, material};
use ehrnet_desired::{self as desired, names, secret};
use ehrnet_fabric::peer;
use ehrnet_fabric::verbs::ensure_peer_joined;
use ehrnet_status::{self as status, Finding};

/// How soon a peer that copies blocks is asked again.
const COPYING_LOOK: Duration = Duration::from_secs(1);

/// Blocks that a peer which had all of them may be short of: on a busy channel the orderers are always a little ahead.
const LAG: u64 = 10;

/// Brings one peer closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, peer: Arc<Peer>, turn: Turn) -> Result<Outcome, ReconcileError> {
    if peer.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let ground = nodes::ground(ctx, &*peer, &peer.spec.hospital_ref.name).await;
    let credentials = match &ground {
        Ok(ground) => told(provision(ctx, &peer, ground).await)?,
        Err(finding) => Err(finding.clone()),
    };
    drop(turn);
    let membership = match (&ground, &credentials) {
        (Ok(ground), Ok(_)) => memberships(ctx, &peer, ground).await,
        _ => Memberships::later(),
    };
    let mut findings = nodes::findings(ctx, &*peer, &ground, &credentials);
    findings.push((ConditionType::PeersJoined, membership.finding));
    let credentials = credentials.as_ref().ok();
    let before = peer.status.clone().unwrap_or_default();
    let had = before.conditions.clone();
    let conditions = status::conditions(&had, peer.metadata.generation, (ctx.clock)(), &findings);
    let status = nodes::report(&*peer, names::PEER_PORT, before, credentials, membership.said, conditions.clone());
    let current = peer.status.as_ref();
    let told = super::publish(ctx, &ctx.world.peers, &*peer, current, &status, (&had, &conditions)).await?;
    let look = membership.look_again;
    Ok(told.or_sooner(nodes::wake_up(ctx, credentials).or_sooner(look).or_sooner(Outcome::of(&findings))))
}

/// Brings what was made for one peer back to what is declared.
pub async fn repair(ctx: &Context, peer: Arc<Peer>) -> Result<(), ReconcileError> {
    match nodes::ground(ctx, &*peer, &peer.spec.hospital_ref.name).await {
        Ok(ground) => provision(ctx, &peer, &ground).await.map(drop),
        Err(_) => Ok(()),
    }
}

/// Keys first, then everything around the pod, then the pod.
async fn provision(
    ctx: &Context,
    peer: &Peer,
    ground: &Ground,
) -> Result<Result<Credentials, Finding>, ReconcileError> {
    let mut plan = match PeerPlan::new(peer, &ground.hospital, &ctx.site) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
    };
    let Some(owner) = Owner::of(peer) else {
        return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID")));
    };
    let status = peer.status.clone().unwrap_or_default();
    let known = (status.identity.as_ref(), status.tls.as_ref());
    // A peer is known by its CAs: nobody notices a new key.
    let replaceable = Replaceable::Yes;
    let issued =
        credentials::of_node(ctx, &owner, &plan.node, &ground.authorities, ground.window, known, replaceable).await?;
    let credentials = match issued {
        Ok(credentials) => credentials,
        Err(finding) => return Ok(Err(finding)),
    };
    let client = match credentials::of_chaincode_client(ctx, ground).await? {
        Ok(client) => client,
        Err(finding) => return Ok(Err(finding)),
    };
    plan.node.material = material([
        credentials.identity.pair.certificate.as_str(),
        credentials.tls.pair.certificate.as_str(),
        ground.authorities.signing.certificate().pem(),
        ground.authorities.tls.certificate().pem(),
        client.pair.certificate.as_str(),
    ]);
    plan.node.outside_ports = nodes::outside_ports(ctx, &owner.namespace);
    if peer.spec.state_database == StateDatabase::CouchDB {
        let password = hex::encode(rand::random::<[u8; 16]>());
        ctx.applier.create_once(&owner, &ctx.world.secrets, &secret::couchdb(&plan.node, &password)).await?;
    }
    let restart_waits = nodes::apply(ctx, &owner, desired::peer::resources(&plan)).await?;
    Ok(Ok(Credentials { restart_waits, ..credentials }))
}

/// The channels of a peer, as it says itself.
struct Memberships {
    said: Said,
    finding: Finding,
    look_again: Outcome,
}

impl Memberships {
    fn later() -> Self {
        Self::none(Finding::unknown(Reason::Progressing, "comes after the node runs"), Outcome::wait())
    }

    fn none(finding: Finding, look_again: Outcome) -> Self {
        Self { said: Said::default(), finding, look_again }
    }
}

/// Joins what is declared and asks the peer what it has.
async fn memberships(ctx: &Context, peer: &Peer, ground: &Ground) -> Memberships {
    let (namespace, name) = super::place(peer);
    if !node::is_ready(&ctx.world, &namespace, &name) {
        return Memberships::later();
    }
    let client = match ledger::peer(ctx, &namespace, &name, &ground.hospital, &ground.authorities) {
        Ok(client) => client,
        Err(finding) => return Memberships::none(finding, Outcome::wait()),
    };
    let has = match client.channels().await {
        Ok(has) => has,
        Err(error) => {
            let finding = ledger::finding(&format!("Peer {name}"), &error);
            return Memberships::none(finding, Outcome::wait());
        }
    };
    let mut obstacle = None;
    let (mut joined, mut look_again) = (Vec::new(), Outcome::wait());
    let mut names: Vec<String> = has.clone();
    for declared in &peer.spec.channels {
        match join(ctx, peer, &client, declared, &has).await {
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
    if let Some(behind) = behind(ctx, peer, &joined) {
        look_again = Outcome::within(COPYING_LOOK);
        if !had_all(peer) || behind.missing > LAG {
            obstacle.get_or_insert(behind.finding);
        }
    }
    let version = ledger::version(ctx, &namespace, &name, names::PEER_OPERATIONS_PORT, &ground.authorities).await;
    let finding = obstacle.unwrap_or_else(|| Finding::good(has_joined(&joined)));
    Memberships { said: Said { version, channels: Some(joined) }, finding, look_again }
}

fn has_joined(channels: &[NodeChannel]) -> String {
    match NodeChannel::names(channels) {
        Some(names) => format!("channels joined: {names}"),
        None => "no channel to join".into(),
    }
}

/// Makes the peer join a declared channel; returns Fabric's name of it.
async fn join(
    ctx: &Context,
    peer: &Peer,
    client: &peer::Client,
    declared: &str,
    has: &[String],
) -> Result<String, Finding> {
    let (namespace, name) = super::place(peer);
    let (channel, genesis) = ready_channel(ctx, &namespace, declared)?;
    let channel_name = channel.spec.channel_name.clone();
    if !channel.spec.members.contains(&peer.spec.hospital_ref.name) {
        let hospital = &peer.spec.hospital_ref.name;
        return Err(Finding::not(
            Reason::InvalidSpec,
            format!(
                "Hospital {hospital} is not a member of Channel {declared}: add it to spec.members there, or remove the channel here"
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

/// A channel that peers can join, with its genesis block.
fn ready_channel(ctx: &Context, namespace: &str, name: &str) -> Result<(Arc<Channel>, Genesis), Finding> {
    let Some(channel) = ctx.world.channels.get(namespace, name) else {
        return Err(Finding::not(Reason::WaitingForReference, format!("Channel {name} does not exist yet")));
    };
    let stored = ctx.world.config_maps.get(namespace, &names::genesis(name));
    let genesis = stored.as_deref().and_then(Genesis::read);
    let known = channel.status.as_ref().and_then(|status| status.genesis_hash.clone());
    // The hash stands in the status once an orderer has begun with this block, and no other.
    match (genesis, known) {
        (Some(genesis), Some(hash)) if hash == genesis.hash => Ok((channel, genesis)),
        _ => Err(Finding::not(
            Reason::WaitingForDependency,
            format!("no orderer serves Channel {name} yet: see its conditions"),
        )),
    }
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
fn behind(ctx: &Context, peer: &Peer, joined: &[NodeChannel]) -> Option<Behind> {
    let namespace = peer.namespace()?;
    peer.spec.channels.iter().find_map(|declared| {
        let channel = ctx.world.channels.get(&namespace, declared)?;
        let known = channel.status.as_ref()?.height?;
        let here = joined.iter().find(|here| here.name == channel.spec.channel_name)?;
        let missing = known.checked_sub(here.height).filter(|missing| *missing > 0)?;
        let progress = format!("copying blocks of channel {}: {} of {known}", here.name, here.height);
        Some(Behind { missing, finding: Finding::not(Reason::Progressing, progress) })
    })
}
