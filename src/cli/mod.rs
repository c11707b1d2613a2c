//! Subcommands that work on files: they read, call a room and print.

pub mod consent;

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
