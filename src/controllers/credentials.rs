//! The key pairs of a node, and the operator's own in a namespace.

use k8s_openapi::api::core::v1::Secret;

use super::authorities;
use super::context::Context;
use super::error::StepError;
use super::key_pairs::{self, Issued, Slot, Want};
use super::keys::{Pair, Replaceable};
use super::nodes::Dependencies;
use super::writer::Writer;
use ehrnet_api::NodeStatus;
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_desired::plan::{HospitalPlan, NodePlan};
use ehrnet_desired::{names, secret};
use ehrnet_pki::{Authority, Certificate, Window};
use ehrnet_status::Finding;

/// Ten years: nobody but the operator's own orderers trusts this CA, and both are renewed together.
const OPERATOR_CA: Window = Window { validity: DAY.saturating_mul(3650), renew_before: DAY.saturating_mul(365) };
const OPERATOR_LEAF: Window = Window { validity: DAY.saturating_mul(365), renew_before: DAY.saturating_mul(90) };
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What is found of a node's key pairs.
pub struct CredentialSlots {
    identity: Slot,
    tls: Slot,
}

impl CredentialSlots {
    /// Gathers from the caches. `known` is what the node's status says of the pairs so far.
    pub fn gather(ctx: &Context, owner: &Owner, known: Option<&NodeStatus>) -> Self {
        let (identity, tls) = (names::node_identity(&owner.name), names::node_tls(&owner.name));
        Self {
            identity: Slot::gather(ctx, owner.clone(), identity, known.is_some_and(|known| known.identity.is_some())),
            tls: Slot::gather(ctx, owner.clone(), tls, known.is_some_and(|known| known.tls.is_some())),
        }
    }
}

/// A node's key pairs.
pub struct Credentials {
    /// In the MSP.
    pub identity: Issued,
    /// For TLS.
    pub tls: Issued,
}

/// Both key pairs of a node, issued or renewed if need be.
pub async fn of_node(
    ctx: &Context,
    writer: &Writer<'_>,
    slots: &CredentialSlots,
    plan: &NodePlan,
    dependencies: &Dependencies,
    replaceable: Replaceable,
) -> Result<Credentials, StepError> {
    let (signing, tls_ca) = (&dependencies.authorities.signing, &dependencies.authorities.tls);
    let window = dependencies.window;
    let want = Want { leaf: &plan.identity_leaf(), issuer: signing, window, replaceable };
    let build = |certificate: &_, key: &_| secret::node_identity(plan, certificate, key, signing.certificate());
    let identity = key_pairs::leaf(ctx, writer, &slots.identity, &want, &build).await;

    // One of the two does not wait for the other.
    let want = Want { leaf: &plan.tls_leaf(), issuer: tls_ca, window, replaceable };
    let build = |certificate: &_, key: &_| secret::node_tls(plan, certificate, key, tls_ca.certificate());
    let tls = key_pairs::leaf(ctx, writer, &slots.tls, &want, &build).await;
    Ok(Credentials { identity: identity?, tls: tls? })
}

/// What is found of the key pair by which a hospital's peers are known to its contracts.
pub fn chaincode_client_slot(ctx: &Context, dependencies: &Dependencies) -> Slot {
    let owner = dependencies.owner.clone();
    let name = names::chaincode_client(&owner.name);
    Slot::gather(ctx, owner, name, false)
}

/// The key pair by which a hospital's peers are known to its contracts: one for all of them, made before the first peer.
pub async fn of_chaincode_client(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot,
    dependencies: &Dependencies,
) -> Result<Issued, StepError> {
    let plan = HospitalPlan::new(&dependencies.hospital)?;
    let issuer = &dependencies.authorities.tls;
    let window = plan.chaincode_client_window();
    let want = Want { leaf: &plan.chaincode_client_leaf(), issuer, window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::chaincode_client(&plan, certificate, key, issuer.certificate());
    let issued = key_pairs::leaf(ctx, writer, slot, &want, &build).await?;
    key_pairs::complete(ctx, writer, slot, &issued, &build).await?;
    Ok(issued)
}

/// What is found of the operator's CA of a namespace, and of its client certificate beside it in one Secret.
pub fn operator_slot(ctx: &Context, namespace: &str) -> Slot {
    Slot::gather(ctx, Owner::shared(namespace, names::OPERATOR), names::OPERATOR.to_owned(), false)
}

/// The operator's own client certificate in a namespace, and the CA that orderers know it by.
pub async fn of_operator(ctx: &Context, writer: &Writer<'_>, slot: &Slot) -> Result<(Issued, Certificate), StepError> {
    let namespace = &slot.owner.namespace;
    let now = (ctx.clock)();
    let ca = slot.secret.as_deref().and_then(operator_ca);
    let ca = match ca.map(|Pair { certificate, key }| Authority::load(&certificate, &key, now)) {
        Some(Ok(ca)) => ca,
        Some(Err(_)) | None => {
            let made = Authority::generate(&secret::operator_ca_name(namespace), OPERATOR_CA.validity, now);
            made.map_err(|error| Finding::not(Reason::InvalidKeyPair, error.to_string()))?
        }
    };
    let leaf = secret::operator_leaf();
    let want = Want { leaf: &leaf, issuer: &ca, window: OPERATOR_LEAF, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::operator(namespace, &ca, certificate, key);
    let issued = key_pairs::leaf(ctx, writer, slot, &want, &build).await?;
    // Another pass may have stored its CA first: what stands in the Secret counts.
    let stands = operator_ca(&issued.secret).and_then(|pair| Certificate::from_pem(&pair.certificate).ok());
    let stands = stands.ok_or_else(|| {
        let message = format!("Secret {} holds no readable CA: delete it, and it is made again", names::OPERATOR);
        Finding::not(Reason::InvalidKeyPair, message)
    })?;
    Ok((issued, stands))
}

/// The operator's CA in its Secret.
fn operator_ca(secret: &Secret) -> Option<Pair> {
    authorities::pair_at(secret, names::CA_CRT, names::CA_KEY)
}
