//! What gateways do when something is missing, on real Fabric and on the embedded ledger.

use std::sync::Arc;
use std::time::Duration;

use ehrnet_fabric::chaincode::{ChaincodeDefinition, EndorsementPolicy, Rule};
use ehrnet_fabric::lifecycle::{CommitOutcome, Endorser, ensure_committed, ensure_installed};
use ehrnet_fabric::{LedgerError, gateway};

use crate::network::{CHANNEL, Network, approve, call, definition, services};
use crate::nodes::{Org, eventually};
use crate::site;

/// Either hospital's endorsement is enough, and only hospital A runs the contract.
async fn run_by_a_only(network: &Network) {
    let either = EndorsementPolicy::Signature(Rule::any(vec![Rule::peer("HospitalA"), Rule::peer("HospitalB")]));
    let definition = ChaincodeDefinition { endorsement: either, ..definition() };
    let (at_a, at_b) = network.peers();
    let clients = network.orderers();
    let orderers: Vec<_> = clients.iter().collect();
    let [package, _] = services(network).await;
    ensure_installed(&at_a, &package).await.expect("install");
    approve(&at_a, &orderers, &definition, 1, Some(&package.id)).await;
    approve(&at_b, &orderers, &definition, 1, None).await;
    let endorsers = [Endorser { msp_id: "HospitalA", peer: &at_a }, Endorser { msp_id: "HospitalB", peer: &at_b }];
    eventually("the definition is committed", async || {
        let outcome = ensure_committed(&endorsers, &orderers, CHANNEL, &definition, 1).await;
        matches!(outcome, Ok(CommitOutcome::Committed(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_does_without_what_it_does_not_need() {
    let Some(site) = site() else { return };
    let mut network = Network::raft(site).await;
    run_by_a_only(&network).await;
    let (a, b) = (network.gateway(&network.peer_a, &network.a), network.gateway(&network.peer_b, &network.b));

    // B's own peer does not run the contract; A's does.
    let mut written = None;
    eventually("the gateway of B knows the peer of A", async || {
        written = b.submit(&call(&["put", "k", "v"]), &[]).await.ok();
        written.is_some()
    })
    .await;
    // It may be a block behind.
    eventually("A's peer answers", async || {
        b.evaluate(&call(&["get", "k"]), &[]).await.expect("A's peer answers") == b"v"
    })
    .await;
    let mut private = call(&["putPrivate", "shared", "p"]);
    private.transient.insert("value".into(), b"secret".to_vec());
    for refused in [b.submit(&private, &[]).await.map(drop), b.evaluate(&private, &[]).await.map(drop)] {
        let refused = refused.expect_err("transient data is not given to another hospital unasked").to_string();
        assert!(refused.contains("no endorsers found in the gateway's organization"), "{refused}");
    }
    b.submit(&private, &["HospitalA".into()]).await.expect("to another hospital, asked for");

    // B's peer goes; A needs nothing of it.
    network.peer_b.kill();
    a.submit(&call(&["put", "k", "v2"]), &[]).await.expect("A is enough");
    let both = a.submit(&call(&["put", "k", "v3"]), &["HospitalA".into(), "HospitalB".into()]).await;
    let both = both.expect_err("B is gone").to_string();
    assert!(both.contains("HospitalB"), "{both}");
    network.site.start(&mut network.peer_b).await;
    let missed = written.expect("written");
    let status = b.commit_status(CHANNEL, &missed.tx_id, Duration::from_secs(30)).await.expect("it is back");
    assert_eq!(status.0, missed.block);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing_from_a_gateway() {
    let Some(site) = site() else { return };
    let network = Network::raft(site).await;
    run_by_a_only(&network).await;
    let a = network.gateway(&network.peer_a, &network.a);
    let written = a.submit(&call(&["put", "k", "v"]), &[]).await.expect("committed");

    // Same name, other CA; and a hospital that is not on the channel.
    for org in [Org::new("HospitalA"), Org::new("HospitalC")] {
        let stranger: gateway::Client =
            network.site.gateway(&network.peer_a, &Arc::new(org.ca.identity(&org.msp_id, "client")));
        let evaluated = stranger.evaluate(&call(&["get", "k"]), &[]).await.expect_err("not a member").to_string();
        assert!(evaluated.contains("access denied"), "{evaluated}");
        let submitted = stranger.submit(&call(&["put", "k", "x"]), &[]).await.expect_err("not a member").to_string();
        assert!(submitted.contains("access denied"), "{submitted}");
        let status = stranger.commit_status(CHANNEL, &written.tx_id, Duration::from_secs(30)).await;
        assert!(matches!(status, Err(LedgerError::Refused { status: 403, .. })), "{status:?}");
    }
}
