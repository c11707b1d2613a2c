//! Codes of documents that stand for whole rules, as in national consents made of modules: each becomes the rule that the
//! policy says it is.

use super::context::{Module, ProvisionContext};
use super::error::FieldError;
use super::placed::{MAX_COPIES, Placed};
use super::tree::MAX_PROVISIONS;
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{Coding, Provision, ProvisionType};

/// The tree with every module in it replaced by the rules that it stands for.
pub fn expand(root: Placed, context: &ProvisionContext) -> Result<Placed, FieldError> {
    if context.modules.is_empty() {
        return Ok(root);
    }
    let provisions = MAX_PROVISIONS.saturating_sub(root.size().provisions);
    let mut expansion = Expansion { context, provisions, entries: MAX_COPIES };
    let mut expanded = expansion.one(root, &Stated::default())?;
    match expanded.pop() {
        Some(one) if expanded.is_empty() => Ok(one),
        Some(one) => Err(one.error("code", "names several modules, which only a nested provision can")),
        None => Err(FieldError::new("provision", "stands for nothing")),
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
    /// The provisions that one stands for: one for each module among its codes, and one for its other codes. `above` is what
    /// the modules state that it is nested in.
    fn one(&mut self, mut placed: Placed, above: &Stated) -> Result<Vec<Placed>, FieldError> {
        above.refuse_again(&placed)?;
        let (modules, others) = split(&placed, self.context)?;
        let stated = modules.iter().fold(above.clone(), |stated, module| stated.and(module));
        let mut children = Vec::new();
        for child in std::mem::take(&mut placed.children) {
            children.extend(self.one(child, &stated)?);
        }
        placed.children = children;
        if modules.is_empty() {
            return Ok(vec![placed]);
        }
        placed.own.code.clear();
        self.afford(&placed, modules.len() + usize::from(!others.is_empty()) - 1)?;
        let mut expanded = Vec::new();
        if !others.is_empty() {
            let mut rest = placed.clone();
            rest.own.code = others;
            expanded.push(rest);
        }
        for module in modules {
            expanded.push(stands_for(&placed, module)?);
        }
        Ok(expanded)
    }

    /// Counts the copies before they are made: levels multiply.
    fn afford(&mut self, placed: &Placed, copies: usize) -> Result<(), FieldError> {
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
                Err(placed.error("code", message))
            }
        }
    }
}

/// Names of the elements that modules state. What is nested in a module would leave it by stating one of them again.
#[derive(Clone, Debug, Default)]
struct Stated(Vec<&'static str>);

impl Stated {
    fn and(mut self, module: &Module) -> Self {
        let own = [
            (true, "code"),
            (!module.class.is_empty(), "class"),
            (!module.purpose.is_empty(), "purpose"),
            (!module.action.is_empty(), "action"),
        ];
        self.0.extend(own.into_iter().filter(|(states, _)| *states).map(|(_, name)| name));
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

/// The modules among the codes of a provision, and its other codes. A denial of a module that nobody declared would deny
/// nothing.
fn split<'c>(placed: &Placed, context: &'c ProvisionContext) -> Result<(Vec<&'c Module>, Vec<Coding>), FieldError> {
    let (mut modules, mut others) = (Vec::new(), Vec::new());
    let effect = placed.own.type_.unwrap_or(ProvisionType::Deny);
    for (i, coding) in placed.own.code.iter().enumerate() {
        let code = context.systems.code(coding, CodedElement::Code);
        let named = |module: &&Module| match effect {
            ProvisionType::Permit => module.code == code,
            ProvisionType::Deny => code.names(&module.code, effect),
        };
        let of_system = |module: &Module| code.meant().is_none_or(|system| module.code.meant() == Some(system));
        let found: Vec<&Module> = context.modules.iter().filter(named).collect();
        if found.is_empty() && effect == ProvisionType::Deny && context.modules.iter().any(of_system) {
            let message = "is not one of the policy's modules, so it would deny nothing: declare it in spec.modules";
            return Err(placed.error(&format!("code[{i}]"), message));
        }
        // What only may be a module may be a code of content as well.
        if found.iter().all(|module| module.code != code) {
            others.push(coding.clone());
        }
        for module in found {
            if !modules.iter().any(|other: &&Module| std::ptr::eq(*other, module)) {
                modules.push(module);
            }
        }
    }
    Ok((modules, others))
}

fn stands_for(placed: &Placed, module: &Module) -> Result<Placed, FieldError> {
    let mut rule = placed.clone();
    for (own, of_module, name) in [
        (&mut rule.own.class, &module.class, "class"),
        (&mut rule.own.purpose, &module.purpose, "purpose"),
        (&mut rule.own.action, &module.action, "action"),
    ] {
        if !own.is_empty() && !of_module.is_empty() {
            let message = "stands beside a module that states it as well: leave it out of one of them";
            return Err(placed.error(name, message));
        }
        own.extend(of_module.iter().cloned());
    }
    Ok(rule)
}
