//! Key pairs in Secrets: decide, write, remember.
//!
//! Invariant: a key stands in its Secret before anything uses it. A Secret with a key is made by create, never
//! overwritten blindly, and changed only on top of the version that the decision was made from.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::authorities;
use super::context::Context;
use super::keys::{self, CaAction, LeafAction, Pair, Replaceable};
use super::outcome::ReconcileError;
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_pki::renewal::{self, Wanted};
use ehrnet_pki::{Authority, AuthorityName, Certificate, Leaf, PrivateKey, Window};
use ehrnet_status::Finding;

/// A Secret with a key pair.
pub struct Slot<'a> {
    /// The resource it belongs to.
    pub owner: &'a Owner,
    /// Name of the Secret.
    pub name: &'a str,
    /// Whether the status says that there was a pair before.
    pub existed: bool,
}

/// Lays a leaf and its key out in a Secret.
pub type BuildLeaf<'a> = &'a (dyn Fn(&Certificate, &PrivateKey) -> Secret + Send + Sync);
/// Lays a CA out in a Secret.
pub type BuildAuthority<'a> = &'a (dyn Fn(&Authority) -> Secret + Send + Sync);

/// A leaf that can be used.
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Certificate and key.
    pub pair: Pair,
    /// Where it is stored.
    pub secret: String,
    /// When it is renewed.
    pub due: Option<Timestamp>,
}

impl Issued {
    /// As status shows it.
    pub fn status(&self) -> CertificateStatus {
        certificate_status(&self.secret, &self.certificate, self.due)
    }
}

/// A certificate as status shows it.
pub fn certificate_status(secret: &str, certificate: &Certificate, due: Option<Timestamp>) -> CertificateStatus {
    CertificateStatus {
        secret_name: secret.to_owned(),
        serial: certificate.serial(),
        not_after: certificate.not_after().to_string(),
        renewal_time: due.map(|due| due.to_string()),
    }
}

/// What is stored in a slot, and what is remembered of it.
fn known(ctx: &Context, slot: &Slot<'_>) -> (Option<Arc<Secret>>, Option<Pair>, Option<Pair>) {
    let secret = ctx.world.secrets.get(&slot.owner.namespace, slot.name);
    let stored = secret.as_deref().map(|secret| authorities::pair(secret).unwrap_or_else(Pair::empty));
    (secret, stored, ctx.memory.get(&key(slot)))
}

fn key(slot: &Slot<'_>) -> (String, String) {
    (slot.owner.namespace.clone(), slot.name.to_owned())
}

/// Puts a pair into its Secret: made if there is none, replaced on top of what was read otherwise.
async fn store(
    ctx: &Context,
    slot: &Slot<'_>,
    existing: Option<&Secret>,
    mut secret: Secret,
) -> Result<Pair, ReconcileError> {
    let live = &ctx.world.secrets;
    let stored = match existing {
        None => ctx.applier.create_once(slot.owner, live, &secret).await?.object,
        Some(existing) => {
            secret.metadata.resource_version = existing.resource_version();
            secret.metadata.uid = existing.uid();
            ctx.applier.replace(live, &secret).await?
        }
    };
    let pair = authorities::pair(&stored).unwrap_or_else(Pair::empty);
    ctx.memory.remember(key(slot), pair.clone());
    Ok(pair)
}

/// Puts lost labels of a Secret back; its content is good and stays untouched.
async fn label(ctx: &Context, slot: &Slot<'_>, secret: &Secret) -> Result<(), ReconcileError> {
    ctx.applier.create_once(slot.owner, &ctx.world.secrets, secret).await?;
    Ok(())
}

/// What a leaf has to be.
pub struct Want<'a> {
    /// Subject and names.
    pub leaf: &'a Leaf,
    /// The CA that issues it.
    pub issuer: &'a Authority,
    /// Validity and renewal.
    pub window: Window,
    /// Whether a lost key may be replaced.
    pub replaceable: Replaceable,
}

/// A leaf in its Secret, issued or renewed if need be; or why there can be none.
pub async fn leaf(
    ctx: &Context,
    slot: &Slot<'_>,
    want: &Want<'_>,
    build: BuildLeaf<'_>,
) -> Result<Result<Issued, Finding>, ReconcileError> {
    let now = (ctx.clock)();
    let measure = Wanted { leaf: want.leaf, issuer: want.issuer.certificate(), window: want.window, now };
    let (secret, stored, remembered) = known(ctx, slot);
    let (certificate, key) =
        match keys::leaf(stored.as_ref(), remembered.as_ref(), slot.existed, want.replaceable, &measure) {
            LeafAction::Keep(certificate, key) => {
                label(ctx, slot, &build(&certificate, &key)).await?;
                let pair = stored.unwrap_or_else(Pair::empty);
                ctx.memory.remember(self::key(slot), pair.clone());
                return Ok(Ok(issued(slot, *certificate, pair, want)));
            }
            LeafAction::Issue { key, why } => {
                if let Some(why) = why {
                    tracing::info!(secret = slot.name, %why, "renewing a certificate");
                }
                match want.issuer.issue(want.leaf, &key, want.window.validity, now) {
                    Ok(certificate) => (certificate, key),
                    Err(error) => return Ok(Err(unusable(slot, &error))),
                }
            }
            LeafAction::Restore(pair) => {
                tracing::warn!(secret = slot.name, "putting back a key pair that was deleted or damaged");
                match (Certificate::from_pem(&pair.certificate), PrivateKey::from_pem(&pair.key)) {
                    (Ok(certificate), Ok(key)) => (certificate, key),
                    (Err(error), _) => return Ok(Err(unusable(slot, &error))),
                    (_, Err(error)) => return Ok(Err(unusable(slot, &error))),
                }
            }
            LeafAction::Lost(cause) => return Ok(Err(lost(slot, &cause))),
        };
    let pair = store(ctx, slot, secret.as_deref(), build(&certificate, &key)).await?;
    // Another process may have stored its own pair first: what stands in the Secret counts.
    Ok(Certificate::from_pem(&pair.certificate)
        .map(|certificate| issued(slot, certificate, pair, want))
        .map_err(|error| unusable(slot, &error)))
}

fn issued(slot: &Slot<'_>, certificate: Certificate, pair: Pair, want: &Want<'_>) -> Issued {
    let due = renewal::leaf_due(&certificate, want.issuer.certificate(), want.window);
    Issued { certificate, pair, secret: slot.name.to_owned(), due }
}

fn unusable(slot: &Slot<'_>, error: &dyn std::fmt::Display) -> Finding {
    Finding::not(Reason::InvalidKeyPair, format!("Secret {}: {error}", slot.name))
}

fn lost(slot: &Slot<'_>, cause: &str) -> Finding {
    Finding::not(
        Reason::KeyLost,
        format!(
            "the key in Secret {} cannot be used any more ({cause}), and the network knows it: put the Secret back from a backup",
            slot.name
        ),
    )
}

/// Brings what lies beside a leaf in its Secret up to date.
pub async fn complete(
    ctx: &Context,
    slot: &Slot<'_>,
    issued: &Issued,
    build: BuildLeaf<'_>,
) -> Result<Result<(), Finding>, ReconcileError> {
    match PrivateKey::from_pem(&issued.pair.key) {
        Ok(key) => {
            let declared = build(&issued.certificate, &key);
            ctx.applier.apply(slot.owner, &ctx.world.secrets, &declared).await?;
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(unusable(slot, &error))),
    }
}

/// A CA in its Secret, made or issued again if need be; or why there can be none.
pub async fn authority(
    ctx: &Context,
    slot: &Slot<'_>,
    name: &AuthorityName,
    window: Window,
    build: BuildAuthority<'_>,
) -> Result<Result<Authority, Finding>, ReconcileError> {
    let now = (ctx.clock)();
    let (secret, stored, remembered) = known(ctx, slot);
    let made = match keys::authority(stored.as_ref(), remembered.as_ref(), slot.existed, window, now) {
        CaAction::Keep(ca) => {
            label(ctx, slot, &build(&ca)).await?;
            ctx.memory.remember(key(slot), Pair::of(ca.certificate(), ca.key()));
            return Ok(Ok(ca));
        }
        CaAction::Reissue(ca) => ca.reissue(window.validity, now),
        CaAction::Create => Authority::create(name, window.validity, now),
        CaAction::Restore(pair) => {
            tracing::warn!(secret = slot.name, "putting back a CA that was deleted or damaged");
            Authority::parse(&pair.certificate, &pair.key).map_err(Into::into)
        }
        CaAction::Lost(cause) => return Ok(Err(lost(slot, &cause))),
    };
    let ca = match made {
        Ok(ca) => ca,
        Err(error) => return Ok(Err(unusable(slot, &error))),
    };
    let pair = store(ctx, slot, secret.as_deref(), build(&ca)).await?;
    Ok(Authority::parse(&pair.certificate, &pair.key).map_err(|error| unusable(slot, &error)))
}
