//! The programs under test: those that Cargo built for the tests, or those in the folder that `EHRNET_TEST_PROGRAMS` names.

use std::path::PathBuf;

/// The operator and the commands.
pub fn ehrnet() -> PathBuf {
    program("ehrnet", env!("CARGO_BIN_EXE_ehrnet"))
}

/// The health-record contract.
pub fn contract() -> PathBuf {
    program("ehrnet-contract", env!("CARGO_BIN_EXE_ehrnet-contract"))
}

/// A node of the embedded ledger.
pub fn devledger() -> PathBuf {
    program("ehrnet-devledger", env!("CARGO_BIN_EXE_ehrnet-devledger"))
}

fn program(name: &str, built: &str) -> PathBuf {
    std::env::var_os("EHRNET_TEST_PROGRAMS").map_or_else(|| built.into(), |folder| PathBuf::from(folder).join(name))
}
