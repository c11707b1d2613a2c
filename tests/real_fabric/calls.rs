//! Calls that are not just one contract's transaction, on real Fabric and on the embedded ledger: those that initialise
//! a contract, and those from one contract to another.

use ehrnet_fabric::chaincode::ChaincodeDefinition;
use ehrnet_fabric::gateway::Client;
use ehrnet_fabric::proposal::Call;

use crate::network::{Network, agree, call, definition, services};
use crate::nodes::eventually;
use crate::site;

/// The first call, once gateways have heard of all peers.
async fn first(gateway: &Client, call: &Call<'_>) {
    eventually("the gateway knows both peers", async || gateway.submit(call, &[]).await.is_ok()).await;
}

/// What the endorsers said to a call that they refused.
async fn refusal(gateway: &Client, call: &Call<'_>) -> String {
    gateway.evaluate(call, &[]).await.expect_err("refused").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_must_be_initialised_is_so_once_for_each_version() {
    let Some(site) = site() else { return };
    let network = Network::raft(site).await;
    let definition = ChaincodeDefinition { init_required: true, ..definition() };
    let init = || Call { is_init: true, ..call(&["put", "k", "begun"]) };
    let (a, too_early) = (network.gateway(&network.peer_a, &network.a), "must call as init first");

    for version in ["1.0", "2.0"] {
        let definition = ChaincodeDefinition { version: version.into(), ..definition.clone() };
        agree(&network, &definition, &services(&network).await).await;
        let refused = refusal(&a, &call(&["get", "k"])).await;
        assert!(refused.contains(too_early), "{version}: {refused}");
        first(&a, &init()).await;
        assert_eq!(a.evaluate(&call(&["get", "k"]), &[]).await.expect("an answer"), b"begun");
        let again = refusal(&a, &init()).await;
        assert!(again.contains("is already initialized but called as init"), "{version}: {again}");
        a.submit(&call(&["put", "k", "goes on"]), &[]).await.expect("committed");
    }
    let without = ChaincodeDefinition { version: "3.0".into(), init_required: false, ..definition };
    agree(&network, &without, &services(&network).await).await;
    let needless = refusal(&a, &init()).await;
    assert!(needless.contains("does not require initialization but called as init"), "{needless}");
}

/// Puts a second contract beside the first.
async fn agree_on_another(network: &Network, name: &str) {
    let definition = ChaincodeDefinition { name: name.into(), ..definition() };
    agree(network, &definition, &services(network).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_call_each_other_within_one_transaction() {
    let Some(site) = site() else { return };
    let network = Network::raft(site).await;
    agree(&network, &definition(), &services(&network).await).await;
    agree_on_another(&network, "ward").await;
    let a = network.gateway(&network.peer_a, &network.a);
    let of = |chaincode: &'static str, args: &[&str]| Call { chaincode, ..call(args) };
    let read = async |call: &Call<'_>| a.evaluate(call, &[]).await.expect("an answer");

    first(&a, &call(&["put", "k", "ehr's"])).await;
    a.submit(&call(&["call", "ward", "put", "k", "ward's"]), &[]).await.expect("both contracts' endorsers agree");
    assert_eq!(read(&of("ward", &["get", "k"])).await, b"ward's", "it wrote into its own state");
    assert_eq!(read(&call(&["get", "k"])).await, b"ehr's");
    assert_eq!(read(&call(&["call", "ward", "get", "k"])).await, b"ward's");

    let back = refusal(&a, &call(&["call", "ward", "call", "ehr", "get", "k"])).await;
    assert!(back.contains("INVOKE_CHAINCODE failed: transaction ID"), "a call is under way there: {back}");
    let refused = refusal(&a, &call(&["call", "ward", "fail", "NOT_HERE"])).await;
    assert!(refused.contains("NOT_HERE"), "{refused}");
    let unknown = refusal(&a, &call(&["call", "nobody", "get", "k"])).await;
    assert!(unknown.contains("INVOKE_CHAINCODE failed") && unknown.contains("nobody"), "{unknown}");
}
