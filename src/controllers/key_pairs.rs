//! Key pairs in Secrets: what was found ([`Slot::gather`]), and what is written and remembered of it. What to do about it
//! is decided in `keys.rs`.
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

/// A Secret with a key pair, as it was found.
pub struct Slot {
    /// The resource it belongs to.
    pub owner: Owner,
    /// Name of the Secret.
    pub name: String,
    /// The Secret, if there is one.
    pub secret: Option<Arc<Secret>>,
    /// The pair that it held when it was last seen good.
    remembered: Option<Pair>,
    /// Whether the status says that there was a pair before.
    existed: bool,
    /// The key that it has to be, if others know it.
    pinned: Option<String>,
}

impl Slot {
    /// Gathers from the caches and from what is remembered.
    pub fn gather(ctx: &Context, owner: Owner, name: String, existed: bool) -> Self {
        let secret = ctx.world.secrets.get(&owner.namespace, &name);
        let remembered = ctx.memories.key_pair(&owner, &name);
        Self { owner, name, secret, remembered, existed, pinned: None }
    }

    /// The same where others know the key: no other one takes its place.
    pub fn pinned(self, key_id: Option<String>) -> Self {
        Self { pinned: key_id, ..self }
    }

    /// What the Secret holds.
    fn stored(&self) -> Option<Pair> {
        self.secret.as_deref().map(|secret| authorities::pair(secret).unwrap_or_else(Pair::empty))
    }
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
    pub secret: Arc<Secret>,
    /// When it is renewed.
    pub due: Option<Timestamp>,
}

impl Issued {
    /// As status shows it.
    pub fn status(&self) -> CertificateStatus {
        certificate_status(&self.secret.name_any(), &self.certificate, self.due)
    }
}

/// A certificate as status shows it.
pub fn certificate_status(secret: &str, certificate: &Certificate, due: Option<Timestamp>) -> CertificateStatus {
    CertificateStatus {
        secret_name: secret.to_owned(),
        serial: certificate.serial(),
        key_id: Some(certificate.key_id()),
        not_after: certificate.not_after().to_string(),
        renewal_time: due.map(|due| due.to_string()),
    }
}

/// Puts a pair into its Secret: made if there is none, replaced on top of what was read otherwise. Returns the Secret as it
/// stands.
async fn store(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot,
    mut secret: Secret,
) -> Result<(Arc<Secret>, Pair), StepError> {
    let live = &ctx.world.secrets;
    let stored = match &slot.secret {
        None => writer.create_once(&slot.owner, live, &secret).await?.object,
        Some(existing) => {
            secret.metadata.resource_version = existing.resource_version();
            secret.metadata.uid = existing.uid();
            writer.update(live, &secret).await?
        }
    };
    let pair = authorities::pair(&stored).unwrap_or_else(Pair::empty);
    ctx.memories.remember_key_pair(&slot.owner, &slot.name, pair.clone());
    Ok((stored, pair))
}

/// Keeps a pair that is good: puts lost labels of its Secret back, whose content stays untouched, and remembers it. Returns
/// the Secret as it stands.
async fn keep(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot,
    secret: &Secret,
    pair: Pair,
) -> Result<Arc<Secret>, StepError> {
    let stands = writer.create_once(&slot.owner, &ctx.world.secrets, secret).await?.object;
    ctx.memories.remember_key_pair(&slot.owner, &slot.name, pair);
    Ok(stands)
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
    slot: &Slot,
    want: &Want<'_>,
    build: BuildLeaf<'_>,
) -> Result<Issued, StepError> {
    let now = (ctx.clock)();
    let measure = Wanted { leaf: want.leaf, issuer: want.issuer.certificate(), window: want.window, now };
    let stored = slot.stored();
    let action = keys::leaf(stored.as_ref(), slot.remembered.as_ref(), slot.existed, want.replaceable, &measure);
    let (certificate, key) = match action {
        LeafAction::Keep(certificate, key) => {
            let pair = stored.unwrap_or_else(Pair::empty);
            let secret = keep(ctx, writer, slot, &build(&certificate, &key), pair.clone()).await?;
            return Ok(issued(ctx, slot, secret, *certificate, pair, want));
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
    let (secret, pair) = store(ctx, writer, slot, build(&certificate, &key)).await?;
    // Another process may have stored its own pair first: what stands in the Secret counts.
    let certificate = Certificate::from_pem(&pair.certificate).map_err(|error| unusable(slot, &error))?;
    Ok(issued(ctx, slot, secret, certificate, pair, want))
}

fn issued(
    ctx: &Context,
    slot: &Slot,
    secret: Arc<Secret>,
    certificate: Certificate,
    pair: Pair,
    want: &Want<'_>,
) -> Issued {
    let due = renewal::leaf_due(&certificate, want.issuer.certificate(), want.window);
    measure(ctx, &slot.owner, &slot.name, "leaf", &certificate, due);
    Issued { certificate, pair, secret, due }
}

/// Shows in the metrics when a certificate ends and when it is renewed.
pub fn measure(
    ctx: &Context,
    owner: &Owner,
    secret: &str,
    sort: &'static str,
    certificate: &Certificate,
    due: Option<Timestamp>,
) {
    let Owner { namespace, kind, name, .. } = owner.clone();
    let of = metrics::Certificate { namespace, kind, name, secret: secret.to_owned(), certificate: sort };
    ctx.metrics.certificate(of, certificate.not_after().as_second(), due.map(Timestamp::as_second));
}

fn unusable(slot: &Slot, error: &dyn std::fmt::Display) -> Finding {
    Finding::not(Reason::InvalidKeyPair, format!("Secret {}: {error}", slot.name))
}

fn lost(slot: &Slot, cause: &str) -> Finding {
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
    slot: &Slot,
    issued: &Issued,
    build: BuildLeaf<'_>,
) -> Result<(), StepError> {
    let key = PrivateKey::from_pem(&issued.pair.key).map_err(|error| unusable(slot, &error))?;
    writer.apply(&slot.owner, &ctx.world.secrets, &build(&issued.certificate, &key)).await?;
    Ok(())
}

/// A CA in its Secret, made or issued again if need be; or why there can be none. `which` of its owner's CAs it is stands in
/// the metrics.
pub async fn authority(
    ctx: &Context,
    writer: &Writer<'_>,
    slot: &Slot,
    which: &'static str,
    name: &AuthorityName,
    window: Window,
    build: BuildAuthority<'_>,
) -> Result<Authority, StepError> {
    let now = (ctx.clock)();
    let (stored, remembered, pinned) = (slot.stored(), slot.remembered.as_ref(), slot.pinned.as_deref());
    let measured = |ca: Authority| {
        let (certificate, due) = (ca.certificate(), renewal::authority_due(ca.certificate(), window));
        measure(ctx, &slot.owner, &slot.name, which, certificate, Some(due));
        ca
    };
    let made = match keys::authority(stored.as_ref(), remembered, slot.existed, pinned, window, now) {
        CaAction::Keep(ca) => {
            keep(ctx, writer, slot, &build(&ca), Pair::of(ca.certificate(), ca.key())).await?;
            return Ok(measured(ca));
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
    let (_, pair) = store(ctx, writer, slot, build(&ca)).await?;
    let ca = Authority::parse(&pair.certificate, &pair.key).map_err(|error| unusable(slot, &error))?;
    Ok(measured(ca))
}
