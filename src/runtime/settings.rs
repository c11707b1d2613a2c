//! Settings of `ehrnet operator`: flags, each with an environment variable that the chart sets.
//!
//! Invariant: nothing else reads the environment. Only what differs between installations is a setting; what a user
//! may want to differ between two nodes of one network belongs into a resource's spec.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// How the operator runs. Flags win over environment variables.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces to watch, separated by commas; `*` for all; empty for the operator's own.
    #[arg(long, env = "EHRNET_WATCH_NAMESPACES", default_value = "", hide_default_value = true)]
    pub watch_namespaces: Namespaces,

    /// Default image and command of each kind of container.
    #[command(flatten)]
    pub images: Images,

    /// Leader election.
    #[command(flatten)]
    pub lease: LeaseSettings,

    /// Reconciles that may run at once, over all resources of one kind.
    #[arg(long, env = "EHRNET_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Address of `/metrics`.
    #[arg(long, env = "EHRNET_METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: SocketAddr,

    /// Address of `/healthz` and `/readyz`.
    #[arg(long, env = "EHRNET_HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_address: SocketAddr,

    /// Form of the log: `json` for machines, `human` for people.
    #[arg(long, env = "EHRNET_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as `info,ehrnet_fabric=debug`.
    #[arg(long, env = "EHRNET_LOG", default_value = "info")]
    pub log: String,

    /// DNS domain of the cluster, for certificates.
    #[arg(long, env = "EHRNET_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Images of the containers that the operator starts, where a resource names none.
///
/// A command replaces the image's own. It stands here and not in a resource because it goes with the image.
#[derive(Args, Clone, Debug)]
pub struct Images {
    /// Image of orderers.
    #[arg(long, env = "EHRNET_ORDERER_IMAGE", default_value = "docker.io/hyperledger/fabric-orderer:3.1")]
    pub orderer_image: String,
    /// Command of orderers, words separated by blanks; the image's own if empty.
    #[arg(long, env = "EHRNET_ORDERER_COMMAND", default_value = "", hide_default_value = true)]
    pub orderer_command: Words,
    /// Image of peers.
    #[arg(long, env = "EHRNET_PEER_IMAGE", default_value = "docker.io/hyperledger/fabric-peer:3.1")]
    pub peer_image: String,
    /// Command of peers, words separated by blanks; the image's own if empty.
    #[arg(long, env = "EHRNET_PEER_COMMAND", default_value = "", hide_default_value = true)]
    pub peer_command: Words,
    /// Image of the CouchDB beside a peer.
    #[arg(long, env = "EHRNET_COUCHDB_IMAGE", default_value = "docker.io/library/couchdb:3.4.2")]
    pub couchdb_image: String,
    /// Command of CouchDB, words separated by blanks; the image's own if empty.
    #[arg(long, env = "EHRNET_COUCHDB_COMMAND", default_value = "", hide_default_value = true)]
    pub couchdb_command: Words,
    /// Image of contracts.
    #[arg(long, env = "EHRNET_CONTRACT_IMAGE", default_value = concat!("ehrnet.dev/ehrnet-contract:", env!("CARGO_PKG_VERSION")))]
    pub contract_image: String,
    /// Command of contracts, words separated by blanks; the image's own if empty.
    #[arg(long, env = "EHRNET_CONTRACT_COMMAND", default_value = "", hide_default_value = true)]
    pub contract_command: Words,
}

/// Leader election by a Lease.
#[derive(Args, Clone, Debug)]
pub struct LeaseSettings {
    /// Whether to write only while holding the Lease. Off only where nothing can ever start a second operator.
    #[arg(long, env = "EHRNET_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "EHRNET_LEASE_NAME", default_value = "ehrnet-operator")]
    pub lease_name: String,
    /// Namespace of the Lease; the operator's own if absent.
    #[arg(long, env = "EHRNET_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Who this process is in the Lease: unique among the processes alive at one time. The pod's name is: a container
    /// that starts again in the same pod takes its own lease back at once. A random one if absent.
    #[arg(long, env = "EHRNET_IDENTITY")]
    pub identity: Option<String>,
}

/// The namespaces that the operator looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// The one that the operator itself lives in.
    Own,
    /// These, at least one, each once, in the given order.
    Listed(Vec<String>),
    /// All of the cluster.
    All,
}

/// Why a list of namespaces is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NamespacesError {
    /// An element that cannot be the name of a namespace.
    #[error("`{0}` is not the name of a namespace: lower-case letters, digits and `-`, at most 63 characters")]
    NotAName(String),
}

impl FromStr for Namespaces {
    type Err = NamespacesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !is_dns_label(name) {
                return Err(NamespacesError::NotAName(name.to_owned()));
            }
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Ok(if names.is_empty() { Self::Own } else { Self::Listed(names) })
    }
}

/// RFC 1123 label, the form of a namespace's name.
fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A command: words separated by blanks, without quoting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl FromStr for Words {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Human,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(arguments: &[&str]) -> Result<Settings, clap::Error> {
        Cli::try_parse_from(std::iter::once("operator").chain(arguments.iter().copied())).map(|cli| cli.settings)
    }

    #[test]
    fn no_argument_means_own_namespace_published_images_and_leader_election() {
        let settings = parse(&[]).expect("defaults are valid");
        assert_eq!(settings.watch_namespaces, Namespaces::Own);
        assert!(settings.lease.leader_election);
        assert!(settings.images.peer_image.contains("hyperledger/fabric-peer"));
        assert_eq!(settings.images.peer_command, Words::default());
    }

    #[test]
    fn namespaces_are_one_a_list_or_all() {
        assert_eq!("*".parse(), Ok(Namespaces::All));
        assert_eq!("mercy".parse(), Ok(Namespaces::Listed(vec!["mercy".into()])));
        assert_eq!("mercy, charite,mercy,".parse(), Ok(Namespaces::Listed(vec!["mercy".into(), "charite".into()])));
        assert_eq!(" ".parse(), Ok(Namespaces::Own));
        for bad in ["Mercy", "-a", "a-", "a.b", "*,a", &"a".repeat(64)] {
            assert!(bad.parse::<Namespaces>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_is_split_at_blanks() {
        let settings = parse(&["--peer-command", "/bin/node  start --fast"]).expect("valid");
        assert_eq!(settings.images.peer_command.0, ["/bin/node", "start", "--fast"]);
    }

    #[test]
    fn leader_election_can_be_switched_off_and_concurrency_is_bounded() {
        assert!(!parse(&["--leader-election", "false"]).expect("valid").lease.leader_election);
        assert!(parse(&["--concurrency", "0"]).is_err());
        assert!(parse(&["--concurrency", "257"]).is_err());
    }
}
