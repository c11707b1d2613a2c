//! From the declaration to what the ledger's configuration should say. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::participants::{OrdererFact, Participants};
use ehrnet_api::channel::{BftOptions, ConsensusType, Quorum, RaftOptions};
use ehrnet_api::conditions::Reason;
use ehrnet_api::node::NodeSpec;
use ehrnet_desired::{names, plan};
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::definition as fabric;
use ehrnet_fabric::msp::MspDefinition;
use ehrnet_fabric::proto::common::implicit_meta_policy::Rule;
use ehrnet_status::Finding;

/// The channel as declared, or what has to exist before it can be written down.
pub fn definition(participants: &Participants) -> Result<fabric::ChannelDefinition, Finding> {
    let spec = &participants.channel.spec;
    let declared = fabric::ChannelDefinition {
        channel_name: spec.channel_name.clone(),
        consensus: consensus(participants)?,
        orderer_orgs: orderer_orgs(participants)?,
        application_orgs: application_orgs(participants)?,
        batch: fabric::Batch {
            timeout: spec.batch.timeout.0,
            max_message_count: spec.batch.max_message_count,
            absolute_max_bytes: spec.batch.absolute_max_bytes,
            preferred_max_bytes: spec.batch.preferred_max_bytes,
        },
        policies: fabric::Policies {
            lifecycle_endorsement: rule(spec.policies.lifecycle_endorsement),
            endorsement: rule(spec.policies.endorsement),
        },
        capabilities: fabric::Capabilities {
            channel: spec.capabilities.channel.clone(),
            orderer: spec.capabilities.orderer.clone(),
            application: spec.capabilities.application.clone(),
        },
    };
    declared.validate().map_err(|error| Finding::not(Reason::InvalidSpec, error.to_string()))?;
    Ok(declared)
}

fn rule(quorum: Quorum) -> Rule {
    match quorum {
        Quorum::Any => Rule::Any,
        Quorum::All => Rule::All,
        Quorum::Majority => Rule::Majority,
    }
}

fn waiting(what: String) -> Finding {
    Finding::not(Reason::WaitingForDependency, what)
}

fn consensus(participants: &Participants) -> Result<fabric::Consensus, Finding> {
    let spec = &participants.channel.spec.consensus;
    match spec.type_ {
        ConsensusType::Raft => {
            let consenters = participants
                .orderers
                .iter()
                .map(|orderer| raft_consenter(participants, orderer))
                .collect::<Result<_, _>>()?;
            Ok(fabric::Consensus::Raft { consenters, options: raft_options(spec.raft.as_ref()) })
        }
        ConsensusType::Bft => {
            let consenters = participants
                .orderers
                .iter()
                .map(|orderer| bft_consenter(participants, orderer))
                .collect::<Result<_, _>>()?;
            Ok(fabric::Consensus::Bft { consenters, options: bft_options(spec.bft.as_ref()) })
        }
    }
}

fn raft_options(declared: Option<&RaftOptions>) -> fabric::RaftOptions {
    let options = declared.cloned().unwrap_or_default();
    fabric::RaftOptions {
        tick_interval: options.tick_interval.0,
        election_tick: options.election_tick,
        heartbeat_tick: options.heartbeat_tick,
        max_inflight_blocks: options.max_inflight_blocks,
        snapshot_interval_size: options.snapshot_interval_size,
    }
}

fn bft_options(declared: Option<&BftOptions>) -> fabric::BftOptions {
    let options = declared.cloned().unwrap_or_default();
    fabric::BftOptions {
        request_forward_timeout: options.request_forward_timeout.0,
        request_complain_timeout: options.request_complain_timeout.0,
        leader_heartbeat_timeout: options.leader_heartbeat_timeout.0,
        ..Default::default()
    }
}

/// Where other nodes reach an orderer.
pub fn internal_endpoint(participants: &Participants, orderer: &str) -> Endpoint {
    Endpoint::new(names::host(orderer, &participants.namespace), names::ORDERER_PORT)
}

fn tls_certificate(orderer: &OrdererFact) -> Result<String, Finding> {
    orderer
        .tls_certificate
        .clone()
        .ok_or_else(|| waiting(format!("Orderer {} has no TLS certificate yet", orderer.name)))
}

fn raft_consenter(participants: &Participants, orderer: &OrdererFact) -> Result<fabric::RaftConsenter, Finding> {
    Ok(fabric::RaftConsenter {
        endpoint: internal_endpoint(participants, &orderer.name),
        tls_certificate: tls_certificate(orderer)?,
    })
}

fn bft_consenter(participants: &Participants, orderer: &OrdererFact) -> Result<fabric::BftConsenter, Finding> {
    let no_identity = || waiting(format!("Orderer {} has no identity yet", orderer.name));
    let identity = orderer.identity_certificate.clone().ok_or_else(no_identity)?;
    let hospital = orderer.orderer.as_ref().map(|o| o.spec.hospital_ref.name.clone()).unwrap_or_default();
    Ok(fabric::BftConsenter {
        endpoint: internal_endpoint(participants, &orderer.name),
        msp_id: msp(participants, &hospital)?.id,
        identity,
        tls_certificate: tls_certificate(orderer)?,
    })
}

/// The public MSP of a hospital, straight from its CAs.
fn msp(participants: &Participants, hospital: &str) -> Result<MspDefinition, Finding> {
    let organisation = participants
        .organisation(hospital)
        .ok_or_else(|| Finding::not(Reason::WaitingForReference, format!("Hospital {hospital} does not exist yet")))?;
    let authorities = organisation.authorities.as_ref().map_err(Clone::clone)?;
    Ok(MspDefinition {
        id: organisation.hospital.spec.msp_id.clone(),
        root_certs: vec![authorities.signing.certificate().pem().to_owned()],
        tls_root_certs: vec![authorities.tls.certificate().pem().to_owned()],
        ..Default::default()
    })
}

/// Where others reach a node.
fn endpoint(participants: &Participants, name: &str, node: &NodeSpec, port: u16) -> Result<Endpoint, Finding> {
    let endpoint = plan::endpoint(name, &participants.namespace, node.external_endpoint.as_deref(), port);
    endpoint.map_err(|error| Finding::not(Reason::InvalidSpec, format!("externalEndpoint {error}")))
}

fn orderer_orgs(participants: &Participants) -> Result<Vec<fabric::OrdererOrg>, Finding> {
    let mut endpoints: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for fact in &participants.orderers {
        let Some(orderer) = &fact.orderer else {
            return Err(Finding::not(Reason::WaitingForReference, format!("Orderer {} does not exist yet", fact.name)));
        };
        let reached_at = endpoint(participants, &fact.name, &orderer.spec.node, names::ORDERER_PORT)?;
        endpoints.entry(orderer.spec.hospital_ref.name.clone()).or_default().push(reached_at);
    }
    endpoints
        .into_iter()
        .map(|(hospital, endpoints)| Ok(fabric::OrdererOrg { msp: msp(participants, &hospital)?, endpoints }))
        .collect()
}

fn application_orgs(participants: &Participants) -> Result<Vec<fabric::ApplicationOrg>, Finding> {
    let org = |member: &String| {
        let anchors =
            participants.peers.iter().filter(|peer| peer.spec.anchor && peer.spec.hospital_ref.name == *member);
        let anchor_peers = anchors
            .map(|peer| endpoint(participants, &peer.name_any(), &peer.spec.node, names::PEER_PORT))
            .collect::<Result<_, _>>()?;
        Ok(fabric::ApplicationOrg { msp: msp(participants, member)?, anchor_peers })
    };
    participants.channel.spec.members.iter().map(org).collect()
}
