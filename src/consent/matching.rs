//! Whether a provision matches a request: yes, no, or only the record can tell.

use jiff::Timestamp;

use super::code::Code;
use super::request::{Record, Request, Requester};
use super::rules::Term;
use super::tree::{ActorRule, DataRule, Elements, Node, Who};
use crate::vocabulary::{DataMeaning, ProvisionType};

/// Result of matching one provision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Match<'a> {
    /// All elements match.
    Yes,
    /// All known elements match; these have still to be compared with the record.
    Open(Term<'a>),
    /// The period, purpose, actor or action does not match.
    NotAsked,
    /// Only the record is another one than the provision is about.
    OtherData,
}

/// Whether `node` matches `request` at `now`.
pub fn matches<'a>(node: &'a Node, request: &Request, now: Timestamp) -> Match<'a> {
    let elements = &node.elements;
    if !asked(elements, node.effect, request, now) {
        return Match::NotAsked;
    }
    let mut open = Term::default();
    let record = &request.resource;
    let known = [
        compare(&elements.labels, record.labels.as_ref(), &mut open.labels, |rule, record| Some(rule.covers(record))),
        compare(&elements.class, record.class.as_ref(), &mut open.class, |rule, codes| Some(any_named(rule, codes))),
        compare(&elements.code, record.codes.as_ref(), &mut open.code, |rule, codes| Some(any_named(rule, codes))),
        compare(&elements.data_period, record.authored_on.as_ref(), &mut open.data_period, |rule, on| {
            Some(rule.overlaps(*on))
        }),
        compare(&elements.data, Some(record), &mut open.data, any_data),
    ];
    match known.contains(&Some(false)) {
        true => Match::OtherData,
        false if open == Term::default() => Match::Yes,
        false => Match::Open(open),
    }
}

/// Compares one element with what is known of the record; what is not known is put into `open`.
fn compare<'a, R: ?Sized, K>(
    rule: &'a Option<std::sync::Arc<R>>,
    known: Option<&K>,
    open: &mut Option<&'a R>,
    holds: impl Fn(&R, &K) -> Option<bool>,
) -> Option<bool> {
    let Some(rule) = rule.as_deref() else { return Some(true) };
    let result = known.and_then(|known| holds(rule, known));
    if result.is_none() {
        *open = Some(rule);
    }
    result
}

/// Who, what and why. Where the request does not say, a permit is not matched and a deny is.
fn asked(elements: &Elements, effect: ProvisionType, request: &Request, now: Timestamp) -> bool {
    let unsaid = effect == ProvisionType::Deny;
    let code = |rule: &Option<std::sync::Arc<[Code]>>, asked: &Option<Code>| match (rule, asked) {
        (None, _) => true,
        (Some(_), None) => unsaid,
        (Some(rule), Some(asked)) => rule.iter().any(|rule| asked.names(rule)),
    };
    let actor = || match (&elements.actor, &request.actor) {
        (None, _) => true,
        (Some(_), None) => unsaid,
        (Some(rules), Some(requester)) => rules.iter().any(|rule| is_meant(rule, requester)),
    };
    elements.period.as_ref().is_none_or(|period| period.contains(now))
        && code(&elements.purpose, &request.purpose)
        && code(&elements.action, &request.action)
        && actor()
}

fn is_meant(rule: &ActorRule, requester: &Requester) -> bool {
    // Of a role, a certificate knows the code only.
    let in_role =
        rule.role.as_ref().is_none_or(|role| requester.role.as_ref().is_some_and(|held| held.code == role.code));
    let of_msp = |msp_id: &String| requester.msp_id.as_ref() == Some(msp_id);
    let named = match &rule.who {
        Who::Reference { key, msp_id } => requester.is_named(key) || msp_id.as_ref().is_some_and(of_msp),
        Who::Identifier(identifier) => requester.identifiers.contains(identifier),
        Who::Msp(msp_id) => of_msp(msp_id),
        Who::Attribute(attribute) => requester.attributes.get(&attribute.name) == Some(&attribute.value),
        Who::AnyoneInRole => true,
    };
    named && in_role
}

fn any_named(rules: &[Code], codes: &[Code]) -> bool {
    rules.iter().any(|rule| codes.iter().any(|code| code.names(rule)))
}

/// Whether the record is one of those named; none where that cannot be told from what is known.
fn any_data(rules: &[DataRule], record: &Record) -> Option<bool> {
    let mut result = Some(false);
    for rule in rules {
        match one_data(rule, record) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

fn one_data(rule: &DataRule, record: &Record) -> Option<bool> {
    let itself = record.id.as_ref().map(|id| *id == rule.key);
    match rule.meaning {
        DataMeaning::Instance => itself,
        // What is linked to the named record only its store knows.
        DataMeaning::Related | DataMeaning::Dependents => itself.filter(|itself| *itself),
        DataMeaning::Authoredby => record
            .author
            .as_ref()
            .map(|authors| authors.iter().any(|author| *author == rule.key || rule.msp_id.as_ref() == Some(author))),
    }
}
