//! What a ConsentPolicy may say, beyond what its schema checks: codes that exist, each completed with its system.
//!
//! A typing error in a policy must never become a rule that matches nothing, so an unknown code is refused here. A patient's
//! own Consent may hold any code.

use std::collections::BTreeMap;

use super::actors::{is_of_certificates, known_part, part_in_policy};
use super::code::{Code, Systems};
use super::context::{Module, ProvisionContext, versioned};
use super::error::FieldError;
use super::modules::coded;
use super::tree::below;
use crate::vocabulary::code_systems::{CodedElement, OPEN_SYSTEMS, PARTICIPATION_TYPE};
use crate::vocabulary::{Actor, Coding, Part, PolicySpec, Provision, ProvisionType, systems};

/// How documents are to be read: code systems, modules, roles, cited policies, untyped roots. Completes the codes.
pub fn reading(spec: &mut PolicySpec, errors: &mut Vec<FieldError>) -> ProvisionContext {
    check_systems(spec, errors);
    let systems = Systems::new(&spec.code_systems);
    let modules = modules(spec, &systems, errors);
    let (cited_policies, cited_codes) = cited(spec, &systems, errors);
    let roles = roles(spec, &systems, errors);
    ProvisionContext {
        systems,
        untyped_root: spec.untyped_root,
        roles,
        modules,
        cited_policies,
        cited_codes,
        confidentiality_required: spec.labels.require_confidentiality,
        ..ProvisionContext::default()
    }
}

/// What roles mean that are not known here. One that is known means what it means everywhere.
fn roles(spec: &PolicySpec, systems: &Systems, errors: &mut Vec<FieldError>) -> Vec<(Code, Part)> {
    let mut roles: Vec<(Code, Part)> = Vec::new();
    for (i, role) in spec.actor_roles.iter().enumerate() {
        let code = systems.code(&role.role, CodedElement::Role);
        let mut refuse = |message| errors.push(FieldError::new(format!("spec.actorRoles[{i}].role"), message));
        match known_part(&code) {
            Some(part) if part != role.as_ => refuse("is known here as something else, and no policy changes that"),
            _ if roles.iter().any(|(above, _)| *above == code) => refuse("is mapped above already"),
            _ => {}
        }
        roles.push((code, role.as_));
    }
    roles
}

/// What codes stand for.
fn modules(spec: &mut PolicySpec, systems: &Systems, errors: &mut Vec<FieldError>) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for (i, module) in spec.modules.iter_mut().enumerate() {
        let path = format!("spec.modules[{i}]");
        module.code.display = None;
        for (codings, name, element) in [
            (&mut module.class, "class", CodedElement::Class),
            (&mut module.purpose, "purpose", CodedElement::Purpose),
            (&mut module.action, "action", CodedElement::Action),
        ] {
            complete_codes(codings, &format!("{path}.{name}"), element, systems, errors);
        }
        let (element, code) = (module.element, systems.code(&module.code, coded(module.element)));
        if code.system.is_none() {
            errors.push(FieldError::new(format!("{path}.code.system"), "is required"));
        }
        if module.class.is_empty() && module.purpose.is_empty() && module.action.is_empty() {
            errors.push(FieldError::new(&path, "needs class, purpose or action: it must say what it means"));
        }
        if modules.iter().any(|other| other.element == element && other.code == code) {
            errors.push(FieldError::new(format!("{path}.code"), "is a module above already"));
        }
        let (class, purpose, action) = (module.class.clone(), module.purpose.clone(), module.action.clone());
        modules.push(Module { element, code, class, purpose, action });
    }
    modules
}

type Cited = (BTreeMap<String, ProvisionType>, Vec<(Code, ProvisionType)>);

/// What documents cite, by URI and by code.
fn cited(spec: &mut PolicySpec, systems: &Systems, errors: &mut Vec<FieldError>) -> Cited {
    let (mut by_uri, mut by_code): Cited = (BTreeMap::new(), Vec::new());
    for (i, cited) in spec.cited_policies.iter_mut().enumerate() {
        let path = format!("spec.citedPolicies[{i}]");
        let effect = cited.decision;
        let another = |other: ProvisionType| other != effect;
        match (&cited.uri, &mut cited.code) {
            (Some(uri), None) => {
                if by_uri.insert(versioned(uri), effect).is_some_and(another) {
                    errors.push(FieldError::new(format!("{path}.uri"), "means something else above"));
                }
            }
            (None, Some(coding)) => {
                coding.display = None;
                let code = systems.code(coding, CodedElement::Category);
                if code.system.is_none() {
                    errors.push(FieldError::new(format!("{path}.code.system"), "is required"));
                }
                if by_code.iter().any(|(above, other)| *above == code && another(*other)) {
                    errors.push(FieldError::new(format!("{path}.code"), "means something else above"));
                }
                by_code.push((code, effect));
            }
            _ => errors.push(FieldError::new(&path, "needs uri or code, and not both")),
        }
    }
    (by_uri, by_code)
}

/// Refuses a name that two systems have.
fn check_systems(spec: &PolicySpec, errors: &mut Vec<FieldError>) {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for (i, system) in spec.code_systems.iter().enumerate() {
        let url = systems::known(&system.url).map_or_else(|| systems::bare(&system.url), systems::bare);
        let names = std::iter::once((&system.url, "url".to_owned()));
        let aliases = system.aliases.iter().enumerate().map(|(j, alias)| (alias, format!("aliases[{j}]")));
        for (name, field) in names.chain(aliases) {
            let known = systems::known(name).map(systems::bare);
            let taken = owners.insert(systems::bare(name), url.clone()).or(known).is_some_and(|owner| owner != url);
            if taken || name.trim().is_empty() {
                errors.push(FieldError::new(format!("spec.codeSystems[{i}].{field}"), "is a name of another system"));
            }
        }
    }
}

/// Gives every code of a provision, and of all below it, its system.
pub fn complete(provision: &mut Provision, path: &str, systems: &Systems, errors: &mut Vec<FieldError>) {
    for (codings, name, element) in [
        (&mut provision.purpose, "purpose", CodedElement::Purpose),
        (&mut provision.action, "action", CodedElement::Action),
        (&mut provision.security_label, "securityLabel", CodedElement::SecurityLabel),
        (&mut provision.class, "class", CodedElement::Class),
        (&mut provision.document_type, "documentType", CodedElement::Class),
        (&mut provision.code, "code", CodedElement::Code),
    ] {
        complete_codes(codings, &format!("{path}.{name}"), element, systems, errors);
    }
    for (i, actor) in provision.actor.iter_mut().enumerate() {
        let path = format!("{path}.actor[{i}]");
        let named =
            [actor.reference.is_some(), actor.identifier.is_some(), actor.msp_id.is_some(), actor.attr.is_some()];
        let ways = named.iter().filter(|named| **named).count();
        if ways > 1 {
            errors.push(FieldError::new(
                &path,
                "is named in more than one way: keep one of reference, identifier, mspId and attr",
            ));
        }
        match actor.role.take() {
            None if ways == 0 => {
                errors.push(FieldError::new(&path, "needs a role, reference, identifier, mspId or attr"))
            }
            None => {}
            Some(role) => {
                let of_participation = |role: &&Coding| role.system.as_deref() == Some(PARTICIPATION_TYPE);
                actor.role = complete_role(role, actor, &format!("{path}.role"), errors);
                actor.part = actor.role.as_ref().filter(of_participation).map(part_in_policy).unwrap_or_default();
            }
        }
    }
    for (i, child) in provision.provision.iter_mut().enumerate() {
        complete(child, &below(path, i), systems, errors);
    }
}

/// A role is either one of certificates, which hospitals choose freely, or a code of how somebody takes part, which says
/// nothing about who it is.
fn complete_role(mut role: Coding, actor: &Actor, path: &str, errors: &mut Vec<FieldError>) -> Option<Coding> {
    role.display = None;
    let referenced = actor.reference.is_some() || actor.identifier.is_some();
    let required = actor.msp_id.is_some() || actor.attr.is_some();
    let whose = actor.attr.is_none() && matches!(role.code.as_str(), "AUT" | "CST");
    match system_of(&role, CodedElement::Role, &Systems::default(), "") {
        Ok(_) if !referenced && !required => {
            errors.push(FieldError::new(path, "says how, not who: add a reference, identifier, mspId or attr"));
        }
        Ok(system) if referenced || whose => role.system = Some(system),
        Ok(_) if matches!(role.code.as_str(), "AUT" | "CST") => {
            errors.push(FieldError::new(path, "says whose data it is: name it by reference or mspId, not by attr"));
        }
        Ok(_) => return None,
        Err(message) if role.system.is_some() => errors.push(FieldError::new(path, message)),
        Err(_) if referenced => {
            errors.push(FieldError::new(path, "of a certificate goes with mspId or attr, not with a reference"))
        }
        Err(_) if !is_of_certificates(&role) => {
            errors
                .push(FieldError::new(path, "is no role that a certificate can have: write a word of a-z, 0-9 and -"));
        }
        Err(_) => {}
    }
    Some(role)
}

/// Gives every code its system; refuses a system or a code that the element does not know.
pub fn complete_codes(
    codings: &mut [Coding],
    path: &str,
    element: CodedElement,
    systems: &Systems,
    errors: &mut Vec<FieldError>,
) {
    for (i, coding) in codings.iter_mut().enumerate() {
        let path = format!("{path}[{i}]");
        coding.display = None;
        match system_of(coding, element, systems, ": declare it in spec.codeSystems") {
            Ok(system) => coding.system = Some(system),
            Err(message) => errors.push(FieldError::new(path, message)),
        }
    }
}

/// The code with its system and without words.
///
/// # Errors
/// The element does not know the code, or its system.
pub fn known_code(coding: Coding, element: CodedElement) -> Result<Coding, String> {
    let system = Some(system_of(&coding, element, &Systems::default(), "")?);
    Ok(Coding { system, code: coding.code, display: None })
}

/// The system of a code by the name that counts, if the element knows both. `hint` is what to do about a system that it does not.
fn system_of(coding: &Coding, element: CodedElement, systems: &Systems, hint: &str) -> Result<String, String> {
    let code = &coding.code;
    let system = coding.system.as_deref().map(|system| (system, systems.meant(system)));
    if let Some((_, (meant, _))) = &system
        && let Some(declared) = systems.declared(meant)
    {
        let known = element != CodedElement::Role && declared.as_ref().is_none_or(|codes| codes.contains(code));
        return if known { Ok(meant.clone()) } else { Err(format!("code {code:?} is unknown in {meant}")) };
    }
    // What the URL of a known system is spelled like makes no difference; an unknown one is named as it was written.
    let system = system.map(|(written, (meant, known))| if known { meant } else { written.to_owned() });
    let closed =
        element.closed_systems().iter().filter(|(name, _)| system.as_deref().is_none_or(|system| system == *name));
    if let Some((name, _)) = closed.clone().find(|(_, codes)| codes.contains(&code.as_str())) {
        return Ok((*name).to_owned());
    }
    let open = OPEN_SYSTEMS.iter().find(|(name, _)| element.open() && Some(*name) == system.as_deref());
    match (&system, open) {
        (Some(system), Some((_, shape))) if shape.fits(code) => Ok(system.clone()),
        (Some(system), Some(_)) => Err(format!("code {code:?} does not look like a code of {system}")),
        (Some(system), None) if closed.count() == 0 => {
            Err(format!("code system {system:?} is not one of this element{hint}"))
        }
        (Some(system), None) => Err(format!("code {code:?} is unknown in {system}")),
        (None, _) if element.closed_systems().is_empty() => Err(format!("code {code:?} needs a system")),
        (None, _) => Err(format!("code {code:?} is unknown in {}", names(element))),
    }
}

fn names(element: CodedElement) -> String {
    element.closed_systems().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
}

/// What the schema checks as well, for policies that did not come through an API server.
pub fn check_lists(spec: &PolicySpec, errors: &mut Vec<FieldError>) {
    let break_glass = &spec.break_glass;
    if break_glass.purposes.is_empty() {
        errors.push(FieldError::new("spec.breakGlass.purposes", "needs at least one purpose"));
    }
    for (i, purpose) in break_glass.purposes.iter().enumerate() {
        let coding = Coding { code: purpose.clone(), ..Coding::default() };
        if let Err(message) = system_of(&coding, CodedElement::Purpose, &Systems::default(), "") {
            errors.push(FieldError::new(format!("spec.breakGlass.purposes[{i}]"), message));
        }
    }
    let retention = &spec.retention;
    if retention.audit_years < 6 {
        errors.push(FieldError::new("spec.retention.auditYears", "must be at least 6 (45 CFR 164.316(b)(2)(i))"));
    }
    if retention.block_to_live.is_some_and(|blocks| blocks < 0) {
        errors.push(FieldError::new("spec.retention.blockToLive", "must not be negative"));
    }
    if retention.block_to_live.is_some() && retention.private_collection.is_none() {
        errors.push(FieldError::new(
            "spec.retention.blockToLive",
            "belongs to a collection: set privateCollection as well",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_system_that_is_not_known_is_said() {
        let mut errors = Vec::new();
        let mut codings = [Coding { system: Some("urn:x".into()), code: "a".into(), display: None }];
        complete_codes(&mut codings, "spec.category", CodedElement::Category, &Systems::default(), &mut errors);
        assert_eq!(
            errors[0].to_string(),
            "spec.category[0]: code system \"urn:x\" is not one of this element: declare it in spec.codeSystems"
        );
    }

    #[test]
    fn a_code_is_known_in_its_own_system_only() {
        let system_of = |system: Option<&str>, code: &str, element| {
            let coding = Coding { system: system.map(str::to_owned), code: code.into(), display: None };
            super::system_of(&coding, element, &Systems::default(), "")
        };
        let sensitivity = system_of(None, "PSY", CodedElement::SecurityLabel);
        assert_eq!(sensitivity.as_deref(), Ok("http://terminology.hl7.org/CodeSystem/v3-ActCode"));
        let wrong = system_of(
            Some("http://terminology.hl7.org/CodeSystem/v3-Confidentiality"),
            "PSY",
            CodedElement::SecurityLabel,
        );
        assert!(
            wrong
                .expect_err("refused")
                .contains("is unknown in http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
        );
        assert!(system_of(Some("http://loinc.org"), "59284-0", CodedElement::Purpose).is_err());
    }
}
