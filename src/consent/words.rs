//! What a consent says, in sentences: who, what, for what, and until when.

use jiff::Timestamp;

use super::code::{Code, Labels};
use super::denials;
use super::error::{FieldError, said_within};
use super::fhir::Consent;
use super::subject::Standing;
use super::time::Period;
use super::tree::{ActorRule, DataRule, Elements, Node, Who};
use crate::vocabulary::code_systems::CodedElement;
use crate::vocabulary::{DataMeaning, ProvisionType};

/// One rule of a consent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sentence {
    /// Path of the provision.
    pub path: String,
    /// Permit or deny.
    pub effect: ProvisionType,
    /// Why it does not count, if it does not: a rule that is over, one of a consent that is not active, a permit that names nobody or
    /// no record, or that of a consent which is not one to the disclosure of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The rule in words.
    pub text: String,
}

impl Sentence {
    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.why.is_none()
    }
}

/// Every rule of a consent, in the order of the document, and whether it counts at `now`. What a provision inherits is said again.
pub fn sentences(consent: &Consent, standing: Standing, now: Timestamp) -> Vec<Sentence> {
    let mut said = Vec::new();
    // With its root all of a consent is over.
    let root = consent.root.elements.period.as_deref();
    let over = [consent.period.as_ref(), root].into_iter().any(|period| is_over(period, now));
    let why = |node: &Node| match node.effect {
        _ if !consent.active => Some("the consent is not active".to_owned()),
        _ if over || is_over(node.elements.period.as_deref(), now) => Some("it is over".to_owned()),
        ProvisionType::Permit if standing != Standing::Permits => {
            Some("the consent counts for what it denies only".to_owned())
        }
        ProvisionType::Permit => names_nobody(&node.elements).map(FieldError::to_string),
        ProvisionType::Deny => None,
    };
    let text = |node: &Node| match root {
        Some(root) if node.elements.period.as_deref() != Some(root) => {
            format!("{}, all of it {}", text(node), span(root))
        }
        _ => text(node),
    };
    let sentence =
        |node: &Node| Sentence { path: node.path.clone(), effect: node.effect, why: why(node), text: text(node) };
    below(&consent.root, &sentence, &mut said);
    if let Some(period) = &consent.period {
        said.iter_mut().for_each(|sentence| sentence.text += &format!(", all of it {}", span(period)));
    }
    said
}

fn below(node: &Node, sentence: &impl Fn(&Node) -> Sentence, said: &mut Vec<Sentence>) {
    said.push(sentence(node));
    node.children.iter().for_each(|child| below(child, sentence, said));
}

fn is_over(period: Option<&Period>, now: Timestamp) -> bool {
    period.and_then(|period| period.ends).is_some_and(|ends| ends <= now)
}

/// Why nobody, or no record, is what a permit is about; none if it is about somebody.
fn names_nobody(elements: &Elements) -> Option<&FieldError> {
    let nobody = |rule: &ActorRule| matches!(rule.who, Who::Nobody(_));
    let Elements { actor, grantee, data, author, nothing, .. } = elements;
    let actors = [actor, grantee].into_iter().filter(|rules| rules.iter().any(|rules| rules.iter().all(nobody)));
    let records = [data, author].into_iter();
    let records = records.filter(|rules| rules.iter().any(|rules| rules.iter().all(|rule| rule.target.is_err())));
    let why = actors.flat_map(denials::nobody).chain(records.flat_map(denials::no_record));
    nothing.as_deref().into_iter().chain(why).next()
}

fn text(node: &Node) -> String {
    let Elements { period, purpose, actor, grantee, action, .. } = &node.elements;
    let permits = node.effect == ProvisionType::Permit;
    let only = grantee.as_deref().map_or_else(String::new, |rules| format!(" (only as {})", any(rules, who)));
    let who = match actor.as_deref() {
        Some(rules) if permits => format!("{}{only} may", any(rules, who)),
        None if permits => format!("everybody{only} may"),
        Some(rules) => denied(rules),
        None => "nobody may".to_owned(),
    };
    let said = |codes: &[Code], element| any(codes, |one| code(one, element, node.effect));
    let action = action.as_deref().map_or_else(|| "see".to_owned(), |codes| said(codes, CodedElement::Action));
    let what = what(node, if permits { "all records" } else { "any record" });
    let purpose =
        purpose.as_deref().map_or_else(|| "any purpose".to_owned(), |codes| said(codes, CodedElement::Purpose));
    let when = period.as_deref().map_or_else(String::new, |period| format!(" {}", span(period)));
    format!("{who} {action} {what} for {purpose}{when}")
}

/// Those who are denied: somebody may not, and of many nobody may.
fn denied(rules: &[ActorRule]) -> String {
    let (many, named): (Vec<&ActorRule>, Vec<&ActorRule>) = rules.iter().partition(|rule| rule.who.many().is_some());
    let nobody = format!("nobody {} may", any(&many, |rule| in_role(rule.who.many().unwrap_or_default(), rule)));
    let not = format!("{} may not", any(&named, |rule| who(rule)));
    match (many.is_empty(), named.is_empty()) {
        (true, _) => not,
        (false, true) => nobody,
        (false, false) => format!("{not}, and {nobody},"),
    }
}

/// The records that a provision is about.
fn what(node: &Node, all: &str) -> String {
    let Elements { labels, class, document_type, code: codes, data_period, data, author, .. } = &node.elements;
    let said = |codes: &[Code], element| any(codes, |one| code(one, element, node.effect));
    let kinds = class.as_deref().map_or_else(|| all.to_owned(), |codes| said(codes, CodedElement::Class));
    let phrases = [
        document_type
            .as_deref()
            .map(|codes| format!("that are documents of type {}", said(codes, CodedElement::Class))),
        codes.as_deref().map(|codes| format!("with content {}", said(codes, CodedElement::Code))),
        labels.as_deref().map(|labels| label(labels, node.effect)),
        data_period.as_deref().map(|period| format!("written {}", span(period))),
        data.as_deref().map(|rules| format!("that are {}", any(rules, record))),
        author.as_deref().map(|rules| format!("of {}", any(rules, |rule| rule.reference.clone()))),
    ];
    std::iter::once(kinds).chain(phrases.into_iter().flatten()).collect::<Vec<_>>().join(" ")
}

/// Entries of a list that are said.
const MAX_ENTRIES: usize = 10;
/// Characters of an entry that are said.
const MAX_ENTRY: usize = 120;

fn any<T>(entries: &[T], word: impl Fn(&T) -> String) -> String {
    let (first, rest) = entries.split_at(entries.len().min(MAX_ENTRIES));
    let mut words: Vec<String> = first.iter().map(|entry| said_within(&word(entry), MAX_ENTRY)).collect();
    match (words.is_empty(), rest.len()) {
        (true, _) => return "nobody".to_owned(),
        (false, 0) => {}
        (false, more) => words.push(format!("{more} more")),
    }
    words.join(" or ")
}

/// A code, with its system where that is not the element's own.
fn code(code: &Code, element: CodedElement, effect: ProvisionType) -> String {
    let own = |system: &str| element.closed_systems().iter().any(|(own, _)| *own == system);
    match (code.meant(), &code.system, effect) {
        (Some(meant), _, _) if own(meant) => code.code.clone(),
        (_, Some(system), _) => format!("{system}|{}", code.code),
        (_, None, ProvisionType::Permit) => format!("{} (of no system)", code.code),
        (_, None, ProvisionType::Deny) => format!("{} (of any system)", code.code),
    }
}

fn label(labels: &Labels, effect: ProvisionType) -> String {
    let bound = match labels.declared_by {
        ProvisionType::Permit => "at most",
        ProvisionType::Deny => "at least",
    };
    let confidentiality = labels.confidentiality().map(|code| format!("{bound} {code}"));
    let others = labels.sensitivity.iter().map(|label| code(label, CodedElement::SecurityLabel, effect));
    let words: Vec<String> = confidentiality.into_iter().chain(others).collect();
    format!("labelled {}", any(&words, String::clone))
}

fn who(rule: &ActorRule) -> String {
    let named = match &rule.who {
        Who::Reference { key, msp_id: Some(msp_id) } => format!("{key} (MSP {msp_id})"),
        Who::Reference { key, msp_id: None } => key.clone(),
        Who::Identifier(identifier) => format!("{}|{}", identifier.system, identifier.value),
        Who::Nobody(_) => "somebody who cannot be compared".to_owned(),
        many => ["everybody", &many.many().unwrap_or_default()].join(" ").trim_end().to_owned(),
    };
    in_role(named, rule)
}

fn in_role(named: String, rule: &ActorRule) -> String {
    match &rule.role {
        Some(role) => format!("{named} in role {}", role.code).trim_start().to_owned(),
        None => named,
    }
}

impl Who {
    /// Of more than one person, what they have in common.
    fn many(&self) -> Option<String> {
        match self {
            Self::Msp(msp_id) => Some(format!("of MSP {msp_id}")),
            Self::Attribute(attribute) => Some(format!("with {}={}", attribute.name, attribute.value)),
            Self::AnyoneInRole => Some(String::new()),
            Self::Reference { .. } | Self::Identifier(_) | Self::Nobody(_) => None,
        }
    }
}

fn record(rule: &DataRule) -> String {
    let reference = &rule.reference;
    match (&rule.target, rule.meaning) {
        (Err(_), _) => "no record that could be compared".to_owned(),
        (Ok(_), DataMeaning::Instance) => reference.clone(),
        (Ok(_), DataMeaning::Related) => format!("{reference} or linked to it"),
        (Ok(_), DataMeaning::Dependents) => format!("{reference} or depending on it"),
        (Ok(_), DataMeaning::Authoredby) => format!("written by {reference}"),
    }
}

fn span(period: &Period) -> String {
    match (&period.text.start, &period.text.end) {
        (Some(start), Some(end)) => format!("from {start} until {end}"),
        (Some(start), None) => format!("from {start} on"),
        (None, Some(end)) => format!("until {end}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::context::ProvisionContext;
    use crate::fhir;

    fn said(members: Value) -> Vec<String> {
        rules(members).into_iter().map(|sentence| sentence.text).collect()
    }

    fn rules(members: Value) -> Vec<Sentence> {
        let mut consent = json!({
            "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
            "category": [{"coding": [{"code": "59284-0"}]}],
        });
        for (name, value) in members.as_object().expect("members") {
            consent[name] = value.clone();
        }
        let consent = fhir::read(&consent, None, &ProvisionContext::default()).expect("a consent");
        sentences(&consent, consent.standing(&[]), "2026-11-23T12:00:00Z".parse().expect("a time"))
    }

    #[test]
    fn a_rule_says_who_what_for_what_and_until_when() {
        let provision = json!({
            "type": "permit", "purpose": [{"code": "TREAT"}], "period": {"end": "2027"},
            "securityLabel": [{"code": "N"}],
            "provision": [{"type": "deny", "actor": [{"reference": {"reference": "Practitioner/7"}}], "class": [{"code": "Media"}]}],
        });
        assert_eq!(
            said(json!({"provision": provision})),
            [
                "everybody may see all records labelled at most N for TREAT until 2027",
                "Practitioner/7 may not see Media labelled at most N for TREAT until 2027",
            ]
        );
    }

    #[test]
    fn a_denial_is_said_of_those_whom_it_is_of() {
        let deny = |members: Value| {
            let mut provision = json!({"type": "deny"});
            for (name, value) in members.as_object().expect("members") {
                provision[name] = value.clone();
            }
            said(json!({"provision": provision})).remove(0)
        };
        let named = json!({"reference": {"reference": "Practitioner/7"}});
        let nurses = json!({"role": {"coding": [{"code": "nurse"}]}});
        let only_of = |code: &str| json!([{"code": code}]);
        assert_eq!(deny(json!({})), "nobody may see any record for any purpose");
        assert_eq!(deny(json!({"actor": [named]})), "Practitioner/7 may not see any record for any purpose");
        assert_eq!(deny(json!({"actor": [nurses]})), "nobody in role nurse may see any record for any purpose");
        assert_eq!(
            deny(json!({"actor": [named, nurses], "action": [{"coding": [{"code": "disclose"}]}]})),
            "Practitioner/7 may not, and nobody in role nurse may, disclose any record for any purpose"
        );
        assert_eq!(
            deny(json!({"securityLabel": only_of("HIV")})),
            "nobody may see any record labelled HIV for any purpose"
        );
        assert_eq!(
            deny(json!({"securityLabel": [{"code": "R"}, {"code": "HIV"}]})),
            "nobody may see any record labelled at least R or HIV for any purpose"
        );
    }

    #[test]
    fn what_holds_in_the_period_of_the_root_only_is_not_said_to_hold_longer() {
        let longer = json!({"type": "deny", "purpose": [{"code": "TREAT"}], "period": {"end": "2030"}});
        let same = json!({"type": "deny", "purpose": [{"code": "HRESCH"}]});
        let root = json!({"type": "permit", "period": {"end": "2027"}, "provision": [longer, same]});
        let said = said(json!({"provision": root}));
        assert_eq!(said[1], "nobody may see any record for TREAT until 2030, all of it until 2027");
        assert_eq!(said[2], "nobody may see any record for HRESCH until 2027");
    }

    #[test]
    fn a_grantee_and_a_custodian_are_said() {
        let said = said(json!({
            "decision": "deny", "grantee": [{"reference": "Practitioner/7"}], "period": {"start": "2026"},
            "provision": [{"actor": [{"role": {"coding": [{"code": "CST"}]}, "reference": {"reference": "Organization/mercy"}}]}],
        }));
        assert_eq!(
            said[1],
            "everybody (only as Practitioner/7) may see all records of Organization/mercy for any purpose, all of it from 2026 on"
        );
    }

    #[test]
    fn a_code_is_said_with_its_system_unless_it_is_the_element_s_own() {
        let said = said(json!({"provision": {
            "type": "permit", "purpose": [{"system": "urn:other", "code": "TREAT"}, {"code": "ward"}, {"code": "HPAYMT"}],
            "class": [{"system": "urn:other", "code": "Observation"}, {"code": "Media"}],
            "code": [{"coding": [{"system": "http://loinc.org", "code": "1-8"}]}],
            "securityLabel": [{"code": "N"}, {"system": "urn:other", "code": "R"}, {"code": "HIV"}],
        }}));
        assert_eq!(
            said,
            [
                "everybody may see urn:other|Observation or Media with content http://loinc.org|1-8 labelled at most N or urn:other|R or \
              HIV for urn:other|TREAT or ward (of no system) or HPAYMT"
            ]
        );
    }

    #[test]
    fn why_a_rule_does_not_count_is_said_and_a_permit_of_nobody_reads_like_no_denial() {
        let said = |members: Value| rules(members).remove(0);
        let search = json!([{"reference": {"reference": "Practitioner?identifier=a|1"}}]);
        let permit = |name: &str, value: Value| said(json!({"provision": {"type": "permit", name: value}}));
        let nobody = permit("actor", search);
        assert_eq!(nobody.text, "somebody who cannot be compared may see all records for any purpose");
        assert!(nobody.why.expect("a reason").starts_with("Consent.provision.actor[0].reference: cannot be compared"));
        let record = permit("data", json!([{"meaning": "instance", "reference": {"reference": "urn:uuid:7b0c"}}]));
        assert!(record.why.expect("a reason").starts_with("Consent.provision.data[0].reference: cannot be compared"));
        let over = permit("period", json!({"end": "2020"}));
        assert_eq!(over.why.as_deref(), Some("it is over"));
        let inactive = said(json!({"status": "inactive", "provision": {"type": "deny"}}));
        assert_eq!(inactive.why.as_deref(), Some("the consent is not active"));
        let operation = said(json!({"scope": {"coding": [{"code": "treatment"}]}, "provision": {"type": "permit"}}));
        assert_eq!(operation.why.as_deref(), Some("the consent counts for what it denies only"));
        assert_eq!(permit("period", json!({"end": "2099"})).why, None);
    }

    #[test]
    fn a_rule_that_is_over_or_names_nobody_does_not_count() {
        let counts = |members: Value| rules(members).iter().map(Sentence::counts).collect::<Vec<_>>();
        let search = json!([{"reference": {"reference": "Practitioner?identifier=a|1"}}]);
        let record = json!([{"meaning": "instance", "reference": {"reference": "urn:uuid:7b0c"}}]);
        for (provision, expected) in [
            (json!({"type": "permit", "period": {"end": "2027"}}), [true]),
            (json!({"type": "permit", "period": {"start": "2027"}}), [true]),
            (json!({"type": "permit", "period": {"end": "2020"}}), [false]),
            (json!({"type": "deny", "period": {"end": "2020"}}), [false]),
            (json!({"type": "permit", "actor": search}), [false]),
            (json!({"type": "permit", "data": record}), [false]),
        ] {
            assert_eq!(counts(json!({"provision": provision})), expected, "{provision}");
        }
        let nested = json!({"type": "permit", "period": {"end": "2020"}, "provision": [{"type": "deny"}]});
        assert_eq!(counts(json!({"provision": nested})), [false, false]);
        assert_eq!(counts(json!({"period": {"end": "2020"}, "provision": {"type": "deny"}})), [false]);
        // With the root all of the consent is over, whatever is nested in it says; of another provision it is that one alone.
        let later = json!({"period": {"end": "2030"}});
        for (base, nested) in [("permit", "deny"), ("deny", "permit")] {
            let with = |members: Value| {
                let mut rule = later.clone();
                rule["type"] = json!(nested);
                let mut root = json!({"type": base, "provision": [rule]});
                root["period"] = members;
                json!({"provision": root})
            };
            assert_eq!(counts(with(json!({"end": "2020"}))), [false, false], "{base}");
            assert_eq!(counts(with(json!({"end": "2027"}))), [true, true], "{base}");
        }
        let within = json!({"type": "deny", "period": {"end": "2020"}, "provision": [{"type": "deny", "period": {"end": "2030"}}]});
        assert_eq!(counts(json!({"provision": {"type": "permit", "provision": [within]}})), [true, false, true]);
        assert_eq!(counts(json!({"decision": "permit", "grantee": [search[0]["reference"]]})), [false]);
    }
}
