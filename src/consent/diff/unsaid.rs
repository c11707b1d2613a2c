//! Consents that are not given: what any of them may come to, and samples of them for examples.

use serde_json::{Value, json};

use super::pairs::Pairs;
use crate::evaluate::BreakGlass;
use crate::rules::RuleDecision;
use crate::vocabulary::code_systems::{ACT_CODE, CONSENT_SCOPE, LOINC};
use crate::vocabulary::{Coding, Combining, ConsentScope};

/// How many permits of consents have a say: all, those that name the purpose, none.
fn permits_heard(glass: BreakGlass) -> u8 {
    match glass {
        BreakGlass::NotAsked => 2,
        BreakGlass::Granted => 1,
        BreakGlass::Refused(_) => 0,
    }
}

/// Everything that one and the same consents may come to under two policies that read them alike.
///
/// Denials have the same say under both. Where fewer permits have one, nothing stays nothing, and a denial that names break-glass
/// stays one: only a permit nested in it could have hidden it. Under `newest-wins` the strictest consent need not be the one that
/// counts, and under `deny-overrides` it is.
pub fn any_consents(glass: [BreakGlass; 2], combining: [Combining; 2]) -> Pairs {
    let nothing = RuleDecision::NotApplicable;
    let [old, new] = glass.map(permits_heard);
    let fewer = |(more, fewer): (RuleDecision, RuleDecision)| {
        (more != nothing || fewer == nothing) && (more != RuleDecision::DenyBreakGlass || fewer == more)
    };
    let heard = Pairs::all(|(one, other)| match old.cmp(&new) {
        std::cmp::Ordering::Equal => one == other,
        std::cmp::Ordering::Greater => fewer((one, other)),
        std::cmp::Ordering::Less => fewer((other, one)),
    });
    let combined = match combining {
        [Combining::DenyOverrides, Combining::NewestWins] => {
            after(heard, |strictest, newest| weaker(newest, strictest))
        }
        [Combining::NewestWins, Combining::DenyOverrides] => after(heard, weaker),
        [Combining::DenyOverrides, _] | [Combining::NewestWins, _] => heard,
    };
    let possible = |glass: BreakGlass, decision| permits_heard(glass) > 0 || decision != RuleDecision::Permit;
    let named = |glass: BreakGlass, decision| match (glass, decision) {
        (BreakGlass::NotAsked, RuleDecision::DenyBreakGlass) => RuleDecision::Deny,
        (_, decision) => decision,
    };
    let possible = combined.iter().filter(|(one, other)| possible(glass[0], *one) && possible(glass[1], *other));
    Pairs::of(possible).map(|(one, other)| (named(glass[0], one), named(glass[1], other)))
}

/// Whether the newest consents may say `one` where the strictest say `other`.
fn weaker(one: RuleDecision, other: RuleDecision) -> bool {
    let nothing = RuleDecision::NotApplicable;
    (one == nothing) == (other == nothing) && one <= other
}

/// The pairs, with what the other policy makes of its own side by combining otherwise.
fn after(pairs: Pairs, may_become: impl Fn(RuleDecision, RuleDecision) -> bool) -> Pairs {
    Pairs::all(|(old, new)| pairs.any(|(one, between)| one == old && may_become(between, new)))
}

/// Consents of a patient that an example is tried with, and how they are called.
pub fn samples(
    patient: &Value,
    purpose: &Value,
    scope: ConsentScope,
    category: Option<&Coding>,
) -> Vec<(&'static str, Vec<Value>)> {
    let consent = |date: &str, provision: Value| {
        let loinc = Coding { system: Some(LOINC.into()), code: "59284-0".into(), display: None };
        let mut consent = json!({
            "resourceType": "Consent", "status": "active", "dateTime": date, "provision": provision,
            "scope": {"coding": [{"system": CONSENT_SCOPE, "code": scope.code()}]},
            "category": [{"coding": [category.unwrap_or(&loinc), {"system": ACT_CODE, "code": "IDSCL"}]}],
        });
        if !patient.is_null() {
            consent["patient"] = json!({"reference": patient});
        }
        consent
    };
    let purposes = json!([if purpose.is_string() { json!({"code": purpose}) } else { purpose.clone() }]);
    let plain = |effect: &str| json!({"type": effect});
    let named = |effect: &str| json!({"type": effect, "purpose": purposes});
    let mut other_data = named("permit");
    other_data["data"] = json!([{"meaning": "instance", "reference": {"reference": "Observation/of-another-consent"}}]);
    let (first, second) = ("2020-01-01", "2021-01-01");
    let mut samples = vec![
        ("no consent", vec![]),
        ("a consent that permits everything", vec![consent(first, plain("permit"))]),
        ("a consent that denies everything", vec![consent(first, plain("deny"))]),
        (
            "an older consent that denies everything and a newer one that permits everything",
            vec![consent(first, plain("deny")), consent(second, plain("permit"))],
        ),
        (
            "an older consent that permits everything and a newer one that denies everything",
            vec![consent(first, plain("permit")), consent(second, plain("deny"))],
        ),
    ];
    if purpose.is_null() {
        return samples;
    }
    let mut exception = plain("deny");
    exception["provision"] = json!([named("permit")]);
    samples.extend([
        ("a consent that permits this purpose", vec![consent(first, named("permit"))]),
        ("a consent that denies this purpose", vec![consent(first, named("deny"))]),
        ("a consent that denies everything but this purpose", vec![consent(first, exception)]),
        (
            "an older consent that denies this purpose and a newer one that permits it",
            vec![consent(first, named("deny")), consent(second, named("permit"))],
        ),
        (
            "a consent that permits everything and one that permits this purpose for other data",
            vec![consent(first, plain("permit")), consent(first, other_data)],
        ),
    ]);
    samples
}
