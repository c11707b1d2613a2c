//! The actors of a document: what their roles make of them, and whom they name.
//!
//! Only recipients are compared with who asks. A custodian or an author says whose data a rule is about. Who only takes part
//! in the document, as a witness does, opens nothing. The trap: a role that nobody knows could be any of these, so it is
//! refused unless the policy says what it is.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::code::Code;
use super::context::ProvisionContext;
use super::datatypes::{filled_list, known, read_concept, read_identifier, reference_text, whole_identifier};
use super::error::FieldError;
use super::json::At;
use super::placed::MAX_COPIES;
use super::reference::is_actor_type;
use crate::vocabulary::code_systems::{CodedElement, PARTICIPATION_TYPE, ROLE_CLASS, ROLE_CODE};
use crate::vocabulary::{Actor, Coding, Doubt, Identifier, Part};

/// Systems, by the end of their URL, whose roles are known here besides participation types.
const ROLE_SYSTEMS: &[&str] = &[
    ROLE_CLASS,
    ROLE_CODE,
    "terminology.hl7.org/CodeSystem/v3-ParticipationFunction",
    "terminology.hl7.org/CodeSystem/contractsignertypecodes",
    "terminology.hl7.org/CodeSystem/extra-security-role-type",
];

/// Roles of those who take part in the document only: witnesses, delegates and guardians, grantors, verifiers,
/// authenticators, responsible parties.
const BYSTANDERS: &[&str] = &[
    "AUCG",
    "AUTHEN",
    "CALLBCK",
    "CONSENTER",
    "CONSWIT",
    "COPART",
    "DEL",
    "DELEGATEE",
    "DELEGATOR",
    "DPOWATT",
    "EVTWIT",
    "EXCEST",
    "GRANTOR",
    "GRD",
    "GUADLTM",
    "GUARD",
    "HPOWATT",
    "INTPRTER",
    "LA",
    "NOK",
    "POWATT",
    "RESP",
    "RESPRSN",
    "SIGNER",
    "SPOWATT",
    "TRANS",
    "VALID",
    "VERF",
    "VRF",
    "WIT",
];

/// What an actor in this role is, if that is known.
fn part(role: &Coding, context: &ProvisionContext) -> Option<Part> {
    let code = context.systems.code(role, CodedElement::Role);
    let declared = context.roles.iter().find(|(known, _)| known.code == code.code && known.meant() == code.meant());
    declared.map(|(_, part)| *part).or_else(|| known_part(&code))
}

/// What an actor in this role is, if that is known without a policy.
pub fn known_part(code: &Code) -> Option<Part> {
    let of = |system: &str| code.may_be_of(system);
    match code.code.as_str() {
        "PRCP" | "IRCP" if of(PARTICIPATION_TYPE) => Some(Part::Recipient),
        "CST" if of(PARTICIPATION_TYPE) => Some(Part::Custodian),
        "AUT" if of(PARTICIPATION_TYPE) => Some(Part::Author),
        bystander if BYSTANDERS.contains(&bystander) => {
            (of(PARTICIPATION_TYPE) || ROLE_SYSTEMS.iter().any(|system| of(system))).then_some(Part::Bystander)
        }
        _ => None,
    }
}

/// Whether a role is one of certificates: hospitals choose them, as lower-case words without a system.
pub fn is_of_certificates(role: &Coding) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    role.system.is_none() && role.code.starts_with(|c: char| c.is_ascii_lowercase()) && role.code.bytes().all(word)
}

/// What an actor with a role that a policy may state is to a provision.
pub fn part_in_policy(role: &Coding) -> Part {
    match role.code.as_str() {
        "CST" => Part::Custodian,
        "AUT" => Part::Author,
        _ => Part::Recipient,
    }
}

/// The role to write of an actor: the one of certificates, or what says how the actor takes part.
pub fn role_of(actor: &Actor) -> Option<Coding> {
    let code = match actor.part {
        Part::Recipient => None,
        Part::Custodian => Some("CST"),
        Part::Author => Some("AUT"),
        Part::Bystander => Some("WIT"),
    };
    let takes_part =
        code.map(|code| Coding { system: Some(PARTICIPATION_TYPE.to_owned()), code: code.to_owned(), display: None });
    takes_part.or_else(|| actor.role.clone())
}

/// Members of a contained resource that describe who it is, and name nobody else.
const DESCRIPTIVE: &[&str] = &[
    "active",
    "address",
    "alias",
    "birthDate",
    "communication",
    "description",
    "extension",
    "gender",
    "id",
    "identifier",
    "language",
    "meta",
    "name",
    "photo",
    "resourceType",
    "telecom",
    "text",
    "type",
];

/// Why a denial of a contained actor is refused that is named by more than whole identifiers.
const NAMED_OTHERWISE: Doubt = Doubt {
    element: "reference",
    why: "is contained and named otherwise than by identifiers with system and value, which a denial may not leave out: name \
          everybody whom it means by Type/id or identifier",
};

/// Resources that a document contains, by their id.
pub struct Contained<'a> {
    by_id: BTreeMap<&'a str, At<'a>>,
    /// Identifiers that references may still stand for: many references may name one resource.
    left: Cell<usize>,
}

impl<'a> Contained<'a> {
    /// Those of `consent`.
    pub fn of(consent: &At<'a>) -> Result<Self, FieldError> {
        let list = consent.get("contained").map(|list| list.list()).transpose()?.unwrap_or_default();
        let mut by_id = BTreeMap::new();
        for at in list {
            let error = FieldError::new(format!("{}.id", at.path), "is that of another contained resource");
            if let Some(id) = at.value["id"].as_str()
                && by_id.insert(id, at).is_some()
            {
                return Err(error);
            }
        }
        Ok(Self { by_id, left: Cell::new(MAX_COPIES) })
    }

    /// The same within what the document may still ask for.
    fn identifiers_within_bounds(&self, reference: &str, at: &At) -> Result<(Vec<Identifier>, bool), FieldError> {
        let resource = reference.strip_prefix('#').and_then(|id| self.by_id.get(id));
        let count = resource.and_then(|resource| resource.value["identifier"].as_array()).map_or(0, Vec::len);
        let message =
            format_args!("names somebody of many identifiers too often: references stand for more than {MAX_COPIES}");
        self.left.set(self.left.get().checked_sub(count).ok_or_else(|| at.error(message))?);
        self.identifiers(reference)
    }

    /// The identifiers of the resource that `#id` refers to, and whether nothing else in it names somebody. Nothing is followed
    /// further, so nothing can go in a circle.
    fn identifiers(&self, reference: &str) -> Result<(Vec<Identifier>, bool), FieldError> {
        let resource = reference.strip_prefix('#').and_then(|id| self.by_id.get(id));
        resource.map_or_else(|| Ok((Vec::new(), false)), names_of)
    }
}

/// The identifiers by which a contained resource names an actor for sure, and whether nothing else in it names somebody. What
/// is no actor, or no longer one, has none.
///
/// # Errors
/// Nobody can see what an identifier is.
pub fn names_of(resource: &At) -> Result<(Vec<Identifier>, bool), FieldError> {
    let Some(members) = resource.value.as_object() else { return Ok((Vec::new(), false)) };
    let acts = |list: &At| list.value.is_array() && acts_without_end(resource.value);
    let Some(list) = resource.get("identifier").filter(acts) else {
        return Ok((Vec::new(), false));
    };
    let list = list.list()?;
    let whole = list.iter().map(whole_identifier).collect::<Result<Vec<_>, _>>()?;
    let identifiers: Vec<Identifier> = whole.into_iter().flatten().collect();
    let describes = |name: &String| DESCRIPTIVE.contains(&name.as_str()) || name.starts_with('_');
    let only = identifiers.len() == list.len() && members.keys().all(describes);
    Ok((identifiers, only))
}

/// Whether a contained resource is an actor who nothing says may be over: no longer active, of another status, or for a time.
fn acts_without_end(resource: &Value) -> bool {
    let is_or_unsaid = |name: &str, value: Value| resource.get(name).is_none_or(|said| *said == value);
    resource["resourceType"].as_str().is_some_and(is_actor_type)
        && is_or_unsaid("active", json!(true))
        && is_or_unsaid("status", json!("active"))
        && ["_active", "_status", "period"].iter().all(|name| resource.get(name).is_none())
}

/// An actor of a provision: one for each way in which it is named.
pub fn read_actor(at: &At, contained: &Contained, context: &ProvisionContext) -> Result<Vec<Actor>, FieldError> {
    known(at, &[&["id", "extension", "role", "reference"]])?;
    let role = at.get("role");
    let roles = role.as_ref().map(read_concept).transpose()?.unwrap_or_default();
    let parts: Vec<Part> = roles.iter().filter_map(|role| part(role, context)).collect();
    let role_at = role.as_ref().map_or_else(String::new, |role| role.path.clone());
    if parts.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(FieldError::new(role_at, "has codes of which one says who receives and another says who does not"));
    }
    let of_certificate: Vec<&Coding> = roles.iter().filter(|role| is_of_certificates(role)).collect();
    let is_known = |role: &Coding| part(role, context).is_some() || is_of_certificates(role);
    if !roles.iter().all(is_known) {
        let message = "is not known here: let the ConsentPolicy say in actorRoles what it is, or remove it";
        return Err(FieldError::new(role_at, message).unless_policy_says());
    }
    let receives = parts.first().is_none_or(|part| *part == Part::Recipient);
    if !receives && parts[0] != Part::Bystander && !of_certificate.is_empty() {
        let message = "has codes of which one says whose data it is and another who asks: keep one of them";
        return Err(FieldError::new(role_at, message));
    }
    if of_certificate.windows(2).any(|pair| pair[0].code != pair[1].code) {
        return Err(FieldError::new(role_at, "has two words of certificates: write an actor for each"));
    }
    let role = of_certificate.first().filter(|_| receives).map(|role| (*role).clone());
    let part = parts.first().copied().unwrap_or_default();
    let Some(reference) = at.get("reference") else { return in_role(at, roles, &parts, context) };
    let named = read_reference(&reference, contained)?.into_iter();
    Ok(named.map(|actor| Actor { part, role: role.clone(), ..actor }).collect())
}

/// Everybody in a role: one for each coding, which are translations of each other.
fn in_role(at: &At, roles: Vec<Coding>, parts: &[Part], context: &ProvisionContext) -> Result<Vec<Actor>, FieldError> {
    if roles.is_empty() {
        return Err(at.error("needs a reference or a role"));
    }
    let who: Vec<Actor> = roles
        .into_iter()
        .filter(|role| part(role, context).is_none())
        .map(|role| Actor { role: Some(role), ..Actor::default() })
        .collect();
    match parts {
        [] => Ok(who),
        [Part::Recipient, ..] if !who.is_empty() => Ok(who),
        _ => Err(FieldError::new(format!("{}.reference", at.path), "is required: the role says how, not who")),
    }
}

/// Whom a reference names, without a role: a contained resource by its identifiers.
pub fn read_reference(at: &At, contained: &Contained) -> Result<Vec<Actor>, FieldError> {
    let text = reference_text(at)?;
    let identifier = at.get("identifier").map(|at| read_identifier(&at)).transpose()?;
    if text.is_none() && identifier.is_none() {
        return Err(at.error("needs a reference or an identifier: a display text cannot be compared"));
    }
    let inside = text.as_deref().map(|text| contained.identifiers_within_bounds(text, at)).transpose()?;
    let (inside, only) = inside.unwrap_or_default();
    if !inside.is_empty() {
        let doubt = (!only).then_some(NAMED_OTHERWISE);
        let by = |identifier| Actor { identifier: Some(identifier), doubt, ..Actor::default() };
        return Ok(inside.into_iter().chain(identifier).map(by).collect());
    }
    Ok(vec![Actor { reference: text, identifier, ..Actor::default() }])
}

/// The grantees of a document (R5): who is permitted at all. None where it names none.
pub fn grantees(consent: &At, contained: &Contained) -> Result<Option<Vec<Actor>>, FieldError> {
    if consent.get("grantee").is_none() {
        return Ok(None);
    }
    let named = filled_list(consent, "grantee")?
        .iter()
        .map(|at| read_reference(at, contained))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(named.concat()))
}
