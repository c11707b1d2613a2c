//! The Hyperledger Fabric 3 protocol: messages, identities, configuration and the clients that administer nodes.
//!
//! ```text
//! definition ── config_tree ──> genesis            what a channel should be; its first block
//!      │
//!      └─ plan ── config_update ──> verbs          from what it is to what it should be, step by step
//!           │          │              │
//!           │   config_rules,         └── participation, orderer, peer, operations ── net
//!           │   authorization, membership          what nodes accept, and from whom
//!          view                                    what a configuration says
//!
//! chaincode ── package, lifecycle                        a contract as declared; how hospitals agree on it
//! proposal ── peer, gateway                              transactions: asked for, endorsed, ordered, committed
//!
//! endpoint, identity, msp, policy, blocks, envelope, duration    the pieces messages are made of
//! ```
//! Nothing here knows Kubernetes. Decisions are pure; time and randomness come in one [`envelope::Stamp`].

pub mod authorization;
pub mod blocks;
pub mod chaincode;
#[cfg(test)]
mod client_tests;
pub mod config_rules;
pub mod config_tree;
pub mod config_update;
pub mod definition;
pub mod duration;
mod endpoint;
pub mod envelope;
mod error;
pub mod gateway;
pub mod genesis;
mod grpc;
mod http;
pub mod identity;
pub mod lifecycle;
pub mod membership;
pub mod msp;
pub mod net;
pub mod operations;
pub mod orderer;
pub mod package;
pub mod participation;
pub mod peer;
pub mod plan;
pub mod policy;
pub mod proposal;
pub mod proto;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verbs;
pub mod view;

pub use endpoint::{Endpoint, NotAnEndpoint};
pub use error::{LedgerError, NodeRefusal, NotAllowed};
