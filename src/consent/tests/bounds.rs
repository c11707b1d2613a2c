//! The work and the memory that a small document may ask for.

use serde_json::{Value, json};

use super::generate::consent;
use super::policy;
use crate::context::ProvisionContext;
use crate::error::MAX_ERRORS;
use crate::{FieldError, fhir};

const MODULES: &str = "urn:oid:1.2.3.4";

fn errors(consent: &Value, context: &ProvisionContext) -> Vec<FieldError> {
    fhir::read(consent, None, context).expect_err("refused")
}

fn searches(count: usize) -> Value {
    (0..count).map(|i| json!({"reference": {"reference": format!("Practitioner?identifier=a|{i}")}})).collect()
}

/// A policy whose codes `0` to `31` are modules.
fn modules() -> ProvisionContext {
    let module = |i: usize| json!({"code": {"system": MODULES, "code": i.to_string()}, "purpose": [{"code": "TREAT"}]});
    let modules: Vec<Value> = (0..32).map(module).collect();
    policy(json!({"codeSystems": [{"url": MODULES}], "modules": modules})).context().clone()
}

fn of_modules(codes: impl IntoIterator<Item = usize>) -> Value {
    let concept = |i: usize| json!({"coding": [{"system": MODULES, "code": i.to_string()}]});
    codes.into_iter().map(concept).collect()
}

#[test]
fn what_many_denials_inherit_is_wrong_once_and_where_it_is_stated() {
    for effect in ["permit", "deny"] {
        let nested = vec![json!({"type": "deny", "provision": [{"type": "deny"}]}); 300];
        let provision = json!({"type": effect, "actor": searches(2), "provision": nested});
        let errors = errors(&consent(json!({"provision": provision})), &ProvisionContext::default());
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["Consent.provision.actor[0].reference", "Consent.provision.actor[1].reference"]);
    }
}

#[test]
fn a_denial_that_states_an_element_again_does_not_inherit_what_is_wrong_with_it() {
    let stated = json!({"type": "deny", "actor": [{"reference": {"reference": "Practitioner/1"}}]});
    let provision = json!({"type": "permit", "actor": searches(2), "provision": [stated]});
    assert!(fhir::read(&consent(json!({"provision": provision})), None, &ProvisionContext::default()).is_ok());
}

#[test]
fn no_document_has_more_errors_than_anybody_reads() {
    let denial = |effect: &str, name: &str, value: Value| consent(json!({"provision": {"type": effect, name: value}}));
    let periods = vec![json!({"type": "permit", "period": {"end": "never"}}); 300];
    for consent in [denial("deny", "actor", searches(300)), denial("permit", "provision", periods.into())] {
        assert_eq!(errors(&consent, &ProvisionContext::default()).len(), MAX_ERRORS);
    }
}

#[test]
fn a_module_that_is_named_twice_is_one_rule() {
    let nested = json!({"type": "permit", "code": of_modules(vec![7; 5_000])});
    let consent = consent(json!({"provision": {"type": "deny", "provision": [nested]}}));
    let read = fhir::read(&consent, None, &modules()).expect("a consent");
    assert_eq!(read.root.children.len(), 1);
}

#[test]
fn modules_stop_standing_for_rules_where_there_are_too_many() {
    let below = vec![json!({"type": "permit", "period": {"end": "2030"}}); 200];
    let provision = json!({"type": "permit", "code": of_modules(0..32), "provision": below});
    let errors = errors(&consent(json!({"provision": {"type": "deny", "provision": [provision]}})), &modules());
    assert!(errors[0].message.contains("more than 4096"), "{errors:?}");
    let actors: Vec<Value> =
        (0..9_000).map(|i| json!({"reference": {"reference": format!("Practitioner/{i}")}})).collect();
    let many = json!({"type": "permit", "actor": actors, "code": of_modules(0..32)});
    let errors = self::errors(&consent(json!({"provision": {"type": "deny", "provision": [many]}})), &modules());
    assert_eq!(errors[0].field, "Consent.provision.provision[0].code");
}

#[test]
fn a_frame_gives_its_labels_to_what_is_nested_in_it_within_bounds() {
    let labels: Vec<Value> = (0..9_000).map(|i| json!({"code": i.to_string()})).collect();
    let provision = json!({"securityLabel": labels, "provision": vec![json!({"type": "permit"}); 4_000]});
    let errors = errors(&consent(json!({"provision": provision})), &ProvisionContext::default());
    assert_eq!(errors[0].field, "Consent.provision.securityLabel");
}

#[test]
fn provisions_are_counted_while_they_are_read() {
    let empty = json!({"type": "permit", "provision": vec![json!({"type": "permit"}); 5_000]});
    let exceptions = vec![
        json!({"purpose": [{"code": "TREAT"}], "provision": vec![json!({"class": [{"code": "Media"}]}); 2_500]});
        2
    ];
    for consent in [consent(json!({"provision": empty})), consent(json!({"decision": "deny", "provision": exceptions}))]
    {
        let errors = errors(&consent, &ProvisionContext::default());
        assert!(errors[0].message.contains("more than 4096 provisions"), "{errors:?}");
    }
}
