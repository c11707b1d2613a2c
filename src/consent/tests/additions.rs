//! What may be added to a consent without permitting more: at its root, in any object of its provisions, and in the last
//! provisions of each branch, of which nothing inherits.

use serde_json::{Value, json};

use super::generate::codings;
use crate::vocabulary::code_systems::{ACT_REASON, CONSENT_ACTION, PARTICIPATION_TYPE};

/// Pointers to what is not there yet, with what is added there; `-` is the end of a list.
type Additions = Vec<(String, Value)>;

/// Adds one of them.
pub fn add(document: &mut Value, pointer: &str, value: &Value) {
    let (above, name) = pointer.rsplit_once('/').expect("a pointer");
    match document.pointer_mut(above).expect("there") {
        Value::Array(entries) => entries.push(value.clone()),
        object => object[name] = value.clone(),
    }
}

/// Everything that is added to this document, one at a time.
///
/// An element more also narrows what a permit denies, which is all data outside of what it names. Where something else may permit
/// that, another provision, another consent or the base policy, it is not `narrowed`.
pub fn to(document: &Value, narrowed: bool) -> Additions {
    let mut found = to_root();
    match &document["provision"] {
        Value::Array(exceptions) => {
            let effect = if document["decision"] == "deny" { "permit" } else { "deny" };
            to_each(exceptions, "/provision", effect, narrowed, &mut found);
        }
        root => to_provision(root, "/provision", &root["type"], narrowed, &mut found),
    }
    found.retain(|(pointer, _)| document.pointer(pointer).is_none());
    found
}

fn to_root() -> Additions {
    let who = |reference: &str| json!([{"reference": reference}]);
    let extension = json!([{"url": "https://example.org/more", "valueBoolean": true}]);
    [
        ("/extension", extension.clone()),
        ("/modifierExtension", extension),
        ("/verification", json!([{"verified": false}])),
        ("/grantee", who("Practitioner/a")),
        ("/grantee", who("urn:uuid:7b0c1c5e-2f0e-4a57-9a0b-0f2a3f6f3d11")),
        ("/grantor", who("Practitioner/a")),
        ("/manager", who("Practitioner/a")),
        ("/controller", who("Practitioner/a")),
        ("/organization", who("Organization/a")),
        ("/policy", json!([{"uri": "https://example.org/policy"}])),
        ("/category/-", json!({"coding": codings("https://example.org/categories", &["more"])})),
    ]
    .map(|(pointer, value)| (pointer.to_owned(), value))
    .into()
}

fn to_each(provisions: &[Value], above: &str, effect: &str, narrowed: bool, found: &mut Additions) {
    for (i, provision) in provisions.iter().enumerate() {
        let stated = provision["type"].as_str().unwrap_or(effect);
        to_provision(provision, &format!("{above}/{i}"), &json!(stated), narrowed, found);
    }
}

fn to_provision(provision: &Value, at: &str, effect: &Value, narrowed: bool, found: &mut Additions) {
    let opposite = if effect == "permit" { "deny" } else { "permit" };
    match provision["provision"].as_array() {
        Some(nested) => to_each(nested, &format!("{at}/provision"), opposite, narrowed, found),
        None if effect == "permit" && narrowed => to_permit(provision, at, found),
        None if effect == "permit" => {}
        None => to_denial(provision, at, found),
    }
    for (name, element) in provision.as_object().into_iter().flatten().filter(|(name, _)| *name != "provision") {
        to_objects(element, &format!("{at}/{name}"), found);
    }
    to_object(at, found);
}

/// One more element narrows a permit, and so does a role.
fn to_permit(provision: &Value, at: &str, found: &mut Additions) {
    for (name, value) in elements() {
        let name = if name == "class" && provision["type"].is_null() { "resourceType" } else { name };
        found.push((format!("{at}/{name}"), value));
    }
    to_actors(provision, at, found);
}

/// One more entry of a list widens a denial, and so does one more name of somebody.
fn to_denial(provision: &Value, at: &str, found: &mut Additions) {
    let receives =
        provision["actor"].as_array().is_some_and(|actors| actors.iter().all(|actor| actor["role"].is_null()));
    for (name, value) in elements() {
        let name = if name == "class" && provision["type"].is_null() { "resourceType" } else { name };
        let is_list = provision[name].is_array() && name != "securityLabel";
        if is_list && (name != "actor" || receives) {
            found.push((format!("{at}/{name}/-"), value[0].clone()));
        }
    }
    for i in 0..provision["actor"].as_array().map_or(0, Vec::len) {
        found.push((format!("{at}/actor/{i}/reference/identifier"), json!({"system": "urn:a", "value": "1"})));
    }
    to_actors(provision, at, found);
}

fn elements() -> [(&'static str, Value); 9] {
    [
        ("purpose", codings(ACT_REASON, &["TREAT"])),
        ("actor", json!([{"reference": {"reference": "Practitioner/a"}}])),
        ("action", json!([{"coding": codings(CONSENT_ACTION, &["access"])}])),
        ("period", json!({"start": "2020"})),
        ("securityLabel", codings("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", &["R"])),
        ("class", codings("urn:classes", &["A"])),
        ("code", json!([{"coding": codings("urn:codes", &["1"])}])),
        ("dataPeriod", json!({"start": "2021"})),
        ("data", json!([{"meaning": "instance", "reference": {"reference": "Observation/1"}}])),
    ]
}

/// What is added to the objects in an element.
fn to_objects(value: &Value, at: &str, found: &mut Additions) {
    match value {
        Value::Array(entries) => {
            for (i, entry) in entries.iter().enumerate() {
                to_objects(entry, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(members) => {
            to_object(at, found);
            if members.get("reference").is_some_and(Value::is_string) {
                found.push((format!("{at}/type"), json!("Practitioner")));
                found.push((format!("{at}/display"), json!("somebody")));
            }
            for (name, member) in members {
                to_objects(member, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// What changes the meaning of any object, or may: a member that FHIR does not have.
fn to_object(at: &str, found: &mut Additions) {
    let extension = json!([{"url": "https://example.org/more", "valueBoolean": true}]);
    found.push((format!("{at}/extension"), extension.clone()));
    found.push((format!("{at}/modifierExtension"), extension));
    found.push((format!("{at}/only"), json!(true)));
}

/// Roles in which somebody takes part in the document only, or that nobody knows.
fn to_actors(provision: &Value, at: &str, found: &mut Additions) {
    for (i, actor) in provision["actor"].as_array().into_iter().flatten().enumerate() {
        for role in ["WIT", "DEL", "XYZ"] {
            let coding = codings(PARTICIPATION_TYPE, &[role]);
            found.push(match actor["role"]["coding"].is_array() {
                true => (format!("{at}/actor/{i}/role/coding/-"), coding[0].clone()),
                false => (format!("{at}/actor/{i}/role"), json!({"coding": coding})),
            });
        }
    }
}
