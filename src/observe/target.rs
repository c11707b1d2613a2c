//! What a reconcile is about: one declared resource.

use std::fmt;

/// The declared kinds, in the order in which a network comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An organisation.
    Hospital,
    /// An ordering node.
    Orderer,
    /// A peer.
    Peer,
    /// A channel.
    Channel,
    /// A contract.
    Chaincode,
    /// A consent policy.
    ConsentPolicy,
    /// An identity.
    Identity,
}

impl Kind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hospital => "Hospital",
            Self::Orderer => "Orderer",
            Self::Peer => "Peer",
            Self::Channel => "Channel",
            Self::Chaincode => "Chaincode",
            Self::ConsentPolicy => "ConsentPolicy",
            Self::Identity => "Identity",
        }
    }

    /// Reads what [`Kind::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Hospital,
            Self::Orderer,
            Self::Peer,
            Self::Channel,
            Self::Chaincode,
            Self::ConsentPolicy,
            Self::Identity,
        ];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One declared resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// The resource of that kind and name.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}
