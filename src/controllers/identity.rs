//! Identity: a certificate with attributes, its key and a client bundle, in one Secret.
//!
//! The Secret goes with the resource. What was copied out of it does not: Fabric has no list of valid certificates, so a
//! copy signs until its certificate ends. That is said in an Event when the resource goes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use super::context::Context;
use super::key_pairs::{self, Issued, Slot, Want};
use super::keys::Replaceable;
use super::nodes::{self, Ground};
use super::outcome::{Outcome, ReconcileError, told};
use super::{connection, pseudonym};
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::{Identity, IdentityStatus};
use ehrnet_apply::Owner;
use ehrnet_desired::connection::Identities;
use ehrnet_desired::{IdentityPlan, secret};
use ehrnet_pki::{Certificate, PrivateKey, renewal};
use ehrnet_status::{self as status, Finding};

/// Brings one identity closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, identity: Arc<Identity>) -> Result<Outcome, ReconcileError> {
    let (namespace, name) = super::place(&*identity);
    let key = (namespace, name);
    if ctx.identities.get(&key).is_some_and(|known| known.reference.uid != identity.uid()) {
        gone(ctx, &key.0, &key.1).await;
    }
    if identity.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let ground = nodes::ground(ctx, &*identity, &identity.spec.hospital_ref.name).await;
    let issued = match &ground {
        Ok(ground) => told(provision(ctx, &identity, ground).await)?,
        Err(finding) => Err(finding.clone()),
    };
    if let Ok(issued) = &issued {
        ctx.identities.remember(key, Remembered::of(&identity, issued));
    }
    let findings = findings(&ground, &issued);
    let current = identity.status.as_ref();
    let before = current.map(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = status::conditions(&before, identity.metadata.generation, (ctx.clock)(), &findings);
    let certificate = issued.as_ref().ok().map(Issued::status).or_else(|| current?.certificate.clone());
    let observed_generation = identity.metadata.generation;
    let status = IdentityStatus { observed_generation, conditions: conditions.clone(), certificate };
    let told = super::publish(ctx, &ctx.world.identities, &*identity, current, &status, (&before, &conditions)).await?;
    let due = issued.iter().filter_map(|issued| issued.due);
    let renewal = renewal::next_wake_up(due, (ctx.clock)()).map_or(Outcome::wait(), Outcome::within);
    Ok(told.or_sooner(renewal.or_sooner(Outcome::of(&findings))))
}

/// The key pair first, then what lies around it in the same Secret.
async fn provision(
    ctx: &Context,
    identity: &Identity,
    ground: &Ground,
) -> Result<Result<Issued, Finding>, ReconcileError> {
    let (plan, owner) = match (IdentityPlan::new(identity, &ground.hospital), Owner::of(identity)) {
        (Ok(plan), Some(owner)) => (plan, owner),
        (Err(error), _) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
        (_, None) => return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID"))),
    };
    // The name is the user's to choose, and must not lead into somebody else's Secret.
    if let Some(existing) = ctx.world.secrets.get(&owner.namespace, &plan.secret_name) {
        owner.must_own(&*existing)?;
    }
    let pseudonym_key = match pseudonym::key(ctx, &owner.namespace).await? {
        Ok(key) => key,
        Err(finding) => return Ok(Err(finding)),
    };
    let reachable = connection::reachable(ctx, &ground.hospital).await;
    let build = |certificate: &Certificate, key: &PrivateKey| {
        let identities = Identities {
            signing_ca: ground.authorities.signing.certificate(),
            tls_ca: ground.authorities.tls.certificate(),
            holder: &plan.parent.name,
            certificate,
            key,
            pseudonym_key: &pseudonym_key,
        };
        secret::identity(&plan, &identities, &reachable)
    };
    let existed = identity.status.as_ref().is_some_and(|status| status.certificate.is_some());
    let slot = Slot { owner: &owner, name: &plan.secret_name, existed };
    let issuer = &ground.authorities.signing;
    let want = Want { leaf: &plan.leaf, issuer, window: plan.window, replaceable: Replaceable::Yes };
    let issued = match key_pairs::leaf(ctx, &slot, &want, &build).await? {
        Ok(issued) => issued,
        Err(finding) => return Ok(Err(finding)),
    };
    Ok(key_pairs::complete(ctx, &slot, &issued, &build).await?.map(|()| issued))
}

fn findings(ground: &Result<Ground, Finding>, issued: &Result<Issued, Finding>) -> Vec<(ConditionType, Finding)> {
    let ready = match issued {
        Ok(issued) => Finding::good(format!("certificate, key and client bundle are in Secret {}", issued.secret)),
        Err(finding) => finding.clone(),
    };
    vec![(ConditionType::Accepted, nodes::accepted(ground)), (ConditionType::IdentityReady, ready)]
}

/// What is said of an identity when it goes.
#[derive(Clone)]
pub struct Remembered {
    reference: ObjectReference,
    secret: String,
    note: String,
}

impl Remembered {
    fn of(identity: &Identity, issued: &Issued) -> Self {
        let note = format!(
            "Secret {} goes with the Identity; a copy of its key signs until certificate {} ends at {}, because nothing revokes it",
            issued.secret,
            issued.certificate.serial(),
            issued.certificate.not_after()
        );
        Self { reference: identity.object_ref(&()), secret: issued.secret.clone(), note }
    }
}

/// Sees an identity off: another one of its name must not get its key, and its owner must know what stays valid.
pub async fn gone(ctx: &Context, namespace: &str, name: &str) {
    let key = (namespace.to_owned(), name.to_owned());
    let Some(known) = ctx.identities.get(&key) else { return };
    ctx.identities.forget(&key);
    ctx.memory.forget(&(namespace.to_owned(), known.secret));
    let event = Event {
        type_: EventType::Normal,
        reason: "StaysValid".to_owned(),
        note: Some(known.note),
        action: "Delete".to_owned(),
        secondary: None,
    };
    ctx.reporter.tell(&known.reference, &event).await;
}
