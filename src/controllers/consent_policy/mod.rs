//! ConsentPolicy: validated, projected into a ConfigMap, and anchored on the ledger of its channel.
//!
//! Invariant: the ledger decides. The ConfigMap is a projection that nothing reads back; one digest stands in status,
//! ConfigMap and ledger. A difference that somebody else made is told once, as a condition and an Event, and mended.

mod anchor;
mod ledger;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::error::StepError;
use super::kind::{Declared, Report};
use super::outcome::Outcome;
use super::writer::Writer;
use anchor::Anchor;
use ehrnet_api::conditions::{ConditionType, Reason};
use ehrnet_api::{ConsentPolicy, ConsentPolicyStatus};
use ehrnet_consent::policy::{self, Policy};
use ehrnet_desired::names::{self, Parent};
use ehrnet_desired::{PlanError, config_map};
use ehrnet_messages::PolicyVersion;
use ehrnet_observe::cache::Cache;
use ehrnet_observe::{Kind, World};
use ehrnet_status::Finding;
use ledger::ContractFacts;

/// How often the ledger is looked at: another policy on it leaves no trace in the cluster, and must not stay unseen.
const LEDGER_LOOK: Duration = Duration::from_secs(5);
/// How soon after a difference was mended the status says that all is well again.
const MENDED_LOOK: Duration = Duration::from_secs(1);
/// How soon the ledger is asked again that is on its way: peers hear of each other, and of blocks.
const STEP_LOOK: Duration = Duration::from_millis(500);

/// What decisions about a consent policy need.
pub struct PolicyFacts {
    resource: Arc<ConsentPolicy>,
    /// The policy, or what is wrong with it.
    policy: Result<Policy, Finding>,
    /// What somebody else made of the ConfigMap.
    drift: Option<String>,
    /// The contract that keeps the policy, or what keeps it from that; `None` if none is named.
    contract: Option<Result<ContractFacts, Finding>>,
}

impl Declared for ConsentPolicy {
    const KIND: Kind = Kind::ConsentPolicy;
    /// Its pass says who changed what before it puts it back.
    const REPAIRED: bool = false;
    type Facts = PolicyFacts;
    /// What stands in the ConfigMap.
    type Provided = Policy;
    /// `None` where no contract is named.
    type Answer = Option<Result<Anchor, Finding>>;

    fn cache(world: &World) -> &Cache<Self> {
        &world.consent_policies
    }

    async fn gather(ctx: &Context, resource: Arc<Self>) -> PolicyFacts {
        let policy = validate(&resource);
        let (namespace, name) = crate::place(&*resource);
        let live = ctx.world.config_maps.get(&namespace, &names::consent_policy(&name));
        let drift = policy.as_ref().ok().and_then(|policy| drift(&resource, live.as_deref(), &policy.digest()));
        PolicyFacts { contract: anchor::gather(ctx, &resource).await, policy, drift, resource }
    }

    async fn provide(ctx: &Context, facts: &PolicyFacts, writer: &Writer<'_>) -> Result<Policy, StepError> {
        let Ok(policy) = &facts.policy else { return Err(later().into()) };
        let owner = crate::owner(&*facts.resource)?;
        let parent = Parent::of(&*facts.resource).ok_or(PlanError::NotFromCluster)?;
        let projection = config_map::consent_policy(&parent, policy.canonical_json(), &policy.digest());
        writer.apply(&owner, &ctx.world.config_maps, &projection).await?;
        Ok(policy.clone())
    }

    async fn ask(ctx: &Context, facts: &PolicyFacts, _: &Result<Policy, Finding>) -> Option<Result<Anchor, Finding>> {
        let contract = facts.contract.as_ref()?;
        let Ok(policy) = &facts.policy else { return Some(Err(later())) };
        Some(match contract {
            Ok(contract) => anchor::keep(ctx, &facts.resource, policy, contract).await,
            Err(finding) => Err(finding.clone()),
        })
    }

    fn report(
        facts: &PolicyFacts,
        projected: &Result<Policy, Finding>,
        anchored: Option<Result<Anchor, Finding>>,
    ) -> Report<ConsentPolicyStatus> {
        let drift = facts.drift.as_ref().filter(|_| projected.is_ok());
        let view = View { policy: &facts.policy, projected: projected.as_ref().map(|_| drift), anchored: &anchored };
        Report { findings: view.findings(), status: view.status(&facts.resource), look_again: view.look_again() }
    }
}

fn later() -> Finding {
    Finding::comes_after("the policy is valid")
}

/// What a pass found and did.
struct View<'a> {
    policy: &'a Result<Policy, Finding>,
    /// What was wrong with the ConfigMap, now mended; nothing if nothing was.
    projected: Result<Option<&'a String>, &'a Finding>,
    /// `None` where no contract is named.
    anchored: &'a Option<Result<Anchor, Finding>>,
}

/// The policy, or one sentence for each field that is wrong.
fn validate(resource: &ConsentPolicy) -> Result<Policy, Finding> {
    policy::validate(&resource.spec).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Finding::not(Reason::InvalidSpec, errors.join("; "))
    })
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

impl View<'_> {
    fn findings(&self) -> Vec<(ConditionType, Finding)> {
        let valid = match &self.policy {
            Ok(_) => Finding::good("every field makes sense"),
            Err(finding) => finding.clone(),
        };
        let digest = self.policy.as_ref().map(Policy::digest).unwrap_or_default();
        let projected = match &self.projected {
            Ok(_) => Finding::good(format!("the ConfigMap holds the policy with digest {digest}")),
            Err(finding) => (*finding).clone(),
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
        let drifts = [self.projected.ok().flatten(), self.anchor().and_then(|a| a.drift.as_ref())];
        let drifts: Vec<_> = drifts.into_iter().flatten().cloned().collect();
        if !drifts.is_empty() {
            return Finding::not(Reason::Drifted, format!("{}; the declared policy was put back", drifts.join("; ")));
        }
        if self.projected.is_err() || matches!(self.anchored, Some(Err(_))) {
            return Finding::comes_after("the policy is projected and anchored");
        }
        let where_ = if self.anchored.is_some() { "status, ConfigMap and ledger" } else { "status and ConfigMap" };
        Finding::good(format!("{where_} have digest {digest}"))
    }

    fn anchor(&self) -> Option<&Anchor> {
        self.anchored.as_ref()?.as_ref().ok()
    }

    fn look_again(&self) -> Outcome {
        let drifted =
            self.projected.is_ok_and(|drift| drift.is_some()) || self.anchor().is_some_and(|a| a.drift.is_some());
        match self.anchored {
            _ if drifted => Outcome::within(MENDED_LOOK),
            Some(Ok(_)) => Outcome::within(LEDGER_LOOK),
            Some(Err(finding)) if finding.reason == Reason::Progressing => Outcome::within(STEP_LOOK),
            Some(Err(_)) | None => Outcome::wait(),
        }
    }

    fn status(&self, resource: &ConsentPolicy) -> ConsentPolicyStatus {
        let before = resource.status.clone().unwrap_or_default();
        let policy = self.policy.as_ref().ok();
        let version = self.anchor().map(|anchor| &anchor.version);
        ConsentPolicyStatus {
            short_digest: policy.map(|policy| policy.digest().chars().take(12).collect()).or(before.short_digest),
            digest: policy.map(Policy::digest).or(before.digest),
            config_map_ref: policy
                .map(|_| ehrnet_api::common::LocalRef::to(names::consent_policy(&resource.name_any())))
                .or(before.config_map_ref),
            ledger_version: version.map(|version| version.version).or(before.ledger_version),
            ledger_digest: version.map(|version| version.digest.clone()).or(before.ledger_digest),
            ..ConsentPolicyStatus::default()
        }
    }
}

fn on_ledger(version: &PolicyVersion) -> String {
    format!("version {} on the ledger, agreed by {}", version.version, version.agreed.join(", "))
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
