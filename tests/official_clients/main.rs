//! Hyperledger's own client libraries work with the embedded ledger as they do with Fabric.
//!
//! Where Node.js is missing, a test says that it is skipped, and fails in CI. With `EHRNET_FABRIC_BIN` the same runs on
//! real Fabric: it is what the expectations in `client.mjs` were held to.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

// Where `testing` looks for it.
use ehrnet_fabric::package::Package;
use tokio::net::TcpStream;

// Shared with other tests, which use other parts of it.
#[allow(dead_code)]
#[path = "../support/chaincode.rs"]
mod chaincode;
#[path = "../support/libraries.rs"]
mod libraries;
#[allow(dead_code)]
#[path = "../support/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "../support/programs.rs"]
mod programs;

use libraries::libraries;
use network::{CHANNEL, Network, agree, call, definition, package, services};
use nodes::{Node, Org, Site, eventually};

/// The embedded ledger, or real Fabric if it is named.
fn site() -> Site {
    match std::env::var_os("EHRNET_FABRIC_BIN") {
        Some(fabric) => Site::new(&PathBuf::from(fabric)),
        None => Site::embedded(),
    }
}

/// Runs the client as a user of a hospital at its peer; it must find everything as it expects.
async fn run_client(libraries: &Path, network: &Network, peer: &Node, org: &Org) {
    let (certificate, key) = org.ca.issue("client");
    let settings = serde_json::json!({
        "endpoint": format!("{}:7051", peer.host), "tlsRoot": org.tls_ca.pem(), "mspId": org.msp_id,
        "certificate": certificate, "key": key, "channel": CHANNEL, "chaincode": "ehr",
    });
    network.site.file("client.json", settings.to_string().as_bytes());
    let file = network.site.path("client.json");
    eprintln!("{}", libraries::run(libraries, "client.mjs", &[&file.display().to_string()]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_gateway_client_does_not_notice() {
    let Some(libraries) = libraries() else { return };
    let network = Network::raft(site()).await;
    agree(&network, &definition(), &services(&network).await).await;
    run_client(&libraries, &network, &network.peer_a, &network.a).await;
}

/// A chaincode on the official shim; it is ended when dropped.
struct Shim(Child);

impl Drop for Shim {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Two instances with different names, and their packages.
async fn shims(libraries: &Path) -> ([Shim; 2], [Package; 2]) {
    let start = async |name: &str| {
        let free = TcpListener::bind("127.0.0.1:0").expect("address").local_addr().expect("address");
        let package = package("ehr", &free.to_string());
        let mut node = Command::new("node");
        node.arg(libraries.join("chaincode.cjs")).args([&free.to_string(), &package.id, name]);
        let shim = Shim(node.stdout(Stdio::null()).spawn().expect("node"));
        eventually("the chaincode listens", async || TcpStream::connect(free).await.is_ok()).await;
        (shim, package)
    };
    let ((one, first), (other, second)) = (start("a").await, start("b").await);
    ([one, other], [first, second])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chaincode_on_the_official_shim_runs() {
    let Some(libraries) = libraries() else { return };
    let network = Network::raft(site()).await;
    let (_running, packages) = shims(&libraries).await;
    agree(&network, &definition(), &packages).await;
    run_client(&libraries, &network, &network.peer_a, &network.a).await;

    // What only the shim's own chaincode does here.
    let gateway = network.gateway(&network.peer_a, &network.a);
    let text = async |args: &[&str]| {
        String::from_utf8(gateway.evaluate(&call(args), &[]).await.expect("answer")).expect("text")
    };
    assert_eq!(text(&["keys", "g", "l"]).await, "guarded k");
    let history = text(&["history", "guarded"]).await;
    assert_eq!(history, "v2 v1", "newest first");
    assert_eq!(text(&["caller"]).await, "HospitalA");
    gateway.submit(&call(&["purge", "shared", "p"]), &[]).await.expect("purge");
    assert_eq!(text(&["getPrivate", "shared", "p"]).await, "");
}
