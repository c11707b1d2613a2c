//! Peers of other organisations, and of the own one, that this peer knows the address of.

use rustls::pki_types::CertificateDer;

use crate::channel::bundle::Bundle;
use crate::channel::certificate;
use ehrnet_fabric::Endpoint;

/// A peer's address, and how to know that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Its organisation.
    pub msp_id: String,
    /// Name to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// CAs of its TLS certificate (DER).
    pub roots: Vec<CertificateDer<'static>>,
}

/// Where this peer itself is found, and which peers of its organisation its settings name (`bootstrap`).
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// The own organisation.
    pub msp_id: String,
    /// Own addresses (`host:port`).
    pub own: Vec<String>,
    /// Other peers of the own organisation (`host:port`).
    pub bootstrap: Vec<String>,
}

impl Directory {
    /// The other peers of a channel's organisations: their anchor peers, and those this peer was started with.
    pub fn contacts(&self, bundle: &Bundle) -> Vec<Contact> {
        let mut found: Vec<Contact> = Vec::new();
        for org in bundle.application.iter().flatten() {
            let roots: Vec<CertificateDer<'static>> =
                org.tls_roots.iter().filter_map(|pem| certificate::der(pem)).map(CertificateDer::from).collect();
            let bootstrap = self.bootstrap.iter().filter(|_| org.msp_id == self.msp_id);
            let bootstrap =
                bootstrap.filter_map(|address| address.parse().ok().map(|Endpoint { host, port }| (host, port)));
            for (host, port) in org.anchor_peers.iter().cloned().chain(bootstrap) {
                let is_self = self.own.contains(&Endpoint::new(host.as_str(), port).to_string());
                if !is_self && !found.iter().any(|known| known.host == host && known.port == port) {
                    found.push(Contact { msp_id: org.msp_id.clone(), host, port, roots: roots.clone() });
                }
            }
        }
        found
    }
}

/// One contact of each organisation first, then the rest: data is spread over organisations before it is spread within
/// one.
pub fn spread(contacts: Vec<Contact>) -> Vec<Contact> {
    let mut first: Vec<Contact> = Vec::new();
    let mut rest = Vec::new();
    for contact in contacts {
        let known = first.iter().any(|known| known.msp_id == contact.msp_id);
        if known { rest.push(contact) } else { first.push(contact) }
    }
    first.append(&mut rest);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_organisation_comes_first_once() {
        let contact =
            |msp_id: &str, host: &str| Contact { msp_id: msp_id.into(), host: host.into(), port: 7051, roots: vec![] };
        let spread = spread(vec![contact("A", "1"), contact("A", "2"), contact("B", "3")]);
        assert_eq!(spread.iter().map(|c| c.host.as_str()).collect::<Vec<_>>(), ["1", "3", "2"]);
    }
}
