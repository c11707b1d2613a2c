//! Provisions with the place in the document that each stands at, so that a tree can be put in order and still name where
//! everything came from.

use super::error::FieldError;
use super::tree::below;
use crate::vocabulary::{Provision, ProvisionType};

/// A provision, where it stands, and what is nested in it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its elements; what is nested in it stands in `children`.
    pub own: Provision,
    /// The path of the provision.
    pub path: String,
    /// What the paths of its elements begin with; for the base of an R5 consent nothing.
    pub prefix: String,
    /// Nested provisions.
    pub children: Vec<Placed>,
}

impl Placed {
    /// A tree as it is written. `path` names the root, `prefix` is what the paths below it begin with.
    pub fn new(mut provision: Provision, path: &str, prefix: &str) -> Self {
        let children = std::mem::take(&mut provision.provision).into_iter().enumerate();
        let children = children.map(|(i, child)| {
            let path = below(prefix, i);
            Self::new(child, &path, &path)
        });
        Self { children: children.collect(), own: provision, path: path.to_owned(), prefix: prefix.to_owned() }
    }

    /// A provision of this type without elements, standing at `path`.
    pub fn base(effect: ProvisionType, path: &str, children: Vec<Self>) -> Self {
        let own = Provision { type_: Some(effect), ..Provision::default() };
        Self { own, path: path.to_owned(), prefix: String::new(), children }
    }

    /// The tree without places.
    pub fn provision(&self) -> Provision {
        Provision { provision: self.children.iter().map(Self::provision).collect(), ..self.own.clone() }
    }

    /// Whether everything nested in it permits.
    pub fn permits_only(&self) -> bool {
        self.children.iter().all(|child| child.own.type_ == Some(ProvisionType::Permit) && child.permits_only())
    }

    /// An error about one of its elements.
    pub fn error(&self, element: &str, message: impl std::fmt::Display) -> FieldError {
        let dot = if self.prefix.is_empty() { "" } else { "." };
        FieldError::new(format!("{}{dot}{element}", self.prefix), message)
    }

    /// Provisions in the tree.
    pub fn len(&self) -> usize {
        1 + self.children.iter().map(Self::len).sum::<usize>()
    }
}
