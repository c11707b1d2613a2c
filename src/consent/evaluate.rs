//! The decision: total, deterministic, without input or output.
//!
//! Each provision that can match becomes a list of rules ([`super::rules`]); the lists are combined up the tree, over
//! the patient's consents, and then in layers: overriding provisions, break-glass, consents, base policy. Nothing here
//! branches on what is unknown of the record, which is why a residual rule and a full request cannot disagree.

use jiff::{SignedDuration, Timestamp};

use super::decision::Decision;
use super::fhir::Consent;
use super::matching::{Match, matches};
use super::policy::Policy;
use super::request::Request;
use super::rules::{Basis, Outcome, Reason, RuleDecision, Rules, Source, TooEntangled, strictest};
use super::tree::Node;
use crate::vocabulary::code_systems::ACT_REASON;
use crate::vocabulary::{BasePolicy, BreakGlassMode, Combining, ProvisionType};

/// Attribute of a certificate whose holder may break the glass, when it is `true`.
pub const BREAK_GLASS_ATTRIBUTE: &str = "ehr.breakglass";
/// Consents that one decision may have: a bound on its work.
pub const MAX_CONSENTS: usize = 1_024;
/// Purpose that the base policy `basic-normal` permits.
const TREATMENT: &str = "TREAT";

/// Decides `request` at `now` by the patient's consents and the policy. A failure inside is a denial.
pub fn decide(consents: &[Consent], policy: &Policy, request: &Request, now: Timestamp) -> Decision {
    let evaluation = Evaluation { policy, request, now, break_glass: BreakGlass::of(policy, request) };
    match (consents.len() <= MAX_CONSENTS).then(|| evaluation.rules(consents)) {
        Some(Ok(rules)) => Decision::from_rules(rules, evaluation.refused_break_glass(), policy, now),
        Some(Err(TooEntangled)) | None => Decision::error(),
    }
}

/// What the request has to do with break-glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakGlass {
    /// The purpose is another one.
    NotAsked,
    /// Asked for, and why it is not possible.
    Refused(Reason),
    /// Asked for, and possible.
    Granted,
}

impl BreakGlass {
    fn of(policy: &Policy, request: &Request) -> Self {
        let rules = &policy.break_glass;
        let asked = request.purpose.as_ref().is_some_and(|purpose| {
            let of_system = purpose.system.as_deref().is_none_or(|system| system == ACT_REASON);
            of_system && rules.purposes.contains(&purpose.code)
        });
        let authorized = request.actor.as_ref().is_some_and(|actor| {
            actor.attributes.get(BREAK_GLASS_ATTRIBUTE).is_some_and(|value| value == "true")
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
}

struct Evaluation<'a> {
    policy: &'a Policy,
    request: &'a Request,
    now: Timestamp,
    break_glass: BreakGlass,
}

impl<'a> Evaluation<'a> {
    fn refused_break_glass(&self) -> Option<Reason> {
        match self.break_glass {
            BreakGlass::Refused(reason) => Some(reason),
            BreakGlass::NotAsked | BreakGlass::Granted => None,
        }
    }

    /// The layers, from the base policy up.
    fn rules(&self, consents: &'a [Consent]) -> Result<Rules<'a>, TooEntangled> {
        let overriding = self.policy.overriding.iter();
        let overriding = overriding.map(|node| Ok((&node.key, self.subtree(node, &Layer::overriding())?)));
        let overriding = strictest(nothing(), overriding.collect::<Result<Vec<_>, _>>()?)?;
        Ok(self.base().under(self.break_the_glass(self.consents(consents)?)).under(overriding))
    }

    fn base(&self) -> Rules<'a> {
        let asked = |code: &str| {
            let purpose = self.request.purpose.as_ref();
            purpose.is_some_and(|purpose| {
                purpose.code == code && purpose.system.as_deref().is_none_or(|system| system == ACT_REASON)
            })
        };
        let plain = self.break_glass == BreakGlass::NotAsked;
        let (permitted, basis, reason) = match self.policy.base {
            BasePolicy::Deny => (false, Basis::Implicit, Reason::NoConsent),
            BasePolicy::BasicNormal => (plain && asked(TREATMENT), Basis::Implicit, Reason::NoConsent),
            BasePolicy::AllNormal => (plain, Basis::Implicit, Reason::NoConsent),
            BasePolicy::BreakGlassOnly if self.break_glass == BreakGlass::Granted => {
                (true, Basis::Breakglass, Reason::BreakGlassAllowed)
            }
            BasePolicy::BreakGlassOnly => (false, Basis::Implicit, Reason::NoConsent),
        };
        let decision = if permitted { RuleDecision::Permit } else { RuleDecision::Deny };
        Rules::always(Outcome { decision, source: Source { basis, reason, ..nothing().source } })
    }

    /// Under `allow`, break-glass outweighs the consents, but not a provision that denies this very purpose.
    fn break_the_glass(&self, consents: Rules<'a>) -> Rules<'a> {
        if self.break_glass != BreakGlass::Granted || self.policy.break_glass.mode != BreakGlassMode::Allow {
            return consents;
        }
        consents.map(|outcome| match outcome.decision {
            RuleDecision::Permit | RuleDecision::DenyBreakGlass => outcome,
            RuleDecision::NotApplicable | RuleDecision::Deny => Outcome {
                decision: RuleDecision::Permit,
                source: Source {
                    basis: Basis::Breakglass,
                    reason: Reason::BreakGlassAllowed,
                    ends: None,
                    ..outcome.source
                },
            },
        })
    }

    /// The consents that apply, combined. Their order in the input has no influence.
    fn consents(&self, consents: &'a [Consent]) -> Result<Rules<'a>, TooEntangled> {
        let mut applicable: Vec<&Consent> = consents.iter().filter(|consent| self.applies(consent)).collect();
        applicable.sort_by(|one, other| (other.date, &one.digest).cmp(&(one.date, &other.digest)));
        let lists = |consents: &[&'a Consent]| {
            let lists = consents.iter().map(|consent| Ok((&consent.root.key, self.consent(consent)?)));
            lists.collect::<Result<Vec<_>, _>>()
        };
        match self.policy.combining {
            Combining::DenyOverrides => strictest(nothing(), lists(&applicable)?),
            Combining::NewestWins => applicable
                .chunk_by(|one, other| one.date == other.date)
                .rev()
                .try_fold(Rules::always(nothing()), |older, same_date| {
                    Ok(older.under(strictest(nothing(), lists(same_date)?)?))
                }),
        }
    }

    fn applies(&self, consent: &Consent) -> bool {
        let patient = self.request.patient.as_ref().is_none_or(|patient| consent.patient.as_ref() == Some(patient));
        let now = |period: Option<&super::time::Period>| period.is_none_or(|period| period.contains(self.now));
        consent.active
            && patient
            && self.policy.selects(consent)
            && now(consent.period.as_ref())
            && now(consent.root.elements.period.as_deref())
    }

    /// What a whole consent says: a root that permits also denies what is outside the data it names.
    fn consent(&self, consent: &'a Consent) -> Result<Rules<'a>, TooEntangled> {
        let layer = Layer::consent(consent);
        let matched = matches(&consent.root, self.request, self.now);
        let own = match (matched, consent.root.effect, self.outcome(&consent.root, &layer)) {
            (Match::OtherData, ProvisionType::Permit, Some(outcome)) => {
                Rules::always(Outcome { decision: RuleDecision::Deny, source: outcome.source.outside() })
            }
            (Match::Open(term), ProvisionType::Permit, Some(outcome)) => Rules::only(term, outcome, RuleDecision::Deny),
            (matched, ..) => self.own(&consent.root, matched, &layer),
        };
        Ok(own.under(self.children(&consent.root, &layer)?))
    }

    /// What a nested provision says, with all below it.
    fn subtree(&self, node: &'a Node, layer: &Layer<'a>) -> Result<Rules<'a>, TooEntangled> {
        let own = self.own(node, matches(node, self.request, self.now), layer);
        if node.children.is_empty() { Ok(own) } else { Ok(own.under(self.children(node, layer)?)) }
    }

    fn children(&self, node: &'a Node, layer: &Layer<'a>) -> Result<Rules<'a>, TooEntangled> {
        let mut failed = None;
        let lists = node.children.iter().map_while(|child| match self.subtree(child, layer) {
            Ok(list) => Some((&child.key, list)),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let result = strictest(nothing(), lists)?;
        failed.map_or(Ok(result), Err)
    }

    fn own(&self, node: &'a Node, matched: Match<'a>, layer: &Layer<'a>) -> Rules<'a> {
        match (matched, self.outcome(node, layer)) {
            (Match::Yes, Some(outcome)) => Rules::always(outcome),
            (Match::Open(term), Some(outcome)) => Rules::only(term, outcome, RuleDecision::NotApplicable),
            (Match::NotAsked | Match::OtherData, _) | (_, None) => Rules::always(nothing()),
        }
    }

    /// What a provision says if it matches; nothing where it permits break-glass and that is refused.
    fn outcome(&self, node: &'a Node, layer: &Layer<'a>) -> Option<Outcome<'a>> {
        let named = layer.0.basis == Basis::Consent && node.elements.purpose.is_some();
        let decision = match (node.effect, self.break_glass) {
            (ProvisionType::Permit, BreakGlass::Refused(_)) if named => return None,
            (ProvisionType::Permit, _) => RuleDecision::Permit,
            (ProvisionType::Deny, BreakGlass::Granted | BreakGlass::Refused(_)) if named => {
                RuleDecision::DenyBreakGlass
            }
            (ProvisionType::Deny, _) => RuleDecision::Deny,
        };
        Some(Outcome { decision, source: layer.source(node, self.break_glass) })
    }
}

/// What all decisions of one consent, or of the overriding provisions, have in common.
struct Layer<'a>(Source<'a>);

impl<'a> Layer<'a> {
    fn overriding() -> Self {
        Self(Source { basis: Basis::Overriding, ..nothing().source })
    }

    fn consent(consent: &'a Consent) -> Self {
        let ends = [consent.period.as_ref(), consent.root.elements.period.as_deref()].into_iter().flatten();
        let ends = ends.filter_map(|period| period.ends).min();
        Self(Source { basis: Basis::Consent, digest: Some(&consent.digest), ends, ..nothing().source })
    }

    fn source(&self, node: &'a Node, break_glass: BreakGlass) -> Source<'a> {
        let breaks =
            self.0.basis == Basis::Consent && break_glass == BreakGlass::Granted && node.elements.purpose.is_some();
        let (basis, reason) = match node.effect {
            ProvisionType::Permit if breaks => (Basis::Breakglass, Reason::BreakGlassConsented),
            ProvisionType::Permit => (self.0.basis, Reason::ProvisionPermits),
            ProvisionType::Deny => (self.0.basis, Reason::ProvisionDenies),
        };
        let own_end = node.elements.period.as_ref().and_then(|period| period.ends);
        let ends = [self.0.ends, own_end].into_iter().flatten().min();
        Source { basis, reason, path: Some(&node.path), ends, ..self.0 }
    }
}

/// The outcome of what does not apply.
fn nothing<'a>() -> Outcome<'a> {
    let source = Source { basis: Basis::Implicit, reason: Reason::NoConsent, path: None, digest: None, ends: None };
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
