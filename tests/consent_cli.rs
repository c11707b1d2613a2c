//! `ehrnet consent decide` as users run it: the real binary, files in, JSON out. One test per settled reading of the
//! semantics, and what is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: &str = "2026-11-23T12:00:00Z";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

/// One run of the command.
struct Run {
    folder: TempDir,
    arguments: Vec<String>,
    files: usize,
}

impl Run {
    fn new() -> Self {
        let arguments = vec!["consent".into(), "decide".into()];
        Self { folder: TempDir::new().expect("a folder"), arguments, files: 0 }
    }

    fn file(mut self, option: &str, text: &str) -> Self {
        self.files += 1;
        let path: PathBuf = self.folder.path().join(format!("{}-{}", self.files, option.trim_start_matches('-')));
        std::fs::write(&path, text).expect("written");
        self.arguments.extend([option.to_owned(), path.display().to_string()]);
        self
    }

    fn consent(self, consent: &Value) -> Self {
        self.file("--consent", &consent.to_string())
    }

    fn policy(self, spec: &Value) -> Self {
        let manifest = json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "p"}, "spec": spec});
        self.file("--policy", &manifest.to_string())
    }

    fn request(self, request: &Value) -> Self {
        self.file("--request", &request.to_string())
    }

    fn option(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    fn output(self) -> Output {
        let at =
            if self.arguments.iter().any(|argument| argument == "--now") { self } else { self.option("--now", NOW) };
        Command::new(env!("CARGO_BIN_EXE_ehrnet")).args(&at.arguments).output().expect("the binary runs")
    }

    /// The decision; the command must succeed.
    fn decision(self) -> Value {
        let output = self.output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What the command says on standard error; it must end with 2 and print nothing else.
    fn refusal(self) -> String {
        let output = self.output();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn codes(system: &str, codes: &[&str]) -> Value {
    codes.iter().map(|code| json!({"system": system, "code": code})).collect()
}

fn labels(list: &[&str]) -> Value {
    codes(CONFIDENTIALITY, list)
}

fn r4(provision: Value) -> Value {
    json!({"resourceType": "Consent", "status": "active", "patient": {"reference": "Patient/1"}, "dateTime": "2026-01-01", "provision": provision})
}

fn r5(decision: &str, exceptions: Value) -> Value {
    json!({"resourceType": "Consent", "status": "active", "subject": {"reference": "Patient/1"}, "date": "2026-01-01", "decision": decision, "provision": exceptions})
}

fn permit_all() -> Value {
    r4(json!({"type": "permit"}))
}

fn member(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn decide(consents: &[Value], policy: Option<Value>, request: Value) -> Value {
    let run = consents.iter().fold(Run::new(), Run::consent).request(&request);
    policy.iter().fold(run, Run::policy).decision()
}

fn decision(consents: &[Value], policy: Option<Value>, request: Value) -> String {
    decide(consents, policy, request)["decision"].as_str().expect("a text").to_owned()
}

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
fn reading_1_category_and_scope_filter_only_where_the_policy_names_them() {
    let research =
        member(permit_all(), "category", json!([{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}]));
    let in_words = member(permit_all(), "category", json!([{"text": "privacy"}]));
    let scoped = member(research.clone(), "scope", json!({"coding": [{"code": "research"}]}));
    let in_category = member(permit_all(), "category", json!([{"coding": [{"code": "research"}]}]));
    let request = json!({"purpose": "TREAT"});
    assert_eq!(decision(std::slice::from_ref(&research), None, request.clone()), "PERMIT");
    assert_eq!(decision(&[in_words], None, request.clone()), "PERMIT");
    let by_category = Some(json!({"category": [{"system": "http://loinc.org", "code": "59284-0"}]}));
    assert_eq!(decision(std::slice::from_ref(&research), by_category, request.clone()), "DENY");
    let by_scope = Some(json!({"scope": "research"}));
    assert_eq!(decision(&[research], by_scope.clone(), request.clone()), "DENY");
    assert_eq!(decision(&[scoped], by_scope.clone(), request.clone()), "PERMIT");
    assert_eq!(decision(&[in_category], by_scope, request), "PERMIT");
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
fn reading_3_without_a_policy_nothing_is_permitted_but_what_a_consent_permits() {
    assert_eq!(decision(&[], None, json!({"purpose": "TREAT"})), "DENY");
    let deny = r4(json!({"type": "deny", "purpose": codes(ACT_REASON, &["TREAT"])}));
    assert_eq!(decision(&[permit_all(), deny], None, json!({"purpose": "TREAT"})), "DENY");
    let names_it =
        r4(json!({"type": "deny", "provision": [{"type": "permit", "purpose": codes(ACT_REASON, &["BTG"])}]}));
    let result = decide(&[names_it], None, json!({"purpose": "BTG"}));
    assert_eq!((&result["decision"], &result["basis"]), (&json!("PERMIT"), &json!("breakglass")));
}

#[test]
fn reading_3_the_policy_is_a_manifest_in_yaml_or_json() {
    let yaml = "# other resources may stand beside it\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---\napiVersion: ehrnet.dev/v1alpha1\nkind: ConsentPolicy\nmetadata:\n  name: care\nspec:\n  channelRef: {name: records}\n  basePolicy: all-normal\n";
    let run = || Run::new().request(&json!({"purpose": "HPAYMT"}));
    let result = run().file("--policy", yaml).decision();
    assert_eq!((&result["decision"], &result["basis"]), (&json!("PERMIT"), &json!("implicit")));
    assert!(run().file("--policy", "kind: ConfigMap").refusal().contains("kind:"));
    assert!(run().file("--policy", "a: [").refusal().contains("not YAML"));
}

#[test]
fn reading_4_break_glass_takes_an_attribute_or_group_and_a_justification() {
    let spec = json!({"breakGlass": {"mode": "allow", "purposes": ["BTG"], "group": "Group/er", "maxTTL": "2h", "reviewWithin": "24h"}});
    let request = |actor: Value, justification: Value| json!({"actor": actor, "purpose": "BTG", "breakGlass": {"justification": justification}});
    let holder = json!({"attributes": {"ehr.breakglass": "true"}});
    let consent = r4(json!({"type": "deny"}));
    for actor in [holder.clone(), json!({"groups": ["Group/er"]})] {
        let result = decide(std::slice::from_ref(&consent), Some(spec.clone()), request(actor, json!("unconscious")));
        assert_eq!((&result["decision"], &result["basis"]), (&json!("PERMIT"), &json!("breakglass")));
        assert_eq!(result["expiresAt"], "2026-11-23T14:00:00Z");
        assert_eq!(result["obligations"][0]["id"]["code"], "break-glass-review");
        assert_eq!(result["obligations"][0]["parameters"]["dueBy"], "2026-11-24T12:00:00Z");
    }
    for (actor, justification, reason) in [
        (json!({"attributes": {"ehr.breakglass": "false"}}), json!("x"), "break-glass-not-authorized"),
        (json!({"role": "physician"}), json!("x"), "break-glass-not-authorized"),
        (holder.clone(), json!(" "), "break-glass-not-justified"),
        (holder.clone(), Value::Null, "break-glass-not-justified"),
    ] {
        let result = decide(std::slice::from_ref(&consent), Some(spec.clone()), request(actor, justification));
        assert_eq!((&result["decision"], &result["reason"]), (&json!("DENY"), &json!(reason)));
    }
    assert_eq!(
        decision(&[consent], Some(spec), member(request(holder, json!("x")), "purpose", json!("TREAT"))),
        "DENY"
    );
}

#[test]
fn break_glass_modes() {
    let request = json!({"actor": {"attributes": {"ehr.breakglass": "true"}}, "purpose": "BTG", "breakGlass": {"justification": "x"}});
    let names = |effect: &str| json!([{"type": effect, "purpose": codes(ACT_REASON, &["BTG"])}]);
    let silent = r4(json!({"type": "deny"}));
    let permits = r4(json!({"type": "deny", "provision": names("permit")}));
    let denies = r4(json!({"type": "permit", "purpose": codes(ACT_REASON, &["TREAT"]), "provision": names("deny")}));
    for (mode, expected) in [
        ("allow", ["PERMIT", "PERMIT", "DENY", "PERMIT"]),
        ("consent-only", ["DENY", "PERMIT", "DENY", "DENY"]),
        ("forbid", ["DENY", "DENY", "DENY", "DENY"]),
    ] {
        let spec = json!({"breakGlass": {"mode": mode}});
        let results = [vec![silent.clone()], vec![permits.clone()], vec![denies.clone()], vec![]];
        let results = results.map(|consents| decision(&consents, Some(spec.clone()), request.clone()));
        assert_eq!(results, expected, "{mode}");
    }
    let both = decide(&[permits, denies], Some(json!({"breakGlass": {"mode": "allow"}})), request);
    assert_eq!((&both["decision"], &both["basis"]), (&json!("DENY"), &json!("consent")));
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
        json!({"mspId": "Practitioner/7"}),
        json!({"role": "Practitioner/7"}),
        json!({"groups": ["Group/a", "Practitioner/7"]}),
    ] {
        assert_eq!(decision(std::slice::from_ref(&by_reference), None, json!({"actor": actor})), "PERMIT", "{actor}");
    }
    for actor in [
        json!({"id": "Patient/7"}),
        json!({"id": "7"}),
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
    let role = json!({"coding": [participation, {"code": "nurse"}, {"code": "106292003"}]});
    let deny = r4(json!({"type": "permit", "provision": [{"type": "deny", "actor": [{"role": role}]}]}));
    let ask = |role: &str| decision(std::slice::from_ref(&deny), None, json!({"actor": {"role": role}}));
    assert_eq!([ask("nurse"), ask("106292003")], ["DENY"; 2]);
    assert_eq!([ask("physician"), ask("IRCP")], ["PERMIT"; 2], "how somebody takes part says not who it is");
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
fn reading_6_a_child_inherits_per_element_and_stands_without_its_parent() {
    let consent = r4(json!({
        "type": "permit", "purpose": codes(ACT_REASON, &["TREAT"]), "securityLabel": [labels(&["N"])[0], {"system": ACT_CODE, "code": "PSY"}],
        "provision": [{"type": "permit", "actor": [{"reference": {"reference": "Practitioner/7"}}], "securityLabel": labels(&["R"]),
            "provision": [{"type": "deny", "class": [{"code": "Media"}]}]}],
    }));
    let ask = |id: &str, purpose: &str, label: &str, class: &str| {
        let request =
            json!({"actor": {"id": id}, "purpose": purpose, "resource": {"securityLabels": [label], "class": class}});
        decision(std::slice::from_ref(&consent), None, request)
    };
    assert_eq!(ask("Practitioner/7", "TREAT", "R", "Observation"), "PERMIT");
    assert_eq!(ask("Practitioner/7", "HRESCH", "R", "Observation"), "DENY", "the child keeps the purpose");
    assert_eq!(ask("Practitioner/8", "TREAT", "R", "Observation"), "DENY");
    assert_eq!(ask("Practitioner/8", "TREAT", "PSY", "Observation"), "PERMIT");
    assert_eq!(ask("Practitioner/7", "TREAT", "R", "Media"), "DENY", "the grandchild keeps label and actor");
    assert_eq!(ask("Practitioner/8", "TREAT", "N", "Media"), "PERMIT");

    let emergency = r4(json!({"type": "deny", "purpose": codes(ACT_REASON, &["TREAT"]), "provision": [
        {"type": "deny", "purpose": codes(ACT_REASON, &["HRESCH"]), "provision": [{"type": "permit", "purpose": codes(ACT_REASON, &["ETREAT"])}]}]}));
    let result = decide(&[emergency], None, json!({"purpose": "ETREAT"}));
    assert_eq!(
        (&result["decision"], &result["matchedPath"]),
        (&json!("PERMIT"), &json!("provision.provision[0].provision[0]"))
    );
}

#[test]
fn reading_6_labels_are_one_element_that_a_child_replaces() {
    let consent = r4(json!({"type": "permit", "securityLabel": labels(&["N"]), "provision": [
        {"type": "permit", "actor": [{"reference": {"reference": "Practitioner/7"}}], "securityLabel": codes(ACT_CODE, &["PSY"])}]}));
    let ask = |labels: Value| {
        decision(
            std::slice::from_ref(&consent),
            None,
            json!({"actor": {"id": "Practitioner/7"}, "resource": {"securityLabels": labels}}),
        )
    };
    assert_eq!(ask(json!(["R", "PSY"])), "PERMIT");
    assert_eq!(ask(json!(["R"])), "DENY");
    assert_eq!(ask(json!(["L"])), "PERMIT");
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
    assert_eq!(decision(&[deny], None, json!({"resource": {"securityLabels": ["HIV"]}})), "PERMIT");
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

#[test]
fn reading_9_a_root_that_fails_on_who_or_why_does_not_apply_even_if_data_fails_too() {
    let base = Some(json!({"basePolicy": "all-normal"}));
    let consent =
        r4(json!({"type": "permit", "purpose": codes(ACT_REASON, &["HRESCH"]), "securityLabel": labels(&["N"])}));
    let ask = |purpose: &str| {
        decide(
            std::slice::from_ref(&consent),
            base.clone(),
            json!({"purpose": purpose, "resource": {"securityLabels": ["V"]}}),
        )
    };
    assert_eq!((&ask("TREAT")["decision"], &ask("TREAT")["basis"]), (&json!("PERMIT"), &json!("implicit")));
    assert_eq!(
        (&ask("HRESCH")["decision"], &ask("HRESCH")["reason"]),
        (&json!("DENY"), &json!("outside-permitted-data"))
    );
}

#[test]
fn reading_9_a_deny_root_open_on_data_gives_a_residual_deny() {
    let consent = r4(json!({"type": "deny", "securityLabel": labels(&["R"])}));
    let result = decide(&[consent], Some(json!({"basePolicy": "all-normal"})), json!({"purpose": "TREAT"}));
    assert_eq!(result["decision"], "PERMIT");
    assert_eq!(result["residual"], json!([{"effect": "permit"}, {"effect": "deny", "securityLabel": labels(&["R"])}]));
    assert_eq!(
        result["obligations"][0],
        json!({"id": {"system": ACT_CODE, "code": "REDACT"}, "parameters": {"codes": labels(&["R"])}})
    );
}

#[test]
fn reading_10_residual_rules_hold_only_what_is_still_open() {
    let class = json!([{"system": "urn:c", "code": "A", "display": "of class A"}]);
    let rule = json!({"type": "deny", "securityLabel": labels(&["R"]), "class": class, "dataPeriod": {"start": "2020", "end": "2021-05"}});
    let consent = r4(json!({"type": "permit", "provision": [rule]}));
    let ask = |resource: Value| decide(std::slice::from_ref(&consent), None, json!({"resource": resource}));
    assert_eq!(
        ask(json!({}))["residual"][1],
        json!({
            "effect": "deny", "securityLabel": labels(&["R"]), "class": class, "dataPeriod": {"start": "2020", "end": "2021-05"},
        })
    );
    assert_eq!(
        ask(json!({"class": "A", "authoredOn": "2021-01-01"}))["residual"][1],
        json!({"effect": "deny", "securityLabel": labels(&["R"])})
    );
    assert_eq!(ask(json!({"class": "B"}))["residual"], json!([]));
    assert_eq!(ask(json!({"class": "A", "authoredOn": "2021-01-01", "securityLabels": ["V"]}))["decision"], "DENY");
}

#[test]
fn reading_10_several_consents_give_their_lists_in_turn_denials_last() {
    let older = member(
        r4(
            json!({"type": "permit", "securityLabel": labels(&["R"]), "provision": [{"type": "deny", "class": [{"code": "Media"}]}]}),
        ),
        "dateTime",
        json!("2025"),
    );
    let newer = r4(json!({"type": "permit", "provision": [{"type": "deny", "code": [{"coding": [{"code": "1-8"}]}]}]}));
    let result = decide(&[older.clone(), newer.clone()], None, json!({}));
    let residual = result["residual"].as_array().expect("a list");
    assert_eq!(residual[0], json!({"effect": "deny"}));
    assert_eq!(residual[1], json!({"effect": "permit", "securityLabel": labels(&["R"])}));
    let denials: Vec<&Value> = residual[2..].iter().map(|rule| &rule["effect"]).collect();
    assert_eq!(denials, ["deny", "deny"]);
    let newest = decide(&[older, newer], Some(json!({"combining": "newest-wins"})), json!({}));
    assert_eq!(newest["residual"], json!([{"effect": "permit"}, {"effect": "deny", "code": [{"code": "1-8"}]}]));
}

#[test]
fn several_consents_are_combined_as_the_policy_says() {
    let old_permit = member(permit_all(), "dateTime", json!("2020-01-01"));
    let new_deny = r4(json!({"type": "deny"}));
    let old_deny = member(new_deny.clone(), "dateTime", json!("2020-01-01"));
    let newer_but_silent = member(
        r4(json!({"type": "permit", "purpose": codes(ACT_REASON, &["HRESCH"])})),
        "dateTime",
        json!("2026-06-01"),
    );
    let request = json!({"purpose": "TREAT"});
    let newest = || Some(json!({"combining": "newest-wins"}));
    assert_eq!(decision(&[old_permit.clone(), new_deny.clone()], newest(), request.clone()), "DENY");
    assert_eq!(decision(&[old_deny.clone(), permit_all()], newest(), request.clone()), "PERMIT");
    assert_eq!(decision(&[old_deny.clone(), permit_all()], None, request.clone()), "DENY");
    assert_eq!(decision(&[old_permit, newer_but_silent], newest(), request.clone()), "PERMIT");
    assert_eq!(decision(&[permit_all(), new_deny], newest(), request), "DENY", "of the same date the denial outweighs");
}

#[test]
fn overriding_provisions_stand_above_everything() {
    let mandate = json!({"type": "permit", "purpose": [{"code": "PUBHLTH"}], "class": [{"code": "Immunization"}]});
    let ban = json!({"type": "deny", "purpose": [{"code": "HMARKT"}]});
    let spec = Some(json!({"overriding": [mandate, ban], "breakGlass": {"mode": "allow"}}));
    let ask = |consent: Value, purpose: &str, class: &str| {
        decide(&[consent], spec.clone(), json!({"purpose": purpose, "resource": {"class": class}}))
    };
    let mandated = ask(r4(json!({"type": "deny"})), "PUBHLTH", "Immunization");
    assert_eq!(
        (&mandated["decision"], &mandated["basis"], &mandated["matchedPath"]),
        (&json!("PERMIT"), &json!("overriding"), &json!("spec.overriding[0]"))
    );
    assert_eq!(
        ask(permit_all(), "PUBHLTH", "Observation")["basis"],
        "consent",
        "other data is not the mandate's business"
    );
    let banned = ask(permit_all(), "HMARKT", "Observation");
    assert_eq!((&banned["decision"], &banned["basis"]), (&json!("DENY"), &json!("overriding")));
}

#[test]
fn reading_11_days_are_days_of_the_policys_time_zone() {
    let consent = r4(json!({"type": "permit", "period": {"start": "2026-11-01", "end": "2026-11-23"}}));
    let at = |now: &str, zone: &str| {
        let run =
            Run::new().consent(&consent).policy(&json!({"timeZone": zone})).request(&json!({})).option("--now", now);
        run.decision()
    };
    assert_eq!(at("2026-11-23T23:59:59Z", "UTC")["decision"], "PERMIT");
    assert_eq!(at("2026-11-23T23:59:59Z", "UTC")["expiresAt"], "2026-11-24T00:00:00Z");
    assert_eq!(at("2026-11-24T00:00:00Z", "UTC")["decision"], "DENY");
    assert_eq!(at("2026-11-23T23:30:00Z", "Europe/Berlin")["decision"], "DENY");
    assert_eq!(at("2026-10-31T23:30:00Z", "Europe/Berlin")["decision"], "PERMIT");
    assert_eq!(at("2026-11-24T03:00:00Z", "America/New_York")["decision"], "PERMIT");
}

#[test]
fn reading_11_data_of_a_day_must_overlap() {
    let consent = r4(json!({"type": "permit", "dataPeriod": {"start": "2026-03-01T12:00:00Z", "end": "2026-03-31"}}));
    let ask = |on: &str| decision(std::slice::from_ref(&consent), None, json!({"resource": {"authoredOn": on}}));
    assert_eq!(
        [ask("2026-03-01"), ask("2026-03-01T12:00:00Z"), ask("2026-03-31T23:59:59Z"), ask("2026")],
        ["PERMIT"; 4]
    );
    assert_eq!([ask("2026-02-28"), ask("2026-03-01T11:59:59Z"), ask("2026-04-01")], ["DENY"; 3]);
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
    assert!(as_r4.contains("Consent.provision[0].type:"), "{as_r4}");

    let untyped = r4(json!({"type": "permit", "provision": nested}));
    let said = Run::new().consent(&untyped).request(&json!({})).refusal();
    assert!(said.contains("Consent.provision.provision[0].type:"), "{said}");
    let as_r5 = Run::new().consent(&untyped).request(&ask("Practitioner/8")).option("--dialect", "R5").decision();
    assert_eq!(as_r5["decision"], "DENY");

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
    for (class, expected) in [("Media", "DENY"), ("1-8", "DENY"), ("Observation", "PERMIT")] {
        assert_eq!(decision(std::slice::from_ref(&consent), None, json!({"resource": {"class": class}})), expected);
    }
}

#[test]
fn only_active_consents_within_their_period_count() {
    for status in ["draft", "rejected", "inactive", "entered-in-error", "not-done"] {
        let consent = member(permit_all(), "status", json!(status));
        let result = decide(&[consent], None, json!({}));
        assert_eq!(
            (&result["decision"], &result["basis"], &result["reason"]),
            (&json!("DENY"), &json!("implicit"), &json!("no-consent")),
            "{status}"
        );
    }
    let later =
        member(r5("permit", json!([{"purpose": codes(ACT_REASON, &["HRESCH"])}])), "period", json!({"start": "2027"}));
    assert_eq!(decision(&[later], None, json!({"purpose": "TREAT"})), "DENY");
}

#[test]
fn expiry_is_the_earliest_end() {
    let consent = r4(json!({"type": "deny", "period": {"end": "2026-12-31T10:00:00Z"}, "provision": [
        {"type": "permit", "purpose": codes(ACT_REASON, &["TREAT"])},
        {"type": "permit", "purpose": codes(ACT_REASON, &["BTG"])},
        {"type": "permit", "purpose": codes(ACT_REASON, &["HRESCH"]), "period": {"end": "2026-11-30"}}]}));
    let ask =
        |purpose: &str| decide(std::slice::from_ref(&consent), None, json!({"purpose": purpose}))["expiresAt"].clone();
    assert_eq!(ask("TREAT"), "2026-12-31T10:00:00Z");
    assert_eq!(ask("HRESCH"), "2026-12-01T00:00:00Z");
    assert_eq!(ask("BTG"), "2026-11-23T16:00:00Z");
    assert_eq!(decide(&[permit_all()], None, json!({}))["expiresAt"], Value::Null);
}

#[test]
fn the_digest_is_of_the_content_not_of_its_spelling() {
    let digest =
        |text: &str| Run::new().file("--consent", text).request(&json!({})).decision()["consentDigest"].clone();
    let one = digest(r#"{"resourceType":"Consent","status":"active","provision":{"type":"permit"}}"#);
    let other =
        digest("{\n \"provision\": {\"type\": \"permit\"}, \"status\": \"active\", \"resourceType\": \"Consent\" }");
    assert_eq!(one, other);
    assert_ne!(one, digest(r#"{"resourceType":"Consent","id":"x","status":"active","provision":{"type":"permit"}}"#));
}

#[test]
fn reading_13_bad_consents_are_refused_with_the_field_named() {
    let deep = (0..5).fold(json!({"type": "permit"}), |inner, _| json!({"type": "permit", "provision": [inner]}));
    let deepest = (0..4).fold(json!({"type": "permit"}), |inner, _| json!({"type": "permit", "provision": [inner]}));
    let deep_r5 = (0..5).fold(json!({}), |inner, _| json!({"provision": [inner]}));
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
        (r5("maybe", json!([{}])), "Consent.decision: must be permit or deny"),
        (
            json!({"resourceType": "Consent", "status": "active", "provision": [{}]}),
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
