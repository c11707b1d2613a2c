//! Hospital: CAs, admin identity, public MSP, client bundle.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use zeroize::Zeroizing;

use super::authorities::{self, Authorities};
use super::context::Context;
use super::key_pairs::{self, Issued, Slot, Want, certificate_status};
use super::keys::Replaceable;
use super::outcome::{Outcome, ReconcileError, told};
use super::{children, connection, pseudonym, rival};
use ehrnet_api::common::CertificateStatus;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::hospital::ExistingCa;
use ehrnet_api::{Hospital, HospitalStatus};
use ehrnet_apply::Owner;
use ehrnet_desired::plan::HospitalPlan;
use ehrnet_desired::{names, secret};
use ehrnet_pki::renewal;
use ehrnet_pki::{Authority, AuthorityName};
use ehrnet_status::{self as status, Finding};

/// Brings one hospital closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, hospital: Arc<Hospital>) -> Result<Outcome, ReconcileError> {
    if hospital.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let accepted = accepted(ctx, &hospital);
    let identity = match accepted.holds() {
        true => told(provision(ctx, &hospital).await)?,
        false => Err(Finding::unknown(Reason::Progressing, "comes after the declaration is accepted")),
    };
    let findings = findings(ctx, accepted, &identity);
    let before = previous(&hospital);
    let conditions = status::conditions(&before, hospital.metadata.generation, (ctx.clock)(), &findings);
    let status = report(&hospital, identity.as_ref().ok(), conditions.clone());
    let current = hospital.status.as_ref();
    let told = super::publish(ctx, &ctx.world.hospitals, &*hospital, current, &status, (&before, &conditions)).await?;
    Ok(told.or_sooner(wake_up(ctx, identity.as_ref().ok()).or_sooner(Outcome::of(&findings))))
}

/// What a hospital's other children are built from.
pub struct Material {
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

fn previous(hospital: &Hospital) -> Vec<Condition> {
    hospital.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
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

/// Keys first, then what shows them to others.
async fn provision(ctx: &Context, hospital: &Hospital) -> Result<Result<Material, Finding>, ReconcileError> {
    let material = match material(ctx, hospital).await? {
        Ok(material) => material,
        Err(finding) => return Ok(Err(finding)),
    };
    match connection::resources(ctx, hospital, &material).await {
        Ok(resources) => children::apply(ctx, &material.owner, resources).await?,
        Err(error) => return Ok(Err(Finding::not(Reason::InvalidKeyPair, format!("the admin identity: {error}")))),
    };
    Ok(Ok(material))
}

/// Both CAs and the admin identity, made where they are missing.
async fn material(ctx: &Context, hospital: &Hospital) -> Result<Result<Material, Finding>, ReconcileError> {
    let (plan, owner) = match (HospitalPlan::new(hospital), Owner::of(hospital)) {
        (Ok(plan), Some(owner)) => (plan, owner),
        (Err(error), _) => return Ok(Err(Finding::not(Reason::InvalidSpec, error.to_string()))),
        (_, None) => return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID"))),
    };
    let before = hospital.status.clone().unwrap_or_default();
    let signing = Ca {
        given: hospital.spec.signing_ca.as_ref(),
        name: names::signing_ca(&plan.parent.name),
        existed: before.signing_ca.is_some(),
        title: "CA",
    };
    let tls = Ca {
        given: hospital.spec.tls_ca.as_ref(),
        name: names::tls_ca(&plan.parent.name),
        existed: before.tls_ca.is_some(),
        title: "TLS CA",
    };
    let signing = authority(ctx, &owner, &plan, &signing, &|ca| secret::signing_ca(&plan, ca)).await?;
    let tls = authority(ctx, &owner, &plan, &tls, &|ca| secret::tls_ca(&plan, ca)).await?;
    let authorities = match (signing, tls) {
        (Ok(signing), Ok(tls)) => Authorities { signing, tls },
        (Err(finding), _) | (_, Err(finding)) => return Ok(Err(finding)),
    };
    let slot = Slot { owner: &owner, name: &names::admin(&plan.parent.name), existed: before.admin.is_some() };
    let leaf = plan.admin_leaf();
    let issuer = &authorities.signing;
    let want = Want { leaf: &leaf, issuer, window: plan.leaf_window, replaceable: Replaceable::Yes };
    let build = |certificate: &_, key: &_| secret::admin(&plan, certificate, key, issuer.certificate());
    let admin = key_pairs::leaf(ctx, &slot, &want, &build).await?;
    let pseudonym_key = pseudonym::key(ctx, &owner.namespace).await?;
    Ok(admin.and_then(|admin| Ok(Material { pseudonym_key: pseudonym_key?, owner, plan, authorities, admin })))
}

struct Ca<'a> {
    given: Option<&'a ExistingCa>,
    name: String,
    existed: bool,
    title: &'a str,
}

async fn authority(
    ctx: &Context,
    owner: &Owner,
    plan: &HospitalPlan,
    ca: &Ca<'_>,
    build: key_pairs::BuildAuthority<'_>,
) -> Result<Result<Authority, Finding>, ReconcileError> {
    if let Some(given) = ca.given {
        let name = &given.secret_ref.name;
        let secret = authorities::given_secret(ctx, &owner.namespace, name).await;
        return Ok(secret.and_then(|secret| authorities::read(&secret, name, (ctx.clock)())));
    }
    let slot = Slot { owner, name: &ca.name, existed: ca.existed };
    let common_name = format!("{} {}", plan.msp_id.chars().take(48).collect::<String>(), ca.title);
    let name = AuthorityName { common_name, organization: plan.organization.clone() };
    key_pairs::authority(ctx, &slot, &name, plan.ca_window, build).await
}

fn findings(ctx: &Context, accepted: Finding, identity: &Result<Material, Finding>) -> Vec<(ConditionType, Finding)> {
    let ready = match identity {
        Ok(material) => expiring(ctx, material)
            .unwrap_or_else(|| Finding::good("CAs, admin identity and client bundle are in place")),
        Err(finding) => finding.clone(),
    };
    vec![(ConditionType::Accepted, accepted), (ConditionType::IdentityReady, ready)]
}

/// A CA that only its owner can renew, and that nears its end.
fn expiring(ctx: &Context, material: &Material) -> Option<Finding> {
    let cas = [("signing", &material.authorities.signing), ("TLS", &material.authorities.tls)];
    let now = (ctx.clock)();
    cas.into_iter().find_map(|(which, ca)| {
        renewal::authority(ca.certificate(), material.plan.ca_window, now)?;
        Some(Finding::degraded(format!(
            "the {which} CA ends at {}: renew it with the same key, or identities can no longer be issued",
            ca.certificate().not_after()
        )))
    })
}

fn report(hospital: &Hospital, material: Option<&Material>, conditions: Vec<Condition>) -> HospitalStatus {
    let before = hospital.status.clone().unwrap_or_default();
    let ca = |given: Option<&ExistingCa>, made: String, ca: &Authority, window| -> CertificateStatus {
        let secret = given.map_or(made, |given| given.secret_ref.name.clone());
        let due = given.is_none().then(|| renewal::authority_due(ca.certificate(), window));
        certificate_status(&secret, ca.certificate(), due)
    };
    let Some(material) = material else {
        return HospitalStatus { observed_generation: hospital.metadata.generation, conditions, ..before };
    };
    let (spec, name, window) = (&hospital.spec, hospital.name_any(), material.plan.ca_window);
    HospitalStatus {
        observed_generation: hospital.metadata.generation,
        conditions,
        signing_ca: Some(ca(spec.signing_ca.as_ref(), names::signing_ca(&name), &material.authorities.signing, window)),
        tls_ca: Some(ca(spec.tls_ca.as_ref(), names::tls_ca(&name), &material.authorities.tls, window)),
        admin: Some(material.admin.status()),
        client_bundle_secret: Some(names::connection(&name)),
    }
}

/// When the next certificate is due.
fn wake_up(ctx: &Context, material: Option<&Material>) -> Outcome {
    let Some(material) = material else { return Outcome::wait() };
    let window = material.plan.ca_window;
    let cas = [&material.authorities.signing, &material.authorities.tls];
    let due = cas.into_iter().map(|ca| renewal::authority_due(ca.certificate(), window)).chain(material.admin.due);
    let now = (ctx.clock)();
    // A CA of the hospital's own that is due stays so until its owner acts: its Secret is watched.
    let coming = due.filter(|due| *due > now);
    renewal::next_wake_up(coming, now).map_or(Outcome::wait(), Outcome::within)
}
