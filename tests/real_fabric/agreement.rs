//! Chaincodes on real Fabric and on the embedded ledger: packages as Fabric's own tools see them, the way to a commit,
//! and calls through gateways.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use ehrnet_fabric::chaincode::{ChaincodeDefinition, EndorsementPolicy, Rule};
use ehrnet_fabric::envelope::Stamp;
use ehrnet_fabric::lifecycle::{self, Endorser, ensure_committed, next_sequence};
use ehrnet_fabric::package::{Connection, Package};
use ehrnet_fabric::proposal::{self, Call};
use ehrnet_fabric::proto::protos::TxValidationCode;
use ehrnet_fabric::{LedgerError, gateway, peer};

use crate::network::{CHANNEL, Network, agree, approve, call, definition, services};
use crate::nodes::eventually;
use crate::site;

#[tokio::test(flavor = "multi_thread")]
async fn hospitals_agree_on_a_chaincode_and_call_it() {
    let Some(site) = site() else { return };
    let network = Network::raft(site).await;
    let definition = definition();
    agree(&network, &definition, &services(&network).await).await;
    fabrics_tools_see_the_same(&network, &definition);

    let (a, b) = (network.gateway(&network.peer_a, &network.a), network.gateway(&network.peer_b, &network.b));
    // A first call may find a gateway that has not heard of the other hospital's peer yet.
    let mut first = None;
    eventually("the gateway knows both peers", async || {
        first = a.submit(&call(&["put", "k", "v1"]), &[]).await.ok();
        first.is_some()
    })
    .await;
    let first = first.expect("committed");
    assert_eq!(first.result, b"");
    assert_eq!(a.evaluate(&call(&["get", "k"]), &[]).await.expect("read"), b"v1");
    let status = b.commit_status(CHANNEL, &first.tx_id, Duration::from_secs(30)).await.expect("status");
    assert_eq!(status, (first.block, TxValidationCode::Valid));

    refusals_are_told(&a).await;
    clocks_must_be_about_right(&network.peers().0).await;
    private_data_stays_with_members(&a, &b).await;

    // A new version is the next definition; the old one is refused as something else.
    let next = ChaincodeDefinition { version: "2.0".into(), ..definition.clone() };
    let (at_a, _) = network.peers();
    let in_force = lifecycle::committed(&at_a, CHANNEL, "ehr").await.expect("query");
    assert_eq!((next_sequence(&definition, in_force.as_ref()), next_sequence(&next, in_force.as_ref())), (1, 2));
    let clients = network.orderers();
    let orderers: Vec<_> = clients.iter().collect();
    let endorsers = [Endorser { msp_id: "HospitalA", peer: &at_a }];
    let other = ensure_committed(&endorsers, &orderers, CHANNEL, &next, 1).await.expect_err("another definition");
    assert!(other.to_string().contains("it differs in: version"), "{other}");
    agree(&network, &next, &services(&network).await).await;
}

async fn refusals_are_told(a: &gateway::Client) {
    let refused = a.submit(&call(&["fail", "CONSENT_REVOKED"]), &[]).await.expect_err("the contract refuses");
    let LedgerError::Declined { details, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((details[0].msp_id.as_str(), details.len()), ("HospitalA", 1));
    assert_eq!(details[0].message, "chaincode response 500, CONSENT_REVOKED");

    let differing = a.submit(&call(&["who"]), &[]).await.expect_err("different results");
    assert!(differing.to_string().contains("ProposalResponsePayloads do not match"), "{differing}");

    // Whoever chooses endorsers is responsible for choosing enough.
    let alone = a.submit(&call(&["put", "k", "v2"]), &["HospitalA".into()]).await.expect_err("one of two");
    let LedgerError::Rejected { code, .. } = alone else { panic!("{alone:?}") };
    assert_eq!(code, TxValidationCode::EndorsementPolicyFailure);

    let unknown = Call::new(CHANNEL, "nothing", vec![b"get".to_vec()]);
    let unknown = a.evaluate(&unknown, &[]).await.expect_err("no such chaincode");
    assert!(matches!(unknown, LedgerError::Refused { status: 400, .. }), "{unknown:?}");
}

async fn clocks_must_be_about_right(peer: &peer::Client) {
    for minutes in [-16, 16] {
        let mut stamp = Stamp::now();
        stamp.timestamp.seconds += minutes * 60;
        let (signed, _) = proposal::signed_proposal(peer.signer(), &call(&["get", "k"]), &stamp);
        let refused = peer.endorse(&signed).await.expect_err("another time").to_string();
        assert!(refused.contains("request unauthorized due to incorrect timestamp"), "{refused}");
    }
}

async fn private_data_stays_with_members(a: &gateway::Client, b: &gateway::Client) {
    let private = |collection: &str| {
        let mut call = call(&["putPrivate", collection, "p"]);
        call.transient.insert("value".into(), b"secret".to_vec());
        call
    };
    a.submit(&private("shared"), &[]).await.expect("both endorse");
    eventually("the other member has it", async || {
        b.evaluate(&call(&["getPrivate", "shared", "p"]), &["HospitalB".into()]).await.is_ok_and(|v| v == b"secret")
    })
    .await;
    a.submit(&private("own-a"), &[]).await.expect("the collection's own policy");
    assert_eq!(a.evaluate(&call(&["getPrivate", "own-a", "p"]), &[]).await.expect("own"), b"secret");
    let foreign = b.evaluate(&call(&["getPrivate", "own-a", "p"]), &["HospitalB".into()]).await;
    let foreign = foreign.expect_err("no member").to_string();
    assert!(foreign.contains("tx creator does not have read access permission"), "{foreign}");
}

/// Package ids and definitions, held to Fabric's own command line where it is here.
fn fabrics_tools_see_the_same(network: &Network, definition: &ChaincodeDefinition) {
    let connection = Connection { address: "ehr:9999".into(), dial_timeout: "10s".into(), ..Default::default() };
    let indexes = BTreeMap::from([("indexes/by-patient.json".to_owned(), b"{}".to_vec())]);
    let package = Package::ccaas("ehr_1.0-x", &connection, &indexes).expect("package");
    network.site.file("ehr.tar.gz", &package.bytes);
    let command = ["lifecycle", "chaincode", "calculatepackageid", "ehr.tar.gz"];
    let Some(id) = network.site.cli(&network.a, &network.peer_a, &command) else { return };
    assert_eq!(id.trim(), package.id);

    let command = ["lifecycle", "chaincode", "querycommitted", "-C", CHANNEL, "-n", "ehr", "--output", "json"];
    let listed = network.site.cli(&network.a, &network.peer_a, &command).expect("it is here");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let parameter = listed["validation_parameter"].as_str().expect("policy");
    let parameter = BASE64_STANDARD.decode(parameter).expect("base64");
    assert_eq!(parameter, definition.validation_parameter());
}

/// Who approved number 1, if a hospital writes `definition()` with this policy for Fabric's own command line. `None`
/// without Fabric.
fn approvals_by_cli(network: &Network, policy: &str) -> Option<serde_json::Value> {
    let collection = |name: &str, policy: &str| {
        serde_json::json!({
            "name": name, "policy": policy, "requiredPeerCount": 0, "maxPeerCount": 3, "blockToLive": 0,
            "memberOnlyRead": true, "memberOnlyWrite": true,
        })
    };
    let mut own = collection("own-a", "OR('HospitalA.member')");
    own["endorsementPolicy"] = serde_json::json!({"signaturePolicy": "OR('HospitalA.peer')"});
    let collections = serde_json::json!([own, collection("shared", "OR('HospitalA.member','HospitalB.member')")]);
    network.site.file("collections.json", collections.to_string().as_bytes());
    let command = ["lifecycle", "chaincode", "checkcommitreadiness", "--output", "json"];
    let definition = ["-C", CHANNEL, "-n", "ehr", "-v", "1.0", "--sequence", "1"];
    let rules = ["--signature-policy", policy, "--collections-config", "collections.json"];
    let output = network.site.cli(&network.a, &network.peer_a, &[&command[..], &definition, &rules].concat())?;
    Some(serde_json::from_str::<serde_json::Value>(&output).expect("JSON")["approvals"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn fabrics_tools_agree_with_an_approval_of_nested_policies() {
    let Some(site) = site() else { return };
    let network = Network::bft(site).await;
    let nested = Rule::any(vec![
        Rule::peer("HospitalA"),
        Rule::OutOf { n: 2, of: vec![Rule::peer("HospitalB"), Rule::peer("HospitalA"), Rule::peer("HospitalB")] },
    ]);
    let definition = ChaincodeDefinition { endorsement: EndorsementPolicy::Signature(nested), ..definition() };
    let (at_a, _) = network.peers();
    let clients = network.orderers();
    let orderers: Vec<_> = clients.iter().collect();
    approve(&at_a, &orderers, &definition, 1, None).await;
    let policy = "OR('HospitalA.peer', OutOf(2, 'HospitalB.peer', 'HospitalA.peer', 'HospitalB.peer'))";
    if let Some(approvals) = approvals_by_cli(&network, policy) {
        assert_eq!(approvals, serde_json::json!({"HospitalA": true, "HospitalB": false}));
    }

    // The approval without a package gives way to one of another version; then the rest as always.
    let next = ChaincodeDefinition { version: "1.1".into(), ..definition };
    agree(&network, &next, &services(&network).await).await;
    let gateway = network.gateway(&network.peer_a, &network.a);
    eventually("a quorum of orderers takes a transaction", async || {
        gateway.submit(&call(&["put", "k", "v"]), &[]).await.is_ok()
    })
    .await;
}
