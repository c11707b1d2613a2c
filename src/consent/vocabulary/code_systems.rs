//! The closed code systems of a ConsentPolicy: which codes exist, in one place.
//!
//! A code outside these lists is refused in a ConsentPolicy (by the schema and by validation), so that a typing error
//! never becomes a rule that matches nothing. A patient's own Consent may hold any code: there an unknown one is kept.
//!
//! Sources: HL7 Terminology (THO) code systems v3-Confidentiality, v3-ActReason (value set v3-PurposeOfUse),
//! v3-ActCode (value set v3-InformationSensitivityPolicy, abstract concepts left out), v3-ParticipationType;
//! HL7 FHIR R4 `codesystem-consent-action`, `-scope`, `-category`, `valueset-resource-types`. Codes are
//! case-sensitive. The trap: `N` is a confidentiality code only in v3-Confidentiality.

/// HL7 v3-Confidentiality.
pub const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// HL7 v3-ActReason: purposes of use.
pub const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
/// HL7 v3-ActCode: sensitivity policies, consent types, opt-in and opt-out, obligations.
pub const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// HL7 v3-ParticipationType: how an actor takes part.
pub const PARTICIPATION_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
/// FHIR consent actions.
pub const CONSENT_ACTION: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
/// FHIR scopes of consents (R4; R5 has them among the categories).
pub const CONSENT_SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
/// HL7 v3-RoleClass.
pub const ROLE_CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
/// HL7 v3-RoleCode.
pub const ROLE_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
/// FHIR consent categories.
pub const CONSENT_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/consentcategorycodes";
/// FHIR resource types.
pub const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
/// LOINC.
pub const LOINC: &str = "http://loinc.org";
/// SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";

/// Confidentiality codes from least to most protected: the order is the high-water mark.
pub const CONFIDENTIALITY_CODES: &[&str] = &["U", "L", "M", "N", "R", "V"];

/// Purposes of use that are research: `HRESCH` and what lies below it.
pub const RESEARCH_CODES: &[&str] =
    &["HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH", "DSRCH", "POARCH", "TRANSRCH"];

/// Purposes of use.
pub const PURPOSE_CODES: &[&str] = &[
    "BIORCH",
    "BTG",
    "CAREMGT",
    "CLINTRCH",
    "CLINTRCHNPC",
    "CLINTRCHPC",
    "CLINTRL",
    "CLMATTCH",
    "COC",
    "COVAUTH",
    "COVERAGE",
    "DISASTER",
    "DONAT",
    "DSRCH",
    "ELIGDTRM",
    "ELIGVER",
    "ENROLLM",
    "ERTREAT",
    "ETREAT",
    "FAMRQT",
    "FRAUD",
    "GOV",
    "HACCRED",
    "HCOMPL",
    "HDECD",
    "HDIRECT",
    "HDM",
    "HLEGAL",
    "HMARKT",
    "HOPERAT",
    "HOUTCOMS",
    "HPAYMT",
    "HPRGRP",
    "HQUALIMP",
    "HRESCH",
    "HSYSADMIN",
    "HTEST",
    "LABELING",
    "MEMADMIN",
    "METAMGT",
    "MILCDM",
    "MILDCRG",
    "PATADMIN",
    "PATRQT",
    "PATSFTY",
    "PERFMSR",
    "POARCH",
    "POPHLTH",
    "PRECLINTRCH",
    "PUBHLTH",
    "PWATRNY",
    "RECORDMGT",
    "REMITADV",
    "SUPNWK",
    "SYSDEV",
    "THREAT",
    "TRAIN",
    "TRANSRCH",
    "TREAT",
];

/// Sensitivity policies of v3-ActCode.
pub const SENSITIVITY_CODES: &[&str] = &[
    "ADOL", "B", "BH", "CEL", "COGN", "DEMO", "DIA", "DOB", "DRGIS", "DVD", "EMOTDIS", "EMP", "EMPL", "ETH", "ETHUD",
    "GDIS", "GENDER", "HIV", "IDS", "LIVARG", "LOCIS", "MARST", "MH", "MST", "OPIOIDUD", "PATLOC", "PDS", "PHY",
    "PREGNANT", "PRS", "PSY", "PSYTHPN", "RACE", "REL", "SCA", "SDV", "SEX", "SICKLE", "SPI", "SSP", "STD", "SUD",
    "TBOO", "VIO", "VIP",
];

/// Consent actions.
const ACTION_CODES: &[&str] = &["access", "collect", "correct", "disclose", "use"];

/// Participation types that say who an actor is to a rule: the author or the custodian of the data, or who receives them.
const PARTICIPATION_CODES: &[&str] = &["AUT", "CST", "IRCP", "PRCP"];

/// Categories of the FHIR code system of consent categories.
const CATEGORY_CODES: &[&str] = &["acd", "dnr", "emrgonly", "hcd", "npp", "polst", "research", "rsdid", "rsreid"];

/// The categories of FHIR's own code system that are consents to the use and disclosure of records.
pub const DISCLOSURE_CATEGORIES: &[&str] = &["npp", "research", "rsdid", "rsreid"];

/// The categories among them that are about research.
pub const RESEARCH_CATEGORIES: &[&str] = &["research", "rsdid", "rsreid"];

/// The categories of FHIR's own code system that are directives about care, such as an order not to resuscitate, or hold in
/// emergencies only: what such a consent permits is no access to records, or less than it says.
pub const OTHER_CATEGORIES: &[&str] = &["acd", "dnr", "emrgonly", "hcd", "polst"];

/// Consent types of v3-ActCode that serve as a category.
pub const CONSENT_TYPE_CODES: &[&str] = &[
    "ICOL", "IDSCL", "INFA", "INFAO", "INFASO", "IRDSCL", "OPTIN", "OPTINR", "OPTOUT", "OPTOUTE", "RESEARCH", "RSDID",
    "RSREID",
];

/// Consent types of v3-ActCode that are about research.
pub const RESEARCH_TYPES: &[&str] = &["RESEARCH", "RSDID", "RSREID"];

/// Codes of v3-ActCode that deny but for exceptions.
pub const OPT_OUT: &[&str] = &["OPTOUT", "OPTOUTE"];

/// Purposes of use that are about payment.
pub const PAYMENT_CODES: &[&str] =
    &["CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "HPAYMT", "MILDCRG", "REMITADV"];

/// SNOMED CT concepts about resuscitation and care that stand as categories.
pub const OTHER_CONCEPTS: &[&str] = &["304253006", "395067002"];

/// LOINC documents that are consents to operations and anaesthesia, advance directives, living wills, orders about
/// life-sustaining treatment, and powers of attorney.
pub const OTHER_DOCUMENTS: &[&str] = &[
    "42348-3", "61358-2", "61359-0", "64293-4", "64298-3", "64300-7", "75320-2", "75787-2", "78823-2", "81334-5",
    "81351-9", "86533-7", "93037-0",
];

/// LOINC documents that serve as a category: consent, privacy policy acknowledgement and consent, release of information.
pub const DISCLOSURE_DOCUMENTS: &[&str] = &["57016-8", "57017-6", "59284-0", "64292-6"];

/// Resource types of FHIR R4 and R5 that hold a patient's data.
const RESOURCE_TYPE_CODES: &[&str] = &[
    "Account",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "ArtifactAssessment",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BiologicallyDerivedProductDispense",
    "BodyStructure",
    "Bundle",
    "CarePlan",
    "CareTeam",
    "ChargeItem",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "Communication",
    "CommunicationRequest",
    "Composition",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceAssociation",
    "DeviceDispense",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUsage",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "Encounter",
    "EncounterHistory",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "GenomicStudy",
    "Goal",
    "Group",
    "GuidanceResponse",
    "ImagingSelection",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "Invoice",
    "List",
    "Location",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "MolecularSequence",
    "NutritionIntake",
    "NutritionOrder",
    "Observation",
    "Organization",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "RequestOrchestration",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "Schedule",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "Substance",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "Transport",
    "VisionPrescription",
];

/// Resource types that hold no patient's data and may be named all the same.
const OTHER_RESOURCE_TYPES: &[&str] = &[
    "ActivityDefinition",
    "Endpoint",
    "HealthcareService",
    "InsurancePlan",
    "Library",
    "Measure",
    "OrganizationAffiliation",
    "PlanDefinition",
    "Questionnaire",
];

/// Whether FHIR has a resource type of this name that a reference may name.
pub fn is_resource_type(name: &str) -> bool {
    RESOURCE_TYPE_CODES.contains(&name) || OTHER_RESOURCE_TYPES.contains(&name)
}

/// Systems of which every code that can stand in a provision is listed here.
pub const COMPLETE_SYSTEMS: &[&str] = &[CONFIDENTIALITY, ACT_REASON, CONSENT_ACTION, RESOURCE_TYPES];

/// Systems whose codes are too many to list here, with the shape that their codes have.
pub const OPEN_SYSTEMS: &[(&str, CodeShape)] = &[
    (LOINC, CodeShape::Loinc),
    (SNOMED, CodeShape::Digits { fewest: 6, most: 18 }),
    ("http://www.nlm.nih.gov/research/umls/rxnorm", CodeShape::Digits { fewest: 1, most: 8 }),
    ("http://hl7.org/fhir/sid/cvx", CodeShape::Digits { fewest: 1, most: 3 }),
    ("http://hl7.org/fhir/sid/icd-10", CodeShape::Icd { letters: true }),
    ("http://hl7.org/fhir/sid/icd-10-cm", CodeShape::Icd { letters: true }),
    ("http://hl7.org/fhir/sid/icd-9-cm", CodeShape::Icd { letters: false }),
    ("http://www.whocc.no/atc", CodeShape::Atc),
    ("urn:ietf:rfc:3986", CodeShape::With(':')),
    ("urn:ietf:bcp:13", CodeShape::With('/')),
];

/// What a code of an open system looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeShape {
    /// Digits, `-`, one check digit.
    Loinc,
    /// Digits only, so many of them.
    Digits {
        /// Fewest.
        fewest: usize,
        /// Most.
        most: usize,
    },
    /// A letter and two digits or letters, and a part behind a dot; without letters, three digits of which the first may be E or V.
    Icd {
        /// Whether it begins with a letter.
        letters: bool,
    },
    /// Letters and digits by level: `A`, `A10`, `A10B`, `A10BA`, `A10BA02`.
    Atc,
    /// Any text with this character and without white space.
    With(char),
}

impl CodeShape {
    /// Whether `code` has this shape.
    pub fn fits(self, code: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match self {
            Self::Loinc => {
                code.rsplit_once('-').is_some_and(|(number, check)| digits(number) && check.len() == 1 && digits(check))
            }
            Self::Digits { fewest, most } => digits(code) && (fewest..=most).contains(&code.len()),
            Self::Icd { letters } => {
                let (category, rest) =
                    code.split_once('.').map_or((code, None), |(category, rest)| (category, Some(rest)));
                let alphanumeric = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
                let of_category = match category.as_bytes() {
                    [first, second, ..] if letters => {
                        first.is_ascii_alphabetic() && second.is_ascii_digit() && category.len() == 3
                    }
                    [b'E' | b'V', rest @ ..] => !letters && rest.iter().all(u8::is_ascii_digit) && rest.len() >= 2,
                    all => !letters && all.iter().all(u8::is_ascii_digit) && all.len() == 3,
                };
                of_category && alphanumeric(category) && rest.is_none_or(|rest| !rest.is_empty() && alphanumeric(rest))
            }
            Self::Atc => {
                let kinds = [u8::is_ascii_alphabetic, u8::is_ascii_digit];
                let levels = [0, 1, 1, 0, 0, 1, 1];
                matches!(code.len(), 1 | 3 | 4 | 5 | 7) && code.bytes().zip(levels).all(|(b, kind)| kinds[kind](&b))
            }
            Self::With(character) => code.contains(character) && !code.chars().any(char::is_whitespace),
        }
    }
}

/// An element of a policy that holds codes, with the systems that may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodedElement {
    /// Why access is asked for.
    Purpose,
    /// What is done with the record.
    Action,
    /// Confidentiality and sensitivity of the record.
    SecurityLabel,
    /// Kind of record.
    Class,
    /// Clinical content of the record.
    Code,
    /// Kind of consent.
    Category,
    /// How an actor takes part.
    Role,
}

impl CodedElement {
    /// Every element that holds codes.
    pub const ALL: [Self; 7] =
        [Self::Purpose, Self::Action, Self::SecurityLabel, Self::Class, Self::Code, Self::Category, Self::Role];

    /// The closed systems of the element, the one that a bare code is looked up in first.
    pub fn closed_systems(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Purpose => &[(ACT_REASON, PURPOSE_CODES)],
            Self::Action => &[(CONSENT_ACTION, ACTION_CODES)],
            Self::SecurityLabel => &[(CONFIDENTIALITY, CONFIDENTIALITY_CODES), (ACT_CODE, SENSITIVITY_CODES)],
            Self::Class => &[(RESOURCE_TYPES, RESOURCE_TYPE_CODES)],
            Self::Code => &[],
            Self::Category => {
                &[(CONSENT_CATEGORY, CATEGORY_CODES), (ACT_CODE, CONSENT_TYPE_CODES), (LOINC, DISCLOSURE_DOCUMENTS)]
            }
            Self::Role => &[(PARTICIPATION_TYPE, PARTICIPATION_CODES)],
        }
    }

    /// Whether codes of [`OPEN_SYSTEMS`] may stand in the element.
    pub fn open(self) -> bool {
        matches!(self, Self::Class | Self::Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_no_code_twice() {
        for (system, codes) in CodedElement::ALL.iter().flat_map(|element| element.closed_systems()) {
            let mut unique = codes.to_vec();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), codes.len(), "{system}");
        }
    }

    #[test]
    fn shapes_tell_a_code_from_a_typing_error() {
        assert!(CodeShape::Loinc.fits("59284-0") && !CodeShape::Loinc.fits("59284"));
        let shape = |system: &str| OPEN_SYSTEMS.iter().find(|(open, _)| open.ends_with(system)).expect(system).1;
        for (system, codes, others) in [
            ("sct", &["38341003", "900000000000207008"][..], &["3834x", "207", "Observation"][..]),
            ("rxnorm", &["1", "1049502"], &["900000000", "x"]),
            ("cvx", &["207"], &["38341003", ""]),
            ("icd-10", &["F10", "F10.2", "U07.1"], &["F10 2", "F1", "Observation", "HIV", "F10.", "207"]),
            ("icd-10-cm", &["S72.001A", "C4A.9"], &["Media", "S72.0-1"]),
            ("icd-9-cm", &["303", "303.90", "V08", "E950.9"], &["F10", "Observation", "30"]),
            ("atc", &["A", "A10", "A10B", "A10BA", "A10BA02"], &["AB", "Media", "A10BA0", "Observation"]),
            ("3986", &["urn:oid:1.2", "https://a.example"], &["HIV", "a: b"]),
            ("13", &["text/plain"], &["Observation"]),
        ] {
            codes.iter().for_each(|code| assert!(shape(system).fits(code), "{system} {code}"));
            others.iter().for_each(|code| assert!(!shape(system).fits(code), "{system} {code}"));
        }
    }
}
