//! Whether a provision matches a request: yes, no, or only the record can tell.

use jiff::Timestamp;

use super::code::{Code, Codes};
use super::reference::Subject;
use super::request::{Author, Record, Request, Requester};
use super::rules::{About, Element, Term};
use super::tree::{ActorRule, DataRule, Elements, Node, Who};
use crate::vocabulary::{DataMeaning, ProvisionType};

/// Result of matching one provision.
#[derive(Clone, Debug)]
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

/// Whether `node` matches `request` at `now`; it is known to be [`asked`].
pub fn matches<'a>(node: &'a Node, request: &Request, now: Timestamp) -> Match<'a> {
    let Elements { period, labels, class, document_type, code, data_period, data, author, nothing, .. } =
        &node.elements;
    if !period.as_ref().is_none_or(|period| period.contains(now)) {
        return Match::NotAsked;
    }
    let effect = node.effect;
    let record = &request.resource;
    let mut open = Vec::new();
    let mut other_data = effect == ProvisionType::Permit && nothing.is_some();
    let mut compare = |about: About<'a>, holds: Option<bool>| match holds {
        Some(holds) => other_data |= !holds,
        None => open.push(Element { about, effect }),
    };
    let coded = |rule: &[Code], known: &Option<Codes>| known.as_ref().map(|codes| codes.any_named(rule, effect));
    if let Some(rule) = labels {
        compare(About::Labels(rule), record.labels.as_ref().map(|labels| rule.covers(labels, effect)));
    }
    for rule in class.iter().chain(document_type) {
        compare(About::Class(rule), coded(rule, &record.class));
    }
    if let Some(rule) = code {
        compare(About::Code(rule), coded(rule, &record.codes));
    }
    if let Some(rule) = data_period {
        let holds = |on| if effect == ProvisionType::Deny { rule.overlaps(on) } else { rule.encloses(on) };
        compare(About::DataPeriod(rule), record.authored_on.map(holds));
    }
    for rule in data.iter().chain(author) {
        compare(About::Data(rule), any_data(rule, record, effect));
    }
    match other_data {
        true => Match::OtherData,
        false if open.is_empty() => Match::Yes,
        false => Match::Open(Term(open)),
    }
}

/// Who, what and why, whatever the time is. Where the request does not say, a permit is not matched and a deny is.
pub fn asked(node: &Node, request: &Request) -> bool {
    let Elements { purpose, action, actor, .. } = &node.elements;
    let effect = node.effect;
    let unsaid = effect == ProvisionType::Deny;
    let code = |rule: &Option<std::sync::Arc<[Code]>>, asked: &Option<Code>| match (rule, asked) {
        (None, _) => true,
        (Some(_), None) => unsaid,
        (Some(rule), Some(asked)) => rule.iter().any(|rule| asked.names(rule, effect)),
    };
    let who = || match (actor, &request.actor) {
        (None, _) => true,
        (Some(_), None) => unsaid,
        (Some(rules), Some(requester)) => rules.iter().any(|rule| is_meant(rule, requester, effect)),
    };
    code(purpose, &request.purpose) && code(action, &request.action) && who()
}

/// Whether the requester is one of those whom the document permits anything.
pub fn is_grantee(node: &Node, request: &Request) -> bool {
    match (&node.elements.grantee, &request.actor) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(rules), Some(requester)) => rules.iter().any(|rule| is_meant(rule, requester, ProvisionType::Permit)),
    }
}

/// Whether the requester is one whom the rule means.
pub fn is_meant(rule: &ActorRule, requester: &Requester, effect: ProvisionType) -> bool {
    // Of a role, a certificate knows the code only.
    let in_role = rule.role.as_ref().is_none_or(|role| requester.is_in_role(&role.code, effect));
    let named = match &rule.who {
        Who::Reference { key, msp_id: Some(msp_id) } => {
            requester.is_named(key, effect) || requester.is_of_msp(msp_id, effect)
        }
        Who::Reference { key, msp_id: None } => {
            requester.is_named(key, effect) || effect == ProvisionType::Deny && requester.is_perhaps_named(key)
        }
        Who::Identifier(identifier) => requester.has_identifier(identifier, effect),
        Who::Msp(msp_id) => requester.is_of_msp(msp_id, effect),
        Who::Attribute(attribute) => requester.has_attribute(attribute, effect),
        Who::AnyoneInRole => true,
        Who::Nobody(_) => false,
    };
    named && in_role
}

/// Whether the record is one of those named; none where that cannot be told from what is known.
fn any_data(rules: &[DataRule], record: &Record, effect: ProvisionType) -> Option<bool> {
    let mut result = Some(false);
    for rule in rules {
        match one_data(rule, record, effect) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

/// Whether the record is the one that the rule names; none where that cannot be told from what is known.
pub fn one_data(rule: &DataRule, record: &Record, effect: ProvisionType) -> Option<bool> {
    let Ok(target) = &rule.target else { return Some(false) };
    let itself = || record.id.as_ref().map(|id| same(id, target, effect));
    match rule.meaning {
        DataMeaning::Instance => itself(),
        // What is linked to the named record only its store knows.
        DataMeaning::Related | DataMeaning::Dependents => itself().filter(|itself| *itself),
        DataMeaning::Authoredby => {
            let wrote = |author: &Author| wrote(author, target, rule, effect);
            record.author.as_ref().map(|authors| {
                authors.iter().any(wrote) || effect == ProvisionType::Deny && keeper_is_unknown(rule, authors)
            })
        }
    }
}

/// For a denial a type that says nothing is no difference.
fn same(one: &Subject, other: &Subject, effect: ProvisionType) -> bool {
    if effect == ProvisionType::Deny { one.may_be(other) } else { one.is(other) }
}

impl DataRule {
    /// Whether it names a hospital as the one that keeps the record.
    pub fn keeps_as_a_hospital(&self) -> bool {
        let hospital = |target: &Subject| !target.has_type() || target.key.starts_with("Organization/");
        self.keeps && self.target.as_ref().is_ok_and(hospital)
    }
}

/// Whether nothing says which hospital keeps the record, of which the rule names one: nobody who wrote it may be one.
fn keeper_is_unknown(rule: &DataRule, authors: &[Author]) -> bool {
    rule.keeps_as_a_hospital() && !authors.iter().any(Author::may_be_an_msp)
}

/// Whether an author is the one that a rule names. One of two names may be an MSP, and then an organisation is compared by the MSP
/// that it is; where nobody says which that is, they cannot be compared: such a denial holds.
fn wrote(author: &Author, target: &Subject, rule: &DataRule, effect: ProvisionType) -> bool {
    if same(&author.named, target, effect) {
        return true;
    }
    if author.named.has_type() && target.has_type() {
        return false;
    }
    let of_msp = |msp_id: &Option<String>| match (msp_id, &author.msp_id) {
        (Some(one), Some(other)) if effect == ProvisionType::Deny => one.eq_ignore_ascii_case(other),
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => false,
    };
    let by_name = (!target.has_type()).then(|| target.key.clone());
    let both_known = author.msp_id.is_some() && rule.msp_id.is_some();
    match effect {
        ProvisionType::Permit => of_msp(&rule.msp_id),
        ProvisionType::Deny => of_msp(&rule.msp_id) || of_msp(&by_name) || author.may_be_an_msp() && !both_known,
    }
}
