//! One code system under its several names: which URLs, OIDs and value sets mean the same system.
//!
//! Documents name a system by its URL, by that of a value set drawn from it, by its OID, or as FHIR STU3 did. A denial must
//! not miss for that. What two names differ in by scheme, `www.`, case of the host, a slash at the end or a version is no
//! difference at all ([`bare`]); what differs more stands in [`ALIASES`], and a ConsentPolicy may add to it.
//!
//! Sources: HL7 Terminology (<https://terminology.hl7.org>, each system's page names its OID and value sets); FHIR STU3
//! (<https://hl7.org/fhir/STU3/terminologies-systems.html>) for `http://hl7.org/fhir/v3/…` and `http://hl7.org/fhir/consent…`;
//! FHIR R4 and R5, `valueset-consent-*`, `valueset-resource-types`, `codesystem-fhir-types`; the HL7 OID registry for LOINC,
//! SNOMED CT, RxNorm, CVX, ICD and ATC.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::code_systems::{
    ACT_CODE, ACT_REASON, CONFIDENTIALITY, CONSENT_ACTION, CONSENT_CATEGORY, CONSENT_SCOPE, LOINC, PARTICIPATION_TYPE,
    RESOURCE_TYPES, ROLE_CLASS, ROLE_CODE, SNOMED,
};

/// Each system with its other names.
pub const ALIASES: &[(&str, &[&str])] = &[
    (
        CONFIDENTIALITY,
        &[
            "urn:oid:2.16.840.1.113883.5.25",
            "http://hl7.org/fhir/v3/Confidentiality",
            "http://terminology.hl7.org/ValueSet/v3-Confidentiality",
            "http://terminology.hl7.org/ValueSet/v3-ConfidentialityClassification",
            "http://hl7.org/fhir/ValueSet/v3-Confidentiality",
            "http://hl7.org/fhir/ValueSet/v3-ConfidentialityClassification",
        ],
    ),
    (
        ACT_CODE,
        &[
            "urn:oid:2.16.840.1.113883.5.4",
            "http://hl7.org/fhir/v3/ActCode",
            "http://terminology.hl7.org/ValueSet/v3-ActCode",
            "http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy",
            "http://terminology.hl7.org/ValueSet/v3-ActInformationSensitivityPolicy",
            "http://terminology.hl7.org/ValueSet/v3-ActConsentType",
            "http://terminology.hl7.org/ValueSet/v3-ActConsentDirective",
            "http://hl7.org/fhir/ValueSet/v3-ActCode",
            "http://hl7.org/fhir/ValueSet/v3-InformationSensitivityPolicy",
            "http://hl7.org/fhir/ValueSet/v3-ActConsentDirective",
        ],
    ),
    (
        ACT_REASON,
        &[
            "urn:oid:2.16.840.1.113883.5.8",
            "http://hl7.org/fhir/v3/ActReason",
            "http://terminology.hl7.org/ValueSet/v3-ActReason",
            "http://terminology.hl7.org/ValueSet/v3-PurposeOfUse",
            "http://hl7.org/fhir/ValueSet/v3-ActReason",
            "http://hl7.org/fhir/ValueSet/v3-PurposeOfUse",
            "http://hl7.org/fhir/v3/vs/PurposeOfUse",
        ],
    ),
    (
        PARTICIPATION_TYPE,
        &[
            "urn:oid:2.16.840.1.113883.5.90",
            "http://hl7.org/fhir/v3/ParticipationType",
            "http://terminology.hl7.org/ValueSet/v3-ParticipationType",
            "http://hl7.org/fhir/ValueSet/v3-ParticipationType",
            "http://hl7.org/fhir/v3/vs/ParticipationType",
        ],
    ),
    (ROLE_CLASS, &["urn:oid:2.16.840.1.113883.5.110", "http://hl7.org/fhir/v3/RoleClass"]),
    (ROLE_CODE, &["urn:oid:2.16.840.1.113883.5.111", "http://hl7.org/fhir/v3/RoleCode"]),
    (
        CONSENT_ACTION,
        &[
            "http://hl7.org/fhir/consentaction",
            "http://hl7.org/fhir/CodeSystem/consentaction",
            "http://hl7.org/fhir/ValueSet/consent-action",
            "http://terminology.hl7.org/ValueSet/consent-action",
        ],
    ),
    (
        CONSENT_SCOPE,
        &[
            "http://hl7.org/fhir/consentscope",
            "http://hl7.org/fhir/CodeSystem/consentscope",
            "http://hl7.org/fhir/ValueSet/consent-scope",
            "http://terminology.hl7.org/ValueSet/consent-scope",
        ],
    ),
    (
        CONSENT_CATEGORY,
        &[
            "http://hl7.org/fhir/consentcategorycodes",
            "http://hl7.org/fhir/CodeSystem/consentcategorycodes",
            "http://hl7.org/fhir/ValueSet/consent-category",
            "http://terminology.hl7.org/ValueSet/consent-category",
        ],
    ),
    (
        RESOURCE_TYPES,
        &[
            "http://hl7.org/fhir/fhir-types",
            "http://hl7.org/fhir/CodeSystem/resource-types",
            "http://hl7.org/fhir/ValueSet/resource-types",
            "http://hl7.org/fhir/ValueSet/fhir-types",
            "http://hl7.org/fhir/ValueSet/consent-content-class",
        ],
    ),
    (LOINC, &["urn:oid:2.16.840.1.113883.6.1", "http://hl7.org/fhir/ValueSet/consent-content-code"]),
    (SNOMED, &["urn:oid:2.16.840.1.113883.6.96"]),
    ("http://www.nlm.nih.gov/research/umls/rxnorm", &["urn:oid:2.16.840.1.113883.6.88"]),
    ("http://hl7.org/fhir/sid/cvx", &["urn:oid:2.16.840.1.113883.12.292"]),
    ("http://hl7.org/fhir/sid/icd-10", &["urn:oid:2.16.840.1.113883.6.3"]),
    ("http://hl7.org/fhir/sid/icd-10-cm", &["urn:oid:2.16.840.1.113883.6.90"]),
    ("http://hl7.org/fhir/sid/icd-9-cm", &["urn:oid:2.16.840.1.113883.6.103"]),
    ("http://www.whocc.no/atc", &["urn:oid:2.16.840.1.113883.6.73"]),
    ("http://hl7.org/fhir/sid/us-npi", &["urn:oid:2.16.840.1.113883.4.6"]),
    ("http://hl7.org/fhir/sid/us-ssn", &["urn:oid:2.16.840.1.113883.4.1"]),
    ("urn:ietf:rfc:3986", &[]),
    ("urn:ietf:bcp:13", &[]),
];

/// A name without what makes no difference: scheme, `www.`, case and usual port of the host, slashes at the end, version. Of a
/// `urn:` only the case of what it begins with makes none; but that of OIDs and UUIDs, which have no case.
pub fn bare(name: &str) -> String {
    let name = name.split_once('|').map_or(name, |(name, _)| name).trim_end_matches('/');
    if name.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) && name.contains('.') {
        return format!("urn:oid:{name}");
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("urn:oid:") || lower.starts_with("urn:uuid:") {
        return lower;
    }
    if lower.starts_with("urn:") {
        let begin = lower.match_indices(':').nth(1).map_or(lower.len(), |(at, _)| at);
        return format!("{}{}", &lower[..begin], &name[begin..]);
    }
    let scheme = ["http://", "https://"].iter().find(|scheme| lower.starts_with(**scheme));
    let Some(scheme) = scheme else { return name.to_owned() };
    let (host, path) = name[scheme.len()..].split_once('/').unwrap_or((&name[scheme.len()..], ""));
    let host = host.to_ascii_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    let host = [":443", ":80"].iter().find_map(|port| host.strip_suffix(port)).unwrap_or(host);
    if host == "snomed.info" && path.starts_with("sct/") {
        return "snomed.info/sct".to_owned();
    }
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// The system that is known under this name, by the URL that this project writes.
pub fn known(name: &str) -> Option<&'static str> {
    static NAMES: LazyLock<BTreeMap<String, &'static str>> = LazyLock::new(|| {
        let names = |(system, others): &(&'static str, &[&str])| -> Vec<(String, &'static str)> {
            std::iter::once(system).chain(*others).map(|name| (bare(name), *system)).collect()
        };
        ALIASES.iter().flat_map(names).collect()
    });
    NAMES.get(&bare(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_belongs_to_one_system() {
        let mut names: Vec<String> = ALIASES
            .iter()
            .flat_map(|(system, others)| std::iter::once(system).chain(*others))
            .map(|name| bare(name))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn spellings_of_a_name_are_one_name() {
        for name in [
            "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "https://Terminology.HL7.org/CodeSystem/v3-ActCode//",
            "http://www.terminology.hl7.org/CodeSystem/v3-ActCode|2.0.0",
            "urn:oid:2.16.840.1.113883.5.4",
            "URN:OID:2.16.840.1.113883.5.4",
            "2.16.840.1.113883.5.4",
            "http://hl7.org/fhir/v3/ActCode",
        ] {
            assert_eq!(known(name), Some(ACT_CODE), "{name}");
        }
        assert_eq!(known("http://snomed.info/sct/900000000000207008/version/20260101"), Some(SNOMED));
        assert_eq!(known("http://terminology.hl7.org/codesystem/v3-actcode"), None, "a path has its case");
        assert_eq!(known("urn:x"), None);
    }
}
