//! The key pairs of a node, and the operator's own in a namespace.

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

/// A node's key pairs.
pub struct Credentials {
    /// In the MSP.
    pub identity: Issued,
    /// For TLS.
    pub tls: Issued,
    /// Whether the pod still runs with older ones, because others restart first.
    pub restart_waits: bool,
}

/// Both key pairs of a node, issued or renewed if need be. `known` is what its status says of them so far.
pub async fn of_node(
    ctx: &Context,
    writer: &Writer<'_>,
    owner: &Owner,
    plan: &NodePlan,
    dependencies: &Dependencies,
    known: &NodeStatus,
    replaceable: Replaceable,
) -> Result<Credentials, StepError> {
    let (signing, tls_ca) = (&dependencies.authorities.signing, &dependencies.authorities.tls);
    let window = dependencies.window;
    let slot = Slot { owner, name: &names::node_identity(&plan.parent.name), existed: known.identity.is_some() };
    let want = Want { leaf: &plan.identity_leaf(), issuer: signing, window, replaceable };
    let build = |certificate: &_, key: &_| secret::node_identity(plan, certificate, key, signing.certificate());
    let identity = key_pairs::leaf(ctx, writer, &slot, &want, &build).await;

    // One of the two does not wait for the other.
    let slot = Slot { owner, name: &names::node_tls(&plan.parent.name), existed: known.tls.is_some() };
    let want = Want { leaf: &plan.tls_leaf(), issuer: tls_ca, window, replaceable };
    let build = |certificate: &_, key: &_| secret::node_tls(plan, certificate, key, tls_ca.certificate());
    let tls = key_pairs::leaf(ctx, writer, &slot, &want, &build).await;
    Ok(Credentials { identity: identity?, tls: tls?, restart_waits: false })
}

/// The key pair by which a hospital's peers are known to its contracts: one for all of them, made before the first peer.
pub async fn of_chaincode_client(
    ctx: &Context,
    writer: &Writer<'_>,
    dependencies: &Dependencies,
) -> Result<Issued, StepError> {
    let plan = HospitalPlan::new(&dependencies.hospital)?;
    let owner = super::owner(&*dependencies.hospital)?;
    let issuer = &dependencies.authorities.tls;
    let slot = Slot { owner: &owner, name: &names::chaincode_client(&plan.parent.name), existed: false };
    let window = plan.chaincode_client_window();
    let want = Want { leaf: &plan.chaincode_client_leaf(), issuer, window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::chaincode_client(&plan, certificate, key, issuer.certificate());
    let issued = key_pairs::leaf(ctx, writer, &slot, &want, &build).await?;
    key_pairs::complete(ctx, writer, &slot, &issued, &build).await?;
    Ok(issued)
}

/// The operator's CA of a namespace, with its client certificate beside it in one Secret.
pub async fn of_operator(ctx: &Context, writer: &Writer<'_>, namespace: &str) -> Result<Certificate, StepError> {
    let owner = Owner::shared(namespace, names::OPERATOR);
    let slot = Slot { owner: &owner, name: names::OPERATOR, existed: false };
    let now = (ctx.clock)();
    let stored = ctx.world.secrets.get(namespace, names::OPERATOR);
    let ca = stored.as_deref().and_then(|secret| authorities::pair_at(secret, names::CA_CRT, names::CA_KEY));
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
    key_pairs::leaf(ctx, writer, &slot, &want, &build).await?;
    Ok(stored_ca(ctx, namespace)?)
}

/// Another pass may have stored its CA first: what stands in the Secret counts.
fn stored_ca(ctx: &Context, namespace: &str) -> Result<Certificate, Finding> {
    let secret = ctx.world.secrets.get(namespace, names::OPERATOR);
    let ca = secret.as_deref().and_then(|secret| authorities::pair_at(secret, names::CA_CRT, names::CA_KEY));
    ca.and_then(|pair| Certificate::from_pem(&pair.certificate).ok()).ok_or_else(|| {
        Finding::not(
            Reason::InvalidKeyPair,
            format!("Secret {} holds no readable CA: delete it, and it is made again", names::OPERATOR),
        )
    })
}
