//! What the node is told: Fabric's own environment variables (`ORDERER_*`, `CORE_*`), with the defaults of Fabric's
//! sample files. Paths that are not absolute are relative to `FABRIC_CFG_PATH`.
//!
//! The trap: an empty value counts as absent for orderers but overrides the default on peers, as in Fabric.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ehrnet_fabric::duration;

/// Why the environment does not describe a node.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {name}: {reason}")]
pub struct SettingsError {
    name: String,
    reason: String,
}

/// Key pair and client rules of a TLS listener.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// Whether a client without certificate is refused.
    pub client_auth_required: bool,
    /// PEM files of the CAs that client certificates must chain to.
    pub client_roots: Vec<PathBuf>,
}

/// An address to listen on, with or without TLS.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`; nothing else is listened on.
    pub address: String,
    /// Absent: plain TCP.
    pub tls: Option<TlsFiles>,
}

/// What orderers and peers have in common.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// gRPC.
    pub grpc: Endpoint,
    /// Health, version, metrics, log level.
    pub operations: Endpoint,
    /// `Metrics.Provider` is `prometheus`.
    pub metrics: bool,
    /// The organisation's id.
    pub msp_id: String,
    /// Folder with this node's MSP and key.
    pub msp_dir: PathBuf,
    /// How far a request's timestamp may be off.
    pub time_window: Duration,
    /// Log levels, as Fabric writes them (`info`, or `name=debug:info`).
    pub log_spec: String,
    /// Hosts-like file, see [`super::hosts`].
    pub hosts: Option<PathBuf>,
    /// Faults to play, see [`super::faults`].
    pub faults: Option<PathBuf>,
}

/// An orderer's settings.
#[derive(Debug, Clone)]
pub struct OrdererSettings {
    /// Common part.
    pub node: NodeSettings,
    /// Participation REST API.
    pub admin: Endpoint,
    /// Ledgers.
    pub ledger_dir: PathBuf,
    /// Raft logs.
    pub wal_dir: PathBuf,
    /// Raft snapshots.
    pub snap_dir: PathBuf,
    /// Limit of a participation request, in bytes.
    pub max_request_body: usize,
    /// `General.Authentication.NoExpirationChecks`.
    pub no_expiration_checks: bool,
}

/// A peer's settings.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    /// Common part.
    pub node: NodeSettings,
    /// Ledgers.
    pub ledger_dir: PathBuf,
    /// Longest wait between two attempts to reach an orderer.
    pub reconnect_max: Duration,
    /// Private data whose transactions have not come yet.
    pub transient_dir: PathBuf,
    /// Chaincode packages.
    pub packages_dir: PathBuf,
    /// Values for the templates in packages' `connection.json`, as JSON.
    pub builder_config: String,
    /// How long a chaincode may take for one call.
    pub execute_limit: Duration,
    /// How long a chaincode may take to be reached and to register.
    pub startup_limit: Duration,
    /// Addresses under which others know this peer.
    pub own_addresses: Vec<String>,
    /// Other peers of the organisation.
    pub bootstrap: Vec<String>,
    /// How long a block waits for private data that has to be pulled.
    pub pull_limit: Duration,
    /// How often private data that is still missing is looked for.
    pub reconcile_interval: Duration,
}

/// The environment, given as a map so that tests need no process.
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; those that are no UTF-8 cannot be meant for us.
    pub fn of_process() -> Self {
        let text = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self(text.collect())
    }

    /// An orderer's settings.
    ///
    /// # Errors
    /// A value that is not of its kind.
    pub fn orderer(self) -> Result<OrdererSettings, SettingsError> {
        let v = Reader { prefix: "ORDERER_", empty_overrides: false, vars: self.0 };
        let host = v.text("GENERAL_LISTENADDRESS", "127.0.0.1");
        let port: u16 = v.number("GENERAL_LISTENPORT", 7050)?;
        let base = v.path("FILELEDGER_LOCATION", "/var/hyperledger/production/orderer");
        let etcdraft = Path::new("/var/hyperledger/production/orderer/etcdraft");
        Ok(OrdererSettings {
            node: NodeSettings {
                grpc: Endpoint {
                    address: join_host(&host, port),
                    tls: v.tls("GENERAL_TLS", ["CERTIFICATE", "PRIVATEKEY", "CLIENTAUTHREQUIRED", "CLIENTROOTCAS"])?,
                },
                operations: v.web("OPERATIONS", "127.0.0.1:8443")?,
                metrics: v.text("METRICS_PROVIDER", "disabled") == "prometheus",
                msp_id: v.text("GENERAL_LOCALMSPID", "SampleOrg"),
                msp_dir: v.path("GENERAL_LOCALMSPDIR", "msp"),
                time_window: v.duration("GENERAL_AUTHENTICATION_TIMEWINDOW", Duration::from_secs(900))?,
                log_spec: v.shared("FABRIC_LOGGING_SPEC").unwrap_or_else(|| "info".into()),
                hosts: v.shared("EHRNET_DEVLEDGER_HOSTS").map(PathBuf::from),
                faults: v.shared("EHRNET_DEVLEDGER_FAULTS").map(PathBuf::from),
            },
            admin: v.web("ADMIN", "127.0.0.1:9443")?,
            ledger_dir: base,
            wal_dir: v.path("CONSENSUS_WALDIR", &etcdraft.join("wal").to_string_lossy()),
            snap_dir: v.path("CONSENSUS_SNAPDIR", &etcdraft.join("snapshot").to_string_lossy()),
            max_request_body: v.bytes("CHANNELPARTICIPATION_MAXREQUESTBODYSIZE", 1024 * 1024)?,
            no_expiration_checks: v.flag("GENERAL_AUTHENTICATION_NOEXPIRATIONCHECKS")?,
        })
    }

    /// A peer's settings.
    ///
    /// # Errors
    /// A value that is not of its kind.
    pub fn peer(self) -> Result<PeerSettings, SettingsError> {
        let v = Reader { prefix: "CORE_", empty_overrides: true, vars: self.0 };
        let base = v.path("PEER_FILESYSTEMPATH", "/var/hyperledger/production");
        let keys = ["CERT_FILE", "KEY_FILE", "CLIENTAUTHREQUIRED", "CLIENTROOTCAS_FILES"];
        Ok(PeerSettings {
            node: NodeSettings {
                grpc: Endpoint { address: v.text("PEER_LISTENADDRESS", "0.0.0.0:7051"), tls: v.tls("PEER_TLS", keys)? },
                operations: Endpoint {
                    address: v.text("OPERATIONS_LISTENADDRESS", "127.0.0.1:9443"),
                    tls: v.tls("OPERATIONS_TLS", keys)?,
                },
                metrics: v.text("METRICS_PROVIDER", "disabled") == "prometheus",
                msp_id: v.text("PEER_LOCALMSPID", "SampleOrg"),
                msp_dir: v.path("PEER_MSPCONFIGPATH", "msp"),
                time_window: v.duration("PEER_AUTHENTICATION_TIMEWINDOW", Duration::from_secs(900))?,
                log_spec: v.shared("FABRIC_LOGGING_SPEC").unwrap_or_else(|| "info".into()),
                hosts: v.shared("EHRNET_DEVLEDGER_HOSTS").map(PathBuf::from),
                faults: v.shared("EHRNET_DEVLEDGER_FAULTS").map(PathBuf::from),
            },
            ledger_dir: base.join("ledgersData"),
            reconnect_max: v.duration("PEER_DELIVERYCLIENT_RECONNECTBACKOFFTHRESHOLD", Duration::from_secs(5))?,
            transient_dir: base.join("transientstore"),
            packages_dir: base.join("lifecycle").join("chaincodes"),
            builder_config: v.shared("CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG").unwrap_or_default(),
            execute_limit: v.duration("CHAINCODE_EXECUTETIMEOUT", Duration::from_secs(30))?,
            startup_limit: v.duration("CHAINCODE_STARTUPTIMEOUT", Duration::from_secs(300))?,
            own_addresses: ["PEER_ADDRESS", "PEER_GOSSIP_ENDPOINT", "PEER_GOSSIP_EXTERNALENDPOINT"]
                .iter()
                .map(|key| v.text(key, ""))
                .filter(|address| !address.is_empty())
                .collect(),
            bootstrap: v.list("PEER_GOSSIP_BOOTSTRAP"),
            // Fabric waits a minute; here nobody has to be found by gossip first.
            pull_limit: v.duration("PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD", Duration::from_secs(5))?,
            reconcile_interval: v.duration("PEER_GOSSIP_PVTDATA_RECONCILESLEEPINTERVAL", Duration::from_secs(60))?,
        })
    }
}

struct Reader {
    prefix: &'static str,
    empty_overrides: bool,
    vars: BTreeMap<String, String>,
}

impl Reader {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.vars.get(&format!("{}{key}", self.prefix))?;
        (self.empty_overrides || !value.is_empty()).then_some(value)
    }

    /// A variable without the node's prefix.
    fn shared(&self, key: &str) -> Option<String> {
        self.vars.get(key).filter(|v| !v.is_empty()).cloned()
    }

    fn text(&self, key: &str, default: &str) -> String {
        self.get(key).unwrap_or(default).to_owned()
    }

    fn path(&self, key: &str, default: &str) -> PathBuf {
        self.relative(&self.text(key, default))
    }

    fn relative(&self, path: &str) -> PathBuf {
        Path::new(self.vars.get("FABRIC_CFG_PATH").map_or("", String::as_str)).join(path)
    }

    fn parsed<T>(&self, key: &str, default: T, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, SettingsError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        parse(value).ok_or_else(|| SettingsError {
            name: format!("{}{key}", self.prefix),
            reason: format!("{value:?} is not a {}", short_type_name::<T>()),
        })
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T, SettingsError> {
        self.parsed(key, default, |v| v.parse().ok())
    }

    fn flag(&self, key: &str) -> Result<bool, SettingsError> {
        self.parsed(key, false, |v| match v.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Some(true),
            "false" | "0" | "f" | "" => Some(false),
            _ => None,
        })
    }

    fn duration(&self, key: &str, default: Duration) -> Result<Duration, SettingsError> {
        self.parsed(key, default, duration::parse)
    }

    /// `1 MB`, `512kb` or a bare number: Fabric's units are powers of 1024.
    fn bytes(&self, key: &str, default: usize) -> Result<usize, SettingsError> {
        self.parsed(key, default, |v| {
            let v = v.trim().to_ascii_lowercase();
            let digits = v.find(|c: char| !c.is_ascii_digit()).unwrap_or(v.len());
            let factor = match v[digits..].trim() {
                "" | "b" => 1,
                "k" | "kb" => 1024,
                "m" | "mb" => 1024 * 1024,
                "g" | "gb" => 1024 * 1024 * 1024,
                _ => return None,
            };
            v[..digits].parse::<usize>().ok()?.checked_mul(factor)
        })
    }

    /// `[a, b]`, `a b` or `a,b`.
    fn list(&self, key: &str) -> Vec<String> {
        let text = self.text(key, "");
        let separators = |c: char| c == ',' || c.is_whitespace();
        let items = text.trim_start_matches('[').trim_end_matches(']').split(separators);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn paths(&self, key: &str) -> Vec<PathBuf> {
        self.list(key).iter().map(|item| self.relative(item)).collect()
    }

    fn tls(&self, key: &str, names: [&str; 4]) -> Result<Option<TlsFiles>, SettingsError> {
        let [certificate, private_key, client_auth, roots] = names.map(|name| format!("{key}_{name}"));
        if !self.flag(&format!("{key}_ENABLED"))? {
            return Ok(None);
        }
        Ok(Some(TlsFiles {
            certificate: self.path(&certificate, "tls/server.crt"),
            key: self.path(&private_key, "tls/server.key"),
            client_auth_required: self.flag(&client_auth)?,
            client_roots: self.paths(&roots),
        }))
    }

    fn web(&self, key: &str, default: &str) -> Result<Endpoint, SettingsError> {
        let names = ["CERTIFICATE", "PRIVATEKEY", "CLIENTAUTHREQUIRED", "CLIENTROOTCAS"];
        Ok(Endpoint {
            address: self.text(&format!("{key}_LISTENADDRESS"), default),
            tls: self.tls(&format!("{key}_TLS"), names)?,
        })
    }
}

fn join_host(host: &str, port: u16) -> String {
    ehrnet_fabric::Endpoint::new(host, port).to_string()
}

fn short_type_name<T>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or("value")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn an_orderer_reads_fabrics_variables_and_ignores_empty_ones() {
        let orderer = environment(&[
            ("ORDERER_GENERAL_LISTENADDRESS", "127.0.0.9"),
            ("ORDERER_GENERAL_LISTENPORT", ""),
            ("ORDERER_ADMIN_TLS_ENABLED", "true"),
            ("ORDERER_ADMIN_TLS_CLIENTROOTCAS", "[/a/ca.pem, b.pem]"),
            ("ORDERER_CHANNELPARTICIPATION_MAXREQUESTBODYSIZE", "2 MB"),
            ("FABRIC_CFG_PATH", "/etc/hyperledger/fabric"),
        ]);
        let orderer = orderer.orderer().unwrap();
        assert_eq!(orderer.node.grpc.address, "127.0.0.9:7050");
        assert!(orderer.node.grpc.tls.is_none());
        let admin = orderer.admin.tls.unwrap();
        assert_eq!(admin.client_roots, [Path::new("/a/ca.pem"), Path::new("/etc/hyperledger/fabric/b.pem")]);
        assert_eq!(orderer.max_request_body, 2 * 1024 * 1024);
        assert_eq!(orderer.node.msp_dir, Path::new("/etc/hyperledger/fabric/msp"));
    }

    #[test]
    fn a_peer_lets_empty_values_override() {
        let peer = environment(&[("CORE_PEER_LOCALMSPID", ""), ("CORE_PEER_FILESYSTEMPATH", "/data")]).peer().unwrap();
        assert_eq!(peer.node.msp_id, "");
        assert_eq!(peer.ledger_dir, Path::new("/data/ledgersData"));
    }

    #[test]
    fn a_wrong_value_names_the_variable() {
        let error = environment(&[("ORDERER_GENERAL_LISTENPORT", "many")]).orderer().unwrap_err();
        assert_eq!(error.to_string(), "environment variable ORDERER_GENERAL_LISTENPORT: \"many\" is not a u16");
    }
}
