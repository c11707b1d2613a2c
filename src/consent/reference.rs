//! References to people, patients and records, and when two of them name the same.
//!
//! A reference can be compared if it ends in `Type/id`. A search, a contained resource, a UUID of a bundle that is not here
//! or a type that FHIR does not have cannot: in a permit it names nobody, in a denial it is refused, because a denial that
//! matches nobody withholds nothing.

use crate::vocabulary::code_systems::is_resource_type;

/// Types that can be an actor.
pub const ACTOR_TYPES: &[&str] = &[
    "CareTeam",
    "Device",
    "Endpoint",
    "Group",
    "HealthcareService",
    "Organization",
    "Patient",
    "Person",
    "Practitioner",
    "PractitionerRole",
    "RelatedPerson",
];

/// A patient or a record: `Type/id`, on the server that the reference names, if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `Type/id`.
    pub key: String,
    /// The server, without what makes no difference.
    base: Option<String>,
}

/// Types of those who are more than one, or of whom somebody is one: who asks is known by another name.
const COLLECTIVES: &[&str] =
    &["CareTeam", "Endpoint", "Group", "HealthcareService", "Organization", "PractitionerRole"];

/// Whether somebody of this type is nobody who asks under that name.
pub fn is_collective(kind: &str) -> bool {
    COLLECTIVES.contains(&kind)
}

/// Whether no certificate says that somebody is, or is of, what has this type.
pub fn has_no_certificate(kind: &str) -> bool {
    is_collective(kind) && !["Group", "Organization"].contains(&kind)
}

impl Subject {
    /// Reads a reference; none if it does not end in a type and an id.
    pub fn parse(reference: &str) -> Option<Self> {
        let (base, kind, id) = parts(reference)?;
        let steps: Vec<&str> = base.split('/').filter(|step| !step.is_empty()).collect();
        let base =
            (!base.is_empty()).then(|| crate::vocabulary::systems::bare(&steps.join("/").replacen(":/", "://", 1)));
        Some(Self { key: format!("{kind}/{id}"), base })
    }

    /// What has a name only, and no type.
    pub fn untyped(name: &str) -> Self {
        Self { key: name.to_owned(), base: None }
    }

    /// The server, where the reference names one.
    pub fn server(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// Whether it is a patient.
    pub fn is_patient(&self) -> bool {
        self.key.starts_with("Patient/")
    }

    /// Whether it has a type.
    pub fn has_type(&self) -> bool {
        self.key.contains('/')
    }

    /// Whether both name the same. One that names no server may be on any.
    pub fn is(&self, other: &Self) -> bool {
        let one_server = self.base.is_none() || other.base.is_none() || self.base == other.base;
        self.key == other.key && one_server
    }

    /// Whether both may name the same: one of them has a type that says nothing, or their servers are spelled in another case.
    pub fn may_be(&self, other: &Self) -> bool {
        let vague = |subject: &Self| !subject.key.split_once('/').is_some_and(|(kind, _)| is_resource_type(kind));
        let same_id = || self.key.rsplit('/').next() == other.key.rsplit('/').next();
        let same_name = self.key == other.key || (vague(self) || vague(other)) && same_id();
        same_name && self.may_share_a_server(other)
    }

    fn may_share_a_server(&self, other: &Self) -> bool {
        let both = self.base.as_ref().zip(other.base.as_ref());
        both.is_none_or(|(one, other)| one.eq_ignore_ascii_case(other))
    }
}

/// Server, type and id of a reference.
fn parts(reference: &str) -> Option<(&str, &str, &str)> {
    let path = reference.split_once("/_history/").map_or(reference, |(path, _)| path).trim_end_matches('/');
    let (front, id) = path.rsplit_once('/')?;
    let (base, kind) = front.rsplit_once('/').unwrap_or(("", front));
    (is_a_name(kind) && is_a_name(id) && id.len() <= MAX_ID).then_some((base, kind, id))
}

/// The type that a reference has, if it can be compared.
pub fn kind(reference: &str) -> Option<&str> {
    parts(reference).map(|(_, kind, _)| kind)
}

/// Whether a resource of this type can be an actor.
pub fn is_actor_type(kind: &str) -> bool {
    ACTOR_TYPES.contains(&kind)
}

/// Longest id (FHIR: id).
const MAX_ID: usize = 64;

/// Whether an actor can be compared with what `reference` says: `Type/id` of somebody, or a bare name as that of an MSP.
pub fn names_an_actor(reference: &str) -> bool {
    match parts(reference) {
        Some((_, kind, _)) => ACTOR_TYPES.contains(&kind),
        None => is_a_name(reference),
    }
}

/// Whether somebody who asks may have this name: `Type/id` of somebody.
pub fn names_somebody(name: &str) -> bool {
    parts(name).is_some_and(|(_, kind, _)| ACTOR_TYPES.contains(&kind))
}

/// Whether it can be an id, or the name of an MSP. Many servers have the underscore, which FHIR does not.
pub fn is_a_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The record that `reference` names, if it can be compared. A name without a type is a record of any type to a denial, and
/// of none to a permit.
pub fn record(reference: &str) -> Option<Subject> {
    match parts(reference) {
        Some((_, kind, _)) => {
            (is_resource_type(kind) || ACTOR_TYPES.contains(&kind)).then(|| Subject::parse(reference)).flatten()
        }
        None => is_a_name(reference).then(|| Subject::untyped(reference)),
    }
}

/// The part of a FHIR reference that counts for an actor: `Type/id`, without server and version.
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

    #[test]
    fn a_reference_is_its_type_and_id() {
        for text in [
            "Practitioner/7",
            "https://x.example/fhir/Practitioner/7",
            "Practitioner/7/_history/3",
            "a/Practitioner/7/",
        ] {
            assert_eq!(reference_key(text), "Practitioner/7", "{text}");
            assert!(names_an_actor(text), "{text}");
        }
        assert_eq!(reference_key("MercyMSP"), "MercyMSP");
        assert_eq!(reference_key("urn:uuid:1-2"), "urn:uuid:1-2");
    }

    #[test]
    fn what_cannot_be_compared_names_nobody_and_no_record() {
        for text in
            ["Practitioner?identifier=a|1", "#x", "urn:uuid:7b0c", "urn:oid:1.2", "Practioner/7", "Dr A", "/", ""]
        {
            assert!(!names_an_actor(text) && record(text).is_none(), "{text}");
        }
        let (bare, typed) = (record("o1").expect("a name"), record("Observation/o1").expect("a record"));
        assert!(bare.may_be(&typed) && !bare.is(&typed) && !bare.may_be(&record("Observation/o2").expect("another")));
        assert!(names_an_actor("MercyMSP") && !names_an_actor("Observation/1"));
    }

    #[test]
    fn two_servers_have_two_patients_of_one_id() {
        let at = |text: &str| Subject::parse(text).expect(text);
        assert!(at("https://a.example/fhir/Patient/1").is(&at("http://A.example/fhir/Patient/1/_history/2")));
        assert!(at("Patient/1").is(&at("https://a.example/fhir/Patient/1")));
        assert!(!at("https://a.example/fhir/Patient/1").is(&at("https://b.example/fhir/Patient/1")));
        assert!(!at("Patient/1").is(&at("Group/1")));
        assert!(at("34133-9/r1").may_be(&at("DocumentReference/r1")) && !at("Media/r1").may_be(&at("Observation/r1")));
    }
}
