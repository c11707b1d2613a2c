//! `ehrnet consent check`: what a policy makes of a folder of documents; and consents made of modules.

use super::*;

pub fn run(arguments: &[&str], folder: &TempDir) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ehrnet"));
    command.args(["consent"]).args(arguments).current_dir(folder.path()).output().expect("the binary runs")
}

pub fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("documents")).expect("a folder");
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    folder
}

pub fn manifest(spec: &Value) -> Vec<u8> {
    let policy =
        json!({"apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "p"}, "spec": spec});
    policy.to_string().into_bytes()
}

#[test]
fn a_folder_of_documents_is_judged_before_it_goes_live() {
    let treatment = r4(json!({"type": "permit", "purpose": codes(ACT_REASON, &["TREAT"]), "period": {"end": "2027"}}));
    let untyped = |reference: &str| {
        let provision = json!({"actor": [{"reference": {"reference": reference}}]});
        member(r4(provision), "policyRule", json!({"coding": [{"code": "OPTIN"}]})).to_string().into_bytes()
    };
    let operation = member(permit_all(), "scope", scope("treatment"));
    let bundle = json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}, {"resource": operation}]});
    let folder = folder(&[
        ("documents/a.json", treatment.to_string().into_bytes()),
        ("documents/b.json", untyped("Practitioner/1")),
        ("documents/c.json", untyped("Practitioner/2")),
        ("documents/d.json", bundle.to_string().into_bytes()),
        ("documents/e.xml", b"<Consent xmlns=\"http://hl7.org/fhir\"/>".to_vec()),
        ("documents/f.json", "\u{feff}{}".into()),
        ("documents/notes.txt", b"not looked at".to_vec()),
    ]);
    let output = run(&["check", "documents", "--fail-on-refused"], &folder);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for line in [
        "documents/a.json: read (read as R4)\n  counts for what it permits and what it denies\n  provision: everybody may see all records for TREAT until 2027\n",
        "documents/b.json: refused (read as R4)\n  Consent.provision.type: is required",
        "documents/d.json entry[1]: read (read as R4)\n  counts for what it denies only",
        "all records for any purpose (does not count: the consent counts for what it denies only)",
        "documents/e.xml: refused\n  Consent: is XML",
        "documents/f.json: refused\n  Consent: begins with a byte order mark",
        "2 read, of which 1 can permit something; 4 refused; 1 skipped\n  2 × type is required\n",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
    assert!(said.contains("documents/notes.txt: skipped: is neither .json nor .xml"), "{said}");
    let json = run(&["check", "documents", "--output", "json"], &folder);
    assert_eq!(json.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&report["read"], &report["refused"], &report["permitting"]), (&json!(2), &json!(4), &json!(1)));
    assert_eq!(report["documents"][0]["rules"][0]["effect"], "permit");
    assert_eq!(report["causes"][0], json!({"cause": "type is required", "documents": 2}));
    std::fs::write(folder.path().join("policy.json"), manifest(&json!({"untypedRoot": "exception"}))).expect("written");
    let output = run(&["check", "documents", "--policy", "policy.json"], &folder);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("policyRule: everybody may see") && said.contains("provision: Practitioner/1 may not see"),
        "{said}"
    );
}

/// A system of modules as national consents use them: each code is a rule of its own.
fn national() -> Value {
    let system = "urn:oid:1.2.3.4";
    json!({
        "codeSystems": [{"url": system, "aliases": ["https://national.example/modules"], "codes": ["care", "study", "bills"]}],
        "modules": [
            {"code": {"system": system, "code": "care"}, "class": [{"code": "Observation"}], "purpose": [{"code": "TREAT"}]},
            {"code": {"system": system, "code": "study"}, "purpose": [{"code": "HRESCH"}]},
        ],
    })
}

fn of_modules(effect: &str, system: &str, modules: &[&str]) -> Value {
    let nested: Vec<Value> = modules
        .iter()
        .map(|code| json!({"type": effect, "period": {"end": "2030"}, "code": [{"coding": codes(system, &[code])}]}))
        .collect();
    r4(json!({"type": if effect == "permit" { "deny" } else { "permit" }, "provision": nested}))
}

#[test]
fn a_module_is_the_rule_that_the_policy_says_it_is() {
    let consent = of_modules("permit", "https://national.example/modules/", &["care", "study"]);
    let ask = |purpose: &str, class: &str| {
        let request =
            json!({"actor": {"id": "Practitioner/7"}, "purpose": purpose, "resource": {"class": class, "codes": []}});
        decide(std::slice::from_ref(&consent), Some(national()), request)
    };
    assert_eq!(ask("TREAT", "Observation")["decision"], "PERMIT");
    assert_eq!(ask("TREAT", "Observation")["matchedPath"], "provision.provision[0]");
    assert_eq!(ask("TREAT", "Media")["decision"], "DENY");
    assert_eq!(ask("HRESCH", "Media")["decision"], "PERMIT");
    assert_eq!(ask("HMARKT", "Observation")["decision"], "DENY");
    let request = json!({"actor": {"id": "Practitioner/7"}, "purpose": "TREAT", "resource": {"class": "Observation", "codes": []}});
    assert_eq!(
        decision(std::slice::from_ref(&consent), None, request),
        "DENY",
        "without the policy they are codes of content"
    );
}

#[test]
fn a_module_that_nobody_declared_permits_nothing_and_is_refused_in_a_denial() {
    let permit = of_modules("permit", "urn:oid:1.2.3.4", &["bills"]);
    let request = json!({"actor": {"id": "Practitioner/7"}, "purpose": "TREAT", "resource": {"class": "Observation", "codes": []}});
    assert_eq!(decision(std::slice::from_ref(&permit), Some(national()), request.clone()), "DENY");
    for request in [
        json!({"purpose": "HMARKT"}),
        json!({"purpose": "HMARKT", "resource": {"codes": codes("urn:oid:1.2.3.4", &["bills"])}}),
    ] {
        assert_eq!(decision(std::slice::from_ref(&permit), Some(national()), request), "DENY");
    }
    let files = [("documents/a.json", permit.to_string().into_bytes()), ("policy.json", manifest(&national()))];
    let output = run(&["check", "documents", "--policy", "policy.json"], &folder(&files));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("so it permits nothing: declare \"urn:oid:1.2.3.4|bills\" in spec.modules"), "{said}");
    assert!(said.contains("1 read, of which 0 can permit something"), "{said}");
    let deny = of_modules("deny", "urn:oid:1.2.3.4", &["bills"]);
    let said = Run::new().consent(&deny).policy(&national()).request(&request).refusal();
    assert!(said.contains("Consent.provision.provision[0].code[0]: is not one of the policy's modules"), "{said}");
    let both = json!({"type": "permit", "purpose": codes(ACT_REASON, &["TREAT"]), "code": [{"coding": codes("urn:oid:1.2.3.4", &["care"])}]});
    let said = Run::new().consent(&r4(both)).policy(&national()).request(&request).refusal();
    assert!(said.contains("Consent.provision.purpose: stands beside a module"), "{said}");
}

#[test]
fn an_import_takes_modules_and_keeps_every_decision() {
    let consent = of_modules("permit", "urn:oid:1.2.3.4", &["care", "study"]);
    let folder = folder(&[("consent.json", consent.to_string().into_bytes()), ("policy.json", manifest(&national()))]);
    let imported = run(&["import", "consent.json", "--name", "national", "--policy", "policy.json"], &folder);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    std::fs::write(folder.path().join("imported.yaml"), &imported.stdout).expect("written");
    let exported = run(&["export", "imported.yaml", "--patient", "Patient/1"], &folder);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let back: Value = serde_json::from_slice(&exported.stdout).expect("JSON");
    for (purpose, class) in [("TREAT", "Observation"), ("TREAT", "Media"), ("HRESCH", "Media"), ("HMARKT", "Media")] {
        let request =
            json!({"actor": {"id": "Practitioner/7"}, "purpose": purpose, "resource": {"class": class, "codes": []}});
        let before = decision(std::slice::from_ref(&consent), Some(national()), request.clone());
        assert_eq!(decision(std::slice::from_ref(&back), None, request), before, "{purpose} {class}");
    }
}

#[test]
fn the_policy_says_what_roles_and_cited_policies_mean() {
    let role = json!({"coding": codes("urn:roles", &["reader"])});
    let named = |role: Value| {
        r4(json!({"type": "permit", "actor": [{"role": role, "reference": {"reference": "Practitioner/7"}}]}))
    };
    let request = json!({"actor": {"id": "Practitioner/7"}});
    let said = Run::new().consent(&named(role.clone())).request(&request).refusal();
    assert!(said.contains("Consent.provision.actor[0].role: is not known here: let the ConsentPolicy say"), "{said}");
    let means =
        |part: &str| Some(json!({"actorRoles": [{"role": {"system": "urn:roles", "code": "reader"}, "as": part}]}));
    assert_eq!(decision(&[named(role.clone())], means("recipient"), request.clone()), "PERMIT");
    assert_eq!(decision(&[named(role)], means("bystander"), request.clone()), "DENY");

    let mut cites = member(permit_all(), "policy", json!([{"uri": "https://law.example/opt-in"}]));
    cites.as_object_mut().expect("an object").remove("provision");
    let said = Run::new().consent(&cites).request(&request).refusal();
    assert!(said.contains("Consent.policy: no computable base"), "{said}");
    let cited = json!({"citedPolicies": [{"uri": "https://law.example/opt-in", "decision": "permit"}]});
    assert_eq!(decision(&[cites], Some(cited), request), "PERMIT");
}

/// What a document or a file is called is somebody's text: a terminal must not obey it, and nobody reads it without end.
#[test]
fn what_is_said_of_a_document_is_bounded_and_obeyed_by_no_terminal() {
    let long = "x".repeat(500);
    let codes: Vec<Value> = (0..300).map(|i| json!({"system": "urn:x", "code": format!("{i}-{long}")})).collect();
    let consent = r4(
        json!({"type": "permit", "class": codes, "actor": [{"reference": {"reference": format!("Practitioner/{long}")}}]}),
    );
    let folder = folder(&[("documents/\u{1b}[31m\u{202e}.json", consent.to_string().into_bytes())]);
    for output in ["table", "json"] {
        let output = run(&["check", "documents", "--output", output], &folder);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("\\u{1b}[31m"), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said}");
        assert!(said.len() < 5_000 && said.contains("290 more"), "{} bytes: {said}", said.len());
    }
}

/// Nobody's certificate tells of an identifier of a registry, and nothing is put that is of tomorrow or not in force.
#[test]
fn a_document_is_judged_as_the_ledger_will_unless_told_otherwise() {
    let npi = json!({"system": "http://hl7.org/fhir/sid/us-npi", "value": "1"});
    let denial = json!({"type": "deny", "actor": [{"reference": {"identifier": npi}}]});
    let organisation = json!({"type": "deny", "actor": [{"reference": {"reference": "Organization/mercy"}}]});
    let but_to = |denial: Value| r4(json!({"type": "permit", "provision": [denial]}));
    let large = "x".repeat(300_000);
    for (document, said) in [
        (
            but_to(denial),
            "Consent.provision.provision[0].actor[0].reference.identifier: is of a system of which nobody's certificate tells",
        ),
        (
            but_to(organisation),
            "Consent.provision.provision[0].actor[0].reference: is an organisation of which nobody's certificate tells",
        ),
        (member(permit_all(), "dateTime", json!("2099")), "Consent.dateTime: is later than "),
        (member(permit_all(), "status", json!("inactive")), "Consent.status: must be active"),
        (member(permit_all(), "text", json!({"div": large})), "Consent: is larger than can be put: has 3"),
    ] {
        let folder = folder(&[("documents/a.json", document.to_string().into_bytes())]);
        let ledger = run(&["check", "documents"], &folder);
        let ledger = String::from_utf8_lossy(&ledger.stdout).into_owned();
        assert!(ledger.contains("a.json: refused") && ledger.contains(said), "{said}\nis not in\n{ledger}");
        let files = run(&["check", "documents", "--as", "files"], &folder);
        let files = String::from_utf8_lossy(&files.stdout).into_owned();
        let dated = said.contains("dateTime");
        assert!(files.contains("a.json: read") != dated, "{files}");
    }
    let folder =
        folder(&[("documents/a.json", member(permit_all(), "dateTime", json!("2099")).to_string().into_bytes())]);
    let later = run(&["check", "documents", "--now", "2100-01-01T00:00:00Z"], &folder);
    assert!(String::from_utf8_lossy(&later.stdout).contains("a.json: read"));
}

#[test]
fn nothing_of_a_folder_is_left_out_without_being_said() {
    let consent = permit_all().to_string().into_bytes();
    let nested = json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Bundle", "entry": [{"resource": permit_all()}]}}]});
    let empty = json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}]});
    let folder = folder(&[
        ("documents/A.JSON", consent.clone()),
        ("documents/b.ndjson", consent.clone()),
        ("documents/c.json", nested.to_string().into_bytes()),
        ("documents/d.json", empty.to_string().into_bytes()),
        ("documents/e.json", json!({"resourceType": "Bundle", "entry": {}}).to_string().into_bytes()),
    ]);
    std::fs::create_dir_all(folder.path().join("documents/ward/7")).expect("a folder");
    std::fs::write(folder.path().join("documents/ward/7/f.json"), consent).expect("written");
    std::os::unix::fs::symlink("..", folder.path().join("documents/ward/up")).expect("a link");
    let output = run(&["check", "documents"], &folder);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for line in [
        "documents/A.JSON: read",
        "documents/b.ndjson: skipped: is not .json: split it into files of one resource each\n",
        "documents/c.json entry[0].resource.entry[0]: read",
        "documents/d.json: skipped: is a Bundle without a Consent\n",
        "documents/e.json: refused\n  Bundle.entry: must be a list\n",
        "documents/ward/7/f.json: read",
        "documents/ward/up: skipped: is a link to a folder\n",
        "3 read, of which 3 can permit something; 1 refused; 3 skipped\n",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
    let json = run(&["check", "documents", "--output", "json"], &folder);
    let report: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(report["skipped"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["skipped"][0]["file"], "documents/b.ndjson");
}

#[test]
fn what_changes_the_meaning_of_a_bundle_is_refused_with_all_in_it() {
    let with = |bundle: (&str, Value), entry: (&str, Value)| json!({"resourceType": "Bundle", bundle.0: bundle.1, "entry": [{"resource": permit_all(), entry.0: entry.1}]});
    let modifier = json!([{"url": "urn:not"}]);
    let nothing = || ("id", json!("x"));
    let nested =
        json!({"resourceType": "Bundle", "entry": [{"resource": with(("implicitRules", json!("urn:x")), nothing())}]});
    let files = [
        ("a.json", with(("implicitRules", json!("urn:x")), nothing())),
        ("b.json", with(("modifierExtension", modifier.clone()), nothing())),
        ("c.json", with(nothing(), ("modifierExtension", modifier))),
        ("d.json", nested),
        ("e.json", with(nothing(), nothing())),
    ];
    let files: Vec<_> = files.iter().map(|(name, document)| (*name, document.to_string().into_bytes())).collect();
    let folder = folder(&files);
    let output = run(&["check", "."], &folder);
    let said = String::from_utf8_lossy(&output.stdout);
    for line in [
        "a.json: refused\n  Bundle.implicitRules: changes the meaning",
        "b.json: refused\n  Bundle.modifierExtension: changes the meaning",
        "c.json entry[0]: refused\n  Bundle.entry.modifierExtension: changes the meaning",
        "d.json entry[0].resource: refused\n  Bundle.implicitRules: changes the meaning",
        "e.json entry[0]: read",
        "1 read, of which 1 can permit something; 4 refused\n",
    ] {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
}

#[test]
fn what_is_over_or_not_active_permits_nothing_more() {
    let ended = r4(json!({"type": "permit", "period": {"end": "2020"}}));
    let files = [
        ("a.json", ended.to_string().into_bytes()),
        ("b.json", member(permit_all(), "status", json!("inactive")).to_string().into_bytes()),
        ("c.json", permit_all().to_string().into_bytes()),
    ];
    let output = run(&["check", "--as", "files", "."], &folder(&files));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("for any purpose until 2020 (does not count: it is over)\n"), "{said}");
    assert!(said.contains("3 read, of which 1 can permit something; 0 refused\n"), "{said}");
}

#[test]
fn a_file_that_names_no_patient_permits_no_request_for_one() {
    let identified = json!({"identifier": {"system": "urn:x", "value": "1"}});
    let document = member(permit_all(), "patient", identified);
    let folder = folder(&[("a.json", document.to_string().into_bytes())]);
    let said =
        |reader: &str| String::from_utf8_lossy(&run(&["check", "--as", reader, "."], &folder).stdout).into_owned();
    let files = said("files");
    assert!(
        files.contains("it names none by Patient/id") && files.contains("of which 0 can permit something"),
        "{files}"
    );
    assert!(said("ledger").contains("of which 1 can permit something"));
    assert_eq!(decision(&[document], None, json!({"patient": "Patient/1"})), "DENY");
}

#[test]
fn names_that_kubernetes_and_patients_that_requests_do_not_have_are_refused() {
    let folder = folder(&[
        ("consent.json", permit_all().to_string().into_bytes()),
        ("policy.json", manifest(&json!({"template": {"type": "permit"}}))),
    ]);
    for (name, taken) in [
        ("epd-full", true),
        ("epd.full.2", true),
        ("EPD Full", false),
        ("", false),
        ("-a", false),
        ("a..b", false),
        ("a-", false),
    ] {
        let output = run(&["import", "consent.json", &format!("--name={name}")], &folder);
        assert_eq!(output.status.success(), taken, "{name}");
    }
    for (patient, taken) in [
        ("Patient/4711", true),
        ("https://a.example/fhir/Patient/1", true),
        ("4711", false),
        ("Practitioner/1", false),
        ("Patient/", false),
    ] {
        let output = run(&["export", "policy.json", "--patient", patient], &folder);
        assert_eq!(output.status.success(), taken, "{patient}");
        assert!(taken || output.status.code() == Some(2), "{patient}");
    }
}

#[test]
fn where_there_is_no_consent_the_check_fails() {
    let empty = folder(&[]);
    let other = folder(&[("documents/notes.txt", b"nothing".to_vec())]);
    for folder in [&empty, &other] {
        let output = run(&["check", "documents"], folder);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("documents: there is no Consent"), "{said}");
    }
}

#[test]
fn what_is_no_json_of_one_meaning_has_a_cause_of_its_own() {
    let twice = permit_all().to_string().replace("\"type\":", "\"type\":\"deny\",\"t\\u0079pe\":");
    let deep = format!("{}1{}", "[".repeat(90), "]".repeat(90));
    let folder = folder(&[
        ("documents/a.json", twice.clone().into_bytes()),
        ("documents/b.json", twice.replace("Patient/1", "Patient/2000").into_bytes()),
        ("documents/c.json", format!("{{\"a\": {deep}}}").into_bytes()),
        ("documents/d.json", b"{\"a\": }".to_vec()),
    ]);
    let output = run(&["check", "documents", "--output", "json"], &folder);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["documents"][0]["refused"],
        json!([{"field": "Consent.provision.type", "message": "is given twice"}])
    );
    let causes = [("type is given twice", 2), ("Consent is not JSON", 1), ("a too deep", 1)];
    let causes: Vec<Value> =
        causes.iter().map(|(cause, documents)| json!({"cause": cause, "documents": documents})).collect();
    assert_eq!(report["causes"], json!(causes));
}
