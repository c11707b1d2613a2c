//! What restricts a document wherever it stands: what it cites, the root that a denial stands in, codes that nothing has.

use serde_json::{Value, json};

use super::denials::{answer, asks};
use super::generate::consent;
use super::policy;

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const LOINC: &str = "http://loinc.org";

fn rule(code: &str) -> Value {
    json!({"coding": [{"system": ACT_CODE, "code": code}]})
}

/// A consent that cites a policy and says nothing else.
fn citing(members: Value) -> Value {
    let mut document = consent(members);
    document.as_object_mut().expect("a document").remove("provision");
    document
}

#[test]
fn a_permit_below_a_denial_does_not_leave_the_root_that_it_stands_in() {
    let opened = json!({"type": "permit", "class": [{"code": "Observation"}]});
    let denial = json!({"type": "deny", "actor": [{"role": {"coding": [{"code": "PRCP"}]},
        "reference": {"reference": "Practitioner/other"}}], "provision": [opened]});
    let purpose = json!([{"system": ACT_REASON, "code": "TREAT"}]);
    let document = |nested: Value| {
        consent(json!({"policyRule": rule("OPTOUT"), "provision": {"purpose": purpose, "provision": [nested]}}))
    };
    let policy = policy(json!({"untypedRoot": "exception"}));
    let mut request = asks("Practitioner/a");
    request["resource"]["class"] = json!(["Observation"]);
    request["purpose"] = json!("HMARKT");
    assert_eq!(answer(&document(denial.clone()), &policy, &request), "Consent.provision.provision[0].provision[0]");
    let mut alone = denial;
    alone.as_object_mut().expect("a provision").remove("provision");
    assert_eq!(answer(&document(alone.clone()), &policy, &request), "DENY");
    request["purpose"] = json!("TREAT");
    assert_eq!(answer(&document(alone), &policy, &request), "PERMIT", "what the root grants");
}

#[test]
fn a_declared_system_excuses_codes_of_its_own_only() {
    let policy = policy(json!({"basePolicy": "all-normal", "codeSystems": [{"url": "urn:x"}]}));
    let but_for = |denied: Value| consent(json!({"provision": {"type": "permit", "provision": [denied]}}));
    for (denied, field) in [
        (json!({"type": "deny", "purpose": [{"system": ACT_REASON, "code": "TREATMENT"}]}), "purpose[0]"),
        (
            json!({"type": "deny", "action": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "read"}]}]}),
            "action[0]",
        ),
    ] {
        let found = answer(&but_for(denied), &policy, &asks("Practitioner/a"));
        assert!(found.starts_with("Consent.provision.provision[0]") && found.contains(field), "{found}");
    }
    let own = json!({"type": "deny", "purpose": [{"system": "urn:x", "code": "anything"}]});
    assert_eq!(answer(&but_for(own), &policy, &asks("Practitioner/a")), "PERMIT", "nobody asks for that");
}

#[test]
fn a_denial_of_a_code_that_its_system_cannot_have_is_refused() {
    let policy = policy(json!({"basePolicy": "all-normal"}));
    let code =
        |system: &str, code: &str| json!({"type": "deny", "code": [{"coding": [{"system": system, "code": code}]}]});
    let class = |system: &str, code: &str| json!({"type": "deny", "class": [{"system": system, "code": code}]});
    for denied in [
        code(LOINC, "34133\u{2013}9"),
        code(LOINC, "34133\u{2011}9"),
        code(LOINC, "34133_9"),
        code(LOINC, "3413-39"),
        code("http://snomed.info/sct", "3834100E"),
        class(LOINC, "34133\u{2013}9"),
        class("urn:ietf:rfc:3986", "http://hl7.org/fhir/StructureDefinition/Observation"),
        json!({"type": "deny", "securityLabel": [{"system": ACT_CODE, "code": "_InformationSensitivityPolicy"}]}),
    ] {
        let document = consent(json!({"provision": {"type": "permit", "provision": [denied]}}));
        let found = answer(&document, &policy, &asks("Practitioner/a"));
        assert!(found.starts_with("Consent.provision.provision[0]"), "{denied}: {found}");
    }
    let good = consent(json!({"provision": {"type": "permit", "provision": [code(LOINC, "34133-9")]}}));
    assert!(["PERMIT", "DENY"].contains(&answer(&good, &policy, &asks("Practitioner/a")).as_str()));
}

#[test]
fn what_is_unknown_beside_a_cited_permit_takes_it_away() {
    let cites = policy(json!({"citedPolicies": [{"uri": "http://a|1.0", "decision": "permit"}]}));
    let request = asks("Practitioner/a");
    assert_eq!(answer(&citing(json!({"policy": [{"uri": "http://a|1.0"}]})), &cites, &request), "PERMIT");
    for members in [
        json!({"policy": [{"uri": "http://a|1.0"}], "policyRule": {"text": "in an emergency"}}),
        json!({"policy": [{"uri": "http://a|1.0"}], "policyRule": {"id": "x"}}),
        json!({"policy": [{"uri": "http://a|1.0"}, {"authority": "http://b"}]}),
        json!({"policy": [{"uri": "http://a|2.0"}]}),
        json!({"policy": [{"uri": "http://a"}]}),
        json!({"policyRule": rule("OPTIN"), "policy": [{"authority": "http://b"}]}),
    ] {
        let found = answer(&citing(members.clone()), &cites, &request);
        assert!(found.starts_with("Consent.policy"), "{members}: {found}");
    }
    let any_version = policy(json!({"citedPolicies": [{"uri": "http://a", "decision": "permit"}]}));
    assert_eq!(answer(&citing(json!({"policy": [{"uri": "http://a|2.0"}]})), &any_version, &request), "PERMIT");
}

#[test]
fn a_rule_for_emergencies_only_restricts_a_permit_that_states_its_type() {
    let request = asks("Practitioner/a");
    for provision in [json!({"type": "permit"}), json!({"type": "deny", "provision": [{"type": "permit"}]})] {
        let document = |code: &str| consent(json!({"policyRule": rule(code), "provision": provision}));
        assert_eq!(answer(&document("EMRGONLY"), &policy(json!({})), &request), "Consent.policyRule.coding[0]");
        assert_eq!(answer(&document("OPTIN"), &policy(json!({})), &request), "PERMIT");
    }
    let emergencies =
        json!({"system": "http://terminology.hl7.org/CodeSystem/consentcategorycodes", "code": "emrgonly"});
    for coding in [emergencies, json!({"code": "emrgonly"}), json!({"code": "EMRGONLY"})] {
        let document = consent(json!({"policyRule": {"coding": [coding]}, "provision": {"type": "permit"}}));
        assert_eq!(answer(&document, &policy(json!({})), &request), "Consent.policyRule.coding[0]");
    }
    let denial = consent(json!({"policyRule": rule("EMRGONLY"), "provision": {"type": "deny"}}));
    assert_eq!(answer(&denial, &policy(json!({})), &request), "DENY");
}

#[test]
fn an_opt_out_permits_by_its_exceptions_only_wherever_it_stands() {
    let request = asks("Practitioner/a");
    let permits = json!({"type": "permit"});
    let excepts = json!({"type": "deny", "provision": [{"type": "permit"}]});
    for code in ["OPTOUT", "OPTOUTE", "optout"] {
        let document = |provision: &Value| consent(json!({"policyRule": rule(code), "provision": provision}));
        assert_eq!(answer(&document(&permits), &policy(json!({})), &request), "Consent.policyRule.coding[0]");
        assert_eq!(answer(&document(&excepts), &policy(json!({})), &request), "PERMIT", "the exception");
    }
}

#[test]
fn the_basis_of_an_r5_consent_restricts_it_like_a_policy_rule() {
    let request = asks("Practitioner/a");
    let document = |decision: &str, code: &str| {
        json!({"resourceType": "Consent", "status": "active", "subject": {"reference": "Patient/ex-patient"}, "decision": decision,
            "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}], "regulatoryBasis": [rule(code)]})
    };
    for code in ["EMRGONLY", "OPTOUT", "OPTOUTE"] {
        let found = answer(&document("permit", code), &policy(json!({})), &request);
        assert_eq!(found, "Consent.regulatoryBasis[0].coding[0]", "{code}");
        assert_eq!(answer(&document("deny", code), &policy(json!({})), &request), "DENY");
    }
    assert_eq!(answer(&document("permit", "OPTIN"), &policy(json!({})), &request), "PERMIT");
}

#[test]
fn a_bare_name_is_no_role_that_a_certificate_bears() {
    let permit = json!({"type": "permit", "actor": [{"role": {"coding": [{"code": "PRCP"}]}, "reference": {"reference": "mercy"}}]});
    let mut request = asks("Practitioner/a");
    request["actor"]["role"] = json!("mercy");
    assert_eq!(answer(&consent(json!({"provision": permit})), &policy(json!({})), &request), "DENY");
    request["actor"]["mspId"] = json!("mercy");
    assert_eq!(answer(&consent(json!({"provision": permit})), &policy(json!({})), &request), "PERMIT");
}
