//! Chaincode as a service: installed packages, connections to chaincodes, and what chaincodes ask of a simulation.
//!
//! ```text
//!   packages (on disk) ──> runtime ──> stream ── gRPC Chaincode/Connect ── chaincode
//!                                        │
//!                                    requests ──> simulate
//! ```
//! The peer connects to the chaincode, at the first call, and keeps one connection per package for all channels.

pub mod packages;
pub mod requests;
pub mod runtime;
pub mod stream;
