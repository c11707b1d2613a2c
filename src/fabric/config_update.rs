//! Changes of a channel's configuration: computed as `configtxlator` does, signed, and judged as orderers do.
//!
//! Orderers compare versions and bytes, not meaning. So a change is made on a copy of the current tree in which all that
//! stays keeps its bytes; an update relies (`read_set`) on the versions it was computed from and fails if they moved.

use std::collections::BTreeMap;

use prost::Message;

use super::authorization::{Need, evaluate, valid_signers};
use super::envelope::{Stamp, signed};
use super::identity::SigningIdentity;
use super::membership::{Identity, Membership};
use super::proto::common::{
    Config, ConfigGroup, ConfigPolicy, ConfigSignature, ConfigUpdate, ConfigUpdateEnvelope, ConfigValue, Envelope,
    HeaderType, SignatureHeader,
};

/// The update that leads from `current` to `updated`; `None` if nothing differs. Versions in `updated` have no meaning.
pub fn compute(channel: &str, current: &ConfigGroup, updated: &ConfigGroup) -> Option<ConfigUpdate> {
    let change = group_change(current, updated);
    change.changed.then(|| ConfigUpdate {
        channel_id: channel.into(),
        read_set: Some(change.read),
        write_set: Some(change.write),
        isolated_data: BTreeMap::new(),
    })
}

struct Change {
    read: ConfigGroup,
    write: ConfigGroup,
    changed: bool,
}

/// One kind of member: what goes into both sets, and whether members came or went.
struct Members<T> {
    read: BTreeMap<String, T>,
    write: BTreeMap<String, T>,
    same: BTreeMap<String, T>,
    came_or_went: bool,
}

fn members<T>(
    current: &BTreeMap<String, T>,
    updated: &BTreeMap<String, T>,
    mut compare: impl FnMut(&mut Members<T>, &str, Option<&T>, &T),
) -> Members<T> {
    let gone = current.keys().any(|k| !updated.contains_key(k));
    let came = updated.keys().any(|k| !current.contains_key(k));
    let mut all =
        Members { read: BTreeMap::new(), write: BTreeMap::new(), same: BTreeMap::new(), came_or_went: gone || came };
    for (key, new) in updated {
        compare(&mut all, key, current.get(key), new);
    }
    all
}

fn group_change(current: &ConfigGroup, updated: &ConfigGroup) -> Change {
    let mut policies = members(&current.policies, &updated.policies, |all, key, old, new| {
        let content = ConfigPolicy { version: old.map_or(0, |o| o.version + 1), ..new.clone() };
        match old {
            Some(old) if old.mod_policy == new.mod_policy && old.policy == new.policy => {
                all.same.insert(key.into(), ConfigPolicy { version: old.version, ..Default::default() })
            }
            _ => all.write.insert(key.into(), content),
        };
    });
    let mut values = members(&current.values, &updated.values, |all, key, old, new| {
        let content = ConfigValue { version: old.map_or(0, |o| o.version + 1), ..new.clone() };
        match old {
            Some(old) if old.mod_policy == new.mod_policy && old.value == new.value => {
                all.same.insert(key.into(), ConfigValue { version: old.version, ..Default::default() })
            }
            _ => all.write.insert(key.into(), content),
        };
    });
    let mut groups = members(&current.groups, &updated.groups, |all, key, old, new| match old {
        None => {
            all.write.insert(key.into(), new_group(new));
        }
        Some(old) => {
            let change = group_change(old, new);
            if change.changed {
                all.read.insert(key.into(), change.read);
                all.write.insert(key.into(), change.write);
            } else {
                all.same.insert(key.into(), change.read);
            }
        }
    });
    let bumped =
        policies.came_or_went || values.came_or_went || groups.came_or_went || current.mod_policy != updated.mod_policy;
    let changed = bumped || !policies.write.is_empty() || !values.write.is_empty() || !groups.write.is_empty();
    if bumped {
        // A group whose membership changes must name all members that stay, in both sets.
        keep(&mut policies);
        keep(&mut values);
        keep(&mut groups);
    }
    let write = ConfigGroup {
        version: current.version + u64::from(bumped),
        policies: policies.write,
        values: values.write,
        groups: groups.write,
        mod_policy: if bumped { updated.mod_policy.clone() } else { String::new() },
    };
    let read = ConfigGroup {
        version: current.version,
        policies: policies.read,
        values: values.read,
        groups: groups.read,
        mod_policy: String::new(),
    };
    Change { read, write, changed }
}

fn keep<T: Clone>(members: &mut Members<T>) {
    members.read.extend(members.same.clone());
    members.write.extend(std::mem::take(&mut members.same));
}

/// A group that is all new: everything in it at version 0.
fn new_group(group: &ConfigGroup) -> ConfigGroup {
    let mut new = group.clone();
    new.version = 0;
    new.policies.values_mut().for_each(|p| p.version = 0);
    new.values.values_mut().for_each(|v| v.version = 0);
    new.groups.values_mut().for_each(|g| *g = new_group(g));
    new
}

/// `signer`'s agreement to the update with these bytes.
pub fn sign(signer: &SigningIdentity, update: &[u8], stamp: &Stamp) -> ConfigSignature {
    let header = SignatureHeader { creator: signer.serialized().to_vec(), nonce: stamp.nonce.to_vec() };
    let signature_header = header.encode_to_vec();
    let signature = signer.sign(&[signature_header.as_slice(), update].concat());
    ConfigSignature { signature_header, signature }
}

/// The envelope that submits an update; `submitter` must be a writer of the channel.
pub fn envelope(
    channel: &str,
    update: Vec<u8>,
    signatures: Vec<ConfigSignature>,
    submitter: &SigningIdentity,
    stamp: &Stamp,
) -> Envelope {
    let data = ConfigUpdateEnvelope { config_update: update, signatures }.encode_to_vec();
    signed(submitter, HeaderType::ConfigUpdate, channel, data, stamp)
}

/// Why orderers refuse an update; Fabric's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UpdateError(pub String);

/// An element of the tree, by its path as Fabric's messages have it (`[Value]  /Channel/Orderer/BatchSize`).
struct Element<'a> {
    version: u64,
    mod_policy: &'a str,
    /// Path of the group that `mod_policy` is relative to.
    scope: String,
    content: Content<'a>,
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

type Elements<'a> = BTreeMap<String, Element<'a>>;

fn elements(group: &ConfigGroup) -> Result<Elements<'_>, UpdateError> {
    let mut all = BTreeMap::new();
    collect(&mut all, "/Channel".into(), group)?;
    Ok(all)
}

fn collect<'a>(all: &mut Elements<'a>, path: String, group: &'a ConfigGroup) -> Result<(), UpdateError> {
    for key in group.values.keys().chain(group.policies.keys()).chain(group.groups.keys()) {
        check_key(key)?;
    }
    for (key, child) in &group.groups {
        collect(all, format!("{path}/{key}"), child)?;
    }
    let mut put = |name: String, version, mod_policy, content| {
        all.insert(name, Element { version, mod_policy, scope: path.clone(), content });
    };
    put(format!("[Group]  {path}"), group.version, group.mod_policy.as_str(), Content::Group(group));
    for (key, v) in &group.values {
        put(format!("[Value]  {path}/{key}"), v.version, v.mod_policy.as_str(), Content::Value(v));
    }
    for (key, p) in &group.policies {
        put(format!("[Policy] {path}/{key}"), p.version, p.mod_policy.as_str(), Content::Policy(p));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), UpdateError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if key.is_empty() || key.len() > 249 || key == "." || key == ".." || !key.chars().all(fits) {
        return Err(UpdateError(format!("config ID '{key}' contains illegal characters")));
    }
    Ok(())
}

impl Element<'_> {
    /// Absolute path of the policy that guards changes of the element.
    fn guard(&self) -> String {
        if self.mod_policy.starts_with('/') {
            return self.mod_policy.to_owned();
        }
        format!("{}/{}", self.scope, self.mod_policy)
    }
}

/// The elements an update changes, once the versions it relies on are checked against `current`.
fn delta<'u>(current: &Elements<'_>, update: &'u ConfigUpdate) -> Result<Elements<'u>, UpdateError> {
    static EMPTY: ConfigGroup = ConfigGroup {
        version: 0,
        groups: BTreeMap::new(),
        values: BTreeMap::new(),
        policies: BTreeMap::new(),
        mod_policy: String::new(),
    };
    let read = elements(update.read_set.as_ref().unwrap_or(&EMPTY))?;
    for (key, element) in &read {
        let version = element.version;
        match current.get(key).map(|existing| existing.version) {
            Some(existing) if existing == version => {}
            Some(existing) => {
                return Err(UpdateError(format!(
                    "error validating ReadSet: proposed update requires that key {key} be at version {version}, but it is currently at version {existing}"
                )));
            }
            None => {
                return Err(UpdateError(format!(
                    "error validating ReadSet: existing config does not contain element for {key} but was in the read set"
                )));
            }
        }
    }
    let mut changed = elements(update.write_set.as_ref().unwrap_or(&EMPTY))?;
    changed.retain(|key, element| read.get(key).is_none_or(|r| r.version != element.version));
    Ok(changed)
}

/// Paths of the policies that must be satisfied for `update` to be applied to `current`.
pub fn guards(current: &ConfigGroup, update: &ConfigUpdate) -> Result<Vec<Need>, UpdateError> {
    let current_elements = elements(current)?;
    let changed = delta(&current_elements, update)?;
    let mut paths: Vec<String> =
        changed.keys().filter_map(|key| current_elements.get(key)).map(Element::guard).collect();
    paths.sort();
    paths.dedup();
    paths.iter().map(|path| Need::of_policy(current, path).map_err(UpdateError)).collect()
}

/// The tree after `update`, if the versions it relies on fit. Nobody's signature is asked for.
pub fn outcome(current: &ConfigGroup, update: &ConfigUpdate) -> Result<ConfigGroup, UpdateError> {
    let existing = elements(current)?;
    let changed = delta(&existing, update)?;
    rebuild("/Channel", &existing, &changed)
}

/// The configuration after `update`, if the versions fit and `signers` satisfy each changed element's policy.
///
/// What the new configuration says is not judged here but in [`super::config_rules`].
pub fn apply(
    channel: &str,
    current: &Config,
    update: &ConfigUpdate,
    signers: &[Identity],
) -> Result<Config, UpdateError> {
    let refuse = |what: String| UpdateError(format!("error authorizing update: {what}"));
    let current_group = current.channel_group.as_ref().ok_or_else(|| refuse("nil channel group".into()))?;
    if update.channel_id != channel {
        let other = &update.channel_id;
        return Err(refuse(format!("ConfigUpdate for channel '{other}' but envelope for channel '{channel}'")));
    }
    let existing = elements(current_group)?;
    let changed = delta(&existing, update).map_err(|e| refuse(e.0))?;
    check_delta(current_group, &existing, &changed, signers)
        .map_err(|e| refuse(format!("error validating DeltaSet: {e}")))?;
    let group = rebuild("/Channel", &existing, &changed)?;
    Ok(Config { sequence: current.sequence + 1, channel_group: Some(group) })
}

fn check_delta(
    current: &ConfigGroup,
    existing: &Elements<'_>,
    changed: &Elements<'_>,
    signers: &[Identity],
) -> Result<(), String> {
    if changed.is_empty() {
        return Err("delta set was empty -- update would have no effect".into());
    }
    for (key, element) in changed {
        if element.mod_policy.is_empty() {
            return Err(format!("invalid mod_policy for element {key}: mod_policy not set"));
        }
        match existing.get(key) {
            None if element.version == 0 => {}
            None => {
                let version = element.version;
                return Err(format!("attempted to set key {key} to version {version}, but key does not exist"));
            }
            Some(old) if element.version != old.version + 1 => {
                let (new, old) = (element.version, old.version);
                return Err(format!("attempt to set key {key} to version {new}, but key is at version {old}"));
            }
            Some(old) => {
                let guard = old.guard();
                evaluate(current, &guard, signers).map_err(|e| format!("policy for {key} not satisfied: {e}"))?;
            }
        }
    }
    Ok(())
}

/// The tree in which changed elements replace existing ones. A group's members are those its newest version names.
fn rebuild(path: &str, existing: &Elements<'_>, changed: &Elements<'_>) -> Result<ConfigGroup, UpdateError> {
    let find = |key: String| -> Result<Content<'_>, UpdateError> {
        let element = changed.get(&key).or_else(|| existing.get(&key));
        element.map(|e| e.content).ok_or_else(|| UpdateError(format!("missing element at path: {key}")))
    };
    let Content::Group(group) = find(format!("[Group]  {path}"))? else {
        return Err(UpdateError(format!("ConfigGroup not found at group path: {path}")));
    };
    let mut new = ConfigGroup { version: group.version, mod_policy: group.mod_policy.clone(), ..Default::default() };
    for key in group.groups.keys() {
        new.groups.insert(key.clone(), rebuild(&format!("{path}/{key}"), existing, changed)?);
    }
    for key in group.values.keys() {
        if let Content::Value(value) = find(format!("[Value]  {path}/{key}"))? {
            new.values.insert(key.clone(), value.clone());
        }
    }
    for key in group.policies.keys() {
        if let Content::Policy(policy) = find(format!("[Policy] {path}/{key}"))? {
            new.policies.insert(key.clone(), policy.clone());
        }
    }
    Ok(new)
}

/// [`apply`] for an update as it is submitted: signatures are checked against the MSPs of `current`.
pub fn apply_signed(channel: &str, current: &Config, update: &ConfigUpdateEnvelope) -> Result<Config, UpdateError> {
    let decoded = ConfigUpdate::decode(update.config_update.as_slice())
        .map_err(|e| UpdateError(format!("error authorizing update: config update is not readable: {e}")))?;
    let group = current.channel_group.as_ref().ok_or_else(|| UpdateError("nil channel group".into()))?;
    let members = Membership::of_channel(group).map_err(UpdateError)?;
    let signers = valid_signers(&members, &update.signatures, &update.config_update);
    apply(channel, current, &decoded, &signers)
}
