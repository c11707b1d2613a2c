//! What a consent is about: a permit counts only from a consent to the disclosure of records that says of no narrower one.

use serde_json::{Value, json};

use super::generate::{codings, consent};
use super::{decide, policy};
use crate::vocabulary::ConsentScope;
use crate::vocabulary::code_systems::{ACT_CODE, ACT_REASON, CONSENT_CATEGORY, CONSENT_SCOPE, LOINC, SNOMED};
use crate::{Policy, fhir};

const UNKNOWN: &str = "urn:unknown";

fn coding(system: &str, code: &str) -> Value {
    if system.is_empty() { json!({"code": code}) } else { codings(system, &[code])[0].clone() }
}

fn concepts(list: &[(&str, &str)]) -> Value {
    list.iter().map(|(system, code)| json!({"coding": [coding(system, code)]})).collect()
}

/// What a consent of these categories answers, whose provisions are those of `rule`.
fn answer(policy: &Policy, scope: &[(&str, &str)], category: &[(&str, &str)], rule: Value) -> String {
    let mut document = consent(rule);
    if scope.is_empty() {
        document.as_object_mut().expect("an object").remove("scope");
    } else {
        document["scope"] =
            json!({"coding": scope.iter().map(|(system, code)| coding(system, code)).collect::<Vec<_>>()});
    }
    document["category"] = concepts(category);
    let request = json!({"patient": "Patient/ex-patient", "actor": {"id": "Practitioner/a"}, "purpose": "TREAT"});
    decide(&[document], policy, &request)["decision"].as_str().expect("a text").to_owned()
}

fn everything() -> Value {
    json!({"provision": {"type": "permit"}})
}

const PRIVACY: &[(&str, &str)] = &[(CONSENT_SCOPE, "patient-privacy")];
const PATIENT_CONSENT: (&str, &str) = (LOINC, "59284-0");

#[test]
fn a_category_that_restricts_or_is_of_something_else_never_permits_beside_a_known_one() {
    for (system, codes) in [
        (CONSENT_CATEGORY, &["emrgonly", "EmrgOnly", "dnr", "acd", "hcd", "polst"][..]),
        (ACT_CODE, &["EMRGONLY", "emrgonly"]),
        (ACT_REASON, &["HPAYMT", "CLMATTCH", "COVERAGE"]),
        (LOINC, &["75787-2", "93037-0", "81351-9", "64298-3"]),
        (SNOMED, &["304253006", "395067002"]),
        (CONSENT_SCOPE, &["treatment", "adr"]),
    ] {
        for code in codes {
            for written in [system, UNKNOWN, ""] {
                let beside = [PATIENT_CONSENT, (written, *code)];
                assert_eq!(answer(&Policy::default(), PRIVACY, &beside, everything()), "DENY", "{written} {code}");
            }
        }
    }
    // Of a system that is known here, a code that nobody knows as disclosure is something else; of others it may be anything.
    for (system, code, expected) in [
        (LOINC, "11506-3", "DENY"),
        (SNOMED, "71388002", "DENY"),
        (ACT_CODE, "NOAUTH", "DENY"),
        (CONSENT_CATEGORY, "hipaa", "DENY"),
        ("urn:oid:1.2.3.4", "wards", "PERMIT"),
        (LOINC, "57016-8", "PERMIT"),
        (ACT_CODE, "IDSCL", "PERMIT"),
    ] {
        let beside = [PATIENT_CONSENT, (system, code)];
        assert_eq!(answer(&Policy::default(), PRIVACY, &beside, everything()), expected, "{system} {code}");
    }
}

#[test]
fn an_opt_out_permits_only_as_an_exception_to_a_denial() {
    let exception =
        || json!({"provision": {"type": "deny", "provision": [{"type": "permit", "purpose": [{"code": "TREAT"}]}]}});
    for system in [ACT_CODE, UNKNOWN, ""] {
        for code in ["OPTOUT", "OPTOUTE", "optout"] {
            let category = [PATIENT_CONSENT, (system, code)];
            assert_eq!(answer(&Policy::default(), PRIVACY, &category, everything()), "DENY", "{system} {code}");
            // In its own system the code is written in capital letters.
            let excepted = if (system, code) == (ACT_CODE, "optout") { "DENY" } else { "PERMIT" };
            assert_eq!(answer(&Policy::default(), PRIVACY, &category, exception()), excepted, "{system} {code}");
        }
    }
}

#[test]
fn one_code_is_not_both_scope_and_category() {
    let bare = ("", "research");
    let research = (CONSENT_SCOPE, "research");
    for (category, expected) in [
        (&[bare][..], "DENY"),
        (&[bare, bare], "DENY"),
        (&[bare, (CONSENT_CATEGORY, "research")], "DENY"),
        (&[research, (CONSENT_CATEGORY, "research")], "PERMIT"),
        (&[research, PATIENT_CONSENT], "PERMIT"),
        (&[research], "DENY"),
        (&[PATIENT_CONSENT], "DENY"),
    ] {
        assert_eq!(answer(&Policy::default(), &[], category, everything()), expected, "{category:?}");
    }
    // R5 has no scope: its category has to be one, and a scope among the categories is none.
    for (category, expected) in [
        (&[PRIVACY[0]][..], "DENY"),
        (&[research], "DENY"),
        (&[PATIENT_CONSENT], "PERMIT"),
        (&[PRIVACY[0], PATIENT_CONSENT], "PERMIT"),
        (&[(CONSENT_CATEGORY, "npp")], "PERMIT"),
    ] {
        assert_eq!(answer(&Policy::default(), &[], category, json!({"decision": "permit"})), expected, "{category:?}");
    }
}

#[test]
fn a_category_of_research_is_about_research_and_not_about_care() {
    let care = policy(json!({"scope": "patient-privacy"}));
    for (system, code) in [
        (CONSENT_CATEGORY, "research"),
        (CONSENT_CATEGORY, "rsdid"),
        (CONSENT_CATEGORY, "rsreid"),
        (ACT_CODE, "RESEARCH"),
        (ACT_CODE, "RSDID"),
        (ACT_CODE, "RSREID"),
        (UNKNOWN, "Research"),
        ("", "research"),
    ] {
        let category = [PATIENT_CONSENT, (system, code)];
        assert_eq!(answer(&care, PRIVACY, &category, everything()), "DENY", "{system} {code}");
        let mut document = consent(everything());
        document["category"] = concepts(&category);
        assert_eq!(fhir::scope(&document), ConsentScope::Research, "{system} {code}");
    }
    assert_eq!(answer(&care, PRIVACY, &[PATIENT_CONSENT], everything()), "PERMIT");
}
