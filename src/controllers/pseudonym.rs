//! The key of a namespace's pseudonyms: made once, and the same for ever.
//!
//! Invariant: it is never replaced by another one. With another key every patient would be a stranger to their own
//! records, so a Secret that was lost is put back from any client bundle that still holds the key.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::context::Context;
use super::error::StepError;
use super::writer::Writer;
use ehrnet_api::conditions::Reason;
use ehrnet_apply::Owner;
use ehrnet_desired::{names, secret};
use ehrnet_status::Finding;

/// What is left of the key.
pub struct PseudonymFacts {
    /// The Secret that is made for it.
    stored: Option<Arc<Secret>>,
    /// The key: from there, or from any client bundle.
    known: Option<Zeroizing<String>>,
}

impl PseudonymFacts {
    /// Gathers from the caches.
    pub fn gather(ctx: &Context, namespace: &str) -> Self {
        let live = &ctx.world.secrets;
        let stored = live.get(namespace, names::PSEUDONYM);
        let elsewhere = || live.list(namespace).iter().find_map(|other| read(other));
        Self { known: stored.as_deref().and_then(read).or_else(elsewhere), stored }
    }
}

/// The key, hexadecimal.
pub async fn key(
    ctx: &Context,
    writer: &Writer<'_>,
    namespace: &str,
    facts: &PseudonymFacts,
) -> Result<Zeroizing<String>, StepError> {
    let live = &ctx.world.secrets;
    let written = match (&facts.stored, facts.known.clone()) {
        (Some(damaged), Some(key)) if read(damaged).is_none() => {
            tracing::warn!(secret = names::PSEUDONYM, namespace, "putting back a key that was damaged");
            let mut secret = secret::pseudonym(namespace, &key);
            secret.metadata.resource_version = damaged.resource_version();
            secret.metadata.uid = damaged.uid();
            writer.update(live, &secret).await?
        }
        (Some(damaged), None) => damaged.clone(),
        (_, known) => {
            let key = known.unwrap_or_else(|| Zeroizing::new(hex::encode(rand::random::<[u8; 32]>())));
            let owner = Owner::shared(namespace, names::PSEUDONYM);
            writer.create_once(&owner, live, &secret::pseudonym(namespace, &key)).await?.object
        }
    };
    let key = read(&written).ok_or_else(|| {
        let message = format!(
            "Secret {} holds no key of 64 hexadecimal digits under {}: put it back from a backup",
            names::PSEUDONYM,
            names::PSEUDONYM_KEY
        );
        Finding::not(Reason::KeyLost, message)
    });
    Ok(key?)
}

/// The key in a Secret, if there is one.
fn read(secret: &Secret) -> Option<Zeroizing<String>> {
    let bytes = &secret.data.as_ref()?.get(names::PSEUDONYM_KEY)?.0;
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    (bytes.len() == 64 && bytes.iter().all(is_digit))
        .then(|| String::from_utf8(bytes.clone()).map(Zeroizing::new).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_is_a_key() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(read(&secret::pseudonym("ward", &good)).as_deref(), Some(&good));
        for bad in ["", "0123", &good[1..], &good.to_uppercase(), &"g".repeat(64)] {
            assert_eq!(read(&secret::pseudonym("ward", bad)), None, "{bad}");
        }
        assert_eq!(read(&Secret::default()), None);
    }
}
