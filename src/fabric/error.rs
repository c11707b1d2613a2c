//! What can go wrong between the operator and a ledger node.

use std::error::Error;
use std::fmt;

use super::proto::gateway::ErrorDetail;
use super::proto::protos::TxValidationCode;

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
    /// A gateway answered that nodes behind it refused, or could not be reached.
    #[error("{node} refused with status {status}: {message} ({})", join(details))]
    Declined {
        /// `host:port` of the gateway's peer.
        node: String,
        /// As in `Refused`; 503 if what is missing is a node and not its consent.
        status: u16,
        /// The gateway's words.
        message: String,
        /// Which nodes, and the words of each.
        details: Vec<NodeRefusal>,
    },
    /// Endorsers computed different results: one has other code, or another state.
    #[error("endorsers do not agree on the result: {}", told_apart(endorsers))]
    Disagreement {
        /// The endorsers, those with the same result together; the largest group first.
        endorsers: Vec<Vec<String>>,
    },
    /// The transaction is in a block, and peers found that it does not count.
    #[error("transaction {tx_id} in block {block} does not count: {}", code.as_str_name())]
    Rejected {
        /// Id of the transaction.
        tx_id: String,
        /// Number of the block.
        block: u64,
        /// Why it does not count.
        code: TxValidationCode,
    },
    /// A key, certificate, definition or message that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The operator may not change the ledger now.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

/// What one node behind a gateway said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRefusal {
    /// `host:port` of the node.
    pub address: String,
    /// MSP of its organization.
    pub msp_id: String,
    /// Its words.
    pub message: String,
}

impl LedgerError {
    /// Whether endorsers computed different results: found by this client, or told by a gateway in Fabric's words
    /// (`gateway/endorsement.go`, `protoutil.CreateTx`).
    pub fn is_disagreement(&self) -> bool {
        let says = |message: &str| message.contains("ProposalResponsePayloads do not match");
        match self {
            Self::Disagreement { .. } => true,
            Self::Refused { message, .. } => says(message),
            Self::Declined { message, details, .. } => says(message) || details.iter().any(|said| says(&said.message)),
            _ => false,
        }
    }
}

impl LedgerError {
    /// Whether a gateway does not know enough peers to endorse, in Fabric's words (`gateway/registry.go`): peers tell each
    /// other what they have a little after they have it, and one that is away is known to nobody.
    pub fn lacks_endorsers(&self) -> bool {
        let says = |message: &str| {
            message.contains("no combination of peers can be derived")
                || message.contains("failed to select a set of endorsers")
                || message.contains("no peers available to evaluate chaincode")
        };
        match self {
            Self::Refused { message, .. } | Self::Declined { message, .. } => says(message),
            Self::Unreachable { .. } => says(&self.to_string()),
            _ => false,
        }
    }
}

impl From<ErrorDetail> for NodeRefusal {
    fn from(detail: ErrorDetail) -> Self {
        Self { address: detail.address, msp_id: detail.msp_id, message: detail.message }
    }
}

impl fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.address, self.msp_id, self.message)
    }
}

fn join(details: &[NodeRefusal]) -> String {
    details.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn told_apart(endorsers: &[Vec<String>]) -> String {
    let groups = endorsers.iter().enumerate().map(|(at, group)| {
        let verb = if group.len() > 1 { "have" } else { "has" };
        let names = group.join(" and ");
        if at == 0 { format!("{names} {verb} one") } else { format!("{names} another") }
    });
    groups.collect::<Vec<_>>().join(", ")
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
        match status.code() {
            // Unknown without an answer from the node is a broken connection: tonic keeps its cause as source.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::unreachable(node, status),
            Code::Unknown if status.source().is_some() => Self::unreachable(node, status),
            code => Self::Refused { node: node.into(), status: http(code), message: status.message().into() },
        }
    }
}

/// The HTTP kin of a gRPC code.
pub(super) fn http(code: tonic::Code) -> u16 {
    use tonic::Code;
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::Aborted => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        _ => 500,
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
