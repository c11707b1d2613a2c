//! ehrnet: a Kubernetes operator that runs Hyperledger Fabric networks for electronic health records.
//!
//! ```text
//!  YAML ──> api ──> controllers ── observe ──> desired ──> apply ──> cluster
//!                        │         (reads)     (pure)     (writes)
//!                        ├── pki (pure): certificates and renewal decisions
//!                        ├── fabric: the ledger's protocol ──> orderers and peers
//!                        └── status (pure, then one write)
//!
//!  cli ──> client ──gateway──┐
//!  peers ──> contract <──────┘ ──> consent (pure): who may read, decided on the ledger
//! ```
//!
//! Arrows point one way: `controllers` use the rooms, the rooms use `api`. `api`, `desired`, `pki`, `fabric`,
//! `consent`, `contract` and `client` never touch a Kubernetes client; `tests/walls.rs` proves it.

pub mod api;
pub mod apply;
pub mod cli;
pub mod client;
pub mod consent;
pub mod contract;
pub mod controllers;
pub mod demo;
pub mod desired;
pub mod devledger;
pub mod fabric;
pub mod observe;
pub mod operator;
pub mod pki;
pub mod runtime;
pub mod status;
