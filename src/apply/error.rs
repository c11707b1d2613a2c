//! Why a write did not happen, or may not have.

use std::time::Duration;

use ehrnet_runtime::client::lease_lost;
use ehrnet_runtime::lease::LeaseLost;

/// What was asked of the API server. The names are those of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Make an object that must not exist.
    Create,
    /// Server-side apply, or a change of some fields.
    Patch,
    /// Replace an object.
    Update,
}

impl Verb {
    /// The verb as RBAC spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Update => "update",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a write failed. No variant carries an object's content.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The name is in use by something that the operator did not make for this resource.
    #[error("{kind} {name} exists already and {holder}; rename or delete it, then this goes on by itself")]
    NameTaken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is, as the end of "it ...": for example `belongs to Deployment web`.
        holder: String,
    },
    /// What is left of a deleted resource of the same name, or an object on its way out. Its deletion is waited for.
    #[error("{kind} {name} is being deleted; it is made again once it is gone")]
    Leftover {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object changed or went away since it was read. Read again and decide anew.
    #[error("{kind} {name} changed while it was written ({verb}); trying again")]
    Conflict {
        /// What was tried.
        verb: Verb,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The namespace is being deleted or gone: nothing can be made in it.
    #[error("namespace {namespace} is being deleted")]
    NamespaceEnding {
        /// Its name.
        namespace: String,
    },
    /// The API server said no, and will say no again.
    #[error("failed to {verb} {kind} {name}: the Kubernetes API refused it ({code}): {message}")]
    Refused {
        /// What was tried.
        verb: Verb,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// HTTP status code.
        code: u16,
        /// What the API server says about it.
        message: String,
    },
    /// The API server cannot do it now.
    #[error("failed to {verb} {kind} {name}: the Kubernetes API is not able to at the moment ({code}): {message}")]
    Unavailable {
        /// What was tried.
        verb: Verb,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// HTTP status code: 429 or 5xx. After 5xx, whether it took effect is unknown.
        code: u16,
        /// What the API server says about it.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer. Whether it took effect is unknown.
    #[error("failed to {verb} {kind} {name}: no usable answer from the Kubernetes API: {source}")]
    Unanswered {
        /// What was tried.
        verb: Verb,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What happened.
        source: Box<kube::Error>,
    },
    /// Not sent, because this process must not write.
    #[error(transparent)]
    NotLeader(#[from] LeaseLost),
    /// The declared object is not one: a mistake in the operator.
    #[error("{kind} {name} cannot be written: {what}")]
    Malformed {
        /// Kind of the object.
        kind: String,
        /// Its name, if it has one.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

impl ApplyError {
    /// Sorts an answer of the API server.
    pub(super) fn from_api(verb: Verb, kind: &str, namespace: &str, name: &str, error: kube::Error) -> Self {
        if let Some(lost) = lease_lost(&error) {
            return Self::NotLeader(lost.clone());
        }
        let (kind, name) = (kind.to_owned(), name.to_owned());
        let status = match error {
            kube::Error::Api(status) => status,
            source => return Self::Unanswered { verb, kind, name, source: Box::new(source) },
        };
        let details = status.details.as_ref();
        let ending =
            details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
        if ending || (status.code == 404 && details.is_some_and(|details| details.kind == "namespaces")) {
            return Self::NamespaceEnding { namespace: namespace.to_owned() };
        }
        let retry_after = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
        let (code, message) = (status.code, status.message);
        match code {
            404 | 409 => Self::Conflict { verb, kind, name },
            429 | 500.. => Self::Unavailable { verb, kind, name, code, message, retry_after },
            _ => Self::Refused { verb, kind, name, code, message },
        }
    }

    /// How long the API server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The variant, for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => "name_taken",
            Self::Leftover { .. } => "leftover",
            Self::Conflict { .. } => "conflict",
            Self::NamespaceEnding { .. } => "namespace_ending",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Unanswered { .. } => "unanswered",
            Self::NotLeader(_) => "not_leader",
            Self::Malformed { .. } => "malformed",
        }
    }
}
