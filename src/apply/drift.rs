//! Pure: what must be written so that a live object is as declared.
//!
//! Two sorts of drift, because they are repaired in two ways. `missing`: a declared field is absent or different;
//! server-side apply brings it back. `extra`: something stands there that was not declared and that server-side apply
//! would leave alone, because somebody else owns it; only a replacement removes it.
//!
//! Not drift: what the API server fills in, and labels and annotations of others. Extra is: a key in the data of a
//! ConfigMap or Secret, anything in a selector or a NetworkPolicy, an element of a list that we declare (a container, an
//! environment variable, a mount, a port), and the fields in [`NEVER_DEFAULTED`].
//!
//! The trap: a difference that the server always restores would be written for ever. `Applier` remembers what a write
//! did not settle.

use serde_json::{Map, Value};

use super::quantity;

/// JSON pointers of what differs. They name fields and keys, never values: a Secret's drift can be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Declared, and absent or different.
    pub missing: Vec<String>,
    /// Not declared, and there.
    pub extra: Vec<String>,
}

impl Drift {
    /// Whether the object is as declared.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }

    /// Every pointer.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().chain(&self.extra).map(String::as_str)
    }
}

/// Fields below `spec` that no API server fills in by itself: where they were not declared, somebody put them there.
const NEVER_DEFAULTED: &[&str] = &[
    "add",
    "affinity",
    "args",
    "command",
    "env",
    "envFrom",
    "externalIPs",
    "hostAliases",
    "hostIP",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "imagePullSecrets",
    "initContainers",
    "lifecycle",
    "loadBalancerSourceRanges",
    "nodeSelector",
    "privileged",
    "runtimeClassName",
    "shareProcessNamespace",
    "sysctls",
    "tolerations",
    "topologySpreadConstraints",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// Fields whose zero value (`false`, `0`, `""`, `{}`) the API server does not store: it means the same as absence.
const ZERO_IS_ABSENT: &[&str] = &[
    "annotations",
    "binaryData",
    "data",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "initialDelaySeconds",
    "labels",
    "limits",
    "matchLabels",
    "minReadySeconds",
    "nodeSelector",
    "publishNotReadyAddresses",
    "readOnly",
    "requests",
    "subPath",
    "value",
];

/// Maps in which every key counts, wherever they stand.
const SELECTORS: &[&str] = &["namespaceSelector", "podSelector", "selector"];

/// Lists that are maps, with the fields that make up their key and the default of a key field that is absent
/// (Kubernetes' `x-kubernetes-list-map-keys`). Only what our objects contain.
const MAP_LISTS: &[(&str, &[(&str, &str)])] = &[
    ("containers", &[("name", "")]),
    ("initContainers", &[("name", "")]),
    ("env", &[("name", "")]),
    ("volumes", &[("name", "")]),
    ("volumeMounts", &[("mountPath", "")]),
    ("volumeDevices", &[("devicePath", "")]),
    ("imagePullSecrets", &[("name", "")]),
    ("hostAliases", &[("ip", "")]),
    ("topologySpreadConstraints", &[("topologyKey", ""), ("whenUnsatisfiable", "")]),
    ("ownerReferences", &[("uid", "")]),
    ("ports", &[("containerPort", ""), ("port", ""), ("protocol", "TCP")]),
];

/// Compares a live object with a declared one of the same kind.
pub fn drift(live: &Value, declared: &Value) -> Drift {
    let mut drift = Drift::default();
    let kind = declared.get("kind").and_then(Value::as_str).unwrap_or_default();
    // What was declared without owners is kept when its resource goes: an owner that it has lost must not stay.
    let no_owners = Value::Array(Vec::new());
    for (field, undeclared) in
        [("labels", &Value::Null), ("annotations", &Value::Null), ("ownerReferences", &no_owners)]
    {
        let declared = declared.pointer("/metadata").and_then(|metadata| metadata.get(field)).unwrap_or(undeclared);
        let place = Place { path: format!("/metadata/{field}"), key: field, ..Place::default() };
        place.compare(live.pointer("/metadata").and_then(|metadata| metadata.get(field)), declared, &mut drift);
    }
    for (key, declared) in declared.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            continue;
        }
        let closed = matches!((kind, key.as_str()), ("NetworkPolicy", "spec") | (_, "data" | "binaryData"));
        let place = Place { path: format!("/{key}"), key, closed, ..Place::default() };
        place.compare(live.get(key), declared, &mut drift);
    }
    if matches!(kind, "ConfigMap" | "Secret") {
        for field in ["data", "binaryData"].into_iter().filter(|field| declared.get(field).is_none()) {
            let undeclared = live.get(field).and_then(Value::as_object).into_iter().flat_map(Map::keys);
            drift.extra.extend(undeclared.map(|key| format!("/{field}/{}", escaped(key))));
        }
    }
    drift
}

/// Where in the object the comparison stands.
#[derive(Clone, Debug, Default)]
struct Place<'a> {
    path: String,
    /// Name of the field whose value is compared; for an element of a list, the list's.
    key: &'a str,
    /// Every key counts, here and below.
    closed: bool,
    /// The values are quantities, such as `500m`.
    quantities: bool,
}

impl Place<'_> {
    fn compare(&self, live: Option<&Value>, declared: &Value, drift: &mut Drift) {
        match (live, declared) {
            (_, Value::Null) => {}
            (None | Some(Value::Null), _) => {
                if !self.means_absence(declared) {
                    drift.missing.push(self.path.clone());
                }
            }
            (Some(Value::Object(live)), Value::Object(declared)) => self.compare_objects(live, declared, drift),
            (Some(Value::Array(live)), Value::Array(declared)) => self.compare_lists(live, declared, drift),
            (Some(live), _) if self.equal(live, declared) => {}
            _ => drift.missing.push(self.path.clone()),
        }
    }

    /// An empty list is never stored; other zero values only where the field says so.
    fn means_absence(&self, declared: &Value) -> bool {
        let zero = match declared {
            Value::Array(list) => return list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(flag) => !flag,
            Value::String(text) => text.is_empty(),
            Value::Number(number) => number.as_i64() == Some(0),
            Value::Null => true,
        };
        // In data, a key with an empty value is a key.
        zero && ZERO_IS_ABSENT.contains(&self.key) && (declared.is_object() || !self.closed)
    }

    fn equal(&self, live: &Value, declared: &Value) -> bool {
        live == declared || ((self.quantities || self.key == "sizeLimit") && quantity::equal(live, declared))
    }

    fn compare_objects(&self, live: &Map<String, Value>, declared: &Map<String, Value>, drift: &mut Drift) {
        for (key, declared) in declared {
            let place = Place {
                path: format!("{}/{}", self.path, escaped(key)),
                key,
                closed: self.closed || SELECTORS.contains(&key.as_str()),
                quantities: matches!(self.key, "requests" | "limits"),
            };
            place.compare(live.get(key), declared, drift);
        }
        for (key, value) in live.iter().filter(|(key, _)| !declared.contains_key(*key)) {
            let in_spec = self.path.starts_with("/spec");
            let undeclared = if self.closed { !defaulted(key, value) } else { NEVER_DEFAULTED.contains(&key.as_str()) };
            if undeclared && (in_spec || self.closed) && !is_empty(value) {
                drift.extra.push(format!("{}/{}", self.path, escaped(key)));
            }
        }
    }

    fn compare_lists(&self, live: &[Value], declared: &[Value], drift: &mut Drift) {
        let element = |index: usize| Place { path: format!("{}/{index}", self.path), ..self.clone() };
        // Inside a NetworkPolicy and a selector every list is replaced as a whole.
        let keys = MAP_LISTS.iter().find(|(name, _)| *name == self.key && !self.closed).map(|(_, keys)| *keys);
        let Some(keys) = keys else {
            if live.len() != declared.len() {
                return drift.missing.push(self.path.clone());
            }
            for (index, (live, declared)) in live.iter().zip(declared).enumerate() {
                element(index).compare(Some(live), declared, drift);
            }
            return;
        };
        for (index, declared) in declared.iter().enumerate() {
            let found = live.iter().find(|live| same_key(keys, live, declared));
            element(index).compare(found, declared, drift);
        }
        for (index, live) in live.iter().enumerate() {
            if !declared.iter().any(|declared| same_key(keys, live, declared)) {
                drift.extra.push(element(index).path);
            }
        }
    }
}

fn same_key(keys: &[(&str, &str)], left: &Value, right: &Value) -> bool {
    keys.iter().all(|(key, default)| {
        let default = Value::from(*default);
        left.get(key).unwrap_or(&default) == right.get(key).unwrap_or(&default)
    })
}

/// What the API server fills in inside a NetworkPolicy or a selector.
fn defaulted(key: &str, value: &Value) -> bool {
    key == "protocol" && value == "TCP"
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A key as JSON pointers write it (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
