//! The people in the demo's story: identities of the hospitals, made as `Identity` resources.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::DemoError;
use super::forward::Forward;
use super::install::Sample;
use ehrnet_client::contract::ConnectOptions;
use ehrnet_client::{Bundle, Contract};
use ehrnet_messages::hash;
use ehrnet_messages::{attribute, role};

/// The patient's id at the hospital. The ledger never sees it.
const PATIENT_ID: &str = "MRN-0423-1957";
/// The hospital's client bundle, which holds the secret of the pseudonyms.
const HOSPITAL_BUNDLE: &str = "mercy-connection";

pub(super) const REGISTRAR: &str = "mercy-registrar";
pub(super) const PHYSICIAN: &str = "lakeside-physician";
pub(super) const EMERGENCY_PHYSICIAN: &str = "lakeside-emergency";
pub(super) const PRIVACY_OFFICER: &str = "mercy-privacy";

/// The patient, as the hospitals know them.
pub(super) struct Patient {
    /// Name on the ledger.
    pub(super) pseudonym: String,
    /// Name of the Identity: it stands in every transaction that the patient signs, so it must not tell anything either.
    pub(super) identity: String,
}

impl Patient {
    /// The demo's patient under the network's secret.
    pub(super) async fn of(client: &Client, namespace: &str) -> Result<Self, DemoError> {
        let key = bundle(client, namespace, HOSPITAL_BUNDLE).await?.pseudonym_key()?;
        let pseudonym = hash::pseudonym(&key, PATIENT_ID);
        let identity = format!("patient-{}", &pseudonym[..12]);
        Ok(Self { pseudonym, identity })
    }
}

/// The identities, to be applied.
pub(super) fn identities(patient: &Patient) -> Result<Sample, DemoError> {
    let staff = [
        (REGISTRAR, "mercy", json!({attribute::ROLE: role::REGISTRAR})),
        (PHYSICIAN, "lakeside", json!({attribute::ROLE: role::PHYSICIAN})),
        (EMERGENCY_PHYSICIAN, "lakeside", json!({attribute::ROLE: role::PHYSICIAN, attribute::BREAK_GLASS: "true"})),
        (PRIVACY_OFFICER, "mercy", json!({attribute::ROLE: role::PRIVACY_OFFICER})),
        (
            patient.identity.as_str(),
            "mercy",
            json!({attribute::ROLE: role::PATIENT, attribute::PATIENT: patient.pseudonym}),
        ),
    ];
    let objects = staff.map(|(name, hospital, attributes)| identity(name, hospital, attributes));
    let objects = objects.into_iter().collect::<Result<Vec<DynamicObject>, _>>();
    objects
        .map(|objects| Sample::of("the demo's people", objects))
        .map_err(|error| DemoError::Sample { path: "the demo's people".into(), reason: error.to_string() })
}

fn identity(name: &str, hospital: &str, attributes: Value) -> Result<DynamicObject, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "ehrnet.dev/v1alpha1", "kind": "Identity", "metadata": {"name": name},
        "spec": {"hospitalRef": {"name": hospital}, "type": "client", "attributes": attributes},
    }))
}

/// The contract, called with their own client bundle.
pub struct ContractClient {
    /// What they call.
    pub contract: Contract,
    /// Keeps the way to the peer open.
    _forward: Forward,
}

impl ContractClient {
    /// Opens the contract with the bundle of an Identity.
    ///
    /// # Errors
    /// There is no such Secret, or it is no client bundle.
    pub async fn of(client: &Client, namespace: &str, identity: &str) -> Result<Self, DemoError> {
        Self::with(client, namespace, bundle(client, namespace, &format!("{identity}-id")).await?).await
    }

    /// Opens the contract with a client bundle.
    ///
    /// # Errors
    /// The bundle cannot be used.
    pub async fn with(client: &Client, namespace: &str, bundle: Bundle) -> Result<Self, DemoError> {
        // A peer's Service has the peer's name, and its one pod is the first of the StatefulSet of that name.
        let peer = bundle.peer.host.split('.').next().unwrap_or_default();
        let forward = Forward::open(client, namespace, format!("{peer}-0"), bundle.peer.port).await?;
        let options = ConnectOptions { peer: Some(forward.at.clone()), ..ConnectOptions::default() };
        Ok(Self { contract: Contract::open(bundle, options)?, _forward: forward })
    }
}

/// The client bundle in a Secret.
///
/// # Errors
/// There is no such Secret, or it is no client bundle.
pub async fn bundle(client: &Client, namespace: &str, secret: &str) -> Result<Bundle, DemoError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get(secret).await.map_err(DemoError::kube(format!("reading Secret {secret}")))?;
    let texts = found.data.into_iter().flatten();
    let texts = texts.filter_map(|(key, bytes)| Some((key, Zeroizing::new(String::from_utf8(bytes.0).ok()?))));
    Ok(Bundle::new(format!("Secret {secret}"), texts.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_on_the_ledger_is_named_by_what_the_hospital_calls_the_patient() {
        let pseudonym = hash::pseudonym(&[7; 32], PATIENT_ID);
        let patient = Patient { identity: format!("patient-{}", &pseudonym[..12]), pseudonym };
        let people = identities(&patient).expect("people");
        assert_eq!(people.keys().len(), 5);
        let text = serde_json::to_string(people.objects()).expect("JSON");
        assert!(text.contains(&patient.pseudonym) && !text.contains(PATIENT_ID));
    }
}
