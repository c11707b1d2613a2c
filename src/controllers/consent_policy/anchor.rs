//! The anchor of a policy: what the contract decides from stands on the ledger, put there and read back by its digest.
//!
//! Invariant: the ledger's version is replaced only on top of the one that was read, so that nobody's is overwritten
//! unseen. Deleting the resource leaves the policy in force; one that takes its place under another name withdraws it.
//!
//! Exception to "facts are gathered first": whether the holder of a scope still has a resource is read after the ledger has
//! named the holder ([`is_declared_now`]); before, nobody knows its name.

use std::sync::Arc;

use kube::ResourceExt;

use super::ledger::{Contract, ContractFacts, Refusal};
use crate::context::Context;
use crate::rival;
use ehrnet_api::conditions::Reason;
use ehrnet_api::{Chaincode, ConsentPolicy};
use ehrnet_consent::policy::Policy;
use ehrnet_messages::{Code, GetPolicy, PolicyVersion, PutPolicy, WithdrawPolicy};
use ehrnet_status::Finding;

/// A policy on the ledger as it was read, and what had to be done.
pub struct Anchor {
    /// What stands there now.
    pub version: PolicyVersion,
    /// What stood there and was not put by this resource: it was replaced.
    pub drift: Option<String>,
}

/// What is known of the contract that keeps the policy, or what keeps it from that; `None` if none is named. Gathers from the
/// caches; only CA Secrets of users are read from the cluster.
pub async fn gather(ctx: &Context, resource: &ConsentPolicy) -> Option<Result<ContractFacts, Finding>> {
    Some(match contract(ctx, resource)? {
        Ok(chaincode) => match rival(ctx, resource, &chaincode) {
            Some(rival) => Err(claimed(&rival)),
            None => ContractFacts::gather(ctx, &chaincode).await,
        },
        Err(finding) => Err(finding),
    })
}

/// The contract that keeps the policy: `None` if none is named, and no channel either.
fn contract(ctx: &Context, resource: &ConsentPolicy) -> Option<Result<Arc<Chaincode>, Finding>> {
    let spec = &resource.spec;
    let namespace = resource.namespace().unwrap_or_default();
    let waiting = |message: String| Finding::not(Reason::WaitingForReference, message);
    if let Some(named) = &spec.contract_ref {
        let Some(found) = ctx.world.chaincodes.get(&namespace, &named.name) else {
            return Some(Err(waiting(format!("Chaincode {} does not exist yet", named.name))));
        };
        let its_own = &found.spec.channel_ref.name;
        let other = spec.channel_ref.as_ref().filter(|channel| channel.name != *its_own);
        return Some(other.map_or(Ok(found.clone()), |channel| {
            let message = format!(
                "spec.contractRef names Chaincode {}, which is on Channel {its_own} and not on {}: correct one of the two",
                named.name, channel.name
            );
            Err(Finding::not(Reason::InvalidSpec, message))
        }));
    }
    let channel = &spec.channel_ref.as_ref()?.name;
    let all = ctx.world.chaincodes.list(&namespace);
    let mut on_channel = all.into_iter().filter(|chaincode| chaincode.spec.channel_ref.name == *channel);
    Some(match (on_channel.next(), on_channel.next()) {
        (None, _) => Err(waiting(format!("there is no Chaincode on Channel {channel} yet"))),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            let message =
                format!("several Chaincodes are on Channel {channel}: name the one that decides in spec.contractRef");
            Err(Finding::not(Reason::InvalidSpec, message))
        }
    })
}

/// Reads the policy on the ledger and puts the declared one in its place where they differ.
pub async fn keep(
    ctx: &Context,
    resource: &ConsentPolicy,
    policy: &Policy,
    facts: &ContractFacts,
) -> Result<Anchor, Finding> {
    let contract = Contract::of(ctx, facts)?;
    let name = resource.name_any();
    let found = contract.ask(&GetPolicy { name: name.clone(), version: None }).await?;
    if found.digest == policy.digest() {
        return Ok(Anchor { version: found, drift: None });
    }
    let drift = foreign(resource, &found);
    let declared = serde_json::from_str(policy.canonical_json())
        .map_err(|error| Finding::not(Reason::InvalidSpec, format!("the canonical policy is not JSON: {error}")))?;
    let put = PutPolicy { name: name.clone(), policy: declared, replaces: found.version };
    match contract.put(&put, policy.digest()).await {
        Ok(version) => {
            tracing::info!(policy = name, version = version.version, digest = version.digest, "put on the ledger");
            Ok(Anchor { version, drift })
        }
        Err(refusal) => Err(refused(&contract, ctx, &resource.namespace().unwrap_or_default(), refusal).await),
    }
}

/// What stands on the ledger although this resource did not put it there. Pure.
fn foreign(resource: &ConsentPolicy, found: &PolicyVersion) -> Option<String> {
    let known = resource.status.as_ref()?;
    let (version, digest) = (known.ledger_version?, known.ledger_digest.as_deref()?);
    (found.version != version || found.digest != digest).then(|| {
        format!(
            "the ledger held version {} with digest {}, put by an administrator of {}",
            found.version,
            if found.digest.is_empty() { "none" } else { &found.digest },
            found.author
        )
    })
}

/// An older resource that claims the same scope of the same contract.
fn rival(ctx: &Context, resource: &ConsentPolicy, chaincode: &Chaincode) -> Option<String> {
    let same_contract = |other: &ConsentPolicy| matches!(contract(ctx, other), Some(Ok(found)) if found.metadata.uid == chaincode.metadata.uid);
    let same = |other: &ConsentPolicy| other.spec.scope == resource.spec.scope && same_contract(other);
    rival::older(&ctx.world.consent_policies, resource, same)
}

fn claimed(by: &str) -> Finding {
    let message = format!(
        "ConsentPolicy {by} already claims this scope of the contract: give one of the two another spec.scope, or delete it"
    );
    Finding::not(Reason::Conflict, message)
}

/// What a refused policy means. A scope that a policy without resource holds is freed: the next pass gets it.
async fn refused(contract: &Contract<'_>, ctx: &Context, namespace: &str, refusal: Refusal) -> Finding {
    let Refusal::Ledger(error) = &refusal else { return refusal.into() };
    let Some(Code::ScopeClaimed { policy: other }) = Code::find(&error.to_string()) else { return refusal.into() };
    if is_declared_now(ctx, namespace, &other) {
        return claimed(&other);
    }
    let found = match contract.ask(&GetPolicy { name: other.clone(), version: None }).await {
        Ok(found) => found,
        Err(finding) => return finding,
    };
    match contract.withdraw(&WithdrawPolicy { name: other.clone(), replaces: found.version }).await {
        Ok(_) => {
            Finding::not(Reason::Progressing, format!("policy {other}, whose ConsentPolicy is gone, was withdrawn"))
        }
        Err(refusal) => refusal.into(),
    }
}

/// Whether a ConsentPolicy of that name exists at this moment: what is withdrawn must not be declared meanwhile.
fn is_declared_now(ctx: &Context, namespace: &str, name: &str) -> bool {
    ctx.world.consent_policies.get(namespace, name).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(status: serde_json::Value) -> ConsentPolicy {
        let object = json!({
            "apiVersion": "ehrnet.dev/v1alpha1", "kind": "ConsentPolicy", "metadata": {"name": "treatment"},
            "spec": {}, "status": status,
        });
        serde_json::from_value(object).expect("a policy")
    }

    fn on_ledger(version: u64, digest: &str) -> PolicyVersion {
        let object = json!({"name": "treatment", "version": version, "digest": digest, "author": "ElmMSP"});
        serde_json::from_value(object).expect("a version")
    }

    #[test]
    fn only_what_this_resource_did_not_put_is_foreign() {
        let known = json!({"ledgerVersion": 3, "ledgerDigest": "aa"});
        assert_eq!(foreign(&policy(known.clone()), &on_ledger(3, "aa")), None, "an edit of the declaration");
        assert_eq!(foreign(&policy(json!({})), &on_ledger(3, "aa")), None, "never seen before");
        let message = foreign(&policy(known.clone()), &on_ledger(4, "bb")).expect("another one");
        assert!(message.contains("version 4 with digest bb") && message.contains("ElmMSP"), "{message}");
        assert!(foreign(&policy(known), &on_ledger(4, "")).expect("withdrawn").contains("digest none"));
    }
}
