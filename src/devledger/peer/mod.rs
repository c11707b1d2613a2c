//! The peer: joins channels, follows their orderers, and answers what administrators ask.
//!
//! Chaincode, endorsement and validation of transactions are not part of it yet: a block's transactions other than
//! configurations are stored as not validated.

pub mod channels;
pub mod endorser;
pub mod service;
pub mod system;
