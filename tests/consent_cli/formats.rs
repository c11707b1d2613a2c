//! What goes in and out: dialects of FHIR, manifests of policies, the output, and what is refused.

use super::*;

#[test]
fn the_output_has_exactly_the_promised_fields() {
    let result = decide(&[permit_all()], None, json!({"purpose": "TREAT"}));
    let fields: Vec<&String> = result.as_object().expect("an object").keys().collect();
    let mut promised =
        ["decision", "basis", "reason", "matchedPath", "consentDigest", "residual", "obligations", "expiresAt"];
    promised.sort_unstable();
    let mut sorted = fields.clone();
    sorted.sort();
    assert_eq!(sorted, promised.iter().collect::<Vec<_>>());
    assert_eq!((&result["basis"], &result["matchedPath"]), (&json!("consent"), &json!("provision")));
    assert_eq!((&result["residual"], &result["obligations"]), (&json!([]), &json!([])));
}

#[test]
fn reading_3_the_policy_is_a_manifest_in_yaml_or_json() {
    let yaml = "# other resources may stand beside it\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---\napiVersion: ehrnet.dev/v1alpha1\nkind: ConsentPolicy\nmetadata:\n  name: care\nspec:\n  channelRef: {name: records}\n  basePolicy: all-normal\n";
    let run = || Run::new().request(&json!({"actor": {"id": "Practitioner/7"}, "purpose": "HPAYMT"}));
    let result = run().file("--policy", yaml).decision();
    assert_eq!((&result["decision"], &result["basis"]), (&json!("PERMIT"), &json!("implicit")));
    assert!(run().file("--policy", "kind: ConfigMap").refusal().contains("kind:"));
    assert!(run().file("--policy", "a: [").refusal().contains("not YAML"));
    let twice = yaml.replace("basePolicy: all-normal", "basePolicy: all-normal\n  basePolicy: deny");
    assert!(run().file("--policy", &twice).refusal().contains("manifest.spec.basePolicy: is given twice"));
    let blank = yaml.replace("basePolicy: all-normal", "basePolicy: all-normal\n  template:");
    assert!(run().file("--policy", &blank).refusal().contains("spec.template: is null"));
}

#[test]
fn reading_12_the_dialect_follows_the_shape_unless_given() {
    let nested = json!([{"purpose": codes(ACT_REASON, &["TREAT"]), "provision": [{"actor": [{"reference": {"reference": "Practitioner/7"}}]}]}]);
    let exceptions = r5("permit", nested.clone());
    let ask = |id: &str| json!({"purpose": "TREAT", "actor": {"id": id}});
    assert_eq!(decision(std::slice::from_ref(&exceptions), None, ask("Practitioner/8")), "DENY");
    let again = decide(std::slice::from_ref(&exceptions), None, ask("Practitioner/7"));
    assert_eq!((&again["decision"], &again["matchedPath"]), (&json!("PERMIT"), &json!("provision[0].provision[0]")));
    let as_r4 = Run::new().consent(&exceptions).request(&json!({})).option("--dialect", "R4").refusal();
    assert!(as_r4.contains("Consent.decision: has the shape of R5"), "{as_r4}");

    let untyped = r4(json!({"type": "permit", "provision": nested}));
    let said = Run::new().consent(&untyped).request(&json!({})).refusal();
    assert!(said.contains("Consent.provision.provision[0].type:") && said.contains("(read as R4)"), "{said}");
    let as_r5 = Run::new().consent(&untyped).request(&ask("Practitioner/8")).option("--dialect", "R5").refusal();
    assert!(as_r5.contains("Consent.provision: has the shape of R4"), "{as_r5}");

    let typed = r5("permit", json!([{"purpose": codes(ACT_REASON, &["TREAT"]), "provision": [{"type": "permit"}]}]));
    let said = Run::new().consent(&typed).request(&json!({})).refusal();
    assert!(said.contains("Consent.provision[0].provision[0].type:"), "{said}");
}

#[test]
fn reading_12_resource_and_document_types_of_r5_are_classes() {
    let consent = r5(
        "permit",
        json!([{"resourceType": [{"system": "http://hl7.org/fhir/resource-types", "code": "Media"}], "documentType": [{"system": "http://loinc.org", "code": "1-8"}]}]),
    );
    // Two elements: both have to match.
    for (class, expected) in [
        (json!(["Media", "1-8"]), "DENY"),
        (json!("Media"), "PERMIT"),
        (json!("1-8"), "PERMIT"),
        (json!("Observation"), "PERMIT"),
    ] {
        assert_eq!(decision(std::slice::from_ref(&consent), None, json!({"resource": {"class": class}})), expected);
    }
    let open = decide(&[consent], None, json!({}));
    let rule = &open["residual"][1];
    assert_eq!((&rule["class"][0]["code"], &rule["and"][0]["class"][0]["code"]), (&json!("Media"), &json!("1-8")));
}

#[test]
fn the_digest_is_of_the_content_not_of_its_spelling() {
    let digest =
        |text: &str| Run::new().file("--consent", text).request(&json!({})).decision()["consentDigest"].clone();
    let one = digest(r#"{"resourceType":"Consent","status":"active","provision":{"type":"deny"}}"#);
    let other =
        digest("{\n \"provision\": {\"type\": \"deny\"}, \"status\": \"active\", \"resourceType\": \"Consent\" }");
    assert_eq!(one, other);
    assert_ne!(one, digest(r#"{"resourceType":"Consent","id":"x","status":"active","provision":{"type":"deny"}}"#));
}

#[test]
fn reading_13_bad_consents_are_refused_with_the_field_named() {
    let deep = (0..5).fold(json!({"type": "permit"}), |inner, _| json!({"type": "permit", "provision": [inner]}));
    let deepest = (0..4).fold(json!({"type": "permit"}), |inner, _| json!({"type": "permit", "provision": [inner]}));
    let about = codes(ACT_REASON, &["TREAT"]);
    let deep_r5 = (0..5).fold(json!({"purpose": about}), |inner, _| json!({"purpose": about, "provision": [inner]}));
    assert_eq!(decision(&[r4(deepest)], None, json!({})), "PERMIT");
    let cases = [
        (
            r4(json!({"type": "permit", "period": {"start": "2027-01-01", "end": "2026-12-31"}})),
            "Consent.provision.period: start must not be after end",
        ),
        (
            r4(json!({"type": "permit", "provision": [{"type": "deny", "dataPeriod": {"start": "2027-13"}}]})),
            "Consent.provision.provision[0].dataPeriod.start:",
        ),
        (r4(deep), "Consent.provision.provision[0].provision[0].provision[0].provision[0].provision[0]: too deep"),
        (r5("permit", json!([deep_r5])), "too deep"),
        (r4(json!({"purpose": codes(ACT_REASON, &["TREAT"])})), "Consent.provision.type: no computable base"),
        (r5("maybe", json!([{"purpose": about}])), "Consent.decision: must be permit or deny"),
        (
            json!({"resourceType": "Consent", "status": "active", "provision": [{"purpose": about}]}),
            "Consent.decision: no computable base",
        ),
        (json!({"resourceType": "Consent", "status": "active"}), "Consent.provision.type: no computable base"),
        (json!({"resourceType": "Consent", "provision": {"type": "permit"}}), "Consent.status: is required"),
        (member(permit_all(), "status", json!("on")), "Consent.status: must be one of"),
        (json!({"resourceType": "Patient"}), "resourceType: must be Consent"),
        (json!([]), "Consent: must be an object"),
        (
            r4(json!({"type": "permit", "data": [{"meaning": "near", "reference": {"reference": "a/b"}}]})),
            "Consent.provision.data[0].meaning:",
        ),
        (
            r4(json!({"type": "permit", "actor": [{"reference": {"display": "Dr X"}}]})),
            "Consent.provision.actor[0].reference:",
        ),
    ];
    for (consent, expected) in cases {
        let said = Run::new().consent(&permit_all()).consent(&consent).request(&json!({})).refusal();
        assert!(said.contains(expected) && said.contains("2-consent"), "{said}");
    }
}

#[test]
fn reading_13_bad_requests_and_files_are_refused() {
    let run = || Run::new().consent(&permit_all());
    assert!(run().request(&json!({"purpose": ["TREAT", "HRESCH"]})).refusal().contains("request.purpose:"));
    assert!(run().request(&json!({"actor": {"identifier": []}})).refusal().contains("request.actor.identifier:"));
    assert!(run().file("--request", "{").refusal().contains("not JSON"));
    assert!(
        run()
            .option("--request", &Path::new("no").join("such").display().to_string())
            .refusal()
            .contains("cannot be read")
    );
    assert!(run().request(&json!({})).option("--now", "yesterday").refusal().contains("--now"));
    assert!(run().request(&json!({})).option("--dialect", "R3").refusal().contains("--dialect"));
    assert!(run().refusal().contains("--request"));
}

#[test]
fn bad_policies_are_refused_with_the_field_named() {
    let r4_child = json!({"template": {"type": "permit", "provision": [{"purpose": [{"code": "TREAT"}]}]}});
    let r5_child = json!({"fhirVersion": "R5", "template": {"decision": "permit", "provision": [{"type": "deny"}]}});
    let deep = (0..5).fold(json!({"type": "permit"}), |inner, _| json!({"type": "permit", "provision": [inner]}));
    let cases = [
        (
            json!({"template": {"type": "permit", "purpose": [{"code": "TREAT"}, {"code": "TRAET"}]}}),
            "spec.template.purpose[1]: code \"TRAET\" is unknown",
        ),
        (
            json!({"template": {"type": "permit", "provision": [{"type": "deny", "securityLabel": [{"system": "urn:x", "code": "R"}]}]}}),
            "spec.template.provision[0].securityLabel[0]: code system",
        ),
        (r4_child, "spec.template.provision[0].type:"),
        (r5_child, "spec.template.provision[0].type:"),
        (
            json!({"template": {"type": "permit", "period": {"start": "2027", "end": "2026"}}}),
            "spec.template.period: start must not be after end",
        ),
        (json!({"template": deep}), "too deep"),
        (json!({"template": {"purpose": [{"code": "TREAT"}]}}), "spec.template.type: is required"),
        (json!({"basePolicy": "perhaps"}), "spec.basePolicy:"),
        (json!({"combinning": "newest-wins"}), "spec.combinning: is not a field"),
        (json!({"timeZone": "Mars/Olympus"}), "spec.timeZone:"),
        (json!({"breakGlass": {"purposes": ["XYZ"]}}), "spec.breakGlass.purposes[0]:"),
        (json!({"breakGlass": {"maxTTL": "1d"}}), "spec.breakGlass.maxTTL:"),
        (json!({"category": [{"code": "nonsense"}]}), "spec.category[0]:"),
        (json!({"retention": {"auditYears": 5}}), "spec.retention.auditYears:"),
        (json!({"overriding": [{"type": "deny", "actor": [{}]}]}), "spec.overriding[0].actor[0]:"),
    ];
    for (spec, expected) in cases {
        let said = Run::new().policy(&spec).request(&json!({})).refusal();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn the_request_in_the_docs_is_read_and_says_every_field_of_the_table() {
    let page = include_str!("../../docs/consents.md");
    let section = page.split("## The request").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let example = section.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Value = serde_json::from_str(example).expect("JSON");
    assert_eq!(
        decision(&[member(permit_all(), "patient", json!({"reference": "Patient/17"}))], None, example.clone()),
        "PERMIT"
    );
    let rows: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows.len(), 16);
    for field in rows.iter().filter(|field| !field.starts_with("breakGlass")) {
        let pointer = format!("/{}", field.replace('.', "/"));
        assert!(example.pointer(&pointer).is_some(), "{field} is not in the example");
    }
    for (unknown, known) in [
        (
            json!({"who": 1}),
            "request.who: is not a known field: known are patient, actor, action, purpose, breakGlass, resource",
        ),
        (json!({"actor": {"msp": 1}}), "known are id, mspId, role, groups, identifiers, attributes"),
        (json!({"resource": {"labels": 1}}), "known are id, class, codes, securityLabels, author, authoredOn"),
    ] {
        let said = Run::new().request(&unknown).refusal();
        assert!(said.contains(known), "{said}");
        for field in known.rsplit("are ").next().expect("a list").split(", ") {
            assert!(rows.iter().any(|row| row.split('.').any(|part| part == field)), "{field} is not in the table");
        }
    }
}

#[test]
fn a_path_is_told_on_one_line_without_what_a_terminal_obeys() {
    let mut run = Run::new();
    run.arguments.extend(["--request".into(), run.folder.path().join("a\u{1b}[2J\nb").display().to_string()]);
    let said = run.refusal();
    assert!(said.contains("a\\u{1b}[2J\\u{a}b: cannot be read"), "{said}");
}

#[test]
fn the_policies_in_the_docs_are_read() {
    let page = include_str!("../../docs/consents.md");
    let examples = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let specs: Vec<Value> =
        examples.map(|yaml| serde_yaml::from_str::<Value>(yaml).expect("YAML")["spec"].clone()).collect();
    assert_eq!(specs.len(), 2);
    for spec in specs {
        assert_eq!(decision(&[permit_all()], Some(spec), json!({"purpose": "TREAT"})), "PERMIT");
    }
}
