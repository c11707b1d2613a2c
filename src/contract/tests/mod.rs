//! Every rule of the contract, on a ledger in memory. `C1`, `C2`, ... are the acceptance tests of the project's list.

mod access;
mod audit;
mod consents;
mod found;
mod policies;
mod privacy;
mod readings;
mod records;
mod reviews;
pub(super) mod world;
