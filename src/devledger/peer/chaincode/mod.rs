//! Chaincode as a service: installed packages, connections to contracts, and what contracts ask of a simulation.
//!
//! ```text
//!   packages (on disk) ──> runtime ──> stream ── gRPC Chaincode/Connect ── contract
//!                                        │
//!                                    requests ──> simulate
//! ```
//! The peer connects to the contract, at the first call, and keeps one connection per package for all channels.

pub mod packages;
pub mod requests;
pub mod runtime;
pub mod stream;
