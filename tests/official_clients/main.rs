//! Hyperledger's own libraries against the embedded ledger: they must not notice.
//!
//! Needs `node` (20 or newer) and `npm`; the libraries are installed once, as the lock file says, into the cache
//! (`EHRNET_CACHE`, by default `~/.cache/ehrnet`). Where they are missing, a test says that it is skipped, and fails in
//! CI. With `EHRNET_FABRIC_BIN` the same runs on real Fabric: it is what the expectations in `client.mjs` were held to.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

// Where `testing` looks for it.
use ehrnet::fabric::identity;
use ehrnet::fabric::package::Package;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

// Shared with other tests, which use other parts of it.
#[allow(dead_code)]
#[path = "../support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "../support/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "../../src/fabric/testing.rs"]
mod testing;

use network::{CHANNEL, Network, agree, call, definition, package, services};
use nodes::{Node, Org, Site, eventually};

/// The embedded ledger, or real Fabric if it is named.
fn site() -> Site {
    match std::env::var_os("EHRNET_FABRIC_BIN") {
        Some(fabric) => Site::new(&PathBuf::from(fabric)),
        None => Site::embedded(),
    }
}

/// The folder with the libraries and the scripts that use them; `None` if there is no Node.js here.
fn libraries() -> Option<PathBuf> {
    let missing = |program: &&&str| !Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if let Some(program) = ["node", "npm"].iter().find(missing) {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed, and in CI this may not be left out");
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_clients");
    let lock = fs::read(source.join("package-lock.json")).expect("lock file");
    let version = &hex::encode(Sha256::digest(&lock))[..12];
    let folder = cache().join(format!("official-clients-{version}"));
    fs::create_dir_all(&folder).expect("cache");
    // Two tests at once must not both install.
    let guard = fs::File::create(folder.join(".lock")).expect("cache");
    guard.lock().expect("lock");
    for file in ["package.json", "package-lock.json", "client.mjs", "chaincode.cjs"] {
        fs::copy(source.join(file), folder.join(file)).expect("script");
    }
    if !folder.join(".installed").exists() {
        let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let installed = Command::new("npm").args(npm).current_dir(&folder).status().expect("npm");
        assert!(installed.success(), "npm could not install the libraries into {}", folder.display());
        fs::write(folder.join(".installed"), "").expect("cache");
    }
    Some(folder)
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME"));
    let own = std::env::var_os("EHRNET_CACHE").map(PathBuf::from);
    let users = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    own.unwrap_or_else(|| users.join("ehrnet"))
}

/// Runs the client as a user of a hospital at its peer; it must find everything as it expects.
async fn run_client(libraries: &Path, network: &Network, peer: &Node, org: &Org) {
    let (certificate, key) = org.ca.issue("client");
    let told = serde_json::json!({
        "endpoint": format!("{}:7051", peer.host), "tlsRoot": org.tls_ca.pem(), "mspId": org.msp_id,
        "certificate": certificate, "key": key, "channel": CHANNEL, "chaincode": "ehr",
    });
    network.site.file("client.json", told.to_string().as_bytes());
    let file = network.site.path("client.json");
    let script = libraries.join("client.mjs");
    let mut client = tokio::process::Command::new("node");
    let output = client.arg(script).arg(file).kill_on_drop(true).output().await.expect("node");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the client ended with {}:\n{said}", output.status);
    eprintln!("{said}");
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
