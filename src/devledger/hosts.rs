//! Name resolution: the system's, or a hosts-like file for test networks on loopback addresses.
//!
//! `EHRNET_DEVLEDGER_HOSTS` names the file (`IP name...` per line, `#` starts a comment). It is read at every dial, so
//! an edit counts from the next connection on. A name that the file lacks is resolved as usual.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpStream;

/// Resolver of this process.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    file: Option<PathBuf>,
}

impl Hosts {
    /// Use `file`, or only the system's resolver.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// Open a TCP connection to `host:port`.
    ///
    /// # Errors
    /// The file cannot be read, the name is unknown, or nobody listens.
    pub async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = match self.look_up(host)? {
            Some(ip) => TcpStream::connect(SocketAddr::new(ip, port)).await?,
            None => TcpStream::connect((host, port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn look_up(&self, host: &str) -> io::Result<Option<IpAddr>> {
        let Some(file) = &self.file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .map_err(|e| io::Error::new(e.kind(), format!("hosts file {}: {e}", file.display())))?;
        Ok(find(&text, host))
    }
}

fn find(text: &str, host: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_any_name_of_a_line_and_ignores_comments() {
        let text = "# nodes\n127.0.1.2 a a.ns.svc # b\n127.0.1.3 c";
        assert_eq!(find(text, "A.ns.svc"), "127.0.1.2".parse().ok());
        assert_eq!(find(text, "c"), "127.0.1.3".parse().ok());
        assert_eq!(find(text, "b"), None);
    }
}
