//! The sample network, and pieces to change it with.

use serde_json::Value;

const TEXT: &str = include_str!("../../../deploy/samples/two-hospitals.yaml");

/// The resources of `deploy/samples/two-hospitals.yaml`, in the file's order.
pub fn two_hospitals() -> Vec<Value> {
    all(TEXT)
}

/// The documents of a YAML text.
pub fn all(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).expect("YAML")).collect()
}
