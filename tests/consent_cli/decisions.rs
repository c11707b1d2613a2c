//! What is decided from the provisions that match: inheritance, combining, break-glass, residual rules, time.

use super::*;

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
fn reading_9_a_root_that_fails_on_who_or_why_does_not_apply_even_if_data_fails_too() {
    let base = Some(json!({"basePolicy": "all-normal"}));
    let consent =
        r4(json!({"type": "permit", "purpose": codes(ACT_REASON, &["HRESCH"]), "class": [{"code": "Observation"}]}));
    let ask = |purpose: &str| {
        decide(
            std::slice::from_ref(&consent),
            base.clone(),
            json!({"actor": {"id": "Practitioner/7"}, "purpose": purpose, "resource": {"securityLabels": ["N", "PSY"], "class": "Media"}}),
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
    let anyone = json!({"actor": {"id": "Practitioner/7"}, "purpose": "TREAT"});
    let result = decide(&[consent], Some(json!({"basePolicy": "all-normal"})), anyone);
    assert_eq!(result["decision"], "PERMIT");
    // The base policy ends with what is normally protected.
    let deny = json!({"effect": "deny", "securityLabel": labels(&["R"]), "unclearLabels": true});
    let permit = json!({"effect": "permit", "securityLabel": labels(&["N"])});
    assert_eq!(result["residual"], json!([{"effect": "deny"}, permit, deny]));
    assert_eq!(result["obligations"][0]["id"], json!({"system": ACT_CODE, "code": "REDACT"}));
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
            "effect": "deny", "securityLabel": labels(&["R"]), "unclearLabels": true, "class": class, "dataPeriod": {"start": "2020", "end": "2021-05"},
        })
    );
    assert_eq!(
        ask(json!({"class": "A", "authoredOn": "2021-01-01"}))["residual"][1],
        json!({"effect": "deny", "securityLabel": labels(&["R"]), "unclearLabels": true})
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
fn reading_11_data_of_a_day_must_lie_in_a_time_that_is_permitted_and_overlap_one_that_is_denied() {
    let spring = json!({"start": "2026-03-01T12:00:00Z", "end": "2026-03-31"});
    let permit = r4(json!({"type": "permit", "dataPeriod": spring}));
    let deny = r4(json!({"type": "permit", "provision": [{"type": "deny", "dataPeriod": spring}]}));
    for (on, permitted, denied) in [
        ("2026-03-02", "PERMIT", "DENY"),
        ("2026-03-01T12:00:00Z", "PERMIT", "DENY"),
        ("2026-03-31T23:59:59Z", "PERMIT", "DENY"),
        ("2026-03-01", "DENY", "DENY"),
        ("2026", "DENY", "DENY"),
        ("2026-02-28", "DENY", "PERMIT"),
        ("2026-03-01T11:59:59Z", "DENY", "PERMIT"),
        ("2026-04-01", "DENY", "PERMIT"),
    ] {
        let ask =
            |consent: &Value| decision(std::slice::from_ref(consent), None, json!({"resource": {"authoredOn": on}}));
        assert_eq!([ask(&permit), ask(&deny)], [permitted, denied], "{on}");
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
