//! Residual rules, applied to records by somebody who has nothing but their JSON and what the documentation says of them: the
//! answer is the one that a request for the record gets.

use serde_json::{Value, json};

use super::generate::consent;
use super::{decide, policy};
use crate::Policy;
use crate::vocabulary::code_systems::{CONFIDENTIALITY_CODES, SENSITIVITY_CODES};

fn site() -> Policy {
    policy(json!({"organizations": [{"reference": "Organization/mercy", "mspId": "MercyMSP"}]}))
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn rank(code: &Value) -> Option<usize> {
    CONFIDENTIALITY_CODES.iter().position(|known| code == known)
}

fn labels_hold(rule: &Value, record: &Value) -> bool {
    let known = |label: &&Value| rank(label).is_some() || SENSITIVITY_CODES.iter().any(|known| *label == known);
    let unclear = !list(record, "securityLabels").all(|label| known(&label));
    let highest = list(record, "securityLabels").filter_map(rank).max();
    // The policy requires a confidentiality code.
    let highest = highest.filter(|_| !unclear).or(Some(CONFIDENTIALITY_CODES.len() - 1));
    let bounds = || list(rule, "securityLabel").filter_map(|coding| rank(&coding["code"]));
    let within = match rule["effect"] == "permit" {
        true => bounds().max().zip(highest).is_some_and(|(bound, highest)| highest <= bound),
        false => bounds().min().zip(highest).is_some_and(|(bound, highest)| highest >= bound),
    };
    let mut sensitive = list(rule, "securityLabel").filter(|coding| rank(&coding["code"]).is_none());
    let named = sensitive.any(|coding| list(record, "securityLabels").any(|label| *label == coding["code"]));
    within || named || unclear && rule["unclearLabels"] == true
}

/// The MSP of an author, as far as the policy says.
fn msp_of(author: &str) -> Option<&str> {
    if author == "Organization/mercy" { Some("MercyMSP") } else { Some(author).filter(|name| !name.contains('/')) }
}

fn wrote(data: &Value, author: &str, denies: bool) -> bool {
    let named = data["reference"]["reference"].as_str().expect("a reference");
    let may_be_a_hospital = !author.contains('/') || author.starts_with("Organization/");
    author == named
        || !(author.contains('/') && named.contains('/'))
            && match (data["mspId"].as_str(), msp_of(author)) {
                (Some(one), Some(other)) => one == other,
                _ => denies && may_be_a_hospital,
            }
}

fn data_holds(data: &Value, record: &Value, denies: bool) -> bool {
    if data["meaning"] != "authoredby" {
        return data["reference"]["reference"] == record["id"];
    }
    let authors: Vec<&str> = list(record, "author").map(|author| author.as_str().expect("a name")).collect();
    let hospital_known = authors.iter().any(|name| !name.starts_with("Practitioner/"));
    authors.iter().any(|author| wrote(data, author, denies)) || !hospital_known && data["keeps"] == true
}

fn lets_through(decision: &Value, record: &Value) -> bool {
    let holds = |rule: &&Value| {
        assert!(rule["and"].is_null() && rule["unless"].is_null() && rule["labelsOf"].is_null(), "{rule}");
        (rule["securityLabel"].is_null() || labels_hold(rule, record))
            && (rule["data"].is_null()
                || list(rule, "data").any(|data| data_holds(data, record, rule["effect"] == "deny")))
    };
    let last = list(decision, "residual").filter(holds).last();
    decision["decision"] == "PERMIT" && last.is_none_or(|rule| rule["effect"] == "permit")
}

fn of(role: &str, reference: &str) -> Value {
    json!({"actor": [{"role": {"coding": [{"code": role}]}, "reference": {"reference": reference}}]})
}

fn labelled(codes: &[&str]) -> Value {
    json!({"securityLabel": codes.iter().map(|code| json!({"code": code})).collect::<Vec<_>>()})
}

#[test]
fn residual_rules_say_of_every_record_what_a_request_for_it_gets() {
    let rules = [
        of("CST", "Organization/mercy"),
        of("CST", "MercyMSP"),
        of("AUT", "Organization/mercy"),
        of("AUT", "Practitioner/w"),
        labelled(&["HIV"]),
        labelled(&["R"]),
        labelled(&["R", "HIV"]),
        labelled(&["N"]),
    ];
    let authors = [
        json!(["Practitioner/w"]),
        json!(["Practitioner/w", "Organization/mercy"]),
        json!(["Organization/mercy"]),
        json!(["MercyMSP"]),
        json!(["OtherMSP"]),
        json!(["Organization/other"]),
        json!([]),
    ];
    let labels = [json!(["N"]), json!(["R"]), json!(["N", "HIV"]), json!(["N", "weird"]), json!(["weird"]), json!([])];
    for rule in rules {
        for effect in ["permit", "deny"] {
            let base = if effect == "permit" { "deny" } else { "permit" };
            let mut exception = rule.clone();
            exception["type"] = json!(effect);
            let consent = [consent(json!({"provision": {"type": base, "provision": [exception]}}))];
            let open = decide(&consent, &site(), &json!({"purpose": "TREAT"}));
            for author in &authors {
                for labels in &labels {
                    let record = json!({"author": author, "securityLabels": labels});
                    let full = decide(&consent, &site(), &json!({"purpose": "TREAT", "resource": record}));
                    let said = lets_through(&open, &record);
                    assert_eq!(said, full["decision"] == "PERMIT", "{effect} {rule} {record} {open}");
                }
            }
        }
    }
}
