//! Peer: keys, pod, and the channels it joins.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::channel::genesis::Genesis;
use super::context::{Context, Turn};
use super::credentials::{self, Credentials};
use super::keys::Replaceable;
use super::nodes::{self, Ground};
use super::outcome::{Outcome, ReconcileError, told};
use super::{ledger, node};
use crate::api::conditions::{ConditionType, Reason};
use crate::api::node::{NodeChannel, StateDatabase};
use crate::api::{Channel, Peer, PeerStatus};
use crate::apply::Owner;
use crate::desired::plan::{PeerPlan, material};
use crate::desired::{self, names, secret};
use crate::fabric::peer;
use crate::fabric::verbs::ensure_peer_joined;
use crate::status::{self, Finding};

/// How soon a peer that copies blocks is asked again.
const COPYING_LOOK: Duration = Duration::from_secs(1);

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
    let findings = findings(ctx, &peer, &ground, &credentials, &membership);
    let before = previous(&peer);
    let conditions = status::conditions(&before, peer.metadata.generation, (ctx.clock)(), &findings);
    let status = report(&peer, credentials.as_ref().ok(), &membership, conditions.clone());
    let current = peer.status.as_ref();
    let told = super::publish(ctx, &ctx.world.peers, &*peer, current, &status, (&before, &conditions)).await?;
    let look = membership.look_again;
    Ok(told.or_sooner(nodes::wake_up(ctx, credentials.as_ref().ok()).or_sooner(look).or_sooner(Outcome::of(&findings))))
}

/// Brings what was made for one peer back to what is declared.
pub async fn repair(ctx: &Context, peer: Arc<Peer>) -> Result<(), ReconcileError> {
    match nodes::ground(ctx, &*peer, &peer.spec.hospital_ref.name).await {
        Ok(ground) => provision(ctx, &peer, &ground).await.map(drop),
        Err(_) => Ok(()),
    }
}

fn previous(peer: &Peer) -> Vec<Condition> {
    peer.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
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
    joined: Option<Vec<NodeChannel>>,
    version: Option<String>,
    finding: Finding,
    look_again: Outcome,
}

impl Memberships {
    fn later() -> Self {
        Self::none(Finding::unknown(Reason::Progressing, "comes after the node runs"), Outcome::wait())
    }

    fn none(finding: Finding, look_again: Outcome) -> Self {
        Self { joined: None, version: None, finding, look_again }
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
        obstacle.get_or_insert(behind);
        look_again = Outcome::within(COPYING_LOOK);
    }
    let version = ledger::version(ctx, &namespace, &name, names::PEER_OPERATIONS_PORT, &ground.authorities).await;
    let finding = obstacle.unwrap_or_else(|| Finding::good(has_joined(&joined)));
    Memberships { joined: Some(joined), version, finding, look_again }
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

/// A channel of which the peer has fewer blocks than the orderers had when they were asked last.
fn behind(ctx: &Context, peer: &Peer, joined: &[NodeChannel]) -> Option<Finding> {
    let namespace = peer.namespace()?;
    peer.spec.channels.iter().find_map(|declared| {
        let channel = ctx.world.channels.get(&namespace, declared)?;
        let known = channel.status.as_ref()?.height?;
        let here = joined.iter().find(|here| here.name == channel.spec.channel_name)?;
        (here.height < known).then(|| {
            Finding::not(
                Reason::Progressing,
                format!("copying blocks of channel {}: {} of {known}", here.name, here.height),
            )
        })
    })
}

fn findings(
    ctx: &Context,
    peer: &Peer,
    ground: &Result<Ground, Finding>,
    credentials: &Result<Credentials, Finding>,
    memberships: &Memberships,
) -> Vec<(ConditionType, Finding)> {
    let (namespace, name) = super::place(peer);
    let pod = match credentials {
        Ok(_) => node::finding(&ctx.world, &namespace, &name),
        Err(_) => Finding::unknown(Reason::Progressing, "comes after the identity"),
    };
    vec![
        (ConditionType::Accepted, nodes::accepted(ground)),
        (ConditionType::IdentityReady, nodes::identity(credentials)),
        (ConditionType::NodeReady, pod),
        (ConditionType::PeersJoined, memberships.finding.clone()),
    ]
}

fn report(
    peer: &Peer,
    credentials: Option<&Credentials>,
    memberships: &Memberships,
    conditions: Vec<Condition>,
) -> PeerStatus {
    let before = peer.status.clone().unwrap_or_default();
    let (namespace, name) = super::place(peer);
    let channels = memberships.joined.clone().unwrap_or(before.channels);
    PeerStatus {
        observed_generation: peer.metadata.generation,
        conditions,
        address: Some(format!("{}:{}", names::host(&name, &namespace), names::PEER_PORT)),
        ledger: memberships.version.clone().or(before.ledger),
        identity: credentials.map(|c| c.identity.status()).or(before.identity),
        tls: credentials.map(|c| c.tls.status()).or(before.tls),
        channel_names: NodeChannel::names(&channels),
        channels,
    }
}
