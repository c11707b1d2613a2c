//! The health-record contract: which calls it has, what they decide, and how it is served to peers.
//!
//! ```text
//!  peer ──gRPC──> shim ──> call, caller ──> invoke ──┬─> records  consents  policies
//!                  │      (checked input)            └─> access ──> audit, reviews
//!                  └────── ChaincodeStub <── reads ── transaction ── effects ──> writes, event
//!                                                             └─ ehrnet_consent decides
//! ```
//!
//! Everything is a function of the call and of the ledger: no clock but the transaction's, no randomness, no floats, no
//! order of hash maps. Hospitals that run the same contract therefore answer the same, and one that does not cannot
//! get its answer committed.
//!
//! Limits to know. Pseudonyms and salted hashes may still be personal data; the certificates of callers stand in every
//! transaction; a member can copy private data before it is purged. Time is the client's, and holds only to the window
//! of the peers' filter `TimeWindowCheck` (15 minutes). Somebody who *submits* a function that is to be evaluated
//! publishes the answer that they may read.

mod access;
mod audit;
pub mod call;
pub mod caller;
mod consents;
pub mod error;
mod invoke;
mod keys;
mod policies;
mod records;
mod reviews;
pub mod shim;
pub mod stub;
#[cfg(test)]
mod tests;
mod transaction;

pub use call::Call;
pub use error::ContractError;
pub use invoke::invoke;
