//! Codes and security labels, and when two of them name the same thing.
//!
//! Codes are put in order once, where they are read ([`Systems::code`]): a system under another of its names is that system,
//! and a bare code that the element knows is one of the element's own. After that a permit matches what is the same, and a
//! denial matches unless it is known to be something else.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::json::At;
use crate::vocabulary::code_systems::{
    ACT_CODE, ACT_REASON, COMPLETE_SYSTEMS, CONFIDENTIALITY, CONFIDENTIALITY_CODES, CodedElement, OPEN_SYSTEMS,
    PURPOSE_CODES, SENSITIVITY_CODES, is_resource_type,
};
use crate::vocabulary::{CodeSystemSpec, Coding, Identifier, ProvisionType, systems};

/// A code, with the system it is from where that is known. Two are equal whatever their words are.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
pub struct Code {
    /// URI of the code system, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The code.
    pub code: String,
    /// The code in words, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// The system by the name that counts, or that of the element for a bare code which the element knows.
    #[serde(skip)]
    meant: Option<String>,
    /// Whether that system is one of those known here.
    #[serde(skip)]
    known: bool,
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.meant() == other.meant()
    }
}

impl Code {
    /// The system that counts.
    pub fn meant(&self) -> Option<&str> {
        self.meant.as_deref().or(self.system.as_deref())
    }

    /// Whether it is a code of a system that is known here.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// What two codes are told apart by that are one in any case.
    fn in_case(&self) -> (bool, Option<&str>, &str) {
        (self.known, self.meant(), &self.code)
    }

    /// Whether it is a code of this system, or a bare one that may be.
    pub fn may_be_of(&self, system: &str) -> bool {
        self.meant().is_none_or(|meant| meant == system)
    }

    /// Whether it is one of these codes of a system, or is written like one and is not known to be something else.
    pub fn is_perhaps(&self, system: &str, codes: &[impl AsRef<str>]) -> bool {
        (!self.known || self.may_be_of(system))
            && codes.iter().any(|code| code.as_ref().eq_ignore_ascii_case(&self.code))
    }

    /// Whether a request that says `self` means `rule`. For a permit a bare code means that code of any system, and of
    /// two systems both must be the same; for a denial two codes are different only if both systems are known to be.
    pub fn names(&self, rule: &Self, effect: ProvisionType) -> bool {
        match effect {
            ProvisionType::Permit => self.code == rule.code && (self.meant().is_none() || self.meant() == rule.meant()),
            ProvisionType::Deny => {
                self.code.eq_ignore_ascii_case(&rule.code)
                    && !(self.known && rule.known && self.meant() != rule.meant())
            }
        }
    }

    /// The rank of a confidentiality code in a permit, 0 the least protected; none for any other code.
    fn confidentiality(&self) -> Option<usize> {
        let of_system = self.may_be_of(CONFIDENTIALITY);
        CONFIDENTIALITY_CODES.iter().position(|code| of_system && *code == self.code)
    }

    /// The rank of what may be a confidentiality code, for a denial.
    fn perhaps_confidentiality(&self) -> Option<usize> {
        let may_be = !self.known || self.may_be_of(CONFIDENTIALITY);
        CONFIDENTIALITY_CODES.iter().position(|code| may_be && code.eq_ignore_ascii_case(&self.code))
    }
}

impl From<&Coding> for Code {
    /// The code as it is written, for comparing what has no system, such as roles of certificates.
    fn from(Coding { system, code, display }: &Coding) -> Self {
        Self { system: system.clone(), code: code.clone(), display: display.clone(), meant: None, known: false }
    }
}

/// The profiles of FHIR's own types: records say their type by its name.
const TYPE_PROFILES: &str = "hl7.org/fhir/StructureDefinition/";

/// The code systems that are known: those of [`systems`], and what a policy adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Systems {
    names: BTreeMap<String, String>,
    codes: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Systems {
    /// With what a policy declares.
    pub fn new(declared: &[CodeSystemSpec]) -> Self {
        let mut systems = Self::default();
        for system in declared {
            let url = systems::known(&system.url).map_or_else(|| system.url.clone(), str::to_owned);
            for name in std::iter::once(&system.url).chain(&system.aliases) {
                systems.names.insert(systems::bare(name), url.clone());
            }
            let codes = (!system.codes.is_empty()).then(|| system.codes.iter().cloned().collect());
            systems.codes.insert(url, codes);
        }
        systems
    }

    /// The system by the name that counts, and whether it is known.
    pub fn meant(&self, system: &str) -> (String, bool) {
        let declared = self.names.get(&systems::bare(system)).map(String::as_str);
        match declared.or_else(|| systems::known(system)) {
            Some(known) => (known.to_owned(), true),
            None => (systems::bare(system), false),
        }
    }

    /// An identifier in order.
    pub fn identifier(&self, identifier: &Identifier) -> Identifier {
        Identifier { system: self.meant(&identifier.system).0, value: identifier.value.clone() }
    }

    /// A code in order; a bare one is looked up among those of `element`.
    pub fn code(&self, coding: &Coding, element: CodedElement) -> Code {
        let Coding { system, code, display } = coding.clone();
        let (meant, known) = match &system {
            Some(system) => {
                let (meant, known) = self.meant(system);
                // A code that its system does not have is of another one, whatever the document says.
                let known = known && self.has(&meant, &code);
                (Some(meant), known)
            }
            None => {
                let own = element.closed_systems().iter().find(|(_, codes)| codes.contains(&code.as_str()));
                (own.map(|(system, _)| (*system).to_owned()), own.is_some())
            }
        };
        Code { system, code, display, meant, known }
    }

    /// The codes of a system that a policy declares, by the name that counts; none within where any code will do.
    pub fn declared(&self, system: &str) -> Option<&Option<BTreeSet<String>>> {
        self.codes.get(system)
    }

    /// Whether a system is known to have this code: by what the policy declares, the lists and the shapes.
    fn has(&self, system: &str, code: &str) -> bool {
        if let Some(declared) = self.codes.get(system) {
            return declared.as_ref().is_none_or(|codes| codes.contains(code));
        }
        let listed = CodedElement::ALL.iter().flat_map(|element| element.closed_systems());
        let mut listed = listed.filter(|(closed, _)| *closed == system);
        let shape = OPEN_SYSTEMS.iter().find(|(open, _)| *open == system);
        listed.any(|(_, codes)| codes.contains(&code)) || shape.is_some_and(|(_, shape)| shape.fits(code))
    }

    /// Whether no request and no record can mean this code, so that a denial of it would deny nothing: a bare one that neither
    /// the element nor a declared system knows, or one that its system cannot have. What a policy declares excuses codes of that
    /// system only.
    pub fn is_nothing(&self, code: &Code, element: CodedElement) -> bool {
        let is = |known: &str| known.eq_ignore_ascii_case(&code.code);
        let of_element = element.closed_systems().iter().any(|(_, codes)| codes.iter().any(|known| is(known)));
        let of_type = element == CodedElement::Class && is_resource_type(&code.code);
        let declared =
            |codes: &Option<BTreeSet<String>>| codes.as_ref().is_none_or(|codes| codes.iter().any(|known| is(known)));
        if of_element || of_type {
            return false;
        }
        if element == CodedElement::Class && code.code.contains(TYPE_PROFILES) {
            return true;
        }
        match code.meant() {
            None => !element.open() && !self.codes.values().any(declared),
            Some(system) if self.codes.get(system).is_some_and(declared) => false,
            Some(system) => {
                let shape = OPEN_SYSTEMS.iter().find(|(open, _)| *open == system).map(|(_, shape)| shape);
                let is_abstract = system == ACT_CODE && code.code.starts_with('_');
                is_abstract || COMPLETE_SYSTEMS.contains(&system) || shape.is_some_and(|shape| !shape.fits(&code.code))
            }
        }
    }

    /// Whether a label is one that somebody defined.
    fn is_label(&self, label: &Code) -> bool {
        let code = label.code.as_str();
        match label.meant() {
            Some(CONFIDENTIALITY) => CONFIDENTIALITY_CODES.contains(&code),
            Some(ACT_CODE) if SENSITIVITY_CODES.contains(&code) => true,
            Some(ACT_REASON) => PURPOSE_CODES.contains(&code),
            Some(system) => {
                self.codes.get(system).is_some_and(|codes| codes.as_ref().is_none_or(|codes| codes.contains(code)))
            }
            None => false,
        }
    }

    /// Reads `"CODE"` or `{system, code}` of a request.
    pub fn parse(&self, at: &At, element: CodedElement) -> Result<Code, FieldError> {
        if at.value.is_string() {
            return Ok(self.code(&Coding { code: at.token()?.to_owned(), ..Coding::default() }, element));
        }
        if !at.value.is_object() {
            return Err(at.error("must be a code, or an object with system and code"));
        }
        at.only(&["system", "code", "display"])?;
        let code = at.get("code").ok_or_else(|| at.error("needs a code"))?.token()?.to_owned();
        let system = at.get("system").map(|system| system.token().map(str::to_owned)).transpose()?;
        Ok(self.code(&Coding { system, code, display: None }, element))
    }
}

/// The codes of a record, in an order in which one is found fast: both a record and a consent may have thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes(Vec<Code>);

/// The order of two texts of which upper and lower case make no difference.
pub fn in_any_case(one: &str, other: &str) -> Ordering {
    let folded = |text| str::bytes(text).map(|b| b.to_ascii_lowercase());
    folded(one).cmp(folded(other))
}

impl Codes {
    /// These codes.
    pub fn new(mut codes: Vec<Code>) -> Self {
        codes.sort_by(|one, other| {
            in_any_case(&one.code, &other.code).then_with(|| one.in_case().cmp(&other.in_case()))
        });
        Self(codes)
    }

    /// Whether one of them means one of `rules`, as [`Code::names`] says of two: a record may have one code of many systems, so
    /// none of them is looked at for each rule.
    pub fn any_named(&self, rules: &[Code], effect: ProvisionType) -> bool {
        rules.iter().any(|rule| {
            let find = |order: &dyn Fn(&Code) -> Ordering| {
                self.0.binary_search_by(|code| in_any_case(&code.code, &rule.code).then_with(|| order(code))).is_ok()
            };
            let exactly = |known, meant| find(&|code| code.in_case().cmp(&(known, meant, &rule.code)));
            let of = |known, meant| find(&|code| (code.known, code.meant()).cmp(&(known, meant)));
            match effect {
                ProvisionType::Permit => {
                    exactly(false, None) || exactly(false, rule.meant()) || exactly(true, rule.meant())
                }
                ProvisionType::Deny if rule.known => find(&|code| code.known.cmp(&false)) || of(true, rule.meant()),
                ProvisionType::Deny => find(&|_| Ordering::Equal),
            }
        })
    }
}

/// The security labels of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLabels {
    codes: Codes,
    highest: Option<usize>,
    /// Whether one of them is no code that anybody defined: it may stand for any.
    pub(super) unclear: bool,
}

impl RecordLabels {
    /// Labels with these codes. One that is no known code makes the record as protected as can be, and so does a missing
    /// confidentiality code where one is required.
    pub fn new(codes: Vec<Code>, systems: &Systems, confidentiality_required: bool) -> Self {
        let unclear = codes.iter().any(|code| !systems.is_label(code));
        let highest = codes.iter().filter_map(Code::confidentiality).max();
        let most =
            (unclear || confidentiality_required && highest.is_none()).then_some(CONFIDENTIALITY_CODES.len() - 1);
        Self { codes: Codes::new(codes), highest: highest.max(most), unclear }
    }

    /// Whether all of them are confidentiality codes.
    pub(super) fn is_ranked(&self) -> bool {
        self.codes.0.iter().all(|code| code.confidentiality().is_some())
    }
}

/// The security labels of a provision. For confidentiality, what a permit declares is a ceiling and what a deny declares
/// a floor, also where a nested provision of the other type inherits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// As the consent wrote them.
    pub codes: Vec<Code>,
    /// Type of the provision that declares them.
    pub declared_by: ProvisionType,
    /// The highest code of a permit, the lowest of a deny.
    bound: Option<usize>,
    /// Those that are no confidentiality codes.
    pub(super) sensitivity: Vec<Code>,
}

impl Labels {
    /// The confidentiality code that is the ceiling or floor.
    pub(super) fn confidentiality(&self) -> Option<&'static str> {
        self.bound.map(|bound| CONFIDENTIALITY_CODES[bound])
    }

    /// The labels `codes`, declared by a provision of type `declared_by`.
    pub fn new(codes: Vec<Code>, declared_by: ProvisionType) -> Self {
        let bound = match declared_by {
            ProvisionType::Permit => codes.iter().filter_map(Code::confidentiality).max(),
            ProvisionType::Deny => codes.iter().filter_map(Code::perhaps_confidentiality).min(),
        };
        let sensitivity = codes.iter().filter(|code| code.confidentiality().is_none()).cloned().collect();
        Self { codes, declared_by, bound, sensitivity }
    }

    /// Whether a provision of type `effect` means a record with these labels.
    pub fn covers(&self, record: &RecordLabels, effect: ProvisionType) -> bool {
        let confidentiality = match (self.bound, record.highest, self.declared_by) {
            (Some(ceiling), Some(highest), ProvisionType::Permit) => highest <= ceiling,
            (Some(floor), Some(highest), ProvisionType::Deny) => highest >= floor,
            (None, ..) | (_, None, _) => false,
        };
        confidentiality || self.names_one_of(record, effect) || record.unclear && effect == ProvisionType::Deny
    }

    /// Whether one of the labels that are no confidentiality codes is one of the record's.
    pub(super) fn names_one_of(&self, record: &RecordLabels, effect: ProvisionType) -> bool {
        record.codes.any_named(&self.sensitivity, effect)
    }

    /// Whether every record that these labels cover is covered by `other` too, both in provisions of one type.
    pub fn within(&self, other: &Self) -> bool {
        let confidentiality = match (self.bound, other.bound) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(inner), Some(outer)) => match (self.declared_by, other.declared_by) {
                (ProvisionType::Permit, ProvisionType::Permit) => inner <= outer,
                (ProvisionType::Deny, ProvisionType::Deny) => inner >= outer,
                _ => false,
            },
        };
        confidentiality && self.sensitivity.iter().all(|code| other.sensitivity.contains(code))
    }

    /// Whether a residual rule of type `effect` with these codes means the same records.
    pub fn reads_the_same(&self, effect: ProvisionType) -> bool {
        self.bound.is_none() || self.declared_by == effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(system: Option<&str>, code: &str) -> Code {
        let coding = Coding { system: system.map(str::to_owned), code: code.to_owned(), display: None };
        Systems::default().code(&coding, CodedElement::SecurityLabel)
    }

    fn record(codes: &[Code]) -> RecordLabels {
        RecordLabels::new(codes.to_vec(), &Systems::default(), false)
    }

    fn covered(labels: &Labels, effect: ProvisionType) -> String {
        let covers = |label: &&&str| labels.covers(&record(&[code(None, label)]), effect);
        CONFIDENTIALITY_CODES.iter().filter(covers).copied().collect()
    }

    #[test]
    fn a_bare_code_means_any_system_and_a_full_one_means_itself() {
        let (permit, rule) = (ProvisionType::Permit, code(Some("urn:a"), "X"));
        assert!(code(None, "X").names(&rule, permit) && code(Some("urn:a"), "X").names(&rule, permit));
        assert!(!code(Some("urn:b"), "X").names(&rule, permit) && !code(None, "Y").names(&rule, permit));
        assert!(!code(Some("urn:a"), "X").names(&code(None, "X"), permit));
    }

    #[test]
    fn a_denial_matches_unless_both_systems_are_known_and_differ() {
        let deny = ProvisionType::Deny;
        let hiv = code(Some(ACT_CODE), "HIV");
        // A system that does not have the code cannot be meant.
        assert!(hiv.names(&code(Some(ACT_REASON), "HIV"), deny));
        for rule in [None, Some("urn:a"), Some("urn:oid:2.16.840.1.113883.5.4"), Some("http://hl7.org/fhir/v3/ActCode")]
        {
            assert!(hiv.names(&code(rule, "hiv"), deny), "{rule:?}");
        }
        assert!(code(None, "HIV").names(&hiv, deny) && code(Some("urn:b"), "HIV").names(&hiv, deny));
        let of_content = |system: &str, code: &str| {
            let coding = Coding { system: Some(system.to_owned()), code: code.to_owned(), display: None };
            Systems::default().code(&coding, CodedElement::Code)
        };
        let drug = of_content("http://www.nlm.nih.gov/research/umls/rxnorm", "1049502");
        let snomed = of_content("http://snomed.info/sct", "1049502");
        assert!(!drug.names(&snomed, deny) && drug.names(&of_content("urn:a", "1049502"), deny));
        assert!(!hiv.names(&code(None, "PSY"), deny));
    }

    /// A system that does not have the code cannot be meant: the denial is one of the code in any system.
    #[test]
    fn a_denial_of_a_code_that_its_system_does_not_have_matches_the_code() {
        let of = |element, system: &str, code: &str| {
            let coding = Coding { system: Some(system.to_owned()), code: code.to_owned(), display: None };
            Systems::default().code(&coding, element)
        };
        let (class, content) = (CodedElement::Class, CodedElement::Code);
        for (element, rule, record) in [
            (class, ("http://loinc.org", "Observation"), ("http://hl7.org/fhir/resource-types", "Observation")),
            (class, ("http://snomed.info/sct", "Media"), ("http://hl7.org/fhir/resource-types", "Media")),
            (class, (ACT_REASON, "Media"), ("http://hl7.org/fhir/resource-types", "Media")),
            (content, ("http://snomed.info/sct", "34133-9"), ("http://loinc.org", "34133-9")),
            (content, ("http://loinc.org", "38341003"), ("http://snomed.info/sct", "38341003")),
            (content, (ACT_CODE, "34133-9"), ("http://loinc.org", "34133-9")),
            (content, (CONFIDENTIALITY, "HIV"), (ACT_CODE, "HIV")),
            (content, ("http://loinc.org", "34133-9"), ("http://hl7.org/fhir/sid/icd-10", "34133-9")),
            (content, (ACT_CODE, "HIV"), ("http://hl7.org/fhir/sid/icd-10", "HIV")),
            (class, ("http://hl7.org/fhir/resource-types", "Media"), ("urn:ietf:rfc:3986", "Media")),
            (class, ("http://hl7.org/fhir/resource-types", "Media"), ("http://www.whocc.no/atc", "Media")),
        ] {
            let (rule, record) = (of(element, rule.0, rule.1), of(element, record.0, record.1));
            assert!(record.names(&rule, ProvisionType::Deny), "{rule:?}");
            assert!(!record.names(&rule, ProvisionType::Permit), "{rule:?}");
        }
    }

    #[test]
    fn confidentiality_is_a_ceiling_for_permit_and_a_floor_for_deny() {
        let codes = || vec![code(Some(CONFIDENTIALITY), "N"), code(Some(CONFIDENTIALITY), "R")];
        assert_eq!(covered(&Labels::new(codes(), ProvisionType::Permit), ProvisionType::Permit), "ULMNR");
        assert_eq!(covered(&Labels::new(codes(), ProvisionType::Deny), ProvisionType::Deny), "NRV");
    }

    #[test]
    fn the_highest_code_of_a_record_counts() {
        let record = record(&[code(None, "L"), code(Some(CONFIDENTIALITY), "V")]);
        assert!(!Labels::new(vec![code(None, "R")], ProvisionType::Permit).covers(&record, ProvisionType::Permit));
        assert!(Labels::new(vec![code(None, "R")], ProvisionType::Deny).covers(&record, ProvisionType::Deny));
    }

    #[test]
    fn a_code_of_another_system_is_a_ceiling_for_nobody_and_a_floor_for_all() {
        let foreign = |effect| Labels::new(vec![code(Some("urn:a"), "R")], effect);
        assert_eq!(covered(&foreign(ProvisionType::Permit), ProvisionType::Permit), "");
        assert_eq!(covered(&foreign(ProvisionType::Deny), ProvisionType::Deny), "RV");
        let same = record(&[code(Some("urn:a"), "R")]);
        assert!(foreign(ProvisionType::Permit).covers(&same, ProvisionType::Permit));
    }

    #[test]
    fn a_label_that_is_no_code_may_stand_for_any() {
        for label in [code(None, "r"), code(Some("urn:a"), "N"), code(Some(CONFIDENTIALITY), "normal")] {
            let record = record(&[code(None, "N"), label]);
            let deny = |label| Labels::new(vec![code(None, label)], ProvisionType::Deny);
            assert!(deny("V").covers(&record, ProvisionType::Deny) && deny("HIV").covers(&record, ProvisionType::Deny));
            assert!(!Labels::new(vec![code(None, "R")], ProvisionType::Permit).covers(&record, ProvisionType::Permit));
        }
    }

    /// Looking a code up says what comparing it with each says.
    #[test]
    fn codes_of_a_record_are_found_as_if_each_was_compared() {
        let systems = [None, Some(CONFIDENTIALITY), Some(ACT_CODE), Some("urn:a"), Some("urn:b")];
        let all =
            || systems.iter().flat_map(|system| ["HIV", "hiv", "R", "r", "x", "X"].map(|text| code(*system, text)));
        let all: Vec<Code> = all().collect();
        for effect in [ProvisionType::Permit, ProvisionType::Deny] {
            for rule in &all {
                for (i, one) in all.iter().enumerate() {
                    for other in &all[i..] {
                        let codes = Codes::new(vec![other.clone(), one.clone()]);
                        let each = [one, other].iter().any(|code| code.names(rule, effect));
                        let found = codes.any_named(std::slice::from_ref(rule), effect);
                        assert_eq!(found, each, "{effect:?} {rule:?} {one:?} {other:?}");
                    }
                }
            }
        }
        // And among all but one of them.
        for (i, rule) in all.iter().enumerate() {
            let others: Vec<Code> =
                all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, code)| code.clone()).collect();
            for effect in [ProvisionType::Permit, ProvisionType::Deny] {
                let each = others.iter().any(|code| code.names(rule, effect));
                assert_eq!(Codes::new(others.clone()).any_named(std::slice::from_ref(rule), effect), each, "{rule:?}");
            }
        }
    }
}
