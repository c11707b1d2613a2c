//! The health-record contract: which calls it has, what they decide, and how it is served to peers.

pub mod hash;
pub mod messages;
