//! The answer to a request, in the words of FHIR, IHE PCF (residual rules) and LEAP (obligations).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::code::Code;
use super::evaluate::{break_glass_ends, review_due};
use super::policy::Policy;
use super::rules::{About, Basis, Element, Outcome, Reason, Rule, RuleDecision, Rules, Source, Term};
use super::tree::DataRule;
use crate::vocabulary::code_systems::ACT_CODE;
use crate::vocabulary::{Coding, DataMeaning, Period, ProvisionType};

/// Code system of the obligations that HL7 has no code for.
const OBLIGATION: &str = "https://ehrnet.dev/CodeSystem/obligation";

/// The decision with all that follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Permit or deny.
    pub decision: Effect,
    /// Layer that decided.
    pub basis: Basis,
    /// Why.
    pub reason: Reason,
    /// Path of the provision that decided, for example `provision.provision[0]` of a consent.
    pub matched_path: Option<String>,
    /// SHA-256 of the canonical JSON of the consent that decided.
    pub consent_digest: Option<String>,
    /// What has still to be compared with each record, in order: the last entry that matches wins. Empty if nothing has.
    pub residual: Vec<Residual>,
    /// What whoever enforces the decision has to do.
    pub obligations: Vec<Obligation>,
    /// When the decision must be asked for again, at the latest.
    pub expires_at: Option<Timestamp>,
}

/// Permit or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Effect {
    /// Access is permitted, under the residual rules if there are any.
    Permit,
    /// Access is denied.
    Deny,
}

/// A residual rule: all elements that are present have to match, any entry of one is enough. Without elements it holds
/// for every record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Residual {
    /// What holds for the records that match.
    pub effect: ProvisionType,
    /// What has to match.
    #[serde(flatten)]
    pub elements: ResidualElements,
    /// Further elements that have to match as well: for what one list cannot say, such as two lists of which each has to
    /// match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub and: Vec<ResidualElements>,
    /// Rules that take it back: for a record that one of them matches, this one does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<Residual>,
}

/// Elements that a record is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResidualElements {
    /// Labels: for a permit the highest confidentiality code is a ceiling, for a deny the lowest is a floor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_label: Vec<Code>,
    /// Whose labels they are where it is not the rule's own effect: a denial can hold up to the ceiling of a permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_of: Option<ProvisionType>,
    /// Whether a record matches these labels as well of which one is no code that anybody defined: it may stand for any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear_labels: bool,
    /// Kind of record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<Code>,
    /// Content of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<Code>,
    /// When the record was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_period: Option<Period>,
    /// Named records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<ResidualData>,
}

/// A named record of a residual rule (FHIR: Consent.provision.data).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResidualData {
    /// How it is meant.
    pub meaning: DataMeaning,
    /// FHIR Reference.
    pub reference: Value,
    /// The MSP of the author who is meant, if that is known. A denial without it holds for every MSP that may be meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msp_id: Option<String>,
    /// Whether a record of which no author may be a hospital is meant as well: nothing says who keeps it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
}

/// Something that whoever enforces the decision has to do (LEAP Consent Decision Service: obligations).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obligation {
    /// What.
    pub id: Code,
    /// With what.
    pub parameters: Value,
}

impl Decision {
    /// The denial that stands for a failure of the evaluator.
    pub fn error() -> Self {
        Self {
            decision: Effect::Deny,
            basis: Basis::Implicit,
            reason: Reason::Error,
            matched_path: None,
            consent_digest: None,
            residual: Vec::new(),
            obligations: Vec::new(),
            expires_at: None,
        }
    }

    /// The denial of everything, for this reason.
    pub fn refusal(reason: Reason) -> Self {
        Self { reason, ..Self::error() }
    }

    /// The decision that a list of rules amounts to, at `now`; `next` is when it may be another one. `refused` says why
    /// break-glass, if asked for, is not possible.
    pub(super) fn from_rules(
        rules: Rules,
        refused: Option<Reason>,
        policy: &Policy,
        (now, next): (Timestamp, Option<Timestamp>),
    ) -> Self {
        let rules = simplified(rules);
        let outcomes = || std::iter::once(&rules.default).chain(rules.rules.iter().map(|rule| &rule.outcome));
        let permits = || outcomes().filter(|outcome| outcome.decision == RuleDecision::Permit);
        let breaking = permits().find(|outcome| outcome.source.basis == Basis::Breakglass);
        let Some(permit) = breaking.or_else(|| permits().next()) else {
            return Self { expires_at: next, ..Self::deny(&rules.default.source, refused) };
        };
        let denied_somewhere = outcomes().any(|outcome| outcome.decision != RuleDecision::Permit);
        let residual = if denied_somewhere { residual(&rules) } else { Vec::new() };
        let ttl = breaking.and_then(|_| break_glass_ends(policy, now));
        let mut obligations: Vec<Obligation> = redact(&residual).into_iter().collect();
        obligations.extend(breaking.map(|_| review(policy, now)));
        Self {
            decision: Effect::Permit,
            basis: permit.source.basis,
            reason: permit.source.reason,
            matched_path: permit.source.path.map(str::to_owned),
            consent_digest: outcomes_digest(permit, outcomes()),
            residual,
            obligations,
            expires_at: next.into_iter().chain(ttl).min(),
        }
    }

    fn deny(source: &Source, refused: Option<Reason>) -> Self {
        let reason = refused.filter(|_| source.basis != Basis::Overriding).unwrap_or(source.reason);
        Self {
            basis: source.basis,
            reason,
            matched_path: source.path.map(str::to_owned),
            consent_digest: source.digest.map(str::to_owned),
            ..Self::error()
        }
    }
}

/// The digest of the consent behind the permit; if there is none, of the first one that restricts it.
fn outcomes_digest<'a>(permit: &Outcome, outcomes: impl Iterator<Item = &'a Outcome<'a>>) -> Option<String> {
    permit.source.digest.or_else(|| outcomes.into_iter().find_map(|outcome| outcome.source.digest)).map(str::to_owned)
}

/// The list without rules that say nothing: what a rule for every record undoes, and repetitions of the default in front.
fn simplified(rules: Rules) -> Rules {
    let mut result = Rules::always(rules.default);
    for rule in rules.rules {
        if rule.is_whole() {
            result = Rules::always(rule.outcome);
        } else {
            result.rules.push(rule);
        }
    }
    with_denial_first(result)
}

/// The list with a denial of all but some records as its default, where it has one such rule and nothing before it permits: so
/// it reads as the list of one consent.
fn with_denial_first(mut rules: Rules) -> Rules {
    let denies = |rule: &Rule| rule.outcome.decision.denies();
    let plain = |rule: &Rule| !denies(rule) && rule.unless.is_empty();
    let of_all_but = |rule: &Rule| denies(rule) && rule.term.0.is_empty() && rule.unless.iter().all(plain);
    let Some(at) = rules.rules.iter().position(of_all_but) else { return rules };
    let permits = rules.default.decision == RuleDecision::Permit;
    let others = rules.rules.iter().enumerate().filter(|(i, _)| *i != at);
    if !permits || !rules.rules[..at].iter().all(denies) || others.into_iter().any(|(_, rule)| of_all_but(rule)) {
        return rules;
    }
    let but = rules.rules.remove(at);
    let permitted = but.unless.into_iter().map(|rule| Rule { outcome: rules.default, ..rule });
    rules.rules.splice(..0, permitted);
    Rules { default: but.outcome, ..rules }
}

fn effect(decision: RuleDecision) -> ProvisionType {
    if decision.denies() { ProvisionType::Deny } else { ProvisionType::Permit }
}

fn residual(rules: &Rules) -> Vec<Residual> {
    let rest = Rule::new(Term::default(), rules.default);
    std::iter::once(&rest).chain(&rules.rules).map(Residual::from).collect()
}

impl From<&Rule<'_>> for Residual {
    fn from(Rule { term, unless, outcome }: &Rule) -> Self {
        let effect = effect(outcome.decision);
        let mut lists: Vec<ResidualElements> = Vec::new();
        for element in &term.0 {
            match lists.iter_mut().find(|list| list.has_room(element)) {
                Some(list) => list.put(element, effect),
                None => {
                    let mut list = ResidualElements::default();
                    list.put(element, effect);
                    lists.push(list);
                }
            }
        }
        let and = if lists.is_empty() { Vec::new() } else { lists.split_off(1) };
        let unless = unless.iter().map(Self::from).collect();
        Self { effect, elements: lists.pop().unwrap_or_default(), and, unless }
    }
}

impl ResidualElements {
    fn has_room(&self, element: &Element) -> bool {
        match element.about {
            About::Labels(_) => self.security_label.is_empty(),
            About::Class(_) => self.class.is_empty(),
            About::Code(_) => self.code.is_empty(),
            About::DataPeriod(_) => self.data_period.is_none(),
            About::Data(_) => self.data.is_empty(),
        }
    }

    /// Puts the element of a rule with this effect, as the consent wrote it.
    fn put(&mut self, element: &Element, effect: ProvisionType) {
        match element.about {
            About::Labels(labels) => {
                self.security_label = labels.codes.clone();
                self.labels_of = (!labels.reads_the_same(effect)).then_some(labels.declared_by);
                self.unclear_labels = element.effect == ProvisionType::Deny;
            }
            About::Class(codes) => self.class = codes.to_vec(),
            About::Code(codes) => self.code = codes.to_vec(),
            About::DataPeriod(period) => self.data_period = Some(period.text.clone()),
            About::Data(data) => self.data = data.iter().map(|data| data.residual(element.effect)).collect(),
        }
    }
}

impl DataRule {
    fn residual(&self, effect: ProvisionType) -> ResidualData {
        ResidualData {
            meaning: self.meaning,
            reference: json!({"reference": self.reference}),
            msp_id: self.msp_id.clone().filter(|_| self.meaning == DataMeaning::Authoredby),
            keeps: effect == ProvisionType::Deny && self.keeps_as_a_hospital(),
        }
    }
}

/// The residual rules as LEAP's obligation to redact: by codes where labels alone decide and one effect is left to say,
/// otherwise with a pointer to the residual rules.
fn redact(residual: &[Residual]) -> Option<Obligation> {
    let (rest, rules) = residual.split_first()?;
    let simple = |rule: &Residual| {
        let ResidualElements { security_label, unclear_labels, .. } = &rule.elements;
        let labels = ResidualElements {
            security_label: security_label.clone(),
            unclear_labels: *unclear_labels,
            ..Default::default()
        };
        rule.and.is_empty() && rule.unless.is_empty() && rule.elements == labels && rule.effect != rest.effect
    };
    let codes: Vec<&Code> = rules.iter().flat_map(|rule| &rule.elements.security_label).collect();
    let parameters = match rest.effect {
        _ if !rules.iter().all(simple) => json!({"residual": true}),
        ProvisionType::Permit => json!({"codes": codes, "unclearLabels": true}),
        ProvisionType::Deny => json!({"exceptAnyOfCodes": codes}),
    };
    Some(Obligation { id: code(ACT_CODE, "REDACT"), parameters })
}

/// Every use of break-glass is reviewed.
fn review(policy: &Policy, now: Timestamp) -> Obligation {
    let within = crate::vocabulary::GoDuration(policy.break_glass.review_within).to_string();
    let parameters = json!({"reviewWithin": within, "dueBy": review_due(policy, now)});
    Obligation { id: code(OBLIGATION, "break-glass-review"), parameters }
}

fn code(system: &str, code: &str) -> Code {
    Code::from(&Coding { system: Some(system.to_owned()), code: code.to_owned(), display: None })
}
