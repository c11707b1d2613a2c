//! Ledgers on disk.

pub mod blocks;
pub mod records;
