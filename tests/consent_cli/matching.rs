//! Whether a provision matches: patients, codes, actors, what is absent, confidentiality.

use super::*;

#[test]
fn reading_1_a_policy_takes_permits_of_its_scope_and_categories_only() {
    let research =
        member(permit_all(), "category", json!([{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}]));
    let in_words = member(permit_all(), "category", json!([{"text": "privacy"}]));
    let scoped = member(research.clone(), "scope", json!({"coding": [{"code": "research"}]}));
    let mut in_category =
        member(permit_all(), "category", json!([{"coding": [{"code": "research"}]}, research["category"][0]]));
    in_category.as_object_mut().expect("an object").remove("scope");
    let request = json!({"purpose": "TREAT"});
    assert_eq!(decision(std::slice::from_ref(&research), None, request.clone()), "PERMIT");
    assert_eq!(decision(&[in_words], None, request.clone()), "DENY", "words say not what it is about");
    let by_category = Some(json!({"category": [{"system": "http://loinc.org", "code": "59284-0"}]}));
    assert_eq!(decision(std::slice::from_ref(&research), by_category, request.clone()), "DENY");
    let by_scope = Some(json!({"scope": "research"}));
    assert_eq!(decision(&[research], by_scope.clone(), request.clone()), "DENY");
    assert_eq!(decision(&[scoped], by_scope.clone(), request.clone()), "PERMIT");
    assert_eq!(decision(&[in_category], by_scope.clone(), request.clone()), "PERMIT");
    let withheld = r4(json!({"type": "deny", "purpose": codes(ACT_REASON, &["TREAT"])}));
    let open = json!({"scope": "research", "basePolicy": "all-normal"});
    let someone = member(request, "actor", json!({"id": "Practitioner/7"}));
    assert_eq!(decision(&[], Some(open.clone()), someone.clone()), "PERMIT");
    assert_eq!(decision(&[withheld], Some(open), someone), "DENY", "a denial counts whatever it is about");
}

#[test]
fn reading_1_the_patient_filters_where_the_request_names_one() {
    for consent in [permit_all(), r5("permit", json!([{"purpose": codes(ACT_REASON, &["HRESCH"])}]))] {
        assert_eq!(
            decision(
                std::slice::from_ref(&consent),
                None,
                json!({"patient": "https://x.example/fhir/Patient/1", "purpose": "TREAT"})
            ),
            "PERMIT"
        );
        assert_eq!(
            decision(std::slice::from_ref(&consent), None, json!({"patient": "Patient/2", "purpose": "TREAT"})),
            "DENY"
        );
        assert_eq!(decision(&[consent], None, json!({"purpose": "TREAT"})), "PERMIT");
    }
}

#[test]
fn reading_2_unknown_codes_of_a_consent_match_by_equality_and_of_a_policy_are_refused() {
    let consent = r4(json!({"type": "permit", "purpose": codes("urn:x", &["FooBar"])}));
    assert_eq!(decision(std::slice::from_ref(&consent), None, json!({"purpose": "FooBar"})), "PERMIT");
    assert_eq!(
        decision(std::slice::from_ref(&consent), None, json!({"purpose": {"system": "urn:x", "code": "FooBar"}})),
        "PERMIT"
    );
    assert_eq!(
        decision(std::slice::from_ref(&consent), None, json!({"purpose": {"system": "urn:y", "code": "FooBar"}})),
        "DENY"
    );
    assert_eq!(decision(std::slice::from_ref(&consent), None, json!({"purpose": "TREAT"})), "DENY");
    let spec = json!({"overriding": [{"type": "permit", "purpose": [{"code": "TREAT"}, {"code": "FooBar"}]}]});
    let said = Run::new().consent(&consent).policy(&spec).request(&json!({})).refusal();
    assert!(said.contains("spec.overriding[0].purpose[1]") && said.contains("FooBar"), "{said}");
}

#[test]
fn reading_2_what_is_not_evaluated_is_refused() {
    let cases = [
        (member(permit_all(), "modifierExtension", json!([{"url": "urn:x"}])), "Consent.modifierExtension"),
        (member(permit_all(), "implicitRules", json!("urn:x")), "Consent.implicitRules"),
        (r4(json!({"type": "permit", "purposes": []})), "Consent.provision.purposes"),
        (
            r4(json!({"type": "permit", "provision": [{"type": "deny", "expression": {"language": "x"}}]})),
            "Consent.provision.provision[0].expression",
        ),
        (
            r4(json!({"type": "permit", "actor": [{"modifierExtension": [], "reference": {"reference": "a/b"}}]})),
            "Consent.provision.actor[0].modifierExtension",
        ),
        (r4(json!({"type": "deny", "action": [{"text": "all"}]})), "Consent.provision.action[0].coding"),
        (r4(json!({"type": "deny", "purpose": []})), "Consent.provision.purpose"),
    ];
    for (consent, field) in cases {
        let said = Run::new().consent(&consent).request(&json!({})).refusal();
        assert!(said.contains(&format!("{field}:")), "{said}");
    }
    let ignored = member(
        member(permit_all(), "extension", json!([{"url": "urn:x"}])),
        "verification",
        json!([{"verified": true}]),
    );
    assert_eq!(decision(&[ignored], None, json!({})), "PERMIT");
}

#[test]
fn reading_5_actors_are_named_by_reference_or_identifier() {
    let named = |reference: Value| {
        r4(json!({"type": "permit", "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": reference}]}))
    };
    let by_reference = named(json!({"reference": "https://x.example/fhir/Practitioner/7/_history/2"}));
    for actor in [
        json!({"id": "Practitioner/7"}),
        json!({"id": "http://y.example/Practitioner/7"}),
        json!({"groups": ["Group/a", "Practitioner/7"]}),
    ] {
        assert_eq!(decision(std::slice::from_ref(&by_reference), None, json!({"actor": actor})), "PERMIT", "{actor}");
    }
    for actor in [
        json!({"id": "Patient/7"}),
        json!({"mspId": "7"}),
        json!({"identifiers": [{"system": "urn:x", "value": "Practitioner/7"}]}),
    ] {
        assert_eq!(decision(std::slice::from_ref(&by_reference), None, json!({"actor": actor})), "DENY", "{actor}");
    }
    let by_identifier = named(json!({"identifier": {"system": "urn:npi", "value": "42"}}));
    let identified = |system: &str| json!({"actor": {"identifiers": [{"system": "urn:a", "value": "1"}, {"system": system, "value": "42"}]}});
    assert_eq!(decision(std::slice::from_ref(&by_identifier), None, identified("urn:npi")), "PERMIT");
    assert_eq!(decision(&[by_identifier], None, identified("urn:other")), "DENY");
}

#[test]
fn reading_5_each_coding_of_a_role_stands_for_it() {
    let participation = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"});
    let denied = |codings: Value| {
        let denial = json!({"type": "deny", "actor": [{"role": {"coding": codings}}]});
        r4(json!({"type": "permit", "provision": [denial]}))
    };
    let deny = denied(json!([participation, {"code": "nurse"}]));
    let ask = |role: &str| decision(std::slice::from_ref(&deny), None, json!({"actor": {"role": role}}));
    assert_eq!(ask("nurse"), "DENY");
    assert_eq!(ask("physician"), "PERMIT", "how somebody takes part says not who it is");
    let unknown = denied(json!([participation, {"code": "nurse"}, {"code": "106292003"}]));
    let said = Run::new().consent(&unknown).request(&json!({})).refusal();
    assert!(said.contains("Consent.provision.provision[0].actor[0].role: is not known here"), "{said}");
    let how_only = r4(json!({"type": "permit", "actor": [{"role": {"coding": [participation]}}]}));
    let said = Run::new().consent(&how_only).request(&json!({})).refusal();
    assert!(said.contains("Consent.provision.actor[0].reference:"), "{said}");
}

#[test]
fn reading_5_a_policy_maps_organisations_to_msps() {
    let consent = r4(json!({"type": "permit", "actor": [{"reference": {"reference": "Organization/mercy"}}]}));
    let request = json!({"actor": {"id": "Practitioner/1", "mspId": "MercyMSP"}});
    let map = |msp: &str| {
        Some(json!({"organizations": [{"reference": "https://x.example/Organization/mercy", "mspId": msp}]}))
    };
    assert_eq!(decision(std::slice::from_ref(&consent), None, request.clone()), "DENY");
    assert_eq!(decision(std::slice::from_ref(&consent), map("MercyMSP"), request.clone()), "PERMIT");
    assert_eq!(decision(&[consent], map("OtherMSP"), request), "DENY");
}

#[test]
fn reading_7_absent_is_unknown_and_empty_is_none() {
    for (element, rule, field) in [
        ("securityLabel", labels(&["N"]), "securityLabels"),
        ("class", json!([{"code": "Observation"}]), "class"),
        ("code", json!([{"coding": [{"system": "http://loinc.org", "code": "1-8"}]}]), "codes"),
        ("data", json!([{"meaning": "authoredby", "reference": {"reference": "Practitioner/7"}}]), "author"),
    ] {
        let permit = r4(json!({"type": "permit", element: rule}));
        let open = decide(std::slice::from_ref(&permit), None, json!({}));
        assert_eq!(open["decision"], "PERMIT", "{element}");
        assert_eq!(open["residual"].as_array().map(Vec::len), Some(2), "{element}");
        assert_eq!(open["residual"][0], json!({"effect": "deny"}), "{element}");
        assert_eq!(decision(&[permit], None, json!({"resource": {field: []}})), "DENY", "{element}");
    }
}

#[test]
fn reading_7_absent_actor_purpose_or_action_fails_a_permit_and_matches_a_deny() {
    for (element, rule) in [
        ("purpose", codes(ACT_REASON, &["TREAT"])),
        ("actor", json!([{"reference": {"reference": "Practitioner/7"}}])),
        ("action", json!([{"coding": [{"code": "access"}]}])),
    ] {
        let open = Some(json!({"basePolicy": "all-normal"}));
        let permit = decide(&[r4(json!({"type": "permit", element: rule}))], open.clone(), json!({}));
        assert_eq!(permit["basis"], "implicit", "{element}: a permit that is not matched does not decide");
        let deny = decide(&[r4(json!({"type": "deny", element: rule}))], open, json!({}));
        assert_eq!((&deny["decision"], &deny["basis"]), (&json!("DENY"), &json!("consent")), "{element}");
    }
}

#[test]
fn reading_7_labels_without_confidentiality_leave_only_its_rule_unmatched() {
    let permit =
        r4(json!({"type": "permit", "securityLabel": [labels(&["N"])[0], {"system": ACT_CODE, "code": "PSY"}]}));
    assert_eq!(
        decision(std::slice::from_ref(&permit), None, json!({"resource": {"securityLabels": ["PSY"]}})),
        "PERMIT"
    );
    assert_eq!(decision(&[permit], None, json!({"resource": {"securityLabels": ["HIV"]}})), "DENY");
    let deny = r4(json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": labels(&["L"])}]}));
    let ask = |policy| decision(std::slice::from_ref(&deny), policy, json!({"resource": {"securityLabels": ["HIV"]}}));
    assert_eq!(ask(Some(json!({"labels": {"requireConfidentiality": false}}))), "PERMIT");
    assert_eq!(ask(None), "DENY", "a record without confidentiality counts as V");
}

#[test]
fn reading_7_related_and_dependents_hold_for_the_instance_and_are_unknown_for_anything_else() {
    for meaning in ["related", "dependents"] {
        let data = json!([{"meaning": meaning, "reference": {"reference": "Encounter/1"}}]);
        let consent = r4(json!({"type": "permit", "provision": [{"type": "deny", "data": data}]}));
        assert_eq!(decision(std::slice::from_ref(&consent), None, json!({"resource": {"id": "Encounter/1"}})), "DENY");
        let other = decide(&[consent], None, json!({"resource": {"id": "Observation/1"}}));
        assert_eq!(other["decision"], "PERMIT");
        assert_eq!(other["residual"], json!([{"effect": "permit"}, {"effect": "deny", "data": data}]));
    }
}

#[test]
fn reading_8_confidentiality_is_a_ceiling_for_permits_and_a_floor_for_denials() {
    let permit = r4(json!({"type": "permit", "securityLabel": labels(&["L", "N"])}));
    let deny = r4(json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": labels(&["V", "R"])}]}));
    let decided = |consent: &Value| -> String {
        let ask = |label: &&str| {
            decision(std::slice::from_ref(consent), None, json!({"resource": {"securityLabels": [label, "U"]}}))
                == "PERMIT"
        };
        ["U", "L", "M", "N", "R", "V"].iter().filter(|label| ask(label)).copied().collect()
    };
    assert_eq!(decided(&permit), "ULMN");
    assert_eq!(decided(&deny), "ULMN");
}
