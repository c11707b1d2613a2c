//! Policies: put by administrators, versioned, one for each scope. What stands here decides, never a ConfigMap.
//!
//! Endorsement is the agreement of machines: every contract endorses what its rules allow. So that no administrator can
//! change alone what protects the patients of all, a change also needs the agreement of more than half of the member
//! hospitals, each given by its own administrator in a transaction of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::error::ContractError;
use super::keys;
use super::transaction::Transaction;
use ehrnet_consent::Policy;
use ehrnet_consent::context::ProvisionContext;
use ehrnet_consent::policy::validate;
use ehrnet_consent::vocabulary::ConsentScope;
use ehrnet_consent::vocabulary::PolicySpec;
use ehrnet_messages::{
    ApprovePolicy, Code, Event, GetPolicy, PolicyApproval, PolicyRef, PolicyVersion, PutPolicy, WithdrawPolicy, event,
};

/// Name of the scope of a policy that names none.
const ANY_SCOPE: &str = "any";

/// Agrees to a policy.
pub async fn approve(tx: &mut Transaction<'_>) -> Result<PolicyApproval, ContractError> {
    let (argument, _) = tx.call.input::<ApprovePolicy>()?;
    tx.caller().must_be_admin()?;
    check_name(&argument.name)?;
    if !argument.digest.is_empty() {
        super::call::check_digest("digest", &argument.digest)?;
    }
    let before = newest(tx, &argument.name).await?;
    check_replaced(&before, argument.replaces)?;
    let approval = PolicyApproval {
        name: argument.name,
        version: before.version + 1,
        digest: argument.digest,
        msp_id: tx.caller().person.msp_id.clone(),
        at: tx.now(),
        tx_id: tx.call.tx_id.clone(),
        already: false,
    };
    let key = keys::policy_approval(&approval.name, approval.version, &approval.msp_id);
    let known: Option<PolicyApproval> = tx.read(&key).await?;
    if let Some(known) = known.filter(|known| known.digest == approval.digest) {
        return Ok(PolicyApproval { already: true, ..known });
    }
    tx.put(key, &approval)?;
    Ok(approval)
}

/// Puts a policy.
pub async fn put(tx: &mut Transaction<'_>) -> Result<PolicyVersion, ContractError> {
    let (argument, _) = tx.call.input::<PutPolicy>()?;
    tx.caller().must_be_admin()?;
    check_name(&argument.name)?;
    let (spec, policy) = read(&argument.policy)?;
    let scope = scope_name(spec.scope);
    let before = newest(tx, &argument.name).await?;
    check_replaced(&before, argument.replaces)?;
    let claimed: Option<PolicyVersion> = tx.read(&keys::policy_of_scope(scope)).await?;
    if let Some(other) = claimed.filter(|other| other.name != argument.name) {
        let (other, name) = (other.name, &argument.name);
        let code = Code::ScopeClaimed { policy: other.clone() };
        let message = format!("{code} scope {scope} is claimed by policy {other}: policy {name} cannot claim it");
        return Err(ContractError::conflict(message));
    }
    release(tx, &before, scope);
    let digest = policy.digest();
    let agreed = agreed(tx, &before, &digest).await?;
    let version = PolicyVersion { digest, policy: Some(argument.policy), agreed, ..next(tx, before) };
    tx.put(keys::policy_of_scope(scope), &version)?;
    write(tx, version)
}

/// Takes a policy out of force.
pub async fn withdraw(tx: &mut Transaction<'_>) -> Result<PolicyVersion, ContractError> {
    let (argument, _) = tx.call.input::<WithdrawPolicy>()?;
    tx.caller().must_be_admin()?;
    check_name(&argument.name)?;
    let before = newest(tx, &argument.name).await?;
    check_replaced(&before, argument.replaces)?;
    if before.policy.is_none() {
        return Err(ContractError::not_found(format_args!("no policy {} is in force", argument.name)));
    }
    release(tx, &before, "");
    let agreed = agreed(tx, &before, "").await?;
    let version = PolicyVersion { digest: String::new(), policy: None, agreed, ..next(tx, before) };
    write(tx, version)
}

/// Reads a policy.
pub async fn get(tx: &mut Transaction<'_>) -> Result<PolicyVersion, ContractError> {
    let (argument, _) = tx.call.input::<GetPolicy>()?;
    check_name(&argument.name)?;
    let Some(version) = argument.version else { return newest(tx, &argument.name).await };
    let found = tx.read(&keys::policy_version(&argument.name, version)).await?;
    found.ok_or_else(|| ContractError::not_found(format_args!("policy {} has no version {version}", argument.name)))
}

/// The policies in force: of each scope, and of any.
pub(super) struct InForce {
    privacy: Option<PolicyVersion>,
    research: Option<PolicyVersion>,
    any: Option<PolicyVersion>,
    /// What documents of each scope are read with, once somebody asked.
    readings: [OnceLock<Reading>; 2],
}

/// What documents are read with, and the policy that says so.
pub(super) type Reading = (ProvisionContext, Option<PolicyRef>);

impl InForce {
    /// Where they stand, in the order of [`Self::new`].
    pub fn keys() -> [String; 3] {
        let [privacy, research] = [ConsentScope::PatientPrivacy, ConsentScope::Research].map(ConsentScope::code);
        [privacy, research, ANY_SCOPE].map(keys::policy_of_scope)
    }

    /// What stands at the [`Self::keys`].
    pub fn new(found: Vec<Option<PolicyVersion>>) -> Self {
        let mut found = found.into_iter().map(|version| version.filter(|version| version.policy.is_some()));
        let mut next = || found.next().flatten();
        Self { privacy: next(), research: next(), any: next(), readings: Default::default() }
    }

    /// Reads them.
    pub async fn read(tx: &mut Transaction<'_>) -> Result<Self, ContractError> {
        Ok(Self::new(tx.read_all(&Self::keys()).await?))
    }

    /// The policy for a scope: its own, or else the one of any scope.
    pub fn of(&self, scope: ConsentScope) -> Option<&PolicyVersion> {
        let own = match scope {
            ConsentScope::PatientPrivacy => &self.privacy,
            ConsentScope::Research => &self.research,
        };
        own.as_ref().or(self.any.as_ref())
    }

    /// What documents of a scope are read with, and the policy that says so: none where none is in force that can be read.
    pub fn reading(&self, scope: ConsentScope) -> &Reading {
        self.readings[usize::from(scope == ConsentScope::Research)].get_or_init(|| {
            let version = self.of(scope);
            match version.and_then(|version| decided_by(version, scope).zip(Some(version))) {
                Some((policy, PolicyVersion { name, version, .. })) => {
                    (policy.context().certified(), Some(PolicyRef { name: name.clone(), version: *version }))
                }
                None => (ProvisionContext::default().certified(), None),
            }
        })
    }

    /// What changes whenever one of them does.
    pub fn digests(&self) -> [Option<&str>; 3] {
        [&self.privacy, &self.research, &self.any]
            .map(|version| version.as_ref().map(|version| version.digest.as_str()))
    }
}

/// The policy of a version on the ledger, for requests of a scope; none if it cannot be read.
pub(super) fn decided_by(version: &PolicyVersion, scope: ConsentScope) -> Option<Policy> {
    let policy = read(version.policy.as_ref()?).ok().map(|(_, policy)| policy)?;
    Some(if scope == ConsentScope::Research { policy.for_research() } else { policy })
}

/// What documents were read with when these policies were in force; none of one that cannot be read any more.
pub(super) async fn readings<'p>(
    tx: &mut Transaction<'_>,
    policies: BTreeSet<&'p PolicyRef>,
) -> Result<BTreeMap<&'p PolicyRef, Option<ProvisionContext>>, ContractError> {
    let key = |policy: &&PolicyRef| keys::policy_version(&policy.name, policy.version);
    let versions: Vec<Option<PolicyVersion>> = tx.read_all(&policies.iter().map(key).collect::<Vec<_>>()).await?;
    let context = |version: PolicyVersion| Some(read(version.policy.as_ref()?).ok()?.1.context().certified());
    Ok(policies.into_iter().zip(versions.into_iter().map(|version| version.and_then(context))).collect())
}

fn scope_name(scope: Option<ConsentScope>) -> &'static str {
    scope.map_or(ANY_SCOPE, ConsentScope::code)
}

/// Reads a policy in canonical form.
fn read(policy: &serde_json::Value) -> Result<(PolicySpec, Policy), ContractError> {
    let wrong = |why: &dyn std::fmt::Display| ContractError::malformed(format_args!("the policy is not valid: {why}"));
    let spec: PolicySpec = serde_path_to_error::deserialize(policy).map_err(|error| wrong(&error))?;
    let policy_read = validate(&spec).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        wrong(&errors.join("; "))
    })?;
    let canonical = serde_json_canonicalizer::to_string(policy).map_err(|error| wrong(&error))?;
    if canonical != policy_read.canonical_json() {
        return Err(wrong(&"it is not in canonical form, so its digest would be another one everywhere else"));
    }
    Ok((spec, policy_read))
}

async fn newest(tx: &mut Transaction<'_>, name: &str) -> Result<PolicyVersion, ContractError> {
    let found = tx.read(&keys::policy(name)).await?;
    Ok(found.unwrap_or_else(|| PolicyVersion {
        name: name.to_owned(),
        version: 0,
        digest: String::new(),
        policy: None,
        at: None,
        tx_id: String::new(),
        author: String::new(),
        agreed: Vec::new(),
    }))
}

/// The hospitals that agree to a digest as the version after `before`, the caller's among them.
async fn agreed(tx: &mut Transaction<'_>, before: &PolicyVersion, digest: &str) -> Result<Vec<String>, ContractError> {
    // All that are there, and not those of the members: what is read must not depend on whom a hospital counts.
    let approvals: Vec<PolicyApproval> = tx.range(&keys::policy_approvals(&before.name, before.version + 1)).await?;
    let others = approvals.into_iter().filter(|approval| approval.digest == digest).map(|approval| approval.msp_id);
    let agreed: BTreeSet<String> = others.chain([tx.caller().person.msp_id.clone()]).collect();
    tx.members.check_majority(&agreed).map_err(|missing| {
        let what = if digest.is_empty() { "its withdrawal".to_owned() } else { format!("digest {digest}") };
        let version = before.version + 1;
        ContractError::conflict(format_args!("policy {}, version {version}, {what}: {missing}", before.name))
    })?;
    Ok(agreed.into_iter().collect())
}

fn check_replaced(before: &PolicyVersion, replaces: u64) -> Result<(), ContractError> {
    let PolicyVersion { name, version, .. } = before;
    let message = || format!("policy {name} is at version {version} on the ledger, not at {replaces}: read it again");
    (*version == replaces).then_some(()).ok_or_else(|| ContractError::conflict(message()))
}

/// Frees the scope that the version before claims, unless it is kept. The policy is not read for it: one that an earlier
/// version of the contract took must be replaceable even if this one would refuse it.
fn release(tx: &mut Transaction<'_>, before: &PolicyVersion, kept: &str) {
    let claimed = before.policy.as_ref().map(|policy| policy["scope"].as_str().unwrap_or(ANY_SCOPE));
    if let Some(scope) = claimed.filter(|scope| *scope != kept) {
        tx.delete(keys::policy_of_scope(scope));
    }
}

fn next(tx: &Transaction<'_>, before: PolicyVersion) -> PolicyVersion {
    PolicyVersion {
        version: before.version + 1,
        at: Some(tx.now()),
        tx_id: tx.call.tx_id.clone(),
        author: tx.caller().person.msp_id.clone(),
        ..before
    }
}

fn write(tx: &mut Transaction<'_>, version: PolicyVersion) -> Result<PolicyVersion, ContractError> {
    tx.put(keys::policy(&version.name), &version)?;
    tx.put(keys::policy_version(&version.name, version.version), &version)?;
    tx.emit(event::POLICY_CHANGED, Event { subject: Some(version.name.clone()), ..Event::default() })?;
    Ok(version)
}

/// The name of a ConsentPolicy resource.
fn check_name(name: &str) -> Result<(), ContractError> {
    super::call::check_id("name", name)
}
