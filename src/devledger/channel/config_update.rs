//! Applies a config update to a configuration if its versions fit and those concerned signed it.
//!
//! Optimistic concurrency: the read set names versions that must be the present ones; what the write set raises must be
//! raised by one, and the *present* element's `mod_policy` decides who has to sign.

use std::collections::BTreeMap;

use prost::Message;

use super::bundle::Bundle;
use super::policy::{Msps, PolicyTree, SignedData};
use crate::fabric::proto::common::{
    Config, ConfigEnvelope, ConfigGroup, ConfigPolicy, ConfigUpdate, ConfigUpdateEnvelope, ConfigValue, Envelope,
    HeaderType, SignatureHeader,
};

/// What an update is judged against.
pub struct Current<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// Its configuration.
    pub config: &'a Config,
    /// The policies in it.
    pub policies: &'a PolicyTree,
    /// Its organisations.
    pub msps: &'a Msps,
}

impl<'a> Current<'a> {
    /// The configuration of a bundle.
    pub fn of(bundle: &'a Bundle) -> Self {
        Self { channel: &bundle.channel, config: &bundle.config, policies: &bundle.policies, msps: &bundle.msps }
    }
}

#[derive(Clone)]
struct Element {
    /// Names of the groups it is in, from `Channel` on.
    path: Vec<String>,
    key: String,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Group(ConfigGroup),
    Value(ConfigValue),
    Policy(ConfigPolicy),
}

type Elements = BTreeMap<String, Element>;

impl Element {
    fn version(&self) -> u64 {
        match &self.content {
            Content::Group(group) => group.version,
            Content::Value(value) => value.version,
            Content::Policy(policy) => policy.version,
        }
    }

    fn mod_policy(&self) -> &str {
        match &self.content {
            Content::Group(group) => &group.mod_policy,
            Content::Value(value) => &value.mod_policy,
            Content::Policy(policy) => &policy.mod_policy,
        }
    }

    fn name(&self) -> String {
        let prefix = match self.content {
            Content::Group(_) => "[Group]  ",
            Content::Value(_) => "[Value]  ",
            Content::Policy(_) => "[Policy] ",
        };
        self.path.iter().chain([&self.key]).fold(prefix.to_owned(), |name, part| name + "/" + part)
    }
}

/// The configuration that results from a CONFIG_UPDATE envelope.
///
/// # Errors
/// Fabric's words for why it is refused.
pub fn propose(current: &Current<'_>, update: &Envelope) -> Result<ConfigEnvelope, String> {
    let group = apply(current, update).map_err(|e| match e {
        Refusal::Conversion(e) => format!("error converting envelope to config update: {e}"),
        Refusal::Authorization(e) => format!("error authorizing update: {e}"),
    })?;
    let config = Config { sequence: current.config.sequence + 1, channel_group: Some(group) };
    Ok(ConfigEnvelope { config: Some(config), last_update: Some(update.clone()) })
}

/// Whether a config envelope is what its own last update makes of the present configuration.
///
/// # Errors
/// Fabric's words for why not.
pub fn validate(current: &Current<'_>, envelope: &ConfigEnvelope) -> Result<(), String> {
    let config = envelope.config.as_ref().ok_or("config envelope has nil config")?;
    let present = current.config.sequence;
    if config.sequence != present + 1 {
        return Err(format!(
            "config currently at sequence {present}, cannot validate config at sequence {}",
            config.sequence
        ));
    }
    let update = envelope.last_update.as_ref().ok_or("envelope must have a Header")?;
    let group = apply(current, update).map_err(|(Refusal::Conversion(e) | Refusal::Authorization(e))| e)?;
    if config.channel_group.as_ref() != Some(&group) {
        return Err("ConfigEnvelope LastUpdate did not produce the supplied config result".into());
    }
    Ok(())
}

enum Refusal {
    Conversion(String),
    Authorization(String),
}

fn apply(current: &Current<'_>, envelope: &Envelope) -> Result<ConfigGroup, Refusal> {
    let update = open(envelope).map_err(Refusal::Conversion)?;
    let elements = authorize(current, &update).map_err(Refusal::Authorization)?;
    rebuild("/Channel", &elements).map_err(Refusal::Authorization)
}

fn open(envelope: &Envelope) -> Result<ConfigUpdateEnvelope, String> {
    let opened = super::open(envelope)?;
    if opened.channel.r#type != i32::from(HeaderType::ConfigUpdate) {
        return Err(format!("invalid type {}, expected CONFIG_UPDATE", opened.channel.r#type));
    }
    ConfigUpdateEnvelope::decode(opened.data.as_slice()).map_err(|e| format!("error unmarshaling message: {e}"))
}

fn authorize(current: &Current<'_>, envelope: &ConfigUpdateEnvelope) -> Result<Elements, String> {
    let update = ConfigUpdate::decode(envelope.config_update.as_slice())
        .map_err(|e| format!("error unmarshalling config update: {e}"))?;
    if update.channel_id != current.channel {
        return Err(format!(
            "ConfigUpdate for channel '{}' but envelope for channel '{}'",
            update.channel_id, current.channel
        ));
    }
    let present = map(current.config.channel_group.as_ref())?;
    let read = map(update.read_set.as_ref()).map_err(|e| format!("error mapping ReadSet: {e}"))?;
    check_read_set(&present, &read).map_err(|e| format!("error validating ReadSet: {e}"))?;
    let write = map(update.write_set.as_ref()).map_err(|e| format!("error mapping WriteSet: {e}"))?;
    let unchanged = |name: &String, element: &Element| read.get(name).is_some_and(|r| r.version() == element.version());
    let delta: Elements = write.iter().filter(|(n, e)| !unchanged(n, e)).map(|(n, e)| (n.clone(), e.clone())).collect();
    let signatures = signatures(envelope)?;
    check_delta(current, &present, &delta, &signatures).map_err(|e| format!("error validating DeltaSet: {e}"))?;
    let mut result = present;
    result.extend(delta);
    match write.keys().find(|name| !result.contains_key(*name)) {
        Some(name) => Err(format!(
            "full config did not verify: writeset contained key {name} which did not appear in proposed config"
        )),
        None => Ok(result),
    }
}

fn signatures(envelope: &ConfigUpdateEnvelope) -> Result<Vec<SignedData>, String> {
    let signed = |signature: &crate::fabric::proto::common::ConfigSignature| -> Result<SignedData, String> {
        let header = SignatureHeader::decode(signature.signature_header.as_slice())
            .map_err(|e| format!("error unmarshalling SignatureHeader: {e}"))?;
        let data = [signature.signature_header.as_slice(), &envelope.config_update].concat();
        Ok(SignedData { data, identity: header.creator, signature: signature.signature.clone() })
    };
    envelope.signatures.iter().map(signed).collect()
}

fn check_read_set(present: &Elements, read: &Elements) -> Result<(), String> {
    for (name, element) in read {
        let Some(existing) = present.get(name) else {
            return Err(format!("existing config does not contain element for {name} but was in the read set"));
        };
        if existing.version() != element.version() {
            return Err(format!(
                "proposed update requires that key {name} be at version {}, but it is currently at version {}",
                element.version(),
                existing.version()
            ));
        }
    }
    Ok(())
}

fn check_delta(
    current: &Current<'_>,
    present: &Elements,
    delta: &Elements,
    signatures: &[SignedData],
) -> Result<(), String> {
    if delta.is_empty() {
        return Err("delta set was empty -- update would have no effect".into());
    }
    for (name, element) in delta {
        check_mod_policy(element.mod_policy()).map_err(|e| format!("invalid mod_policy for element {name}: {e}"))?;
        let version = element.version();
        let Some(existing) = present.get(name) else {
            if version != 0 {
                return Err(format!("attempted to set key {name} to version {version}, but key does not exist"));
            }
            continue;
        };
        if version != existing.version() + 1 {
            return Err(format!(
                "attempt to set key {name} to version {version}, but key is at version {}",
                existing.version()
            ));
        }
        let (group, policy) = policy_of(current.policies, existing)
            .ok_or_else(|| format!("unexpected missing policy {} for item {name}", existing.mod_policy()))?;
        let satisfied = group.evaluate(policy, current.msps, signatures);
        satisfied.map_err(|e| format!("policy for {name} not satisfied: {e}"))?;
    }
    Ok(())
}

/// A relative `mod_policy` belongs to the group the element is in, or to the group itself if the element is one.
fn policy_of<'a>(policies: &'a PolicyTree, element: &'a Element) -> Option<(&'a PolicyTree, &'a str)> {
    let policy = element.mod_policy();
    if let Some(absolute) = policy.strip_prefix('/') {
        let relative = absolute.strip_prefix("Channel/")?;
        return policies.has(relative).then_some((policies, relative));
    }
    let mut path: Vec<&str> = element.path.iter().skip(1).map(String::as_str).collect();
    if matches!(element.content, Content::Group(_)) && !element.path.is_empty() {
        path.push(&element.key);
    }
    let group = policies.group(&path)?;
    group.has(policy).then_some((group, policy))
}

fn check_mod_policy(policy: &str) -> Result<(), String> {
    if policy.is_empty() {
        return Err("mod_policy not set".into());
    }
    for (at, part) in policy.strip_prefix('/').unwrap_or(policy).split('/').enumerate() {
        check_key(part).map_err(|e| format!("path element at {at} is invalid: {e}"))?;
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("config ID illegal, cannot be empty".into());
    }
    if key.len() > 249 {
        return Err("config ID illegal, cannot be longer than 249".into());
    }
    if key == "." || key == ".." {
        return Err(format!("config ID cannot be '{key}'"));
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
        return Err(format!("config ID '{key}' contains illegal characters"));
    }
    Ok(())
}

fn map(group: Option<&ConfigGroup>) -> Result<Elements, String> {
    let mut elements = Elements::new();
    if let Some(group) = group {
        collect(&mut elements, &[], "Channel", group)?;
    }
    Ok(elements)
}

fn collect(elements: &mut Elements, path: &[String], key: &str, group: &ConfigGroup) -> Result<(), String> {
    let mut add = |path: &[String], key: &str, content| {
        check_key(key).map_err(|e| format!("illegal characters in key: {e}"))?;
        let element = Element { path: path.to_vec(), key: key.to_owned(), content };
        elements.insert(element.name(), element);
        Ok::<_, String>(())
    };
    add(path, key, Content::Group(group.clone()))?;
    let inner = [path, &[key.to_owned()]].concat();
    for (key, value) in &group.values {
        add(&inner, key, Content::Value(value.clone()))?;
    }
    for (key, policy) in &group.policies {
        add(&inner, key, Content::Policy(policy.clone()))?;
    }
    group.groups.iter().try_for_each(|(key, group)| collect(elements, &inner, key, group))
}

/// The inverse of [`map`]: a group's own lists say which members it has, the map says what they are.
fn rebuild(path: &str, elements: &Elements) -> Result<ConfigGroup, String> {
    let Some(Content::Group(group)) = elements.get(&format!("[Group]  {path}")).map(|e| &e.content) else {
        return Err(format!("missing group at path: {path}"));
    };
    let mut result = ConfigGroup { version: group.version, mod_policy: group.mod_policy.clone(), ..Default::default() };
    for key in group.groups.keys() {
        result.groups.insert(key.clone(), rebuild(&format!("{path}/{key}"), elements)?);
    }
    for key in group.values.keys() {
        let Some(Content::Value(value)) = elements.get(&format!("[Value]  {path}/{key}")).map(|e| &e.content) else {
            return Err(format!("missing value at path: {path}/{key}"));
        };
        result.values.insert(key.clone(), value.clone());
    }
    for key in group.policies.keys() {
        let Some(Content::Policy(policy)) = elements.get(&format!("[Policy] {path}/{key}")).map(|e| &e.content) else {
            return Err(format!("missing policy at path: {path}/{key}"));
        };
        result.policies.insert(key.clone(), policy.clone());
    }
    Ok(result)
}
