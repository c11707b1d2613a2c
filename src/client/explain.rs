//! A decision in one sentence, with the provision that decided it.

use serde_json::Value;

use ehrnet_consent::decision::Effect;
use ehrnet_consent::rules::{Basis, Reason};
use ehrnet_messages::{DecisionDetail, Refusal};

/// What was asked, for people.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who, for example `Practitioner/7`.
    pub who: &'a str,
    /// The record; none for all of the patient's records.
    pub record: Option<&'a str>,
    /// Why.
    pub purpose: &'a str,
}

/// The sentence. `provision` is the one that decided, as FHIR writes it, where the caller may know it.
pub fn sentence(asked: Asked, detail: &DecisionDetail, provision: Option<&Value>) -> String {
    let (word, verb) = match detail.decision {
        Effect::Permit => ("PERMIT", "may see"),
        Effect::Deny => ("DENY", "may not see"),
    };
    let what = asked.record.map_or("the patient's records".to_owned(), |record| format!("record {record}"));
    let mut text = format!("{word}: {} {verb} {what} for {}, because {}", asked.who, asked.purpose, because(detail));
    if let Some(provision) = provision.map(words).filter(|words| !words.is_empty()) {
        text += &format!(" ({provision})");
    }
    match detail.residual.len() {
        0 => {}
        n => text += &format!("; each record has still to be compared with {n} residual rules"),
    }
    if let (Effect::Permit, Some(end)) = (detail.decision, detail.expires_at) {
        text += &format!("; this holds until {end} at the latest");
    }
    if detail.basis == Basis::Breakglass {
        text += "; a privacy officer will review it";
    }
    text + "."
}

fn because(detail: &DecisionDetail) -> String {
    if let Some(refusal) = word::<Refusal>(&detail.reason) {
        return refused(refusal).to_owned();
    }
    let provision = || {
        let path = detail.matched_path.as_deref().unwrap_or("the root");
        match (detail.basis, &detail.consent) {
            (Basis::Overriding, _) => format!("{path} of the hospitals' policy, which stands above consents,"),
            (_, Some(consent)) => format!("{path} of consent {consent}"),
            (_, None) => format!("{path} of the patient's consent"),
        }
    };
    match word::<Reason>(&detail.reason) {
        Some(Reason::ProvisionPermits) => format!("{} permits it", provision()),
        Some(Reason::ProvisionDenies) => format!("{} denies it", provision()),
        Some(Reason::OutsidePermittedData) => format!("{} permits other data only", provision()),
        Some(Reason::NoConsent) => match detail.decision {
            Effect::Permit => "no consent of the patient decides and the base policy permits it".into(),
            Effect::Deny => "no consent of the patient decides and the base policy does not permit it".into(),
        },
        Some(Reason::BreakGlassConsented) => format!("the glass was broken, as {} permits", provision()),
        Some(Reason::BreakGlassAllowed) => {
            "the glass was broken, as the hospitals' policy allows whatever the consent says".into()
        }
        Some(Reason::BreakGlassForbidden) => "the hospitals' policy forbids to break the glass".into(),
        Some(Reason::BreakGlassNotAuthorized) => "the certificate does not allow to break the glass".into(),
        Some(Reason::BreakGlassNotJustified) => "the glass is not broken without a justification".into(),
        Some(Reason::NoPolicy) => "no consent policy is in force on the ledger".into(),
        Some(Reason::UnreadableConsent) => "a consent of the patient cannot be read: it must be put again".into(),
        Some(Reason::Error) => "the consents or the policy could not be evaluated".into(),
        None => format!("of {}", detail.reason),
    }
}

/// The value that is written as this word.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownRecord => "there is no such record",
        Refusal::ErasedRecord => "the record was erased",
        Refusal::OtherPatientsRecord => "the record is of another patient",
        Refusal::RoleNotCertified => "the certificate does not have the role that was claimed",
        Refusal::DeviceMayNotRead => "a device writes and does not read",
    }
}

/// The elements of a provision in words, one phrase each.
fn words(provision: &Value) -> String {
    let codes = |name: &str| {
        let entries = provision[name].as_array().into_iter().flatten();
        let codes = entries.filter_map(|entry| {
            let coding = entry.get("coding").and_then(|codings| codings.get(0)).unwrap_or(entry);
            coding["display"].as_str().or(coding["code"].as_str())
        });
        codes.collect::<Vec<_>>().join(" or ")
    };
    let period = |name: &str| {
        let end = |name_of_end: &str| provision[name][name_of_end].as_str();
        match (end("start"), end("end")) {
            (None, None) => String::new(),
            (Some(start), None) => format!("from {start}"),
            (None, Some(end)) => format!("to {end}"),
            (Some(start), Some(end)) => format!("{start} to {end}"),
        }
    };
    let references = |name: &str| {
        let entries = provision[name].as_array().into_iter().flatten();
        let named = entries.filter_map(|entry| {
            let reference = &entry["reference"];
            reference["reference"].as_str().or(reference["identifier"]["value"].as_str())
        });
        named.collect::<Vec<_>>().join(" or ")
    };
    let phrases = [
        ("purpose", codes("purpose")),
        ("actor", references("actor")),
        ("action", codes("action")),
        ("label", codes("securityLabel")),
        ("class", codes("class")),
        ("code", codes("code")),
        ("period", period("period")),
        ("data of", period("dataPeriod")),
        ("data", references("data")),
    ];
    let phrases = phrases.into_iter().filter(|(_, words)| !words.is_empty());
    phrases.map(|(name, words)| format!("{name} {words}")).collect::<Vec<_>>().join(", ")
}

/// The provision of `resource` at `path`, for example `provision.provision[0]`.
pub fn provision_at<'a>(resource: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(resource, |at, step| match step.split_once('[') {
        None => at.get(step),
        Some((name, index)) => at.get(name)?.get(index.trim_end_matches(']').parse::<usize>().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_consent::{self as consent, Policy, Request, fhir};
    use serde_json::json;

    const ASKED: Asked = Asked { who: "Practitioner/7", record: Some("r-1"), purpose: "TREAT" };

    /// What the evaluator says of a consent that permits treatment but not to Practitioner/7.
    fn decided(id: &str, spec: Value, consents: &[Value]) -> DecisionDetail {
        let policy: Policy = consent::validate(&serde_json::from_value(spec).expect("a spec")).expect("a policy");
        let consents: Vec<_> =
            consents.iter().map(|json| fhir::read(json, None, policy.context()).expect("a consent")).collect();
        let request = json!({"actor": {"id": id}, "purpose": "TREAT", "resource": {"securityLabels": ["N"]}});
        let request = Request::parse(&request, policy.context()).expect("a request");
        let now = "2026-11-23T12:00:00Z".parse().expect("a time");
        let decision = consent::decide(&consents, &policy, &request, now);
        let mut detail = serde_json::to_value(decision).expect("JSON");
        if !consents.is_empty() {
            detail["consent"] = json!("c-1");
        }
        serde_json::from_value(detail).expect("a detail")
    }

    fn treatment() -> Value {
        json!({
            "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
            "category": [{"coding": [{"code": "59284-0"}]}],
            "provision": {
                "type": "permit", "purpose": [{"code": "TREAT"}], "period": {"end": "2026-12-31"},
                "provision": [{"type": "deny", "actor": [{"reference": {"reference": "Practitioner/7"}}]}],
            },
        })
    }

    #[test]
    fn the_provision_that_decided_is_named() {
        let detail = decided("Practitioner/7", json!({}), &[treatment()]);
        let consent = treatment();
        let provision = provision_at(&consent, detail.matched_path.as_deref().expect("a path"));
        assert_eq!(
            sentence(ASKED, &detail, provision),
            "DENY: Practitioner/7 may not see record r-1 for TREAT, because provision.provision[0] of consent c-1 denies it (actor Practitioner/7)."
        );
        let other = decided("Practitioner/8", json!({}), &[treatment()]);
        assert_eq!(
            sentence(Asked { who: "Practitioner/8", record: None, ..ASKED }, &other, None),
            "PERMIT: Practitioner/8 may see the patient's records for TREAT, because provision of consent c-1 permits it; this holds until 2027-01-01T00:00:00Z at the latest."
        );
    }

    #[test]
    fn without_a_consent_the_base_policy_is_named() {
        let said = |base: &str| sentence(ASKED, &decided("Practitioner/7", json!({"basePolicy": base}), &[]), None);
        assert!(
            said("deny").ends_with("because no consent of the patient decides and the base policy does not permit it.")
        );
        assert!(said("all-normal").contains("the base policy permits it"));
        let mandate = json!({"overriding": [{"type": "deny", "purpose": [{"code": "TREAT"}]}]});
        let said = sentence(ASKED, &decided("Practitioner/7", mandate, &[]), None);
        assert!(said.contains("spec.overriding[0] of the hospitals' policy"), "{said}");
    }

    #[test]
    fn a_refusal_of_the_contract_comes_first() {
        let detail = DecisionDetail { reason: "erased-record".into(), ..decided("Practitioner/x", json!({}), &[]) };
        assert!(sentence(ASKED, &detail, None).contains("because the record was erased"));
    }

    #[test]
    fn a_path_leads_to_its_provision() {
        let consent = json!({"provision": [{"provision": [{}, {"purpose": [{"code": "X"}]}]}]});
        assert_eq!(words(provision_at(&consent, "provision[0].provision[1]").expect("there")), "purpose X");
        assert!(provision_at(&consent, "provision[1]").is_none() && provision_at(&consent, "decision").is_none());
    }
}
