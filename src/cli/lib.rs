//! Subcommands: they parse, call a room and print.
//!
//! Exit codes: 0 when the question was answered, also with DENY; 1 when it could not be; 2 for bad input; 3 only where
//! asked for (`--fail-on-deny`, `--fail-on-mismatch`, `--fail-on-widened`), when the answer is no.

pub mod access;
pub mod audit;
mod check;
mod client;
pub mod consent;
mod convert;
mod decide;
mod diff;
mod documents;
mod files;
pub mod pseudonym;
pub mod record;
pub mod review;

use std::process::ExitCode;

use ehrnet_client::ClientError;

/// Exit code of an answer that is no, for who asked for one.
const NO: u8 = 3;

/// Input that a subcommand cannot use; the process ends with code 2, like after a wrong option.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nehrnet: "))]
pub struct BadInput(pub Vec<String>);

impl BadInput {
    /// One thing that is wrong.
    pub fn one(message: impl std::fmt::Display) -> Self {
        Self(vec![message.to_string()])
    }
}

/// Why a subcommand has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What was given cannot be used.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// The ledger has none.
    #[error(transparent)]
    Ledger(ClientError),
    /// The answer cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Input(message) => Self::Input(BadInput::one(message)),
            ClientError::Ledger { .. } | ClientError::Disagreement { .. } | ClientError::Answer { .. } => {
                Self::Ledger(error)
            }
        }
    }
}

impl CommandError {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::Ledger(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}
