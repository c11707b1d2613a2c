//! `host:port`, the one way in which nodes are named: in resources, in channel configurations, in bundles, on command lines.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host name or IP address and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host name or IP address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host:port with a port from 1 to 65535")]
pub struct NotAnEndpoint(pub String);

impl Endpoint {
    /// An endpoint.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        parse(text).ok_or_else(|| NotAnEndpoint(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Endpoint> {
    let (host, digits) = text.rsplit_once(':')?;
    // One spelling for each port: neither `+1` nor `01`.
    let port = digits.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == digits)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address)?,
        None => Some(host).filter(|host| is_host(host))?,
    };
    Some(Endpoint::new(host, port))
}

/// A DNS name or an IPv4 address, by its letters alone.
fn is_host(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(outer) && text.ends_with(outer) && text.chars().all(inner)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_back_as_it_is_written() {
        for (host, port) in [("a.example", 1), ("10.0.0.7", 7051), ("::1", 7051), ("a-1", 65535)] {
            let endpoint = Endpoint::new(host, port);
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
        assert_eq!(Endpoint::new("::1", 7051).to_string(), "[::1]:7051");
    }

    #[test]
    fn what_is_not_a_host_and_a_port_is_refused() {
        for bad in [
            "a", "a:", "a:0", "a:01", "a:+1", "a:65536", ":1", "", "a:b:1", "::1:7051", "[::1]", "[a]:1", "[]:1",
            "-a:1", "a.:1", "a_b:1", " a:1",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(NotAnEndpoint(bad.to_owned())));
        }
    }
}
