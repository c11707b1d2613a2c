//! Which declared resources a change concerns.
//!
//! Pure look-ups in the caches. Too many is slow, too few is a bug that only a restart would heal: when in doubt, more.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Resource;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::core::object::HasStatus;

use super::target::{Kind, Target};
use super::world::World;
use ehrnet_api::channel::NodeKind;
use ehrnet_api::{Chaincode, Channel, ConsentPolicy, ConsentPolicySpec, Hospital, Identity, Orderer, Peer, Status};
use ehrnet_desired::names;
use ehrnet_status as status;

fn target<K: Resource>(kind: Kind, object: &K) -> Target {
    Target::new(kind, object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether a resource tells no more than how far it is, for which nobody waits. Where every block that a node reports made
/// others look, a busy channel would keep all of them busy, each with the other's report.
pub fn is_progress<K>(before: &K, after: &K) -> bool
where
    K: Resource + HasStatus<Status: Status>,
{
    before.meta().generation == after.meta().generation
        && before.meta().deletion_timestamp == after.meta().deletion_timestamp
        && after.status().is_some_and(|status| status::is_unhurried(before.status(), status))
}

/// Channels that list a peer with fewer blocks than it has by now, where it has just the blocks that the channel is known to
/// have: nothing moves any more, and what they list is brought up to date once. On a busy channel the peer is ahead. `changed`
/// is the Channel or the Peer that has just told something new.
pub fn outdated(world: &World, changed: &Target) -> Vec<Target> {
    let namespace = &changed.namespace;
    let channels: Vec<String> = match changed.kind {
        Kind::Channel => vec![changed.name.clone()],
        Kind::Peer => {
            world.peers.get(namespace, &changed.name).map(|peer| peer.spec.channels.clone()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let channels = channels.iter().filter_map(|name| world.channels.get(namespace, name));
    channels
        .filter(|channel| lists_too_little(world, channel))
        .map(|channel| target(Kind::Channel, &*channel))
        .collect()
}

fn lists_too_little(world: &World, channel: &Channel) -> bool {
    let namespace = channel.namespace().unwrap_or_default();
    let known = channel.status.as_ref();
    let nodes = known.into_iter().flat_map(|known| &known.nodes).filter(|node| node.kind == NodeKind::Peer);
    nodes.into_iter().any(|listed| {
        let peer = world.peers.get(&namespace, &listed.name);
        let has = peer.iter().filter_map(|peer| peer.status.as_ref()).flat_map(|status| &status.channels);
        let mut here = has.filter(|here| here.name == channel.spec.channel_name).map(|here| here.height);
        here.any(|here| known.is_some_and(|known| known.height == Some(here)) && listed.height < Some(here))
    })
}

/// A hospital concerns its nodes, its channels, and hospitals that claim the same MSP.
pub fn by_hospital(world: &World, hospital: &Hospital) -> Vec<Target> {
    let namespace = hospital.namespace().unwrap_or_default();
    let mut targets = vec![target(Kind::Hospital, hospital)];
    targets.extend(dependents_of_hospital(world, &namespace, &hospital.name_any()));
    let same_msp = |other: &&std::sync::Arc<Hospital>| other.spec.msp_id == hospital.spec.msp_id;
    targets
        .extend(world.hospitals.list(&namespace).iter().filter(same_msp).map(|other| target(Kind::Hospital, &**other)));
    targets
}

fn dependents_of_hospital(world: &World, namespace: &str, name: &str) -> Vec<Target> {
    let orderers: Vec<_> =
        world.orderers.list(namespace).into_iter().filter(|o| o.spec.hospital_ref.name == name).collect();
    let peers: Vec<_> = world.peers.list(namespace).into_iter().filter(|p| p.spec.hospital_ref.name == name).collect();
    let channels = world.channels.list(namespace).into_iter().filter(|channel| {
        channel.spec.members.iter().any(|member| member == name)
            || channel.spec.consensus.orderers.iter().any(|orderer| orderers.iter().any(|o| o.name_any() == *orderer))
    });
    let channels: Vec<_> = channels.collect();
    let mut targets: Vec<Target> = channels.iter().flat_map(|c| contracts(world, namespace, &c.name_any())).collect();
    targets.extend(channels.iter().map(|c| target(Kind::Channel, &**c)));
    targets.extend(orderers.iter().map(|o| target(Kind::Orderer, &**o)));
    targets.extend(peers.iter().map(|p| target(Kind::Peer, &**p)));
    targets.extend(identities_of(world, namespace, name));
    targets
}

/// The contracts of a channel.
fn contracts(world: &World, namespace: &str, channel: &str) -> Vec<Target> {
    let chaincodes = world.chaincodes.list(namespace).into_iter().filter(|c| c.spec.channel_ref.name == channel);
    chaincodes.map(|chaincode| target(Kind::Chaincode, &*chaincode)).collect()
}

/// A channel, the peers that have it and its orderers: their heights stand in their status.
fn ledgers(world: &World, namespace: &str, channel: &str) -> Vec<Target> {
    let peers = world.peers.list(namespace).into_iter().filter(|peer| peer.spec.channels.iter().any(|c| c == channel));
    let mut targets: Vec<_> = peers.map(|peer| target(Kind::Peer, &*peer)).collect();
    let declared = world.channels.get(namespace, channel);
    let orderers = declared.iter().flat_map(|channel| &channel.spec.consensus.orderers);
    targets.extend(orderers.map(|orderer| Target::new(Kind::Orderer, namespace, orderer)));
    targets.push(Target::new(Kind::Channel, namespace, channel));
    targets
}

fn identities_of(world: &World, namespace: &str, hospital: &str) -> Vec<Target> {
    let identities = world.identities.list(namespace).into_iter().filter(|i| i.spec.hospital_ref.name == hospital);
    identities.map(|identity| target(Kind::Identity, &*identity)).collect()
}

/// A hospital and its identities: their client bundles list the nodes that its clients reach.
fn bundles(world: &World, namespace: &str, hospital: &str) -> Vec<Target> {
    let mut targets = identities_of(world, namespace, hospital);
    targets.push(Target::new(Kind::Hospital, namespace, hospital));
    targets
}

/// An orderer concerns its channels and the other orderers of them (they restart one at a time), and its hospital's
/// client bundles.
pub fn by_orderer(world: &World, orderer: &Orderer) -> Vec<Target> {
    let namespace = orderer.namespace().unwrap_or_default();
    let name = orderer.name_any();
    let mut targets = bundles(world, &namespace, &orderer.spec.hospital_ref.name);
    targets.push(target(Kind::Orderer, orderer));
    for channel in world.channels.list(&namespace) {
        if channel.spec.consensus.orderers.contains(&name) {
            targets.push(target(Kind::Channel, &*channel));
            let others = channel.spec.consensus.orderers.iter();
            targets.extend(others.map(|other| Target::new(Kind::Orderer, namespace.clone(), other.clone())));
        }
    }
    targets
}

/// A peer concerns its channels with their contracts, and its hospital's client bundles, which list it.
pub fn by_peer(world: &World, peer: &Peer) -> Vec<Target> {
    let namespace = peer.namespace().unwrap_or_default();
    let mut targets = bundles(world, &namespace, &peer.spec.hospital_ref.name);
    targets.push(target(Kind::Peer, peer));
    targets.extend(peer.spec.channels.iter().flat_map(|name| contracts(world, &namespace, name)));
    targets.extend(peer.spec.channels.iter().map(|name| Target::new(Kind::Channel, namespace.clone(), name.clone())));
    targets
}

/// A channel concerns its contracts, its orderers, the peers that join it, its members with their client bundles, and channels that claim the same name.
pub fn by_channel(world: &World, channel: &Channel) -> Vec<Target> {
    let namespace = channel.namespace().unwrap_or_default();
    let name = channel.name_any();
    let mut targets = contracts(world, &namespace, &name);
    targets.push(target(Kind::Channel, channel));
    let orderers = channel.possible_consenters().into_iter();
    targets.extend(orderers.map(|orderer| Target::new(Kind::Orderer, namespace.clone(), orderer)));
    targets.extend(channel.spec.members.iter().flat_map(|member| bundles(world, &namespace, member)));
    let joining = |peer: &std::sync::Arc<Peer>| peer.spec.channels.contains(&name);
    targets.extend(world.peers.list(&namespace).into_iter().filter(joining).map(|peer| target(Kind::Peer, &*peer)));
    let rivals = world
        .channels
        .list(&namespace)
        .into_iter()
        .filter(|other| other.spec.channel_name == channel.spec.channel_name);
    targets.extend(rivals.map(|other| target(Kind::Channel, &*other)));
    targets
}

/// A contract concerns the other contracts of its channel, which may claim the same name, the policies that it keeps, and
/// the channel with its peers: what it agreed on made blocks.
pub fn by_chaincode(world: &World, chaincode: &Chaincode) -> Vec<Target> {
    let namespace = chaincode.namespace().unwrap_or_default();
    let channel = &chaincode.spec.channel_ref.name;
    let mut targets = contracts(world, &namespace, channel);
    targets.extend(ledgers(world, &namespace, channel));
    targets.push(target(Kind::Chaincode, chaincode));
    targets.extend(policies(world, &namespace, |policy| policy.contract_ref.is_some() || policy.channel_ref.is_some()));
    targets
}

/// A consent policy concerns those that may claim the same scope, and the channel with its peers: its anchor is a block.
pub fn by_consent_policy(world: &World, policy: &ConsentPolicy) -> Vec<Target> {
    let namespace = policy.namespace().unwrap_or_default();
    let mut targets = policies(world, &namespace, |other| other.scope == policy.spec.scope);
    targets.extend(policy.spec.channel_ref.iter().flat_map(|channel| ledgers(world, &namespace, &channel.name)));
    targets.push(target(Kind::ConsentPolicy, policy));
    targets
}

fn policies(world: &World, namespace: &str, concerned: impl Fn(&ConsentPolicySpec) -> bool) -> Vec<Target> {
    let policies = world.consent_policies.list(namespace).into_iter().filter(|policy| concerned(&policy.spec));
    policies.map(|policy| target(Kind::ConsentPolicy, &*policy)).collect()
}

/// An identity concerns itself.
pub fn by_identity(_: &World, identity: &Identity) -> Vec<Target> {
    vec![target(Kind::Identity, identity)]
}

/// The declared resource that owns a child, or that it was made for.
pub fn owner<K: Resource>(child: &K) -> Vec<Target> {
    let namespace = child.namespace().unwrap_or_default();
    let by_reference = child.owner_references().iter().filter_map(|owner| {
        (owner.api_version.starts_with(ehrnet_api::GROUP))
            .then(|| Kind::parse(&owner.kind))
            .flatten()
            .map(|kind| Target::new(kind, namespace.clone(), owner.name.clone()))
    });
    let mut targets: Vec<Target> = by_reference.collect();
    if targets.is_empty() {
        targets.extend(
            names::made_for(child)
                .map(|(kind, name)| (Kind::parse(kind), name))
                .and_then(|(kind, name)| kind.map(|kind| Target::new(kind, namespace.clone(), name))),
        );
    }
    targets
}

/// A child concerns its owner.
pub fn by_child<K: Resource>(_: &World, child: &K) -> Vec<Target> {
    owner(child)
}

/// A Secret or ConfigMap concerns its owner and what is built from the owner's keys and certificates.
pub fn by_shared_child<K: Resource>(world: &World, child: &K) -> Vec<Target> {
    let mut targets = owner(child);
    let namespace = child.namespace().unwrap_or_default();
    for target in targets.clone() {
        match target.kind {
            Kind::Hospital => targets.extend(dependents_of_hospital(world, &namespace, &target.name)),
            Kind::Orderer => targets.extend(
                world.orderers.get(&namespace, &target.name).map(|o| by_orderer(world, &o)).unwrap_or_default(),
            ),
            Kind::Channel => targets.extend(
                world.channels.get(&namespace, &target.name).map(|c| by_channel(world, &c)).unwrap_or_default(),
            ),
            Kind::Peer | Kind::Chaincode | Kind::ConsentPolicy | Kind::Identity => {}
        }
    }
    if child.name_any() == names::PSEUDONYM {
        let hospitals = world.hospitals.list(&namespace);
        return hospitals.iter().flat_map(|hospital| bundles(world, &namespace, &hospital.name_any())).collect();
    }
    if targets.is_empty() {
        // Shared by a whole namespace: the operator's own certificate.
        targets.extend(world.orderers.list(&namespace).iter().map(|o| target(Kind::Orderer, &**o)));
        targets.extend(world.channels.list(&namespace).iter().map(|c| target(Kind::Channel, &**c)));
    }
    targets
}

/// A pod concerns the node whose StatefulSet made it, or the contract that its labels name: between a Deployment and its
/// pod stands a ReplicaSet, which is nobody's news.
pub fn by_pod(world: &World, pod: &Pod) -> Vec<Target> {
    let namespace = pod.namespace().unwrap_or_default();
    if let Some((kind @ "Chaincode", name)) = names::made_for(pod) {
        return Kind::parse(kind).map(|kind| Target::new(kind, namespace, name)).into_iter().collect();
    }
    let sets = pod.owner_references().iter().filter(|owner| owner.kind == "StatefulSet");
    sets.filter_map(|owner| world.stateful_sets.get(&namespace, &owner.name))
        .flat_map(|set| by_child(world, &*set))
        .collect()
}

/// A user's TLS Secret concerns the hospitals that use it as a CA.
pub fn by_referenced_secret(world: &World, secret: &PartialObjectMeta<Secret>) -> Vec<Target> {
    let (namespace, name) = super::world::namespace_and_name(secret);
    let uses = |hospital: &std::sync::Arc<Hospital>| {
        let cas = [&hospital.spec.signing_ca, &hospital.spec.tls_ca];
        cas.into_iter().flatten().any(|ca| ca.secret_ref.name == name)
    };
    world
        .hospitals
        .list(&namespace)
        .into_iter()
        .filter(uses)
        .map(|hospital| target(Kind::Hospital, &*hospital))
        .collect()
}
