//! What a consent is about, and whether its permits count.
//!
//! FHIR keeps consents of all kinds in one resource: to the disclosure of records, and to operations, to research on blood,
//! to bills, to not being resuscitated. Only the first kind can open a record; a denial counts whatever the kind.

use super::code::Code;
use crate::vocabulary::code_systems::{
    ACT_CODE, ACT_REASON, CONSENT_CATEGORY, CONSENT_SCOPE, CONSENT_TYPE_CODES, DISCLOSURE_CATEGORIES,
    DISCLOSURE_DOCUMENTS, LOINC, OPT_OUT, OTHER_CATEGORIES, OTHER_CONCEPTS, OTHER_DOCUMENTS, PAYMENT_CODES,
    RESEARCH_CATEGORIES, RESEARCH_TYPES, SNOMED,
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

/// Whether a code may say that the consent is about research: as a scope, or as a category.
pub fn may_be_research(code: &Code) -> bool {
    code.is_perhaps(CONSENT_SCOPE, &[ConsentScope::Research.code()])
        || code.is_perhaps(CONSENT_CATEGORY, RESEARCH_CATEGORIES)
        || code.is_perhaps(ACT_CODE, RESEARCH_TYPES)
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

/// Whether a code says that the consent is about something else, or about less than it permits, whatever stands beside it: no
/// spelling of it permits.
fn is_other(code: &Code) -> bool {
    code.is_perhaps(CONSENT_SCOPE, &["adr", "treatment"])
        || code.is_perhaps(CONSENT_CATEGORY, OTHER_CATEGORIES)
        || code.is_perhaps(ACT_CODE, &["EMRGONLY"])
        || code.is_perhaps(ACT_REASON, PAYMENT_CODES)
        || code.is_perhaps(LOINC, OTHER_DOCUMENTS)
        || code.is_perhaps(SNOMED, OTHER_CONCEPTS)
}

/// Systems in which it is known which categories are consents to disclosure: any other code of them is something else.
const KNOWN: &[&str] = &[CONSENT_SCOPE, CONSENT_CATEGORY, ACT_CODE, ACT_REASON, LOINC, SNOMED];

fn is_something_known(code: &Code) -> bool {
    code.meant().is_some_and(|system| KNOWN.contains(&system))
}

/// Whether a category says that nothing is to be disclosed, perhaps but for exceptions.
pub fn may_be_opt_out(code: &Code) -> bool {
    code.is_perhaps(ACT_CODE, OPT_OUT)
}

/// Whether a consent to disclosure may have this category. `listed` are the categories that a policy takes, empty if it takes those
/// that are known.
pub fn takes(code: &Code, listed: &[Code]) -> bool {
    if listed.is_empty() { is_disclosure(code) } else { listed.contains(code) }
}

/// Whether two codes may be one, so that they do not say two things.
fn may_be_one(one: &Code, other: &Code) -> bool {
    let apart = one.meant().is_some() && other.meant().is_some() && one.meant() != other.meant();
    one.code.eq_ignore_ascii_case(&other.code) && !apart
}

/// The standing of a consent with this scope and these categories. `listed` are the categories that a policy takes, empty if
/// it takes those that are known.
pub fn standing(scope: &[Code], category: &[Code], version: FhirVersion, verified: bool, listed: &[Code]) -> Standing {
    let taken = || category.iter().filter(|code| takes(code, listed));
    let of_category = taken().next().is_some();
    let beside = |scope: &Code| taken().any(|code| !may_be_one(scope, code));
    let of_scope = match scope {
        // R5 has no scope, and its categories say as much. In R4 one code does not say both.
        [] => version == FhirVersion::R5 || category.iter().filter(|code| is_any_scope(code)).any(beside),
        scope => scope.iter().any(is_any_scope),
    };
    let all = || scope.iter().chain(category);
    let elsewhere = |code: &Code| {
        is_other(code)
            || is_something_known(code) && !is_disclosure(code) && !is_any_scope(code) && !listed.contains(code)
    };
    match of_scope && of_category && verified && !all().any(elsewhere) {
        true => Standing::Permits,
        false if all().any(|code| is_disclosure(code) || is_any_scope(code)) => Standing::Withholds,
        false => Standing::Elsewhere,
    }
}
