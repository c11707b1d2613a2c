//! Codes of documents that stand for whole rules, as in national consents made of modules: each becomes the rule that the
//! policy says it is.

use super::context::{Module, ProvisionContext};
use super::error::{FieldError, said_within};
use super::placed::{CONSENT, MAX_COPIES, Placed};
use super::tree::MAX_PROVISIONS;
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{Coding, ModuleElement, Provision, ProvisionType};

/// The trees that one with modules stands for, in which every module is replaced by its rules.
pub fn expand_all(root: Placed, context: &ProvisionContext) -> Result<Vec<Placed>, FieldError> {
    if context.modules.is_empty() {
        return Ok(vec![root]);
    }
    let provisions = MAX_PROVISIONS.saturating_sub(root.size().provisions);
    Expansion { context, provisions, entries: MAX_COPIES }.one(root, &Stated::default())
}

/// The same of a document, which has one root.
pub fn expand(root: Placed, context: &ProvisionContext) -> Result<Placed, FieldError> {
    let mut expanded = expand_all(root, context)?;
    match expanded.pop() {
        Some(one) if expanded.is_empty() => Ok(one),
        Some(one) => {
            Err(one.error("", "names several modules, or one beside other codes, which only a nested provision can"))
        }
        None => Err(FieldError::new(CONSENT, "stands for nothing")),
    }
}

struct Expansion<'e> {
    context: &'e ProvisionContext,
    /// Provisions that may still be added.
    provisions: usize,
    /// Entries of lists that may still be copied.
    entries: usize,
}

impl Expansion<'_> {
    /// The provisions that one stands for: of each element that has modules, one for each of them, one for its other codes, and
    /// one that permits nothing for codes that are no modules.
    /// `above` is what the modules state that it is nested in.
    fn one(&mut self, mut placed: Placed, above: &Stated) -> Result<Vec<Placed>, FieldError> {
        above.refuse_again(&placed)?;
        refuse_elsewhere(&placed, self.context)?;
        let mut choices = Vec::new();
        for element in ModuleElement::ALL {
            choices.extend(split(&placed, element, self.context)?);
        }
        let stated = choices.iter().fold(above.clone(), Stated::and);
        let mut children = Vec::new();
        for child in std::mem::take(&mut placed.children) {
            children.extend(self.one(child, &stated)?);
        }
        placed.children = children;
        for choice in &choices {
            list(&mut placed.own, choice.element).clear();
        }
        if let Some(first) = choices.first() {
            self.afford(&placed, first.element, choices.iter().map(Choice::len).product::<usize>() - 1)?;
        }
        let mut expanded = vec![placed];
        for choice in choices {
            let each = expanded.iter().map(|one| choice.rules(one)).collect::<Result<Vec<_>, _>>()?;
            expanded = each.into_iter().flatten().collect();
        }
        Ok(expanded)
    }

    /// Counts the copies before they are made: levels multiply.
    fn afford(&mut self, placed: &Placed, element: ModuleElement, copies: usize) -> Result<(), FieldError> {
        let size = placed.size();
        let left = |left: usize, each: usize| left.checked_sub(copies.checked_mul(each)?);
        match (left(self.provisions, size.provisions), left(self.entries, size.entries)) {
            (Some(provisions), Some(entries)) => {
                (self.provisions, self.entries) = (provisions, entries);
                Ok(())
            }
            _ => {
                let message = format_args!(
                    "stands for too much: with it the document has more than {MAX_PROVISIONS} rules, or more than {MAX_COPIES} \
                     entries are repeated in them"
                );
                Err(placed.error(element.name(), message))
            }
        }
    }
}

/// What an element that has modules is taken apart into.
struct Choice<'c> {
    element: ModuleElement,
    modules: Vec<&'c Module>,
    others: Vec<Coding>,
    /// In a permit, codes that may be of the modules' systems and are no modules, with why they permit nothing.
    undeclared: Vec<(Coding, FieldError)>,
}

impl Choice<'_> {
    fn len(&self) -> usize {
        self.modules.len() + usize::from(!self.others.is_empty()) + usize::from(!self.undeclared.is_empty())
    }

    /// The rules that `placed`, without the element, stands for with it.
    fn rules(&self, placed: &Placed) -> Result<Vec<Placed>, FieldError> {
        let mut rules = Vec::new();
        if !self.others.is_empty() {
            let mut rule = placed.clone();
            state(&mut rule, self.element.name(), &self.others)?;
            rules.push(rule);
        }
        for module in &self.modules {
            let mut rule = placed.clone();
            for (name, codings) in statements(module) {
                state(&mut rule, name, codings)?;
            }
            rules.push(rule);
        }
        if let Some((_, why)) = self.undeclared.first() {
            let mut rule = placed.clone();
            rule.nothing = Some(why.clone());
            let codings: Vec<Coding> = self.undeclared.iter().map(|(coding, _)| coding.clone()).collect();
            state(&mut rule, self.element.name(), &codings)?;
            rules.push(rule);
        }
        Ok(rules)
    }
}

/// What a module states, by the name of the element.
fn statements(module: &Module) -> impl Iterator<Item = (&'static str, &Vec<Coding>)> {
    let all = [("class", &module.class), ("purpose", &module.purpose), ("action", &module.action)];
    all.into_iter().filter(|(_, codings)| !codings.is_empty())
}

fn state(rule: &mut Placed, name: &'static str, codings: &[Coding]) -> Result<(), FieldError> {
    let Provision { code, class, purpose, action, .. } = &mut rule.own;
    let own = match name {
        "class" => class,
        "purpose" => purpose,
        "action" => action,
        _ => code,
    };
    if !own.is_empty() {
        let message = "stands beside a module that states it as well: leave it out of one of them";
        return Err(rule.error(name, message));
    }
    own.extend(codings.iter().cloned());
    Ok(())
}

fn list(provision: &mut Provision, element: ModuleElement) -> &mut Vec<Coding> {
    match element {
        ModuleElement::Code => &mut provision.code,
        ModuleElement::Purpose => &mut provision.purpose,
        ModuleElement::Class => &mut provision.class,
    }
}

/// What codes of the element are read as.
pub fn coded(element: ModuleElement) -> CodedElement {
    match element {
        ModuleElement::Code => CodedElement::Code,
        ModuleElement::Purpose => CodedElement::Purpose,
        ModuleElement::Class => CodedElement::Class,
    }
}

/// Names of the elements that modules state, or that stand for nothing. What is nested in a module would leave it by stating one of them again.
#[derive(Clone, Debug, Default)]
struct Stated(Vec<&'static str>);

impl Stated {
    fn and(mut self, choice: &Choice) -> Self {
        if !choice.modules.is_empty() || !choice.undeclared.is_empty() {
            self.0.push(choice.element.name());
        }
        self.0.extend(choice.modules.iter().flat_map(|module| statements(module)).map(|(name, _)| name));
        self
    }

    fn refuse_again(&self, placed: &Placed) -> Result<(), FieldError> {
        let Provision { code, class, purpose, action, .. } = &placed.own;
        let own = [(code, "code"), (class, "class"), (purpose, "purpose"), (action, "action")];
        match own.iter().find(|(codings, name)| !codings.is_empty() && self.0.contains(name)) {
            None => Ok(()),
            Some((_, name)) => {
                let message = "states again what the module stands for that the provision is nested in: state it beside the module";
                Err(placed.error(name, message))
            }
        }
    }
}

/// Refuses the code of a module in another element than the one that it is declared for, where something is denied: there it
/// means nothing, and the denial would be lost.
fn refuse_elsewhere(placed: &Placed, context: &ProvisionContext) -> Result<(), FieldError> {
    let Provision { type_, purpose, action, security_label, class, document_type, code, .. } = &placed.own;
    if *type_ == Some(ProvisionType::Permit) && placed.permits_only() {
        return Ok(());
    }
    for (codings, name, element) in [
        (purpose, "purpose", CodedElement::Purpose),
        (action, "action", CodedElement::Action),
        (security_label, "securityLabel", CodedElement::SecurityLabel),
        (class, "class", CodedElement::Class),
        (document_type, "documentType", CodedElement::Class),
        (code, "code", CodedElement::Code),
    ] {
        for (i, coding) in codings.iter().enumerate() {
            let code = context.systems.code(coding, element);
            let named = || context.modules.iter().filter(|module| code.names(&module.code, ProvisionType::Deny));
            if named().next().is_some() && named().all(|module| module.element.name() != name) {
                let message = "is one of the policy's modules, which stands in another element: write it there";
                return Err(placed.error(&format!("{name}[{i}]"), message));
            }
        }
    }
    Ok(())
}

/// The modules among the codes of an element, and its other codes; none if there is nothing to take apart. A denial of a module
/// that nobody declared would deny nothing, and a permit of one permits nothing.
fn split<'c>(
    placed: &Placed,
    element: ModuleElement,
    context: &'c ProvisionContext,
) -> Result<Option<Choice<'c>>, FieldError> {
    let declared: Vec<&Module> = context.modules.iter().filter(|module| module.element == element).collect();
    let mut choice = Choice { element, modules: Vec::new(), others: Vec::new(), undeclared: Vec::new() };
    let effect = placed.own.type_.unwrap_or(ProvisionType::Deny);
    let codings = match element {
        ModuleElement::Code => &placed.own.code,
        ModuleElement::Purpose => &placed.own.purpose,
        ModuleElement::Class => &placed.own.class,
    };
    for (i, coding) in codings.iter().enumerate() {
        let code = context.systems.code(coding, coded(element));
        let named = |module: &&&Module| match effect {
            ProvisionType::Permit => module.code == code,
            ProvisionType::Deny => code.names(&module.code, effect),
        };
        let of_system = |module: &&Module| code.meant().is_none_or(|system| module.code.meant() == Some(system));
        let found: Vec<&Module> = declared.iter().filter(named).copied().collect();
        if found.is_empty() && effect == ProvisionType::Deny && declared.iter().any(of_system) {
            return Err(undeclared(placed, element, i, coding, "would deny"));
        }
        // A code of a system that nobody knows may be the module of another name.
        let perhaps = !declared.is_empty() && !code.is_known();
        if found.is_empty() && effect == ProvisionType::Permit && (perhaps || declared.iter().any(of_system)) {
            if placed.has_below(ProvisionType::Deny) {
                return Err(undeclared(
                    placed,
                    element,
                    i,
                    coding,
                    "permits nothing, and what is nested in it would deny",
                ));
            }
            choice.undeclared.push((coding.clone(), undeclared(placed, element, i, coding, "permits")));
            continue;
        }
        // What only may be a module may be a code of its own as well. Nothing is permitted in what only may be meant.
        if found.iter().all(|module| module.code != code) {
            if !found.is_empty() && placed.has_below(ProvisionType::Permit) {
                let message = "may be one of the policy's modules, and what is nested in it permits: name its system as the policy \
                               does";
                return Err(placed.error(&format!("{}[{i}]", element.name()), message));
            }
            choice.others.push(coding.clone());
        }
        for module in found {
            if !choice.modules.iter().any(|other| std::ptr::eq(*other, module)) {
                choice.modules.push(module);
            }
        }
    }
    Ok(Some(choice).filter(|choice| !choice.modules.is_empty() || !choice.undeclared.is_empty()))
}

/// Why a code that is no module `does` nothing.
fn undeclared(placed: &Placed, element: ModuleElement, i: usize, coding: &Coding, does: &str) -> FieldError {
    let system = coding.system.as_ref().map_or_else(String::new, |system| format!("{system}|"));
    let named = said_within(&format!("{system}{}", coding.code), MAX_NAMED);
    let message = format_args!(
        "is not one of the policy's modules, so it {does} nothing: declare \"{named}\" in spec.modules, or its system in \
         spec.codeSystems if it is another"
    );
    placed.error(&format!("{}[{i}]", element.name()), message)
}

/// Characters of a code that are said of one that is no module.
const MAX_NAMED: usize = 120;
