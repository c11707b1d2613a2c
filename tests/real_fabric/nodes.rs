//! Nodes of Fabric, or of the embedded ledger, as processes of this machine, each on its own loopback address.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::genesis::{ApplicationOrg, BftConsenter, OrdererOrg, RaftConsenter};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::msp::MspDefinition;
use ehrnet_fabric::net::{LedgerAct, Network, NotAllowed, Target, TlsIdentity};
use ehrnet_fabric::testing::Ca;
use ehrnet_fabric::{gateway, orderer, participation, peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::programs;

/// Dials by address and counts the writes it gave leave for.
#[derive(Default)]
pub struct Loopback {
    writes: AtomicUsize,
}

impl Loopback {
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Network for Loopback {
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        TcpStream::connect((host, port)).await
    }
    async fn before_write(&self, _: &LedgerAct) -> Result<(), NotAllowed> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    async fn after_write(&self, _: &LedgerAct) {}
}

/// A hospital's CAs and admin.
pub struct Org {
    pub msp_id: String,
    pub ca: Ca,
    pub tls_ca: Ca,
    pub admin: Arc<SigningIdentity>,
}

impl Org {
    pub fn new(msp_id: &str) -> Self {
        let ca = Ca::new(&format!("{msp_id} ca"));
        let admin = Arc::new(ca.identity(msp_id, "admin"));
        Self { msp_id: msp_id.into(), tls_ca: Ca::new(&format!("{msp_id} tls")), ca, admin }
    }

    pub fn msp(&self) -> MspDefinition {
        MspDefinition {
            id: self.msp_id.clone(),
            root_certs: vec![self.ca.pem()],
            tls_root_certs: vec![self.tls_ca.pem()],
            ..Default::default()
        }
    }

    pub fn application(&self, anchor_peers: Vec<Endpoint>) -> ApplicationOrg {
        ApplicationOrg { msp: self.msp(), anchor_peers }
    }

    pub fn orderer(&self, nodes: &[&Node]) -> OrdererOrg {
        OrdererOrg { msp: self.msp(), endpoints: nodes.iter().map(|n| Endpoint::new(&n.host, 7050)).collect() }
    }
}

/// Where Fabric is, where the nodes keep their files, and who operates them.
pub struct Site {
    fabric: PathBuf,
    /// Where Fabric's own command line is, if it is here.
    tools: Option<PathBuf>,
    folder: tempfile::TempDir,
    subnet: String,
    operator: Ca,
    pub network: Arc<Loopback>,
}

/// A node: a process with its certificates. It is killed when dropped.
pub struct Node {
    pub host: String,
    identity: String,
    tls: String,
    tls_root: String,
    env: BTreeMap<String, String>,
    log: PathBuf,
    process: Option<Child>,
    is_embedded: bool,
}

impl Site {
    /// Uses the Fabric in `fabric`, which is laid out as Fabric's release archive: `bin`, `config`, `builders`.
    pub fn new(fabric: &Path) -> Self {
        let fabric = fs::canonicalize(fabric).expect("EHRNET_FABRIC_BIN is a folder");
        Self::at(fabric.clone(), Some(fabric), tempfile::tempdir().expect("folder"))
    }

    /// Uses programs of Fabric's names that are the embedded ledger.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let fabric = folder.path().join("fabric");
        fs::create_dir_all(fabric.join("bin")).expect("folder");
        for role in ["orderer", "peer"] {
            let path = fabric.join("bin").join(role);
            let script = format!("#!/bin/sh\nexec '{}' {role}\n", programs::devledger().display());
            fs::write(&path, script).expect("program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        Self::at(fabric, std::env::var_os("EHRNET_FABRIC_BIN").map(PathBuf::from), folder)
    }

    fn at(fabric: PathBuf, tools: Option<PathBuf>, folder: tempfile::TempDir) -> Self {
        static SITES: AtomicUsize = AtomicUsize::new(1);
        let pid = std::process::id();
        let nth = SITES.fetch_add(1, Ordering::SeqCst);
        Self {
            fabric,
            tools,
            folder,
            subnet: format!("127.{}.{}", 64 + nth, pid % 250 + 1),
            operator: Ca::new("operator"),
            network: Arc::default(),
        }
    }

    /// Prepares an orderer of `org` on the subnet's address `number`; it does not run yet.
    pub fn orderer(&self, org: &Org, number: u8) -> Node {
        let (mut node, folder) = self.node("orderer", org, number);
        fs::write(folder.join("operator.pem"), self.operator.pem()).expect("operator CA");
        let at = |path: &str| folder.join(path).display().to_string();
        let settings = [
            ("GENERAL_LISTENADDRESS", node.host.clone()),
            ("GENERAL_LISTENPORT", "7050".into()),
            ("GENERAL_LOCALMSPID", org.msp_id.clone()),
            ("GENERAL_LOCALMSPDIR", at("msp")),
            ("GENERAL_TLS_ENABLED", "true".into()),
            ("GENERAL_TLS_PRIVATEKEY", at("tls.key")),
            ("GENERAL_TLS_CERTIFICATE", at("tls.crt")),
            ("GENERAL_TLS_ROOTCAS", format!("[{}]", at("tls-ca.pem"))),
            ("ADMIN_LISTENADDRESS", format!("{}:9443", node.host)),
            ("ADMIN_TLS_ENABLED", "true".into()),
            ("ADMIN_TLS_PRIVATEKEY", at("tls.key")),
            ("ADMIN_TLS_CERTIFICATE", at("tls.crt")),
            ("ADMIN_TLS_CLIENTAUTHREQUIRED", "true".into()),
            ("ADMIN_TLS_CLIENTROOTCAS", format!("[{}]", at("operator.pem"))),
            ("OPERATIONS_LISTENADDRESS", format!("{}:8443", node.host)),
            ("FILELEDGER_LOCATION", at("ledger")),
            ("CONSENSUS_WALDIR", at("wal")),
            ("CONSENSUS_SNAPDIR", at("snap")),
        ];
        node.env.extend(settings.map(|(k, v)| (format!("ORDERER_{k}"), v)));
        node
    }

    /// Prepares a peer of `org`; it does not run yet.
    pub fn peer(&self, org: &Org, number: u8) -> Node {
        let (mut node, folder) = self.node("peer", org, number);
        let at = |path: &str| folder.join(path).display().to_string();
        let address = format!("{}:7051", node.host);
        let settings = [
            ("PEER_ID", node.host.clone()),
            ("PEER_LOCALMSPID", org.msp_id.clone()),
            ("PEER_MSPCONFIGPATH", at("msp")),
            ("PEER_LISTENADDRESS", address.clone()),
            ("PEER_ADDRESS", address.clone()),
            ("PEER_CHAINCODELISTENADDRESS", format!("{}:7052", node.host)),
            ("PEER_GOSSIP_BOOTSTRAP", address.clone()),
            ("PEER_GOSSIP_EXTERNALENDPOINT", address),
            // As the operator's peers: by default a peer whose first try failed waits 25 s.
            ("PEER_GOSSIP_RECONNECTINTERVAL", "1s".into()),
            ("PEER_FILESYSTEMPATH", at("data")),
            ("PEER_TLS_ENABLED", "true".into()),
            ("PEER_TLS_CERT_FILE", at("tls.crt")),
            ("PEER_TLS_KEY_FILE", at("tls.key")),
            ("PEER_TLS_ROOTCERT_FILE", at("tls-ca.pem")),
            ("OPERATIONS_LISTENADDRESS", format!("{}:9443", node.host)),
            ("LEDGER_SNAPSHOTS_ROOTDIR", at("snapshots")),
            ("VM_ENDPOINT", String::new()),
            ("CHAINCODE_EXTERNALBUILDERS", self.builders()),
        ];
        node.env.extend(settings.map(|(k, v)| (format!("CORE_{k}"), v)));
        node
    }

    /// The builder of chaincode services, where the published image has it elsewhere.
    fn builders(&self) -> String {
        let path = self.fabric.join("builders/ccaas");
        let environment = "propagateEnvironment: [CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG]";
        format!("[{{name: ccaas_builder, path: {}, {environment}}}]", path.display())
    }

    fn node(&self, role: &str, org: &Org, number: u8) -> (Node, PathBuf) {
        let host = format!("{}.{number}", self.subnet);
        let folder = self.folder.path().join(format!("{role}-{number}"));
        let identity = local_msp(&folder, org, role);
        let (tls, tls_key) = org.tls_ca.issue_tls(&host);
        for (path, text) in [("tls.crt", tls.clone()), ("tls.key", tls_key), ("tls-ca.pem", org.tls_ca.pem())] {
            write(&folder.join(path), &text);
        }
        let env = BTreeMap::from([
            ("FABRIC_CFG_PATH".to_owned(), self.fabric.join("config").display().to_string()),
            ("FABRIC_LOGGING_SPEC".to_owned(), "info:grpc=warn".to_owned()),
        ]);
        let log = self.folder.path().join(format!("{role}-{number}.log"));
        (Node { host, identity, tls, tls_root: org.tls_ca.pem(), env, log, process: None, is_embedded: false }, folder)
    }

    /// Runs the node and waits until its own health check says OK and it can be connected to: a peer is healthy first.
    pub async fn start(&self, node: &mut Node) {
        node.process = Some(self.command(node).spawn().expect("the node's program starts"));
        let (operations, port) = if node.is_peer() { (9443, 7051) } else { (8443, 7050) };
        eventually("the node is healthy", async || is_healthy(&node.host, operations).await.unwrap_or(false)).await;
        eventually("the node listens", async || self.network.dial(&node.host, port).await.is_ok()).await;
    }

    /// The node's program with its environment; it writes to the node's log.
    pub fn command(&self, node: &Node) -> Command {
        let (program, args) = if node.is_peer() { ("peer", &["node", "start"][..]) } else { ("orderer", &[][..]) };
        let log = File::create(&node.log).expect("log");
        let mut command = match node.is_embedded {
            false => Command::new(self.fabric.join("bin").join(program)),
            true => Command::new(programs::devledger()),
        };
        let args = if node.is_embedded { &[program] } else { args };
        command.args(args).env_clear().envs(&node.env).stdout(log.try_clone().expect("log")).stderr(log);
        command
    }

    /// Client of the node's gRPC port.
    fn target(&self, node: &Node, port: u16) -> Target {
        Target { host: node.host.clone(), port, tls_roots: vec![node.tls_root.clone()], client_identity: None }
    }

    pub fn participation(&self, node: &Node) -> participation::Client {
        let (certificate, key) = self.operator.issue_tls("operator");
        let client_identity = Some(TlsIdentity { certificate, key: key.into() });
        let target = Target { client_identity, ..self.target(node, 9443) };
        participation::Client::new(self.network.clone(), &target).expect("client")
    }

    pub fn orderer_client(&self, node: &Node, signer: &Arc<SigningIdentity>) -> orderer::Client {
        orderer::Client::new(self.network.clone(), &self.target(node, 7050), signer.clone()).expect("client")
    }

    pub fn peer_client(&self, node: &Node, signer: &Arc<SigningIdentity>) -> peer::Client {
        peer::Client::new(self.network.clone(), &self.target(node, 7051), signer.clone()).expect("client")
    }

    pub fn gateway(&self, node: &Node, signer: &Arc<SigningIdentity>) -> gateway::Client {
        gateway::Client::new(self.network.clone(), &self.target(node, 7051), signer.clone()).expect("client")
    }

    /// Runs Fabric's own `peer` command as an admin of `org` at one of its peers: what it prints. `None` without Fabric.
    pub fn cli(&self, org: &Org, peer: &Node, args: &[&str]) -> Option<String> {
        let tools = self.tools.as_ref()?;
        let folder = self.folder.path().join(format!("admin-{}", org.msp_id));
        local_msp(&folder, org, "admin");
        let root = folder.join("tls-ca.pem");
        write(&root, &org.tls_ca.pem());
        let mut command = Command::new(tools.join("bin/peer"));
        command.args(args).env_clear().env("FABRIC_CFG_PATH", tools.join("config"));
        command.env("CORE_PEER_LOCALMSPID", &org.msp_id).env("CORE_PEER_MSPCONFIGPATH", folder.join("msp"));
        command.env("CORE_PEER_ADDRESS", format!("{}:7051", peer.host));
        command.env("CORE_PEER_TLS_ENABLED", "true").env("CORE_PEER_TLS_ROOTCERT_FILE", root);
        let output = command.current_dir(self.folder.path()).output().expect("peer command");
        assert!(output.status.success(), "peer {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).expect("text"))
    }

    /// A file for the `peer` command, which runs where it is.
    pub fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("file");
    }

    /// Where such a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Makes a local MSP of a new identity with one role; its certificate.
fn local_msp(folder: &Path, org: &Org, role: &str) -> String {
    let (identity, key) = org.ca.issue(role);
    let ous: String = ["Client", "Peer", "Admin", "Orderer"]
        .map(|r| format!("  {r}OUIdentifier: {{OrganizationalUnitIdentifier: {}}}\n", r.to_lowercase()))
        .concat();
    for (path, text) in [
        ("msp/cacerts/ca.pem", org.ca.pem()),
        ("msp/tlscacerts/ca.pem", org.tls_ca.pem()),
        ("msp/signcerts/cert.pem", identity.clone()),
        ("msp/keystore/key.pem", key),
        ("msp/config.yaml", format!("NodeOUs:\n  Enable: true\n{ous}")),
    ] {
        write(&folder.join(path), &text);
    }
    identity
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(path, text).expect("file");
}

impl Node {
    fn is_peer(&self) -> bool {
        self.env.contains_key("CORE_PEER_ID")
    }

    /// Is the embedded ledger's from the next start on, among nodes of Fabric.
    pub fn embed(&mut self) {
        self.is_embedded = true;
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the node is ours");
            process.wait().expect("the node ends");
        }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A variable of its environment.
    pub fn setting(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// Changes its environment from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.into(), value.into());
    }

    /// What it wrote since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn raft_consenter(&self) -> RaftConsenter {
        RaftConsenter { endpoint: Endpoint::new(&self.host, 7050), tls_certificate: self.tls.clone() }
    }

    pub fn bft_consenter(&self, org: &Org) -> BftConsenter {
        BftConsenter {
            endpoint: Endpoint::new(&self.host, 7050),
            msp_id: org.msp_id.clone(),
            identity: self.identity.clone(),
            tls_certificate: self.tls.clone(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- {} ---", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Whether the node says of itself that nothing is wrong with it.
async fn is_healthy(host: &str, operations: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((host, operations)).await?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// Asks again every 100 ms until the answer is yes; fails after a minute.
pub async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !question().await {
        assert!(Instant::now() < until, "a minute passed before {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
