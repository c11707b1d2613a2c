//! gRPC connections to other nodes, made when they are first needed and kept for as long as they work.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tonic::transport::Channel;

use super::dial::{self, Callee, TlsIdentity};
use super::hosts::Hosts;

/// A node's name and port.
type Place = (String, u16);

/// The connections of one node.
pub struct Connections {
    hosts: Hosts,
    identity: Option<TlsIdentity>,
    open: Mutex<HashMap<Place, Channel>>,
}

impl Connections {
    /// None yet. `identity`: the node's own TLS certificate, for others that ask for one.
    pub fn new(hosts: Hosts, identity: Option<TlsIdentity>) -> Self {
        Self { hosts, identity, open: Mutex::default() }
    }

    /// The connection to a node; without TLS if there is no CA to know it by (`roots`).
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn to(&self, host: &str, port: u16, roots: &[CertificateDer<'static>]) -> Result<Channel, String> {
        let place = (host.to_owned(), port);
        if let Some(open) = self.open().get(&place) {
            return Ok(open.clone());
        }
        let made = if roots.is_empty() {
            dial::connect_plain(&self.hosts, host, port).await
        } else {
            let callee = Callee { host: host.to_owned(), port, roots: roots.to_vec(), expected: None };
            dial::connect(&self.hosts, callee, self.identity.as_ref()).await
        };
        let made = made.map_err(|e| e.to_string())?;
        self.open().insert(place, made.clone());
        Ok(made)
    }

    /// The connection to a node does not work: make a new one next time.
    pub fn forget(&self, host: &str, port: u16) {
        self.open().remove(&(host.to_owned(), port));
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Place, Channel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
