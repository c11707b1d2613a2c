//! Provisions with the place in the document that each stands at, so that a tree can be put in order and still name where
//! everything came from.

use super::error::FieldError;
use super::tree::below;
use crate::vocabulary::{Provision, ProvisionType};

/// What a Consent resource is called in errors.
pub const CONSENT: &str = "Consent";
/// Entries of lists that putting a tree in order may copy: a bound on the memory that a document may ask for.
pub const MAX_COPIES: usize = 100_000;

/// A provision, where it stands, and what is nested in it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its elements; what is nested in it stands in `children`.
    pub own: Provision,
    /// What the document is called in errors, if it is not part of the paths.
    document: &'static str,
    /// The path of the provision.
    pub path: String,
    /// What the paths of its elements begin with; for the base of an R5 consent nothing.
    pub prefix: String,
    /// Nested provisions.
    pub children: Vec<Placed>,
    /// Why it permits nothing, with all below it; none if it may.
    pub nothing: Option<FieldError>,
}

impl Placed {
    /// A tree as it is written. `path` names the root, `prefix` is what the paths below it begin with.
    pub fn new(mut provision: Provision, document: &'static str, path: &str, prefix: &str) -> Self {
        let children = std::mem::take(&mut provision.provision).into_iter().enumerate();
        let children = children.map(|(i, child)| {
            let path = below(prefix, i);
            Self::new(child, document, &path, &path)
        });
        let children = children.collect();
        Self { children, document, own: provision, path: path.to_owned(), prefix: prefix.to_owned(), nothing: None }
    }

    /// The provision of a Consent of this type without elements, standing at `path`.
    pub fn base(effect: ProvisionType, path: &str, children: Vec<Self>) -> Self {
        let own = Provision { type_: Some(effect), ..Provision::default() };
        Self { own, document: CONSENT, path: path.to_owned(), prefix: String::new(), children, nothing: None }
    }

    /// The tree without places.
    pub fn provision(&self) -> Provision {
        Provision { provision: self.children.iter().map(Self::provision).collect(), ..self.own.clone() }
    }

    /// Whether everything nested in it permits.
    pub fn permits_only(&self) -> bool {
        self.children.iter().all(|child| child.own.type_ == Some(ProvisionType::Permit) && child.permits_only())
    }

    /// Whether it denies, and everything nested in it.
    pub fn denies_only(&self) -> bool {
        self.own.type_ == Some(ProvisionType::Deny) && !self.has_below(ProvisionType::Permit)
    }

    /// Whether anything nested in it has this type.
    pub fn has_below(&self, effect: ProvisionType) -> bool {
        self.children.iter().any(|child| child.own.type_ == Some(effect) || child.has_below(effect))
    }

    /// An error about one of its elements, or about all of it.
    pub fn error(&self, element: &str, message: impl std::fmt::Display) -> FieldError {
        let steps = [self.document, &self.prefix, element].into_iter().filter(|step| !step.is_empty());
        FieldError::new(steps.collect::<Vec<_>>().join("."), message)
    }

    /// Provisions in the tree, and entries of the lists in them.
    pub fn size(&self) -> Size {
        let entries = self.lists().iter().sum();
        self.children.iter().map(Self::size).fold(Size { provisions: 1, entries }, |one, other| Size {
            provisions: one.provisions + other.provisions,
            entries: one.entries + other.entries,
        })
    }

    /// Entries of its lists.
    fn lists(&self) -> [usize; 8] {
        let Provision { purpose, actor, action, security_label, class, document_type, code, data, .. } = &self.own;
        let lists = [purpose, action, security_label, class, document_type, code].map(Vec::len);
        let [purpose, action, security_label, class, document_type, code] = lists;
        [purpose, action, security_label, class, document_type, code, actor.len(), data.len()]
    }

    /// Refuses a tree in which long lists are inherited by many: a decision compares them with each, and repeats them in what
    /// it leaves open.
    pub fn check_inherited(&self) -> Result<(), FieldError> {
        fn inherited(placed: &Placed, above: [usize; 8], left: &mut usize) -> bool {
            let own = placed.lists();
            let held: [usize; 8] = std::array::from_fn(|i| if own[i] == 0 { above[i] } else { own[i] });
            let copies = held.iter().sum::<usize>() - own.iter().sum::<usize>();
            let fits = left.checked_sub(copies).map(|rest| *left = rest).is_some();
            fits && placed.children.iter().all(|child| inherited(child, held, left))
        }
        let message = format_args!(
            "has long lists that are inherited by many: with them its provisions have more than {MAX_COPIES} entries"
        );
        if inherited(self, [0; 8], &mut { MAX_COPIES }) { Ok(()) } else { Err(self.error("", message)) }
    }
}

/// How much a tree is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Provisions.
    pub provisions: usize,
    /// Entries of their lists.
    pub entries: usize,
}
