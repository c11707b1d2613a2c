//! The rights that the chart gives the operator, read from the chart itself.

use k8s_openapi::api::rbac::v1::PolicyRule;

const RULES: &str = include_str!("../../../charts/ehrnet/templates/_rules.tpl");
const LEASE_ROLE: &str = include_str!("../../../charts/ehrnet/templates/role-lease.yaml");

/// Name of the lease in tests.
pub const LEASE: &str = "ehrnet-operator";

/// What the operator may do in a watched namespace.
pub fn watched() -> Vec<PolicyRule> {
    parse(between(RULES, "{{- define \"ehrnet.rules\" -}}", "{{- end -}}"))
}

/// What it may do in its own namespace.
pub fn lease() -> Vec<PolicyRule> {
    let text = between(LEASE_ROLE, "\nrules:", "\n---").replace("{{ include \"ehrnet.fullname\" . }}", LEASE);
    parse(&text)
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("the chart has no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("the chart has no {to:?} after {from:?}")).0
}

fn parse(text: &str) -> Vec<PolicyRule> {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("rules that are no YAML: {error}\n{text}"))
}
