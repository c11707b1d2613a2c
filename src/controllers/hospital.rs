//! Hospital: CAs, admin identity, public MSP, client bundle.

use std::sync::Arc;

use kube::ResourceExt;
use zeroize::Zeroizing;

use super::authorities::{self, Authorities};
use super::context::Context;
use super::error::StepError;
use super::key_pairs::{self, Issued, Slot, Want, certificate_status};
use super::keys::Replaceable;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::writer::Writer;
use super::{connection, pseudonym, rival, write};
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::hospital::ExistingCa;
use ehrnet_api::{Hospital, HospitalStatus};
use ehrnet_apply::Owner;
use ehrnet_desired::{HospitalPlan, names, secret};
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_pki::{Authority, AuthorityName, renewal};
use ehrnet_status::Finding;

/// What decisions about a hospital need.
pub struct HospitalFacts {
    hospital: Arc<Hospital>,
    /// Whether the declaration makes sense beside the others.
    accepted: Finding,
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
        HospitalFacts { accepted: accepted(ctx, &hospital), hospital }
    }

    /// Keys first, then what shows them to others.
    async fn provide(ctx: &Context, facts: &HospitalFacts, writer: &Writer<'_>) -> Result<HospitalKeys, StepError> {
        if !facts.accepted.holds() {
            return Err(Finding::comes_after("the declaration is accepted").into());
        }
        let keys = keys(ctx, writer, &facts.hospital).await?;
        let objects = connection::resources(ctx, &facts.hospital, &keys).await;
        let objects =
            objects.map_err(|error| Finding::not(Reason::InvalidKeyPair, format!("the admin identity: {error}")))?;
        write::objects(ctx, writer, &keys.owner, objects).await?;
        Ok(keys)
    }

    async fn ask(_: &Context, _: &HospitalFacts, _: &Result<HospitalKeys, Finding>) {}

    fn report(
        ctx: &Context,
        facts: &HospitalFacts,
        keys: &Result<HospitalKeys, Finding>,
        (): (),
    ) -> Report<HospitalStatus> {
        let ready = match keys {
            Ok(keys) => expiring(ctx, keys)
                .unwrap_or_else(|| Finding::good("CAs, admin identity and client bundle are in place")),
            Err(finding) => finding.clone(),
        };
        let keys = keys.as_ref().ok();
        Report {
            findings: vec![(ConditionType::Accepted, facts.accepted.clone()), (ConditionType::IdentityReady, ready)],
            status: status(&facts.hospital, keys),
            look_again: wake_up(ctx, keys),
        }
    }
}

/// What a hospital's other objects are built from.
pub struct HospitalKeys {
    /// The hospital as an owner.
    pub owner: Owner,
    /// The validated spec.
    pub plan: HospitalPlan,
    /// Its CAs.
    pub authorities: Authorities,
    /// Its admin identity.
    pub admin: Issued,
    /// Key of the namespace's pseudonyms.
    pub pseudonym_key: Zeroizing<String>,
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
async fn keys(ctx: &Context, writer: &Writer<'_>, hospital: &Hospital) -> Result<HospitalKeys, StepError> {
    let (plan, owner) = (HospitalPlan::new(hospital)?, super::owner(hospital)?);
    let before = hospital.status.clone().unwrap_or_default();
    let signing = Ca {
        given: hospital.spec.signing_ca.as_ref(),
        secret: names::signing_ca(&plan.parent.name),
        existed: before.signing_ca.is_some(),
        subject: plan.signing_ca_name(),
    };
    let tls = Ca {
        given: hospital.spec.tls_ca.as_ref(),
        secret: names::tls_ca(&plan.parent.name),
        existed: before.tls_ca.is_some(),
        subject: plan.tls_ca_name(),
    };
    // One of the two does not wait for the other.
    let signing = authority(ctx, writer, &owner, &plan, &signing, &|ca| secret::signing_ca(&plan, ca)).await;
    let tls = authority(ctx, writer, &owner, &plan, &tls, &|ca| secret::tls_ca(&plan, ca)).await;
    let authorities = Authorities { signing: signing?, tls: tls? };
    let slot = Slot { owner: &owner, name: &names::admin(&plan.parent.name), existed: before.admin.is_some() };
    let leaf = plan.admin_leaf();
    let issuer = &authorities.signing;
    let want = Want { leaf: &leaf, issuer, window: plan.leaf_window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::admin(&plan, certificate, key, issuer.certificate());
    let admin = key_pairs::leaf(ctx, writer, &slot, &want, &build).await?;
    let pseudonym_key = pseudonym::key(ctx, writer, &owner.namespace).await?;
    Ok(HospitalKeys { pseudonym_key, owner, plan, authorities, admin })
}

struct Ca<'a> {
    given: Option<&'a ExistingCa>,
    secret: String,
    existed: bool,
    subject: AuthorityName,
}

async fn authority(
    ctx: &Context,
    writer: &Writer<'_>,
    owner: &Owner,
    plan: &HospitalPlan,
    ca: &Ca<'_>,
    build: key_pairs::BuildAuthority<'_>,
) -> Result<Authority, StepError> {
    if let Some(given) = ca.given {
        let name = &given.secret_ref.name;
        let secret = ctx.given.get(&ctx.world, &owner.namespace, name).await?;
        let authority = authorities::read(&secret, name, (ctx.clock)())?;
        let slot = Slot { owner, name, existed: true };
        key_pairs::measure(ctx, &slot, "ca", authority.certificate(), None);
        return Ok(authority);
    }
    let slot = Slot { owner, name: &ca.secret, existed: ca.existed };
    key_pairs::authority(ctx, writer, &slot, &ca.subject, plan.ca_window, build).await
}

/// A CA that only its owner can renew, and that nears its end.
fn expiring(ctx: &Context, keys: &HospitalKeys) -> Option<Finding> {
    let cas = [("signing", &keys.authorities.signing), ("TLS", &keys.authorities.tls)];
    let now = (ctx.clock)();
    cas.into_iter().find_map(|(which, ca)| {
        renewal::authority(ca.certificate(), keys.plan.ca_window, now)?;
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
    let (spec, name, window) = (&hospital.spec, hospital.name_any(), keys.plan.ca_window);
    HospitalStatus {
        signing_ca: Some(ca(spec.signing_ca.as_ref(), names::signing_ca(&name), &keys.authorities.signing, window)),
        tls_ca: Some(ca(spec.tls_ca.as_ref(), names::tls_ca(&name), &keys.authorities.tls, window)),
        admin: Some(keys.admin.status()),
        client_bundle_secret: Some(names::connection(&name)),
        ..before
    }
}

/// When the next certificate is due.
fn wake_up(ctx: &Context, keys: Option<&HospitalKeys>) -> Outcome {
    let Some(keys) = keys else { return Outcome::wait() };
    let window = keys.plan.ca_window;
    let cas = [&keys.authorities.signing, &keys.authorities.tls];
    let due = cas.into_iter().map(|ca| renewal::authority_due(ca.certificate(), window)).chain(keys.admin.due);
    let now = (ctx.clock)();
    // A CA of the hospital's own that is due stays so until its owner acts: its Secret is watched.
    let coming = due.filter(|due| *due > now);
    renewal::next_wake_up(coming, now).map_or(Outcome::wait(), Outcome::within)
}
