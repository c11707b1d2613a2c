//! The audit as FHIR R4 AuditEvent resources.
//!
//! Decisions follow IHE BALP, profile `IHE.BasicAudit.AuthZconsent` (<https://profiles.ihe.net/ITI/BALP/>, its source
//! `input/fsh/AuthZ.fsh`), disclosures `IHE.BasicAudit.PrivacyDisclosure.Source`. BALP wants the network address of the client;
//! the ledger does not know it, and says so in FHIR's way (data-absent-reason). Registrations and erasures have no
//! profile there and get the ISO 21089 lifecycle event. The trap: the entities of AuthZconsent are closed, so the record
//! that a decision is about stands in an extension.

use serde_json::{Map, Value, json};

use super::audit_csv::word;
use ehrnet_consent::decision::Effect;
use ehrnet_messages::{AuditEntry, AuditKind};

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const BALP: &str = "https://profiles.ihe.net/ITI/BALP";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
const ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
const EXTENSION: &str = "https://ehrnet.dev/fhir/StructureDefinition";

/// The resource for one entry of the ledger `ledger` (`channel/chaincode`).
pub fn resource(entry: &AuditEntry, ledger: &str) -> Value {
    let observer = identified("urn:ehrnet:ledger", ledger);
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": entry.tx_id,
        "recorded": entry.at,
        "outcome": if entry.decision == Some(Effect::Deny) { "8" } else { "0" },
        "source": {
            "observer": observer,
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "6", "Security Server")],
        },
        "entity": entities(entry),
    });
    let purposes: Vec<Value> = entry.purpose.iter().map(|purpose| json!({"coding": [purpose]})).collect();
    if !purposes.is_empty() {
        event["purposeOfEvent"] = purposes.into();
    }
    let extensions = extensions(entry);
    if !extensions.is_empty() {
        event["extension"] = extensions.into();
    }
    match entry.kind {
        AuditKind::Access => decision(&mut event, entry, observer),
        AuditKind::Disclosure => disclosure(&mut event, entry, observer),
        AuditKind::Registration => {
            lifecycle(&mut event, entry, "C", "originate", "Originate/Retain Record Lifecycle Event")
        }
        AuditKind::Erasure => lifecycle(&mut event, entry, "D", "destroy", "Destroy/Delete Record Lifecycle Event"),
    }
    event
}

/// A collection Bundle with one resource per entry.
pub fn bundle(entries: &[AuditEntry], ledger: &str) -> Value {
    let entries = entries.iter().map(|entry| {
        json!({"fullUrl": format!("urn:ehrnet:audit-event:{}", entry.tx_id), "resource": resource(entry, ledger)})
    });
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries.collect::<Vec<_>>()})
}

fn decision(event: &mut Value, entry: &AuditEntry, observer: Value) {
    event["meta"] = json!({"profile": [format!("{BALP}/StructureDefinition/IHE.BasicAudit.AuthZconsent")]});
    event["type"] = coding(DCM, "110113", "Security Alert");
    let subtype = "Authorization Decision using Roles and Consent";
    event["subtype"] = json!([coding(&format!("{BALP}/CodeSystem/AuthZsubType"), "AuthZ-Consent", subtype)]);
    event["action"] = "E".into();
    event["outcomeDesc"] = outcome(entry).into();
    let mut user = user(entry);
    if let Some(purpose) = &entry.purpose {
        user["purposeOfUse"] = json!([{"coding": [purpose]}]);
    }
    event["agent"] = json!([
        agent(DCM, "110150", "Application", identified("urn:ehrnet:msp", &entry.actor_msp), Some(unknown())),
        user,
        agent(
            "http://terminology.hl7.org/CodeSystem/v3-RoleClass",
            "PROV",
            "healthcare provider",
            identified("urn:ehrnet:msp", &entry.actor_msp),
            None
        ),
        agent(
            "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
            "authserver",
            "authorization server",
            observer,
            None
        ),
    ]);
}

fn disclosure(event: &mut Value, entry: &AuditEntry, observer: Value) {
    event["meta"] = json!({"profile": [format!("{BALP}/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source")]});
    event["type"] = coding(DCM, "110106", "Export");
    event["subtype"] = json!([coding(LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")]);
    event["action"] = "R".into();
    let recipient = entry.detail.as_deref().and_then(|detail| detail.recipient.as_ref());
    let who = match recipient {
        Some(recipient) => json!({"display": recipient.name}),
        None => unknown(),
    };
    event["agent"] = json!([
        agent(DCM, "110153", "Source Role ID", observer, Some(unknown())),
        agent(DCM, "110152", "Destination Role ID", who, Some(unknown())),
        user(entry),
    ]);
    let described = recipient.and_then(|recipient| recipient.description.as_deref());
    let data = json!({"what": record(entry), "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "2", "System Object"), "description": described});
    if let Some(entities) = event["entity"].as_array_mut() {
        entities.push(without_nulls(data));
    }
}

fn lifecycle(event: &mut Value, entry: &AuditEntry, action: &str, code: &str, display: &str) {
    event["type"] = coding(LIFECYCLE, code, display);
    event["action"] = action.into();
    event["agent"] = json!([user(entry)]);
    let data = json!({"what": record(entry), "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "2", "System Object")});
    if let Some(entities) = event["entity"].as_array_mut() {
        entities.push(data);
    }
}

/// The patient, and for a decision the consent (or, where none decided, the policy in its place) that it is based on.
fn entities(entry: &AuditEntry) -> Value {
    let mut patient = identified("urn:ehrnet:pseudonym", &entry.patient);
    patient["type"] = "Patient".into();
    let patient = json!({
        "what": patient,
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "1", "Person"),
        "role": coding("http://terminology.hl7.org/CodeSystem/object-role", "1", "Patient"),
    });
    if entry.kind != AuditKind::Access {
        return json!([patient]);
    }
    let what = match (&entry.consent_digest, &entry.policy_digest) {
        (Some(digest), _) => identified("urn:ehrnet:consent:sha256", digest),
        (None, Some(digest)) => {
            let mut policy = identified("urn:ehrnet:policy:sha256", digest);
            policy["display"] = "no consent decided: the hospitals' policy".into();
            policy
        }
        (None, None) => json!({"display": "no consent decided"}),
    };
    json!([patient, {"what": what, "type": coding("http://hl7.org/fhir/resource-types", "Consent", "Consent")}])
}

fn record(entry: &AuditEntry) -> Value {
    entry.record.as_ref().map_or_else(unknown, |record| identified("urn:ehrnet:record", record))
}

/// Whoever acted: by name where the caller may know it, otherwise by the hash on the ledger.
fn user(entry: &AuditEntry) -> Value {
    let person = entry.detail.as_deref().map(|detail| &detail.actor);
    let who = match person {
        Some(person) => json!({"reference": person.id}),
        None => identified("urn:ehrnet:actor:sha256", &entry.actor),
    };
    let mut user =
        agent("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient", who, None);
    user["requestor"] = true.into();
    if let Some(role) = person.and_then(|person| person.role.as_ref()) {
        user["role"] = json!([{"text": role}]);
    }
    user
}

fn agent(system: &str, code: &str, display: &str, who: Value, network: Option<Value>) -> Value {
    let mut agent = json!({"type": {"coding": [coding(system, code, display)]}, "who": who, "requestor": false});
    if let Some(network) = network {
        agent["network"] = network;
    }
    agent
}

fn outcome(entry: &AuditEntry) -> String {
    let decision = entry.decision.map(|decision| word(&decision)).unwrap_or_default();
    let basis = entry.basis.map(|basis| word(&basis)).unwrap_or_default();
    format!("{decision} ({basis}): {}", entry.reason.as_deref().unwrap_or_default())
}

fn extensions(entry: &AuditEntry) -> Vec<Value> {
    let text = |name: &str, value: &str| json!({"url": format!("{EXTENSION}/{name}"), "valueString": value});
    let record = entry.record.iter().filter(|_| entry.kind == AuditKind::Access).map(|record| text("record", record));
    let project = entry.project.iter().map(|project| text("research-project", project));
    let review = entry.review.iter().map(|review| text("break-glass-review", &word(&review.status)));
    record.chain(project).chain(review).collect()
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

/// A logical reference.
fn identified(system: &str, value: &str) -> Value {
    json!({"identifier": {"system": system, "value": value}})
}

/// What FHIR has for "there is one, but it is not known here".
fn unknown() -> Value {
    json!({"extension": [{"url": ABSENT, "valueCode": "unknown"}]})
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            members.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::entry;

    fn agents<'a>(event: &'a Value, code: &str) -> Vec<&'a Value> {
        let agents = event["agent"].as_array().expect("agents");
        agents.iter().filter(|agent| agent["type"]["coding"][0]["code"] == code).collect()
    }

    /// What `AuthZ.fsh` of BALP demands, element by element.
    #[test]
    fn a_decision_has_the_shape_of_balp_authz_consent() {
        let detail = json!({"actor": {"mspId": "AMSP", "id": "Practitioner/7", "role": "physician"}});
        let events = [
            resource(&entry(json!({"detail": detail, "consentDigest": "cd"})), "records/ehr"),
            resource(
                &entry(json!({"decision": "DENY", "basis": "implicit", "reason": "no-consent", "purpose": null})),
                "records/ehr",
            ),
        ];
        for event in &events {
            assert_eq!(event["type"], coding(DCM, "110113", "Security Alert"));
            assert_eq!(event["subtype"][0]["code"], "AuthZ-Consent");
            assert_eq!(event["subtype"][0]["system"], "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType");
            assert_eq!(event["action"], "E");
            let requestors: Vec<(&str, bool)> = ["110150", "IRCP", "PROV", "authserver"]
                .map(|code| match agents(event, code)[..] {
                    [one] => (code, one["requestor"].as_bool().expect("said")),
                    _ => panic!("{code}: exactly one"),
                })
                .into();
            assert_eq!(requestors, [("110150", false), ("IRCP", true), ("PROV", false), ("authserver", false)]);
            assert!(agents(event, "110150")[0]["network"].is_object());
            assert_eq!(agents(event, "authserver")[0]["who"], event["source"]["observer"], "val-audit-source");
            for agent in event["agent"].as_array().expect("agents") {
                assert!(agent["who"].is_object());
                for forbidden in ["altId", "location", "media"] {
                    assert!(agent.get(forbidden).is_none());
                }
            }
            let kinds: Vec<&Value> =
                event["entity"].as_array().expect("entities").iter().map(|entity| &entity["type"]["code"]).collect();
            assert_eq!(kinds, ["1", "Consent"], "the entities are closed");
            assert_eq!(event["entity"][0]["what"]["type"], "Patient");
            assert_eq!(event["entity"][0]["role"]["code"], "1");
            assert!(event["entity"][1]["what"].is_object());
        }
        assert_eq!((&events[0]["outcome"], &events[1]["outcome"]), (&json!("0"), &json!("8")));
        assert_eq!(events[1]["outcomeDesc"], "DENY (implicit): no-consent");
        assert_eq!(agents(&events[0], "IRCP")[0]["who"], json!({"reference": "Practitioner/7"}));
        assert_eq!(agents(&events[1], "IRCP")[0]["who"]["identifier"]["system"], "urn:ehrnet:actor:sha256");
    }

    #[test]
    fn a_disclosure_names_source_recipient_patient_and_data() {
        let detail = json!({"actor": {"mspId": "AMSP", "id": "Practitioner/7"}, "recipient": {"name": "Insurer", "description": "bill"}});
        let event = resource(
            &entry(json!({"kind": "disclosure", "decision": null, "basis": null, "reason": null, "detail": detail})),
            "records/ehr",
        );
        assert_eq!(
            (&event["type"]["code"], &event["subtype"][0]["code"], &event["action"]),
            (&json!("110106"), &json!("disclose"), &json!("R"))
        );
        assert_eq!(agents(&event, "110153")[0]["who"], event["source"]["observer"]);
        assert_eq!(agents(&event, "110152")[0]["who"]["display"], "Insurer");
        assert_eq!(event["entity"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_bundle_holds_every_entry_under_its_own_url() {
        let entries = [entry(json!({})), entry(json!({"txId": "t2", "kind": "erasure"}))];
        let bundle = bundle(&entries, "records/ehr");
        let urls: Vec<&Value> =
            bundle["entry"].as_array().expect("entries").iter().map(|entry| &entry["fullUrl"]).collect();
        assert_eq!(urls, ["urn:ehrnet:audit-event:t1", "urn:ehrnet:audit-event:t2"]);
        assert_eq!(bundle["entry"][1]["resource"]["type"]["code"], "destroy");
    }
}
