//! What the evaluator is compared with: the algorithm in two values, straight over the JSON of consents and requests.

use serde_json::{Value, json};

use crate::vocabulary::code_systems::{CONFIDENTIALITY, CONFIDENTIALITY_CODES};

const NAMES: [&str; 10] =
    ["period", "purpose", "actor", "action", "securityLabel", "class", "code", "dataPeriod", "data", "author"];
const ABOUT_THE_RECORD: [&str; 6] = ["securityLabel", "class", "code", "dataPeriod", "data", "author"];

/// Permit or deny by these consents, where one denial outweighs; none where no consent decides.
pub fn oracle(consents: &[Value], request: &Value) -> Option<bool> {
    let results: Vec<bool> = consents.iter().filter_map(|consent| root(consent, request)).collect();
    if results.is_empty() { None } else { Some(results.iter().all(|permitted| *permitted)) }
}

fn root(consent: &Value, request: &Value) -> Option<bool> {
    let node = &consent["provision"];
    let of_disclosure = consent["scope"]["coding"][0]["code"] == "patient-privacy";
    let counts = of_disclosure && consent["verification"].is_null();
    let permits = node["type"] == "permit";
    let inherited = inherit(&json!({"permit": {}, "deny": {}}), node);
    let elements = of_type(&inherited, node);
    if !element_holds("period", &elements["period"], request) {
        return None;
    }
    if let Some(result) = children(node, &inherited, request, counts) {
        return Some(result);
    }
    let fails = |names: &[&str]| names.iter().any(|name| !element_holds(name, &elements[*name], request));
    match (fails(&["purpose", "actor", "action"]), fails(&ABOUT_THE_RECORD)) {
        (false, false) if permits => counts.then_some(true),
        (false, false) => Some(false),
        (false, true) if permits && of_disclosure => Some(false),
        _ => None,
    }
}

fn children(node: &Value, inherited: &Value, request: &Value, counts: bool) -> Option<bool> {
    let list = node["provision"].as_array()?;
    let results: Vec<bool> = list
        .iter()
        .filter_map(|child| {
            let inherited = inherit(inherited, child);
            let elements = of_type(&inherited, child);
            let permits = child["type"] == "permit";
            let own = || {
                let holds = NAMES.iter().all(|name| element_holds(name, &elements[*name], request));
                (holds && (counts || !permits)).then_some(permits)
            };
            children(child, &inherited, request, counts).or_else(own)
        })
        .collect();
    if results.is_empty() { None } else { Some(results.iter().all(|permitted| *permitted)) }
}

fn of_type<'v>(inherited: &'v Value, node: &Value) -> &'v Value {
    &inherited[node["type"].as_str().expect("a type")]
}

/// Elements with the type of the provision that states them, as permits and as denials inherit them. Actors are two elements: who
/// receives, and whose data it is. To a denial they are one: who states one of them leaves the other open.
fn inherit(above: &Value, node: &Value) -> Value {
    let (author, actor): (Vec<Value>, Vec<Value>) =
        node["actor"].as_array().cloned().unwrap_or_default().into_iter().partition(|actor| !actor["role"].is_null());
    let mut inherited = above.clone();
    for effect in ["permit", "deny"] {
        if effect == "deny" && !node["actor"].is_null() {
            inherited[effect]["actor"] = Value::Null;
            inherited[effect]["author"] = Value::Null;
        }
        for name in NAMES {
            let stated = match name {
                "actor" if actor.is_empty() => Value::Null,
                "actor" => actor.clone().into(),
                "author" if author.is_empty() => Value::Null,
                "author" => author.clone().into(),
                name => node[name].clone(),
            };
            if !stated.is_null() {
                inherited[effect][name] = json!({"by": node["type"], "is": stated});
            }
        }
    }
    inherited
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
        "author" => entries().any(|actor| actor["reference"]["reference"] == record["author"]),
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
        if residual_rule_holds(rule, record) {
            permitted = rule["effect"] == "permit";
        }
    }
    permitted
}

fn residual_rule_holds(rule: &Value, record: &Value) -> bool {
    let list = |name: &str| rule[name].as_array().into_iter().flatten();
    let mut all = std::iter::once(rule).chain(list("and"));
    all.all(|elements| elements_hold(elements, &rule["effect"], record))
        && !list("unless").any(|other| residual_rule_holds(other, record))
}

fn elements_hold(elements: &Value, effect: &Value, record: &Value) -> bool {
    let labels_of = if elements["labelsOf"].is_null() { effect } else { &elements["labelsOf"] };
    let holds = |name: &&str| record_element_holds(name, &elements[*name], labels_of == "permit", record);
    ABOUT_THE_RECORD.iter().filter(|name| !elements[**name].is_null()).all(holds)
}

/// Whether a base policy that permits anything permits this request.
pub fn normally_permitted(request: &Value) -> bool {
    let normal = json!([{"system": CONFIDENTIALITY, "code": "N"}]);
    labels_hold(&normal, true, &request["resource"])
}
