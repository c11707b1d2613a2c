//! Differences that were found: each tried with the evaluator before it is said.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::conditions::DEVICE;
use super::search::Direction;
use super::{MAX_EXAMPLES, Question, Verdict};
use crate::decision::{Decision, Effect, Residual, ResidualData, ResidualElements};
use crate::evaluate::decide;
use crate::fhir::Consent;
use crate::policy::Policy;
use crate::request::{Request, is_research};
use crate::rules::{Basis, Reason};
use crate::subject::Standing;
use crate::vocabulary::{ConsentScope, ProvisionType};

/// A request that the policies decide differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The request, as `ehrnet consent decide` takes it.
    pub request: Value,
    /// The moment of the decision.
    pub at: Timestamp,
    /// What the patient consented to, where no consents were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<&'static str>,
    /// What has to be true of the record besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub linked_to: Vec<Value>,
    /// What the old policy says.
    pub old: Answer,
    /// What the new one says.
    pub new: Answer,
}

/// A decision and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// PERMIT or DENY.
    pub decision: &'static str,
    /// Layer that decided.
    pub basis: String,
    /// Why.
    pub reason: String,
    /// Path of the provision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
}

/// What a search collects.
pub struct Asked<'q> {
    /// What is looked for.
    pub direction: Direction,
    question: &'q Question<'q>,
    /// What was found.
    pub changes: Vec<Change>,
    /// Differences that were found, by what decided.
    seen: BTreeSet<(Answer, Answer)>,
    /// Whether more was found than is told.
    pub more: bool,
    /// Whether not all requests were looked at.
    pub unfinished: bool,
    /// Why the search proves nothing.
    pub doubts: Vec<&'static str>,
}

/// What one example is about.
pub struct Example {
    /// The request.
    pub request: Value,
    /// When.
    pub at: Timestamp,
    /// What has to be true of the record besides.
    pub linked_to: Vec<Value>,
    /// What the patient consented to.
    pub with: Option<&'static str>,
}

impl<'q> Asked<'q> {
    /// Nothing yet.
    pub fn new(direction: Direction, question: &'q Question<'q>) -> Self {
        Self {
            direction,
            question,
            changes: Vec::new(),
            seen: BTreeSet::new(),
            more: false,
            unfinished: false,
            doubts: Vec::new(),
        }
    }

    /// What comes out, where settings that the search does not see may make a difference or not.
    pub fn verdict(&self, unseen: bool) -> Verdict {
        match (self.changes.is_empty(), self.doubts.is_empty() && !unseen) {
            (false, _) => Verdict::Found,
            (true, true) => Verdict::None,
            (true, false) => Verdict::NotProven,
        }
    }

    /// Says why nothing is proven.
    pub fn doubt(&mut self, why: &'static str) {
        if !self.doubts.contains(&why) {
            self.doubts.push(why);
        }
    }

    /// Whether an example shows the difference; one that is decided by other rules than all before is kept.
    pub fn shows(&mut self, example: Example, consents: [&[Consent]; 2]) -> Shown {
        let Example { request, at, linked_to, with } = example;
        let [old, new] = [0, 1].map(|side| {
            let policy = [self.question.old, self.question.new][side];
            decision(policy, consents[side], &request, at, self.question.ledger)
        });
        let [before, after] = match self.direction {
            Direction::Widened => [&old, &new],
            Direction::Narrowed => [&new, &old],
        };
        if lets_through(before, &linked_to) || !lets_through(after, &linked_to) {
            return Shown::Not;
        }
        let [old, new] = [old, new].map(|decision| self.answer(decision, with));
        if !self.seen.insert((old.clone(), new.clone())) {
            return Shown::Again;
        }
        if self.changes.len() < MAX_EXAMPLES {
            self.changes.push(Change { request, at, with, linked_to, old, new });
        } else {
            self.more = true;
        }
        Shown::First
    }

    fn answer(&self, decision: Decision, with: Option<&'static str>) -> Answer {
        let documents = self.question.documents.unwrap_or_default();
        let of =
            |digest: &String| documents.iter().find(|document| document.read.iter().any(|read| read.digest == *digest));
        // The place in a consent that nobody gave tells nothing.
        let told = with.is_none() || decision.basis == Basis::Overriding;
        Answer {
            decision: if decision.decision == Effect::Permit { "PERMIT" } else { "DENY" },
            basis: word(&decision.basis),
            reason: word(&decision.reason),
            path: decision.matched_path.filter(|_| told),
            consent: decision.consent_digest.as_ref().and_then(of).map(|document| document.name.clone()),
        }
    }
}

/// Whether a decision lets a record through that is linked to these and to no other. Of a record of which everything is known, that is
/// all that residual rules may ask.
fn lets_through(decision: &Decision, linked_to: &[Value]) -> bool {
    let linked = |data: &ResidualData| {
        let named =
            |link: &Value| link["meaning"] == json!(data.meaning) && link["reference"] == data.reference["reference"];
        linked_to.iter().any(named)
    };
    let mut from_last = decision.residual.iter().rev();
    let effect = from_last.find(|rule| matches(rule, &linked)).map_or(ProvisionType::Permit, |rule| rule.effect);
    decision.decision == Effect::Permit && effect == ProvisionType::Permit
}

fn matches(rule: &Residual, linked: &dyn Fn(&ResidualData) -> bool) -> bool {
    let holds = |elements: &ResidualElements| elements.data.is_empty() || elements.data.iter().any(linked);
    let taken_back = rule.unless.iter().any(|one| matches(one, linked));
    holds(&rule.elements) && rule.and.iter().all(holds) && !taken_back
}

/// Whether an example shows a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It does, and none before did by the same rules.
    First,
    /// It does, as one before.
    Again,
    /// It does not.
    Not,
}

/// The word that an enum is written as.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

/// What a policy decides, on the ledger or of files.
pub fn decision(policy: &Policy, consents: &[Consent], request: &Value, at: Timestamp, ledger: bool) -> Decision {
    let Ok(asked) = Request::parse(request, policy.context()) else { return Decision::error() };
    if !ledger {
        return decide(consents, policy, &asked, at);
    }
    let scope = scope_of(&asked);
    if !policy.decides(scope) {
        return Decision::refusal(Reason::NoPolicy);
    }
    if asked.actor.as_ref().is_some_and(|actor| actor.role.as_deref() == Some(DEVICE)) {
        return Decision { basis: Basis::Implicit, ..Decision::error() };
    }
    let consents: Vec<Consent> = consents.iter().map(|consent| in_scope(consent.clone(), scope)).collect();
    decide(&consents, &of_scope(policy, scope), &asked, at)
}

/// The scope of a request.
pub fn scope_of(request: &Request) -> ConsentScope {
    let research = request.purpose.as_ref().is_some_and(is_research);
    if research { ConsentScope::Research } else { ConsentScope::PatientPrivacy }
}

/// The policy for requests of a scope.
pub fn of_scope(policy: &Policy, scope: ConsentScope) -> Policy {
    if scope == ConsentScope::Research { policy.clone().for_research() } else { policy.clone() }
}

/// A consent to research permits no care, nor the other way round; what it denies it denies.
pub fn in_scope(consent: Consent, scope: ConsentScope) -> Consent {
    let permits = match scope {
        ConsentScope::PatientPrivacy => !consent.perhaps_research,
        ConsentScope::Research => consent.is_about(ConsentScope::Research),
    };
    if permits { consent } else { Consent { at_most: Standing::Elsewhere, ..consent } }
}
