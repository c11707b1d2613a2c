//! What the root of a document means.
//!
//! R5 says it: a base decision and a list of exceptions. An R4 root with a type says it too. An R4 root without one is read
//! in three ways by those who write such documents: as the exception to `policyRule`, as what is granted, and as a frame
//! around what is nested in it. Only where all ways come to the same is it read; else it is refused, or the policy says which
//! it is.

use super::actors::Contained;
use super::code::Code;
use super::context::ProvisionContext;
use super::datatypes::{filled_list, known, read_codings};
use super::error::FieldError;
use super::json::At;
use super::modules;
use super::placed::{CONSENT, MAX_COPIES, Placed};
use super::provisions::{Reader, provision_type};
use super::tree::{check_size, give_types};
use crate::vocabulary::code_systems::{ACT_CODE, CONSENT_CATEGORY, CodedElement, OPT_OUT};
use crate::vocabulary::{FhirVersion, Provision, ProvisionType, UntypedRoot};

/// The provisions of a consent as a tree in which everything has its type.
pub fn read(
    at: &At,
    version: FhirVersion,
    contained: &Contained,
    context: &ProvisionContext,
) -> Result<Placed, FieldError> {
    let reader = Reader::new(contained, context);
    let placed = match version {
        FhirVersion::R4 => read_single(at, reader, context)?,
        FhirVersion::R5 => read_exceptions(at, reader, context)?,
    };
    let placed = modules::expand(placed, context)?;
    placed.check_inherited()?;
    Ok(placed)
}

/// R4: one root provision.
fn read_single(at: &At, mut reader: Reader, context: &ProvisionContext) -> Result<Placed, FieldError> {
    let cited = Cited::of(at, context)?;
    let Some(root) = at.get("provision") else {
        return Ok(Placed::base(cited.base()?, "policyRule", Vec::new()));
    };
    let mut provision = reader.provision(&root, 0)?;
    let stated = provision.type_;
    check_size(&provision, &root.path)?;
    give_types(&mut provision, stated.unwrap_or(ProvisionType::Deny), FhirVersion::R4, &root.path)?;
    let mut placed = Placed::new(provision, CONSENT, "provision", "provision");
    if let Some(rule) = cited.restricts.as_ref().filter(|_| !placed.denies_only()) {
        return Err(rule.error(IN_EMERGENCIES));
    }
    if stated.is_some() {
        return match cited.opts_out {
            Some(rule) if stated == Some(ProvisionType::Permit) => Err(rule.error(OPTS_OUT)),
            _ => Ok(placed),
        };
    }
    let plain = Provision { type_: None, period: None, ..placed.own.clone() } == Provision::default();
    match context.untyped_root {
        _ if plain && placed.own.period.is_none() && placed.children.is_empty() => {
            Err(root.error("says nothing: leave it out, or say what holds"))
        }
        _ if plain => {
            placed.own.type_ = Some(cited.base()?);
            Ok(placed)
        }
        UntypedRoot::Exception => exception(placed, cited.certain_base()?),
        UntypedRoot::Frame if !placed.children.is_empty() => frame(placed),
        UntypedRoot::Refuse if !placed.children.is_empty() && placed.permits_only() => frame(placed),
        UntypedRoot::Refuse | UntypedRoot::Frame if cited.effect.is_none() => Err(no_base(PROVISION_TYPE)),
        UntypedRoot::Refuse | UntypedRoot::Frame => Err(ambiguous()),
    }
}

fn ambiguous() -> FieldError {
    let message = "is required: without it some mean by these elements what is granted, and others the exception to policyRule; \
                   state permit or deny, or let the ConsentPolicy say in untypedRoot what its documents mean";
    FieldError::new(PROVISION_TYPE, message).unless_policy_says()
}

const PROVISION_TYPE: &str = "Consent.provision.type";

/// Nothing says what holds, and `field` is where it could be said.
fn no_base(field: &str) -> FieldError {
    let message = "no computable base: state permit or deny (R4: provision.type, or policyRule OPTIN or OPTOUT; R5: decision), \
                   or let the ConsentPolicy say in citedPolicies what the cited policy means";
    FieldError::new(field, message).unless_policy_says()
}

/// A frame grants nothing itself. Its labels are a ceiling for what is nested in it, and no condition of its own denial,
/// which then holds for every label.
fn frame(mut root: Placed) -> Result<Placed, FieldError> {
    let labels = std::mem::take(&mut root.own.security_label);
    if labels.len() * root.children.len() > MAX_COPIES {
        let message =
            format_args!("has too many labels: with all that is nested in it they are more than {MAX_COPIES}");
        return Err(root.error("securityLabel", message));
    }
    for child in root.children.iter_mut().filter(|child| child.own.security_label.is_empty()) {
        child.own.security_label.clone_from(&labels);
    }
    root.own.type_ = Some(ProvisionType::Deny);
    Ok(root)
}

/// The base, with the root as its exception. What is nested in the root and denies is no exception to a permit: it holds
/// whether or not the root does, so it stands beside it and inherits nothing. The period is that of the exception; a base that
/// permits holds no longer than it, and one that denies has no end.
fn exception(mut root: Placed, base: ProvisionType) -> Result<Placed, FieldError> {
    let period = root.own.period.clone().filter(|_| base == ProvisionType::Permit);
    root.own.type_ = Some(if base == ProvisionType::Permit { ProvisionType::Deny } else { ProvisionType::Permit });
    let denies = |child: &Placed| child.own.type_ == Some(ProvisionType::Deny);
    let (denials, permits): (Vec<Placed>, Vec<Placed>) =
        std::mem::take(&mut root.children).into_iter().partition(denies);
    if let Some(opened) = denials.iter().flat_map(|denial| &denial.children).next() {
        let message = "permits below a denial that holds whether or not its root does, so it would hold without the root, too: \
                       state the types of the root and of all that is nested in it";
        return Err(opened.error("", message));
    }
    root.children = permits;
    let children = std::iter::once(root).chain(denials).collect();
    let mut whole = Placed::base(base, "policyRule", children);
    whole.own.period = period;
    whole.prefix = "provision".to_owned();
    Ok(whole)
}

/// R5: a base decision and a list of exceptions to it.
fn read_exceptions(at: &At, mut reader: Reader, context: &ProvisionContext) -> Result<Placed, FieldError> {
    let decision = at.get("decision").ok_or_else(|| {
        let message = "no computable base: state permit or deny (R4: provision.type, or policyRule OPTIN or OPTOUT; R5: decision)";
        FieldError::new("Consent.decision", message)
    })?;
    let effect = provision_type(&decision)?;
    if at.get("policyRule").is_some() {
        return Err(FieldError::new(
            "Consent.policyRule",
            "belongs to R4, and the resource has the shape of R5: keep one of them",
        ));
    }
    let mut provision = Provision::default();
    for child in filled_list(at, "provision")? {
        refuse_types(&child, 0)?;
        provision.provision.push(reader.provision(&child, 1)?);
    }
    check_size(&provision, &at.path)?;
    give_types(&mut provision, effect, FhirVersion::R5, &at.path)?;
    let placed = Placed::new(provision, CONSENT, "decision", "");
    check_basis(at, &placed, context)?;
    Ok(placed)
}

/// What the basis of an R5 consent says, R4's `policyRule`, must not restrict what the consent permits.
fn check_basis(at: &At, placed: &Placed, context: &ProvisionContext) -> Result<(), FieldError> {
    let opens = placed.own.type_ == Some(ProvisionType::Permit);
    for basis in filled_list(at, "regulatoryBasis")? {
        for (at, coding) in read_codings(&basis)? {
            let code = context.systems.code(&coding, CodedElement::Category);
            if is_for_emergencies(&code) && !placed.denies_only() {
                return Err(at.error(IN_EMERGENCIES));
            }
            if opens && code.is_perhaps(ACT_CODE, OPT_OUT) {
                return Err(at.error(OPTS_OUT));
            }
        }
    }
    Ok(())
}

const IN_EMERGENCIES: &str = "permits in an emergency only, and what is permitted says nothing of it";
const OPTS_OUT: &str =
    "says that nothing may be seen, and the document permits all but its exceptions: keep one of the two";

/// Whether a code permits in an emergency only.
fn is_for_emergencies(code: &Code) -> bool {
    code.is_perhaps(ACT_CODE, &["EMRGONLY"]) || code.is_perhaps(CONSENT_CATEGORY, &["emrgonly"])
}

fn refuse_types(at: &At, depth: usize) -> Result<(), FieldError> {
    if let Some(effect) = at.get("type") {
        return Err(effect.error("is not for R5: each level of provisions is the opposite of the one above"));
    }
    if depth > super::provisions::READ_DEPTH {
        return Ok(());
    }
    filled_list(at, "provision")?.iter().try_for_each(|child| refuse_types(child, depth + 1))
}

/// What a document says by what it cites, as far as that is known.
#[derive(Default)]
struct Cited<'a> {
    effect: Option<ProvisionType>,
    /// What nobody knows.
    unknown: Option<At<'a>>,
    /// What says that whatever is permitted is so in an emergency only.
    restricts: Option<At<'a>>,
    /// What says that nothing may be seen, perhaps but for exceptions.
    opts_out: Option<At<'a>>,
    /// What only may say that the document denies.
    perhaps: Option<At<'a>>,
    /// The element that could say what holds.
    place: &'static str,
}

impl<'a> Cited<'a> {
    /// Permit for OPTIN, deny for what may be OPTOUT or OPTOUTE; else what the policy says of the policies that are cited.
    fn of(at: &At<'a>, context: &ProvisionContext) -> Result<Self, FieldError> {
        let place = match (at.get("provision"), at.get("policyRule"), at.get("policy")) {
            (None, Some(_), _) => "Consent.policyRule",
            (None, None, Some(_)) => "Consent.policy",
            _ => PROVISION_TYPE,
        };
        let mut found = Self { place, ..Self::default() };
        if let Some(rule) = at.get("policyRule") {
            let codings = read_codings(&rule)?;
            if codings.is_empty() {
                found.unknown = Some(rule.clone());
            }
            for (at, coding) in codings {
                found.add_code(at, context.systems.code(&coding, CodedElement::Category), &rule, context)?;
            }
        }
        for cited in at.get("policy").map(|list| list.list()).transpose()?.unwrap_or_default() {
            known(&cited, &[CITED])?;
            match cited.get("uri") {
                Some(uri) => {
                    let effect = context.cited_policy(uri.text()?);
                    found.add_mapped(effect, uri, &cited)?;
                }
                None => found.unknown = Some(cited),
            }
        }
        Ok(found)
    }

    fn add_code(
        &mut self,
        coding: At<'a>,
        code: Code,
        rule: &At,
        context: &ProvisionContext,
    ) -> Result<(), FieldError> {
        let is = |codes: &[&str]| code.may_be_of(ACT_CODE) && codes.contains(&code.code.as_str());
        if is_for_emergencies(&code) {
            self.restricts = Some(coding.clone());
        }
        if code.is_perhaps(ACT_CODE, OPT_OUT) {
            self.opts_out = Some(coding.clone());
        }
        if is(&["OPTIN"]) {
            return self.add(ProvisionType::Permit, rule);
        }
        let exact = context.cited_codes.iter().find(|(cited, _)| *cited == code).map(|(_, effect)| *effect);
        let denies =
            |(cited, effect): &(Code, ProvisionType)| *effect == ProvisionType::Deny && code.names(cited, *effect);
        match exact {
            _ if is(OPT_OUT) => self.add(ProvisionType::Deny, rule),
            Some(effect) => self.add_mapped(Some(effect), coding, rule),
            None if code.is_perhaps(ACT_CODE, OPT_OUT) || context.cited_codes.iter().any(denies) => {
                self.perhaps = Some(coding);
                self.add(ProvisionType::Deny, rule)
            }
            None => self.add_mapped(None, coding, rule),
        }
    }

    fn add(&mut self, effect: ProvisionType, field: &At) -> Result<(), FieldError> {
        if self.effect.is_some_and(|other| other != effect) {
            return Err(field.error("says both that records may be seen and that they may not"));
        }
        self.effect = Some(effect);
        Ok(())
    }

    /// What the policy says of something that is cited.
    fn add_mapped(&mut self, effect: Option<ProvisionType>, cited: At<'a>, field: &At) -> Result<(), FieldError> {
        match effect {
            Some(effect) => self.add(effect, field),
            None => {
                self.unknown = Some(cited);
                Ok(())
            }
        }
    }

    /// The base; or why there is none, which matters only to a document that states none itself. What is cited permits only if
    /// nothing is of which nobody knows what it says: that may be the exception.
    fn base(&self) -> Result<ProvisionType, FieldError> {
        match (self.effect, &self.unknown) {
            (Some(ProvisionType::Permit), Some(cited)) => Err(restricts(cited)),
            (Some(effect), _) => Ok(effect),
            (None, _) => Err(no_base(self.place)),
        }
    }

    /// The base of which the root is the exception. One that only may deny makes no permit of it.
    fn certain_base(&self) -> Result<ProvisionType, FieldError> {
        match (&self.perhaps, &self.unknown) {
            (Some(perhaps), _) => {
                let message =
                    "may deny, and the exception to it would permit: write the code and its system as they are defined";
                Err(perhaps.error(message))
            }
            (None, Some(cited)) if self.effect.is_some() => Err(restricts(cited)),
            (None, _) => self.base(),
        }
    }
}

fn restricts(cited: &At) -> FieldError {
    let message =
        "is cited beside what decides, and may restrict it: let the ConsentPolicy say in citedPolicies what it is";
    cited.error(message).unless_policy_says()
}

/// Members of a policy that is cited.
const CITED: &[&str] = &["id", "extension", "authority", "uri"];
