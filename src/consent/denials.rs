//! What a denial must not say: a name of nobody and a code of nothing, for which it would deny nothing.

use super::context::ProvisionContext;
use super::error::{FieldError, MAX_ERRORS};
use super::placed::Placed;
use super::tree::{ActorRule, DataRule, Elements, List, Who};
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{Actor, Coding, Part, Provision, ProvisionType};

/// What a provision states of an element.
type Stated = fn(&Provision) -> &[Coding];

/// Lists of a provision that take codes of known systems, with their names.
const CODED: [(&str, CodedElement, Stated); 6] = [
    ("purpose", CodedElement::Purpose, |own| &own.purpose),
    ("action", CodedElement::Action, |own| &own.action),
    ("securityLabel", CodedElement::SecurityLabel, |own| &own.security_label),
    ("class", CodedElement::Class, |own| &own.class),
    ("code", CodedElement::Code, |own| &own.code),
    ("documentType", CodedElement::Class, |own| &own.document_type),
];

/// Refuses what a denial says that nobody, no record and no request can be, also where it is inherited. It is wrong once: where
/// it stands.
pub fn refuse(placed: &Placed, own: &Elements, context: &ProvisionContext, errors: &mut Vec<FieldError>) {
    let mut names = |mut wrong: Vec<FieldError>, states: fn(&Provision) -> bool| {
        if !wrong.is_empty() && denies(placed, &states) {
            wrong.truncate(MAX_ERRORS.saturating_sub(errors.len()));
            errors.append(&mut wrong);
        }
    };
    names(nobody(&own.actor).cloned().collect(), |own| own.actor.iter().any(receives));
    names(no_record(&own.author).cloned().collect(), |own| own.actor.iter().any(|actor| !receives(actor)));
    names(no_record(&own.data).cloned().collect(), |own| !own.data.is_empty());
    for (name, element, stated) in CODED {
        let is_nothing = |coding: &Coding| context.systems.is_nothing(&context.systems.code(coding, element), element);
        if let Some(i) = stated(&placed.own).iter().position(is_nothing)
            && denies(placed, &|own| !stated(own).is_empty())
        {
            let error =
                placed.error(&format!("{name}[{i}]"), "is no code that is known here, so it would deny nothing");
            // Of a policy it was said before.
            if errors.iter().all(|other| other.field != error.field) {
                errors.push(error);
            }
        }
    }
}

/// Whether a provision denies, or one that inherits from it what it `states`.
fn denies(placed: &Placed, states: &dyn Fn(&Provision) -> bool) -> bool {
    placed.own.type_ == Some(ProvisionType::Deny)
        || placed.children.iter().any(|child| !states(&child.own) && denies(child, states))
}

/// Whether an actor is one of those who are compared with who asks.
fn receives(actor: &Actor) -> bool {
    matches!(actor.part, Part::Recipient | Part::Bystander)
}

/// Why actors are nobody.
pub fn nobody(actors: &List<ActorRule>) -> impl Iterator<Item = &FieldError> {
    actors.iter().flat_map(|actors| actors.iter()).filter_map(|rule| match &rule.who {
        Who::Nobody(why) => Some(&**why),
        _ => None,
    })
}

/// Why data is no record.
pub fn no_record(data: &List<DataRule>) -> impl Iterator<Item = &FieldError> {
    data.iter().flat_map(|data| data.iter()).filter_map(|rule| rule.target.as_ref().err().map(|why| &**why))
}
