//! The decision: total, deterministic, without input or output.
//!
//! Each provision that can match becomes a list of rules ([`super::rules`]); the lists are combined up the tree, over
//! the patient's consents, and then in layers: overriding provisions, break-glass, consents, base policy. Nothing here
//! branches on what is unknown of the record, which is why a residual rule and a full request cannot disagree.

use std::cell::Cell;

use jiff::{SignedDuration, Timestamp};

use super::decision::Decision;
use super::fhir::Consent;
use super::matching::{Match, asked, is_grantee, matches};
use super::policy::Policy;
use super::request::Request;
use super::rules::{About, Basis, Element, Outcome, Reason, RuleDecision, Rules, Source, Term, strictest};
use super::subject::Standing;
use super::time::{Period, TimeRange};
use super::tree::Node;
use crate::vocabulary::code_systems::ACT_REASON;
use crate::vocabulary::{Attribute, BasePolicy, BreakGlassMode, Combining, ProvisionType};

/// Attribute of a certificate whose holder may break the glass, when it is `true`.
pub const BREAK_GLASS_ATTRIBUTE: &str = "ehr.breakglass";
/// Consents that one decision may have: a bound on its work.
pub const MAX_CONSENTS: usize = 1_024;
/// Purpose that the base policy `basic-normal` permits.
const TREATMENT: &str = "TREAT";

/// Decides `request` at `now` by the patient's consents and the policy. A failure inside is a denial.
pub fn decide(consents: &[Consent], policy: &Policy, request: &Request, now: Timestamp) -> Decision {
    let break_glass = BreakGlass::of(policy, request);
    let evaluation = Evaluation { policy, request, now, break_glass, next: Cell::new(None) };
    if consents.len() > MAX_CONSENTS {
        return Decision::error();
    }
    let rules = evaluation.rules(consents);
    Decision::from_rules(rules, evaluation.refused_break_glass(), policy, (now, evaluation.next.get()))
}

/// What the request has to do with break-glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakGlass {
    /// The purpose is another one.
    NotAsked,
    /// Asked for, and why it is not possible.
    Refused(Reason),
    /// Asked for, and possible.
    Granted,
}

impl BreakGlass {
    /// What `request` has to do with it under `policy`.
    pub fn of(policy: &Policy, request: &Request) -> Self {
        let rules = &policy.break_glass;
        let asked = request.purpose.as_ref().is_some_and(|purpose| purpose.is_perhaps(ACT_REASON, &rules.purposes));
        let breaks = Attribute { name: BREAK_GLASS_ATTRIBUTE.to_owned(), value: "true".to_owned() };
        let authorized = request.actor.as_ref().is_some_and(|actor| {
            actor.has_attribute(&breaks, ProvisionType::Permit)
                || rules.group.as_ref().is_some_and(|group| actor.in_group(group))
        });
        match (asked, rules.mode) {
            (false, _) => Self::NotAsked,
            (true, BreakGlassMode::Forbid) => Self::Refused(Reason::BreakGlassForbidden),
            (true, _) if !rules.conditions => Self::Granted,
            (true, _) if !authorized => Self::Refused(Reason::BreakGlassNotAuthorized),
            (true, _) if request.justification.is_none() => Self::Refused(Reason::BreakGlassNotJustified),
            (true, _) => Self::Granted,
        }
    }

    /// Under `allow`, break-glass outweighs what the consents decide, but not a provision that denies this very purpose.
    pub fn outweighs(self, policy: &Policy, decision: RuleDecision) -> bool {
        let allowed = self == Self::Granted && policy.break_glass.mode == BreakGlassMode::Allow;
        allowed && matches!(decision, RuleDecision::NotApplicable | RuleDecision::Deny)
    }

    /// What a provision of a consent decides where it matches; none where it is in no position to permit. `named` is whether it
    /// names purposes.
    pub fn decided_by(self, effect: ProvisionType, named: bool, standing: Standing) -> Option<RuleDecision> {
        match (effect, self) {
            (ProvisionType::Permit, _) if standing != Standing::Permits => None,
            (ProvisionType::Permit, Self::Refused(_)) => None,
            // A permit that names no purpose does not mean this one.
            (ProvisionType::Permit, Self::Granted) if !named => None,
            (ProvisionType::Permit, _) => Some(RuleDecision::Permit),
            (ProvisionType::Deny, Self::Granted | Self::Refused(_)) if named => Some(RuleDecision::DenyBreakGlass),
            (ProvisionType::Deny, _) => Some(RuleDecision::Deny),
        }
    }
}

/// What holds without a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unconsented {
    /// Nothing is permitted.
    Deny,
    /// Records up to what is normally protected are.
    UpToNormal,
    /// Every record is, by break-glass.
    BreakGlass,
}

impl Unconsented {
    /// What the base policy says of a request, whatever the record. What it permits it permits to somebody for a purpose, and to
    /// no device.
    pub fn of(policy: &Policy, request: &Request, break_glass: BreakGlass) -> Self {
        let Request { actor, purpose, .. } = request;
        let treatment =
            purpose.as_ref().is_some_and(|purpose| purpose.code == TREATMENT && purpose.may_be_of(ACT_REASON));
        let served = break_glass == BreakGlass::NotAsked
            && actor.as_ref().is_some_and(|actor| !actor.is_device())
            && purpose.is_some();
        match policy.base {
            BasePolicy::BreakGlassOnly if break_glass == BreakGlass::Granted => Self::BreakGlass,
            BasePolicy::BasicNormal if served && treatment => Self::UpToNormal,
            BasePolicy::AllNormal if served => Self::UpToNormal,
            BasePolicy::Deny | BasePolicy::BreakGlassOnly | BasePolicy::BasicNormal | BasePolicy::AllNormal => {
                Self::Deny
            }
        }
    }
}

struct Evaluation<'a> {
    policy: &'a Policy,
    request: &'a Request,
    now: Timestamp,
    break_glass: BreakGlass,
    /// When the answer may next be another one: the earliest begin or end of anything that has a say.
    next: Cell<Option<Timestamp>>,
}

impl<'a> Evaluation<'a> {
    fn refused_break_glass(&self) -> Option<Reason> {
        match self.break_glass {
            BreakGlass::Refused(reason) => Some(reason),
            BreakGlass::NotAsked | BreakGlass::Granted => None,
        }
    }

    /// The layers, from the base policy up.
    fn rules(&self, consents: &'a [Consent]) -> Rules<'a> {
        let overriding = self.policy.overriding.iter();
        let overriding = overriding.map(|node| (&node.key, self.subtree(node, &Layer::overriding())));
        let overriding = strictest(nothing(), overriding);
        self.base().under(self.break_the_glass(self.consents(consents))).under(overriding)
    }

    /// The base policy.
    fn base(&self) -> Rules<'a> {
        let source = Source { basis: Basis::Implicit, reason: Reason::NoConsent, ..nothing().source };
        let deny = Outcome { decision: RuleDecision::Deny, source };
        let permit = Outcome { decision: RuleDecision::Permit, source };
        match Unconsented::of(self.policy, self.request, self.break_glass) {
            Unconsented::Deny => Rules::always(deny),
            Unconsented::BreakGlass => {
                let source = Source { basis: Basis::Breakglass, reason: Reason::BreakGlassAllowed, ..source };
                Rules::always(Outcome { source, ..permit })
            }
            Unconsented::UpToNormal => {
                let ceiling = &self.policy.base_ceiling;
                let effect = ProvisionType::Permit;
                match self.request.resource.labels.as_ref().map(|labels| ceiling.covers(labels, effect)) {
                    Some(true) => Rules::always(permit),
                    Some(false) => Rules::always(deny),
                    None => {
                        let term = Term(vec![Element { about: About::Labels(ceiling), effect }]);
                        Rules::only(term, permit, deny)
                    }
                }
            }
        }
    }

    /// Where break-glass outweighs what the consents say.
    fn break_the_glass(&self, consents: Rules<'a>) -> Rules<'a> {
        consents.map(|outcome| match self.break_glass.outweighs(self.policy, outcome.decision) {
            false => outcome,
            true => Outcome {
                decision: RuleDecision::Permit,
                source: Source { basis: Basis::Breakglass, reason: Reason::BreakGlassAllowed, ..outcome.source },
            },
        })
    }

    /// The consents that apply, combined. Their order in the input has no influence.
    fn consents(&self, consents: &'a [Consent]) -> Rules<'a> {
        let mut applicable: Vec<&Consent> = consents.iter().filter(|consent| self.applies(consent)).collect();
        newest_first(&mut applicable);
        let strictest_of = |consents: &[&'a Consent]| {
            strictest(nothing(), consents.iter().map(|consent| (&consent.root.key, self.consent(consent))))
        };
        match self.policy.combining {
            Combining::DenyOverrides => strictest_of(&applicable),
            Combining::NewestWins => by_age(&applicable)
                .into_iter()
                .rev()
                .fold(Rules::always(nothing()), |older, of_one_age| older.under(strictest_of(of_one_age))),
        }
    }

    fn applies(&self, consent: &Consent) -> bool {
        if !consent.active || !self.is_of_the_patient(consent) {
            return false;
        }
        let periods = [consent.period.as_ref(), consent.root.elements.period.as_deref()].into_iter().flatten();
        if self.concerns(&consent.root) {
            periods.clone().for_each(|period| self.heed(period));
        }
        periods.clone().all(|period| period.contains(self.now))
    }

    /// A consent that names no patient who could be compared is taken for one of anybody: its denials count.
    fn is_of_the_patient(&self, consent: &Consent) -> bool {
        match (&self.request.patient, &consent.patient) {
            (Some(asked), Some(patient)) => asked.may_be(patient),
            (None, _) | (_, None) => true,
        }
    }

    /// Whether anything in the tree would have a say at some time.
    fn concerns(&self, node: &Node) -> bool {
        asked(node, self.request) || node.children.iter().any(|child| self.concerns(child))
    }

    /// The answer may be another one when this period next begins or ends.
    fn heed(&self, period: &Period) {
        let next = self.next.get().into_iter().chain(period.next_change(self.now)).min();
        self.next.set(next);
    }

    /// What a whole consent says: a root that permits also denies what is outside the data it names.
    fn consent(&self, consent: &'a Consent) -> Rules<'a> {
        let asked = self.request.patient.as_ref();
        let unnamed = asked.is_some_and(|asked| !consent.patient.as_ref().is_some_and(|patient| asked.is(patient)));
        let standing = match self.policy.standing(consent) {
            Standing::Permits if unnamed => Standing::Withholds,
            standing => standing,
        };
        let layer = Layer::consent(consent, standing);
        let root = &consent.root;
        let matched = self.matched(root, true);
        let outside = Outcome { decision: RuleDecision::Deny, source: layer.source(root, self.break_glass).outside() };
        let outcome = self.outcome(root, &layer);
        // What it leaves out it denies also where it is in no position to permit the rest.
        let powerless =
            standing == Standing::Withholds || standing == Standing::Permits && !is_grantee(root, self.request);
        let leaves_out = root.effect == ProvisionType::Permit && (outcome.is_some() || powerless);
        let own = match matched {
            Match::OtherData if leaves_out => Rules::always(outside),
            Match::Open(term) if leaves_out => Rules::only(term, outcome.unwrap_or(nothing()), outside),
            matched => self.own(root, matched, &layer),
        };
        let rules = own.under(self.children(root, &layer));
        let denies_only = |outcome: Outcome<'a>| if outcome.decision.denies() { outcome } else { nothing() };
        if consent.earlier { rules.map(denies_only) } else { rules }
    }

    /// Whether a provision matches. When it may next begin or end to do so is heeded.
    fn matched(&self, node: &'a Node, root: bool) -> Match<'a> {
        if !asked(node, self.request) {
            return Match::NotAsked;
        }
        let Some(period) = &node.elements.period else { return matches(node, self.request, self.now) };
        let matched = matches(node, self.request, self.now);
        if root || !matches!(matched, Match::OtherData) {
            self.heed(period);
        }
        matched
    }

    /// What a nested provision says, with all below it.
    fn subtree(&self, node: &'a Node, layer: &Layer<'a>) -> Rules<'a> {
        let own = self.own(node, self.matched(node, false), layer);
        if node.children.is_empty() { own } else { own.under(self.children(node, layer)) }
    }

    fn children(&self, node: &'a Node, layer: &Layer<'a>) -> Rules<'a> {
        strictest(nothing(), node.children.iter().map(|child| (&child.key, self.subtree(child, layer))))
    }

    fn own(&self, node: &'a Node, matched: Match<'a>, layer: &Layer<'a>) -> Rules<'a> {
        match (matched, self.outcome(node, layer)) {
            (Match::Yes, Some(outcome)) => Rules::always(outcome),
            (Match::Open(term), Some(outcome)) => Rules::only(term, outcome, nothing()),
            (Match::NotAsked | Match::OtherData, _) | (_, None) => Rules::always(nothing()),
        }
    }

    /// What a provision says if it matches; nothing where it is in no position to permit.
    fn outcome(&self, node: &'a Node, layer: &Layer<'a>) -> Option<Outcome<'a>> {
        // Break-glass changes nothing about what stands above the consents.
        let (break_glass, named) = match layer.source.basis {
            Basis::Consent => (self.break_glass, node.elements.purpose.is_some()),
            Basis::Overriding | Basis::Breakglass | Basis::Implicit => (BreakGlass::NotAsked, false),
        };
        if node.effect == ProvisionType::Permit && !is_grantee(node, self.request) {
            return None;
        }
        let decision = break_glass.decided_by(node.effect, named, layer.standing)?;
        Some(Outcome { decision, source: layer.source(node, self.break_glass) })
    }
}

/// Puts consents in order by their dates.
pub(super) fn newest_first(consents: &mut [&Consent]) {
    let from = |consent: &Consent| consent.date.map(|date| date.from);
    consents.sort_by(|one, other| (from(other), &one.digest).cmp(&(from(one), &other.digest)));
}

/// The consents, newest first, in groups of which each is newer than all of the next. Where dates overlap, or one is missing,
/// none is newer.
pub(super) fn by_age<'c, 'a>(newest_first: &'c [&'a Consent]) -> Vec<&'c [&'a Consent]> {
    let dates: Option<Vec<TimeRange>> = newest_first.iter().map(|consent| consent.date).collect();
    let Some(dates) = dates else { return vec![newest_first] };
    let mut groups = Vec::new();
    let mut rest = newest_first;
    let mut latest = Timestamp::MIN;
    for i in (1..dates.len()).rev() {
        latest = latest.max(dates[i].until.unwrap_or(Timestamp::MAX));
        if latest <= dates[i - 1].from {
            let (newer, group) = rest.split_at(i);
            groups.push(group);
            rest = newer;
        }
    }
    groups.push(rest);
    groups.reverse();
    groups
}

/// What all decisions of one consent, or of the overriding provisions, have in common.
struct Layer<'a> {
    source: Source<'a>,
    standing: Standing,
    unreadable: bool,
}

impl<'a> Layer<'a> {
    fn overriding() -> Self {
        let source = Source { basis: Basis::Overriding, ..nothing().source };
        Self { source, standing: Standing::Permits, unreadable: false }
    }

    fn consent(consent: &'a Consent, standing: Standing) -> Self {
        let source = Source { basis: Basis::Consent, digest: Some(&consent.digest), ..nothing().source };
        Self { source, standing, unreadable: consent.unreadable }
    }

    fn source(&self, node: &'a Node, break_glass: BreakGlass) -> Source<'a> {
        let breaks = self.source.basis == Basis::Consent
            && break_glass == BreakGlass::Granted
            && node.elements.purpose.is_some();
        let (basis, reason) = match node.effect {
            ProvisionType::Permit if breaks => (Basis::Breakglass, Reason::BreakGlassConsented),
            ProvisionType::Permit => (self.source.basis, Reason::ProvisionPermits),
            ProvisionType::Deny if self.unreadable => (self.source.basis, Reason::UnreadableConsent),
            ProvisionType::Deny => (self.source.basis, Reason::ProvisionDenies),
        };
        Source { basis, reason, path: Some(&node.path), ..self.source }
    }
}

/// The outcome of what does not apply.
fn nothing<'a>() -> Outcome<'a> {
    let source = Source { basis: Basis::Implicit, reason: Reason::NoConsent, path: None, digest: None };
    Outcome { decision: RuleDecision::NotApplicable, source }
}

/// When a grant of break-glass given at `now` ends.
pub fn break_glass_ends(policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    let ttl = SignedDuration::try_from(policy.break_glass.max_ttl).ok()?;
    now.checked_add(ttl).ok()
}

/// When a use of break-glass at `now` must have been reviewed.
pub fn review_due(policy: &Policy, now: Timestamp) -> Timestamp {
    let within = SignedDuration::try_from(policy.break_glass.review_within).ok();
    within.and_then(|within| now.checked_add(within).ok()).unwrap_or(Timestamp::MAX)
}
