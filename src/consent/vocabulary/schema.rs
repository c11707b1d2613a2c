//! The schema of what a ConsentPolicy cannot say by derived types: a tree of provisions, closed code lists, durations.
//!
//! The trap: CEL rules on deep nodes are paid for by the product of the widths above them, so the widths are narrow.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::code_systems::{self as codes, CodedElement};
use super::duration::GoDuration;
use super::provision::{Coding, MAX_DEPTH, Provision};

/// The schema of a provision with everything below it: `widths` holds how many provisions each level may have.
fn unrolled(generator: &mut SchemaGenerator, widths: &[u32]) -> Schema {
    let mut schema = Provision::json_schema(generator);
    let nested = match widths {
        [] => json!({
            "description": format!("Not allowed: at most {MAX_DEPTH} levels of provisions below the root."),
            "type": "array", "maxItems": 0, "items": {"type": "object"},
        }),
        [width, below @ ..] => json!({
            "description": "Exceptions and additions to this rule. What a nested provision does not state it inherits.",
            "type": "array", "minItems": 1, "maxItems": width, "items": unrolled(generator, below),
            "x-kubernetes-validations": [{
                "rule": "self.all(p, !has(p.decision))",
                "message": "decision stands at the root only",
            }],
        }),
    };
    if !widths.is_empty() {
        let rule = json!({
            "rule": "!has(self.provision) || self.provision.all(p, has(p.type) == has(self.type))",
            "message": "a nested provision needs a type under fhirVersion R4 and must have none under R5",
        });
        schema.insert("x-kubernetes-validations".into(), json!([rule]));
    }
    if let Some(properties) = schema.ensure_object().get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("provision".into(), nested);
    }
    schema
}

/// Widths of the levels: their product bounds the work of the API server's CEL rules on the deepest level.
const TEMPLATE_WIDTHS: [u32; MAX_DEPTH] = [64, 8, 4, 2];
const OVERRIDING_WIDTHS: [u32; MAX_DEPTH] = [8, 4, 4, 2];
const OVERRIDING_MAX: u32 = 32;

pub(super) fn template_provision(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = unrolled(generator, &TEMPLATE_WIDTHS);
    schema.insert("nullable".into(), json!(true));
    schema
}

pub(super) fn overriding_list(generator: &mut SchemaGenerator) -> Schema {
    let items = unrolled(generator, &OVERRIDING_WIDTHS);
    json_schema!({"type": "array", "minItems": 1, "maxItems": OVERRIDING_MAX, "items": items})
}

/// A list of codings of the closed systems of `element`. The codes are a pattern and not an enum: YAML 1.1, which
/// kubectl reads, takes an unquoted `N` in an enum for a boolean.
fn closed_list(generator: &mut SchemaGenerator, element: CodedElement) -> Schema {
    let (systems, codes): (Vec<&str>, Vec<&[&str]>) = element.closed_systems().iter().copied().unzip();
    let pattern = format!("^({})$", codes.concat().join("|"));
    let mut items = Coding::json_schema(generator);
    let properties = items.ensure_object().get_mut("properties");
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        for (name, keyword, allowed) in [("system", "enum", json!(systems)), ("code", "pattern", json!(pattern))] {
            if let Some(field) = properties.get_mut(name).and_then(Value::as_object_mut) {
                field.insert(keyword.into(), allowed);
            }
        }
    }
    json_schema!({"type": "array", "minItems": 1, "maxItems": 64, "items": items})
}

pub(super) fn purpose_list(generator: &mut SchemaGenerator) -> Schema {
    closed_list(generator, CodedElement::Purpose)
}
pub(super) fn action_list(generator: &mut SchemaGenerator) -> Schema {
    closed_list(generator, CodedElement::Action)
}
pub(super) fn label_list(generator: &mut SchemaGenerator) -> Schema {
    closed_list(generator, CodedElement::SecurityLabel)
}
/// Categories: those of FHIR, or of a system that the policy declares, which the operator checks.
pub(super) fn category_list(generator: &mut SchemaGenerator) -> Schema {
    let (systems, codes): (Vec<&str>, Vec<&[&str]>) = CodedElement::Category.closed_systems().iter().copied().unzip();
    let rule = format!(
        "has(self.system) && !(self.system in {}) || self.code.matches('^({})$')",
        json!(systems),
        codes.concat().join("|")
    );
    let mut items = Coding::json_schema(generator);
    let message = "is no category of its code system; one of another system needs codeSystems";
    items.insert("x-kubernetes-validations".into(), json!([{"rule": rule, "message": message}]));
    json_schema!({"type": "array", "minItems": 1, "maxItems": 16, "items": items})
}
pub(super) fn coding_list(generator: &mut SchemaGenerator) -> Schema {
    let items = Coding::json_schema(generator);
    json_schema!({"type": "array", "minItems": 1, "maxItems": 64, "items": items})
}
pub(super) fn alias_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "maxItems": 16, "items": {"type": "string", "minLength": 1, "maxLength": 256}})
}
pub(super) fn known_code_list(_: &mut SchemaGenerator) -> Schema {
    let code = json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^\S+$"});
    json_schema!({"type": "array", "minItems": 1, "maxItems": 1024, "items": code})
}
pub(super) fn purpose_code_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "maxItems": 8, "items": {"type": "string", "enum": codes::PURPOSE_CODES}})
}

/// The form of a [`GoDuration`].
const DURATION_PATTERN: &str = "^([0-9]{1,7}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?([0-9]{1,7}ms)?$";

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 32,
            "pattern": DURATION_PATTERN,
            "x-kubernetes-validations": [{
                "rule": "duration(self) > duration('0s')",
                "message": "must be a duration longer than zero, for example 1h30m"
            }]
        })
    }
}
