//! The list of kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::{ApiResource, CustomResourceExt};

use super::{Chaincode, Channel, ConsentPolicy, Hospital, Identity, Orderer, Peer};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// The declared kinds, in the order in which a network comes up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The kind as Kubernetes writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// What the API server calls it.
            pub fn resource(self) -> ApiResource {
                match self {
                    $(Self::$kind => ApiResource::erase::<$kind>(&()),)*
                }
            }

            /// Its definition, as it is derived.
            ///
            /// Schemas are derived at each call, which takes tens of milliseconds without optimisation.
            pub(super) fn crd(self) -> CustomResourceDefinition {
                match self {
                    $(Self::$kind => $kind::crd(),)*
                }
            }
        }
    };
}

kinds! {
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
    /// Reads what [`Kind::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_what_its_definition_calls_it() {
        for kind in Kind::ALL {
            let names = kind.crd().spec.names;
            assert_eq!((names.kind, names.plural), (kind.as_str().into(), kind.resource().plural));
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
    }
}
