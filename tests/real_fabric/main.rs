//! The protocol room against real Fabric nodes. Runs only if `EHRNET_FABRIC_BIN` names the folder of Fabric's binaries
//! (`orderer`, `peer`; Fabric's `config` folder next to it); otherwise each test says that it is skipped.

use std::path::PathBuf;

use ehrnet::fabric::genesis::{self, ChannelDefinition, Consensus, Endpoint, RaftOptions};
use ehrnet::fabric::participation::{ChannelStatus, ConsensusRelation};
use ehrnet::fabric::{blocks, envelope::Stamp, identity};

mod nodes;
#[path = "../../src/fabric/testing.rs"]
mod testing;

use nodes::{Org, Site, eventually};

/// The one permitted skip: real Fabric is not here.
fn site() -> Option<Site> {
    let Some(bin) = std::env::var_os("EHRNET_FABRIC_BIN") else {
        eprintln!("SKIPPED: EHRNET_FABRIC_BIN is not set; it must name the folder with Fabric's orderer and peer");
        return None;
    };
    Some(Site::new(&PathBuf::from(bin)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_channel_is_made_and_joined() {
    let Some(site) = site() else { return };
    let a = Org::new("HospitalA");
    let mut orderers: Vec<_> = (1..=3).map(|n| site.orderer(&a, n)).collect();
    let mut peer = site.peer(&a, 11);
    for node in &mut orderers {
        site.start(node).await;
    }
    site.start(&mut peer).await;

    let channel = ChannelDefinition {
        channel_name: "records".into(),
        consensus: Consensus::Raft {
            consenters: orderers.iter().map(|o| o.raft_consenter()).collect(),
            options: RaftOptions::default(),
        },
        orderer_orgs: vec![a.orderer(&orderers.iter().collect::<Vec<_>>())],
        application_orgs: vec![a.application(vec![Endpoint::new(&peer.host, 7051)])],
        batch: Default::default(),
        policies: Default::default(),
        capabilities: Default::default(),
    };
    let block = genesis::block(&channel, &Stamp::now()).expect("genesis");
    for node in &orderers {
        let client = site.participation(node);
        assert_eq!(client.list().await.expect("list"), Vec::<String>::new());
        assert_eq!(client.info("records").await.expect("info"), None);
        let info = client.join("records", &block).await.expect("join");
        assert_eq!(info.consensus_relation, ConsensusRelation::Consenter);
        let again = client.join("records", &block).await.expect_err("joined already").to_string();
        assert!(again.contains("405"), "{again}");
        eventually("the orderer is active", async || {
            client.info("records").await.expect("info").is_some_and(|i| i.status == ChannelStatus::Active)
        })
        .await;
    }
    let client = site.peer_client(&peer, &a.admin);
    client.join("records", &block).await.expect("join");
    assert_eq!(client.channels().await.expect("channels"), ["records"]);
    let info = client.chain_info("records").await.expect("info");
    assert_eq!(info.height, 1);
    assert_eq!(info.current_block_hash, blocks::header_hash(block.header.as_ref().expect("header")));
    // A peer adds its verdicts to the metadata.
    assert_eq!(client.config_block("records").await.expect("block").data, block.data);
    let ordered = site.orderer_client(&orderers[0], &a.admin);
    eventually("a leader is elected", async || ordered.config_block("records").await.is_ok()).await;
    assert_eq!(ordered.config_block("records").await.expect("block"), block);
}
