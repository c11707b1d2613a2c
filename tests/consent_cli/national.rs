//! Consents in the forms of nations: documents in their shapes, read with the policies that `docs/consents-national.md` gives.

use super::check::{folder, manifest, run};
use super::*;

#[test]
fn an_import_takes_what_the_policy_takes_for_a_consent_to_disclosure() {
    let system = "http://snomed.info/sct";
    let mut consent = permit_all();
    consent["category"] = json!([{"coding": codes(system, &["887031000000108"])}]);
    let taking = json!({
        "codeSystems": [{"url": system, "codes": ["887031000000108"]}],
        "category": [{"system": system, "code": "887031000000108"}],
    });
    let request = json!({"actor": {"id": "Practitioner/7"}, "purpose": "TREAT"});
    assert_eq!(decision(std::slice::from_ref(&consent), Some(taking.clone()), request.clone()), "PERMIT");
    let other = json!({"codeSystems": taking["codeSystems"]});
    for (policy, taken) in [(&taking, true), (&other, false)] {
        let folder = folder(&[("consent.json", consent.to_string().into_bytes()), ("policy.json", manifest(policy))]);
        let imported = run(&["import", "consent.json", "--name", "national", "--policy", "policy.json"], &folder);
        let said = String::from_utf8_lossy(&imported.stderr);
        assert_eq!(imported.status.success(), taken, "{said}");
        if !taken {
            assert!(said.contains("Consent.category: is not one of consents to the disclosure of records"), "{said}");
            continue;
        }
        std::fs::write(folder.path().join("imported.yaml"), &imported.stdout).expect("written");
        let exported = run(&["export", "imported.yaml", "--patient", "Patient/1"], &folder);
        let back: Value = serde_json::from_slice(&exported.stdout).expect("JSON");
        assert_eq!(decision(&[back], Some(taking.clone()), request.clone()), "PERMIT");
    }
}

/// The recipe under a heading of the page.
fn recipe(heading: &str) -> Value {
    let page = include_str!("../../docs/consents-national.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let yaml = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a recipe");
    serde_yaml::from_str(yaml).expect("YAML")
}

fn ask(consent: &Value, policy: &Value, change: impl Fn(&mut Value)) -> String {
    let resource = json!({"id": "Observation/o1", "class": ["Observation"], "codes": [], "securityLabels": ["N"], "author": ["Organization/mercy"]});
    let mut request = json!({
        "patient": "Patient/1", "actor": {"id": "Practitioner/7", "mspId": "LakesideMSP", "role": "physician"},
        "action": "access", "purpose": "TREAT", "resource": resource,
    });
    change(&mut request);
    decision(std::slice::from_ref(consent), Some(policy.clone()), request)
}

fn refused(consent: &Value, policy: &Value) -> String {
    Run::new().consent(consent).policy(policy).request(&json!({"actor": {"id": "Practitioner/7"}})).refusal()
}

#[test]
fn the_german_broad_consent_permits_its_modules_in_their_periods() {
    let (policy, system) = (recipe("German"), "urn:oid:2.16.840.1.113883.3.1937.777.24.5.3");
    let module = |code: &str, end: &str| json!({"type": "permit", "period": {"end": end}, "code": [{"coding": codes(system, &[&format!("2.16.840.1.113883.3.1937.777.24.5.3.{code}")])}]});
    let of = |modules: Value| {
        let root = json!({"type": "deny", "period": {"start": "2020-09-01", "end": "2050"}, "provision": modules});
        member(r4(root), "scope", scope("research"))
    };
    let given = of(json!([module("8", "2050"), module("22", "2025"), module("6", "2050")]));
    let research = |class: &'static str| {
        move |request: &mut Value| {
            request["purpose"] = json!("HRESCH");
            request["resource"]["class"] = json!([class]);
        }
    };
    assert_eq!(ask(&given, &policy, research("Observation")), "PERMIT");
    assert_eq!(ask(&given, &policy, research("Specimen")), "DENY", "its module has ended");
    assert_eq!(ask(&given, &policy, research("Media")), "DENY");
    assert_eq!(ask(&given, &policy, |_| {}), "DENY", "research is no treatment");
    assert_eq!(ask(&of(json!([module("6", "2050")])), &policy, research("Observation")), "DENY");
}

#[test]
fn the_swiss_record_is_opened_by_levels_and_situations() {
    let policy = recipe("Swiss");
    let (purposes, roles, levels) =
        ("urn:oid:2.16.756.5.30.1.127.3.10.5", "urn:oid:2.16.756.5.30.1.127.3.10.6", "urn:ietf:rfc:3986");
    let granted = |level: &str, situation: &str| {
        let professional = json!({"system": "urn:oid:2.51.1.3", "value": "7600000000123"});
        let root = json!({
            "period": {"end": "2027"}, "purpose": codes(purposes, &[situation]),
            "actor": [{"role": {"coding": codes(roles, &["HCP"])}, "reference": {"identifier": professional}}],
        });
        let level = format!("urn:e-health-suisse:2015:policies:access-level:{level}");
        let mut consent = member(r4(root), "policyRule", json!({"coding": codes(levels, &[&level])}));
        consent["category"] = json!([{"coding": codes(ACT_CODE, &["INFA"])}]);
        consent
    };
    let professional = |purpose: &'static str| {
        move |request: &mut Value| {
            request["purpose"] = json!(purpose);
            request["actor"]["identifiers"] = json!([{"system": "urn:oid:2.51.1.3", "value": "7600000000123"}]);
        }
    };
    assert_eq!(ask(&granted("full", "NORM"), &policy, professional("TREAT")), "PERMIT");
    assert_eq!(ask(&granted("full", "NORM"), &policy, professional("ETREAT")), "DENY");
    assert_eq!(ask(&granted("full", "EMER"), &policy, professional("ETREAT")), "PERMIT");
    assert_eq!(ask(&granted("full", "AUTO"), &policy, professional("TREAT")), "DENY");
    assert_eq!(ask(&granted("full", "NORM"), &policy, |_| {}), "DENY", "somebody else");
    for level in ["normal", "restricted", "no-access"] {
        assert!(refused(&granted(level, "NORM"), &policy).contains("no computable base"), "{level}");
    }
}

#[test]
fn the_dutch_exchange_names_the_recipient_and_bundles_of_kinds() {
    let policy = recipe("Dutch");
    let kinds = json!([{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}, {"system": "urn:oid:1.3.6.1.4.1.54851.1", "code": "MEDICAL"}]);
    let nested = |effect: &str| {
        let root = json!({
            "period": {"end": "2027"}, "actor": [{"reference": {"reference": "Organization/clinic"}}],
            "provision": [{"type": effect, "class": kinds}],
        });
        member(r4(root), "policyRule", json!({"coding": [{"code": "OPTIN"}]}))
    };
    let of_class = |class: &'static str| {
        move |request: &mut Value| {
            request["actor"]["groups"] = json!(["Organization/clinic"]);
            request["resource"]["class"] = json!([class]);
        }
    };
    for (class, expected) in
        [("Observation", "PERMIT"), ("Condition", "PERMIT"), ("MedicationRequest", "PERMIT"), ("Media", "DENY")]
    {
        assert_eq!(ask(&nested("permit"), &policy, of_class(class)), expected, "{class}");
    }
    assert_eq!(ask(&nested("permit"), &policy, |_| {}), "DENY", "another recipient");
    assert!(refused(&nested("deny"), &policy).contains("Consent.provision.type: is required"));
}

#[test]
fn the_shared_record_of_new_zealand_has_a_category_of_its_own() {
    let policy = recipe("New Zealand");
    let mut consent = r4(json!({"type": "permit", "action": [{"coding": [{"code": "access"}]}]}));
    consent["category"] = json!([{"coding": codes("http://snomed.info/sct", &["887031000000108"])}]);
    assert_eq!(ask(&consent, &policy, |_| {}), "PERMIT");
    assert_eq!(ask(&consent, &json!({}), |_| {}), "DENY", "to other policies it is unknown");
    assert_eq!(ask(&consent, &policy, |request| request["action"] = json!("disclose")), "DENY");
    let facility = |kind: &str| json!({"role": {"coding": [{"code": "PROV"}]}, "reference": {"reference": format!("{kind}/front-street")}});
    let withheld = |nested: Value| {
        let mut consent = consent.clone();
        consent["provision"]["provision"] = json!([nested]);
        consent
    };
    let typed = withheld(json!({"type": "deny", "actor": [facility("Organization")]}));
    assert_eq!(
        ask(&typed, &policy, |request| request["actor"]["groups"] = json!(["Organization/front-street"])),
        "DENY"
    );
    assert_eq!(ask(&typed, &policy, |_| {}), "PERMIT");
    assert!(
        refused(
            &withheld(
                json!({"actor": [facility("Organization")], "extension": [{"url": "https://nz.example/opt-out"}]})
            ),
            &policy
        )
        .contains("provision[0].type")
    );
    assert!(
        refused(&withheld(json!({"type": "deny", "actor": [facility("Location")]})), &policy)
            .contains("actor[0].reference: cannot be compared")
    );
}

#[test]
fn danish_consents_to_treatment_open_nothing() {
    let server = json!({
        "role": {"coding": codes("http://terminology.hl7.org/CodeSystem/extra-security-role-type", &["authserver"])},
        "reference": {"reference": "Patient/9"},
    });
    let data = json!([{"meaning": "related", "reference": {"reference": "EpisodeOfCare/e1"}}]);
    let root = json!({"actor": [server], "data": data});
    let found = member(r4(root), "scope", scope("treatment"));
    let frame = json!({"untypedRoot": "frame"});
    assert!(refused(&found, &frame).contains("actor[0].role: is not known here"));
    let typed = member(r4(json!({"type": "permit", "data": data})), "scope", scope("treatment"));
    let episode = |request: &mut Value| {
        request["resource"] = json!({"id": "EpisodeOfCare/e1", "class": ["EpisodeOfCare"], "codes": []});
    };
    assert_eq!(ask(&typed, &frame, episode), "DENY");
}

#[test]
fn english_opt_outs_deny_purposes_and_proxies_are_permitted_by_number() {
    let policy = recipe("English");
    let opt_out = member(
        r4(json!({"type": "deny", "purpose": codes(ACT_REASON, &["HRESCH", "POPHLTH"])})),
        "category",
        json!([{"coding": codes("https://terminology.hl7.org/CodeSystem/v3-ActCode", &["INFA"])}]),
    );
    let open = member(policy.clone(), "basePolicy", json!("all-normal"));
    assert_eq!(ask(&opt_out, &open, |request| request["purpose"] = json!("POPHLTH")), "DENY");
    assert_eq!(ask(&opt_out, &open, |_| {}), "PERMIT");
    let number = json!({"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000017"});
    let mut proxy = r4(
        json!({"type": "permit", "actor": [{"reference": {"type": "RelatedPerson", "identifier": number}}], "period": {"start": "2026-02-11T14:30:00Z"}}),
    );
    proxy["category"] = json!([{"coding": codes("https://terminology.hl7.org/CodeSystem/v3-ActCode", &["INFA"])}]);
    proxy["policyRule"] = json!({"coding": codes("https://fhir.nhs.uk/England/CodeSystem/England-NHSProxyLegalBasis", &["court-appointed-personal-welfare-deputy"])});
    assert_eq!(ask(&proxy, &policy, |request| request["actor"]["identifiers"] = json!([number])), "PERMIT");
    assert_eq!(ask(&proxy, &policy, |_| {}), "DENY");
    let flag = member(
        r4(json!({"purpose": codes("https://fhir.nhs.uk/England/CodeSystem/RA-ConsentPurpose", &["RADISSENT"])})),
        "policyRule",
        json!({"coding": codes("https://fhir.nhs.uk/England/CodeSystem/FlagProxyRole", &["001"])}),
    );
    assert!(refused(&flag, &policy).contains("Consent.provision.type"));
}
