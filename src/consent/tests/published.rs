//! Examples that HL7 and IHE published, each with the page it stands on and the result that the page states.
//!
//! PCF: IHE ITI Privacy Consent on FHIR 1.1, <https://profiles.ihe.net/ITI/PCF/>, one page per example
//! (`Consent-ex-consent-….html`, its `#notes` hold the access token with the residual rules). FHIR:
//! <https://hl7.org/fhir/R5/consent.html> and <https://hl7.org/fhir/R4/consent.html>, examples. BALP: IHE ITI Basic Audit
//! Log Patterns, <https://profiles.ihe.net/ITI/BALP/>, `AuditEvent-ex-auditAuthZconsent*.html`.
//!
//! Not among them: HL7's examples whose actor is the custodian of the data (role CST: notAuthor, Emergency's inner
//! rule, grantor). A request says who asks, not who keeps the record, so nothing here could match that role.

use serde_json::{Value, json};

use super::generate::{codings, consent};
use super::{decide, policy};
use crate::context::ProvisionContext;
use crate::vocabulary::code_systems::{ACT_CODE, ACT_REASON, CONFIDENTIALITY, CONSENT_ACTION, PARTICIPATION_TYPE};
use crate::vocabulary::{FhirVersion, PolicySpec};
use crate::{Policy, export, fhir, validate};

/// A PCF example: the root permits treatment, payment and operations, and says besides what `members` say.
fn pcf(members: Value) -> Value {
    let mut provision = json!({"type": "permit", "purpose": codings(ACT_REASON, &["TREAT", "HPAYMT", "HOPERAT"])});
    for (name, value) in members.as_object().expect("members") {
        provision[name] = value.clone();
    }
    consent(json!({
        "meta": {"security": codings(ACT_REASON, &["HTEST"])},
        "scope": {"coding": codings("http://terminology.hl7.org/CodeSystem/consentscope", &["patient-privacy"])},
        "category": [{"coding": codings("http://loinc.org", &["59284-0"])}],
        "performer": [{"reference": "Patient/ex-patient"}],
        "organization": [{"reference": "Organization/ex-organization"}],
        "sourceReference": {"reference": "DocumentReference/ex-documentreference"},
        "policy": [{"uri": "http://example.org/policies/basePrivacyConsentPolicy.txt"}],
        "provision": provision,
    }))
}

fn actor(reference: &str) -> Value {
    json!([{"role": {"coding": codings(PARTICIPATION_TYPE, &["IRCP"])}, "reference": {"reference": reference}}])
}

fn labels(codes: &[&str]) -> Value {
    codings(CONFIDENTIALITY, codes)
}

fn sensitive(codes: &[&str]) -> Value {
    codings(ACT_CODE, codes)
}

fn data(meaning: &str, reference: &str) -> Value {
    json!([{"meaning": meaning, "reference": {"reference": reference}}])
}

/// A request by a clinician of the example's organisation for treatment, about whatever records there are.
fn treat(id: &str) -> Value {
    json!({"patient": "Patient/ex-patient", "actor": {"id": id, "mspId": "ExMSP"}, "purpose": "TREAT"})
}

fn with(mut request: Value, name: &str, value: Value) -> Value {
    request[name] = value;
    request
}

/// Checks the decision and the residual rules as the page states them; also of the consent that comes back when it was
/// the template of a policy (C13).
fn states(page: &str, consent: Value, request: Value, decision: &str, residual: Value) {
    let back = there_and_back(page, &consent);
    let result = decide(&[consent], &Policy::default(), &request);
    let after = decide(&[back], &Policy::default(), &request);
    assert_eq!((&after["decision"], &after["residual"]), (&result["decision"], &result["residual"]), "{page}: {after}");
    assert_eq!(result["decision"], decision, "{page}: {result}");
    assert_eq!(result["residual"], residual, "{page}");
}

/// Consent, then policy as the API server has it, then consent of the same patient.
fn there_and_back(page: &str, consent: &Value) -> Value {
    let read = fhir::read(consent, None, &ProvisionContext::default()).expect("a consent");
    let period = consent.get("period").map(|period| serde_json::from_value(period.clone()).expect("a period"));
    let under: PolicySpec =
        serde_json::from_value(json!({"codeSystems": [{"url": "http://example.org/policies/purposeOfUse"}]}))
            .expect("a spec");
    let policy = validate(&under).expect("a policy");
    let spec = export::policy(&read, &under, &policy, period).expect(page);
    let stored: PolicySpec = serde_json::from_value(json!(spec)).expect("a spec");
    export::consent(&stored, &read.patient.expect("a patient").key, FhirVersion::R4).expect("R4")
}

#[test]
fn pcf_basic() {
    let page = "Consent-ex-consent-basic-treat.html";
    states(page, pcf(json!({})), treat("Practitioner/ex-practitioner"), "PERMIT", json!([]));
    let research = with(treat("Practitioner/ex-practitioner"), "purpose", json!("HRESCH"));
    states(page, pcf(json!({})), research, "DENY", json!([]));
    let page = "Consent-ex-consent-basic-ink.html: a scan of a signed paper, processed exactly as basic-treat";
    let scan = json!({"reference": "DocumentReference/ex-consent-ink"});
    let ink = with(pcf(json!({})), "sourceReference", scan);
    states(page, ink, treat("Practitioner/ex-practitioner"), "PERMIT", json!([]));
    let page = "Consent-ex-consent-basic-reject.html";
    states(page, pcf(json!({"type": "deny"})), treat("Practitioner/ex-practitioner"), "DENY", json!([]));
    let page = "Consent-ex-consent-expired-treat.html";
    states(
        page,
        pcf(json!({"period": {"end": "2022-12-31"}})),
        treat("Practitioner/ex-practitioner"),
        "DENY",
        json!([]),
    );
    states(
        page,
        pcf(json!({"period": {"end": "2026-11-23"}})),
        treat("Practitioner/ex-practitioner"),
        "PERMIT",
        json!([]),
    );
}

#[test]
fn pcf_basic_research_permits_no_treatment() {
    let page = "Consent-ex-consent-basic-research.html";
    let research = pcf(json!({"purpose": codings(ACT_REASON, &["HRESCH"])}));
    states(page, research.clone(), treat("Practitioner/ex-practitioner"), "DENY", json!([]));
    states(page, research, with(treat("Practitioner/x"), "purpose", json!("HRESCH")), "PERMIT", json!([]));
}

#[test]
fn pcf_intermediate_root_restrictions_forbid_all_else() {
    let year = json!({"start": "2022-01-01", "end": "2022-12-31"});
    let author = data("authoredby", "http://example.org/fhir/Practitioner/ex-practitioner");
    let encounter = data("related", "Encounter/ex-encounter");
    let named = data("instance", "Observation/ex-alcoholUse");
    for (page, name, value) in [
        ("Consent-ex-consent-intermediate-timeframe.html", "dataPeriod", year),
        ("Consent-ex-consent-intermediate-authoredby.html", "data", author),
        ("Consent-ex-consent-intermediate-encounter.html", "data", encounter),
        ("Consent-ex-consent-intermediate-data.html", "data", named),
    ] {
        let residual = json!([{"effect": "deny"}, {"effect": "permit", name: value}]);
        states(page, pcf(json!({name: value})), treat("Practitioner/x"), "PERMIT", residual);
    }
}

#[test]
fn pcf_intermediate_exceptions_forbid_only_themselves() {
    let year = json!({"start": "2022-01-01", "end": "2022-12-31"});
    let author = data("authoredby", "Practitioner/ex-practitioner");
    let encounter = data("related", "Encounter/ex-encounter");
    let named = data("instance", "Observation/ex-alcoholUse");
    for (page, name, value) in [
        ("Consent-ex-consent-intermediate-not-timeframe.html", "dataPeriod", year),
        ("Consent-ex-consent-intermediate-not-authoredby.html", "data", author),
        ("Consent-ex-consent-intermediate-not-encounter.html", "data", encounter),
        ("Consent-ex-consent-intermediate-not-data.html", "data", named),
    ] {
        let exception = json!({"provision": [{"type": "deny", name: value}]});
        let residual = json!([{"effect": "permit"}, {"effect": "deny", name: value}]);
        states(page, pcf(exception), treat("Practitioner/x"), "PERMIT", residual);
    }
}

#[test]
fn pcf_intermediate_search_set_loses_the_named_observation() {
    // Volume 3, 3:5.8.3.1: of a search set, the observation that the consent names is removed.
    let exception = json!({"provision": [{"type": "deny", "data": data("instance", "Observation/1")}]});
    for (id, decision) in [("Observation/1", "DENY"), ("Observation/2", "PERMIT")] {
        let request = with(treat("Practitioner/x"), "resource", json!({"id": id}));
        states("content.html#intermediate", pcf(exception.clone()), request, decision, json!([]));
    }
}

#[test]
fn pcf_intermediate_purpose_is_for_one_organisation() {
    let page = "Consent-ex-consent-intermediate-purpose.html";
    let purpose = codings("http://example.org/policies/purposeOfUse", &["FooBar"]);
    let consent = pcf(json!({"purpose": purpose, "actor": actor("Organization/ex-org-researcher")}));
    let member = json!({"actor": {"groups": ["Organization/ex-org-researcher"]}, "purpose": "FooBar"});
    states(page, consent.clone(), member.clone(), "PERMIT", json!([]));
    states(page, consent.clone(), with(member, "purpose", json!("TREAT")), "DENY", json!([]));
    states(page, consent, json!({"actor": {"id": "Practitioner/x"}, "purpose": "FooBar"}), "DENY", json!([]));
}

#[test]
fn pcf_dissent_leaves_break_glass() {
    let page = "Consent-ex-dissent-intermediate-break-glass.html";
    let nested = json!([{"type": "permit", "purpose": codings(ACT_REASON, &["BTG"]), "actor": actor("Group/ex-privilegedUsers")}]);
    let dissent = consent(json!({"provision": {"type": "deny", "provision": nested}}));
    let privileged = json!({"id": "Practitioner/ex-practitioner", "groups": ["Group/ex-privilegedUsers"]});
    let request =
        |actor: &Value, purpose: &str| json!({"patient": "Patient/ex-patient", "actor": actor, "purpose": purpose});
    states(page, dissent.clone(), request(&privileged, "TREAT"), "DENY", json!([]));
    states(page, dissent.clone(), request(&json!({"id": "Practitioner/x"}), "BTG"), "DENY", json!([]));
    states(page, dissent.clone(), request(&privileged, "BTG"), "PERMIT", json!([]));
    let result = decide(&[dissent], &Policy::default(), &request(&privileged, "BTG"));
    assert_eq!(result["basis"], "breakglass");
    assert_eq!(result["matchedPath"], "provision.provision[0]");
}

#[test]
fn pcf_advanced_normal_and_restricted() {
    let page = "Consent-ex-consent-advanced-normal.html";
    let normal = json!([{"effect": "deny"}, {"effect": "permit", "securityLabel": labels(&["N"])}]);
    states(page, pcf(json!({"securityLabel": labels(&["N"])})), treat("Practitioner/x"), "PERMIT", normal.clone());

    let page = "Consent-ex-consent-advanced-normal-restricted.html";
    let both = json!([{"effect": "deny"}, {"effect": "permit", "securityLabel": labels(&["N", "R"])}]);
    states(page, pcf(json!({"securityLabel": labels(&["N", "R"])})), treat("Practitioner/x"), "PERMIT", both);

    let page = "Consent-ex-consent-advanced-normal-not-restricted.html";
    let deny = json!([{"type": "deny", "securityLabel": labels(&["R"])}]);
    let residual =
        json!([normal[0], normal[1], {"effect": "deny", "securityLabel": labels(&["R"]), "unclearLabels": true}]);
    states(
        page,
        pcf(json!({"securityLabel": labels(&["N"]), "provision": deny})),
        treat("Practitioner/x"),
        "PERMIT",
        residual,
    );
}

#[test]
fn pcf_advanced_focused_on_one_practitioner() {
    let normal = json!([{"effect": "deny"}, {"effect": "permit", "securityLabel": labels(&["N"])}]);
    for (page, codes) in [
        ("Consent-ex-consent-advanced-normal-focused-psy.html", sensitive(&["PSY"])),
        ("Consent-ex-consent-advanced-normal-focused-psy-or-sdv.html", sensitive(&["PSY", "SDV"])),
        ("Consent-ex-consent-advanced-normal-focused-restricted.html", labels(&["R"])),
    ] {
        let nested =
            json!([{"type": "permit", "securityLabel": codes, "actor": actor("Practitioner/ex-practitioner")}]);
        let consent = pcf(json!({"securityLabel": labels(&["N"]), "provision": nested}));
        states(page, consent.clone(), treat("Practitioner/x"), "PERMIT", normal.clone());
        let residual = json!([normal[0], normal[1], {"effect": "permit", "securityLabel": codes}]);
        states(page, consent, treat("Practitioner/ex-practitioner"), "PERMIT", residual);
    }
}

#[test]
fn pcf_advanced_break_glass_reaches_restricted_data() {
    let page = "Consent-ex-consent-advanced-normal-break-glass-restricted.html";
    let nested = json!([{
        "type": "permit", "purpose": codings(ACT_REASON, &["BTG"]), "securityLabel": labels(&["R"]),
        "actor": actor("Group/ex-privilegedUsers"),
    }]);
    let consent = pcf(json!({"securityLabel": labels(&["N"]), "provision": nested}));
    let normal = json!([{"effect": "deny"}, {"effect": "permit", "securityLabel": labels(&["N"])}]);
    states(page, consent.clone(), treat("Practitioner/x"), "PERMIT", normal);
    let privileged = json!({"groups": ["Group/ex-privilegedUsers"]});
    for (label, decision) in [("N", "PERMIT"), ("R", "PERMIT"), ("V", "DENY")] {
        let request = json!({"actor": privileged, "purpose": "BTG", "resource": {"securityLabels": [label]}});
        states(page, consent.clone(), request, decision, json!([]));
    }
}

#[test]
fn pcf_implicit_policies() {
    // Volume 1, 1:53.2.1: what holds where there is no consent.
    let actor = json!({"id": "Practitioner/x", "attributes": {"ehr.breakglass": "true"}});
    for (base, treatment, payment, break_glass) in [
        ("basic-normal", "PERMIT", "DENY", "DENY"),
        ("all-normal", "PERMIT", "PERMIT", "DENY"),
        ("break-glass-only", "DENY", "DENY", "PERMIT"),
        ("deny", "DENY", "DENY", "DENY"),
    ] {
        let policy = policy(json!({"basePolicy": base}));
        for (purpose, expected) in [("TREAT", treatment), ("HPAYMT", payment), ("BTG", break_glass)] {
            let request = json!({"actor": actor, "purpose": purpose, "breakGlass": {"justification": "unconscious"}});
            assert_eq!(decide(&[], &policy, &request)["decision"], expected, "{base} {purpose}");
        }
    }
}

/// An HL7 example of R5, opt-in, with these exceptions.
fn fhir_r5(exceptions: Value) -> Value {
    json!({
        "resourceType": "Consent", "status": "active", "subject": {"reference": "Patient/f001"}, "date": "2018-12-28",
        "category": [{"coding": codings("http://loinc.org", &["59284-0"])}],
        "controller": [{"reference": "Organization/f001"}],
        "regulatoryBasis": [{"coding": codings(ACT_CODE, &["INFA"])}],
        "decision": "permit",
        "provision": exceptions,
    })
}

#[test]
fn fhir_r5_exceptions_deny() {
    let read =
        json!([{"coding": codings(CONSENT_ACTION, &["access"])}, {"coding": codings(CONSENT_ACTION, &["correct"])}]);
    let request = |actor: &str, resource: Value| json!({"actor": {"id": actor}, "action": "access", "purpose": "TREAT", "resource": resource});

    let page = "consent-example-notOrg.html";
    let exception = json!([{"actor": actor("Organization/f001"), "action": read}]);
    states(page, fhir_r5(exception.clone()), request("Organization/f001", json!({})), "DENY", json!([]));
    // Of whom neither MSP nor groups are known may be of the organisation: it was PERMIT for everybody.
    states(page, fhir_r5(exception.clone()), request("Practitioner/f202", json!({})), "DENY", json!([]));
    let mut of_no_group = request("Practitioner/f202", json!({}));
    of_no_group["actor"]["groups"] = json!([]);
    states(page, fhir_r5(exception), of_no_group, "PERMIT", json!([]));

    let page = "consent-example-notThis.html";
    let exception = json!([{"data": data("related", "Task/example3")}]);
    let residual = json!([{"effect": "permit"}, {"effect": "deny", "data": data("related", "Task/example3")}]);
    states(
        page,
        fhir_r5(exception.clone()),
        request("Practitioner/f202", json!({"id": "Task/example3"})),
        "DENY",
        json!([]),
    );
    states(page, fhir_r5(exception), request("Practitioner/f202", json!({"id": "Task/other"})), "PERMIT", residual);

    let page = "consent-example-notThem.html: no access for the nurse who is the patient's ex-spouse";
    let exception = json!([{"actor": actor("Practitioner/f204"), "action": read}]);
    states(page, fhir_r5(exception.clone()), request("Practitioner/f204", json!({})), "DENY", json!([]));
    states(page, fhir_r5(exception), request("Practitioner/f202", json!({})), "PERMIT", json!([]));

    let page = "consent-example-notTime.html: the time frame holds back, and has passed";
    let exception = json!([{"period": {"start": "2015-01-01", "end": "2015-02-01"}}]);
    states(page, fhir_r5(exception), request("Practitioner/f202", json!({})), "PERMIT", json!([]));
}

#[test]
fn fhir_r4_opts_in_and_out_by_policy_rule() {
    let by_rule = |code: &str, provision: Value| {
        consent(json!({"policyRule": {"coding": codings(ACT_CODE, &[code])}, "provision": provision}))
    };
    let request = json!({"actor": {"id": "Practitioner/x"}, "action": "access", "purpose": "TREAT"});
    let page = "R4 consent-example-basic.html: opt-in within a period";
    states(
        page,
        by_rule("OPTIN", json!({"period": {"start": "1964-01-01", "end": "2046-01-01"}})),
        request.clone(),
        "PERMIT",
        json!([]),
    );
    let page = "R4 consent-example-Out.html: opt-out";
    // Whether the root says what is withheld or what is excepted cannot be told from it (4.6.1d): it was DENY, and is refused.
    let none = json!({"actor": actor("Practitioner/x"), "action": [{"coding": codings(CONSENT_ACTION, &["access"])}]});
    let refused = fhir::read(&by_rule("OPTOUT", none), None, &ProvisionContext::default()).expect_err(page);
    assert_eq!(refused[0].field, "Consent.provision.type");
    let page = "R4 consent-example-Emergency.html: opt-out except for emergency treatment";
    let except = json!({"provision": [{"type": "permit", "purpose": codings(ACT_REASON, &["ETREAT"])}]});
    states(page, by_rule("OPTOUT", except.clone()), request.clone(), "DENY", json!([]));
    states(page, by_rule("OPTOUT", except), with(request, "purpose", json!("ETREAT")), "PERMIT", json!([]));
}

#[test]
fn fhir_withholds_laboratory_and_hiv_data() {
    // FHIR source/consent: use-case 1 of the Canadian examples, and the same with a security label.
    let resource_types = |codes: &[&str]| codings("http://hl7.org/fhir/resource-types", codes);
    let read =
        json!([{"coding": codings(CONSENT_ACTION, &["access"])}, {"coding": codings(CONSENT_ACTION, &["correct"])}]);
    let request = |resource: Value| json!({"action": "access", "purpose": "TREAT", "resource": resource});
    let opt_in = |exception: Value| consent(json!({"provision": {"type": "permit", "provision": [exception]}}));

    let page = "consent-example-notLabs.html";
    let labs = resource_types(&["DiagnosticReport", "Observation"]);
    let exception = json!({"type": "deny", "action": read, "class": labs});
    for (class, decision) in [("DiagnosticReport", "DENY"), ("Observation", "DENY"), ("Condition", "PERMIT")] {
        states(page, opt_in(exception.clone()), request(json!({"class": class})), decision, json!([]));
    }
    let open = json!([{"effect": "permit"}, {"effect": "deny", "class": labs}]);
    states(page, opt_in(exception), request(json!({})), "PERMIT", open);

    let page = "consent-example-notSecLabel.html";
    let hiv = codings("http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy", &["HIV"]);
    let exception = json!({"type": "deny", "action": read, "securityLabel": hiv});
    for (label, decision) in [("HIV", "DENY"), ("N", "PERMIT")] {
        states(page, opt_in(exception.clone()), request(json!({"securityLabels": [label]})), decision, json!([]));
    }
}

#[test]
fn fhir_opts_out_but_for_one_organisation_or_what_the_patient_shares() {
    let page = "consent-example-OrgToOrg.html: blocked by default, disclosed to one organisation";
    let action = json!([{"coding": codings(CONSENT_ACTION, &["disclose"])}]);
    let nested = json!([{"type": "permit", "actor": actor("Organization/f203"), "action": action}]);
    let blocked = consent(json!({"provision": {"type": "deny", "provision": nested}}));
    for (who, action, decision) in [
        ("Organization/f203", "disclose", "PERMIT"),
        ("Organization/f203", "use", "DENY"),
        ("Organization/f001", "disclose", "DENY"),
    ] {
        states(page, blocked.clone(), json!({"actor": {"id": who}, "action": action}), decision, json!([]));
    }

    let page = "consent-example-pkb.html: nothing but normal, mental health and sexual health data for one team";
    let shared = [labels(&["N"]), sensitive(&["PSY"]), sensitive(&["SEX"])].map(|label| {
        let action = json!([{"coding": codings(CONSENT_ACTION, &["access"])}]);
        json!({"type": "permit", "actor": actor("Organization/f001"), "action": action, "securityLabel": label})
    });
    let consent = consent(json!({"provision": {"type": "deny", "provision": shared}}));
    for (labels, decision) in [
        (json!(["N"]), "PERMIT"),
        (json!(["R", "PSY"]), "PERMIT"),
        (json!(["R", "HIV"]), "DENY"),
        (json!(["R"]), "DENY"),
    ] {
        let team = json!({"actor": {"groups": ["Organization/f001"]}, "action": "access", "resource": {"securityLabels": labels}});
        states(page, consent.clone(), team.clone(), decision, json!([]));
        states(page, consent.clone(), with(team, "actor", json!({"id": "Practitioner/x"})), "DENY", json!([]));
    }
}

#[test]
fn balp_decisions_say_why() {
    // AuditEvent-ex-auditAuthZconsent.html (PATRQT, permitted) and -deny.html ("Consent denied access to this user").
    let request = with(treat("Practitioner/ex-practitioner"), "purpose", json!("PATRQT"));
    let permit = decide(&[pcf(json!({"purpose": codings(ACT_REASON, &["PATRQT"])}))], &Policy::default(), &request);
    assert_eq!((&permit["decision"], &permit["basis"]), (&json!("PERMIT"), &json!("consent")));
    let nested = json!([{"type": "deny", "actor": actor("Practitioner/ex-practitioner")}]);
    let consent = pcf(json!({"purpose": codings(ACT_REASON, &["PATRQT"]), "provision": nested}));
    let deny = decide(&[consent], &Policy::default(), &request);
    assert_eq!((&deny["decision"], &deny["reason"]), (&json!("DENY"), &json!("provision-denies")));
    assert_eq!(deny["matchedPath"], "provision.provision[0]");
    assert_eq!(deny["consentDigest"].as_str().map(str::len), Some(64));
}
