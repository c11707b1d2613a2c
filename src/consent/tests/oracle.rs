//! What the evaluator is compared with: the algorithm in two values, straight over the JSON of consents and requests.

use serde_json::{Value, json};

use crate::vocabulary::code_systems::{CONFIDENTIALITY, CONFIDENTIALITY_CODES};

const NAMES: [&str; 9] =
    ["period", "purpose", "actor", "action", "securityLabel", "class", "code", "dataPeriod", "data"];
const ABOUT_THE_RECORD: [&str; 5] = ["securityLabel", "class", "code", "dataPeriod", "data"];

/// Permit or deny by these consents, where one denial outweighs; none where no consent decides.
pub fn oracle(consents: &[Value], request: &Value) -> Option<bool> {
    let results: Vec<bool> = consents.iter().filter_map(|consent| root(&consent["provision"], request)).collect();
    if results.is_empty() { None } else { Some(results.iter().all(|permitted| *permitted)) }
}

fn root(node: &Value, request: &Value) -> Option<bool> {
    let permits = node["type"] == "permit";
    let inherited = inherit(&json!({}), node);
    if !element_holds("period", &inherited["period"], request) {
        return None;
    }
    if let Some(result) = children(node, &inherited, request) {
        return Some(result);
    }
    let fails = |names: &[&str]| names.iter().any(|name| !element_holds(name, &inherited[*name], request));
    match (fails(&["purpose", "actor", "action"]), fails(&ABOUT_THE_RECORD)) {
        (false, false) => Some(permits),
        (false, true) if permits => Some(false),
        _ => None,
    }
}

fn children(node: &Value, inherited: &Value, request: &Value) -> Option<bool> {
    let list = node["provision"].as_array()?;
    let results: Vec<bool> = list
        .iter()
        .filter_map(|child| {
            let elements = inherit(inherited, child);
            let own = || {
                NAMES
                    .iter()
                    .all(|name| element_holds(name, &elements[*name], request))
                    .then(|| child["type"] == "permit")
            };
            children(child, &elements, request).or_else(own)
        })
        .collect();
    if results.is_empty() { None } else { Some(results.iter().all(|permitted| *permitted)) }
}

/// Elements with the type of the provision that states them.
fn inherit(above: &Value, node: &Value) -> Value {
    let mut elements = above.clone();
    for name in NAMES.iter().filter(|name| !node[**name].is_null()) {
        elements[*name] = json!({"by": node["type"], "is": node[*name]});
    }
    elements
}

fn element_holds(name: &str, element: &Value, request: &Value) -> bool {
    if element.is_null() {
        return true;
    }
    let (rule, record) = (&element["is"], &request["resource"]);
    let entries = || rule.as_array().into_iter().flatten();
    match name {
        "period" => rule["start"].as_str() <= Some("2026-11-23") && Some("2026-11-23") <= rule["end"].as_str(),
        "purpose" => entries().any(|coding| coding["code"] == request["purpose"]),
        "action" => entries().any(|concept| concept["coding"][0]["code"] == request["action"]),
        "actor" => entries().any(|actor| {
            let key = &actor["reference"]["reference"];
            *key == request["actor"]["id"]
                || request["actor"]["groups"].as_array().is_some_and(|groups| groups.contains(key))
        }),
        _ => record_element_holds(name, rule, element["by"] == "permit", record),
    }
}

fn record_element_holds(name: &str, rule: &Value, ceiling: bool, record: &Value) -> bool {
    let entries = || rule.as_array().into_iter().flatten();
    let has = |list: &str, code: &Value| {
        record[list] == *code || record[list].as_array().is_some_and(|codes| codes.contains(code))
    };
    match name {
        "securityLabel" => labels_hold(rule, ceiling, record),
        "class" => entries().any(|coding| has("class", &coding["code"])),
        "code" => entries().any(|concept| has("codes", &concept["coding"].get(0).unwrap_or(concept)["code"])),
        "dataPeriod" => {
            let (start, end, on) =
                (rule["start"].as_str(), rule["end"].as_str(), record["authoredOn"].as_str().expect("known"));
            start.is_none_or(|start| start <= on) && end.is_none_or(|end| &on[..end.len()] <= end)
        }
        _ => entries().any(|data| {
            let field = if data["meaning"] == "authoredby" { "author" } else { "id" };
            data["reference"]["reference"] == record[field]
        }),
    }
}

fn labels_hold(rule: &Value, ceiling: bool, record: &Value) -> bool {
    let rank = |code: &Value| CONFIDENTIALITY_CODES.iter().position(|known| code == known);
    let labels = record["securityLabels"].as_array().expect("known");
    let highest = labels.iter().filter_map(rank).max();
    let codes = rule.as_array().expect("a list");
    let ranks =
        codes.iter().filter(|coding| coding["system"] == CONFIDENTIALITY).filter_map(|coding| rank(&coding["code"]));
    let bound = if ceiling { ranks.max() } else { ranks.min() };
    let confidential = match (highest, bound) {
        (Some(highest), Some(bound)) if ceiling => highest <= bound,
        (Some(highest), Some(bound)) => highest >= bound,
        _ => false,
    };
    let sensitive = codes.iter().any(|coding| coding["system"] != CONFIDENTIALITY && labels.contains(&coding["code"]));
    confidential || sensitive
}

/// Whether a decision lets this record through: the last residual rule that matches says it.
pub fn permitted_by(decision: &Value, record: &Value) -> bool {
    if decision["decision"] != "PERMIT" {
        return false;
    }
    let mut permitted = true;
    for rule in decision["residual"].as_array().expect("a list") {
        let permits = rule["effect"] == "permit";
        let holds = ABOUT_THE_RECORD
            .iter()
            .all(|name| rule[*name].is_null() || record_element_holds(name, &rule[*name], permits, record));
        if holds {
            permitted = permits;
        }
    }
    permitted
}
