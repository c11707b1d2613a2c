//! Which declared resources a change concerns.
//!
//! Pure look-ups in the caches. Too many is slow, too few is a bug that only a restart would heal: when in doubt, more.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Resource;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::target::{Kind, Target};
use super::world::World;
use crate::api::{Channel, ConsentPolicy, Hospital, Orderer, Peer};

fn target<K: Resource>(kind: Kind, object: &K) -> Target {
    Target::new(kind, object.namespace().unwrap_or_default(), object.name_any())
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
    let mut targets: Vec<Target> = channels.map(|c| target(Kind::Channel, &*c)).collect();
    targets.extend(orderers.iter().map(|o| target(Kind::Orderer, &**o)));
    targets.extend(peers.iter().map(|p| target(Kind::Peer, &**p)));
    targets
}

/// An orderer concerns its channels and the other orderers of them (they restart one at a time), and its hospital.
pub fn by_orderer(world: &World, orderer: &Orderer) -> Vec<Target> {
    let namespace = orderer.namespace().unwrap_or_default();
    let name = orderer.name_any();
    let mut targets = vec![
        target(Kind::Orderer, orderer),
        Target::new(Kind::Hospital, namespace.clone(), orderer.spec.hospital_ref.name.clone()),
    ];
    for channel in world.channels.list(&namespace) {
        if channel.spec.consensus.orderers.contains(&name) {
            targets.push(target(Kind::Channel, &*channel));
            let others = channel.spec.consensus.orderers.iter();
            targets.extend(others.map(|other| Target::new(Kind::Orderer, namespace.clone(), other.clone())));
        }
    }
    targets
}

/// A peer concerns its channels and its hospital (whose connection profile lists it).
pub fn by_peer(_: &World, peer: &Peer) -> Vec<Target> {
    let namespace = peer.namespace().unwrap_or_default();
    let mut targets = vec![
        target(Kind::Peer, peer),
        Target::new(Kind::Hospital, namespace.clone(), peer.spec.hospital_ref.name.clone()),
    ];
    targets.extend(peer.spec.channels.iter().map(|name| Target::new(Kind::Channel, namespace.clone(), name.clone())));
    targets
}

/// A channel concerns its orderers, the peers that join it, its members, and channels that claim the same name.
pub fn by_channel(world: &World, channel: &Channel) -> Vec<Target> {
    let namespace = channel.namespace().unwrap_or_default();
    let name = channel.name_any();
    let mut targets = vec![target(Kind::Channel, channel)];
    let orderers = channel.spec.consensus.orderers.iter();
    targets.extend(orderers.map(|orderer| Target::new(Kind::Orderer, namespace.clone(), orderer.clone())));
    targets.extend(
        channel.spec.members.iter().map(|member| Target::new(Kind::Hospital, namespace.clone(), member.clone())),
    );
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

/// A consent policy concerns itself.
pub fn by_consent_policy(_: &World, policy: &ConsentPolicy) -> Vec<Target> {
    vec![target(Kind::ConsentPolicy, policy)]
}

/// The declared resource that owns a child, or that it was made for.
fn owner<K: Resource>(child: &K) -> Vec<Target> {
    let namespace = child.namespace().unwrap_or_default();
    let by_reference = child.owner_references().iter().filter_map(|owner| {
        (owner.api_version.starts_with(crate::api::GROUP))
            .then(|| Kind::parse(&owner.kind))
            .flatten()
            .map(|kind| Target::new(kind, namespace.clone(), owner.name.clone()))
    });
    let mut targets: Vec<Target> = by_reference.collect();
    if targets.is_empty() {
        targets.extend(
            crate::desired::names::made_for(child)
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
            Kind::Peer | Kind::ConsentPolicy => {}
        }
    }
    if targets.is_empty() {
        // Shared by a whole namespace: the operator's own certificate.
        targets.extend(world.orderers.list(&namespace).iter().map(|o| target(Kind::Orderer, &**o)));
        targets.extend(world.channels.list(&namespace).iter().map(|c| target(Kind::Channel, &**c)));
    }
    targets
}

/// A pod concerns the node whose StatefulSet made it.
pub fn by_pod(world: &World, pod: &Pod) -> Vec<Target> {
    let namespace = pod.namespace().unwrap_or_default();
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
