//! Validation of a block: which of its transactions count, and what they change.
//!
//! ```text
//!  envelope ──> transaction (form, creator) ──> endorsement (policies) ──> conflicts (versions) ──> updates
//! ```
//! Pure: the same block on the same state under the same configuration gives the same verdicts everywhere. The first two
//! judge by the state before the block, the last by the state after the transactions before.

pub mod block;
pub mod conflicts;
pub mod endorsement;
pub mod transaction;
