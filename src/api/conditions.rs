//! Condition types and reasons: every one that a status can carry, in one place.

/// Type of the condition that sums up the others.
pub const READY: &str = "Ready";

/// Condition types beside `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Everything that the resource stands for works.
    Ready,
    /// The spec, with what it refers to, makes sense.
    Accepted,
    /// Certificates and keys exist and are valid.
    IdentityReady,
    /// The pod runs and answers.
    NodeReady,
    /// The genesis block is made and stored.
    GenesisReady,
    /// Every declared orderer takes part in the channel.
    OrderersJoined,
    /// Every peer that wants to has joined the channel (on a Peer: it has joined all its channels).
    PeersJoined,
    /// The configuration on the ledger is the declared one.
    ConfigInSync,
    /// Every peer of the channel has the chaincode's package.
    Installed,
    /// Every member hospital has approved the chaincode's definition.
    Approved,
    /// The chaincode's definition is in force on the channel.
    Committed,
    /// Every hospital's service of the chaincode runs and answers.
    PodsReady,
    /// The consent policy is valid.
    Validated,
    /// The consent policy stands in its ConfigMap.
    Projected,
    /// The consent policy stands on the ledger.
    Anchored,
    /// Status, ConfigMap and ledger have one digest, and nobody else changed it.
    InSync,
}

impl ConditionType {
    /// The text in `status.conditions[].type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => READY,
            Self::Accepted => "Accepted",
            Self::IdentityReady => "IdentityReady",
            Self::NodeReady => "NodeReady",
            Self::GenesisReady => "GenesisReady",
            Self::OrderersJoined => "OrderersJoined",
            Self::PeersJoined => "PeersJoined",
            Self::ConfigInSync => "ConfigInSync",
            Self::Installed => "Installed",
            Self::Approved => "Approved",
            Self::Committed => "Committed",
            Self::PodsReady => "PodsReady",
            Self::Validated => "Validated",
            Self::Projected => "Projected",
            Self::Anchored => "Anchored",
            Self::InSync => "InSync",
        }
    }
}

/// Why a condition has its value. CamelCase, stable: alerts and scripts match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// All is as declared.
    AsDeclared,
    /// Something that the spec refers to does not exist yet.
    WaitingForReference,
    /// A dependency exists and is not ready yet.
    WaitingForDependency,
    /// The pod is on its way.
    WaitingForPod,
    /// The pod cannot start, for example because its image cannot be pulled.
    PodFailing,
    /// The spec contradicts itself or the cluster.
    InvalidSpec,
    /// An object that the operator did not make already has the name it needs.
    NameTaken,
    /// A Secret with a key pair cannot be used.
    InvalidKeyPair,
    /// A CA has another key than the one that the channels of its hospital know.
    TrustAnchorChanged,
    /// A Secret that held keys is gone and making new ones would break the network.
    KeyLost,
    /// A node did not answer.
    NodeUnreachable,
    /// The ledger refused what was asked of it.
    LedgerRefused,
    /// A config update needs more signatures than the keys held here can give.
    SignaturesMissing,
    /// The genesis block on the ledger is not the stored one.
    GenesisMismatch,
    /// No orderer has the channel any more, although it had blocks.
    ChannelLost,
    /// A consenter came back without its blocks.
    BlocksLost,
    /// Two resources claim the same thing.
    Conflict,
    /// Somebody changed what follows from the declaration; it was put back.
    Drifted,
    /// A contract answers differently at two hospitals.
    EndorsersDisagree,
    /// A step is under way.
    Progressing,
    /// The node runs as it was before: it is restarted once others can do without it.
    RestartWaiting,
    /// Deleting would cost a channel its quorum.
    DeletionBlocked,
    /// It works, but something deserves attention.
    Degraded,
    /// The Kubernetes API refused a write.
    ApiRefused,
}

impl Reason {
    /// The text in `status.conditions[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsDeclared => "AsDeclared",
            Self::WaitingForReference => "WaitingForReference",
            Self::WaitingForDependency => "WaitingForDependency",
            Self::WaitingForPod => "WaitingForPod",
            Self::PodFailing => "PodFailing",
            Self::InvalidSpec => "InvalidSpec",
            Self::NameTaken => "NameTaken",
            Self::InvalidKeyPair => "InvalidKeyPair",
            Self::TrustAnchorChanged => "TrustAnchorChanged",
            Self::KeyLost => "KeyLost",
            Self::NodeUnreachable => "NodeUnreachable",
            Self::LedgerRefused => "LedgerRefused",
            Self::SignaturesMissing => "SignaturesMissing",
            Self::GenesisMismatch => "GenesisMismatch",
            Self::ChannelLost => "ChannelLost",
            Self::BlocksLost => "BlocksLost",
            Self::Conflict => "Conflict",
            Self::Drifted => "Drifted",
            Self::EndorsersDisagree => "EndorsersDisagree",
            Self::Progressing => "Progressing",
            Self::RestartWaiting => "RestartWaiting",
            Self::DeletionBlocked => "DeletionBlocked",
            Self::Degraded => "Degraded",
            Self::ApiRefused => "ApiRefused",
        }
    }
}
