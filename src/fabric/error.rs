//! What can go wrong between the operator and a ledger node.

use std::error::Error;

/// Why a call to a ledger node, or a decision about the ledger, did not succeed.
///
/// The variants are different facts and are never mixed: a node that does not answer says nothing about whether a
/// channel exists.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The node answered that it does not have the thing asked for.
    #[error("{node} has no {what}")]
    NotFound {
        /// `host:port` of the node.
        node: String,
        /// What was asked for.
        what: String,
    },
    /// No answer: name, connection, TLS or deadline failed, or the node said that it is not available.
    #[error("{node} cannot be reached: {}", chain(source.as_ref()))]
    Unreachable {
        /// `host:port` of the node.
        node: String,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The node answered and refused.
    #[error("{node} refused with status {status}: {message}")]
    Refused {
        /// `host:port` of the node.
        node: String,
        /// Status as HTTP numbers them; Fabric's own statuses follow HTTP. gRPC codes are mapped to their HTTP kin.
        status: u16,
        /// The node's words.
        message: String,
    },
    /// A key, certificate, definition or message that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The operator may not change the ledger now.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

/// Leave to change the ledger was not given, for example because another instance leads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not allowed to change the ledger now: {0}")]
pub struct NotAllowed(pub String);

impl LedgerError {
    /// An `Unreachable` from any error.
    pub fn unreachable(node: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unreachable { node: node.into(), source: source.into() }
    }

    /// What a gRPC status means.
    pub(super) fn from_status(node: &str, status: tonic::Status) -> Self {
        use tonic::Code;
        let http = match status.code() {
            // Unknown without an answer from the node is a broken connection: tonic keeps its cause as source.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => return Self::unreachable(node, status),
            Code::Unknown if status.source().is_some() => return Self::unreachable(node, status),
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::Aborted => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists => 409,
            Code::ResourceExhausted => 429,
            Code::Unimplemented => 501,
            _ => 500,
        };
        Self::Refused { node: node.into(), status: http, message: status.message().into() }
    }
}

/// An error and its causes in one line, without repeating what an outer error already says.
fn chain(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
