//! Simulation: a chaincode call on a snapshot of the state, its reads and writes noted down.
//!
//! A simulation sees the state as it was when it began and never its own writes, as in Fabric. Nothing is changed before
//! the transaction comes back in a block.

pub mod interest;
pub mod queries;
pub mod simulator;
