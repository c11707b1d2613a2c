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
use super::error::StepError;
use super::keys::{self, CaAction, LeafAction, Pair, Replaceable};
use super::writer::Writer;
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_pki::renewal::{self, Wanted};
use ehrnet_pki::{Authority, AuthorityName, Certificate, Leaf, PrivateKey, Window};
use ehrnet_runtime::metrics;
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
type BuildLeaf<'a> = &'a (dyn Fn(&Certificate, &PrivateKey) -> Secret + Send + Sync);
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
    (secret, stored, ctx.memories.key_pair(slot.owner, slot.name))
}

/// Puts a pair into its Secret: made if there is none, replaced on top of what was read otherwise.
async fn store(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot<'_>,
    existing: Option<&Secret>,
    mut secret: Secret,
) -> Result<Pair, StepError> {
    let live = &ctx.world.secrets;
    let stored = match existing {
        None => writer.create_once(slot.owner, live, &secret).await?.object,
        Some(existing) => {
            secret.metadata.resource_version = existing.resource_version();
            secret.metadata.uid = existing.uid();
            writer.update(live, &secret).await?
        }
    };
    let pair = authorities::pair(&stored).unwrap_or_else(Pair::empty);
    ctx.memories.remember_key_pair(slot.owner, slot.name, pair.clone());
    Ok(pair)
}

/// Keeps a pair that is good: puts lost labels of its Secret back, whose content stays untouched, and remembers it.
async fn keep(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot<'_>,
    secret: &Secret,
    pair: Pair,
) -> Result<(), StepError> {
    writer.create_once(slot.owner, &ctx.world.secrets, secret).await?;
    ctx.memories.remember_key_pair(slot.owner, slot.name, pair);
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
    writer: &Writer<'_>,
    slot: &Slot<'_>,
    want: &Want<'_>,
    build: BuildLeaf<'_>,
) -> Result<Issued, StepError> {
    let now = (ctx.clock)();
    let measure = Wanted { leaf: want.leaf, issuer: want.issuer.certificate(), window: want.window, now };
    let (secret, stored, remembered) = known(ctx, slot);
    let action = keys::leaf(stored.as_ref(), remembered.as_ref(), slot.existed, want.replaceable, &measure);
    let (certificate, key) = match action {
        LeafAction::Keep(certificate, key) => {
            let pair = stored.unwrap_or_else(Pair::empty);
            keep(ctx, writer, slot, &build(&certificate, &key), pair.clone()).await?;
            return Ok(issued(ctx, slot, *certificate, pair, want));
        }
        LeafAction::Issue { key, why } => {
            if let Some(why) = why {
                tracing::info!(secret = slot.name, %why, "renewing a certificate");
            }
            let issued = want.issuer.issue(want.leaf, &key, want.window.validity, now);
            (issued.map_err(|error| unusable(slot, &error))?, key)
        }
        LeafAction::Restore(pair) => {
            tracing::warn!(secret = slot.name, "putting back a key pair that was deleted or damaged");
            let certificate = Certificate::from_pem(&pair.certificate).map_err(|error| unusable(slot, &error))?;
            (certificate, PrivateKey::from_pem(&pair.key).map_err(|error| unusable(slot, &error))?)
        }
        LeafAction::Lost(cause) => return Err(lost(slot, &cause).into()),
    };
    let pair = store(ctx, writer, slot, secret.as_deref(), build(&certificate, &key)).await?;
    // Another process may have stored its own pair first: what stands in the Secret counts.
    let certificate = Certificate::from_pem(&pair.certificate).map_err(|error| unusable(slot, &error))?;
    Ok(issued(ctx, slot, certificate, pair, want))
}

fn issued(ctx: &Context, slot: &Slot<'_>, certificate: Certificate, pair: Pair, want: &Want<'_>) -> Issued {
    let due = renewal::leaf_due(&certificate, want.issuer.certificate(), want.window);
    measure(ctx, slot, "leaf", &certificate, due);
    Issued { certificate, pair, secret: slot.name.to_owned(), due }
}

/// Shows in the metrics when a certificate ends and when it is renewed.
pub fn measure(ctx: &Context, slot: &Slot<'_>, sort: &'static str, certificate: &Certificate, due: Option<Timestamp>) {
    let Owner { namespace, kind, name, .. } = slot.owner.clone();
    let of = metrics::Certificate { namespace, kind, name, secret: slot.name.to_owned(), certificate: sort };
    ctx.metrics.certificate(of, certificate.not_after().as_second(), due.map(Timestamp::as_second));
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
    writer: &Writer<'_>,
    slot: &Slot<'_>,
    issued: &Issued,
    build: BuildLeaf<'_>,
) -> Result<(), StepError> {
    let key = PrivateKey::from_pem(&issued.pair.key).map_err(|error| unusable(slot, &error))?;
    writer.apply(slot.owner, &ctx.world.secrets, &build(&issued.certificate, &key)).await?;
    Ok(())
}

/// A CA in its Secret, made or issued again if need be; or why there can be none.
pub async fn authority(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot<'_>,
    name: &AuthorityName,
    window: Window,
    build: BuildAuthority<'_>,
) -> Result<Authority, StepError> {
    let now = (ctx.clock)();
    let (secret, stored, remembered) = known(ctx, slot);
    let made = match keys::authority(stored.as_ref(), remembered.as_ref(), slot.existed, window, now) {
        CaAction::Keep(ca) => {
            keep(ctx, writer, slot, &build(&ca), Pair::of(ca.certificate(), ca.key())).await?;
            measure(ctx, slot, "ca", ca.certificate(), Some(renewal::authority_due(ca.certificate(), window)));
            return Ok(ca);
        }
        CaAction::Reissue(ca) => ca.reissue(window.validity, now),
        CaAction::Create => Authority::generate(name, window.validity, now),
        CaAction::Restore(pair) => {
            tracing::warn!(secret = slot.name, "putting back a CA that was deleted or damaged");
            Authority::parse(&pair.certificate, &pair.key).map_err(Into::into)
        }
        CaAction::Lost(cause) => return Err(lost(slot, &cause).into()),
    };
    let ca = made.map_err(|error| unusable(slot, &error))?;
    let pair = store(ctx, writer, slot, secret.as_deref(), build(&ca)).await?;
    let ca = Authority::parse(&pair.certificate, &pair.key).map_err(|error| unusable(slot, &error))?;
    measure(ctx, slot, "ca", ca.certificate(), Some(renewal::authority_due(ca.certificate(), window)));
    Ok(ca)
}
