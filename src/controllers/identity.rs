//! Identity: a certificate with attributes, its key and a client bundle, in one Secret.
//!
//! The Secret goes with the resource. What was copied out of it does not: Fabric has no list of valid certificates, so a
//! copy signs until its certificate ends. That is said in an Event when the resource goes.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use super::connection::Nodes;
use super::context::Context;
use super::error::{StepError, unplannable};
use super::key_pairs::{self, Issued, Slot, Want};
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::memory::Farewell;
use super::nodes::{self, Dependencies};
use super::outcome::Outcome;
use super::pseudonym::{self, PseudonymFacts};
use super::writer::Writer;
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
    now: Timestamp,
    /// Whether what it depends on is there.
    accepted: Finding,
    /// What it is made from, or why it cannot be made.
    needs: Result<Needs, Finding>,
}

/// What an identity is made from.
struct Needs {
    plan: IdentityPlan,
    dependencies: Dependencies,
    /// What is found of its Secret.
    slot: Slot,
    pseudonym: PseudonymFacts,
    /// What its holder reaches.
    nodes: Nodes,
}

impl Needs {
    async fn gather(ctx: &Context, identity: &Identity, dependencies: Dependencies) -> Result<Self, Finding> {
        let plan = IdentityPlan::new(identity, &dependencies.hospital).map_err(|error| unplannable(&error))?;
        let owner = super::owner(identity)?;
        let existed = identity.status.as_ref().is_some_and(|status| status.certificate.is_some());
        Ok(Self {
            pseudonym: PseudonymFacts::gather(ctx, &owner.namespace),
            nodes: Nodes::gather(ctx, &dependencies.hospital).await,
            slot: Slot::gather(ctx, owner, plan.secret_name.clone(), existed),
            plan,
            dependencies,
        })
    }
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
        let accepted = nodes::accepted(&dependencies);
        let needs = match dependencies {
            Ok(dependencies) => Needs::gather(ctx, &identity, dependencies).await,
            Err(finding) => Err(finding),
        };
        IdentityFacts { identity, now: (ctx.clock)(), accepted, needs }
    }

    /// The key pair first, then what lies around it in the same Secret.
    async fn provide(ctx: &Context, facts: &IdentityFacts, writer: &Writer<'_>) -> Result<Issued, StepError> {
        let Needs { plan, dependencies, slot, pseudonym, nodes } = facts.needs.as_ref().map_err(Clone::clone)?;
        // The name is the user's to choose, and must not lead into somebody else's Secret.
        if let Some(existing) = &slot.secret {
            slot.owner.must_own(&**existing)?;
        }
        let pseudonym_key = pseudonym::key(ctx, writer, &slot.owner.namespace, pseudonym).await?;
        let reachable = nodes.reachable(dependencies.authorities.tls.certificate());
        let build = |certificate: &Certificate, key: &PrivateKey| {
            let identities = Identities {
                signing_ca: dependencies.authorities.signing.certificate(),
                tls_ca: dependencies.authorities.tls.certificate(),
                holder: &plan.parent.name,
                certificate,
                key,
                pseudonym_key: &pseudonym_key,
            };
            secret::identity(plan, &identities, &reachable)
        };
        let issuer = &dependencies.authorities.signing;
        let want = Want { leaf: &plan.leaf, issuer, window: plan.window, replaceable: Replaceable::Yes };
        let issued = key_pairs::leaf(ctx, writer, slot, &want, &build).await?;
        key_pairs::complete(ctx, writer, slot, &issued, &build).await?;
        let identity = &facts.identity;
        ctx.memories.remember_farewell(&identity.uid().unwrap_or_default(), farewell(identity, &issued));
        Ok(issued)
    }

    async fn ask(_: &Context, _: &IdentityFacts, _: &Result<Issued, Finding>) {}

    fn report(facts: &IdentityFacts, issued: &Result<Issued, Finding>, (): ()) -> Report<IdentityStatus> {
        let ready = match issued {
            Ok(issued) => {
                Finding::good(format!("certificate, key and client bundle are in Secret {}", issued.secret.name_any()))
            }
            Err(finding) => finding.clone(),
        };
        let before = facts.identity.status.clone().unwrap_or_default();
        let certificate = issued.as_ref().ok().map(Issued::status).or(before.certificate);
        let due = issued.iter().filter_map(|issued| issued.due);
        Report {
            findings: vec![(ConditionType::Accepted, facts.accepted.clone()), (ConditionType::IdentityReady, ready)],
            status: IdentityStatus { certificate, ..IdentityStatus::default() },
            look_again: renewal::next_wake_up(due, facts.now).map_or(Outcome::wait(), Outcome::within),
        }
    }
}

/// What its owner must know when an identity goes: a copy of its key stays valid.
fn farewell(identity: &Identity, issued: &Issued) -> Farewell {
    let note = format!(
        "Secret {} goes with the Identity; a copy of its key signs until certificate {} ends at {}, because nothing revokes it",
        issued.secret.name_any(),
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
