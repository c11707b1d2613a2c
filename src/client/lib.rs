//! Using the ledger: what a hospital's systems and people do with nothing but a client bundle.
//!
//! ```text
//!  bundle (a folder) ──> Contract ──> gateway of the hospital's peer ──> chaincode
//!                          ▲
//!        records  consents  access  audit      one file for each thing people do
//!                          │
//!        object   explain   audit_event  audit_csv  audit_table  table      (pure)
//! ```
//!
//! Patients go by their pseudonym from here on, salts are made here, and what is private goes into the transient map
//! only. Nothing here knows Kubernetes.

pub mod access;
pub mod audit;
pub mod audit_csv;
pub mod audit_event;
pub mod audit_table;
pub mod bundle;
pub mod consents;
pub mod contract;
pub mod explain;
pub mod object;
pub mod records;
pub mod table;

pub use bundle::Bundle;
pub use contract::Contract;
pub use ehrnet_fabric::Endpoint;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was given cannot be used.
    #[error("{0}")]
    Input(String),
    /// The ledger refused, or could not be reached.
    #[error("{function}: {source}")]
    Ledger {
        /// Function of the contract.
        function: &'static str,
        /// What the ledger says.
        source: ehrnet_fabric::LedgerError,
    },
    /// Hospitals came to different results. Nothing was committed.
    #[error(
        "{function}: the hospitals disagree on the result, and nothing was committed ({source}): one of them runs an \
         altered contract, or its peer is behind; try again, then ask the hospitals' operators"
    )]
    Disagreement {
        /// Function of the contract.
        function: &'static str,
        /// What the gateway says, with the hospitals.
        source: Box<ehrnet_fabric::LedgerError>,
    },
    /// The contract's answer is not what this version understands.
    #[error(
        "{function}: the contract's answer cannot be read ({problem}): contract and command are of different versions"
    )]
    Answer {
        /// Function of the contract.
        function: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}
