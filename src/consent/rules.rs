//! Ordered lists of rules: what is left of a consent once everything known is filled in.
//!
//! A list has a default decision and then rules about the record, of which the last one that matches wins. If all of the
//! record is known there are no rules, only the default. Two operations build every decision out of the lists of its
//! provisions: [`Rules::under`] (a list that stands above another) and [`strictest`] (lists of equal standing, of which
//! the strictest decision wins). Both are exact: applied to any record, the built list gives what the same operation on
//! the decisions of the parts gives.

use super::code::{Code, Labels};
use super::time::Period;
use super::tree::DataRule;
use crate::vocabulary::ProvisionType;

/// Pairs of rules that combining two lists may look at: a bound on the work of a decision.
const MAX_PAIRS: usize = 1 << 16;

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

fn all_in<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    std::ptr::eq(inner, outer) || inner.iter().all(|entry| outer.contains(entry))
}

impl Element<'_> {
    /// Whether every record that this element holds for is one that `outer` holds for.
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

impl<'a> Term<'a> {
    /// Whether it holds for every record.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every record that this term holds for is one that `other` holds for.
    pub fn within(&self, other: &Self) -> bool {
        other.0.iter().all(|outer| self.0.iter().any(|inner| inner.within(outer)))
    }

    /// The term that holds where both hold.
    fn and(&self, other: &Self) -> Self {
        let mut both = self.0.clone();
        for element in &other.0 {
            if !both.iter().any(|inner| inner.within(element)) {
                both.retain(|outer| !element.within(outer));
                both.push(*element);
            }
        }
        Self(both)
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
    /// The records it holds for.
    pub term: Term<'a>,
    /// What holds for them.
    pub outcome: Outcome<'a>,
}

impl Rule<'_> {
    /// Whether a later rule says something else of all its records.
    fn is_undone_by(&self, later: &Self) -> bool {
        self.outcome.decision != later.outcome.decision && self.term.within(&later.term)
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

/// Combining looks at more than [`MAX_PAIRS`] pairs of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consents are too entangled: combining two of them takes more than {MAX_PAIRS} pairs of rules")]
pub struct TooEntangled;

impl<'a> Rules<'a> {
    /// The list that says `outcome` of every record.
    pub fn always(outcome: Outcome<'a>) -> Self {
        Self { default: outcome, rules: Vec::new() }
    }

    /// The list that says `outcome` of the records of `term`, and `otherwise` of the rest.
    pub fn only(term: Term<'a>, outcome: Outcome<'a>, otherwise: RuleDecision) -> Self {
        let default = Outcome { decision: otherwise, source: outcome.source.outside() };
        Self { default, rules: vec![Rule { term, outcome }] }
    }

    /// The list with `upper` above it: where `upper` says nothing, this one decides. Rules that `upper` undoes as a whole
    /// are left out; rules that it only repeats stay, as the consent wrote them.
    pub fn under(mut self, mut upper: Self) -> Result<Self, TooEntangled> {
        let silent = |rule: &Rule| rule.outcome.decision == RuleDecision::NotApplicable;
        let gaps = upper.rules.iter().filter(|rule| silent(rule)).count();
        if gaps > 0 {
            return if gaps * (self.rules.len() + 1) > MAX_PAIRS {
                Err(TooEntangled)
            } else {
                Ok(self.in_gaps_of(upper))
            };
        }
        if upper.default.decision != RuleDecision::NotApplicable {
            return Ok(upper);
        }
        self.rules.retain(|rule| !upper.rules.iter().any(|above| rule.is_undone_by(above)));
        let decision = self.default.decision;
        let uniform = |rules: &[Rule]| rules.iter().all(|rule| rule.outcome.decision == decision);
        if uniform(&self.rules) {
            let said_already = upper.rules.iter().take_while(|rule| rule.outcome.decision == decision).count();
            upper.rules.drain(..said_already);
        }
        self.rules.append(&mut upper.rules);
        Ok(self)
    }

    /// The same where `upper` says nothing of some records by a rule of its own: this list, for these records, in its place.
    fn in_gaps_of(self, upper: Self) -> Self {
        let below = self.with_default();
        let mut result =
            if upper.default.decision == RuleDecision::NotApplicable { self } else { Self::always(upper.default) };
        for rule in upper.rules {
            if rule.outcome.decision == RuleDecision::NotApplicable {
                let in_gap = |lower: &Rule<'a>| Rule { term: rule.term.and(&lower.term), outcome: lower.outcome };
                result.rules.extend(below.iter().map(in_gap));
            } else {
                result.rules.push(rule);
            }
        }
        result
    }

    /// The list with every outcome replaced.
    pub fn map(mut self, replace: impl Fn(Outcome<'a>) -> Outcome<'a>) -> Self {
        self.default = replace(self.default);
        for rule in &mut self.rules {
            rule.outcome = replace(rule.outcome);
        }
        self
    }

    /// Whether it says nothing of any record.
    fn is_silent(&self) -> bool {
        self.default.decision == RuleDecision::NotApplicable && self.rules.is_empty()
    }

    /// Whether each decision is at least as strict as those before it: then the order does not matter.
    fn ascends(&self) -> bool {
        let decisions =
            std::iter::once(self.default.decision).chain(self.rules.iter().map(|rule| rule.outcome.decision));
        decisions.is_sorted()
    }

    /// The rules, led by one for every record that says the default.
    fn with_default(&self) -> Vec<Rule<'a>> {
        let whole = Rule { term: Term::default(), outcome: self.default };
        std::iter::once(whole).chain(self.rules.iter().cloned()).collect()
    }

    /// Every rule of one list with every rule of the other, the strictest decision for both.
    fn times(&self, other: &Self) -> Result<Self, TooEntangled> {
        let (lefts, rights) = (self.with_default(), other.with_default());
        if lefts.len() * rights.len() > MAX_PAIRS {
            return Err(TooEntangled);
        }
        let strictest_of =
            |list: &[Rule<'a>], other| list.iter().fold(other, |most, rule| stricter(most, rule.outcome));
        let strictest_right = strictest_of(&rights, other.default);
        let ascending = ascending_from(&lefts);
        let mut product = Self::always(stricter(self.default, other.default));
        for right in &rights {
            for (i, left) in lefts.iter().enumerate() {
                let outcome = stricter(left.outcome, right.outcome);
                let decision = left.outcome.decision;
                // A denial that the other side never exceeds and its own side never takes back holds whatever the other
                // side says.
                let alone = decision.denies() && decision >= strictest_right.decision && i >= ascending;
                let term = if alone { left.term.clone() } else { left.term.and(&right.term) };
                product.append(Rule { term, outcome });
            }
        }
        Ok(product)
    }

    /// Adds a rule at the end, unless the rules before say the same of all its records.
    fn append(&mut self, rule: Rule<'a>) {
        let decision = rule.outcome.decision;
        let said = self.rules.iter().rev().take_while(|before| before.outcome.decision == decision);
        let mut uniform = 0;
        for before in said {
            if rule.term.within(&before.term) {
                return;
            }
            uniform += 1;
        }
        if uniform == self.rules.len() && self.default.decision == decision {
            return;
        }
        self.rules.retain(|before| !before.is_undone_by(&rule));
        self.rules.push(rule);
    }
}

/// Where the last run of decisions begins of which each is at least as strict as the one before.
fn ascending_from(rules: &[Rule]) -> usize {
    let decision = |i: usize| rules[i].outcome.decision;
    (1..rules.len()).rev().find(|i| decision(*i) < decision(i - 1)).unwrap_or_default()
}

/// The stricter of two outcomes, the first if they are equally strict.
fn stricter<'a>(one: Outcome<'a>, other: Outcome<'a>) -> Outcome<'a> {
    if other.decision > one.decision { other } else { one }
}

/// The list that says of every record the strictest of what `lists` say of it. Of equally strict decisions the first one's
/// source stands. Each list comes with a key, and they are combined in the order of the keys: how what is left is written does
/// not depend on how the consents were.
pub fn strictest<'a>(
    nothing: Outcome<'a>,
    lists: impl IntoIterator<Item = (&'a [u8; 32], Rules<'a>)>,
) -> Result<Rules<'a>, TooEntangled> {
    let mut result = Rules::always(nothing);
    let mut with_rules = Vec::new();
    for (key, list) in lists {
        if list.rules.is_empty() {
            result.default = stricter(result.default, list.default);
        } else {
            with_rules.push((key, list));
        }
    }
    with_rules.sort_by_key(|(key, _)| *key);
    let mut ordered = Vec::new();
    for (_, list) in with_rules {
        if list.ascends() {
            result.default = stricter(result.default, list.default);
            result.rules.extend(list.rules);
        } else {
            ordered.push(list);
        }
    }
    let default = result.default.decision;
    result.rules.retain(|rule| rule.outcome.decision > default);
    result.rules.sort_by_key(|rule| rule.outcome.decision);
    ordered.into_iter().try_fold(result, |result, list| if result.is_silent() { Ok(list) } else { result.times(&list) })
}
