//! Fabric's messages, generated from `src/fabric/messages/`. Modules are named as Fabric's packages.
//!
//! `MSPPrincipal` and its kin live in package `common`, as in Fabric. Maps are ordered, so that encoding is deterministic.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/fabric.rs"));

pub use orderer::{etcdraft, smartbft};
