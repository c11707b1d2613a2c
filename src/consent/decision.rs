//! The answer to a request, in the words of FHIR, IHE PCF (residual rules) and LEAP (obligations).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::code::Code;
use super::evaluate::{break_glass_ends, review_due};
use super::policy::Policy;
use super::rules::{Basis, Outcome, Reason, Rule, RuleDecision, Rules, Source, Term};
use crate::vocabulary::code_systems::ACT_CODE;
use crate::vocabulary::{DataMeaning, Period, ProvisionType};

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
    /// Labels: for a permit the highest confidentiality code is a ceiling, for a deny the lowest is a floor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_label: Vec<Code>,
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
pub struct ResidualData {
    /// How it is meant.
    pub meaning: DataMeaning,
    /// FHIR Reference.
    pub reference: Value,
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

    /// The decision that a list of rules amounts to. `refused` says why break-glass, if asked for, is not possible.
    pub(super) fn from_rules(rules: Rules, refused: Option<Reason>, policy: &Policy, now: Timestamp) -> Self {
        let rules = expressible(rules);
        let outcomes = || std::iter::once(&rules.default).chain(rules.rules.iter().map(|rule| &rule.outcome));
        let permits = || outcomes().filter(|outcome| outcome.decision == RuleDecision::Permit);
        let breaking = permits().find(|outcome| outcome.source.basis == Basis::Breakglass);
        let Some(permit) = breaking.or_else(|| permits().next()) else {
            return Self::deny(&rules.default.source, refused);
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
            expires_at: permits().filter_map(|permit| permit.source.ends).chain(ttl).min(),
        }
    }

    fn deny(source: &Source, refused: Option<Reason>) -> Self {
        let reason = refused.filter(|_| source.basis != Basis::Overriding).unwrap_or(source.reason);
        Self {
            basis: source.basis,
            reason,
            matched_path: source.path.map(str::to_owned),
            consent_digest: source.digest.map(str::to_owned),
            expires_at: source.ends,
            ..Self::error()
        }
    }
}

/// The digest of the consent behind the permit; if there is none, of the first one that restricts it.
fn outcomes_digest<'a>(permit: &Outcome, outcomes: impl Iterator<Item = &'a Outcome<'a>>) -> Option<String> {
    permit.source.digest.or_else(|| outcomes.into_iter().find_map(|outcome| outcome.source.digest)).map(str::to_owned)
}

/// The list in words that a residual rule has. Inherited confidentiality of a provision of the other type it has not:
/// such a permit is left out, such a deny holds whatever the label is. Both are stricter.
fn expressible(rules: Rules) -> Rules {
    let mut result = Rules::always(rules.default);
    for mut rule in rules.rules {
        let effect = effect(rule.outcome.decision);
        if rule.term.labels.is_some_and(|labels| !labels.reads_the_same(effect)) {
            if effect == ProvisionType::Permit {
                continue;
            }
            rule.term.labels = None;
        }
        if rule.term == Term::default() {
            result = Rules::always(rule.outcome);
        } else {
            result.rules.push(rule);
        }
    }
    result
}

fn effect(decision: RuleDecision) -> ProvisionType {
    if decision == RuleDecision::Permit { ProvisionType::Permit } else { ProvisionType::Deny }
}

fn residual(rules: &Rules) -> Vec<Residual> {
    let rest = Rule { term: Term::default(), outcome: rules.default };
    let entries = std::iter::once(&rest).chain(&rules.rules);
    entries
        .map(|Rule { term, outcome }| Residual {
            effect: effect(outcome.decision),
            security_label: term.labels.map(|labels| labels.codes.clone()).unwrap_or_default(),
            class: term.class.map(<[Code]>::to_vec).unwrap_or_default(),
            code: term.code.map(<[Code]>::to_vec).unwrap_or_default(),
            data_period: term.data_period.map(|period| period.text.clone()),
            data: term
                .data
                .unwrap_or_default()
                .iter()
                .map(|data| ResidualData { meaning: data.meaning, reference: json!({"reference": data.reference}) })
                .collect(),
        })
        .collect()
}

/// The residual rules as LEAP's obligation to redact: by codes where labels alone decide and one effect is left to say,
/// otherwise with a pointer to the residual rules.
fn redact(residual: &[Residual]) -> Option<Obligation> {
    let (rest, rules) = residual.split_first()?;
    let simple = |rule: &Residual| {
        let others =
            rule.class.is_empty() && rule.code.is_empty() && rule.data_period.is_none() && rule.data.is_empty();
        others && rule.effect != rest.effect
    };
    let codes: Vec<&Code> = rules.iter().flat_map(|rule| &rule.security_label).collect();
    let parameters = match rest.effect {
        _ if !rules.iter().all(simple) => json!({"residual": true}),
        ProvisionType::Permit => json!({"codes": codes}),
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
    Code { system: Some(system.to_owned()), code: code.to_owned(), display: None }
}
