//! Private data: kept by the peers of a collection's members only; everybody else has its hashes.
//!
//! ```text
//!  simulation ──> transient (until its block comes) ── push ──> members' peers (their transient)
//!                     │                                           │
//!  block ──> parts (what a block needs) ──> store (on disk) <── pull, on a miss: before the commit, later again
//! ```
//! There is no gossip here: members' peers are found by the anchor peers in the channel's configuration and by the
//! bootstrap addresses of the own organisation, and spoken to by a service of our own (`exchange`). What is pushed and
//! pulled is believed only if it fits the hashes in the block.

pub mod contacts;
pub mod exchange;
pub mod members;
pub mod parts;
pub mod reconcile;
pub mod store;
pub mod transient;
