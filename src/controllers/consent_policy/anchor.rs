//! The anchor of a policy: what the contract decides from stands on the ledger, put there and read back by its digest.
//!
//! Invariant: the ledger's version is replaced only on top of the one that was read, so that nobody's is overwritten
//! unseen. Deleting the resource leaves the policy in force; one that takes its place under another name withdraws it.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::conditions::{READY, Reason};
use crate::api::{Chaincode, Channel, ConsentPolicy, Peer};
use crate::consent::policy::Policy;
use crate::contract::messages::{Function, GetPolicy, PolicyVersion, PutPolicy, WithdrawPolicy};
use crate::controllers::chaincode::definition;
use crate::controllers::context::Context;
use crate::controllers::{authorities, ledger, node};
use crate::fabric::proposal::Call;
use crate::fabric::{LedgerError, gateway};
use crate::status::Finding;

/// A policy on the ledger as it was read, and what had to be done.
pub struct Anchor {
    /// What stands there now.
    pub version: PolicyVersion,
    /// What stood there and was not put by this resource: it was replaced.
    pub drift: Option<String>,
}

/// The contract that keeps the policy: `None` if none is named, and no channel either.
pub fn contract(ctx: &Context, resource: &ConsentPolicy) -> Option<Result<Arc<Chaincode>, Finding>> {
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
    chaincode: &Chaincode,
) -> Result<Anchor, Finding> {
    if let Some(rival) = rival(ctx, resource, chaincode) {
        return Err(claimed(&rival));
    }
    let ledger = Ledger::of(ctx, chaincode).await?;
    let name = resource.name_any();
    let found = ledger.ask(&GetPolicy { name: name.clone(), version: None }).await?;
    if found.digest == policy.digest() {
        return Ok(Anchor { version: found, drift: None });
    }
    let drift = foreign(resource, &found);
    let declared = serde_json::from_str(policy.canonical_json())
        .map_err(|error| Finding::not(Reason::InvalidSpec, format!("the canonical policy is not JSON: {error}")))?;
    let put = PutPolicy { name: name.clone(), policy: declared, replaces: found.version };
    match ledger.tell(&put).await {
        Ok(version) => {
            tracing::info!(policy = name, version = version.version, digest = version.digest, "put on the ledger");
            Ok(Anchor { version, drift })
        }
        Err(error) => Err(ledger.refused(ctx, &resource.namespace().unwrap_or_default(), &error).await),
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
    let age = |p: &ConsentPolicy| (p.metadata.creation_timestamp.clone().map(|t| t.0), p.metadata.uid.clone());
    let same_contract = |other: &ConsentPolicy| matches!(contract(ctx, other), Some(Ok(found)) if found.metadata.uid == chaincode.metadata.uid);
    let all = ctx.world.consent_policies.list(&resource.namespace().unwrap_or_default());
    let older = all.into_iter().find(|other| {
        other.spec.scope == resource.spec.scope
            && other.metadata.uid != resource.metadata.uid
            && age(other) < age(resource)
            && same_contract(other)
    });
    older.map(|other| other.name_any())
}

fn claimed(by: &str) -> Finding {
    let message = format!(
        "ConsentPolicy {by} already claims this scope of the contract: give one of the two another spec.scope, or delete it"
    );
    Finding::not(Reason::Conflict, message)
}

/// The contract, reached through the gateway of a member hospital and as its admin.
struct Ledger {
    client: gateway::Client,
    channel: String,
    chaincode: String,
}

impl Ledger {
    /// Through the first member hospital whose admin and peer are at hand.
    async fn of(ctx: &Context, chaincode: &Chaincode) -> Result<Self, Finding> {
        let namespace = chaincode.namespace().unwrap_or_default();
        let waiting = |message: String| Finding::unknown(Reason::WaitingForDependency, message);
        let ready = chaincode.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == READY);
        if ready.is_none_or(|ready| ready.status != "True") {
            return Err(waiting(format!("Chaincode {} is not ready: see its conditions", chaincode.name_any())));
        }
        let channel = ctx.world.channels.get(&namespace, &chaincode.spec.channel_ref.name);
        let channel = channel.ok_or_else(|| waiting(format!("Channel {} is gone", chaincode.spec.channel_ref.name)))?;
        let mut obstacle = None;
        for hospital in &channel.spec.members {
            match gateway_of(ctx, &namespace, &channel, hospital).await {
                Ok(client) => {
                    let (channel, chaincode) = (channel.spec.channel_name.clone(), definition::name(chaincode));
                    return Ok(Self { client, channel, chaincode });
                }
                Err(finding) => obstacle = obstacle.or(Some(finding)),
            }
        }
        Err(obstacle.unwrap_or_else(|| waiting("the channel has no members".into())))
    }

    fn call<F: Function>(&self, function: &F) -> Result<Call<'_>, LedgerError> {
        let arguments = function.arguments().map_err(|error| LedgerError::Invalid(error.to_string()))?;
        Ok(Call::new(&self.channel, &self.chaincode, arguments))
    }

    async fn ask<F: Function>(&self, function: &F) -> Result<F::Output, Finding> {
        let answer = async { read::<F>(&self.client.evaluate(&self.call(function)?, &[]).await?) };
        answer.await.map_err(|error| problem(&error))
    }

    async fn tell<F: Function>(&self, function: &F) -> Result<F::Output, LedgerError> {
        read::<F>(&self.client.submit(&self.call(function)?, &[]).await?.result)
    }

    /// What a refused policy means. A scope that a policy without resource holds is freed: the next pass gets it.
    async fn refused(&self, ctx: &Context, namespace: &str, error: &LedgerError) -> Finding {
        let text = error.to_string();
        let Some(other) = claimant(&text) else { return problem(error) };
        if ctx.world.consent_policies.get(namespace, other).is_some() {
            return claimed(other);
        }
        let found = match self.ask(&GetPolicy { name: other.to_owned(), version: None }).await {
            Ok(found) => found,
            Err(finding) => return finding,
        };
        match self.tell(&WithdrawPolicy { name: other.to_owned(), replaces: found.version }).await {
            Ok(_) => {
                Finding::not(Reason::Progressing, format!("policy {other}, whose ConsentPolicy is gone, was withdrawn"))
            }
            Err(error) => problem(&error),
        }
    }
}

/// The gateway of a hospital's peer that has the channel.
async fn gateway_of(
    ctx: &Context,
    namespace: &str,
    channel: &Channel,
    hospital: &str,
) -> Result<gateway::Client, Finding> {
    let waiting = |message: String| Finding::unknown(Reason::WaitingForDependency, message);
    let found = ctx.world.hospitals.get(namespace, hospital);
    let found = found.ok_or_else(|| waiting(format!("Hospital {hospital} does not exist")))?;
    let usable = |peer: &Arc<Peer>| {
        let has =
            |status: &crate::api::PeerStatus| status.channels.iter().any(|has| has.name == channel.spec.channel_name);
        peer.spec.hospital_ref.name == hospital
            && peer.status.as_ref().is_some_and(has)
            && node::is_ready(&ctx.world, namespace, &peer.name_any())
    };
    let peer = ctx.world.peers.list(namespace).into_iter().find(usable);
    let peer = peer.ok_or_else(|| waiting(format!("no peer of Hospital {hospital} answers")))?;
    let authorities = authorities::of_hospital(ctx, &found).await?;
    ledger::gateway(ctx, namespace, &peer.name_any(), &found, authorities.tls.certificate())
}

fn read<F: Function>(answer: &[u8]) -> Result<F::Output, LedgerError> {
    serde_json::from_slice(answer)
        .map_err(|error| LedgerError::Invalid(format!("the contract's answer to {} is not readable: {error}", F::NAME)))
}

/// The policy that holds a scope, from the contract's words (`contract::policies`).
fn claimant(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("is claimed by policy ")?;
    rest.split_once(':').map(|(name, _)| name)
}

fn problem(error: &LedgerError) -> Finding {
    let text = error.to_string();
    match error {
        LedgerError::Disagreement { .. } => Finding::not(Reason::EndorsersDisagree, different(&text)),
        // Fabric: `gateway/endorsement.go` and `protoutil.CreateTx`.
        LedgerError::Refused { .. } | LedgerError::Declined { .. } if text.contains("do not match") => {
            Finding::not(Reason::EndorsersDisagree, different(&text))
        }
        _ => ledger::finding("policy on the ledger", error),
    }
}

fn different(error: &str) -> String {
    format!("the contract answers differently at two hospitals: they must run the same image ({error})")
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
        let told = foreign(&policy(known.clone()), &on_ledger(4, "bb")).expect("another one");
        assert!(told.contains("version 4 with digest bb") && told.contains("ElmMSP"), "{told}");
        assert!(foreign(&policy(known), &on_ledger(4, "")).expect("withdrawn").contains("digest none"));
    }

    #[test]
    fn the_policy_that_holds_a_scope_is_read_from_the_contracts_words() {
        let error = LedgerError::Refused {
            node: "p:7051".into(),
            status: 500,
            message: "scope any is claimed by policy care-2: policy treatment cannot claim it".into(),
        };
        assert_eq!(claimant(&error.to_string()), Some("care-2"));
        assert_eq!(claimant("policy treatment is at version 3"), None);
    }

    #[test]
    fn contracts_that_answer_differently_are_named_as_such() {
        let mismatch = LedgerError::Refused {
            node: "p:7051".into(),
            status: 400,
            message: "failed to assemble transaction: ProposalResponsePayloads do not match".into(),
        };
        assert_eq!(problem(&mismatch).reason, Reason::EndorsersDisagree);
        let endorsers = vec![vec!["a:7051".to_owned()], vec!["b:7051".to_owned()]];
        assert_eq!(problem(&LedgerError::Disagreement { endorsers }).reason, Reason::EndorsersDisagree);
    }
}
