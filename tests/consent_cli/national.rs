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
