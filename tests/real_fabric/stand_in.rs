//! The embedded ledger's peer beside one of Fabric: on the same blocks both must come to the same endorsements, byte for
//! byte, the same verdicts and the same commit hashes.

use ehrnet_fabric::net::ActKind;
use ehrnet_fabric::proposal::{self, Call};
use ehrnet_fabric::proto::common::{BlockMetadataIndex, Envelope};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;
use prost::Message;
use std::time::Duration;

use crate::chain;
use crate::network::{CHANNEL, Network, agree, call, definition, services};
use crate::nodes::eventually;
use crate::site;

const PATIENCE: Duration = Duration::from_secs(60);

/// A transaction that both peers endorse. That it can be put together proves that they signed the same bytes.
async fn endorse(network: &Network, call: &Call<'_>) -> (Envelope, String) {
    let (fabric, embedded) = network.peers();
    level(network).await;
    let (signed, tx_id) = fabric.proposal(call);
    let answers = [
        fabric.endorse(&signed).await.expect("endorsed by Fabric"),
        embedded.endorse(&signed).await.expect("endorsed by the embedded peer"),
    ];
    let interests = answers.each_ref().map(|answer| interest(answer.response.clone()));
    assert_eq!(interests[0], interests[1], "whose endorsement it needs");
    let transaction = proposal::transaction(&signed, &answers).expect("the same result");
    (proposal::sign(fabric.signer(), transaction), tx_id)
}

/// Fabric gives it in no order.
fn interest(response: ehrnet_fabric::proto::protos::ProposalResponse) -> Vec<Vec<u8>> {
    let mut calls: Vec<_> =
        response.interest.unwrap_or_default().chaincodes.iter().map(Message::encode_to_vec).collect();
    calls.sort();
    calls
}

async fn send(network: &Network, transaction: &Envelope) {
    let orderer = &network.orderers()[0];
    orderer.broadcast(transaction, ActKind::Transaction, CHANNEL).await.expect("ordered");
}

/// What both peers say of a transaction.
async fn verdict(network: &Network, tx_id: &str) -> Code {
    let (fabric, embedded) = network.peers();
    let verdict = fabric.committed(CHANNEL, tx_id, 1, PATIENCE).await.expect("committed");
    assert_eq!(embedded.committed(CHANNEL, tx_id, 1, PATIENCE).await.expect("committed"), verdict);
    verdict.1
}

async fn transact(network: &Network, call: &Call<'_>) -> Code {
    let (transaction, tx_id) = endorse(network, call).await;
    send(network, &transaction).await;
    verdict(network, &tx_id).await
}

/// Both peers have the same height.
async fn level(network: &Network) {
    let (fabric, embedded) = network.peers();
    eventually("both peers have all blocks", async || {
        let heights = [fabric.chain_info(CHANNEL).await, embedded.chain_info(CHANNEL).await];
        matches!(&heights, [Ok(one), Ok(other)] if one.height == other.height)
    })
    .await;
}

fn private(key: &str, value: &str) -> Call<'static> {
    let mut call = call(&["putPrivate", "shared", key]);
    call.transient.insert("value".into(), value.into());
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_peer_comes_to_what_fabrics_comes_to() {
    let Some(site) = site() else { return };
    let network = Network::mixed(site).await;
    let definition = definition();
    agree(&network, &definition, &services(&network).await).await;

    assert_eq!(transact(&network, &call(&["put", "k", "1"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["append", "k", "2"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["get", "absent"])).await, Code::Valid);

    let (first, first_id) = endorse(&network, &call(&["append", "k", "3"])).await;
    let (second, second_id) = endorse(&network, &call(&["append", "k", "4"])).await;
    send(&network, &first).await;
    send(&network, &second).await;
    let verdicts = [verdict(&network, &first_id).await, verdict(&network, &second_id).await];
    assert_eq!(verdicts, [Code::Valid, Code::MvccReadConflict]);

    // Raw results of a range, then so many that they are hashed, in two batches.
    assert_eq!(transact(&network, &call(&["count", "a", "z", "n"])).await, Code::Valid);
    many(&network, 120).await;
    assert_eq!(transact(&network, &call(&["count", "many", "many~", "n"])).await, Code::Valid);
    let (counted, counted_id) = endorse(&network, &call(&["count", "many", "many~", "n"])).await;
    assert_eq!(transact(&network, &call(&["put", "many-more", "1"])).await, Code::Valid);
    send(&network, &counted).await;
    assert_eq!(verdict(&network, &counted_id).await, Code::PhantomReadConflict);
    assert_eq!(transact(&network, &call(&["page", "many", "many~", "7", "many-020"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["history", "k"])).await, Code::Valid);

    assert_eq!(transact(&network, &call(&["guard", "k", "HospitalA"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["put", "k", "5"])).await, Code::Valid);
    alone(&network).await;

    assert_eq!(transact(&network, &private("p", "secret")).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["getPrivate", "shared", "p"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["privateHash", "shared", "p"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["privateHash", "own-a", "p"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["purge", "shared", "p"])).await, Code::Valid);
    assert_eq!(transact(&network, &call(&["getPrivate", "shared", "p"])).await, Code::Valid);

    level(&network).await;
    let (fabric, embedded) = network.peers();
    let height = fabric.chain_info(CHANNEL).await.expect("info").height;
    for number in 0..height {
        let both = [chain::block(&fabric, CHANNEL, number).await, chain::block(&embedded, CHANNEL, number).await];
        let [one, other] = both.map(|block| block.metadata.unwrap_or_default().metadata);
        for entry in [BlockMetadataIndex::TransactionsFilter, BlockMetadataIndex::CommitHash] {
            let at = entry as usize;
            assert_eq!(one.get(at), other.get(at), "{} of block {number}", entry.as_str_name());
        }
    }
}

/// Keys `many-000` and on, several in a block.
async fn many(network: &Network, count: usize) {
    let mut ids = Vec::new();
    for n in 0..count {
        let (transaction, id) = endorse(network, &call(&["put", &format!("many-{n:03}"), "1"])).await;
        send(network, &transaction).await;
        ids.push(id);
    }
    for id in ids {
        assert_eq!(verdict(network, &id).await, Code::Valid);
    }
}

/// One hospital alone: enough for the key that it guards, not for others.
async fn alone(network: &Network) {
    level(network).await;
    let (fabric, embedded) = network.peers();
    for (peer, key, expected) in [
        (&fabric, "k", Code::Valid),
        (&fabric, "other", Code::EndorsementPolicyFailure),
        (&embedded, "k", Code::EndorsementPolicyFailure),
    ] {
        let (signed, tx_id) = peer.proposal(&call(&["put", key, "6"]));
        let answer = peer.endorse(&signed).await.expect("endorsed");
        let transaction = proposal::transaction(&signed, &[answer]).expect("transaction");
        send(network, &proposal::sign(peer.signer(), transaction)).await;
        assert_eq!(verdict(network, &tx_id).await, expected, "{key}");
    }
}
