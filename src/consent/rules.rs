//! Ordered lists of rules: what is left of a consent once everything known is filled in.
//!
//! A list has a default decision and then rules about the record, of which the last one that matches wins. If all of the
//! record is known there are no rules, only the default. Two operations build every decision out of the lists of its
//! provisions: [`Rules::under`] (a list that stands above another) and [`strictest`] (lists of equal standing, of which
//! the strictest decision wins). Both are exact: applied to any record, the built list gives what the same operation on
//! the decisions of the parts gives.
//!
//! The trap: to write the strictest of lists in which a weaker rule takes back a stricter one as a list of the same kind takes
//! a rule for each choice of one from every list. Here each rule names what takes it back ([`Rule::unless`]), and the lists
//! are put behind each other: a list is as long as the provisions that it comes from.

use super::code::{Code, Labels};
use super::time::Period;
use super::tree::DataRule;
use crate::vocabulary::ProvisionType;

/// Pairs of rules that are compared to leave out what says nothing new: a bound on work that only makes an answer shorter.
const MAX_PAIRS: usize = 1 << 12;
/// The same of pairs of entries of two lists.
const MAX_ENTRY_PAIRS: usize = 1 << 8;

/// What a rule decides, in ascending strictness (XACML: the value of a rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleDecision {
    /// Nothing: what stands below decides.
    NotApplicable,
    /// Permit.
    Permit,
    /// Deny.
    Deny,
    /// Deny by a provision that names the break-glass purpose of the request.
    DenyBreakGlass,
}

impl RuleDecision {
    /// Whether access is denied.
    pub fn denies(self) -> bool {
        self >= Self::Deny
    }
}

/// What one element of a provision asks of the record.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// Labels.
    Labels(&'a Labels),
    /// Kind of record or of document.
    Class(&'a [Code]),
    /// Content.
    Code(&'a [Code]),
    /// When it was written.
    DataPeriod(&'a Period),
    /// Named records, or who wrote them.
    Data(&'a [DataRule]),
}

/// An element that has still to be compared, for a provision of type `effect`: denials match more widely.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// What it asks.
    pub about: About<'a>,
    /// Type of the provision.
    pub effect: ProvisionType,
}

/// Whether `outer` is known to have all of `inner`.
fn all_in<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    let few = inner.len().saturating_mul(outer.len()) <= MAX_ENTRY_PAIRS;
    std::ptr::eq(inner, outer) || few && inner.iter().all(|entry| outer.contains(entry))
}

impl Element<'_> {
    /// Whether every record that this element holds for is known to be one that `outer` holds for.
    fn within(&self, outer: &Self) -> bool {
        let as_wide = self.effect == outer.effect || outer.effect == ProvisionType::Deny;
        as_wide
            && match (self.about, outer.about) {
                (About::Labels(inner), About::Labels(outer)) => std::ptr::eq(inner, outer) || inner.within(outer),
                (About::Class(inner), About::Class(outer)) => all_in(inner, outer),
                (About::Code(inner), About::Code(outer)) => all_in(inner, outer),
                (About::DataPeriod(inner), About::DataPeriod(outer)) => inner.within(outer),
                (About::Data(inner), About::Data(outer)) => all_in(inner, outer),
                _ => false,
            }
    }
}

/// What a rule asks of the record: all of these elements. Without any, it holds for every record.
#[derive(Clone, Debug, Default)]
pub struct Term<'a>(pub Vec<Element<'a>>);

impl Term<'_> {
    /// Whether every record that this term holds for is known to be one that `other` holds for.
    fn within(&self, other: &Self) -> bool {
        other.0.iter().all(|outer| self.0.iter().any(|inner| inner.within(outer)))
    }
}

/// A decision and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// What is said.
    pub decision: RuleDecision,
    /// By what.
    pub source: Source<'a>,
}

/// Where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Layer of the decision.
    pub basis: Basis,
    /// Why.
    pub reason: Reason,
    /// Path of the provision.
    pub path: Option<&'a str>,
    /// Digest of the consent.
    pub digest: Option<&'a str>,
}

impl Source<'_> {
    /// The source of what holds outside the data of a provision: the consent, for no glass is broken there.
    pub fn outside(self) -> Self {
        let basis = if self.basis == Basis::Breakglass { Basis::Consent } else { self.basis };
        Self { basis, reason: Reason::OutsidePermittedData, ..self }
    }
}

/// Layer that a decision comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// A consent of the patient.
    Consent,
    /// A rule of law or organisation.
    Overriding,
    /// Emergency access.
    Breakglass,
    /// No consent decides: the base policy.
    Implicit,
}

/// Why a decision is what it is. Stable: audits and scripts match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A provision that permits matches.
    ProvisionPermits,
    /// A provision that denies matches.
    ProvisionDenies,
    /// The consent permits other data only.
    OutsidePermittedData,
    /// No consent decides.
    NoConsent,
    /// No policy is in force.
    NoPolicy,
    /// A consent that stands on the ledger cannot be read.
    UnreadableConsent,
    /// A provision that permits names the break-glass purpose.
    BreakGlassConsented,
    /// The policy allows break-glass against the consent.
    BreakGlassAllowed,
    /// The policy forbids break-glass.
    BreakGlassForbidden,
    /// The requester may not break the glass.
    BreakGlassNotAuthorized,
    /// No justification was given.
    BreakGlassNotJustified,
    /// The evaluator failed.
    Error,
}

/// A rule about the record.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// The records it holds for,
    pub term: Term<'a>,
    /// but for those that one of these holds for.
    pub unless: Vec<Rule<'a>>,
    /// What holds for them.
    pub outcome: Outcome<'a>,
}

impl<'a> Rule<'a> {
    /// The rule that says `outcome` of the records of `term`.
    pub fn new(term: Term<'a>, outcome: Outcome<'a>) -> Self {
        Self { term, unless: Vec::new(), outcome }
    }

    /// Whether it holds for every record.
    pub fn is_whole(&self) -> bool {
        self.term.0.is_empty() && self.unless.is_empty()
    }

    /// Whether a later rule is known to say something else of all its records.
    fn is_undone_by(&self, later: &Self) -> bool {
        self.outcome.decision != later.outcome.decision && later.unless.is_empty() && self.term.within(&later.term)
    }
}

/// A list of rules.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// What holds where no rule does.
    pub default: Outcome<'a>,
    /// In order; the last one that holds wins.
    pub rules: Vec<Rule<'a>>,
}

impl<'a> Rules<'a> {
    /// The list that says `outcome` of every record.
    pub fn always(outcome: Outcome<'a>) -> Self {
        Self { default: outcome, rules: Vec::new() }
    }

    /// The list that says `outcome` of the records of `term`, and `otherwise` of the rest.
    pub fn only(term: Term<'a>, outcome: Outcome<'a>, otherwise: Outcome<'a>) -> Self {
        Self { default: otherwise, rules: vec![Rule::new(term, outcome)] }
    }

    /// The list with `upper` above it: where `upper` says nothing, this one decides. Rules that `upper` undoes as a whole
    /// are left out; rules that it only repeats stay, as the consent wrote them.
    pub fn under(mut self, upper: Self) -> Self {
        let silent = |rule: &Rule| rule.outcome.decision == RuleDecision::NotApplicable;
        let mut upper = if upper.rules.iter().any(silent) { upper.in_any_order() } else { upper };
        if upper.default.decision != RuleDecision::NotApplicable {
            return upper;
        }
        if self.rules.len().saturating_mul(upper.rules.len()) <= MAX_PAIRS {
            self.rules.retain(|rule| !upper.rules.iter().any(|above| rule.is_undone_by(above)));
        }
        let decision = self.default.decision;
        let uniform = |rules: &[Rule]| rules.iter().all(|rule| rule.outcome.decision == decision);
        if uniform(&self.rules) {
            let said_already = upper.rules.iter().take_while(|rule| rule.outcome.decision == decision).count();
            upper.rules.drain(..said_already);
        }
        self.rules.append(&mut upper.rules);
        self
    }

    /// The list without rules that a later one undoes as a whole, so that nothing is called permitted of which nothing is left.
    fn without_undone(mut self) -> Self {
        let rules = std::mem::take(&mut self.rules);
        let few = rules.len().saturating_mul(rules.len()) <= MAX_PAIRS;
        let undone = |i: usize| few && rules[i + 1..].iter().any(|later| rules[i].is_undone_by(later));
        let stays: Vec<bool> = (0..rules.len()).map(|i| !undone(i)).collect();
        self.rules = rules.into_iter().zip(stays).filter_map(|(rule, stays)| stays.then_some(rule)).collect();
        self
    }

    /// The list with every outcome replaced.
    pub fn map(mut self, replace: impl Fn(Outcome<'a>) -> Outcome<'a>) -> Self {
        self.default = replace(self.default);
        for rule in &mut self.rules {
            rule.outcome = replace(rule.outcome);
        }
        self
    }

    /// Whether each decision is at least as strict as those before it: then the order does not matter.
    fn ascends(&self) -> bool {
        let decisions =
            std::iter::once(self.default.decision).chain(self.rules.iter().map(|rule| rule.outcome.decision));
        decisions.is_sorted()
    }

    /// The same list with rules of which the strictest one that holds wins, in any order: each names the weaker rules that come
    /// after it. What says nothing is left to the default.
    fn in_any_order(self) -> Self {
        if self.ascends() {
            return self;
        }
        let default = Outcome { decision: RuleDecision::NotApplicable, source: self.default.source };
        let mut rules: Vec<Rule<'a>> = Vec::with_capacity(self.rules.len() + 1);
        rules.push(Rule::new(Term::default(), self.default));
        rules.extend(self.rules);
        let mut weakest = RuleDecision::DenyBreakGlass;
        let mut taken_back = Vec::new();
        for i in (0..rules.len()).rev() {
            let decision = rules[i].outcome.decision;
            let weaker = |later: &&Rule<'a>| later.outcome.decision < decision;
            let by: Vec<Rule<'a>> = match weakest < decision {
                true => rules[i + 1..].iter().filter(weaker).cloned().collect(),
                false => Vec::new(),
            };
            weakest = weakest.min(decision);
            taken_back.push(by);
        }
        let rules = rules.into_iter().zip(taken_back.into_iter().rev()).filter_map(|(mut rule, by)| {
            let never = rule.outcome.decision == RuleDecision::NotApplicable || by.iter().any(Rule::is_whole);
            rule.unless.extend(by);
            (!never).then_some(rule)
        });
        Self { default, rules: rules.collect() }
    }
}

/// The stricter of two outcomes, the first if they are equally strict.
fn stricter<'a>(one: Outcome<'a>, other: Outcome<'a>) -> Outcome<'a> {
    if other.decision > one.decision { other } else { one }
}

/// The list that says of every record the strictest of what `lists` say of it. Of equally strict decisions the first one's
/// source stands. Each list comes with a key, and they are combined in the order of the keys: how what is left is written does
/// not depend on how the consents were.
pub fn strictest<'a>(nothing: Outcome<'a>, lists: impl IntoIterator<Item = (&'a [u8; 32], Rules<'a>)>) -> Rules<'a> {
    let mut result = Rules::always(nothing);
    let mut with_rules = Vec::new();
    for (key, list) in lists {
        if list.rules.is_empty() {
            result.default = stricter(result.default, list.default);
        } else {
            with_rules.push((key, list));
        }
    }
    if result.default.decision == RuleDecision::NotApplicable
        && with_rules.len() == 1
        && let Some((_, list)) = with_rules.pop()
    {
        return list;
    }
    with_rules.sort_by_key(|(key, _)| *key);
    let entangled = with_rules.iter().any(|(_, list)| !list.ascends());
    for (_, list) in with_rules {
        let list = list.in_any_order();
        result.default = stricter(result.default, list.default);
        result.rules.extend(list.rules);
    }
    let default = result.default.decision;
    result.rules.retain(|rule| rule.outcome.decision > default);
    result.rules.sort_by_key(|rule| rule.outcome.decision);
    if entangled { result.without_undone() } else { result }
}
