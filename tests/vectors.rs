//! The protocol room held to blocks and updates that Fabric's own tools made (`tests/vectors/fabric`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ehrnet_fabric::Endpoint;
use ehrnet_fabric::blocks;
use ehrnet_fabric::envelope::{Stamp, tx_id};
use ehrnet_fabric::genesis::{
    self, ApplicationOrg, Batch, BftConsenter, BftOptions, ChannelDefinition, Consensus, OrdererOrg, RaftConsenter,
    RaftOptions,
};
use ehrnet_fabric::msp::MspDefinition;
use ehrnet_fabric::plan::plan;
use ehrnet_fabric::proto::common::implicit_meta_policy::Rule;
use ehrnet_fabric::proto::common::{
    Block, Capabilities, ChannelHeader, Config, ConfigGroup, ConfigUpdate, Envelope, Payload, SignatureHeader,
};
use prost::Message;

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/fabric").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn pem(name: &str) -> String {
    String::from_utf8(file(&format!("certs/{name}.pem"))).expect("PEM is text")
}

fn block(name: &str) -> Block {
    Block::decode(file(name).as_slice()).expect("block")
}

fn msp(hospital: &str) -> MspDefinition {
    MspDefinition {
        id: format!("Hospital{}", hospital.to_uppercase()),
        root_certs: vec![pem(&format!("{hospital}-ca"))],
        tls_root_certs: vec![pem(&format!("{hospital}-tlsca"))],
        ..Default::default()
    }
}

/// Orderers by hospital and number.
type Nodes<'a> = &'a [(&'a str, u8)];

fn endpoint((hospital, number): &(&str, u8)) -> Endpoint {
    Endpoint::new(format!("orderer{number}.hospital{hospital}.example"), 7050)
}

fn anchor(hospital: &str) -> Vec<Endpoint> {
    vec![Endpoint::new(format!("peer0.hospital{hospital}.example"), 7051)]
}

fn raft(nodes: Nodes<'_>) -> ChannelDefinition {
    let consenters = nodes.iter().map(|node| RaftConsenter {
        endpoint: endpoint(node),
        tls_certificate: pem(&format!("{}-orderer{}-tls", node.0, node.1)),
    });
    channel(Consensus::Raft { consenters: consenters.collect(), options: RaftOptions::default() }, nodes)
}

fn bft(nodes: Nodes<'_>) -> ChannelDefinition {
    let consenters = nodes.iter().map(|node| BftConsenter {
        endpoint: endpoint(node),
        msp_id: msp(node.0).id,
        identity: pem(&format!("{}-orderer{}", node.0, node.1)),
        tls_certificate: pem(&format!("{}-orderer{}-tls", node.0, node.1)),
    });
    channel(Consensus::Bft { consenters: consenters.collect(), options: BftOptions::default() }, nodes)
}

fn channel(consensus: Consensus, nodes: Nodes<'_>) -> ChannelDefinition {
    let endpoints = |h: &str| nodes.iter().filter(|n| n.0 == h).map(endpoint).collect();
    ChannelDefinition {
        channel_name: "records".into(),
        consensus,
        orderer_orgs: ["a", "b"].map(|h| OrdererOrg { msp: msp(h), endpoints: endpoints(h) }).into(),
        application_orgs: vec![
            ApplicationOrg { msp: msp("a"), anchor_peers: anchor("a") },
            ApplicationOrg { msp: msp("b"), anchor_peers: vec![] },
        ],
        batch: Batch::default(),
        policies: Default::default(),
        capabilities: Default::default(),
    }
}

const RAFT: Nodes<'_> = &[("a", 1), ("a", 2), ("b", 1)];
const BFT: Nodes<'_> = &[("a", 1), ("a", 2), ("b", 1), ("b", 2)];

/// A value's content in hex. Go writes an empty message in a map as such, prost leaves it out: the same to any reader.
fn content(key: &str, value: &[u8]) -> String {
    match key {
        "Capabilities" => hex::encode(Capabilities::decode(value).expect("capabilities").encode_to_vec()),
        _ => hex::encode(value),
    }
}

/// Every group, value and policy of a tree: path, version, guard and content.
fn fields(path: &str, group: &ConfigGroup, into: &mut Vec<String>) {
    into.push(format!("{path} v{} {}", group.version, group.mod_policy));
    for (key, v) in &group.values {
        into.push(format!("{path}/{key} v{} {} = {}", v.version, v.mod_policy, content(key, &v.value)));
    }
    for (key, p) in &group.policies {
        let policy = p.policy.clone().unwrap_or_default();
        let (kind, value) = (policy.r#type, hex::encode(&policy.value));
        into.push(format!("{path}/{key} v{} {} = {kind} {value}", p.version, p.mod_policy));
    }
    for (key, child) in &group.groups {
        fields(&format!("{path}/{key}"), child, into);
    }
}

fn config(block: &Block) -> Config {
    let (name, config) = blocks::config(block).expect("configuration block");
    assert_eq!(name, "records");
    config
}

fn assert_same_tree(ours: &Config, theirs: &Config) {
    let list = |c: &Config| {
        let mut all = Vec::new();
        fields("/Channel", c.channel_group.as_ref().expect("group"), &mut all);
        all
    };
    let (mine, fabrics) = (list(ours), list(theirs));
    for (mine, fabrics) in mine.iter().zip(&fabrics) {
        assert_eq!(mine, fabrics);
    }
    assert_eq!(mine.len(), fabrics.len());
    assert!(mine.len() > 40, "the tree was walked");
    assert_eq!(ours.sequence, theirs.sequence);
}

#[test]
fn a_raft_channel_is_as_configtxgen_makes_it() {
    let ours = genesis::block(&raft(RAFT), &Stamp::now()).expect("genesis");
    assert_same_tree(&config(&ours), &config(&block("raft.block")));
}

#[test]
fn a_bft_channel_is_as_configtxgen_makes_it() {
    let ours = genesis::block(&bft(BFT), &Stamp::now()).expect("genesis");
    assert_same_tree(&config(&ours), &config(&block("bft.block")));
}

#[test]
fn the_block_around_it_is_too() {
    let (ours, theirs) = (genesis::block(&raft(RAFT), &Stamp::now()).expect("genesis"), block("raft.block"));
    assert_eq!(ours.metadata, theirs.metadata);
    let hash = blocks::data_hash(theirs.data.as_ref().expect("data"));
    assert_eq!(theirs.header.as_ref().expect("header").data_hash, hash);
    let headers = |b: &Block| {
        let envelope = Envelope::decode(b.data.as_ref().expect("data").data[0].as_slice()).expect("envelope");
        assert_eq!(envelope.signature, [0; 0]);
        let payload = Payload::decode(envelope.payload.as_slice()).expect("payload");
        let header = payload.header.expect("header");
        let mut channel = ChannelHeader::decode(header.channel_header.as_slice()).expect("header");
        let signature = SignatureHeader::decode(header.signature_header.as_slice()).expect("header");
        // The transaction id follows from the nonce; both and the time differ from block to block.
        assert_eq!(channel.tx_id, tx_id(&signature.nonce, &signature.creator));
        assert_eq!(signature.nonce.len(), 24);
        (channel.tx_id, channel.timestamp) = Default::default();
        (channel, signature.creator)
    };
    assert_eq!(headers(&ours), headers(&theirs));
}

#[test]
fn the_same_definition_and_stamp_are_the_same_bytes() {
    let stamp = Stamp::now();
    let make = || genesis::block(&bft(BFT), &stamp).expect("genesis").encode_to_vec();
    assert_eq!(make(), make());
}

#[test]
fn hashes_chain_real_blocks() {
    let chain = [0, 1, 2].map(|n| block(&format!("chain/{n}.block")));
    for (at, pair) in chain.windows(2).enumerate() {
        let [before, after] = [&pair[0], &pair[1]].map(|b| b.header.as_ref().expect("header"));
        assert_eq!(after.previous_hash, blocks::header_hash(before), "block {at} and the next");
    }
    for block in &chain {
        let header = block.header.as_ref().expect("header");
        assert_eq!(header.data_hash, blocks::data_hash(block.data.as_ref().expect("data")));
        assert_eq!(blocks::last_config(block), Ok(header.number), "each of them is a configuration block");
    }
}

/// The one step from `block` to `desired` whose description starts with `what`.
fn assert_update(from: &str, desired: &ChannelDefinition, what: &str, vector: &str) {
    let plan = plan(&config(&block(from)), desired).expect("plan");
    let descriptions: Vec<_> = plan.steps.iter().map(|s| &s.description).collect();
    let step =
        plan.steps.iter().find(|s| s.description.starts_with(what)).unwrap_or_else(|| panic!("{descriptions:?}"));
    let theirs = ConfigUpdate::decode(file(vector).as_slice()).expect("update");
    assert_eq!(step.update, theirs, "{what}");
}

#[test]
fn updates_are_as_configtxlator_computes_them() {
    let change = |edit: &dyn Fn(&mut ChannelDefinition)| {
        let mut desired = raft(RAFT);
        edit(&mut desired);
        desired
    };
    let cases: [(&str, &str, ChannelDefinition); 6] = [
        (
            "add-hospital.update",
            "add hospital HospitalC",
            change(&|c| c.application_orgs.push(ApplicationOrg { msp: msp("c"), anchor_peers: anchor("c") })),
        ),
        (
            "add-anchor-peer.update",
            "change the anchor peers of HospitalB",
            change(&|c| c.application_orgs[1].anchor_peers = anchor("b")),
        ),
        (
            "remove-anchor-peer.update",
            "change the anchor peers of HospitalA",
            change(&|c| c.application_orgs[0].anchor_peers = vec![]),
        ),
        (
            "batch.update",
            "change how transactions are collected into blocks",
            change(&|c| {
                c.batch = Batch { max_message_count: 50, timeout: Duration::from_millis(500), ..Batch::default() }
            }),
        ),
        (
            "approve-by-all.update",
            "change how many hospitals must approve",
            change(&|c| c.policies.lifecycle_endorsement = Rule::All),
        ),
        ("remove-hospital.update", "remove hospital HospitalB", change(&|c| drop(c.application_orgs.pop()))),
    ];
    for (vector, what, desired) in cases {
        assert_update("raft.block", &desired, what, vector);
    }
}

#[test]
fn consenters_change_as_configtxlator_computes_it() {
    let four = raft(&[("a", 1), ("a", 2), ("b", 1), ("b", 2)]);
    assert_update("raft.block", &four, "add consenter", "add-raft-consenter.update");
    let two = raft(&[("a", 1), ("b", 1)]);
    assert_update("raft.block", &two, "remove consenter", "remove-raft-consenter.update");
    let five = bft(&[("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]);
    assert_update("bft.block", &five, "add consenter", "add-bft-consenter.update");
}
