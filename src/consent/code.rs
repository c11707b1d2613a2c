//! Codes and references, and when two of them name the same thing.

use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::json::At;
use crate::vocabulary::code_systems::{CONFIDENTIALITY, CONFIDENTIALITY_CODES};
use crate::vocabulary::{Coding, ProvisionType};

/// A code, with the system it is from where that is known. Two are equal whatever their words are.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
pub struct Code {
    /// URI of the code system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The code.
    pub code: String,
    /// The code in words, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.system == other.system
    }
}

impl Code {
    /// Whether a request that says `self` means `rule`: a bare code means that code of any system.
    pub fn names(&self, rule: &Self) -> bool {
        self.code == rule.code && (self.system.is_none() || self.system == rule.system)
    }

    /// The rank of a confidentiality code, 0 the least protected; none for any other code.
    fn confidentiality(&self) -> Option<usize> {
        let of_system = self.system.as_deref().is_none_or(|system| system == CONFIDENTIALITY);
        CONFIDENTIALITY_CODES.iter().position(|code| of_system && *code == self.code)
    }

    /// Reads `"CODE"` or `{system, code}` of a request.
    pub fn parse(at: &At) -> Result<Self, FieldError> {
        if at.value.is_string() {
            return Ok(Self { code: at.text()?.to_owned(), ..Self::default() });
        }
        if !at.value.is_object() {
            return Err(at.error("must be a code, or an object with system and code"));
        }
        at.only(&["system", "code", "display"])?;
        let code = at.get("code").ok_or_else(|| at.error("needs a code"))?.text()?.to_owned();
        let system = at.get("system").map(|system| system.text().map(str::to_owned)).transpose()?;
        Ok(Self { system, code, display: None })
    }
}

impl From<&Coding> for Code {
    fn from(coding: &Coding) -> Self {
        Self { system: coding.system.clone(), code: coding.code.clone(), display: coding.display.clone() }
    }
}

/// The security labels of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLabels {
    codes: Vec<Code>,
    highest: Option<usize>,
}

impl RecordLabels {
    /// Labels with these codes.
    pub fn new(codes: Vec<Code>) -> Self {
        let highest = codes.iter().filter_map(Code::confidentiality).max();
        Self { codes, highest }
    }
}

/// The security labels of a provision. For confidentiality, what a permit declares is a ceiling and what a deny declares
/// a floor, also where a nested provision of the other type inherits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// As the consent wrote them.
    pub codes: Vec<Code>,
    /// The type of the provision that declares them.
    pub declared_by: ProvisionType,
    /// The highest code of a permit, the lowest of a deny.
    bound: Option<usize>,
    sensitivity: Vec<Code>,
}

impl Labels {
    /// The labels `codes`, declared by a provision of type `declared_by`.
    pub fn new(codes: Vec<Code>, declared_by: ProvisionType) -> Self {
        let ranks = codes.iter().filter_map(Code::confidentiality);
        let bound = match declared_by {
            ProvisionType::Permit => ranks.max(),
            ProvisionType::Deny => ranks.min(),
        };
        let sensitivity = codes.iter().filter(|code| code.confidentiality().is_none()).cloned().collect();
        Self { codes, declared_by, bound, sensitivity }
    }

    /// Whether a record with these labels is meant.
    pub fn covers(&self, record: &RecordLabels) -> bool {
        let confidentiality = match (self.bound, record.highest, self.declared_by) {
            (Some(ceiling), Some(highest), ProvisionType::Permit) => highest <= ceiling,
            (Some(floor), Some(highest), ProvisionType::Deny) => highest >= floor,
            (None, ..) | (_, None, _) => false,
        };
        confidentiality || self.sensitivity.iter().any(|rule| record.codes.iter().any(|code| code.names(rule)))
    }

    /// Whether every record that these labels cover is covered by `other` too.
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

/// The part of a FHIR reference that counts: `Type/id`, without server and version.
pub fn reference_key(reference: &str) -> &str {
    let path = reference.split_once("/_history/").map_or(reference, |(path, _)| path).trim_end_matches('/');
    match path.rmatch_indices('/').nth(1) {
        Some((at, _)) => &path[at + 1..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(system: Option<&str>, code: &str) -> Code {
        Code { system: system.map(str::to_owned), code: code.to_owned(), display: None }
    }

    #[test]
    fn a_bare_code_means_any_system_and_a_full_one_means_itself() {
        let rule = code(Some("urn:a"), "X");
        assert!(code(None, "X").names(&rule) && code(Some("urn:a"), "X").names(&rule));
        assert!(!code(Some("urn:b"), "X").names(&rule) && !code(None, "Y").names(&rule));
        assert!(!code(Some("urn:a"), "X").names(&code(None, "X")));
    }

    #[test]
    fn confidentiality_is_a_ceiling_for_permit_and_a_floor_for_deny() {
        let record = |code_: &str| RecordLabels::new(vec![code(None, code_)]);
        let covered = |labels: &Labels| -> String {
            CONFIDENTIALITY_CODES.iter().filter(|code| labels.covers(&record(code))).copied().collect()
        };
        let codes = || vec![code(Some(CONFIDENTIALITY), "N"), code(Some(CONFIDENTIALITY), "R")];
        assert_eq!(covered(&Labels::new(codes(), ProvisionType::Permit)), "ULMNR");
        assert_eq!(covered(&Labels::new(codes(), ProvisionType::Deny)), "NRV");
    }

    #[test]
    fn the_highest_code_of_a_record_counts() {
        let record = RecordLabels::new(vec![code(None, "L"), code(Some(CONFIDENTIALITY), "V")]);
        assert!(!Labels::new(vec![code(None, "R")], ProvisionType::Permit).covers(&record));
        assert!(Labels::new(vec![code(None, "R")], ProvisionType::Deny).covers(&record));
    }

    #[test]
    fn a_code_of_another_system_is_no_confidentiality() {
        let foreign = Labels::new(vec![code(Some("urn:a"), "R")], ProvisionType::Permit);
        assert!(!foreign.covers(&RecordLabels::new(vec![code(Some(CONFIDENTIALITY), "N")])));
        assert!(foreign.covers(&RecordLabels::new(vec![code(Some("urn:a"), "R")])));
    }

    #[test]
    fn a_reference_is_its_type_and_id() {
        for text in [
            "Practitioner/7",
            "https://x.example/fhir/Practitioner/7",
            "Practitioner/7/_history/3",
            "a/Practitioner/7/",
        ] {
            assert_eq!(reference_key(text), "Practitioner/7", "{text}");
        }
        assert_eq!(reference_key("MercyMSP"), "MercyMSP");
        assert_eq!(reference_key("urn:uuid:1-2"), "urn:uuid:1-2");
    }
}
