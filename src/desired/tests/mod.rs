//! Builders against fixtures whose every name differs from the product's and from each other, so that a swapped one shows.

mod fixtures;
mod policy;
mod properties;
mod snapshots;
