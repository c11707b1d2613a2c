//! A request, as JSON, in Cedar's terms: principal, resource and context.

use std::str::FromStr;

use cedar_policy::{Context, Entities, EntityUid, Request, Schema};
use serde_json::{Value, json};

use crate::compile::days;

/// The request and the entities that it is about. Everything that the schema names must be said.
pub fn cedar(request: &Value, now: &str, schema: &Schema) -> (Request, Entities) {
    let (actor, record) = (&request["actor"], &request["resource"]);
    let id = record["id"].as_str().expect("an id");
    let mut names = texts(&actor["groups"]);
    names.extend(["id", "mspId", "role"].iter().flat_map(|name| texts(&actor[*name])));
    let attributes = actor["attributes"].as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| format!("{name}={}", value.as_str().expect("a text")));
    let (from, until) = days(record["authoredOn"].as_str().expect("a date"));
    let entities = json!([
        {"uid": {"type": "Actor", "id": "requester"}, "parents": [], "attrs": {
            "names": names,
            "msp": actor["mspId"].as_str().unwrap_or_default(),
            "role": actor["role"].as_str().unwrap_or_default(),
            "identifiers": [],
            "attributes": attributes.collect::<Vec<_>>(),
        }},
        {"uid": {"type": "Record", "id": id}, "parents": [], "attrs": {
            "labels": codes(&record["securityLabels"]),
            "class": codes(&record["class"]),
            "code": codes(&record["codes"]),
            "author": texts(&record["author"]),
            "writtenFrom": datetime(&from),
            "writtenUntil": datetime(&until),
        }},
    ]);
    let entities = Entities::from_json_value(entities, Some(schema)).expect("entities as in the schema");
    let uid = |text: &str| EntityUid::from_str(text).expect("an entity");
    let action = uid(r#"Action::"ask""#);
    let one = |name: &str| codes(&request[name]).concat();
    let context = json!({
        "patient": request["patient"], "purpose": one("purpose"), "action": one("action"), "now": datetime(now),
    });
    let context = Context::from_json_value(context, Some((schema, &action))).expect("a context as in the schema");
    let resource = uid(&format!("Record::{id:?}"));
    let request = Request::new(uid(r#"Actor::"requester""#), action, resource, context, Some(schema));
    (request.expect("a request as in the schema"), entities)
}

fn datetime(text: &str) -> Value {
    json!({"__extn": {"fn": "datetime", "arg": text}})
}

/// One text or a list of texts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(entries) => entries.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Codes of a request name no system here.
fn codes(value: &Value) -> Vec<String> {
    texts(value).iter().map(|code| format!("|{code}")).collect()
}
