//! The two CAs of a hospital, as others need them: readable and within their dates, or why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::context::Context;
use super::keys::Pair;
use ehrnet_api::Hospital;
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::Reason;
use ehrnet_api::hospital::ExistingCa;
use ehrnet_desired::names;
use ehrnet_pki::Authority;
use ehrnet_status::Finding;

/// A hospital's CAs.
#[derive(Clone)]
pub struct Authorities {
    /// Signs identities.
    pub signing: Authority,
    /// Signs TLS certificates.
    pub tls: Authority,
}

/// The certificate and key of a Secret in the layout of `kubernetes.io/tls`.
pub fn pair(secret: &Secret) -> Option<Pair> {
    pair_at(secret, names::TLS_CRT, names::TLS_KEY)
}

/// The certificate and key under these names.
pub fn pair_at(secret: &Secret, certificate: &str, key: &str) -> Option<Pair> {
    let data = secret.data.as_ref()?;
    Some(Pair { certificate: text(data, certificate)?, key: text(data, key)?.into() })
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok()
}

/// Both CAs of a hospital.
pub async fn of_hospital(ctx: &Context, hospital: &Hospital) -> Result<Authorities, Finding> {
    let name = hospital.name_any();
    let signing = one(ctx, hospital, hospital.spec.signing_ca.as_ref(), &names::signing_ca(&name)).await?;
    let tls = one(ctx, hospital, hospital.spec.tls_ca.as_ref(), &names::tls_ca(&name)).await?;
    let authorities = Authorities { signing, tls };
    Pins::gather(ctx, hospital).check(&authorities)?;
    Ok(authorities)
}

/// The CA keys that the channels of a hospital know it by. Another key, by whatever hand, would make its nodes, its admin and
/// its people strangers to them, so nothing is issued by it.
#[derive(Clone, Default)]
pub struct Pins {
    hospital: String,
    /// Of the CA that signs identities.
    pub signing: Option<String>,
    /// Of the CA that signs TLS certificates.
    pub tls: Option<String>,
}

impl Pins {
    /// Those of a hospital; none before a channel that it takes part in has begun. Gathers from the caches.
    pub fn gather(ctx: &Context, hospital: &Hospital) -> Self {
        let name = hospital.name_any();
        if !is_known(ctx, hospital) {
            return Self { hospital: name, ..Self::default() };
        }
        let status = hospital.status.clone().unwrap_or_default();
        let key_id = |ca: Option<CertificateStatus>| ca.and_then(|ca| ca.key_id);
        Self { hospital: name, signing: key_id(status.signing_ca), tls: key_id(status.tls_ca) }
    }

    /// Whether the CAs have the keys that they are known by.
    ///
    /// # Errors
    /// One of them has another key.
    pub fn check(&self, authorities: &Authorities) -> Result<(), Finding> {
        let cas = [("signing", &self.signing, &authorities.signing), ("TLS", &self.tls, &authorities.tls)];
        let found = |ca: &Authority| ca.certificate().key_id();
        let changed =
            cas.into_iter().find(|(_, pinned, ca)| pinned.as_ref().is_some_and(|pinned| *pinned != found(ca)));
        let Some((which, pinned, ca)) = changed else { return Ok(()) };
        let message = format!(
            "the {which} CA of Hospital {} has another key (SHA-256 {}) than the one its channels know it by ({}): put the old key back; renew a CA with the same key (cert-manager: privateKey.rotationPolicy: Never)",
            self.hospital,
            found(ca),
            pinned.as_deref().unwrap_or_default()
        );
        Err(Finding::not(Reason::TrustAnchorChanged, message))
    }
}

/// Whether a channel that has begun knows the hospital, as a member or through an orderer.
fn is_known(ctx: &Context, hospital: &Hospital) -> bool {
    let (namespace, name) = super::place(hospital);
    let runs = |orderer: &String| {
        ctx.world.orderers.get(&namespace, orderer).is_some_and(|orderer| orderer.spec.hospital_ref.name == name)
    };
    ctx.world.channels.list(&namespace).iter().any(|channel| {
        let has_begun = channel.status.as_ref().is_some_and(|status| status.genesis_hash.is_some());
        has_begun && (channel.spec.members.contains(&name) || channel.possible_consenters().iter().any(runs))
    })
}

async fn one(ctx: &Context, hospital: &Hospital, given: Option<&ExistingCa>, made: &str) -> Result<Authority, Finding> {
    let namespace = hospital.namespace().unwrap_or_default();
    let secret = match given {
        Some(ca) => Some(given_secret(ctx, hospital, ca).await?),
        None => ctx.world.secrets.get(&namespace, made),
    };
    let secret_name = given.map_or(made, |ca| ca.secret_ref.name.as_str());
    let Some(secret) = secret else {
        return Err(Finding::not(
            Reason::WaitingForDependency,
            format!("Hospital {} has no CA in Secret {secret_name} yet", hospital.name_any()),
        ));
    };
    read(&secret, secret_name, (ctx.clock)())
}

/// The CA in a Secret, or what is wrong with it.
pub fn read(secret: &Secret, name: &str, now: jiff::Timestamp) -> Result<Authority, Finding> {
    let invalid =
        |cause: String| Finding::not(Reason::InvalidKeyPair, format!("Secret {name} cannot be used as a CA: {cause}"));
    let pair = pair(secret).ok_or_else(|| invalid(format!("it lacks {} or {}", names::TLS_CRT, names::TLS_KEY)))?;
    Authority::load(&pair.certificate, &pair.key, now).map_err(|error| invalid(error.to_string()))
}

/// A user's Secret with a CA of a hospital: read again whenever the watch saw another version of it, and forgotten when it
/// is gone, or the hospital.
pub async fn given_secret(ctx: &Context, hospital: &Hospital, ca: &ExistingCa) -> Result<Arc<Secret>, Finding> {
    let (namespace, uid) = (hospital.namespace().unwrap_or_default(), hospital.uid().unwrap_or_default());
    let name = &ca.secret_ref.name;
    let Some(seen) = ctx.world.tls_secrets.get(&namespace, name) else {
        ctx.memories.forget_given(&uid, name);
        let message = format!(
            "Secret {name} of type kubernetes.io/tls does not exist yet: create it with the CA's tls.crt and tls.key"
        );
        return Err(Finding::not(Reason::WaitingForReference, message));
    };
    let is_current = |known: &Arc<Secret>| known.metadata.resource_version == seen.metadata.resource_version;
    if let Some(known) = ctx.memories.given(&uid, name).filter(is_current) {
        return Ok(known);
    }
    let secret = ctx.given.read(&namespace, name).await?;
    ctx.memories.remember_given(&uid, name, secret.clone());
    Ok(secret)
}

/// Reads CA Secrets of users. The watch tells their versions only, so that no other contents come into this process.
pub struct GivenSecrets(Client);

impl GivenSecrets {
    /// Reads with this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, Finding> {
        let api: Api<Secret> = Api::namespaced(self.0.clone(), namespace);
        let secret = api.get(name).await;
        secret
            .map(Arc::new)
            .map_err(|error| Finding::unknown(Reason::ApiRefused, format!("Secret {name} cannot be read: {error}")))
    }
}
