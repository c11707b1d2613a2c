//! Hospital: CAs, admin identity, public MSP, client bundle.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::authorities::{self, Authorities, Pins};
use super::connection::{self, Nodes};
use super::context::Context;
use super::error::{StepError, unplannable};
use super::key_pairs::{self, Issued, Slot, Want, certificate_status};
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::pseudonym::{self, PseudonymFacts};
use super::writer::Writer;
use super::{rival, write};
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::hospital::ExistingCa;
use ehrnet_api::{Hospital, HospitalStatus};
use ehrnet_apply::Owner;
use ehrnet_desired::{HospitalPlan, names, secret};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_pki::{Authority, AuthorityName, Window, renewal};
use ehrnet_status::Finding;

/// What decisions about a hospital need.
pub struct HospitalFacts {
    hospital: Arc<Hospital>,
    now: Timestamp,
    /// Whether the declaration makes sense beside the others.
    accepted: Finding,
    /// What it is made from, or why it cannot be made.
    needs: Result<Needs, Finding>,
}

/// What a hospital is made from.
struct Needs {
    plan: HospitalPlan,
    owner: Owner,
    pins: Pins,
    signing: CaFacts,
    tls: CaFacts,
    admin: Slot,
    pseudonym: PseudonymFacts,
    /// What its clients reach.
    nodes: Nodes,
}

/// What is found of a CA.
enum CaFacts {
    /// A user's own, in the Secret of this name.
    Given { name: String, secret: Result<Arc<Secret>, Finding> },
    /// Made for the hospital.
    Made(Slot),
}

impl Needs {
    async fn gather(ctx: &Context, hospital: &Hospital) -> Result<Self, Finding> {
        let plan = HospitalPlan::new(hospital).map_err(|error| unplannable(&error))?;
        let (owner, name) = (super::owner(hospital)?, &plan.parent.name);
        let (spec, before) = (&hospital.spec, hospital.status.clone().unwrap_or_default());
        let pins = Pins::gather(ctx, hospital);
        let made = |secret, existed, pinned: &Option<String>| {
            CaFacts::Made(Slot::gather(ctx, owner.clone(), secret, existed).pinned(pinned.clone()))
        };
        let signing = match &spec.signing_ca {
            Some(given) => CaFacts::given(ctx, hospital, given).await,
            None => made(names::signing_ca(name), before.signing_ca.is_some(), &pins.signing),
        };
        let tls = match &spec.tls_ca {
            Some(given) => CaFacts::given(ctx, hospital, given).await,
            None => made(names::tls_ca(name), before.tls_ca.is_some(), &pins.tls),
        };
        Ok(Self {
            pins,
            signing,
            tls,
            admin: Slot::gather(ctx, owner.clone(), names::admin(name), before.admin.is_some()),
            pseudonym: PseudonymFacts::gather(ctx, &owner.namespace),
            nodes: Nodes::gather(ctx, hospital).await,
            owner,
            plan,
        })
    }
}

impl CaFacts {
    async fn given(ctx: &Context, hospital: &Hospital, given: &ExistingCa) -> Self {
        let secret = authorities::given_secret(ctx, hospital, given).await;
        Self::Given { name: given.secret_ref.name.clone(), secret }
    }
}

impl Declared for Hospital {
    const KIND: Kind = Kind::Hospital;
    type Facts = HospitalFacts;
    type Provided = HospitalKeys;
    type Answer = ();

    fn cache(world: &World) -> &Cache<Self> {
        &world.hospitals
    }

    async fn gather(ctx: &Context, hospital: Arc<Self>) -> HospitalFacts {
        let accepted = accepted(ctx, &hospital);
        let needs = match accepted.holds() {
            true => Needs::gather(ctx, &hospital).await,
            false => Err(Finding::comes_after("the declaration is accepted")),
        };
        HospitalFacts { now: (ctx.clock)(), accepted, needs, hospital }
    }

    /// Keys first, then what shows them to others.
    async fn provide(ctx: &Context, facts: &HospitalFacts, writer: &Writer<'_>) -> Result<HospitalKeys, StepError> {
        let needs = facts.needs.as_ref().map_err(Clone::clone)?;
        let keys = keys(ctx, writer, needs).await?;
        let objects = connection::resources(&needs.plan, &keys, &needs.nodes)
            .map_err(|error| Finding::not(Reason::InvalidKeyPair, format!("the admin identity: {error}")))?;
        write::objects(ctx, writer, &needs.owner, objects).await?;
        Ok(keys)
    }

    async fn ask(_: &Context, _: &HospitalFacts, _: &Result<HospitalKeys, Finding>) {}

    fn report(facts: &HospitalFacts, keys: &Result<HospitalKeys, Finding>, (): ()) -> Report<HospitalStatus> {
        let ready = match keys {
            Ok(keys) => expiring(keys, facts.now)
                .unwrap_or_else(|| Finding::good("CAs, admin identity and client bundle are in place")),
            Err(finding) => finding.clone(),
        };
        let keys = keys.as_ref().ok();
        Report {
            findings: vec![(ConditionType::Accepted, facts.accepted.clone()), (ConditionType::IdentityReady, ready)],
            status: status(&facts.hospital, keys),
            look_again: keys.map_or_else(Outcome::wait, |keys| wake_up(keys, facts.now)),
        }
    }
}

/// What a hospital's other objects are built from.
pub struct HospitalKeys {
    /// Its CAs.
    pub authorities: Authorities,
    /// Its admin identity.
    pub admin: Issued,
    /// Key of the namespace's pseudonyms.
    pub pseudonym_key: Zeroizing<String>,
    /// Validity and renewal of its CAs.
    ca_window: Window,
}

/// Two hospitals with one MSP identifier cannot share a channel; the older one keeps the name in this namespace.
fn accepted(ctx: &Context, hospital: &Hospital) -> Finding {
    let msp_id = &hospital.spec.msp_id;
    match rival::older(&ctx.world.hospitals, hospital, |other| other.spec.msp_id == *msp_id) {
        Some(other) => Finding::not(
            Reason::Conflict,
            format!("Hospital {other} already has mspId {msp_id}: each hospital needs its own"),
        ),
        None => Finding::good("the declaration makes sense"),
    }
}

/// Both CAs and the admin identity, made where they are missing.
async fn keys(ctx: &Context, writer: &Writer<'_>, needs: &Needs) -> Result<HospitalKeys, StepError> {
    let plan = &needs.plan;
    // One of the two does not wait for the other.
    let build = |ca: &_| secret::signing_ca(plan, ca);
    let signing = authority(ctx, writer, needs, &needs.signing, "signing-ca", &plan.signing_ca_name(), &build).await;
    let build = |ca: &_| secret::tls_ca(plan, ca);
    let tls = authority(ctx, writer, needs, &needs.tls, "tls-ca", &plan.tls_ca_name(), &build).await;
    let authorities = Authorities { signing: signing?, tls: tls? };
    needs.pins.check(&authorities)?;
    let leaf = plan.admin_leaf();
    let issuer = &authorities.signing;
    let want = Want { leaf: &leaf, issuer, window: plan.leaf_window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::admin(plan, certificate, key, issuer.certificate());
    let admin = key_pairs::leaf(ctx, writer, &needs.admin, &want, &build).await?;
    let pseudonym_key = pseudonym::key(ctx, writer, &needs.owner.namespace, &needs.pseudonym).await?;
    Ok(HospitalKeys { ca_window: plan.ca_window, pseudonym_key, authorities, admin })
}

async fn authority(
    ctx: &Context,
    writer: &Writer<'_>,
    needs: &Needs,
    facts: &CaFacts,
    which: &'static str,
    subject: &AuthorityName,
    build: key_pairs::BuildAuthority<'_>,
) -> Result<Authority, StepError> {
    match facts {
        CaFacts::Given { name, secret } => {
            let secret = secret.as_ref().map_err(Clone::clone)?;
            let authority = authorities::read(secret, name, (ctx.clock)())?;
            key_pairs::measure(ctx, &needs.owner, name, which, authority.certificate(), None);
            Ok(authority)
        }
        CaFacts::Made(slot) => {
            let window = needs.plan.ca_window;
            key_pairs::authority(ctx, writer, slot, which, subject, window, build).await
        }
    }
}

/// A CA that only its owner can renew, and that nears its end.
fn expiring(keys: &HospitalKeys, now: Timestamp) -> Option<Finding> {
    let cas = [("signing", &keys.authorities.signing), ("TLS", &keys.authorities.tls)];
    cas.into_iter().find_map(|(which, ca)| {
        renewal::authority(ca.certificate(), keys.ca_window, now)?;
        Some(Finding::degraded(format!(
            "the {which} CA ends at {}: renew it with the same key, or identities can no longer be issued",
            ca.certificate().not_after()
        )))
    })
}

fn status(hospital: &Hospital, keys: Option<&HospitalKeys>) -> HospitalStatus {
    let before = hospital.status.clone().unwrap_or_default();
    let ca = |given: Option<&ExistingCa>, made: String, ca: &Authority, window| -> CertificateStatus {
        let secret = given.map_or(made, |given| given.secret_ref.name.clone());
        let due = given.is_none().then(|| renewal::authority_due(ca.certificate(), window));
        certificate_status(&secret, ca.certificate(), due)
    };
    let Some(keys) = keys else { return before };
    let (spec, name, window) = (&hospital.spec, hospital.name_any(), keys.ca_window);
    HospitalStatus {
        signing_ca: Some(ca(spec.signing_ca.as_ref(), names::signing_ca(&name), &keys.authorities.signing, window)),
        tls_ca: Some(ca(spec.tls_ca.as_ref(), names::tls_ca(&name), &keys.authorities.tls, window)),
        admin: Some(keys.admin.status()),
        client_bundle_secret: Some(names::connection(&name)),
        ..before
    }
}

/// When the next certificate is due.
fn wake_up(keys: &HospitalKeys, now: Timestamp) -> Outcome {
    let window = keys.ca_window;
    let cas = [&keys.authorities.signing, &keys.authorities.tls];
    let due = cas.into_iter().map(|ca| renewal::authority_due(ca.certificate(), window)).chain(keys.admin.due);
    // A CA of the hospital's own that is due stays so until its owner acts: its Secret is watched.
    let coming = due.filter(|due| *due > now);
    renewal::next_wake_up(coming, now).map_or(Outcome::wait(), Outcome::within)
}
