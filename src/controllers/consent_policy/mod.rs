//! ConsentPolicy: validated, projected into a ConfigMap, and anchored on the ledger of its channel.
//!
//! Invariant: the ledger decides. The ConfigMap is a projection that nothing reads back; one digest stands in status,
//! ConfigMap and ledger. A difference that somebody else made is told once, as a condition and an Event, and mended.

mod anchor;
mod ledger;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::outcome::{Outcome, ReconcileError, told};
use anchor::Anchor;
use ehrnet_api::ConsentPolicy;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::consent_policy::ConsentPolicyStatus;
use ehrnet_apply::Owner;
use ehrnet_consent::policy::{self, Policy};
use ehrnet_desired::config_map;
use ehrnet_desired::names::{self, Parent};
use ehrnet_messages::PolicyVersion;
use ehrnet_status::{self as status, Finding};

/// How often the ledger is looked at: another policy on it leaves no trace in the cluster, and must not stay unseen.
const LEDGER_LOOK: Duration = Duration::from_secs(5);
/// How soon after a difference was mended the status says that all is well again.
const MENDED_LOOK: Duration = Duration::from_secs(1);

/// Brings one policy closer to its declaration and reports how far it is.
pub async fn reconcile(ctx: &Context, resource: Arc<ConsentPolicy>) -> Result<Outcome, ReconcileError> {
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::wait());
    }
    let view = advance(ctx, &resource).await?;
    let findings = view.findings();
    let before = resource.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = status::conditions(&before, resource.metadata.generation, (ctx.clock)(), &findings);
    let status = report(&resource, &view, conditions.clone());
    let current = resource.status.as_ref();
    let told =
        super::publish(ctx, &ctx.world.consent_policies, &*resource, current, &status, (&before, &conditions)).await?;
    Ok(told.or_sooner(view.look_again().or_sooner(Outcome::of(&findings))))
}

/// What a pass found and did.
struct View {
    validated: Result<Policy, Finding>,
    /// What was wrong with the ConfigMap, now mended; nothing if nothing was.
    projected: Result<Option<String>, Finding>,
    /// `None` where no contract is named.
    anchored: Option<Result<Anchor, Finding>>,
}

async fn advance(ctx: &Context, resource: &ConsentPolicy) -> Result<View, ReconcileError> {
    let later = Finding::unknown(Reason::Progressing, "comes after the policy is valid");
    let contract = anchor::contract(ctx, resource);
    let policy = match validate(resource) {
        Ok(policy) => policy,
        Err(finding) => {
            let anchored = contract.map(|_| Err(later.clone()));
            return Ok(View { validated: Err(finding), projected: Err(later), anchored });
        }
    };
    let projected = told(project(ctx, resource, &policy).await)?;
    let anchored = match contract {
        None => None,
        Some(Err(finding)) => Some(Err(finding)),
        Some(Ok(chaincode)) => Some(anchor::keep(ctx, resource, &policy, &chaincode).await),
    };
    Ok(View { validated: Ok(policy), projected, anchored })
}

/// The policy, or one sentence for each field that is wrong.
fn validate(resource: &ConsentPolicy) -> Result<Policy, Finding> {
    policy::validate(&resource.spec).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Finding::not(Reason::InvalidSpec, errors.join("; "))
    })
}

/// Writes the ConfigMap; returns what somebody else had made of it.
async fn project(
    ctx: &Context,
    resource: &ConsentPolicy,
    policy: &Policy,
) -> Result<Result<Option<String>, Finding>, ReconcileError> {
    let (Some(parent), Some(owner)) = (Parent::of(resource), Owner::of(resource)) else {
        return Ok(Err(Finding::not(Reason::InvalidSpec, "the resource has no UID")));
    };
    let live = ctx.world.config_maps.get(&owner.namespace, &names::consent_policy(&parent.name));
    let drift = drift(resource, live.as_deref(), &policy.digest());
    let projection = config_map::consent_policy(&parent, policy.canonical_json(), &policy.digest());
    ctx.applier.apply(&owner, &ctx.world.config_maps, &projection).await?;
    Ok(Ok(drift))
}

/// What somebody else made of the ConfigMap since its digest stood in the status. Pure.
fn drift(resource: &ConsentPolicy, live: Option<&ConfigMap>, declared: &str) -> Option<String> {
    let known = resource.status.as_ref()?.digest.as_deref()?;
    let name = names::consent_policy(&resource.name_any());
    let Some(live) = live else { return Some(format!("ConfigMap {name} was deleted")) };
    let text = live.data.as_ref().and_then(|data| data.get(names::POLICY_JSON)).map(String::as_str);
    let digest = hex::encode(Sha256::digest(text.unwrap_or_default()));
    (digest != known && digest != declared).then(|| format!("ConfigMap {name} was edited and had digest {digest}"))
}

impl View {
    fn findings(&self) -> Vec<(ConditionType, Finding)> {
        let valid = match &self.validated {
            Ok(_) => Finding::good("every field makes sense"),
            Err(finding) => finding.clone(),
        };
        let digest = self.validated.as_ref().map(Policy::digest).unwrap_or_default();
        let projected = match &self.projected {
            Ok(_) => Finding::good(format!("the ConfigMap holds the policy with digest {digest}")),
            Err(finding) => finding.clone(),
        };
        let mut findings = vec![(ConditionType::Validated, valid), (ConditionType::Projected, projected)];
        findings.extend(self.anchored.iter().map(|anchored| {
            let finding = match anchored {
                Ok(anchor) => Finding::good(on_ledger(&anchor.version)),
                Err(finding) => finding.clone(),
            };
            (ConditionType::Anchored, finding)
        }));
        findings.push((ConditionType::InSync, self.in_sync(&digest)));
        findings
    }

    fn in_sync(&self, digest: &str) -> Finding {
        let drifts =
            [self.projected.as_ref().ok().and_then(Option::as_ref), self.anchor().and_then(|a| a.drift.as_ref())];
        let drifts: Vec<_> = drifts.into_iter().flatten().cloned().collect();
        if !drifts.is_empty() {
            return Finding::not(Reason::Drifted, format!("{}; the declared policy was put back", drifts.join("; ")));
        }
        if self.projected.is_err() || matches!(self.anchored, Some(Err(_))) {
            return Finding::unknown(Reason::Progressing, "comes after the policy is projected and anchored");
        }
        let where_ = if self.anchored.is_some() { "status, ConfigMap and ledger" } else { "status and ConfigMap" };
        Finding::good(format!("{where_} have digest {digest}"))
    }

    fn anchor(&self) -> Option<&Anchor> {
        self.anchored.as_ref()?.as_ref().ok()
    }

    fn look_again(&self) -> Outcome {
        let drifted =
            self.projected.as_ref().is_ok_and(Option::is_some) || self.anchor().is_some_and(|a| a.drift.is_some());
        match &self.anchored {
            _ if drifted => Outcome::within(MENDED_LOOK),
            Some(Ok(_)) => Outcome::within(LEDGER_LOOK),
            Some(Err(finding)) if finding.reason == Reason::Progressing => Outcome::within(MENDED_LOOK),
            Some(Err(_)) | None => Outcome::wait(),
        }
    }
}

fn on_ledger(version: &PolicyVersion) -> String {
    format!("version {} on the ledger, agreed by {}", version.version, version.agreed.join(", "))
}

fn report(resource: &ConsentPolicy, view: &View, conditions: Vec<Condition>) -> ConsentPolicyStatus {
    let before = resource.status.clone().unwrap_or_default();
    let policy = view.validated.as_ref().ok();
    let version = view.anchor().map(|anchor| &anchor.version);
    ConsentPolicyStatus {
        observed_generation: resource.metadata.generation,
        conditions,
        short_digest: policy.map(|policy| policy.digest().chars().take(12).collect()).or(before.short_digest),
        digest: policy.map(Policy::digest).or(before.digest),
        config_map_ref: policy
            .map(|_| ehrnet_api::common::LocalRef::to(names::consent_policy(&resource.name_any())))
            .or(before.config_map_ref),
        ledger_version: version.map(|version| version.version).or(before.ledger_version),
        ledger_digest: version.map(|version| version.digest.clone()).or(before.ledger_digest),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(digest: Option<&str>) -> ConsentPolicy {
        let object = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "treatment"},
            "spec": {}, "status": {"digest": digest},
        });
        serde_json::from_value(object).expect("a policy")
    }

    fn config_map(text: &str) -> ConfigMap {
        serde_json::from_value(json!({"data": {names::POLICY_JSON: text}})).expect("a ConfigMap")
    }

    fn digest(text: &str) -> String {
        hex::encode(Sha256::digest(text))
    }

    #[test]
    fn an_edit_by_hand_is_told_from_an_edit_of_the_declaration() {
        let (old, new) = (digest("old"), digest("new"));
        let known = resource(Some(&old));
        assert_eq!(drift(&known, Some(&config_map("old")), &new), None, "the declaration changed");
        assert_eq!(drift(&known, Some(&config_map("new")), &new), None, "written, and the status not yet");
        assert_eq!(drift(&resource(None), None, &new), None, "the first time");
        assert!(drift(&known, Some(&config_map("by hand")), &old).expect("told").contains("was edited"));
        assert!(drift(&known, None, &old).expect("told").contains("was deleted"));
    }
}
