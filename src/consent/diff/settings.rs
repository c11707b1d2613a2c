//! Settings of a policy, by what a change of them means: whether the search decides it, or whether nobody can tell without the
//! documents.

use serde::Serialize;
use serde_json::Value;

use crate::policy::Policy;

/// A field that two versions of a policy have differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Name below `spec`.
    pub field: String,
    /// What the change is about.
    pub means: Meaning,
    /// Whether it may permit what was denied, in a way that the search does not see.
    pub may_widen: bool,
    /// In words.
    pub text: &'static str,
}

/// What a change of a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// What is decided, which the search looks at.
    Decision,
    /// How documents are read: known of documents that are given only.
    Reading,
    /// How long an answer may be held.
    Duration,
    /// Which requests the policy decides.
    Responsibility,
    /// Nothing that is permitted or denied.
    Nothing,
    /// Something that this comparison does not know.
    Unknown,
}

/// What is compared, and how.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Whether all documents are at hand.
    pub documents: bool,
    /// Whether the policy decides on the ledger, where there may be others beside it.
    pub ledger: bool,
}

/// The fields in which the policies differ.
pub fn changed(old: &Policy, new: &Policy, known: Known) -> Vec<Setting> {
    let [old, new] = [old, new].map(fields);
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let mut changed = Vec::new();
    for name in names.filter(|name| old.get(*name) != new.get(*name)) {
        let (before, after) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
        if name == "breakGlass" {
            changed.extend(break_glass(before, after));
        } else {
            changed.push(setting(name, known));
        }
    }
    changed.sort_by(|one, other| one.field.cmp(&other.field));
    changed
}

fn fields(policy: &Policy) -> serde_json::Map<String, Value> {
    match serde_json::from_str(policy.canonical_json()) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    }
}

fn setting(name: &str, known: Known) -> Setting {
    let (means, may_widen, text) = match name {
        "overriding" | "basePolicy" | "combining" | "fhirVersion" => {
            (Meaning::Decision, false, "what it changes is among the examples")
        }
        "template" => {
            (Meaning::Nothing, false, "patients are offered another consent; what they gave before holds as it is")
        }
        "retention" => (Meaning::Nothing, false, "what is kept, and how long"),
        "scope" if known.ledger => (
            Meaning::Responsibility,
            true,
            "the policy decides other requests than before, and another policy may decide the rest",
        ),
        "scope" | "category" | "labels" | "timeZone" | "organizations" | "untypedRoot" | "codeSystems" | "modules"
        | "actorRoles" | "citedPolicies" => match known.documents {
            true => (
                Meaning::Reading,
                false,
                "documents are read otherwise; of those given, what it changes is among the examples",
            ),
            false => (
                Meaning::Reading,
                true,
                "documents are read otherwise: which of them permit more depends on them, so give them",
            ),
        },
        _ => (Meaning::Unknown, true, "this comparison does not know what it means"),
    };
    Setting { field: name.to_owned(), means, may_widen, text }
}

/// Of break-glass, how long it holds is all that the search does not see.
fn break_glass(old: &Value, new: &Value) -> Vec<Setting> {
    let differs = |names: &[&str]| names.iter().any(|name| old[*name] != new[*name]);
    let duration = |spec: &Value| serde_json::from_value::<crate::vocabulary::GoDuration>(spec["maxTTL"].clone()).ok();
    let mut settings = Vec::new();
    let mut add = |field: &str, means, may_widen, text| {
        settings.push(Setting { field: format!("breakGlass.{field}"), means, may_widen, text });
    };
    if differs(&["mode", "purposes", "group"]) {
        add("mode", Meaning::Decision, false, "what it changes is among the examples");
    }
    if differs(&["maxTTL"]) {
        let longer = duration(old).zip(duration(new)).is_none_or(|(old, new)| new.0 > old.0);
        let possible = new["mode"] != "forbid";
        let text = if longer { "what was granted holds for longer" } else { "what was granted holds for less long" };
        add("maxTTL", Meaning::Duration, longer && possible, text);
    }
    if differs(&["reviewWithin"]) {
        add("reviewWithin", Meaning::Nothing, false, "when a use must have been reviewed");
    }
    let known = ["mode", "purposes", "group", "maxTTL", "reviewWithin"];
    let names =
        |spec: &Value| spec.as_object().map(|spec| spec.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    for name in names(old).into_iter().chain(names(new)).filter(|name| !known.contains(&name.as_str())) {
        if old[&name] != new[&name] {
            add(&name, Meaning::Unknown, true, "this comparison does not know what it means");
        }
    }
    settings
}
