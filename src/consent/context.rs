//! What a policy says that documents and requests are read with.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::code::{Code, Systems};
use super::reference::Subject;
use crate::vocabulary::systems::bare;
use crate::vocabulary::{Coding, LabelSpec, ModuleElement, Part, ProvisionType, UntypedRoot};

/// What reading a consent or a request takes besides the document itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvisionContext {
    /// Time zone of days.
    pub zone: TimeZone,
    /// MSP identifiers by organisation, as `Type/id`.
    pub organizations: BTreeMap<String, String>,
    /// The same organisations with the servers that the policy names them on.
    pub servers: BTreeMap<String, Vec<Subject>>,
    /// Code systems under all their names.
    pub systems: Systems,
    /// What an untyped root means.
    pub untyped_root: UntypedRoot,
    /// What roles mean that this project does not know.
    pub roles: Vec<(Code, Part)>,
    /// Codes that stand for whole rules.
    pub modules: Vec<Module>,
    /// What holds for documents that cite a policy instead of stating rules, by its URI without what makes no difference.
    pub cited_policies: BTreeMap<String, ProvisionType>,
    /// The same by the code that a document's `policyRule` has.
    pub cited_codes: Vec<(Code, ProvisionType)>,
    /// Whether a record without confidentiality code counts as one that is as protected as can be.
    pub confidentiality_required: bool,
    /// Systems of the identifiers that requesters have begin with this where they are known by their certificates alone, which
    /// also say nothing of organisations but their MSPs. None where requesters may be known by anything.
    pub certified_identifiers: Option<&'static str>,
}

/// What a code means that stands for a whole rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Element that the code stands in.
    pub element: ModuleElement,
    /// The code.
    pub code: Code,
    /// Kinds of records.
    pub class: Vec<Coding>,
    /// Purposes.
    pub purpose: Vec<Coding>,
    /// Actions.
    pub action: Vec<Coding>,
}

impl Default for ProvisionContext {
    fn default() -> Self {
        Self {
            zone: TimeZone::UTC,
            organizations: BTreeMap::new(),
            servers: BTreeMap::new(),
            systems: Systems::default(),
            untyped_root: UntypedRoot::default(),
            roles: Vec::new(),
            modules: Vec::new(),
            cited_policies: BTreeMap::new(),
            cited_codes: Vec::new(),
            confidentiality_required: LabelSpec::default().require_confidentiality,
            certified_identifiers: None,
        }
    }
}

/// A name without what makes no difference, but with its version.
pub fn versioned(uri: &str) -> String {
    let version = uri.split_once('|').map(|(_, version)| format!("|{version}"));
    format!("{}{}", bare(uri), version.unwrap_or_default())
}

/// What the system of an identifier begins with that a certificate proves, before the MSP id; the value is the certificate's common
/// name.
pub const MSP_SYSTEM: &str = "urn:ehrnet:msp:";

impl ProvisionContext {
    /// What a policy says of one that a document cites. Another version is another policy, unless it was named without one.
    pub fn cited_policy(&self, uri: &str) -> Option<ProvisionType> {
        let of = |key: &str| self.cited_policies.get(key).copied();
        of(&versioned(uri)).or_else(|| of(&bare(uri)))
    }

    /// Whether an organisation is on another server than the one of this id whose MSP the policy names, so that nobody says which
    /// MSP it is.
    pub fn is_elsewhere(&self, reference: &str) -> bool {
        let Some(named) = Subject::parse(reference) else { return false };
        self.servers.get(&named.key).is_some_and(|mapped| !mapped.iter().any(|mapped| mapped.is(&named)))
    }

    /// The same where who asks is known by a certificate alone, as on the ledger.
    pub fn certified(&self) -> Self {
        Self { certified_identifiers: Some(MSP_SYSTEM), ..self.clone() }
    }
}
