//! Why a call cannot be answered.
//!
//! Nothing of it is committed. The texts go to logs of clients and peers, so they name fields and ids and never quote
//! what came in the transient map.

/// A call that cannot be answered. The status is that of the chaincode's response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContractError {
    /// 400 malformed, 403 not for this caller, 404 no such thing, 409 out of date, 500 the peer or the ledger failed.
    pub status: i32,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl ContractError {
    fn new(status: i32, message: impl std::fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }

    /// The call makes no sense.
    pub fn malformed(message: impl std::fmt::Display) -> Self {
        Self::new(400, message)
    }

    /// The caller may not do this.
    pub fn forbidden(message: impl std::fmt::Display) -> Self {
        Self::new(403, message)
    }

    /// What the call is about does not exist.
    pub fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(404, message)
    }

    /// Something else happened before: read again and decide again.
    pub fn conflict(message: impl std::fmt::Display) -> Self {
        Self::new(409, message)
    }

    /// Not the caller's fault.
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self::new(500, message)
    }
}
