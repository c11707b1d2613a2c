//! The demo's last part: shows with one record of one patient what the network is for.
//!
//! Everything goes the way that a hospital's systems go: client bundle, gateway of the own peer, contract.

use std::future::Future;
use std::io::Write;
use std::time::Instant;

use kube::Client;
use serde_json::{Value, json};

use super::people::{self, ContractClient, Patient};
use super::table::elapsed;
use super::{DemoArgs, DemoError, watch};
use ehrnet_client::consents::{self, Given};
use ehrnet_client::records::{self, Body, Description};
use ehrnet_client::{ClientError, access, audit, audit_table, contract};
use ehrnet_messages::{AuditSubject, ConsentVersion, Page, QueryAudit, Record, RegisterRecord, RequestAccess};

/// Entries of the audit that are shown.
const SHOWN: usize = 100;

/// Plays the story on a network that is ready.
///
/// # Errors
/// The step that failed, and why.
pub(super) async fn tell(args: &DemoArgs, client: &Client) -> Result<(), DemoError> {
    let mut out = std::io::stdout();
    let began = Instant::now();
    let patient = Patient::of(client, &args.namespace).await?;
    let people = people::identities(&patient)?;
    writeln!(
        out,
        "\napplying {} identities: a registrar, two physicians, a privacy officer, a patient\n",
        people.keys().len()
    )?;
    people.apply(client, &args.namespace).await?;
    watch::until_ready(client, &args.namespace, people.keys(), began, args.timeout).await?;

    let contract_client = |identity: &str| {
        let identity = identity.to_owned();
        async move { ContractClient::of(client, &args.namespace, &identity).await }
    };
    let story = Story {
        registrar: contract_client(people::REGISTRAR).await?,
        patient: contract_client(&patient.identity).await?,
        physician: contract_client(people::PHYSICIAN).await?,
        emergency: contract_client(people::EMERGENCY_PHYSICIAN).await?,
        officer: contract_client(people::PRIVACY_OFFICER).await?,
        pseudonym: patient.pseudonym,
        // Another record and consent each time that the demo is run on the same network.
        run: contract::salt()[..8].to_owned(),
    };
    writeln!(out, "\nOne record of a patient whom the ledger knows as {}…", &story.pseudonym[..12])?;
    story.play().await?;
    writeln!(out, "\nThe story took {}.", elapsed(began.elapsed()))?;
    Ok(())
}

/// Everybody's client of the contract.
struct Story {
    registrar: ContractClient,
    patient: ContractClient,
    physician: ContractClient,
    emergency: ContractClient,
    officer: ContractClient,
    pseudonym: String,
    run: String,
}

impl Story {
    async fn play(&self) -> Result<(), DemoError> {
        let record = step("Mercy's registrar registers the record", self.register()).await?;
        say(&[format!(
            "record {}, {} {}, on the ledger only as the salted hash {}…",
            record.record,
            record.class.code,
            record.confidentiality,
            &record.hash[..16]
        )])?;
        let consent = step("The patient lets the physician at Lakeside read for treatment", self.consent()).await?;
        say(&[format!("consent {} is active; what it says is private data of the hospitals", consent.consent)])?;
        self.ask("The physician asks for the record", &self.physician, "TREAT", None).await?;
        let revoked = consents::revoke(&self.patient.contract, self.pseudonym.clone(), consent.consent, None);
        let revoked = step("The patient revokes the consent", revoked).await?;
        say(&[format!("consent {} is inactive from the block on that carries the revocation", revoked.consent)])?;
        self.ask("The physician asks again", &self.physician, "TREAT", None).await?;
        let why = "found unconscious, allergies unknown";
        self.ask("An emergency: the physician on duty breaks the glass", &self.emergency, "BTG", Some(why)).await?;
        let reviews =
            step("The privacy officer looks what is to be reviewed", audit::reviews(&self.officer.contract)).await?;
        let due = reviews.iter().filter(|review| review.patient == self.pseudonym);
        let due = due.map(|review| {
            format!("break-glass at {} by somebody of {}: due by {}", review.at, review.actor_msp, review.due_by)
        });
        say(&due.collect::<Vec<_>>())?;
        let query = QueryAudit {
            of: AuditSubject::Patient(self.pseudonym.clone()),
            from: None,
            until: None,
            page: Page::default(),
        };
        let entries = audit::query(&self.officer.contract, query, SHOWN);
        let entries = step("The audit, as the privacy officer sees it", entries).await?;
        say(&audit_table::lines(&entries))
    }

    fn record(&self) -> String {
        format!("obs-{}", self.run)
    }

    async fn register(&self) -> Result<Record, ClientError> {
        let body = observation();
        let Description { class, confidentiality, codes, .. } = Description::of(&body);
        let missing = || ClientError::Input("the demo's record does not say what it is".into());
        let record = RegisterRecord {
            record: self.record(),
            patient: self.pseudonym.clone(),
            version: 1,
            class: class.ok_or_else(missing)?,
            confidentiality: confidentiality.ok_or_else(missing)?,
            sensitivity: Vec::new(),
            authored_on: Some("2026-11-20".into()),
            manifest: None,
        };
        let storage = format!("https://fhir.mercy.example/Observation/{}", self.run);
        records::register(&self.registrar.contract, record, &Body::Document(body), storage, codes).await
    }

    async fn consent(&self) -> Result<ConsentVersion, ClientError> {
        let given = Given {
            patient: self.pseudonym.clone(),
            consent: format!("consent-{}", self.run),
            resource: treatment(people::PHYSICIAN),
            seq: Some(1),
            source_hash: None,
            performer: None,
        };
        consents::put(&self.patient.contract, given).await
    }

    /// Requests access to the record and explains the answer.
    async fn ask(
        &self,
        what: &str,
        who: &ContractClient,
        purpose: &str,
        justification: Option<&str>,
    ) -> Result<(), DemoError> {
        let asked = RequestAccess {
            patient: self.pseudonym.clone(),
            record: Some(self.record()),
            action: Some("access".into()),
            purpose: purpose.into(),
            ..RequestAccess::default()
        };
        let sentence = async {
            let entry = access::request(&who.contract, &asked, justification.map(str::to_owned)).await?;
            let held = access::held(&who.contract, &entry.tx_id).await?;
            access::explain(&who.contract, &held.entry).await
        };
        say(&[step(what, sentence).await?])
    }
}

/// Says what is about to happen, and how long it took.
async fn step<T>(what: &str, act: impl Future<Output = Result<T, ClientError>>) -> Result<T, DemoError> {
    let began = Instant::now();
    let mut out = std::io::stdout();
    write!(out, "\n{what}")?;
    out.flush()?;
    let result = act.await.map_err(|source| DemoError::Story { step: what.to_owned(), source });
    writeln!(out, " ({})", elapsed(began.elapsed()))?;
    result
}

fn say(lines: &[String]) -> Result<(), DemoError> {
    let mut out = std::io::stdout();
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// A FHIR Observation; it never leaves this process, only its hash does.
fn observation() -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}]},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "valueQuantity": {"value": 72, "unit": "beats/minute"},
    })
}

/// A FHIR R4 Consent to treatment by one practitioner.
fn treatment(practitioner: &str) -> Value {
    let code = |system: &str, code: &str| json!({"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code});
    json!({
        "resourceType": "Consent", "status": "active",
        "scope": {"coding": [code("consentscope", "patient-privacy")]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "dateTime": "2026-11-20",
        "provision": {
            "type": "permit",
            "purpose": [code("v3-ActReason", "TREAT")],
            "actor": [{"role": {"coding": [code("v3-ParticipationType", "IRCP")]}, "reference": {"reference": format!("Practitioner/{practitioner}")}}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consent_and_the_record_are_such_as_the_contract_takes() {
        let context = ehrnet_consent::context::ProvisionContext::default();
        assert!(ehrnet_consent::fhir::read(&treatment(people::PHYSICIAN), None, &context).is_ok());
        let Description { class, confidentiality, codes, .. } = Description::of(&observation());
        assert!(class.is_some() && codes.is_some_and(|codes| codes.len() == 1));
        assert_eq!(confidentiality.as_deref(), Some("N"));
    }
}
