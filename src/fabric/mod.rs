//! The Hyperledger Fabric 3 protocol: messages, identities, configuration and the clients that administer nodes.
//!
//! Nothing here knows Kubernetes.

pub mod proto;
