//! The ordering service node.

pub mod broadcast;
pub mod chain;
pub mod channel;
pub mod cluster;
pub mod cutter;
pub mod filters;
pub mod participation;
pub mod registrar;
pub mod service;
pub mod writer;

use std::sync::Arc;

use super::channel::bundle::Bundle;
use super::pull::Puller;
use super::settings::OrdererSettings;
use ehrnet_fabric::identity::SigningIdentity;

/// What all channels of this node share.
pub struct Node {
    /// The environment.
    pub settings: OrdererSettings,
    /// This node's identity.
    pub signer: Arc<SigningIdentity>,
    /// Its TLS certificate, DER.
    pub tls_certificate: Option<Vec<u8>>,
    /// Other orderers.
    pub cluster: Arc<cluster::Cluster>,
    /// Fetches blocks.
    pub puller: Arc<Puller>,
}

impl Node {
    /// Where this node stands in a channel's list of consenters, if it does.
    pub fn position(&self, bundle: &Bundle) -> Option<usize> {
        let enrolment = self.signer.certificate_pem().as_bytes();
        bundle.orderer.consenters.position(self.tls_certificate.as_deref(), enrolment)
    }
}
