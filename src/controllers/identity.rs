//! Identity: a certificate with attributes, its key and a client bundle, in one Secret.
//!
//! The Secret goes with the resource. What was copied out of it does not: Fabric has no list of valid certificates, so a
//! copy signs until its certificate ends. That is said in an Event when the resource goes.

use std::sync::Arc;

use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use super::context::Context;
use super::error::StepError;
use super::key_pairs::{self, Issued, Slot, Want};
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::memory::Farewell;
use super::nodes::{self, Dependencies};
use super::outcome::Outcome;
use super::writer::Writer;
use super::{connection, pseudonym};
use ehrnet_api::conditions::ConditionType;
use ehrnet_api::{Identity, IdentityStatus};
use ehrnet_desired::connection::Identities;
use ehrnet_desired::{IdentityPlan, secret};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_pki::{Certificate, PrivateKey, renewal};
use ehrnet_status::Finding;

/// What decisions about an identity need.
pub struct IdentityFacts {
    identity: Arc<Identity>,
    /// The hospital that it belongs to, or what is missing.
    dependencies: Result<Dependencies, Finding>,
}

impl Declared for Identity {
    const KIND: Kind = Kind::Identity;
    type Facts = IdentityFacts;
    type Provided = Issued;
    type Answer = ();

    fn cache(world: &World) -> &Cache<Self> {
        &world.identities
    }

    async fn gather(ctx: &Context, identity: Arc<Self>) -> IdentityFacts {
        let dependencies = nodes::dependencies(ctx, &*identity, &identity.spec.hospital_ref.name).await;
        IdentityFacts { identity, dependencies }
    }

    /// The key pair first, then what lies around it in the same Secret.
    async fn provide(ctx: &Context, facts: &IdentityFacts, writer: &Writer<'_>) -> Result<Issued, StepError> {
        let identity = &facts.identity;
        let dependencies = facts.dependencies.as_ref().map_err(Clone::clone)?;
        let (plan, owner) = (IdentityPlan::new(identity, &dependencies.hospital)?, super::owner(&**identity)?);
        // The name is the user's to choose, and must not lead into somebody else's Secret.
        if let Some(existing) = ctx.world.secrets.get(&owner.namespace, &plan.secret_name) {
            owner.must_own(&*existing)?;
        }
        let pseudonym_key = pseudonym::key(ctx, writer, &owner.namespace).await?;
        let reachable = connection::reachable(ctx, &dependencies.hospital).await;
        let build = |certificate: &Certificate, key: &PrivateKey| {
            let identities = Identities {
                signing_ca: dependencies.authorities.signing.certificate(),
                tls_ca: dependencies.authorities.tls.certificate(),
                holder: &plan.parent.name,
                certificate,
                key,
                pseudonym_key: &pseudonym_key,
            };
            secret::identity(&plan, &identities, &reachable)
        };
        let existed = identity.status.as_ref().is_some_and(|status| status.certificate.is_some());
        let slot = Slot { owner: &owner, name: &plan.secret_name, existed };
        let issuer = &dependencies.authorities.signing;
        let want = Want { leaf: &plan.leaf, issuer, window: plan.window, replaceable: Replaceable::Yes };
        let issued = key_pairs::leaf(ctx, writer, &slot, &want, &build).await?;
        key_pairs::complete(ctx, writer, &slot, &issued, &build).await?;
        ctx.memories.remember_farewell(&identity.uid().unwrap_or_default(), farewell(identity, &issued));
        Ok(issued)
    }

    async fn ask(_: &Context, _: &IdentityFacts, _: &Result<Issued, Finding>) {}

    fn report(
        ctx: &Context,
        facts: &IdentityFacts,
        issued: &Result<Issued, Finding>,
        (): (),
    ) -> Report<IdentityStatus> {
        let ready = match issued {
            Ok(issued) => Finding::good(format!("certificate, key and client bundle are in Secret {}", issued.secret)),
            Err(finding) => finding.clone(),
        };
        let accepted = nodes::accepted(&facts.dependencies);
        let before = facts.identity.status.clone().unwrap_or_default();
        let certificate = issued.as_ref().ok().map(Issued::status).or(before.certificate);
        let due = issued.iter().filter_map(|issued| issued.due);
        Report {
            findings: vec![(ConditionType::Accepted, accepted), (ConditionType::IdentityReady, ready)],
            status: IdentityStatus { certificate, ..IdentityStatus::default() },
            look_again: renewal::next_wake_up(due, (ctx.clock)()).map_or(Outcome::wait(), Outcome::within),
        }
    }
}

/// What its owner must know when an identity goes: a copy of its key stays valid.
fn farewell(identity: &Identity, issued: &Issued) -> Farewell {
    let note = format!(
        "Secret {} goes with the Identity; a copy of its key signs until certificate {} ends at {}, because nothing revokes it",
        issued.secret,
        issued.certificate.serial(),
        issued.certificate.not_after()
    );
    let event = Event {
        type_: EventType::Normal,
        reason: "StaysValid".to_owned(),
        note: Some(note),
        action: "Delete".to_owned(),
        secondary: None,
    };
    Farewell { reference: identity.object_ref(&()), event }
}
