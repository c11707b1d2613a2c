//! A chaincode as declared: what hospitals approve and commit, and the one encoding of it.
//!
//! The trap: an approval is of exact bytes. Two hospitals that write the same policy in different ways approve two
//! definitions, so there is one encoding: principals in the order in which Fabric's own tools number them, collections
//! and their members by name.

use prost::Message;

use super::error::LedgerError;
use super::policy::role_principal;
use super::proto::common::msp_role::MspRoleType;
use super::proto::common::signature_policy::{NOutOf, Type};
use super::proto::common::{MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope};
use super::proto::protos::{
    ApplicationPolicy, CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig, StaticCollectionConfig,
    application_policy, collection_config, collection_policy_config,
};

/// Path of the channel's policy that applies where a chaincode has none of its own.
const CHANNEL_ENDORSEMENT: &str = "/Channel/Application/Endorsement";

/// Names that are Fabric's own.
const SYSTEM: &[&str] = &["cscc", "escc", "lscc", "qscc", "vscc"];

/// A chaincode's definition on a channel, but for its sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaincodeDefinition {
    /// Name of the chaincode: letters, digits, single `-` and `_` between them.
    pub name: String,
    /// Version of the contract, for people: letters, digits, `_`, `.`, `+`, `-`.
    pub version: String,
    /// Who must endorse its transactions.
    pub endorsement: EndorsementPolicy,
    /// Its private data.
    pub collections: Vec<Collection>,
    /// Whether it waits for one call that is marked as its initialisation.
    pub init_required: bool,
}

/// Who must endorse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndorsementPolicy {
    /// A policy of the channel's configuration, by path.
    Channel(String),
    /// A policy of its own.
    Signature(Rule),
}

/// A rule about signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One signature of an organization.
    Signed {
        /// MSP of the organization.
        msp_id: String,
        /// What the signer is in it.
        role: MspRoleType,
    },
    /// At least `n` of several rules.
    OutOf {
        /// How many; from 1 to as many as there are.
        n: usize,
        /// The rules.
        of: Vec<Rule>,
    },
}

/// Private data that only some organizations keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Name: letters, digits, `-`, `_`; not `_` first.
    pub name: String,
    /// MSPs of the organizations that keep it; at least one.
    pub members: Vec<String>,
    /// To how many other peers an endorser must have given the data before it endorses.
    pub required_peers: u16,
    /// To how many it tries to.
    pub max_peers: u16,
    /// After how many blocks the data is purged; 0 for never. Cannot be changed later.
    pub block_to_live: u64,
    /// Whether only members' clients may read through the contract.
    pub member_only_read: bool,
    /// Whether only members' clients may write through the contract.
    pub member_only_write: bool,
    /// Who must endorse writes to it, if not those who endorse the chaincode's.
    pub endorsement: Option<EndorsementPolicy>,
}

impl Default for EndorsementPolicy {
    fn default() -> Self {
        Self::Channel(CHANNEL_ENDORSEMENT.into())
    }
}

impl Rule {
    /// One signature of a peer of `msp_id`.
    pub fn peer(msp_id: impl Into<String>) -> Self {
        Self::Signed { msp_id: msp_id.into(), role: MspRoleType::Peer }
    }

    /// Every one of `of`.
    pub fn all(of: Vec<Rule>) -> Self {
        Self::OutOf { n: of.len(), of }
    }

    /// Any one of `of`.
    pub fn any(of: Vec<Rule>) -> Self {
        Self::OutOf { n: 1, of }
    }

    /// The policy as a message.
    pub fn envelope(&self) -> SignaturePolicyEnvelope {
        let mut identities = Vec::new();
        let rule = match self {
            // Fabric's tools know no policy without a gate around it.
            Self::Signed { .. } => Self::any(vec![self.clone()]).number(&mut identities),
            Self::OutOf { .. } => self.number(&mut identities),
        };
        SignaturePolicyEnvelope { version: 0, rule: Some(rule), identities }
    }

    /// The rule, its principals appended to `identities` as Fabric's `policydsl` does: those of nested gates first, and
    /// none used twice.
    fn number(&self, identities: &mut Vec<MspPrincipal>) -> SignaturePolicy {
        let r#type = match self {
            Self::Signed { msp_id, role } => {
                identities.push(role_principal(msp_id, *role));
                Type::SignedBy(identities.len() as i32 - 1)
            }
            Self::OutOf { n, of } => {
                let gates: Vec<_> = of.iter().map(|rule| rule.is_gate().then(|| rule.number(identities))).collect();
                let rules = of.iter().zip(gates).map(|(rule, gate)| gate.unwrap_or_else(|| rule.number(identities)));
                Type::NOutOf(NOutOf { n: *n as i32, rules: rules.collect() })
            }
        };
        SignaturePolicy { r#type: Some(r#type) }
    }

    fn is_gate(&self) -> bool {
        matches!(self, Self::OutOf { .. })
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Signed { msp_id, .. } if msp_id.is_empty() => Err("a signature is asked of nobody".into()),
            Self::Signed { .. } => Ok(()),
            Self::OutOf { n, of } if *n == 0 || *n > of.len() => {
                Err(format!("{n} of {} rules must hold; it must be one at least and not more than there are", of.len()))
            }
            Self::OutOf { of, .. } => of.iter().try_for_each(Self::check),
        }
    }
}

impl EndorsementPolicy {
    /// The policy as a message.
    pub fn message(&self) -> ApplicationPolicy {
        let r#type = match self {
            Self::Channel(path) => application_policy::Type::ChannelConfigPolicyReference(path.clone()),
            Self::Signature(rule) => application_policy::Type::SignaturePolicy(rule.envelope()),
        };
        ApplicationPolicy { r#type: Some(r#type) }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Channel(path) if path.starts_with("/Channel/") => Ok(()),
            Self::Channel(path) => Err(format!("{path} is no path of a policy, such as {CHANNEL_ENDORSEMENT}")),
            Self::Signature(rule) => rule.check(),
        }
    }
}

impl Collection {
    fn message(&self) -> CollectionConfig {
        let mut members = self.members.clone();
        members.sort();
        members.dedup();
        let member = |msp_id| Rule::Signed { msp_id, role: MspRoleType::Member };
        let members = Rule::any(members.into_iter().map(member).collect()).envelope();
        let members =
            CollectionPolicyConfig { payload: Some(collection_policy_config::Payload::SignaturePolicy(members)) };
        let collection = StaticCollectionConfig {
            name: self.name.clone(),
            member_orgs_policy: Some(members),
            required_peer_count: self.required_peers.into(),
            maximum_peer_count: self.max_peers.into(),
            block_to_live: self.block_to_live,
            member_only_read: self.member_only_read,
            member_only_write: self.member_only_write,
            endorsement_policy: self.endorsement.as_ref().map(EndorsementPolicy::message),
        };
        CollectionConfig { payload: Some(collection_config::Payload::StaticCollectionConfig(collection)) }
    }

    fn check(&self) -> Result<(), String> {
        let named = |e: String| format!("collection {}: {e}", self.name);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.starts_with('_') || !self.name.chars().all(plain) {
            return Err(format!(
                "collection name {:?} must consist of letters, digits, '-' and '_' and not begin with '_'",
                self.name
            ));
        }
        if self.members.iter().all(String::is_empty) {
            return Err(named("it has no member that could keep it".into()));
        }
        if self.max_peers < self.required_peers {
            return Err(named(format!(
                "data must reach {} other peers and is sent to {} at most",
                self.required_peers, self.max_peers
            )));
        }
        self.endorsement.as_ref().map_or(Ok(()), EndorsementPolicy::check).map_err(named)
    }
}

impl ChaincodeDefinition {
    /// Whether Fabric can accept the definition, as far as can be said without a channel.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    pub fn check(&self) -> Result<(), LedgerError> {
        self.find_fault().map_err(|e| LedgerError::Invalid(format!("chaincode {}: {e}", self.name)))
    }

    fn find_fault(&self) -> Result<(), String> {
        let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
        if !self.name.split(['-', '_']).all(part) {
            return Err("a name consists of letters and digits, with single '-' or '_' between them".into());
        }
        if SYSTEM.contains(&self.name.as_str()) {
            return Err("this is the name of one of Fabric's own chaincodes".into());
        }
        let of_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
        if self.version.is_empty() || !self.version.chars().all(of_version) {
            return Err(format!("version {:?} must consist of letters, digits, '_', '.', '+' and '-'", self.version));
        }
        self.endorsement.check()?;
        self.collections.iter().try_for_each(Collection::check)?;
        let mut names: Vec<_> = self.collections.iter().map(|c| &c.name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("there are two collections {}", pair[0])),
            None => Ok(()),
        }
    }

    /// The endorsement policy, as validators read it.
    pub fn validation_parameter(&self) -> Vec<u8> {
        self.endorsement.message().encode_to_vec()
    }

    /// The collections, by name; nothing if there is none.
    pub fn collection_package(&self) -> Option<CollectionConfigPackage> {
        let mut collections: Vec<_> = self.collections.iter().collect();
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        let config: Vec<_> = collections.into_iter().map(Collection::message).collect();
        (!config.is_empty()).then_some(CollectionConfigPackage { config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> ChaincodeDefinition {
        ChaincodeDefinition {
            name: "ehr".into(),
            version: "1.0".into(),
            endorsement: EndorsementPolicy::default(),
            collections: vec![],
            init_required: false,
        }
    }

    fn collection(name: &str, members: &[&str]) -> Collection {
        Collection {
            name: name.into(),
            members: members.iter().map(ToString::to_string).collect(),
            required_peers: 0,
            max_peers: 3,
            block_to_live: 0,
            member_only_read: true,
            member_only_write: true,
            endorsement: None,
        }
    }

    fn signed_by(index: i32) -> SignaturePolicy {
        SignaturePolicy { r#type: Some(Type::SignedBy(index)) }
    }

    fn out_of(n: i32, rules: Vec<SignaturePolicy>) -> SignaturePolicy {
        SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n, rules })) }
    }

    #[test]
    fn principals_of_nested_gates_are_numbered_first_as_fabrics_tools_do() {
        // OR('A.peer', AND('B.peer', 'C.peer'))
        let policy = Rule::any(vec![Rule::peer("A"), Rule::all(vec![Rule::peer("B"), Rule::peer("C")])]).envelope();
        let principals = ["B", "C", "A"].map(|msp_id| role_principal(msp_id, MspRoleType::Peer));
        assert_eq!(policy.identities, principals);
        assert_eq!(policy.rule, Some(out_of(1, vec![signed_by(2), out_of(2, vec![signed_by(0), signed_by(1)])])));
    }

    #[test]
    fn a_single_signer_stands_in_a_gate() {
        assert_eq!(Rule::peer("A").envelope().rule, Some(out_of(1, vec![signed_by(0)])));
    }

    #[test]
    fn the_order_in_which_collections_and_members_are_written_does_not_matter() {
        let written = |collections| ChaincodeDefinition { collections, ..definition() }.collection_package();
        let one = written(vec![collection("records", &["A", "B"]), collection("audit", &["A"])]);
        let other = written(vec![collection("audit", &["A"]), collection("records", &["B", "A", "B"])]);
        assert_eq!(one, other);
        assert_eq!(one.expect("collections").config.len(), 2);
        assert_eq!(definition().collection_package(), None, "no collection is nothing, not an empty package");
    }

    #[test]
    fn what_fabric_would_refuse_is_said_before() {
        assert!(definition().check().is_ok());
        let refusal = |definition: ChaincodeDefinition| definition.check().expect_err("refused").to_string();
        for name in ["", "-ehr", "ehr--x", "ehr.x", "ehr_"] {
            assert!(refusal(ChaincodeDefinition { name: name.into(), ..definition() }).contains("letters"), "{name}");
        }
        assert!(refusal(ChaincodeDefinition { name: "qscc".into(), ..definition() }).contains("own"));
        assert!(refusal(ChaincodeDefinition { version: "1 0".into(), ..definition() }).contains("version"));
        let policy = |rule| ChaincodeDefinition { endorsement: EndorsementPolicy::Signature(rule), ..definition() };
        assert!(refusal(policy(Rule::OutOf { n: 3, of: vec![Rule::peer("A")] })).contains("3 of 1"));
        assert!(refusal(policy(Rule::any(vec![]))).contains("1 of 0"));
        let collections = |of: Vec<Collection>| ChaincodeDefinition { collections: of, ..definition() };
        assert!(refusal(collections(vec![collection("_x", &["A"])])).contains("_x"));
        assert!(refusal(collections(vec![collection("x", &[])])).contains("no member"));
        assert!(
            refusal(collections(vec![collection("x", &["A"]), collection("x", &["B"])])).contains("two collections")
        );
        let greedy = Collection { required_peers: 4, ..collection("x", &["A"]) };
        assert!(refusal(collections(vec![greedy])).contains("4 other peers"));
    }
}
