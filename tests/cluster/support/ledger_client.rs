//! What the ledger itself says, asked by the test with the hospitals' own admin identities and not by the operator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ehrnet_desired::names;
use ehrnet_fabric::blocks;
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed, Target, TlsIdentity};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::proto::common::{Block, Config};
use ehrnet_fabric::verbs::{ensure_orderer_joined, ensure_peer_joined};
use ehrnet_fabric::{LedgerError, gateway, orderer, participation, peer};
use ehrnet_messages::Function;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::net::TcpStream;

use super::invariants;
use super::kubelet::Resolver;
use super::scene::{LIMIT, Scene};

/// The test's own connections to the nodes.
struct DirectNetwork {
    resolver: Resolver,
    may_write: bool,
}

#[async_trait]
impl Network for DirectNetwork {
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let address = self.resolver.resolve(host, port).map_err(std::io::Error::other)?;
        TcpStream::connect(address).await
    }

    async fn before_write(&self, act: &LedgerAct) -> Result<(), NotAllowed> {
        if self.may_write { Ok(()) } else { Err(NotAllowed(format!("the test only reads: {act:?}"))) }
    }

    async fn after_write(&self, _: &LedgerAct) {}
}

fn network(scene: &Scene, may_write: bool) -> Arc<DirectNetwork> {
    Arc::new(DirectNetwork { resolver: scene.kubelet.resolver(), may_write })
}

async fn text(scene: &Scene, secret: &str, key: &str) -> String {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let found = secrets.get(secret).await.unwrap_or_else(|error| panic!("Secret {secret}: {error}"));
    let value =
        found.data.and_then(|mut data| data.remove(key)).unwrap_or_else(|| panic!("Secret {secret} has no {key}"));
    String::from_utf8(value.0).expect("PEM is text")
}

async fn admin(scene: &Scene, hospital: &str) -> Arc<SigningIdentity> {
    let msp_id = scene.get("Hospital", hospital).data["spec"]["mspId"].as_str().expect("an mspId").to_owned();
    let secret = names::admin(hospital);
    let (certificate, key) = (text(scene, &secret, names::TLS_CRT).await, text(scene, &secret, names::TLS_KEY).await);
    Arc::new(SigningIdentity::new(&msp_id, &certificate, &key).expect("an identity"))
}

async fn target(scene: &Scene, node: &str, port: u16) -> Target {
    let roots = text(scene, &names::node_tls(node), names::CA_CRT).await;
    Target { host: names::host(node, &scene.namespace), port, tls_roots: vec![roots], client_identity: None }
}

fn hospital_of(scene: &Scene, kind: &str, node: &str) -> String {
    scene.get(kind, node).data["spec"]["hospitalRef"]["name"].as_str().expect("a hospital").to_owned()
}

async fn orderer_client(scene: &Scene, node: &str) -> orderer::Client {
    let signer = admin(scene, &hospital_of(scene, "Orderer", node)).await;
    orderer::Client::new(network(scene, false), &target(scene, node, names::ORDERER_PORT).await, signer)
        .expect("a client")
}

/// Asks again while a node does not answer or has no leader yet: that is how it is right after an election.
async fn patiently<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) if begin.elapsed() > LIMIT => panic!("{what}: {error}"),
            // A ledger cannot be watched from outside.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Hash of an orderer's block 0, lower-case hexadecimal.
pub async fn genesis_hash(scene: &Scene, orderer: &str, channel: &str) -> String {
    let client = orderer_client(scene, orderer).await;
    let block = patiently(&format!("block 0 of {orderer}"), || client.block(channel, 0)).await;
    hex::encode(blocks::header_hash(block.header.as_ref().expect("a block has a header")))
}

/// The channel's configuration as an orderer has it, once it has the one that the Channel's status tells of.
pub async fn config(scene: &Scene, orderer: &str, channel: &str) -> Config {
    let client = orderer_client(scene, orderer).await;
    let reported = scene.get("Channel", channel).data["status"]["configSequence"].as_u64().expect("a sequence number");
    patiently(&format!("configuration {reported} at {orderer}"), || async {
        let config = blocks::config(&client.config_block(channel).await?).map_err(LedgerError::Invalid)?.1;
        if config.sequence < reported {
            Err(LedgerError::Invalid(format!("it has {}", config.sequence)))
        } else {
            Ok(config)
        }
    })
    .await
}

/// Addresses of the consenters of the channel `care`, as an orderer has them.
pub async fn consenters(scene: &Scene, orderer: &str) -> BTreeSet<String> {
    let config = config(scene, orderer, "care").await;
    invariants::consenters(&config).into_iter().map(|(address, _)| address).collect()
}

/// The addresses of the orderers with these numbers.
pub fn addresses(scene: &Scene, numbers: &[u8]) -> BTreeSet<String> {
    numbers.iter().map(|n| format!("orderer-{n}.{}.svc:7050", scene.namespace)).collect()
}

/// Every configuration that the channel ever had, the first one first, as an orderer has them.
pub async fn configs(scene: &Scene, orderer: &str, channel: &str) -> Vec<Config> {
    let client = orderer_client(scene, orderer).await;
    let read = async |number: u64| patiently(orderer, || client.block(channel, number)).await;
    let mut configs = Vec::new();
    let mut block = patiently(orderer, || client.newest_block(channel)).await;
    loop {
        let number = blocks::last_config(&block).expect("metadata");
        let found = read(number).await;
        configs.push(blocks::config(&found).expect("a configuration").1);
        if number == 0 {
            configs.reverse();
            return configs;
        }
        block = read(number - 1).await;
    }
}

/// Height of the channel at a peer.
pub async fn peer_height(scene: &Scene, node: &str, channel: &str) -> u64 {
    let signer = admin(scene, &hospital_of(scene, "Peer", node)).await;
    let client = peer::Client::new(network(scene, false), &target(scene, node, names::PEER_PORT).await, signer)
        .expect("a client");
    patiently(node, || client.chain_info(channel)).await.height
}

/// What the contract answers, through a peer's gateway and as its hospital's admin.
pub async fn evaluate<F: Function>(scene: &Scene, peer: &str, channel: &str, chaincode: &str, ask: &F) -> F::Output {
    let client = gateway_client(scene, peer, false).await;
    let call = Call::new(channel, chaincode, ask.arguments().expect("JSON"));
    let answer = patiently(peer, || client.evaluate(&call, &[])).await;
    serde_json::from_slice(&answer).expect("an answer")
}

/// Has the contract change the ledger, through a peer's gateway and as its hospital's admin.
pub async fn submit<F: Function>(scene: &Scene, peer: &str, channel: &str, chaincode: &str, act: &F) -> F::Output {
    let answer = try_submit(scene, peer, channel, chaincode, act).await;
    answer.unwrap_or_else(|error| panic!("{}: {error}", F::NAME))
}

/// The same, where it may be refused.
pub async fn try_submit<F: Function>(
    scene: &Scene,
    peer: &str,
    channel: &str,
    chaincode: &str,
    act: &F,
) -> Result<F::Output, LedgerError> {
    let client = gateway_client(scene, peer, true).await;
    let call = Call::new(channel, chaincode, act.arguments().expect("JSON"));
    let committed = client.submit(&call, &[]).await?;
    Ok(serde_json::from_slice(&committed.result).expect("an answer"))
}

async fn gateway_client(scene: &Scene, peer: &str, may_write: bool) -> gateway::Client {
    let signer = admin(scene, &hospital_of(scene, "Peer", peer)).await;
    gateway::Client::new(network(scene, may_write), &target(scene, peer, names::PEER_PORT).await, signer)
        .expect("a client")
}

/// Every orderer and every peer of the channel has the genesis block that the Channel's status names.
pub async fn one_genesis_everywhere(scene: &Scene, channel: &str) {
    let resource = scene.get("Channel", channel);
    let name = resource.data["spec"]["channelName"].as_str().expect("a name");
    let declared = resource.data["status"]["genesisHash"].as_str().expect("a hash in status");
    for orderer in resource.data["spec"]["consensus"]["orderers"].as_array().expect("orderers") {
        let orderer = orderer.as_str().expect("a name");
        assert_eq!(genesis_hash(scene, orderer, name).await, declared, "block 0 of {orderer}");
    }
}

/// Joins an orderer to a channel by the test's own hand.
pub async fn join_orderer(scene: &Scene, node: &str, channel: &str, genesis: &Block) {
    let mut target = target(scene, node, names::ORDERER_ADMIN_PORT).await;
    let certificate = text(scene, names::OPERATOR, names::TLS_CRT).await;
    let key = text(scene, names::OPERATOR, names::TLS_KEY).await.into();
    target.client_identity = Some(TlsIdentity { certificate, key });
    let client = participation::Client::new(network(scene, true), &target).expect("a client");
    patiently(node, || ensure_orderer_joined(&client, channel, genesis)).await;
}

/// Joins a peer of the hospital that its pod's labels name.
pub async fn join_peer(scene: &Scene, node: &str, hospital: &str, msp_id: &str, channel: &str, genesis: &Block) {
    let secret = names::admin(hospital);
    let (certificate, key) = (text(scene, &secret, names::TLS_CRT).await, text(scene, &secret, names::TLS_KEY).await);
    let signer = Arc::new(SigningIdentity::new(msp_id, &certificate, &key).expect("an identity"));
    let target = target(scene, node, names::PEER_PORT).await;
    let client = peer::Client::new(network(scene, true), &target, signer).expect("a client");
    patiently(node, || ensure_peer_joined(&client, channel, genesis)).await;
}
