//! What a consent is about, and whether its permits count.
//!
//! FHIR keeps consents of all kinds in one resource: to the disclosure of records, and to operations, to research on blood,
//! to bills, to not being resuscitated. Only the first kind can open a record; a denial counts whatever the kind.

use super::code::Code;
use crate::vocabulary::code_systems::{
    ACT_CODE, CONSENT_CATEGORY, CONSENT_SCOPE, CONSENT_TYPE_CODES, DISCLOSURE_CATEGORIES, DISCLOSURE_DOCUMENTS, LOINC,
    OTHER_CATEGORIES, OTHER_DOCUMENTS,
};
use crate::vocabulary::{ConsentScope, FhirVersion};

/// What the provisions of a consent count for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is about something else than records, or than what is asked for: only its denials count.
    Elsewhere,
    /// Denials count, also of what its permits leave out; it permits nothing.
    Withholds,
    /// Permits and denials count.
    Permits,
}

fn one_of(code: &Code, system: &str, codes: &[&str]) -> bool {
    code.may_be_of(system) && codes.contains(&code.code.as_str())
}

/// Whether a code of a scope or category names this scope.
pub fn is_scope(code: &Code, scope: ConsentScope) -> bool {
    one_of(code, CONSENT_SCOPE, &[scope.code()])
}

/// Whether a code may name the scope of research.
pub fn may_be_research(code: &Code) -> bool {
    code.is_perhaps(CONSENT_SCOPE, &[ConsentScope::Research.code()])
}

/// Whether a category is known as one of consents to disclosure.
pub fn is_disclosure(code: &Code) -> bool {
    one_of(code, CONSENT_CATEGORY, DISCLOSURE_CATEGORIES)
        || one_of(code, ACT_CODE, CONSENT_TYPE_CODES)
        || one_of(code, LOINC, DISCLOSURE_DOCUMENTS)
}

fn is_any_scope(code: &Code) -> bool {
    is_scope(code, ConsentScope::PatientPrivacy) || is_scope(code, ConsentScope::Research)
}

/// Whether a code says that the consent is about something else, whatever stands beside it: no spelling of it permits.
fn is_other(code: &Code) -> bool {
    code.is_perhaps(CONSENT_SCOPE, &["adr", "treatment"])
        || code.is_perhaps(CONSENT_CATEGORY, OTHER_CATEGORIES)
        || code.is_perhaps(LOINC, OTHER_DOCUMENTS)
}

/// The standing of a consent with this scope and these categories. `listed` are the categories that a policy takes, empty if
/// it takes those that are known.
pub fn standing(scope: &[Code], category: &[Code], version: FhirVersion, verified: bool, listed: &[Code]) -> Standing {
    let takes = |code: &Code| match listed {
        [] => is_disclosure(code) || version == FhirVersion::R5 && is_any_scope(code),
        listed => listed.contains(code),
    };
    let of_category = category.iter().any(takes);
    let of_scope = match scope {
        // R5 has no scope, and its categories say as much.
        [] => category.iter().any(is_any_scope) || version == FhirVersion::R5 && of_category,
        scope => scope.iter().any(is_any_scope),
    };
    let all = || scope.iter().chain(category);
    match of_scope && of_category && verified && !all().any(is_other) {
        true => Standing::Permits,
        false if all().any(|code| is_disclosure(code) || is_any_scope(code)) => Standing::Withholds,
        false => Standing::Elsewhere,
    }
}
